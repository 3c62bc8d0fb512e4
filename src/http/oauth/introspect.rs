//! `POST /oauth/introspect` (RFC 7662): is this credential good, and what may it do?

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::gate::{Active, Actor, Asker, Inactive, Question, Verdict, introspect};
use crate::http::oauth::OAuthRefusals;
use crate::http::oauth::client::{Asking, Client, authenticate, failed};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Form;
use crate::observations::{ACTIVE, Place};
use crate::types::credential::Presented;
use crate::types::permission::scope_string;

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
pub struct IntrospectionResponse {
    /// Whether it is good for the asking server, now.
    active: bool,
    /// Our issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    /// Whose it is: the agent's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// Through what: the key's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// The asking server's resource, as registered: one string.
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<String>,
    /// What it may do on the asking server, and the server's scopes that this covers, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// What it may do on the asking server.
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Vec<String>>,
    /// When it ends, seconds since 1970; always there.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// A session token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    /// `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<String>,
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<String>,
    /// `prod` or `dev`.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    /// Who acts for the subject (RFC 8693 §4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Actor>,
}

impl IntrospectionResponse {
    const INACTIVE: Self = Self {
        active: false,
        iss: None,
        sub: None,
        client_id: None,
        aud: None,
        scope: None,
        permissions: None,
        exp: None,
        iat: None,
        jti: None,
        token_type: None,
        agent_id: None,
        environment: None,
        key_id: None,
        act: None,
    };
}

/// Asks about a credential. The caller is a server, about what it was shown; or the holder of a key, about that key and
/// its tokens.
#[utoipa::path(post, path = "/oauth/introspect", operation_id = "introspect", tag = "oauth",
    request_body(content = IntrospectionRequest, content_type = "application/x-www-form-urlencoded"),
    security(("client" = [])),
    responses((status = 200, description = "What it is worth.", body = IntrospectionResponse), OAuthRefusals))]
pub async fn post(State(app): AppState, form: Form) -> Result<Response, OAuthError> {
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
    let reply = match ask(&app, question)? {
        Answer::Is(reply) => reply,
        Answer::Ahead(position) => {
            // A state that may never come: no answer is given then, and that is counted.
            let not_yet = || app.metrics.introspection(Inactive::NotYet.as_str());
            app.catch_up(position).await.inspect_err(|_| not_yet())?;
            match ask(&app, question)? {
                Answer::Is(reply) => reply,
                Answer::Ahead(_) => {
                    not_yet();
                    return Err(OAuthError::unavailable());
                }
            }
        }
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(reply)).into_response())
}

enum Answer {
    Is(Box<IntrospectionResponse>),
    Ahead(crate::gate::Position),
}

/// One answer from memory: nothing here waits or touches the database.
fn ask(app: &App, question: Question<'_>) -> Result<Answer, OAuthError> {
    let verdict = app.live.answer(|view| introspect(view, question))?;
    let server = match question.asker {
        Asker::Server(server) => server.id.to_string(),
        Asker::Holder(_) => String::new(),
    };
    let now = app.live.now();
    let (credential, outcome) = match &verdict {
        Verdict::Ahead(position) => return Ok(Answer::Ahead(*position)),
        Verdict::Inactive(cause, key) => (key.map(|key| key.to_string()).unwrap_or_default(), cause.as_str()),
        Verdict::Active(Active::Key { key, version, .. }) => {
            if let Some(presented) = Presented::parse(question.token) {
                app.used(
                    &presented,
                    key.id.as_str(),
                    version,
                    Place { server: Some(&server), address: question.address },
                );
            }
            (key.id.to_string(), ACTIVE)
        }
        Verdict::Active(Active::Session { claims, .. }) => (claims.key_id.to_string(), ACTIVE),
    };
    app.metrics.introspection(outcome);
    app.observations.answered(&credential, outcome, Place { server: Some(&server), address: question.address }, now);
    Ok(Answer::Is(Box::new(match verdict {
        Verdict::Active(active) => reply(app, question.asker, active),
        Verdict::Inactive(..) | Verdict::Ahead(_) => IntrospectionResponse::INACTIVE,
    })))
}

fn reply(app: &App, asker: &Asker, active: Active) -> IntrospectionResponse {
    let iss = Some(app.live.issuer.to_string());
    let token_type = Some("Bearer".to_owned());
    match active {
        Active::Key { key, version, permissions } => {
            let (aud, scope) = match asker {
                Asker::Server(server) => {
                    (Some(server.resource.to_string()), scope_string(&permissions, &server.scopes))
                }
                Asker::Holder(_) => (None, permissions.to_scope()),
            };
            IntrospectionResponse {
                active: true,
                iss,
                sub: Some(key.agent.to_string()),
                client_id: Some(key.id.to_string()),
                aud,
                scope: Some(scope),
                permissions: Some(permissions.iter().map(ToString::to_string).collect()),
                exp: Some(version.expires.seconds()),
                iat: Some(version.created.seconds()),
                jti: None,
                token_type,
                agent_id: Some(key.agent.to_string()),
                environment: Some(key.environment.as_str().to_owned()),
                key_id: Some(key.id.to_string()),
                act: None,
            }
        }
        Active::Session { claims, permissions, server } => IntrospectionResponse {
            active: true,
            iss,
            sub: Some(claims.sub),
            client_id: Some(claims.client_id),
            aud: Some(server.resource.to_string()),
            scope: Some(scope_string(&permissions, &server.scopes)),
            permissions: Some(permissions.iter().map(ToString::to_string).collect()),
            exp: Some(claims.exp),
            iat: Some(claims.iat),
            jti: Some(claims.jti.to_string()),
            token_type,
            agent_id: Some(claims.agent_id.to_string()),
            environment: Some(claims.environment.as_str().to_owned()),
            key_id: Some(claims.key_id.to_string()),
            act: claims.act,
        },
    }
}
