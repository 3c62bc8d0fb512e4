//! `POST /oauth/token`: session tokens by client credentials (RFC 6749 §4.4) and by exchange (RFC 8693).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::audit::Entry;
use crate::gate::{Inactive, KeyCaller};
use crate::http::oauth::OAuthRefusals;
use crate::http::oauth::client::{Asking, Client, authenticate, failed};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::{Form, Received};
use crate::sessions::{Draft, Exchange, Refusal, Wish, authorise, exchange};
use crate::signing::Purpose;

/// Where it is.
pub(in crate::http) const PATH: &str = "/oauth/token";
const CLIENT_CREDENTIALS: &str = "client_credentials";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A request for a session token.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "only described: the form is read by hand, so that nothing is looked at too early")]
pub struct TokenRequest {
    /// `client_credentials`, or `urn:ietf:params:oauth:grant-type:token-exchange`.
    grant_type: String,
    /// The key's id, if it is not in `Authorization: Basic`.
    client_id: Option<String>,
    /// The API key, if it is not in `Authorization: Basic`.
    client_secret: Option<String>,
    /// The server's resource URI; the key's only server when left out.
    resource: Option<String>,
    /// Permissions and the server's scopes, to have less than all.
    scope: Option<String>,
    /// For an exchange: an API key or a session token.
    subject_token: Option<String>,
    /// For an exchange: `…:access_token`, or `…:jwt` for a session token.
    subject_token_type: Option<String>,
    /// For an exchange: who acts, by its own API key or session token.
    actor_token: Option<String>,
    /// The type of the actor token.
    actor_token_type: Option<String>,
    /// `…:access_token` or `…:jwt`.
    requested_token_type: Option<String>,
}

/// A session token.
#[derive(Serialize, ToSchema)]
pub struct TokenResponse {
    /// The token: a JWT (RFC 9068).
    access_token: String,
    /// For an exchange: what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<String>,
    /// `Bearer`.
    token_type: String,
    /// Seconds until it ends.
    expires_in: i64,
    /// What was granted; it may be less than was asked for.
    scope: String,
}

/// Issues a session token. It is handed out only after its row is durable.
#[utoipa::path(post, path = PATH, operation_id = "token", tag = "oauth",
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    security(("client" = []), ()),
    responses((status = 200, description = "The token.", body = TokenResponse), OAuthRefusals))]
pub async fn post(State(app): AppState, received: Received) -> Result<Response, OAuthError> {
    answer(&app, &received).await
}

/// The same for what stands before the router.
pub(in crate::http) async fn answer(app: &App, received: &Received) -> Result<Response, OAuthError> {
    let form = received.form()?;
    let asking = Asking::of(app, &form);
    let client = match authenticate(app, &form, &asking)? {
        Some(Client::Key(caller)) => Some(caller),
        // A server's secret gets no token: servers only ask.
        Some(Client::Server(server)) => {
            return Err(failed(app, &asking, Inactive::WrongType, Some(server.id.as_str())));
        }
        None => None,
    };
    form.checked()?;
    let grant = match form.need("grant_type")? {
        CLIENT_CREDENTIALS => Grant::ClientCredentials,
        TOKEN_EXCHANGE => Grant::TokenExchange,
        _ => return Err(OAuthError::unsupported_grant_type()),
    };
    let request = Request { app, form: &form, asking: &asking, client: client.as_ref() };
    let issued = match request.issue(grant).await {
        // A token of a newer state than this node has applied: apply it, then look again.
        Err(OAuthError { ahead: Some(position), .. }) => {
            app.catch_up(position).await?;
            request.issue(grant).await
        }
        issued => issued,
    };
    match issued {
        Ok(response) => {
            app.metrics.token_issued(grant.label());
            Ok(([(header::CACHE_CONTROL, "no-store")], Json(response)).into_response())
        }
        Err(error) => Err(request.refused(grant, error)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Grant {
    ClientCredentials,
    TokenExchange,
}

impl Grant {
    const fn label(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::TokenExchange => "token_exchange",
        }
    }
}

struct Request<'a> {
    app: &'a App,
    form: &'a Form<'a>,
    asking: &'a Asking,
    client: Option<&'a KeyCaller>,
}

impl Request<'_> {
    async fn issue(&self, grant: Grant) -> Result<TokenResponse, OAuthError> {
        let wish = Wish {
            resources: self.form.all("resource"),
            scope: self.form.get("scope").map(str::to_owned),
            address: self.asking.address,
        };
        match grant {
            Grant::ClientCredentials => {
                let caller = self.client.ok_or_else(|| failed(self.app, self.asking, Inactive::Malformed, None))?;
                let draft = self.app.live.answer(|view| authorise(view, caller, &wish))??;
                self.mint(draft, None).await
            }
            Grant::TokenExchange => {
                let form = self.form;
                let subject_token = form.need("subject_token")?;
                token_type(form.need("subject_token_type")?)?;
                let actor_token = form.get("actor_token");
                match (actor_token, form.get("actor_token_type")) {
                    (Some(_), Some(kind)) => token_type(kind)?,
                    (None, None) => {}
                    // RFC 8693 §2.1: the type is required with the token, and must not be there without it.
                    _ => return Err(OAuthError::invalid_request("actor_token and actor_token_type belong together")),
                }
                let kind = form.get("requested_token_type").unwrap_or(ACCESS_TOKEN);
                token_type(kind)?;
                let asked = Exchange { subject_token, actor_token, client: self.client, wish: &wish };
                let draft = self.app.live.answer(|view| exchange(view, &asked))??;
                if form.get("audience").is_some_and(|audience| audience != draft.claims.aud) {
                    return Err(Refusal::InvalidTarget.into());
                }
                self.mint(draft, Some(kind.to_owned())).await
            }
        }
    }

    /// Signs, writes, and only then answers.
    async fn mint(&self, draft: Draft, issued_token_type: Option<String>) -> Result<TokenResponse, OAuthError> {
        let signers = self.app.feed.signers();
        let signer =
            signers.current(Purpose::Session, draft.alg, self.app.live.now()).ok_or_else(OAuthError::unavailable)?;
        let access_token = signer.session(&draft.claims).map_err(|error| {
            tracing::error!(%error, kid = %signer.kid, "a token could not be signed");
            OAuthError::unavailable()
        })?;
        self.app.writer.write(&draft, &signer.kid).await?;
        Ok(TokenResponse {
            access_token,
            issued_token_type,
            token_type: "Bearer".to_owned(),
            expires_in: draft.expires_in,
            scope: draft.claims.scope,
        })
    }

    /// A refused request is counted, and recorded as far as it came from a known client.
    fn refused(&self, grant: Grant, error: OAuthError) -> OAuthError {
        self.app.metrics.token_refused(grant.label(), error.code());
        let actor = self.client.map_or_else(|| "unknown".to_owned(), |client| client.key.id.to_string());
        let mut entry =
            Entry::new(&self.asking.by(actor), "session.refused").refused(error.code()).with("grant", grant.label());
        if let Some(client) = self.client {
            entry = entry.key(client.key.id.as_str()).agent(client.key.agent.as_str()).project(&client.agent.project);
        }
        if !self.app.recorder.record(entry) {
            self.app.metrics.audit_write_failure();
        }
        error
    }
}

fn token_type(name: &str) -> Result<(), OAuthError> {
    if [ACCESS_TOKEN, JWT].contains(&name) {
        Ok(())
    } else {
        Err(OAuthError::invalid_request("token types are access_token and jwt"))
    }
}
