//! The token endpoint: codes and refresh tokens become tokens, by the `oauth2` crate through the guarded client.

use std::borrow::Cow;

use futures_util::future::BoxFuture;
use http::StatusCode;
use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
    BasicTokenType,
};
use oauth2::{
    AuthUrl, Client, ClientId, ClientSecret, CodeTokenRequest, EndpointNotSet, EndpointSet, ExtraTokenFields,
    HttpRequest, HttpResponse, RedirectUrl, RefreshTokenRequest, RequestTokenError, StandardRevocableToken,
    StandardTokenResponse, TokenResponse as _, TokenUrl,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::configuration::Endpoints;
use crate::outbound::{self, Outbound};
use crate::providers::Provider;
use crate::providers::error::UpstreamError;
use crate::providers::person::UpstreamTokens;
use crate::providers::settings::Settings;
use crate::types::clock::Timestamp;
use crate::types::keyring::Keyring;
use crate::types::redacted::Secret;

/// Bytes of a token reply.
const TOKENS_BYTES_MAX: usize = 64 * 1024;
/// An access token that is said to live longer than this is taken to live so long.
const LIFE_SECONDS_MAX: u64 = 366 * 86_400;

/// The one member that OpenID Connect adds. It is read as text, and believed only after it was verified.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct WithIdToken {
    #[serde(default)]
    id_token: Option<String>,
}

impl ExtraTokenFields for WithIdToken {}

type Tokens = StandardTokenResponse<WithIdToken, BasicTokenType>;

/// A client of one provider.
pub(super) type UpstreamClient = Client<
    BasicErrorResponse,
    Tokens,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// What the token endpoint gave.
pub(super) struct Exchanged {
    pub(super) access_token: Secret<String>,
    pub(super) ends_at: Option<i64>,
    pub(super) refresh_token: Option<Secret<String>>,
    pub(super) id_token: Option<Secret<String>>,
}

impl Exchanged {
    /// The tokens from before: nothing was exchanged.
    pub(super) fn again(tokens: &UpstreamTokens) -> Self {
        Self { access_token: tokens.access_token.clone(), ends_at: tokens.ends_at, refresh_token: None, id_token: None }
    }
}

/// Why the token endpoint gave nothing.
#[derive(Debug)]
pub(super) enum NotExchanged {
    /// What was shown to it is void: `invalid_grant`.
    Grant,
    /// Anything else.
    Failed(UpstreamError),
}

/// Ourselves, as the provider knows us.
pub(super) fn client(
    keyring: &Keyring,
    provider: &Provider,
    endpoints: &Endpoints,
    callback: Option<&Url>,
) -> Result<UpstreamClient, UpstreamError> {
    let id = match &provider.settings {
        Settings::OpenId(openid) => &openid.client_id,
        Settings::OAuth2(oauth2) => &oauth2.client_id,
        Settings::Demo(_) => return Err(UpstreamError::Misconfigured("demo")),
    };
    let mut client: UpstreamClient = Client::new(ClientId::new(id.clone()))
        .set_auth_uri(AuthUrl::from_url(endpoints.authorization.clone()))
        .set_token_uri(TokenUrl::from_url(endpoints.token.clone()))
        .set_auth_type(endpoints.authentication.clone());
    if let Some(sealed) = &provider.client_secret {
        let secret = sealed.open(keyring, provider.id).map_err(|error| {
            tracing::error!(provider = %provider.id, %error, "the client secret of an identity provider cannot be opened");
            UpstreamError::Misconfigured("client_secret_sealed")
        })?;
        client = client.set_client_secret(ClientSecret::new(secret.reveal().clone()));
    }
    Ok(match callback {
        Some(callback) => client.set_redirect_uri(RedirectUrl::from_url(callback.clone())),
        None => client,
    })
}

pub(super) async fn code(
    outbound: &Outbound,
    request: CodeTokenRequest<'_, BasicErrorResponse, Tokens>,
    now: Timestamp,
) -> Result<Exchanged, UpstreamError> {
    let http = by(outbound);
    let tokens = request.request_async(&http).await.map_err(NotExchanged::from);
    tokens.and_then(|tokens| read(&tokens, now)).map_err(|error| match error {
        NotExchanged::Grant => UpstreamError::Untrusted("code_refused"),
        NotExchanged::Failed(error) => error,
    })
}

pub(super) async fn refresh(
    outbound: &Outbound,
    request: RefreshTokenRequest<'_, BasicErrorResponse, Tokens>,
    now: Timestamp,
) -> Result<Exchanged, NotExchanged> {
    let http = by(outbound);
    let tokens = request.request_async(&http).await?;
    read(&tokens, now)
}

/// Sends with a client of its own: a future that borrowed it could not go from thread to thread.
fn by(outbound: &Outbound) -> impl Fn(HttpRequest) -> BoxFuture<'static, Result<HttpResponse, outbound::Error>> {
    let outbound = outbound.clone();
    move |request| Box::pin(send(outbound.clone(), request))
}

async fn send(outbound: Outbound, request: HttpRequest) -> Result<HttpResponse, outbound::Error> {
    let mut response = outbound.send(request, TOKENS_BYTES_MAX).await?;
    // GitHub refuses with status 200.
    if response.status() == StatusCode::OK
        && serde_json::from_slice::<Value>(response.body()).is_ok_and(|said| said.get("error").is_some())
    {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

fn read(tokens: &Tokens, now: Timestamp) -> Result<Exchanged, NotExchanged> {
    if *tokens.token_type() != BasicTokenType::Bearer {
        return Err(NotExchanged::Failed(UpstreamError::Untrusted("token_type")));
    }
    let ends_at = tokens.expires_in().map(|life| {
        let seconds = i64::try_from(life.as_secs().min(LIFE_SECONDS_MAX)).unwrap_or(0);
        now.seconds().saturating_add(seconds)
    });
    Ok(Exchanged {
        access_token: Secret::new(tokens.access_token().secret().clone()),
        ends_at,
        refresh_token: tokens.refresh_token().map(|token| Secret::new(token.secret().clone())),
        id_token: tokens.extra_fields().id_token.clone().map(Secret::new),
    })
}

impl From<RequestTokenError<outbound::Error, BasicErrorResponse>> for NotExchanged {
    fn from(error: RequestTokenError<outbound::Error, BasicErrorResponse>) -> Self {
        match error {
            RequestTokenError::ServerResponse(said) => refused(said.error()),
            RequestTokenError::Request(error) => Self::Failed(error.into()),
            // What it says may hold tokens: it is neither kept nor logged.
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
                Self::Failed(UpstreamError::Untrusted("token_reply"))
            }
        }
    }
}

fn refused(error: &BasicErrorResponseType) -> NotExchanged {
    let word: Cow<'_, str> = error.as_ref().into();
    NotExchanged::Failed(match &*word {
        // The latter two are GitHub's.
        "invalid_grant" | "bad_verification_code" | "bad_refresh_token" => return NotExchanged::Grant,
        "invalid_client" | "unauthorized_client" | "incorrect_client_credentials" => {
            UpstreamError::Misconfigured("client_refused")
        }
        "redirect_uri_mismatch" => UpstreamError::Misconfigured("redirect_uri_refused"),
        "temporarily_unavailable" | "server_error" | "slow_down" => {
            UpstreamError::Away(outbound::Error::Status(StatusCode::SERVICE_UNAVAILABLE.as_u16()))
        }
        _ => UpstreamError::Misconfigured("token_request_refused"),
    })
}
