//! `GET /oauth/jwks` (RFC 7517): the public halves of the keys whose signatures count.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::AppState;
use crate::http::oauth::error::{OAuthError, OAuthRefusals};
use crate::signing::PUBLISHED_BEFORE;

/// A key set.
#[derive(Serialize, ToSchema)]
pub struct KeySet {
    /// The keys, each with `kid` and `alg`.
    #[schema(value_type = Vec<Object>)]
    keys: Vec<Value>,
}

/// The key set. A new key is in it for as long as it may be kept before it signs.
#[utoipa::path(get, path = "/oauth/jwks", operation_id = "jwks", tag = "oauth",
    responses((status = 200, description = "The keys.", body = KeySet), OAuthRefusals))]
pub async fn get(State(app): AppState) -> Result<Response, OAuthError> {
    let keys: Vec<Value> = app.live.verifiers.load().iter().map(|verifier| verifier.jwk.clone()).collect();
    if keys.is_empty() {
        return Err(OAuthError::unavailable());
    }
    let caching = format!("public, max-age={}", PUBLISHED_BEFORE.as_secs());
    Ok(([(header::CACHE_CONTROL, caching)], Json(KeySet { keys })).into_response())
}
