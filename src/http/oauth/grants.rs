//! `/oauth/grants`: what a person allowed, and how it takes that back. Whoever is not signed in signs in first, by the way of
//! every authorization, without a client.

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::authorize::consent::{host, ours};
use super::authorize::{End, Visit, browser, stage, visit};
use super::form::Received;
use crate::app::{App, AppState};
use crate::authorizations::{self, Request, Waiting};
use crate::clients::ClientKind;
use crate::http::extract::Id;
use crate::http::pages::cookies::Cookie;
use crate::http::pages::views::{self, Ended, Granted};
use crate::http::pages::{page, see_other, words};
use crate::http::v1::revocations::enforce;
use crate::providers::{Person, Provider};
use crate::refusal::Code;
use crate::revocations::{Kind, New};
use crate::types::caller::Caller;
use crate::types::id::{ConsentId, FlowId};
use crate::types::permission::ServerScope;
use crate::users::{self, Allowed, Login};

/// Where it is.
const PATH: &str = "/oauth/grants";
/// What is called so that has no name.
const NAMELESS: &str = "An application without a name";

/// The page: what the person allowed, or a button to sign in.
#[utoipa::path(get, path = PATH, operation_id = "own_grants", tag = "oauth",
    responses((status = 200, description = "The page.", content_type = "text/html", body = String),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String, headers(("Retry-After" = u64)))))]
pub async fn get(State(app): AppState, request: HttpRequest) -> Response {
    let visit = visit(app, request);
    match shown(&visit, None).await {
        Ok(response) => response,
        Err(end) => end.answer(&visit).await,
    }
}

async fn shown(visit: &Visit, ended: Option<Ended>) -> Result<Response, End> {
    let mut conn = visit.connection().await?;
    let Some(login) = visit.login(&mut conn).await? else {
        return Ok(page(StatusCode::OK, &views::GrantsSignIn, None));
    };
    let (allowed, more) = users::allowed_by(&mut conn, login.user_id).await?;
    let allowed = allowed.into_iter().map(granted).collect();
    let complete = ended.as_ref().is_none_or(|ended| ended.complete);
    let view = views::Grants { account: (login.name, login.provider), ended, allowed, more };
    Ok(page(if complete { StatusCode::OK } else { StatusCode::ACCEPTED }, &view, None))
}

fn granted(allowed: Allowed) -> Granted {
    let held = |scope: &&ServerScope| allowed.permissions.covers_all(scope.permissions());
    let named: Vec<_> = allowed.scopes.iter().filter(held).collect();
    Granted {
        lines: words::lines(&allowed.permissions, &named),
        id: allowed.id.to_string(),
        name: allowed.client_name.unwrap_or_else(|| NAMELESS.to_owned()),
        client_host: (allowed.client_kind == Some(ClientKind::Document)).then(|| host(&allowed.client_id)),
        server: allowed.server,
        resource: allowed.resource,
        since: allowed.since.date().to_string(),
        used: allowed.used.map(|used| used.date().to_string()),
    }
}

/// What the person wants.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "only described: the form is read by hand")]
pub struct Session {
    /// `sign_in` or `sign_out`.
    action: String,
}

/// Begins a sign-in, or ends it in this browser.
#[utoipa::path(post, path = PATH, operation_id = "own_session", tag = "oauth",
    request_body(content = Session, content_type = "application/x-www-form-urlencoded"),
    responses((status = 303, description = "To the ways to sign in; or, signed out, to the page.", headers(("Location" = String))),
              (status = 400, description = "A page: neither was asked for.", content_type = "text/html", body = String),
              (status = 403, description = "A page: the form did not come from ours.", content_type = "text/html", body = String),
              (status = 413, description = "The body is too large.", body = super::OAuthWire),
              (status = 415, description = "The body is not a form.", body = super::OAuthWire),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String, headers(("Retry-After" = u64))),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String, headers(("Retry-After" = u64)))))]
pub async fn post(State(app): AppState, received: Received) -> Response {
    let visit = Visit::new(app, received.headers.clone(), received.origin);
    match session(&visit, &received).await {
        Ok(response) => response,
        Err(end) => end.answer(&visit).await,
    }
}

async fn session(visit: &Visit, received: &Received) -> Result<Response, End> {
    ours(visit)?;
    let form = received.form().ok();
    match form.as_ref().and_then(|form| form.get("action")) {
        Some("sign_in") => sign_in(visit).await,
        Some("sign_out") => sign_out(visit).await,
        _ => Err(End::page(stage::REQUEST, "no_decision", "Nothing was decided", "Neither button was pressed.")),
    }
}

/// Opens a flow for which no client asked, in this browser. Only our own page begins one, so nobody is signed in by another's link.
async fn sign_in(visit: &Visit) -> Result<Response, End> {
    let app = &*visit.app;
    if let Err(wait) = app.strangers.sign_in(visit.by.address) {
        return Err(End::wait(wait.as_secs() + 1));
    }
    let request = Request::own_page(&app.config.public_url.issuer());
    let (cookie, waiting) = (browser(visit), Waiting { flow_id: FlowId::random().to_string(), request });
    let mut tx = app.db.begin().await?;
    authorizations::open(&mut tx, &waiting.flow_id, &waiting.request.client_id, None).await?;
    authorizations::step(&mut tx, &waiting.flow_id, stage::REQUEST, None).await?;
    authorizations::hold(&mut tx, &waiting, &cookie).await?;
    crate::db::commit(tx).await?;
    let mut response = see_other(&format!("/oauth/sign-in/{}", waiting.flow_id));
    Cookie::Browser.set(app, response.headers_mut(), &cookie);
    Ok(response)
}

async fn sign_out(visit: &Visit) -> Result<Response, End> {
    let app = &*visit.app;
    if let Some(cookie) = Cookie::Login.read(app, &visit.headers) {
        let mut tx = app.db.begin().await?;
        users::sign_out(&mut tx, &visit.by, cookie).await?;
        app.db.commit_change(tx).await?;
    }
    let mut response = see_other(PATH);
    Cookie::Login.remove(app, response.headers_mut());
    Ok(response)
}

/// A provider has vouched for somebody who wants to see what it allowed: it is signed in, and back on that page.
pub(super) async fn signed_in(
    visit: &Visit,
    flow: &str,
    provider: &Provider,
    person: &Person,
) -> Result<Response, End> {
    let app = &*visit.app;
    let secret_key = app.feed.secret_key();
    let mut tx = app.db.begin().await?;
    let signed_in = users::sign_in(&mut tx, &visit.by, app.sealing(&secret_key), provider.id, person).await;
    let signed_in = signed_in.map_err(|refused| match refused.code {
        Code::Unauthenticated => {
            let end = End::page(stage::SIGN_IN, "access_denied", "You cannot sign in here", refused.detail);
            end.help("Your administrator can tell you why.")
        }
        _ => End::failed(refused),
    })?;
    if let Some(before) = Cookie::Login.read(app, &visit.headers) {
        users::log_out(&mut tx, before).await?;
    }
    let cookie = users::log_in(&mut tx, signed_in.id, person.sid.as_deref()).await?;
    authorizations::of_user(&mut tx, flow, signed_in.id.as_str()).await?;
    authorizations::step(&mut tx, flow, stage::SIGN_IN, None).await?;
    let done = app.db.commit(tx).await?;
    if signed_in.narrowed {
        app.feed.enforced(done).await;
    }
    let mut response = see_other(PATH);
    Cookie::Login.set(app, response.headers_mut(), cookie.reveal());
    Ok(response)
}

/// Takes back what the person allowed an application on a server. When the page says so, no node takes what came of it.
#[utoipa::path(post, path = "/oauth/grants/{id}", operation_id = "take_back_grant", tag = "oauth",
    params(("id" = String, Path, description = "What was allowed.", pattern = "^grt_[0-9a-f]{32}$")),
    responses((status = 200, description = "The page, which says that it is over.", content_type = "text/html", body = String),
              (status = 202, description = "The page, which says that it is not yet proved to hold on every node.", content_type = "text/html", body = String),
              (status = 303, description = "Nobody is signed in: to the page.", headers(("Location" = String))),
              (status = 403, description = "A page: the form did not come from ours.", content_type = "text/html", body = String),
              (status = 404, description = "A page: it is over already. Or no id of anything allowed.", content((String = "text/html"), (crate::http::problem::Problem = "application/problem+json"))),
              (status = 413, description = "The body is too large.", body = super::OAuthWire),
              (status = 415, description = "The body is not a form.", body = super::OAuthWire),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String, headers(("Retry-After" = u64))),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String, headers(("Retry-After" = u64)))))]
pub async fn take_back(State(app): AppState, Id(id): Id<ConsentId>, received: Received) -> Response {
    let visit = Visit::new(app, received.headers.clone(), received.origin);
    match taken_back(&visit, id).await {
        Ok(response) => response,
        Err(end) => end.answer(&visit).await,
    }
}

async fn taken_back(visit: &Visit, id: ConsentId) -> Result<Response, End> {
    ours(visit)?;
    let mut conn = visit.connection().await?;
    let Some(login) = visit.login(&mut conn).await? else { return Ok(see_other(PATH)) };
    let allowed = users::allowed_one(&mut conn, login.user_id, id).await?;
    drop(conn);
    let Some(allowed) = allowed else {
        let end = End::page(stage::CONSENT, "not_found", "There is nothing to take back", "It is over already.");
        return Err(end.status(StatusCode::NOT_FOUND).help("What you allow now is listed on the page before."));
    };
    let complete = end(&visit.app, visit, &login, &allowed).await?;
    let name = allowed.client_name.unwrap_or_else(|| NAMELESS.to_owned());
    shown(visit, Some(Ended { name, server: allowed.server, complete })).await
}

/// Revokes, and waits for every node. False: it is done, and not proved to hold everywhere.
async fn end(app: &App, visit: &Visit, login: &Login, allowed: &Allowed) -> Result<bool, End> {
    let by = Caller { actor: login.user_id.to_string(), ..visit.by.clone() };
    let reason = Some("taken back by the person".to_owned());
    let new = New { reason, ..New::of(Kind::Grant, allowed.id.as_str(), &allowed.project) };
    let revoked = app.revoker.revoke(&by, new).await?;
    Ok(enforce(app, Kind::Grant, revoked.done).await.complete)
}
