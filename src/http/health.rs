//! `/health/live` and `/health/ready`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::AppState;

/// How long the database may take to say that it is there.
const DATABASE_SECONDS_MAX: Duration = Duration::from_secs(2);

/// Whether the process runs.
#[derive(Serialize, ToSchema)]
pub struct Alive {
    /// `ok`.
    status: String,
}

/// The process runs.
#[utoipa::path(get, path = "/health/live", operation_id = "live", tag = "health",
    responses((status = 200, description = "It runs.", body = Alive)))]
pub async fn live() -> Json<Alive> {
    Json(Alive { status: "ok".to_owned() })
}

/// Whether the node answers, and what is missing.
#[derive(Serialize, ToSchema)]
pub struct Ready {
    /// `ready` or `unavailable`.
    status: String,
    /// The database answers: `ok` or `away`.
    database: String,
    /// The lease: `held`, `lost`, or `dead` when only another release or database helps.
    feed: String,
    /// The schema: `current` or `different`.
    migrations: String,
    /// Audit entries can be written: `ok` or `failing`.
    audit: String,
}

/// Whether the node can answer.
#[utoipa::path(get, path = "/health/ready", operation_id = "ready", tag = "health",
    responses((status = 200, description = "It answers.", body = Ready), (status = 503, description = "It does not.", body = Ready)))]
pub async fn ready(State(app): AppState) -> Response {
    let held = app.live.answer(|_| ()).is_ok();
    let applied = tokio::time::timeout(DATABASE_SECONDS_MAX, app.db.schema()).await;
    let schema = applied.ok().and_then(Result::ok);
    let current = schema == Some(crate::db::schema_of_binary());
    let writing = app.recorder.can_record();
    let whole = held && current && writing && !app.draining.load(Ordering::Relaxed);
    let word = |right: bool, yes: &str, no: &str| if right { yes } else { no }.to_owned();
    let ready = Ready {
        status: word(whole, "ready", "unavailable"),
        database: word(schema.is_some(), "ok", "away"),
        feed: if app.feed.is_dead() { "dead".to_owned() } else { word(held, "held", "lost") },
        migrations: word(current, "current", "different"),
        audit: word(writing, "ok", "failing"),
    };
    let status = if whole { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(ready)).into_response()
}
