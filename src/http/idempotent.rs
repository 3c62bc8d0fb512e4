//! `Idempotency-Key` on `POST`s under `/v1`: a repeated request gets the first one's outcome, without the secret that it
//! showed.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::app::AppState;
use crate::db;
use crate::http::extract::too_large;
use crate::http::problem::Problem;
use crate::http::reply::ShownOnce;
use crate::idempotency::{self, Begun, KEY_CHARS_MAX};
use crate::refusal::{Code, Refused};
use crate::types::caller::Caller;

const HEADER: &str = "idempotency-key";
const REPLAYED: &str = "idempotency-replayed";
/// Members of replies that are shown once.
const SHOWN_ONCE: [&str; 3] = ["key", "client_secret", "secret"];

/// The layer. It runs after the caller is authenticated.
pub(super) async fn layer(State(app): AppState, request: Request, next: Next) -> Result<Response, Problem> {
    let caller = request.extensions().get::<Caller>().cloned();
    let (Some(key), Some(caller)) = (key(request.headers())?, caller) else { return Ok(next.run(request).await) };
    if request.method() != Method::POST {
        return Ok(next.run(request).await);
    }
    let (parts, body) = request.into_parts();
    let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), &app)
        .await
        .map_err(|rejection| too_large(&rejection))?;
    let mut fingerprint = [0; 32];
    for (to, from) in fingerprint.iter_mut().zip(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes).as_ref())
    {
        *to = *from;
    }
    let asked =
        idempotency::Request { operator: caller.actor, route: format!("POST {}", parts.uri.path()), key, fingerprint };
    match idempotency::begin(&mut *app.db.reads().acquire().await?, &asked).await? {
        Begun::First => {}
        Begun::Done { status, body } => return Ok(replay(status, body)),
        Begun::Reused => {
            return Err(
                Refused::new(Code::IdempotencyKeyReused, "This Idempotency-Key was used for another request.").into()
            );
        }
        Begun::Running => {
            let detail = "The first request with this Idempotency-Key is still running, or its end is not known: read what is there.";
            return Err(Refused::new(Code::IdempotencyKeyRunning, detail).into());
        }
    }
    let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
    let shown_once = response.extensions().get::<ShownOnce>().map(|shown| shown.0);
    let (status, headers, body) = whole(response).await;
    let kept = keep(&app.db, &asked, status, &without_secrets(&body, shown_once)).await;
    if let Err(error) = kept {
        tracing::warn!(%error, "the outcome of a request could not be kept; repeating it answers 409");
    }
    Ok((status, headers, body).into_response())
}

/// The key, quoted as a structured string or bare.
fn key(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = if values.next().is_none() { value.to_str().unwrap_or_default().trim() } else { "" };
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let right =
        (1..=KEY_CHARS_MAX).contains(&bare.len()) && bare.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if right {
        Ok(Some(bare.to_owned()))
    } else {
        Err(Refused::field("Idempotency-Key", "format", format!("once, 1 to {KEY_CHARS_MAX} visible ASCII characters")))
    }
}

async fn whole(response: Response) -> (StatusCode, HeaderMap, Bytes) {
    let (parts, body) = response.into_parts();
    // Our own replies: they are in memory already.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    (parts.status, parts.headers, body)
}

/// Refusals that a later try may not meet are forgotten, so that the same key can be tried again.
async fn keep(db: &db::Db, asked: &idempotency::Request, status: StatusCode, body: &str) -> db::Result<()> {
    let mut connection = db.reads().acquire().await?;
    if status.is_server_error() {
        return if status == StatusCode::SERVICE_UNAVAILABLE && !unknown(body) {
            idempotency::forget(&mut connection, asked).await
        } else {
            Ok(())
        };
    }
    if status.is_client_error() {
        return idempotency::forget(&mut connection, asked).await;
    }
    idempotency::finish(&mut connection, asked, status.as_u16(), body).await
}

/// Whether the first request may have changed something after all.
fn unknown(body: &str) -> bool {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    value.get("code").and_then(Value::as_str) == Some(Code::OutcomeUnknown.as_str())
}

fn without_secrets(body: &Bytes, shown_once: Option<&str>) -> String {
    let mut value: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        let shown = SHOWN_ONCE.into_iter().chain(shown_once).filter(|member| members.remove(*member).is_some()).count();
        if shown > 0 {
            members.insert("secret_already_shown".to_owned(), Value::Bool(true));
        }
    }
    value.to_string()
}

fn replay(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
