//! `/oauth/authorize`: where a client sends a person's browser (RFC 6749 §4.1.1, OAuth 2.1).
//!
//! The order is what protects people (A19, A20): the request is checked; the person is asked, for this client, and agrees;
//! only then is anything asked of an identity provider; only then is a code made. decisions/0021 says why.

mod check;
pub mod consent;
mod grant;
mod visit;

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use utoipa::IntoParams;

use crate::app::{App, AppState};
use crate::authorizations::{self, REFERENCE_PREFIX, Request, Waiting};
use crate::clients::{Application, redirect};
use crate::http::caller::Origin;
use crate::http::oauth::form::{Form, Received};
use crate::http::pages::cookies::Cookie;
use crate::http::pages::see_other;
use crate::providers;
use crate::types::id::{FlowId, ServerId};
use crate::types::opaque;
use crate::users;

pub(super) use check::{for_device, redirect_uri, resolve, rest, server, wish};
pub(super) use grant::{Grant, Who};
pub(super) use visit::{End, START_ANEW, Visit, stage};

/// What a client may ask with. Unknown parameters are ignored, doubled ones refused.
#[derive(serde::Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "only described: the query is read by hand, because nothing is told to anybody before the client is known"
)]
pub struct AuthorizationRequest {
    /// The client's id, or the address of its metadata document.
    client_id: String,
    /// `code`.
    response_type: Option<String>,
    /// One of the client's own.
    redirect_uri: Option<String>,
    /// Comes back as it is; at most 4,096 bytes.
    state: Option<String>,
    /// Base64url of SHA-256 of the verifier (RFC 7636). Required of every client.
    code_challenge: Option<String>,
    /// `S256`.
    code_challenge_method: Option<String>,
    /// The thumbprint of the key that the code is to be bound to (RFC 9449 §10).
    dpop_jkt: Option<String>,
    /// The server's resource URI (RFC 8707); may be left out while there is only one server.
    resource: Option<String>,
    /// Permissions, the server's scopes, and `offline_access`; all of the server's scopes when left out.
    scope: Option<String>,
    /// `none`, or one or more of `login`, `consent` and `select_account`.
    prompt: Option<String>,
    /// Seconds since the person last proved who it is, at most.
    max_age: Option<i64>,
    /// Who it probably is.
    login_hint: Option<String>,
    /// A reference from `/oauth/par`; then only `client_id` stands beside it.
    request_uri: Option<String>,
}

/// Begins a sign-in: sends the browser to the page that asks the person, or straight back to the client.
#[utoipa::path(get, path = "/oauth/authorize", operation_id = "authorize", tag = "oauth", params(AuthorizationRequest),
    responses((status = 303, description = "To the page that asks the person, or to the client's redirect URI with a `code` or an `error`, and with `state` and `iss`.",
                 headers(("Location" = String))),
              (status = 400, description = "A page that says what is wrong: the client or its redirect URI, or that nobody can sign in here; or anything else, of a client that no operator registered, with a link to it.", content_type = "text/html", body = String),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String, headers(("Retry-After" = u64))),
              (status = 502, description = "A page that says that the client's metadata cannot be had.", content_type = "text/html", body = String),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String, headers(("Retry-After" = u64)))))]
pub async fn get(State(app): AppState, request: HttpRequest) -> Response {
    let (parts, _) = request.into_parts();
    let received = Received::asked(parts.headers, Origin::of(&parts.extensions), parts.uri.query().unwrap_or_default());
    Box::pin(begun(app, received, Via::Query)).await
}

/// Begins a sign-in with a form (RFC 6749 §3.1): sends the browser on to do the same with GET, where its cookies arrive.
#[utoipa::path(post, path = "/oauth/authorize", operation_id = "authorize_by_form", tag = "oauth",
    request_body(content_type = "application/x-www-form-urlencoded", description = "The parameters of `GET /oauth/authorize`.", content = Object),
    responses((status = 303, description = "To the same with GET.", headers(("Location" = String))),
              (status = 400, description = "A page that says what is wrong.", content_type = "text/html", body = String),
              (status = 413, description = "The body is too large.", body = super::OAuthWire),
              (status = 415, description = "The body is not a form.", body = super::OAuthWire),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String, headers(("Retry-After" = u64))),
              (status = 502, description = "A page that says that the client's metadata cannot be had.", content_type = "text/html", body = String),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String, headers(("Retry-After" = u64)))))]
pub async fn post(State(app): AppState, received: Received) -> Response {
    Box::pin(begun(app, received, Via::Form)).await
}

/// How the parameters came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Via {
    Query,
    Form,
}

async fn begun(app: Arc<App>, received: Received, via: Via) -> Response {
    let visit = Visit::new(app, received.headers.clone(), received.origin);
    match begin(&visit, &received, via).await {
        Ok(response) => response,
        Err(end) => {
            let form = received.form().ok().filter(|_| received.len() <= check::PARAMETERS_BYTES_MAX);
            let named = form.as_ref().and_then(|form| form.get("client_id")).unwrap_or_default();
            end.told_in_a_flow(named).answer(&visit).await
        }
    }
}

async fn begin(visit: &Visit, received: &Received, via: Via) -> Result<Response, End> {
    let app = &*visit.app;
    if !providers::offered(&mut *visit.connection().await?).await?.iter().any(|one| app.upstream.offers(one)) {
        let detail = "People cannot sign in here. This authority issues tokens to agents with an API key.";
        let help = "If a program sent you here, give it an API key instead: its administrator can issue one.";
        return Err(End::page(stage::REQUEST, "no_sign_in", "No sign-in is configured", detail).help(help));
    }
    if let Err(wait) = app.strangers.sign_in(visit.by.address) {
        return Err(End::wait(wait.as_secs() + 1));
    }
    if received.len() > check::PARAMETERS_BYTES_MAX {
        return Err(unread("the request is too long"));
    }
    let form = received.form().map_err(|_| unread("the request has too many parameters"))?;
    if via == Via::Query && form.get("request_uri").is_some_and(|uri| uri.starts_with(REFERENCE_PREFIX)) {
        return pulled(visit, &form).await;
    }
    let flow = FlowId::random().to_string();
    let named = form.get("client_id").unwrap_or_default();
    let checked = checked(visit, &form).await;
    let (client, request) = checked.map_err(|end| end.opening(&flow, named))?;
    let mut conn = visit.connection().await?;
    let server = request.server_id.as_ref().map(ServerId::as_str);
    authorizations::open(&mut conn, &flow, &client.client_id, server).await?;
    visit.passed(&mut conn, &flow, stage::REQUEST).await;
    match via {
        Via::Query => {
            drop(conn);
            decide(visit, &flow, &client, request).await.map_err(|end| end.of(&flow))
        }
        Via::Form => {
            // The browser sent no cookies with another site's form, and its address line shall not hold what the form did.
            let reference = authorizations::push(&mut conn, &flow, &pairs(&form, &client)).await?;
            let query = [("client_id", client.client_id.as_str()), ("request_uri", reference.reveal().as_str())];
            Ok(see_other(&format!("/oauth/authorize?{}", encoded(query))))
        }
    }
}

/// Goes on with a request that the client pushed (RFC 9126 §4). It is checked as if it came now.
async fn pulled(visit: &Visit, by_reference: &Form<'_>) -> Result<Response, End> {
    let client_id = by_reference.get("client_id").unwrap_or_default();
    let reference = by_reference.get("request_uri").unwrap_or_default();
    let once = !by_reference.is_doubled("client_id") && !by_reference.is_doubled("request_uri");
    let found =
        if once { authorizations::pull(&mut *visit.connection().await?, reference, client_id).await? } else { None };
    let Some((flow, parameters)) = found else {
        let detail = "The reference to the request is used, over, or another application's.";
        let end = End::page(stage::REQUEST, "request_uri_unknown", "This sign-in cannot go on", detail);
        return Err(end.help(START_ANEW).opening(FlowId::random().as_str(), client_id));
    };
    let query = encoded(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let received = Received::asked(visit.headers.clone(), by_reference.origin, &query);
    let form = received.form().map_err(|_| unread("the request has too many parameters").of(&flow))?;
    let checked = if form.get("client_id") == Some(client_id) {
        checked(visit, &form).await
    } else {
        Err(unread("the reference is another application's"))
    };
    let (client, request) = checked.map_err(|end| end.of(&flow))?;
    decide(visit, &flow, &client, request).await.map_err(|end| end.of(&flow))
}

async fn checked(visit: &Visit, form: &Form<'_>) -> Result<(Application, Request), End> {
    let client = check::client(visit, form).await?;
    let redirect_uri = check::redirect_uri(form, &client)?;
    match rest(&visit.app, form, &client, redirect_uri.clone())? {
        Ok(request) => Ok((client, request)),
        Err((mistake, state)) => {
            let end = End::redirect(stage::REQUEST, (mistake.error, mistake.description), redirect_uri, state);
            Err(end.before_the_person(&client))
        }
    }
}

/// What is pushed: the parameters with the client that is known by now.
pub(super) fn pairs(form: &Form<'_>, client: &Application) -> Vec<(String, String)> {
    // Secrets of the client's own authentication have no business in a table.
    const NOT_KEPT: [&str; 5] =
        ["client_id", "client_secret", "client_assertion", "client_assertion_type", "request_uri"];
    let kept = form.pairs().filter(|(name, _)| !NOT_KEPT.contains(name));
    let kept = kept.map(|(name, value)| (name.to_owned(), value.to_owned()));
    kept.chain([("client_id".to_owned(), client.client_id.clone())]).collect()
}

/// Whether a page must be shown although all is known: programs on the person's own machine can pass for one another, so
/// that somebody must have started this one (RFC 8252 §8.6).
fn is_anybodys(redirect_uri: &str) -> bool {
    let web = redirect_uri.starts_with("https://") || redirect_uri.starts_with("http://");
    !web || redirect::leads_to_loopback(redirect_uri)
}

/// A code at once, where the person is signed in and agreed before; else the page that asks.
async fn decide(visit: &Visit, flow: &str, client: &Application, request: Request) -> Result<Response, End> {
    let client_end = |error, words: &str| End::client(stage::REQUEST, error, words, &request).before_the_person(client);
    let prompt = request.prompt;
    let mut conn = visit.connection().await?;
    let login = if prompt.login || prompt.select_account { None } else { visit.login(&mut conn).await? };
    let login = login.filter(|login| request.max_age.is_none_or(|age| login.proved_seconds <= age));
    let agreed = match (&login, client.id, request.server_id) {
        (Some(login), Some(id), Some(server)) => {
            let user = login.user_id;
            let held = users::permissions_of(&mut conn, user, server).await?;
            let wanted = request.asked.as_ref().map_or_else(|| held.clone(), |asked| asked.intersect(&held));
            let before = users::agreed(&mut conn, user, id, server).await?;
            before
                .filter(|(_, before)| !wanted.is_empty() && before.covers_all(&wanted))
                .map(|(id, _)| (user, id, wanted))
        }
        _ => None,
    };
    drop(conn);
    let anybodys = is_anybodys(&request.redirect_uri);
    if let Some((user, consent, permissions)) = agreed.filter(|_| !prompt.consent && !anybodys) {
        let position = visit.app.db.position().await?;
        let code = Grant { visit, flow, request: &request, client };
        return code.issue((user, consent, client.id), &permissions, position).await;
    }
    if prompt.none {
        return Err(match login {
            None => client_end("login_required", "nobody is signed in"),
            Some(_) if anybodys => {
                client_end("interaction_required", "a person must look before a code goes to a program")
            }
            Some(_) => client_end("consent_required", "the person has not agreed to this yet"),
        });
    }
    hold(visit, flow, request).await
}

/// Lets the request wait in this browser, and sends it to the page that asks.
async fn hold(visit: &Visit, flow: &str, request: Request) -> Result<Response, End> {
    let app = &*visit.app;
    let browser = browser(visit);
    let waiting = Waiting { flow_id: flow.to_owned(), request };
    authorizations::hold(&mut *visit.connection().await?, &waiting, &browser).await?;
    let mut response = see_other(&format!("/oauth/authorize/{flow}"));
    Cookie::Browser.set(app, response.headers_mut(), &browser);
    Ok(response)
}

/// What the browser is known by: what it is known by already, or something new.
pub(super) fn browser(visit: &Visit) -> String {
    let known = Cookie::Browser.read(&visit.app, &visit.headers);
    known.map_or_else(|| opaque::random().reveal().clone(), str::to_owned)
}

fn encoded<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn unread(detail: &str) -> End {
    End::page(stage::REQUEST, "unreadable", "This request cannot be read", format!("Here is why: {detail}."))
}

/// The visit of a request to one of the pages.
pub(super) fn visit(app: Arc<App>, request: HttpRequest) -> Visit {
    let (parts, _) = request.into_parts();
    Visit::new(app, parts.headers, Origin::of(&parts.extensions))
}
