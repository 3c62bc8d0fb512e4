//! `/v1/keys/{id}/claims`: links that hand a key's new secret to a person, once.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::rotations::settle;
use crate::app::AppState;
use crate::http::caller::{By, KeysRead, KeysWrite};
use crate::http::extract::{Body, Id};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Receipted, ShownOnce};
use crate::keys::claims::{self, Claim, NewClaim};
use crate::secrets;
use crate::types::id::KeyId;

/// A link to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateClaim {
    /// How long it can be opened: an hour unless said.
    #[schema(minimum = 60, maximum = 86_400)]
    life_seconds: Option<i32>,
    /// How long the old secret lives on, as in a rotation. A secret that nobody ever used ends at once, whatever is said.
    #[schema(minimum = 0, maximum = 7_776_000)]
    grace_seconds: Option<i64>,
}

/// A link that was just made. The new secret is in no reply: only whoever opens the link sees it.
#[derive(Serialize, ToSchema)]
pub struct CreatedClaim {
    /// Its id.
    id: String,
    /// Its address, shown this once. Whoever opens it first gets the secret.
    url: String,
    /// When it can be opened no more.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    /// The version of the key's secret that it hands over.
    version: i32,
    /// The secret before it, and who used that last. Absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<secrets::Shown>,
}

/// Makes a new secret for a key, and a link that shows it once to whoever opens it.
#[utoipa::path(post, path = "/v1/keys/{id}/claims", operation_id = "create_claim", tag = "keys", params(("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$")), request_body = CreateClaim,
    security(("operator" = ["keys:write"])), extensions(("x-scope" = json!("keys:write"))),
    responses((status = 201, description = "The link, shown this once.", body = Receipted<CreatedClaim>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<CreatedClaim>), Refusals))]
pub async fn create(
    by: By<KeysWrite>,
    State(app): AppState,
    Id(id): Id<KeyId>,
    Body(body): Body<CreateClaim>,
) -> Result<Response, Problem> {
    settle(&app, id).await?;
    let new = NewClaim { life_seconds: body.life_seconds, grace_seconds: body.grace_seconds };
    let secret_key = app.feed.secret_key();
    let (made, done) = claims::create(&app.db, app.sealing(&secret_key), &by.caller, id.as_str(), new).await?;
    let created = CreatedClaim {
        id: made.id.to_string(),
        url: format!("{}/claims/{}", app.config.public_url.as_str(), made.token.reveal()),
        expires_at: made.expires_at,
        version: made.version,
        previous: made.previous,
    };
    let receipted = Receipted::wait(&app.feed, created, done, true).await;
    let mut response = (receipted.status(StatusCode::CREATED), Json(receipted)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(ShownOnce("url"));
    Ok(response)
}

/// Links of a key.
#[derive(Serialize, ToSchema)]
pub struct Claims {
    /// At most 100, newest first.
    items: Vec<Claim>,
}

/// Lists the links of a key: which were opened, when and from where.
#[utoipa::path(get, path = "/v1/keys/{id}/claims", operation_id = "list_claims", tag = "keys", params(("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$")),
    security(("operator" = ["keys:read"])), extensions(("x-scope" = json!("keys:read"))),
    responses((status = 200, description = "The links.", body = Claims), Refusals))]
pub async fn list(by: By<KeysRead>, State(app): AppState, Id(id): Id<KeyId>) -> Result<Json<Claims>, Problem> {
    let mut connection = app.db.reads().acquire().await?;
    Ok(Json(Claims { items: claims::list(&mut connection, &by.caller, id.as_str()).await? }))
}
