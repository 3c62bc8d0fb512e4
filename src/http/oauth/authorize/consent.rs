//! `/oauth/authorize/{flow}`: the page that asks the person, and its answer (A20).

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use url::{Host, Url};
use utoipa::ToSchema;

use super::{End, Grant, START_ANEW, Visit, Who, is_anybodys, resolve, stage};
use crate::app::AppState;
use crate::authorizations::{self, Purpose, Request, Waiting, devices};
use crate::clients::metadata::GrantType;
use crate::clients::{Application, ClientKind};
use crate::http::extract::Id;
use crate::http::oauth::form::Received;
use crate::http::pages::views::{self, Target};
use crate::http::pages::{page, same_origin, see_other, words};
use crate::servers;
use crate::types::caller::Caller;
use crate::types::id::FlowId;
use crate::users::Login;

/// What the person says.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "only described: the form is read by hand")]
pub struct Decision {
    /// `approve`, `deny`, or `other`: to sign in as somebody else.
    decision: String,
}

/// The page that asks.
#[utoipa::path(get, path = "/oauth/authorize/{flow}", operation_id = "ask_consent", tag = "oauth",
    params(("flow" = String, Path, description = "The flow.", pattern = "^flw_[0-9a-f]{32}$")),
    responses((status = 200, description = "The page.", content_type = "text/html", body = String),
              (status = 303, description = "The person agreed already: to the sign-in.", headers(("Location" = String))),
              (status = 400, description = "A page: nothing waits here in this browser.", content_type = "text/html", body = String),
              (status = 404, description = "No id of a flow.", content_type = "application/problem+json", body = crate::http::problem::Problem),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String, headers(("Retry-After" = u64))),
              (status = 502, description = "A page that says that the client's metadata cannot be had.", content_type = "text/html", body = String),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String, headers(("Retry-After" = u64)))))]
pub async fn get(State(app): AppState, Id(flow): Id<FlowId>, request: HttpRequest) -> Response {
    let visit = super::visit(app, request);
    match ask(&visit, flow.as_str()).await {
        Ok(response) => response,
        Err(end) => end.of(flow.as_str()).answer(&visit).await,
    }
}

async fn ask(visit: &Visit, flow: &str) -> Result<Response, End> {
    let mut conn = visit.connection().await?;
    let waiting = visit.waiting(&mut conn, flow).await?;
    if waiting.request.agreed {
        return Ok(see_other(&format!("/oauth/sign-in/{flow}")));
    }
    let login = usable(visit.login(&mut conn).await?, &waiting.request);
    let request = &waiting.request;
    let gone = || End::client(stage::CONSENT, "invalid_target", "the server is gone", request);
    let server = request.server_id.ok_or_else(gone)?;
    let server = servers::get(&mut conn, &Caller::machine(), server.as_str()).await;
    drop(conn);
    let server = server.map_err(|_| gone())?;
    let client = still_there(visit, request).await?;
    let named: Vec<_> =
        server.scopes.iter().filter(|scope| request.scopes.iter().any(|name| name == scope.name())).collect();
    let view = views::Consent {
        flow: flow.to_owned(),
        name: client.metadata.client_name.clone().unwrap_or_else(|| "An application without a name".to_owned()),
        client_host: (client.kind == ClientKind::Document).then(|| host(&client.client_id)),
        registered: client.kind == ClientKind::Registered,
        target: match &request.purpose {
            Purpose::Device(code) => Target::Device(code.clone()),
            Purpose::Client | Purpose::OwnPage => target(&request.redirect_uri),
        },
        asked: request.asked.as_ref().map(|asked| words::lines(asked, &named)),
        server: server.name,
        resource: server.resource,
        offline: request.offline,
        account: login.map(|login| (login.name, login.provider)),
    };
    Ok(page(StatusCode::OK, &view, request.leads_to()))
}

/// The person's answer. It must come from our own page, in the browser that the flow belongs to.
#[utoipa::path(post, path = "/oauth/authorize/{flow}", operation_id = "give_consent", tag = "oauth",
    params(("flow" = String, Path, description = "The flow.", pattern = "^flw_[0-9a-f]{32}$")),
    request_body(content = Decision, content_type = "application/x-www-form-urlencoded"),
    responses((status = 303, description = "To the sign-in; to the client with a code, where the person is signed in; to the client with `access_denied`.", headers(("Location" = String))),
              (status = 400, description = "A page: nothing waits here in this browser.", content_type = "text/html", body = String),
              (status = 403, description = "A page: the answer did not come from ours.", content_type = "text/html", body = String),
              (status = 404, description = "No id of a flow.", content_type = "application/problem+json", body = crate::http::problem::Problem),
              (status = 413, description = "The body is too large.", body = crate::http::oauth::OAuthWire),
              (status = 415, description = "The body is not a form.", body = crate::http::oauth::OAuthWire),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String, headers(("Retry-After" = u64))),
              (status = 502, description = "A page that says that the client's metadata cannot be had.", content_type = "text/html", body = String),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String, headers(("Retry-After" = u64)))))]
pub async fn post(State(app): AppState, Id(flow): Id<FlowId>, received: Received) -> Response {
    let visit = Visit::new(app, received.headers.clone(), received.origin);
    match answered(&visit, flow.as_str(), &received).await {
        Ok(response) => response,
        Err(end) => end.of(flow.as_str()).answer(&visit).await,
    }
}

async fn answered(visit: &Visit, flow: &str, received: &Received) -> Result<Response, End> {
    ours(visit)?;
    let mut conn = visit.connection().await?;
    let waiting = visit.waiting(&mut conn, flow).await?;
    if waiting.request.purpose == Purpose::OwnPage {
        // No client takes part, so there is nothing to agree to.
        return Ok(see_other(&format!("/oauth/sign-in/{flow}")));
    }
    let login = usable(visit.login(&mut conn).await?, &waiting.request);
    let form = received.form().ok();
    match form.as_ref().and_then(|form| form.get("decision")) {
        Some("approve") => {
            drop(conn);
            approved(visit, waiting, login).await
        }
        Some("other") => {
            let request = Request { other_account: true, ..waiting.request };
            authorizations::answered(&mut conn, &Waiting { request, ..waiting }).await?;
            Ok(see_other(&format!("/oauth/authorize/{flow}")))
        }
        Some("deny") => {
            once(authorizations::end(&mut conn, flow).await?)?;
            if matches!(waiting.request.purpose, Purpose::Device(_)) {
                devices::deny(&mut conn, flow).await?;
            }
            Err(End::client(stage::CONSENT, "access_denied", "the person said no", &waiting.request))
        }
        _ => Err(End::page(stage::CONSENT, "no_decision", "Nothing was decided", "Neither button was pressed.")),
    }
}

/// Signed in already, a code at once; else to a page of our own, because a form's answer may not lead to a provider.
async fn approved(visit: &Visit, waiting: Waiting, login: Option<Login>) -> Result<Response, End> {
    let client = still_there(visit, &waiting.request).await?;
    let mut conn = visit.connection().await?;
    let Some(login) = login else {
        let waiting = Waiting { request: Request { agreed: true, ..waiting.request }, ..waiting };
        authorizations::answered(&mut conn, &waiting).await?;
        visit.passed(&mut conn, &waiting.flow_id, stage::CONSENT).await;
        return Ok(see_other(&format!("/oauth/sign-in/{}", waiting.flow_id)));
    };
    once(authorizations::end(&mut conn, &waiting.flow_id).await?)?;
    drop(conn);
    let grant = Grant { visit, flow: &waiting.flow_id, request: &waiting.request, client: &client };
    grant.agreed(Who::Known(login.user_id)).await
}

/// The client as it is now: it may have been switched off, or have given up the redirect URI or the grant, while the person
/// thought.
pub(in crate::http::oauth) async fn still_there(visit: &Visit, request: &Request) -> Result<Application, End> {
    let client = resolve(visit, &request.client_id).await?;
    let still = match request.purpose {
        Purpose::Device(_) => client.metadata.grant_types.contains(&GrantType::DeviceCode),
        Purpose::Client | Purpose::OwnPage => client.metadata.has_redirect_uri(&request.redirect_uri),
    };
    if client.disabled || !still {
        let detail = "The application was switched off, or changed where it wants you to return to.";
        return Err(End::page(stage::CONSENT, "client_changed", "This sign-in cannot go on", detail));
    }
    Ok(client)
}

/// Refuses what did not come from a page of ours (A20).
pub(in crate::http::oauth) fn ours(visit: &Visit) -> Result<(), End> {
    if same_origin::is_ours(&visit.app, &visit.headers) {
        return Ok(());
    }
    let detail = "The answer did not come from this authority's own page.";
    let end = End::page(stage::CONSENT, "cross_site", "This was not accepted", detail);
    Err(end.status(StatusCode::FORBIDDEN).help(START_ANEW))
}

/// A request is answered once, however often a button is pressed.
fn once(first: bool) -> Result<(), End> {
    let over = || End::page(stage::CONSENT, "not_waiting", "This sign-in is over", "It was answered already.");
    if first { Ok(()) } else { Err(over().help(START_ANEW)) }
}

/// Who is signed in, where the request and the person are content with that.
fn usable(login: Option<Login>, request: &Request) -> Option<Login> {
    let anew = request.other_account || request.prompt.login || request.prompt.select_account;
    login.filter(|login| !anew && request.max_age.is_none_or(|age| login.proved_seconds <= age))
}

/// Where a redirect URI leads, as people can judge it.
pub(super) fn target(redirect_uri: &str) -> Target {
    let host = host(redirect_uri);
    match Url::parse(redirect_uri) {
        Ok(url) if !matches!(url.scheme(), "https" | "http") => Target::Scheme(url.scheme().to_owned()),
        _ if is_anybodys(redirect_uri) => Target::ThisMachine(host),
        _ => Target::Host(host),
    }
}

/// The host, with its port where it is not the usual one. Names in other scripts stand there in their ASCII form, so that no
/// two look the same.
pub(in crate::http::oauth) fn host(uri: &str) -> String {
    let Ok(url) = Url::parse(uri) else { return uri.to_owned() };
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => format!("[{address}]"),
        None => return url.scheme().to_owned(),
    };
    url.port().map_or(host.clone(), |port| format!("{host}:{port}"))
}
