//! `POST /oauth/register` (RFC 7591): a client makes itself known. It is nothing until a person agrees to it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoResponses, ToSchema};

use crate::app::{App, AppState};
use crate::audit::Entry;
use crate::clients::{self, Described, Refusal, Registered};
use crate::http::caller::Origin;
use crate::http::oauth::client::Asking;
use crate::http::oauth::error::{OAuthError, Wire, unreadable};

/// Bytes of a registration at most: keys, and as many redirect URIs as there may be.
const REGISTRATION_BYTES_MAX: usize = 64 * 1024;
/// What is waited when too many clients that nobody agreed to are there: some are swept away by then.
const FULL_SECONDS: u64 = 600;

/// Metadata of a client that registers itself. Members that nobody knows are ignored.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "only described: clients send members of many kinds, which are read by hand")]
pub struct RegistrationRequest {
    /// For people.
    #[schema(max_length = 100)]
    client_name: Option<String>,
    /// Where people are sent back to.
    #[schema(min_items = 1, max_items = 32)]
    redirect_uris: Vec<String>,
    /// `authorization_code`, `refresh_token`; others are left out.
    grant_types: Option<Vec<String>>,
    /// `client_secret_basic` unless said; else `none`, `client_secret_post` or `private_key_jwt`.
    token_endpoint_auth_method: Option<String>,
    /// What its assertions are signed with.
    token_endpoint_auth_signing_alg: Option<String>,
    /// `native` or `web`: a web application is sent back to over https, to another machine than the person's.
    application_type: Option<String>,
    /// Its public keys (RFC 7517 §5).
    #[schema(value_type = Option<Object>)]
    jwks: Option<Value>,
    /// Where its public keys are.
    jwks_uri: Option<String>,
    /// The scopes that it may ask for.
    scope: Option<String>,
    /// Its home page.
    client_uri: Option<String>,
    /// Its picture.
    logo_uri: Option<String>,
    /// Its terms.
    tos_uri: Option<String>,
    /// What it does with data.
    policy_uri: Option<String>,
}

/// A client that registered itself (RFC 7591 §3.2.1).
#[derive(Serialize, ToSchema)]
pub struct Registration {
    /// Its id.
    client_id: String,
    /// When it was made, in seconds since 1970.
    client_id_issued_at: i64,
    /// Its secret; only if it authenticates with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    /// 0: the secret does not end by itself. There only beside a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret_expires_at: Option<i64>,
    /// What of its metadata counts here.
    #[serde(flatten)]
    metadata: Described,
}

impl From<Registered> for Registration {
    fn from(registered: Registered) -> Self {
        let secret = registered.issued.map(|issued| issued.credential.reveal().to_owned());
        Self {
            client_id: registered.client_id,
            client_id_issued_at: registered.issued_at,
            client_secret_expires_at: secret.as_ref().map(|_| 0),
            client_secret: secret,
            metadata: registered.metadata,
        }
    }
}

/// What registration may answer beside its own reply.
#[derive(IntoResponses)]
pub enum RegistrationRefusals {
    /// `invalid_redirect_uri` or `invalid_client_metadata`.
    #[response(status = 400)]
    BadRequest(Wire),
    /// `access_denied`: nobody may register here.
    #[response(status = 403)]
    Off(Wire),
    /// The body is too large.
    #[response(status = 413)]
    TooLarge(Wire),
    /// The body is not JSON.
    #[response(status = 415)]
    UnsupportedMediaType(Wire),
    /// Too many from this address, or too many that nobody agreed to.
    #[response(status = 429, headers(("Retry-After" = u64)))]
    TooMany(Wire),
    /// The database is away.
    #[response(status = 503, headers(("Retry-After" = u64)))]
    Unavailable(Wire),
}

/// Registers a client. Deprecated by MCP, and what many clients still do: a client that has a metadata document needs it not.
#[utoipa::path(post, path = "/oauth/register", operation_id = "register", tag = "oauth", request_body = RegistrationRequest,
    security(()),
    responses((status = 201, description = "The client.", body = Registration), RegistrationRefusals))]
pub async fn post(State(app): AppState, request: Request) -> Result<Response, OAuthError> {
    let origin = Origin::of(request.extensions());
    let headers = request.headers().clone();
    let body = <Bytes as axum::extract::FromRequest<_>>::from_request(request, &app).await;
    let asking = Asking { address: origin.address(&app, &headers), request_id: origin.id };
    // Before anything is read: whoever sends without end is not read without end.
    app.strangers.register(asking.address).map_err(|wait| OAuthError::slow_down(wait.as_secs() + 1))?;
    let members = members(&headers, body)?;
    let secret_key = app.feed.secret_key();
    let by = asking.by("unknown".to_owned());
    match clients::register(&app.db, app.sealing(&secret_key), &by, members).await {
        Ok((registered, done)) => {
            app.feed.spread(done).await;
            let no_store = [(header::CACHE_CONTROL, "no-store")];
            Ok((StatusCode::CREATED, no_store, Json(Registration::from(registered))).into_response())
        }
        Err(refusal) => Err(refused(&app, &asking, refusal)),
    }
}

fn members(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Map<String, Value>, OAuthError> {
    let too_large = || unreadable(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => unreadable(StatusCode::BAD_REQUEST, "the body did not arrive whole"),
    })?;
    if body.len() > REGISTRATION_BYTES_MAX {
        return Err(too_large());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(unreadable(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"));
    }
    let wrong = |description: &str| OAuthError::registration("invalid_client_metadata", description);
    serde_json::from_slice(&body).map_err(|_| wrong("the body is no JSON object"))
}

fn refused(app: &App, asking: &Asking, refusal: Refusal) -> OAuthError {
    let error = match refusal {
        Refusal::Failed(refused) => return refused.into(),
        Refusal::Full => return OAuthError::slow_down(FULL_SECONDS),
        Refusal::Off => OAuthError::access_denied(
            "this authority takes no registrations; use a client ID metadata document, or ask its administrator for a client_id",
        ),
        Refusal::NotLoopback => OAuthError::registration(
            "invalid_redirect_uri",
            "this authority registers only applications whose redirect URIs lead to this machine; use a client ID metadata document",
        ),
        Refusal::Mistake(mistake) => OAuthError::registration(mistake.code(), mistake.to_string()),
    };
    let entry = Entry::new(&asking.by("unknown".to_owned()), "client.registration_refused").refused(error.code());
    if !app.recorder.record(entry) {
        app.metrics.audit_write_failure();
    }
    error
}
