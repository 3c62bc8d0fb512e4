//! Refusals on the wire: RFC 9457 problems for `/v1`, with one table from code to status.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use utoipa::IntoResponses;

use crate::gate::Stale;
use crate::refusal::{Code, FieldError, Refused};
use crate::types::redacted::without_secrets;

/// Where the codes are explained.
const TYPE_PREFIX: &str = "/docs/problems#";
/// What a caller should wait who met a passing failure.
const RETRY_AFTER_SECONDS: u64 = 1;

/// A problem (RFC 9457).
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// A page that explains the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong, stable for programs.
    pub code: String,
    /// What went wrong, for people.
    pub detail: String,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Seconds to wait; also in `Retry-After`.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

/// The status of each code. No wildcard: a new code must say its own.
#[must_use]
pub const fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidJson
        | Code::InvalidQuery
        | Code::CursorInvalid
        | Code::CursorMismatch
        | Code::CursorExpired
        | Code::SecretInQuery => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::MissingScope | Code::BeyondOwnRights | Code::SelfRotationOff => StatusCode::FORBIDDEN,
        Code::NotFound | Code::InvalidId | Code::RouteNotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::NameTaken
        | Code::ResourceTaken
        | Code::InUse
        | Code::DefaultProject
        | Code::OverlapRunning
        | Code::JobRunning
        | Code::KeyRevoked
        | Code::NoOverlap
        | Code::NotNewest
        | Code::LastOperator
        | Code::IdempotencyKeyRunning => StatusCode::CONFLICT,
        Code::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Code::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::InvalidFields
        | Code::ImmutableField
        | Code::HostNotAllowed
        | Code::DirectUndecided
        | Code::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        Code::TooManyFailures | Code::TooManyStreams => StatusCode::TOO_MANY_REQUESTS,
        Code::TemporarilyUnavailable | Code::OutcomeUnknown | Code::AuditUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let status = status(refused.code);
        if let Some(cause) = &refused.cause {
            // Logged here, once; the request's id is on the line.
            tracing::error!(%cause, code = refused.code.as_str(), "the database failed a request");
        }
        let retry = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_SECONDS);
        Self {
            kind: format!("{TYPE_PREFIX}{}", refused.code.as_str()),
            title: refused.code.as_str().replace('_', " "),
            status: status.as_u16(),
            code: refused.code.as_str().to_owned(),
            detail: without_secrets(&refused.detail),
            errors: refused.fields.into_iter().map(without_secrets_of).collect(),
            retry_after: retry,
        }
    }
}

fn without_secrets_of(field: FieldError) -> FieldError {
    FieldError { pointer: without_secrets(&field.pointer), detail: without_secrets(&field.detail), code: field.code }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Refused::new(code, "").into()
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        Refused::from(error).into()
    }
}

impl From<crate::db::Error> for Problem {
    fn from(error: crate::db::Error) -> Self {
        Refused::from(error).into()
    }
}

impl From<Stale> for Problem {
    fn from(_: Stale) -> Self {
        Refused::new(Code::TemporarilyUnavailable, "This node cannot prove that it is current; try again.").into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (code, retry) = (self.code.clone(), self.retry_after);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is not read, so nothing more can be asked on this connection (RFC 9110 §15.5.14).
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mcp-authority\""));
        }
        response.extensions_mut().insert(ProblemCode(code));
        response
    }
}

/// The code of a refusal, for the layers around a handler.
#[derive(Clone, Debug)]
pub struct ProblemCode(pub String);

/// What any route of `/v1` may answer beside its own replies.
#[derive(IntoResponses)]
pub enum Refusals {
    /// The query, the cursor or the JSON cannot be read.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// No credential, or one that does not work.
    #[response(status = 401, content_type = "application/problem+json", headers(("WWW-Authenticate" = String)))]
    Unauthenticated(Problem),
    /// The operator lacks a scope, or would give away more than he has.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// No such thing, or not one that you may see.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// The state of things does not allow it.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// It has changed since it was read.
    #[response(status = 412, content_type = "application/problem+json")]
    PreconditionFailed(Problem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The body is not JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(Problem),
    /// Fields are wrong.
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(Problem),
    /// Too many failed attempts.
    #[response(status = 429, content_type = "application/problem+json", headers(("Retry-After" = u64)))]
    TooManyRequests(Problem),
    /// This node cannot answer now.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u64)))]
    Unavailable(Problem),
}
