//! Around every answer: gives the request an id, counts it, times it, logs it without its query or body.

use std::fmt;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tracing::{Instrument, Span};

use crate::app::{App, AppState};

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of an id that a caller may bring.
const CALLERS_ID_CHARS_MAX: usize = 64;
const PREFIX: &[u8; 4] = b"req_";

/// A request's id: the caller's if it is plain, else ours. In the reply, in logs and in the audit. Inline text, so that a
/// request costs no heap for it.
#[derive(Clone, Copy)]
pub(super) struct RequestId {
    text: [u8; CALLERS_ID_CHARS_MAX],
    length: usize,
}

impl RequestId {
    /// The id that the caller brought, or a new one.
    fn of(headers: &HeaderMap) -> Self {
        let brought = headers.get(HEADER).map(HeaderValue::as_bytes).filter(|id| plain(id));
        brought.map_or_else(Self::new, |id| Self::from_parts(&[id]))
    }

    fn new() -> Self {
        let mut digits = [0; uuid::fmt::Simple::LENGTH];
        // Not of version 7: whoever looks for a request has its time from elsewhere, and a clock is not read for nothing.
        uuid::Uuid::new_v4().simple().encode_lower(&mut digits);
        Self::from_parts(&[PREFIX, &digits])
    }

    fn from_parts(parts: &[&[u8]]) -> Self {
        let mut text = [0; CALLERS_ID_CHARS_MAX];
        let mut length = 0;
        for (to, from) in text.iter_mut().zip(parts.iter().copied().flatten()) {
            *to = *from;
            length += 1;
        }
        Self { text, length }
    }

    fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(std::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

/// The layer of the router.
pub(super) async fn layer(State(app): AppState, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let under_way = UnderWay::begin(request.headers(), request.method(), route.as_deref());
    let id = under_way.id;
    let span =
        tracing::info_span!("request", %id, method = %request.method(), route = route.as_deref().unwrap_or("none"));
    request.extensions_mut().insert(id);
    let response = next.run(request).instrument(span.clone()).await;
    under_way.end(&app, &span, response)
}

/// A request that is being answered.
pub(super) struct UnderWay<'a> {
    /// Its id.
    pub(super) id: RequestId,
    method: Method,
    route: Option<&'a str>,
    began: Instant,
}

impl<'a> UnderWay<'a> {
    /// Begins the answer to a request of a route, if there is one.
    pub(super) fn begin(headers: &HeaderMap, method: &Method, route: Option<&'a str>) -> Self {
        Self { id: RequestId::of(headers), method: method.clone(), route, began: Instant::now() }
    }

    /// Notes the answer, which was made within `span`, and gives it the id.
    pub(super) fn end(self, app: &App, span: &Span, mut response: Response) -> Response {
        let Self { id, method, route, began } = self;
        let took = began.elapsed();
        let status = response.status().as_u16();
        if span.is_disabled() && response.status() == StatusCode::INTERNAL_SERVER_ERROR {
            // What was logged on the way had no span to say whose request it was. A node that is not current says 503 to
            // everybody, and that is no line for each.
            tracing::warn!(%id, %method, route = route.unwrap_or("none"), status, "a request failed");
        }
        if let Ok(id) = HeaderValue::from_bytes(id.as_bytes()) {
            response.headers_mut().insert(HEADER, id);
        }
        app.metrics.http_request(method.as_str(), route, status, took);
        span.in_scope(|| {
            tracing::debug!(status, micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX), "answered");
        });
        response
    }
}

fn plain(id: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    (1..=CALLERS_ID_CHARS_MAX).contains(&id.len())
        && id.iter().all(allowed)
        && std::str::from_utf8(id).is_ok_and(|id| !crate::types::credential::looks_like_one(id))
}
