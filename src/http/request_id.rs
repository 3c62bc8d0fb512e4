//! Around every answer: gives the request an id, counts it, times it, logs it without its query or body.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode};
use tracing::{Instrument, Span};

use crate::app::{App, AppState};

const HEADER: &str = "x-request-id";
/// Characters of an id that a caller may bring.
const CALLERS_ID_CHARS_MAX: usize = 64;

/// A request's id: the caller's if it is plain, else ours. In the reply, in logs and in the audit.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub String);

/// The layer of the router.
pub(super) async fn layer(State(app): AppState, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let span = |id: &str, method: &Method| tracing::info_span!("request", id = %id, %method, route = route.as_deref().unwrap_or("none"));
    answered((&app, route.as_deref()), request, span, |request| next.run(request)).await
}

/// Answers a request of a route, if there is one, within the span that `span` makes for it.
pub(super) async fn answered<Answer: Future<Output = Response>>(
    (app, route): (&App, Option<&str>),
    mut request: Request,
    span: impl FnOnce(&str, &Method) -> Span,
    answer: impl FnOnce(Request) -> Answer,
) -> Response {
    let began = Instant::now();
    let brought =
        request.headers().get(HEADER).and_then(|id| id.to_str().ok()).filter(|id| plain(id)).map(str::to_owned);
    let id = brought.unwrap_or_else(|| format!("req_{}", uuid::Uuid::now_v7().simple()));
    let method = request.method().clone();
    let span = span(&id, &method);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = answer(request).instrument(span.clone()).await;
    let took = began.elapsed();
    let status = response.status().as_u16();
    if span.is_disabled() && response.status() == StatusCode::INTERNAL_SERVER_ERROR {
        // What was logged on the way had no span to say whose request it was. A node that is not current says 503 to everybody,
        // and that is no line for each.
        tracing::warn!(id, %method, route = route.unwrap_or("none"), status, "a request failed");
    }
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(HEADER, id);
    }
    app.metrics.http_request(method.as_str(), route, status, took);
    span.in_scope(|| tracing::debug!(status, micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX), "answered"));
    response
}

fn plain(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=CALLERS_ID_CHARS_MAX).contains(&id.len())
        && id.bytes().all(allowed)
        && !crate::types::credential::looks_like_one(id)
}
