//! `POST /oauth/introspect` (RFC 7662): is this credential good, and what may it do?

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::gate::{Active, Actor, Asker, Inactive, Question, Verdict, introspect};
use crate::http::oauth::OAuthRefusals;
use crate::http::oauth::client::{Asking, Client, authenticate, failed};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Received;
use crate::observations::{ACTIVE, Owner, Place};
use crate::types::permission::{Permissions, scope_string};

/// Where it is.
pub(in crate::http) const PATH: &str = "/oauth/introspect";

/// A question.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "only described: the form is read by hand, so that nothing is looked at too early")]
pub struct IntrospectionRequest {
    /// The credential that was shown to you.
    token: String,
    /// An optimisation that changes nothing.
    token_type_hint: Option<String>,
    /// From where it was shown to you; needed for keys with an address list.
    client_ip: Option<String>,
    /// Your `client_id`, if you authenticate in the body.
    client_id: Option<String>,
    /// Your secret, if you authenticate in the body.
    client_secret: Option<String>,
}

/// The answer. An inactive credential has `active` and nothing else, for every cause.
#[derive(Serialize, ToSchema)]
pub struct IntrospectionResponse<'a> {
    /// Whether it is good for the asking server, now.
    active: bool,
    /// Our issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    /// Whose it is: the agent's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    /// Through what: the key's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    /// The asking server's resource, as registered: one string.
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    /// What it may do on the asking server, and the server's scopes that this covers, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// What it may do on the asking server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    permissions: Option<&'a Permissions>,
    /// When it ends, seconds since 1970; always there.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// A session token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    /// `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'a str>,
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    /// `prod` or `dev`.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a str>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    /// Who acts for the subject (RFC 8693 §4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<&'a Actor>,
}

/// What an inactive credential is answered, whatever the cause.
const INACTIVE: &[u8] = br#"{"active":false}"#;
/// Bytes that an answer is given at first: most fit.
const REPLY_BYTES: usize = 768;

/// Asks about a credential. The caller is a server, about what it was shown; or the holder of a key, about that key and
/// its tokens.
#[utoipa::path(post, path = PATH, operation_id = "introspect", tag = "oauth",
    request_body(content = IntrospectionRequest, content_type = "application/x-www-form-urlencoded"),
    security(("client" = [])),
    responses((status = 200, description = "What it is worth.", body = IntrospectionResponse), OAuthRefusals))]
pub async fn post(State(app): AppState, received: Received) -> Result<Response, OAuthError> {
    let form = received.form()?;
    let asking = Asking::of(&app, &form);
    let client = authenticate(&app, &form, &asking)?.ok_or_else(|| failed(&app, &asking, Inactive::Malformed, None))?;
    form.checked()?;
    let token = form.need("token")?;
    let (asker, address) = match client {
        Client::Server(server) => {
            (Asker::Server(server), form.get("client_ip").and_then(|address| address.parse().ok()))
        }
        Client::Key(caller) => (Asker::Holder(caller.key.id), asking.address),
    };
    let question = Question { token, asker: &asker, address };
    let body = match ask(&app, question)? {
        Answer::Is(body) => body,
        Answer::Ahead(position) => {
            // A state that may never come: no answer is given then, and that is counted.
            let not_yet = || app.metrics.introspection(Inactive::NotYet.as_str());
            app.catch_up(position).await.inspect_err(|_| not_yet())?;
            match ask(&app, question)? {
                Answer::Is(body) => body,
                Answer::Ahead(_) => {
                    not_yet();
                    return Err(OAuthError::unavailable());
                }
            }
        }
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, body).into_response())
}

enum Answer {
    Is(Bytes),
    Ahead(crate::gate::Position),
}

/// One answer from memory: nothing here waits or touches the database.
fn ask(app: &App, question: Question<'_>) -> Result<Answer, OAuthError> {
    let (verdict, at) = app.live.answer(|view| (introspect(view, question), view.now))?;
    let server = match question.asker {
        Asker::Server(server) => Some(server.id),
        Asker::Holder(_) => None,
    };
    let place = Place { at, server, address: question.address };
    let (credential, outcome) = match &verdict {
        Verdict::Ahead(position) => return Ok(Answer::Ahead(*position)),
        Verdict::Inactive(cause, key) => (*key, cause.as_str()),
        Verdict::Active(Active::Key { key, version, .. }) => {
            app.used(question.token, Owner::Key(key.id), version, place);
            (Some(key.id), ACTIVE)
        }
        Verdict::Active(Active::Session { token, .. }) => (Some(token.claims.key_id), ACTIVE),
    };
    app.metrics.introspection(outcome);
    app.observations.answered(credential, outcome, place);
    Ok(Answer::Is(match verdict {
        Verdict::Active(active) => reply(app, question.asker, &active)?,
        Verdict::Inactive(..) | Verdict::Ahead(_) => Bytes::from_static(INACTIVE),
    }))
}

fn reply(app: &App, asker: &Asker, active: &Active) -> Result<Bytes, OAuthError> {
    let (iss, token_type) = (Some(&*app.live.issuer), Some("Bearer"));
    let reply = match active {
        Active::Key { key, version, permissions } => {
            let (aud, scope) = match asker {
                Asker::Server(server) => (Some(&*server.resource), scope_string(permissions, &server.scopes)),
                Asker::Holder(_) => (None, permissions.to_scope()),
            };
            IntrospectionResponse {
                active: true,
                iss,
                sub: Some(key.agent.as_str()),
                client_id: Some(key.id.as_str()),
                aud,
                scope: Some(scope),
                permissions: Some(permissions),
                exp: Some(version.expires.seconds()),
                iat: Some(version.created.seconds()),
                jti: None,
                token_type,
                agent_id: Some(key.agent.as_str()),
                environment: Some(key.environment.as_str()),
                key_id: Some(key.id.as_str()),
                act: None,
            }
        }
        Active::Session { token, permissions, server } => {
            let claims = &token.claims;
            IntrospectionResponse {
                active: true,
                iss,
                sub: Some(&claims.sub),
                client_id: Some(&claims.client_id),
                aud: Some(&server.resource),
                scope: Some(scope_string(permissions, &server.scopes)),
                permissions: Some(permissions),
                exp: Some(claims.exp),
                iat: Some(claims.iat),
                jti: Some(claims.jti.as_str()),
                token_type,
                agent_id: Some(claims.agent_id.as_str()),
                environment: Some(claims.environment.as_str()),
                key_id: Some(claims.key_id.as_str()),
                act: claims.act.as_ref(),
            }
        }
    };
    let mut body = Vec::with_capacity(REPLY_BYTES);
    serde_json::to_writer(&mut body, &reply).map_err(|_| OAuthError::unavailable())?;
    Ok(body.into())
}
