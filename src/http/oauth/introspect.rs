//! `POST /oauth/introspect` (RFC 7662): is this credential good, and what may it do?

use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::gate::{
    Active, Actor, Asker, Confirmation, Inactive, Position, Question, Verdict, Version, View, introspect,
};
use crate::http::oauth::OAuthRefusals;
use crate::http::oauth::client::{
    Asking, Basic, Claim, Unproven, Used, Who, authenticate_application, failed, shows_application,
};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::{Form, Received};
use crate::http::oauth::token::{BEARER, token_type};
use crate::observations::{ACTIVE, Owner, Place};
use crate::types::id::{AgentId, KeyId, SessionId};
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
    /// Whose it is: the id of an agent or of a person, or the `client_id` of a client that acts by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    /// Through what: the key's id, or the OAuth client's.
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
    /// `Bearer`; `DPoP` for a token that is bound to a key.
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
    /// What the person is called at the identity provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    /// The key that it is bound to: ask for a proof of it (RFC 9449 §6.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
}

/// What an inactive credential is answered, whatever the cause.
const INACTIVE: &[u8] = br#"{"active":false}"#;
/// Bytes that an answer is given at first: most fit.
const REPLY_BYTES: usize = 768;

/// Asks about a credential. The caller is a server, about what it was shown; the holder of a key, about that key and its
/// tokens; or an OAuth client with a credential of its own, about its tokens.
#[utoipa::path(post, path = PATH, operation_id = "introspect", tag = "oauth",
    request_body(content = IntrospectionRequest, content_type = "application/x-www-form-urlencoded"),
    security(("client" = [])),
    responses((status = 200, description = "What it is worth.", body = IntrospectionResponse), OAuthRefusals))]
pub async fn post(State(app): AppState, received: Received) -> Result<Response, OAuthError> {
    answer(&app, &received).await
}

/// The same for what stands before the router.
pub(in crate::http) async fn answer(app: &App, received: &Received) -> Result<Response, OAuthError> {
    let form = received.form()?;
    let asking = Asking::of(app, &form);
    let basic = Basic::of(form.headers);
    if shows_application(&basic, &form) {
        // Kept apart: who has no need of it does not carry its room along.
        return Box::pin(by_application(app, &form, &asking)).await;
    }
    let claim = basic.claim(&form)?.ok_or_else(|| failed(app, &asking, Inactive::Malformed, None))?;
    let token = form.checked().and_then(|()| form.need("token"));
    let shown_from = form.get("client_ip").and_then(|address| address.parse().ok());
    let asked = Asked { app, asking: &asking, claim: &claim, token, shown_from };
    let body = match asked.answer()? {
        Answer::Is(body) => body,
        Answer::Ahead(position) => {
            // A state that may never come: no answer is given then, and that is counted.
            let not_yet = || app.metrics.introspection(Inactive::NotYet.as_str());
            // Kept apart: who has no need of it does not carry its room along.
            Box::pin(app.catch_up(position)).await.inspect_err(|_| not_yet())?;
            match asked.answer()? {
                Answer::Is(body) => body,
                Answer::Ahead(_) => {
                    not_yet();
                    return Err(OAuthError::unavailable());
                }
            }
        }
    };
    Ok(response(body))
}

fn response(body: Bytes) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An OAuth client asks about its own tokens.
async fn by_application(app: &App, form: &Form<'_>, asking: &Asking) -> Result<Response, OAuthError> {
    let application = authenticate_application(app, form, asking).await?;
    let application = application.ok_or_else(|| failed(app, asking, Inactive::Malformed, None))?;
    form.checked()?;
    let token = form.need("token")?;
    let asker = Asker::Client(&application.client_id);
    let ask = || {
        app.live.answer(|view| match introspect(view, Question { token, asker, address: asking.address }) {
            Verdict::Active(active) => {
                let body = reply(&view.live.issuer, asker, &active).ok_or_else(OAuthError::unavailable);
                body.map(|body| (Answer::Is(body), ACTIVE))
            }
            Verdict::Inactive(cause, _) => Ok((Answer::Is(Bytes::from_static(INACTIVE)), cause.as_str())),
            Verdict::Ahead(position) => Ok((Answer::Ahead(position), Inactive::NotYet.as_str())),
        })?
    };
    let (mut answer, mut result) = ask()?;
    if let Answer::Ahead(position) = answer {
        app.catch_up(position).await?;
        (answer, result) = ask()?;
    }
    app.metrics.introspection(result);
    match answer {
        Answer::Is(body) => Ok(response(body)),
        Answer::Ahead(_) => Err(OAuthError::unavailable()),
    }
}

enum Answer {
    Is(Bytes),
    Ahead(Position),
}

/// A question whose caller is not known yet.
struct Asked<'a> {
    app: &'a App,
    asking: &'a Asking,
    claim: &'a Claim<'a>,
    /// What it is about. What is wrong with the form is told only to a caller who is known.
    token: Result<&'a str, OAuthError>,
    /// From where that was shown to a server that asks.
    shown_from: Option<IpAddr>,
}

/// What one look at the memory showed.
struct Told {
    caller: Used,
    place: Place,
    /// `None`: nothing was asked that could be answered.
    found: Option<Found>,
}

/// What a credential is worth, and nothing that stands in the memory.
enum Found {
    Active {
        /// The key that was shown or that a token comes from.
        of: Option<KeyId>,
        /// A token of a person that this node sees for the first time.
        first: Option<SessionId>,
        /// The version of a key's secret that was shown.
        version: Option<Version>,
        reply: Option<Bytes>,
    },
    Inactive(Inactive, Option<KeyId>),
    Ahead(Position),
}

impl Asked<'_> {
    /// One answer from memory: who asks and what about are looked up in one state, and the clock is read after both.
    /// Nothing here waits or touches the database.
    fn answer(&self) -> Result<Answer, OAuthError> {
        let app = self.app;
        let (told, at) = app.live.answer(|view| (self.tell(view), view.now))?;
        let Told { caller, place, found } = told.map_err(|unproven| unproven.refused(app, self.asking, at))?;
        let mut noting = app.observations.noting();
        noting.used(caller.owner, caller.version.number, Place { server: None, address: self.asking.address, ..place });
        if let Some(Found::Active { of: Some(of), version: Some(version), .. }) = &found {
            noting.used(Owner::Key(*of), version.number, place);
        }
        if let Some(Found::Active { first: Some(session), .. }) = &found {
            noting.shown(*session);
        }
        match &found {
            Some(Found::Active { of, .. }) => noting.answered(*of, ACTIVE, place),
            Some(Found::Inactive(cause, of)) => noting.answered(*of, cause.as_str(), place),
            Some(Found::Ahead(_)) | None => {}
        }
        drop(noting);
        app.renew(self.claim.secret(&caller), caller.owner, &caller.version);
        let token = self.token.as_ref().map_err(Clone::clone)?;
        match found {
            Some(Found::Active { of, version, reply, .. }) => {
                if let (Some(of), Some(version)) = (of, version) {
                    app.renew(token, Owner::Key(of), &version);
                }
                app.metrics.introspection(ACTIVE);
                reply.map(Answer::Is).ok_or_else(OAuthError::unavailable)
            }
            Some(Found::Inactive(cause, _)) => {
                app.metrics.introspection(cause.as_str());
                Ok(Answer::Is(Bytes::from_static(INACTIVE)))
            }
            Some(Found::Ahead(position)) => Ok(Answer::Ahead(position)),
            None => Err(OAuthError::unavailable()),
        }
    }

    fn tell(&self, view: View<'_>) -> Result<Told, Unproven> {
        let proven = self.claim.prove(view, self.asking.address)?;
        let (asker, server, address) = match proven.who {
            Who::Server(server, _) => (Asker::Server(server), Some(server.id), self.shown_from),
            Who::Key(shown) => (Asker::Holder(shown.key.id), None, self.asking.address),
        };
        let find = |token: &&str| match introspect(view, Question { token, asker, address }) {
            Verdict::Ahead(position) => Found::Ahead(position),
            Verdict::Inactive(cause, of) => Found::Inactive(cause, of),
            Verdict::Active(active) => {
                let (of, version, first) = match &active {
                    Active::Key { key, version, .. } => (Some(key.id), Some(**version), None),
                    Active::Session { token, .. } => (token.holder.key(), None, token.first_shown()),
                };
                Found::Active { of, version, first, reply: reply(&view.live.issuer, asker, &active) }
            }
        };
        let found = self.token.as_ref().ok().map(find);
        Ok(Told { caller: proven.used(), place: Place { at: view.now, server, address }, found })
    }
}

fn reply(issuer: &str, asker: Asker<'_>, active: &Active<'_>) -> Option<Bytes> {
    let iss = Some(issuer);
    let reply = match active {
        Active::Key { key, version, permissions } => {
            let (aud, scope) = match asker {
                Asker::Server(server) => (Some(&*server.resource), scope_string(permissions, &server.scopes)),
                Asker::Holder(_) | Asker::Client(_) => (None, permissions.to_scope()),
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
                token_type: Some(BEARER),
                agent_id: Some(key.agent.as_str()),
                environment: Some(key.environment.as_str()),
                key_id: Some(key.id.as_str()),
                act: None,
                username: None,
                cnf: None,
            }
        }
        Active::Session { token, permissions, server, username } => {
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
                token_type: Some(token_type(claims)),
                agent_id: claims.agent_id.as_ref().map(AgentId::as_str),
                environment: Some(claims.environment.as_str()),
                key_id: claims.key_id.as_ref().map(KeyId::as_str),
                act: claims.act.as_ref(),
                username: *username,
                cnf: claims.cnf,
            }
        }
    };
    let mut body = Vec::with_capacity(REPLY_BYTES);
    serde_json::to_writer(&mut body, &reply).ok()?;
    Some(body.into())
}
