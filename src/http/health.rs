//! `/health/live` and `/health/ready`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::jobs;
use crate::types::clock::BootInstant;

/// How long the database may take to say that it is there.
const DATABASE_SECONDS_MAX: Duration = Duration::from_secs(2);
/// How long after its start a node may wait for the jobs that were due then. On a small database they take less.
const FIRST_JOBS_SECONDS_MAX: Duration = Duration::from_secs(2);

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
    /// `ready`; `degraded`: it answers, and somebody must look at what `degraded` says; or `unavailable`.
    status: String,
    /// The database answers: `ok` or `away`.
    database: String,
    /// The lease: `held`, `lost`, or `dead` when only another release or database helps.
    feed: String,
    /// The schema: `current` or `different`.
    migrations: String,
    /// Audit entries can be written: `ok` or `failing`.
    audit: String,
    /// `ok`; `degraded`; or `starting` for a moment, until the jobs that were due at the start have ended.
    jobs: String,
    /// Why the service is degraded. The node answers all the same: none is taken out because a job is late.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    degraded: Vec<String>,
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
    let starting = !app.upkeep.has_begun() && BootInstant::now().since(app.upkeep.started()) < FIRST_JOBS_SECONDS_MAX;
    let whole = held && current && writing && !starting && !app.draining.load(Ordering::Relaxed);
    let degraded = if whole { degraded(&app).await } else { Vec::new() };
    let word = |right: bool, yes: &str, no: &str| if right { yes } else { no }.to_owned();
    let ready = Ready {
        status: if whole { word(degraded.is_empty(), "ready", "degraded") } else { "unavailable".to_owned() },
        database: word(schema.is_some(), "ok", "away"),
        feed: if app.feed.is_dead() { "dead".to_owned() } else { word(held, "held", "lost") },
        migrations: word(current, "current", "different"),
        audit: word(writing, "ok", "failing"),
        jobs: if starting { "starting".to_owned() } else { word(degraded.is_empty(), "ok", "degraded") },
        degraded,
    };
    let status = if whole { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(ready)).into_response()
}

/// What the jobs say; nothing when the database does not say it in time.
async fn degraded(app: &App) -> Vec<String> {
    let jobs = tokio::time::timeout(DATABASE_SECONDS_MAX, jobs::look(app)).await;
    jobs.ok().and_then(Result::ok).map(|jobs| jobs::late_of(&jobs)).unwrap_or_default()
}
