//! `POST /oauth/revoke` (RFC 7009): a server ends tokens issued for it; a key's holder ends the key's tokens, or the key; an
//! OAuth client its tokens, or all that came of one authorization.

use axum::extract::State;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::clients::Application;
use crate::db;
use crate::gate::{Claims, Inactive, verify_session};
use crate::http::oauth::OAuthRefusals;
use crate::http::oauth::client::{Asking, Client, authenticate, authenticate_application, failed};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Received;
use crate::http::v1::revocations::enforce;
use crate::revocations::{Kind, New};
use crate::sessions::refresh;
use crate::types::credential::{self, Presented};
use crate::types::id::KeyId;

/// Something to revoke.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "only described: the form is read by hand, so that nothing is looked at too early")]
pub struct RevocationRequest {
    /// The token.
    token: String,
    /// An optimisation that changes nothing.
    token_type_hint: Option<String>,
    /// Your `client_id`, if you authenticate in the body.
    client_id: Option<String>,
    /// Your secret, if you authenticate in the body.
    client_secret: Option<String>,
    /// An OAuth client's assertion (RFC 7523 §2.2), instead of a secret.
    client_assertion: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: Option<String>,
}

/// Revokes. When this returns 200, no node answers "active" for it; 503 means that this is not proved: try again. A token
/// that is no token (any more) is 200 too (RFC 7009 §2.2).
#[utoipa::path(post, path = "/oauth/revoke", operation_id = "revoke", tag = "oauth",
    request_body(content = RevocationRequest, content_type = "application/x-www-form-urlencoded"),
    security(("client" = [])),
    responses((status = 200, description = "It is dead everywhere."), OAuthRefusals))]
pub async fn post(
    State(app): AppState,
    received: Received,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1]), OAuthError> {
    let form = received.form()?;
    let asking = Asking::of(&app, &form);
    let caller = match authenticate_application(&app, &form, &asking).await? {
        Some(application) => Revoker::Application(application),
        None => authenticate(&app, &form, &asking)?
            .map(Revoker::Client)
            .ok_or_else(|| failed(&app, &asking, Inactive::Malformed, None))?,
    };
    form.checked()?;
    let token = form.need("token")?;
    let new = match (&caller, Presented::parse(token)) {
        (Revoker::Client(client), Some(presented)) => Some(key(&app, client, &presented)?),
        (Revoker::Application(application), Some(presented)) => refresh_token(&app, application, &presented).await?,
        (_, None) => session(&app, &caller, token)?,
    };
    let done = (StatusCode::OK, [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]);
    let Some(new) = new else { return Ok(done) };
    let actor = match &caller {
        Revoker::Client(Client::Server(server)) => server.id.to_string(),
        Revoker::Client(Client::Key(caller)) => caller.key.id.to_string(),
        Revoker::Application(application) => application.client_id.clone(),
    };
    let kind = new.kind;
    let revoked = app.revoker.revoke(&asking.by(actor), new).await?;
    if enforce(&app, kind, revoked.done).await.complete { Ok(done) } else { Err(OAuthError::unavailable()) }
}

/// Who revokes.
enum Revoker {
    /// A server, or the holder of a key.
    Client(Client),
    /// An OAuth client.
    Application(Application),
}

/// A refresh token ends with its whole family: every token that came of one authorization (RFC 7009 §2.1).
async fn refresh_token(
    app: &App,
    application: &Application,
    presented: &Presented<'_>,
) -> Result<Option<New>, OAuthError> {
    if presented.kind() != credential::Kind::Refresh {
        return Err(OAuthError::unsupported_token_type());
    }
    let mut tx = app.db.begin().await?;
    let Some(shown) = refresh::look(&mut tx, &app.live.keyring, presented).await? else { return Ok(None) };
    if application.id != Some(shown.client) {
        return Err(foreign());
    }
    refresh::end(&mut tx, shown.family, "revoked").await?;
    db::commit(tx).await?;
    Ok(Some(New { project: None, ..New::of(Kind::Token, shown.family.as_str(), "") }))
}

/// A silent 200 would let the caller believe that it had ended something.
fn foreign() -> OAuthError {
    OAuthError::invalid_request("the token was not issued for this client")
}

/// An API key ends only by its own word; operators have `/v1`.
fn key(app: &App, client: &Client, presented: &Presented<'_>) -> Result<New, OAuthError> {
    match client {
        Client::Key(caller) if KeyId::of(presented.id()) == Some(caller.key.id) => {
            Ok(New::of(Kind::Key, caller.key.id.as_str(), &project(app, caller.key.agent)))
        }
        _ => Err(OAuthError::unsupported_token_type()),
    }
}

fn session(app: &App, caller: &Revoker, token: &str) -> Result<Option<New>, OAuthError> {
    let Ok(token) = app.live.answer(|view| verify_session(view, token))? else { return Ok(None) };
    let claims = &token.claims;
    let own = match caller {
        Revoker::Client(Client::Server(server)) => claims.srv == server.id,
        Revoker::Client(Client::Key(caller)) => claims.key_id == Some(caller.key.id),
        Revoker::Application(application) => token.holder.key().is_none() && claims.client_id == application.client_id,
    };
    if !own {
        return Err(foreign());
    }
    Ok(Some(of(app, claims)))
}

fn of(app: &App, claims: &Claims) -> New {
    let memory = app.live.memory();
    let of_server = || memory.servers.get(&claims.srv).map(|server| server.project.to_string());
    // A person's token belongs where its server does.
    let project = claims.agent_id.map_or_else(of_server, |agent| Some(project(app, agent)));
    New { project, ..New::of(Kind::Token, claims.jti.as_str(), "") }
}

fn project(app: &App, agent: crate::types::id::AgentId) -> String {
    app.live.memory().agents.get(&agent).map(|agent| agent.project.to_string()).unwrap_or_default()
}
