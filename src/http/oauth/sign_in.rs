//! `/oauth/sign-in/{flow}`: with which provider, once the person has agreed; and the way there.
//!
//! The ways are links, not buttons: what a link leads to may redirect to another origin, a form's answer may not.

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use url::Url;

use super::authorize::consent::{ours, still_there};
use super::authorize::{End, START_ANEW, Visit, stage, visit};
use super::form::Received;
use crate::app::{App, AppState};
use crate::audit::Entry;
use crate::authorizations::{self, Purpose, Request, Waiting};
use crate::http::extract::{Id, Ids};
use crate::http::pages::{page, see_other, views};
use crate::providers::{self, Provider, ProviderKind, SignInWish, UpstreamError};
use crate::types::id::FlowId;

/// The ways to sign in; with one only, the page goes on by itself.
#[utoipa::path(get, path = "/oauth/sign-in/{flow}", operation_id = "choose_provider", tag = "oauth",
    params(("flow" = String, Path, description = "The flow.", pattern = "^flw_[0-9a-f]{32}$")),
    responses((status = 200, description = "The page.", content_type = "text/html", body = String),
              (status = 303, description = "The person has not agreed yet: to the page that asks; or nobody can sign in any more: to the client.", headers(("Location" = String))),
              (status = 400, description = "A page: nothing waits here in this browser.", content_type = "text/html", body = String),
              (status = 404, description = "No id of a flow.", content_type = "application/problem+json", body = crate::http::problem::Problem),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String, headers(("Retry-After" = u64))),
              (status = 502, description = "A page that says that the client's metadata cannot be had.", content_type = "text/html", body = String),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String, headers(("Retry-After" = u64)))))]
pub async fn get(State(app): AppState, Id(flow): Id<FlowId>, request: HttpRequest) -> Response {
    let visit = visit(app, request);
    match choose(&visit, flow.as_str()).await {
        Ok(response) => response,
        Err(end) => end.of(flow.as_str()).answer(&visit).await,
    }
}

async fn choose(visit: &Visit, flow: &str) -> Result<Response, End> {
    let mut conn = visit.connection().await?;
    let waiting = visit.waiting(&mut conn, flow).await?;
    if !waiting.request.agreed {
        return Ok(see_other(&format!("/oauth/authorize/{flow}")));
    }
    let offered = providers::offered(&mut conn).await?;
    drop(conn);
    // For a page of our own no client takes part.
    let name = match waiting.request.purpose {
        Purpose::OwnPage => None,
        Purpose::Client | Purpose::Device(_) => {
            let client = still_there(visit, &waiting.request).await?;
            Some(client.metadata.client_name.clone().unwrap_or_else(|| "the application".to_owned()))
        }
    };
    let open = offered.into_iter().filter(|provider| visit.app.upstream.offers(provider));
    let ways: Vec<_> = open.map(|provider| (way(flow, &provider), provider.title)).collect();
    let only = match ways.as_slice() {
        [] => {
            let words = "nobody can sign in here any more";
            return Err(End::client(stage::PROVIDER, "temporarily_unavailable", words, &waiting.request));
        }
        [(href, _)] => HeaderValue::from_str(&format!("0; url={href}")).ok(),
        _ => None,
    };
    let mut response = page(StatusCode::OK, &views::SignIn { flow: flow.to_owned(), name, providers: ways }, None);
    if let Some(only) = only {
        response.headers_mut().insert(header::REFRESH, only);
    }
    Ok(response)
}

/// Names of providers need no escaping: they are `a-z`, `0-9` and `-`.
fn way(flow: &str, provider: &Provider) -> String {
    format!("/oauth/sign-in/{flow}/{}", provider.name)
}

/// The way to one provider. What comes back will belong to this browser, this flow and this client.
#[utoipa::path(get, path = "/oauth/sign-in/{flow}/{provider}", operation_id = "go_to_provider", tag = "oauth",
    params(("flow" = String, Path, description = "The flow.", pattern = "^flw_[0-9a-f]{32}$"),
           ("provider" = String, Path, description = "The provider's name.")),
    responses((status = 200, description = "The page of the demo provider.", content_type = "text/html", body = String),
              (status = 303, description = "To the provider; or, if it cannot be asked, to the client with an error.", headers(("Location" = String))),
              (status = 400, description = "A page: nothing waits here in this browser, or there is no such way.", content_type = "text/html", body = String),
              (status = 404, description = "No id of a flow.", content_type = "application/problem+json", body = crate::http::problem::Problem),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String, headers(("Retry-After" = u64))),
              (status = 502, description = "A page that says that the client's metadata cannot be had.", content_type = "text/html", body = String),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String, headers(("Retry-After" = u64)))))]
pub async fn go(State(app): AppState, Ids(flow, name): Ids<FlowId, String>, request: HttpRequest) -> Response {
    let visit = visit(app, request);
    match leave(&visit, flow.as_str(), &name, false).await {
        Ok(response) => response,
        Err(end) => end.of(flow.as_str()).answer(&visit).await,
    }
}

/// The demo user signs in.
#[utoipa::path(post, path = "/oauth/sign-in/{flow}/{provider}", operation_id = "sign_in_as_demo", tag = "oauth",
    params(("flow" = String, Path, description = "The flow.", pattern = "^flw_[0-9a-f]{32}$"),
           ("provider" = String, Path, description = "The demo provider's name.")),
    responses((status = 303, description = "On, as from any provider.", headers(("Location" = String))),
              (status = 400, description = "A page: nothing waits here in this browser, or there is no such way.", content_type = "text/html", body = String),
              (status = 403, description = "A page: the answer did not come from ours.", content_type = "text/html", body = String),
              (status = 413, description = "The body is too large.", body = super::OAuthWire),
              (status = 415, description = "The body is not a form.", body = super::OAuthWire),
              (status = 404, description = "No id of a flow.", content_type = "application/problem+json", body = crate::http::problem::Problem),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String, headers(("Retry-After" = u64))),
              (status = 502, description = "A page that says that the client's metadata cannot be had.", content_type = "text/html", body = String),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String, headers(("Retry-After" = u64)))))]
pub async fn post(State(app): AppState, Ids(flow, name): Ids<FlowId, String>, received: Received) -> Response {
    let visit = Visit::new(app, received.headers.clone(), received.origin);
    let left = match ours(&visit) {
        Ok(()) => leave(&visit, flow.as_str(), &name, true).await,
        Err(end) => Err(end),
    };
    match left {
        Ok(response) => response,
        Err(end) => end.of(flow.as_str()).answer(&visit).await,
    }
}

/// `pressed`: the button of the demo's page was.
async fn leave(visit: &Visit, flow: &str, name: &str, pressed: bool) -> Result<Response, End> {
    let app = &*visit.app;
    let mut conn = visit.connection().await?;
    let waiting = visit.waiting(&mut conn, flow).await?;
    if !waiting.request.agreed {
        // Nothing goes to a provider before the person agreed (A19).
        return Ok(see_other(&format!("/oauth/authorize/{flow}")));
    }
    let provider = providers::offered(&mut conn).await?.into_iter().find(|provider| provider.name == name);
    let provider = provider.filter(|provider| app.upstream.offers(provider));
    drop(conn);
    let is_demo = provider.as_ref().is_some_and(|provider| provider.kind == ProviderKind::Demo);
    let Some(provider) = provider.filter(|_| is_demo || !pressed) else {
        let detail = "Nobody can sign in this way now.";
        return Err(
            End::page(stage::PROVIDER, "provider_unknown", "This sign-in cannot go on", detail).help(START_ANEW)
        );
    };
    if is_demo && !pressed {
        let (action, title) = (way(flow, &provider), provider.title);
        let view = views::Demo { flow: flow.to_owned(), action, title };
        return Ok(page(StatusCode::OK, &view, waiting.request.leads_to()));
    }
    if waiting.request.purpose != Purpose::OwnPage {
        still_there(visit, &waiting.request).await?;
    }
    depart(visit, &waiting, &provider).await
}

/// Asks the provider: what it must send back is random, good once and for ten minutes, and made only now (A20).
async fn depart(visit: &Visit, waiting: &Waiting, provider: &Provider) -> Result<Response, End> {
    let app = &*visit.app;
    let wish = wish(&waiting.request);
    let begun = app.upstream.begin(provider, &callback(app, provider)?, &wish).await;
    let begun = begun.map_err(|error| not_signed_in(visit, (stage::PROVIDER, provider), error, &waiting.request))?;
    let secret_key = app.feed.secret_key();
    let asked = (provider.id, begun.state.reveal().as_str(), &begun.remember);
    let mut conn = visit.connection().await?;
    authorizations::depart(&mut conn, app.sealing(&secret_key), waiting, asked).await?;
    visit.passed(&mut conn, &waiting.flow_id, stage::PROVIDER).await;
    Ok(see_other(begun.url.as_str()))
}

fn wish(request: &Request) -> SignInWish {
    // A person who has to prove itself again must not be waved through by the provider's own cookie.
    let again = request.prompt.login || request.max_age.is_some();
    let choose = request.prompt.select_account || request.other_account;
    SignInWish { again, choose, login_hint: request.login_hint.clone() }
}

/// Where a provider sends people back to: an address of its own, so that no answer is taken for another's (RFC 9700 §4.4).
pub(super) fn callback(app: &App, provider: &Provider) -> Result<Url, End> {
    let text = format!("{}/callback/{}", app.config.public_url.issuer(), provider.name);
    let malformed =
        |_| End::page(stage::PROVIDER, "internal", "This does not work now", "An address here is malformed.");
    Url::parse(&text).map_err(malformed)
}

/// A provider said no, or nothing that counts: the client is told, in OAuth's words, and the audit in ours.
pub(super) fn not_signed_in(
    visit: &Visit,
    (stage, provider): (&'static str, &Provider),
    error: UpstreamError,
    request: &Request,
) -> End {
    let app = &*visit.app;
    app.metrics.failed_authentication("person");
    let entry = Entry::new(&visit.by, "user.refused").on(provider.id.as_str()).refused(error.as_str());
    if !app.recorder.record(entry.with("client_id", request.client_id.as_str())) {
        app.metrics.audit_write_failure();
    }
    let told = match error {
        UpstreamError::Denied(_) => "access_denied",
        UpstreamError::Away(_) => "temporarily_unavailable",
        UpstreamError::Untrusted(_) | UpstreamError::Misconfigured(_) => "server_error",
    };
    End::client(stage, told, error.to_string(), request)
}
