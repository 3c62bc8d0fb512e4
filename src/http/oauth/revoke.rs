//! `POST /oauth/revoke` (RFC 7009): a server ends tokens issued for it; a key's holder ends the key's tokens, or the key.

use axum::extract::State;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::gate::{Claims, Inactive, verify_session};
use crate::http::oauth::OAuthRefusals;
use crate::http::oauth::client::{Asking, Client, authenticate, failed};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Received;
use crate::http::v1::revocations::enforce;
use crate::revocations::{Kind, New};
use crate::types::credential::Presented;
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
    let client = authenticate(&app, &form, &asking)?.ok_or_else(|| failed(&app, &asking, Inactive::Malformed, None))?;
    form.checked()?;
    let token = form.need("token")?;
    let new = match Presented::parse(token) {
        Some(presented) => Some(key(&app, &client, &presented)?),
        None => session(&app, &client, token)?,
    };
    let done = (StatusCode::OK, [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]);
    let Some(new) = new else { return Ok(done) };
    let actor = match &client {
        Client::Server(server) => server.id.to_string(),
        Client::Key(caller) => caller.key.id.to_string(),
    };
    let kind = new.kind;
    let revoked = app.revoker.revoke(&asking.by(actor), new).await?;
    if enforce(&app, kind, revoked.done).await.complete { Ok(done) } else { Err(OAuthError::unavailable()) }
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

fn session(app: &App, client: &Client, token: &str) -> Result<Option<New>, OAuthError> {
    let Ok(token) = app.live.answer(|view| verify_session(view, token))? else { return Ok(None) };
    let claims = &token.claims;
    let own = match client {
        Client::Server(server) => claims.srv == server.id,
        Client::Key(caller) => claims.key_id == Some(caller.key.id),
    };
    if !own {
        // A silent 200 would let the caller believe that it had ended something.
        return Err(OAuthError::invalid_request("the token was not issued for this client"));
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
