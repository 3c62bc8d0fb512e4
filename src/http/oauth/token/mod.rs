//! `POST /oauth/token`: session tokens by client credentials (RFC 6749 §4.4), by exchange (RFC 8693), and on a person's word by
//! an authorization code (§4.1.3), a device code (RFC 8628) or a refresh token (§6).

mod allowed;
mod assertion;
mod device;
mod exchanged;
mod id_jag;
mod still_here;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::audit::Entry;
use crate::authorizations::{self, LAST_STEP};
use crate::clients::metadata::GrantType;
use crate::clients::{Application, ClientKind};
use crate::gate::{Claims, Inactive, KeyCaller};
use crate::http::oauth::OAuthRefusals;
use crate::http::oauth::client::{Asking, Client, authenticate, authenticate_application, failed};
use crate::http::oauth::dpop;
use crate::http::oauth::error::{OAuthError, write_down};
use crate::http::oauth::form::{Form, Received};
use crate::proofs::Wrong;
use crate::sessions::{Draft, Refusal, Wish, authorise, authorise_client};
use crate::signing::Purpose;
use crate::types::credential::Credential;
use crate::types::thumbprint::Thumbprint;

/// Where it is.
pub(in crate::http) const PATH: &str = "/oauth/token";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// What the token endpoint understands, as the metadata says it.
pub(super) const GRANTS: [GrantType; 6] = [
    GrantType::AuthorizationCode,
    GrantType::RefreshToken,
    GrantType::ClientCredentials,
    GrantType::TokenExchange,
    GrantType::JwtBearer,
    GrantType::DeviceCode,
];

/// A request for a session token.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "only described: the form is read by hand, so that nothing is looked at too early")]
pub struct TokenRequest {
    /// `authorization_code`, `refresh_token`, `client_credentials`, `urn:ietf:params:oauth:grant-type:token-exchange`,
    /// `urn:ietf:params:oauth:grant-type:device_code` or `urn:ietf:params:oauth:grant-type:jwt-bearer`.
    grant_type: String,
    /// The key's id, or the OAuth client's, if it is not in `Authorization: Basic`.
    client_id: Option<String>,
    /// The API key, or the client's secret, if it is not in `Authorization: Basic`.
    client_secret: Option<String>,
    /// The client's assertion (RFC 7523 §2.2), instead of a secret.
    client_assertion: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: Option<String>,
    /// The code that the authorization endpoint gave.
    code: Option<String>,
    /// The same that the code was asked for with, if it is sent at all.
    redirect_uri: Option<String>,
    /// What the code challenge was made of (RFC 7636).
    code_verifier: Option<String>,
    /// What `/oauth/device_authorization` gave.
    device_code: Option<String>,
    /// A refresh token.
    refresh_token: Option<String>,
    /// The server's resource URI; the key's only server when left out, and with a code the server that it is for.
    resource: Option<String>,
    /// Permissions and the server's scopes, to have less than all.
    scope: Option<String>,
    /// For jwt-bearer: a workload's token, or an identity assertion (ID-JAG) about a person.
    assertion: Option<String>,
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
    /// `Bearer`; `DPoP` for a token that is bound to the key of the request's proof (RFC 9449).
    token_type: String,
    /// Seconds until it ends.
    expires_in: i64,
    /// What was granted; it may be less than was asked for.
    scope: String,
    /// Good once, for the next session token; the reply to it has the one after.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// The type of a token that is good for whoever has it.
pub(super) const BEARER: &str = "Bearer";

/// The type of a token, as replies say it.
pub(super) const fn token_type(claims: &Claims) -> &'static str {
    if claims.cnf.is_some() { "DPoP" } else { BEARER }
}

/// Issues a session token. It is handed out only after its row is durable. With a proof of possession in the `DPoP` header (RFC 9449)
/// it is bound to the proof's key.
#[utoipa::path(post, path = PATH, operation_id = "token", tag = "oauth",
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    params(("DPoP" = Option<String>, Header, description = "A proof of possession: a JWT of type `dpop+jwt` (RFC 9449 §4).")),
    security(("client" = []), ()),
    responses((status = 200, description = "The token.", body = TokenResponse,
                 headers(("DPoP-Nonce" = String, description = "With a proof, while nonces are demanded: the nonce for the next one."))), OAuthRefusals))]
pub async fn post(State(app): AppState, received: Received) -> Result<Response, OAuthError> {
    answer(&app, &received).await
}

/// The same for what stands before the router.
pub(in crate::http) async fn answer(app: &App, received: &Received) -> Result<Response, OAuthError> {
    let answered = issued(app, received).await;
    let nonce = dpop::next_nonce(app, &received.headers);
    let response = answered.map_err(|error| error.with_nonce(nonce.clone()))?;
    let nonce = nonce.map(|nonce| [(dpop::NONCE, nonce)]);
    Ok((nonce, [(header::CACHE_CONTROL, "no-store")], Json(response)).into_response())
}

async fn issued(app: &App, received: &Received) -> Result<TokenResponse, OAuthError> {
    let form = received.form()?;
    let asking = Asking::of(app, &form);
    let client = match client(app, &form, &asking).await {
        Err(refused) => return Err(traced(app, &form, refused).await),
        Ok(client) => client,
    };
    form.checked()?;
    let asked = form.need("grant_type")?;
    let grant = GRANTS.into_iter().find(|grant| grant.as_str() == asked);
    let grant = grant.ok_or_else(OAuthError::unsupported_grant_type)?;
    let mut request = Request { app, form: &form, asking: &asking, client: &client, key: None };
    match request.proven_and_issued(grant).await {
        Ok(response) => {
            app.metrics.token_issued(label(grant));
            Ok(response)
        }
        Err(error) => Err(request.refused(grant, error)),
    }
}

/// A refusal that comes before a code is looked at is a step of the flow that the code came of: whoever looks for the reason
/// looks there. It makes no difference to the code, and none to the caller.
async fn traced(app: &App, form: &Form<'_>, refused: OAuthError) -> OAuthError {
    let code = form.get("code").or_else(|| form.get("device_code"));
    let Some(code) = code.filter(|_| refused.is_final()) else { return refused };
    write_down(async {
        let mut connection = app.db.reads().acquire().await?;
        if let Some(flow) = authorizations::flow_of(&mut connection, code).await? {
            refused.trace(&mut connection, &flow, LAST_STEP).await?;
        }
        Ok(())
    })
    .await;
    refused
}

/// Who asks for a token.
enum Asker {
    /// An agent, with its key.
    Key(KeyCaller),
    /// An OAuth client.
    Application(Application),
    /// Whoever has a token to be made smaller.
    Nobody,
}

async fn client(app: &App, form: &Form<'_>, asking: &Asking) -> Result<Asker, OAuthError> {
    if assertion::proves_itself(form)? {
        return Ok(Asker::Nobody);
    }
    if let Some(application) = authenticate_application(app, form, asking).await? {
        return Ok(Asker::Application(application));
    }
    match authenticate(app, form, asking)? {
        Some(Client::Key(caller)) => Ok(Asker::Key(caller)),
        // A server's secret gets no token: servers only ask.
        Some(Client::Server(server)) => Err(failed(app, asking, Inactive::WrongType, Some(server.id.as_str()))),
        None => Ok(Asker::Nobody),
    }
}

/// A grant's name in metrics and the audit.
const fn label(grant: GrantType) -> &'static str {
    match grant {
        GrantType::AuthorizationCode => "authorization_code",
        GrantType::RefreshToken => "refresh_token",
        GrantType::ClientCredentials => "client_credentials",
        GrantType::DeviceCode => "device_code",
        GrantType::JwtBearer => "jwt_bearer",
        GrantType::TokenExchange => "token_exchange",
    }
}

struct Request<'a> {
    app: &'a App,
    form: &'a Form<'a>,
    asking: &'a Asking,
    client: &'a Asker,
    /// The key that the sender proved to have.
    key: Option<Thumbprint>,
}

impl Request<'_> {
    async fn proven_and_issued(&mut self, grant: GrantType) -> Result<TokenResponse, OAuthError> {
        self.key = match self.proven().await {
            Err(refused) => return Err(traced(self.app, self.form, refused).await),
            Ok(key) => key,
        };
        match self.issue(grant).await {
            // A token of a newer state than this node has applied: apply it, then look again.
            Err(OAuthError { ahead: Some(position), .. }) => {
                self.app.catch_up(position).await?;
                self.issue(grant).await
            }
            issued => issued,
        }
    }

    /// What the proof proves. A client that said that it never does without must have one (RFC 9449 §5.2).
    async fn proven(&self) -> Result<Option<Thumbprint>, OAuthError> {
        let known = match self.client {
            Asker::Key(_) => true,
            // Who registered itself may have as many secrets as it likes.
            Asker::Application(application) => {
                application.kind == ClientKind::Registered && application.metadata.is_confidential()
            }
            Asker::Nobody => false,
        };
        // Each proof is remembered for a while, and whoever proves nothing else can make as many as it likes.
        if !known && self.form.headers.contains_key(dpop::PROOF) {
            let held_back = self.app.strangers.prove(self.asking.address);
            held_back.map_err(|wait| OAuthError::slow_down(wait.as_secs() + 1))?;
        }
        let key = dpop::proven(self.app, self.form, PATH).await?;
        match self.client {
            Asker::Application(application) if key.is_none() && application.metadata.dpop_bound_access_tokens => {
                Err(OAuthError::invalid_proof(Wrong::Missing))
            }
            _ => Ok(key),
        }
    }

    async fn issue(&self, grant: GrantType) -> Result<TokenResponse, OAuthError> {
        let wish = Wish {
            resources: self.form.all("resource"),
            scope: self.form.get("scope").map(str::to_owned),
            address: self.asking.address,
            key: self.key,
        };
        match grant {
            GrantType::AuthorizationCode => self.by_code(&wish).await,
            GrantType::RefreshToken => self.by_refresh_token(&wish).await,
            GrantType::ClientCredentials => self.by_credentials(&wish).await,
            GrantType::TokenExchange => self.by_exchange(&wish).await,
            GrantType::DeviceCode => self.by_device_code(&wish).await,
            GrantType::JwtBearer => self.by_assertion(&wish).await,
        }
    }

    async fn by_credentials(&self, wish: &Wish) -> Result<TokenResponse, OAuthError> {
        let draft = match self.client {
            Asker::Key(caller) => self.app.live.answer(|view| authorise(view, caller, wish))??,
            Asker::Application(application) => {
                // A public client proves nothing, so it has nothing of its own.
                let may = application.metadata.grant_types.contains(&GrantType::ClientCredentials)
                    && application.metadata.is_confidential();
                if !may {
                    return Err(Refusal::UnauthorizedClient.into());
                }
                self.app.live.answer(|view| {
                    let client = application.id.and_then(|id| view.memory.clients.get(&id));
                    authorise_client(view, client.ok_or(Refusal::InvalidClient)?, wish)
                })??
            }
            Asker::Nobody => return Err(failed(self.app, self.asking, Inactive::Malformed, None)),
        };
        self.mint(draft, None).await
    }

    /// Signs, writes, and only then answers.
    async fn mint(&self, draft: Draft, issued_token_type: Option<String>) -> Result<TokenResponse, OAuthError> {
        let (access_token, kid) = self.sign(&draft)?;
        self.app.writer.write(&draft, &kid).await?;
        Ok(Self::response(draft, access_token, issued_token_type, None))
    }

    /// The token, and the key that signed it.
    fn sign(&self, draft: &Draft) -> Result<(String, String), OAuthError> {
        let signers = self.app.feed.signers();
        let signer =
            signers.current(Purpose::Session, draft.alg, self.app.live.now()).ok_or_else(OAuthError::unavailable)?;
        let access_token = signer.session(&draft.claims).map_err(|error| {
            tracing::error!(%error, kid = %signer.kid, "a token could not be signed");
            OAuthError::unavailable()
        })?;
        Ok((access_token, signer.kid.to_string()))
    }

    fn response(
        draft: Draft,
        access_token: String,
        issued_token_type: Option<String>,
        refresh_token: Option<&Credential>,
    ) -> TokenResponse {
        TokenResponse {
            access_token,
            issued_token_type,
            token_type: token_type(&draft.claims).to_owned(),
            expires_in: draft.expires_in,
            scope: draft.claims.scope,
            refresh_token: refresh_token.map(|token| token.reveal().to_owned()),
        }
    }

    /// A refused request is counted, and recorded as far as it came from a known client.
    fn refused(&self, grant: GrantType, error: OAuthError) -> OAuthError {
        let grant = label(grant);
        self.app.metrics.token_refused(grant, error.code());
        let actor = match self.client {
            Asker::Key(caller) => caller.key.id.to_string(),
            Asker::Application(application) => application.client_id.clone(),
            Asker::Nobody => "unknown".to_owned(),
        };
        let mut entry =
            Entry::new(&self.asking.by(actor), "session.refused").refused(error.code()).with("grant", grant);
        if let Some(cause) = error.cause {
            entry = entry.with("cause", cause);
        }
        match self.client {
            Asker::Key(caller) => {
                let key = &caller.key;
                entry = entry.key(key.id.as_str()).agent(key.agent.as_str()).project(&caller.agent.project);
            }
            Asker::Application(application) => entry = entry.project(&application.project),
            Asker::Nobody => {}
        }
        if !self.app.recorder.record(entry) {
            self.app.metrics.audit_write_failure();
        }
        error
    }
}
