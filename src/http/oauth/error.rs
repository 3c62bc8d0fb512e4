//! OAuth's refusals on the wire (RFC 6749 §5.2, RFC 7009 §2.2.1, RFC 8707 §2).

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use sqlx::PgConnection;
use utoipa::{IntoResponses, ToSchema};

use crate::authorizations::{self, Mistake};
use crate::clients::metadata::GrantType;
use crate::db;
use crate::gate::{Position, Stale};
use crate::http::oauth::dpop;
use crate::http::problem::Problem;
use crate::proofs::Wrong;
use crate::refusal::{Code, Refused};
use crate::sessions::Refusal;

/// An OAuth error.
#[derive(Clone, Debug)]
pub struct OAuthError {
    status: StatusCode,
    error: &'static str,
    description: String,
    retry_after: Option<u64>,
    /// The nonce for the next proof of possession (RFC 9449 §8).
    nonce: Option<HeaderValue>,
    /// Why, for the audit; never sent.
    pub(super) cause: Option<&'static str>,
    /// Apply the feed up to here and try again; never sent.
    pub(super) ahead: Option<Position>,
}

/// An OAuth error, as it is sent.
#[derive(serde::Serialize, ToSchema)]
#[schema(as = OAuthError)]
pub struct Wire {
    /// The code, stable for programs.
    error: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    error_description: String,
}

/// Writes steps into a flow's trace. What the caller is answered does not hang on it.
pub(super) async fn write_down(write: impl Future<Output = db::Result<()>>) {
    if let Err(error) = write.await {
        tracing::warn!(%error, "a step of a flow could not be written");
    }
}

impl OAuthError {
    /// The code.
    pub(super) const fn code(&self) -> &'static str {
        self.error
    }

    /// The same, with what is recorded of it: the caller learns the code alone.
    pub(super) fn because(self, cause: &'static str) -> Self {
        Self { cause: Some(cause), ..self }
    }

    /// The request itself is refused: it is not that this node cannot answer, or that the caller has to wait.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED)
    }

    /// Writes the refusal into a flow's trace, with what is known of its cause; the client learns only that it is refused.
    pub(super) async fn trace(&self, conn: &mut PgConnection, flow: &str, step: &'static str) -> db::Result<()> {
        self.trace_why(conn, flow, step, None).await
    }

    /// The same, where whoever looked closer knows the cause.
    pub(super) async fn trace_why(
        &self,
        conn: &mut PgConnection,
        flow: &str,
        step: &'static str,
        why: Option<&str>,
    ) -> db::Result<()> {
        let why = why.or(self.cause).unwrap_or(&self.description);
        authorizations::step(conn, flow, step, Some((self.error, why))).await
    }

    const fn new(status: StatusCode, error: &'static str, description: String) -> Self {
        Self { status, error, description, retry_after: None, nonce: None, cause: None, ahead: None }
    }

    /// The request is wrong, whoever sent it.
    pub(super) fn invalid_request(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description.into())
    }

    /// The proof of possession proves nothing, or is missing (RFC 9449 §5).
    pub(super) fn invalid_proof(wrong: Wrong) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_dpop_proof", wrong.to_string()).because(wrong.code())
    }

    /// The proof needs this nonce (RFC 9449 §8).
    pub(super) fn use_nonce(nonce: HeaderValue) -> Self {
        let description = "the DPoP proof needs the nonce of the DPoP-Nonce header".to_owned();
        let error = Self::new(StatusCode::BAD_REQUEST, "use_dpop_nonce", description);
        Self { nonce: Some(nonce), ..error }
    }

    /// With a nonce for the next proof, unless it has one.
    pub(super) fn with_nonce(mut self, nonce: Option<HeaderValue>) -> Self {
        self.nonce = self.nonce.or(nonce);
        self
    }

    /// The client is not who it says, or may not act now: always the same words.
    pub(super) fn invalid_client() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", "the client could not be authenticated".to_owned())
    }

    /// Another grant than those of the metadata.
    pub(super) fn unsupported_grant_type() -> Self {
        let description = format!("one of {}", crate::http::oauth::token::GRANTS.map(GrantType::as_str).join(", "));
        Self::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", description)
    }

    /// What a device is told that asks for its tokens (RFC 8628 §3.5).
    pub(super) fn of_device(error: &'static str, description: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, description.to_owned())
    }

    /// An authorization request that was pushed is wrong (RFC 9126 §2.3).
    pub(super) fn of(mistake: Mistake) -> Self {
        Self::new(StatusCode::BAD_REQUEST, mistake.error, mistake.description)
    }

    /// This caller cannot revoke that kind of token (RFC 7009 §2.2.1).
    pub(super) fn unsupported_token_type() -> Self {
        let description = "an API key is revoked by itself, or by an operator".to_owned();
        Self::new(StatusCode::BAD_REQUEST, "unsupported_token_type", description)
    }

    /// Too many failed attempts.
    pub(super) fn wait(seconds: u64) -> Self {
        let description = "too many failed attempts; wait".to_owned();
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", description);
        Self { retry_after: Some(seconds), ..error }
    }

    /// A registration that is refused (RFC 7591 §3.2.2).
    pub(super) fn registration(error: &'static str, description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, description.into())
    }

    /// Nobody may do this here.
    pub(super) fn access_denied(description: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "access_denied", description.into())
    }

    /// Too much was asked for from there, or by everybody.
    pub(super) fn slow_down(seconds: u64) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", "too many; wait".to_owned());
        Self { retry_after: Some(seconds), ..error }
    }

    /// This node cannot answer now.
    pub(super) fn unavailable() -> Self {
        let description = "this node cannot answer now; try again".to_owned();
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description);
        Self { retry_after: Some(1), ..error }
    }
}

impl From<Refusal> for OAuthError {
    fn from(refusal: Refusal) -> Self {
        let bad = |error, description| Self::new(StatusCode::BAD_REQUEST, error, description);
        match refusal {
            Refusal::InvalidClient => Self::invalid_client(),
            Refusal::InvalidRequest(description) => bad("invalid_request", description),
            // One answer for every cause: who guesses learns nothing.
            Refusal::InvalidGrant => {
                bad("invalid_grant", "the code or token is not good, or not for this client".to_owned())
            }
            Refusal::UnauthorizedClient => bad("unauthorized_client", "this client may not use this grant".to_owned()),
            Refusal::InvalidTarget => {
                bad("invalid_target", "the resource is unknown, or not for this client".to_owned())
            }
            Refusal::InvalidScope(description) => bad("invalid_scope", description),
            Refusal::Ahead(position) => Self { ahead: Some(position), ..Self::unavailable() },
        }
    }
}

impl From<Refused> for OAuthError {
    fn from(refused: Refused) -> Self {
        if let Some(cause) = &refused.cause {
            tracing::error!(%cause, code = refused.code.as_str(), "the database failed a request");
        }
        match refused.code {
            Code::Internal => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", String::new()),
            _ => Self::unavailable(),
        }
    }
}

impl From<db::Error> for OAuthError {
    fn from(error: db::Error) -> Self {
        Refused::from(error).into()
    }
}

impl From<Stale> for OAuthError {
    fn from(_: Stale) -> Self {
        Self::unavailable()
    }
}

/// For the route of `/v1` whose caller authenticates as at an OAuth endpoint.
impl From<OAuthError> for Problem {
    fn from(error: OAuthError) -> Self {
        let (code, detail) = match error.status {
            StatusCode::TOO_MANY_REQUESTS => (Code::TooManyFailures, "Too many failed attempts; wait."),
            StatusCode::SERVICE_UNAVAILABLE => {
                (Code::TemporarilyUnavailable, "This node cannot prove that it is current; try again.")
            }
            StatusCode::INTERNAL_SERVER_ERROR => (Code::Internal, "Something went wrong here."),
            _ => (Code::Unauthenticated, "A server's `client_id` and secret are needed, in `Authorization`."),
        };
        let problem = Self::from(Refused::new(code, detail));
        Self { retry_after: error.retry_after.or(problem.retry_after), ..problem }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let wire = Wire { error: self.error.to_owned(), error_description: self.description };
        let mut response = (self.status, Json(wire)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"mcp-authority\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(nonce) = self.nonce {
            headers.insert(dpop::NONCE, nonce);
        }
        if self.status == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is not read, so nothing more can be asked on this connection (RFC 9110 §15.5.14).
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// What any OAuth endpoint may answer beside its own replies.
#[derive(IntoResponses)]
pub enum OAuthRefusals {
    /// The request is wrong; `error` says how.
    #[response(status = 400)]
    BadRequest(Wire),
    /// The caller could not be authenticated; nothing about a token was looked at.
    #[response(status = 401, headers(("WWW-Authenticate" = String)))]
    InvalidClient(Wire),
    /// The body is too large.
    #[response(status = 413)]
    TooLarge(Wire),
    /// The body is not a form.
    #[response(status = 415)]
    UnsupportedMediaType(Wire),
    /// Too many failed attempts.
    #[response(status = 429, headers(("Retry-After" = u64)))]
    TooMany(Wire),
    /// This node cannot prove that it is current, or the database is away.
    #[response(status = 503, headers(("Retry-After" = u64)))]
    Unavailable(Wire),
}

/// The body could not be read.
pub(super) fn unreadable(status: StatusCode, description: &str) -> OAuthError {
    OAuthError::new(status, "invalid_request", description.to_owned())
}
