//! `/claims/{token}`: the page on which a person fetches a key's new secret, once. Looking at it changes nothing, because programs that
//! show messages look at every address in them; the button on it does.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::app::{App, AppState};
use crate::http::caller::Origin;
use crate::http::pages::{page, same_origin, views};
use crate::http::problem::status;
use crate::keys::claims::{self, Link};
use crate::refusal::Refused;
use crate::types::caller::Caller;

/// The page of a link: a button, or what became of it.
#[utoipa::path(get, path = "/claims/{token}", operation_id = "look_at_claim", tag = "keys",
    params(("token" = String, Path, description = "What the link ends with.", pattern = "^[0-9A-Za-z_-]{43}$")),
    responses((status = 200, description = "The page, with a button.", content_type = "text/html", body = String),
              (status = 404, description = "A page: there is no such link.", content_type = "text/html", body = String),
              (status = 410, description = "A page: it was opened before, when and from where; or its time is over.", content_type = "text/html", body = String),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String)))]
pub(super) async fn get(State(app): AppState, Path(token): Path<String>, request: Request) -> Response {
    let by = visitor(&app, &request);
    match looked(&app, &token).await {
        Ok(Some(link)) if link.waits => page(StatusCode::OK, &waiting(link), None),
        Ok(link) => over(&app, &by, link),
        Err(refused) => unwell(refused),
    }
}

/// Shows the secret, this once.
#[utoipa::path(post, path = "/claims/{token}", operation_id = "open_claim", tag = "keys",
    params(("token" = String, Path, description = "What the link ends with.", pattern = "^[0-9A-Za-z_-]{43}$")),
    responses((status = 200, description = "The page with the secret.", content_type = "text/html", body = String),
              (status = 403, description = "A page: the request did not come from ours.", content_type = "text/html", body = String),
              (status = 404, description = "A page: there is no such link.", content_type = "text/html", body = String),
              (status = 410, description = "A page: it was opened before, when and from where; or its time is over.", content_type = "text/html", body = String),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String)))]
pub(super) async fn open(State(app): AppState, Path(token): Path<String>, request: Request) -> Response {
    let by = visitor(&app, &request);
    if !same_origin::is_ours(&app, request.headers()) {
        let detail = "The request did not come from this authority's own page.";
        let help = "Open the link in a browser, and press the button there.";
        return said(StatusCode::FORBIDDEN, "This was not accepted", detail.to_owned(), (help, "cross_site"), None);
    }
    match claims::open(&app.db, &app.live.keyring, &by, &token).await {
        Ok(Some((link, secret))) => {
            let ends = link.secret_expires_at.map(written);
            let view = views::Claimed { key: link.key_id, secret: secret.reveal().to_owned(), ends };
            page(StatusCode::OK, &view, None)
        }
        Ok(None) => match looked(&app, &token).await {
            Ok(link) => over(&app, &by, link),
            Err(refused) => unwell(refused),
        },
        Err(refused) => unwell(refused),
    }
}

fn visitor(app: &Arc<App>, request: &Request) -> Caller {
    let origin = Origin::of(request.extensions());
    let request_id = origin.id.map(|id| id.to_string());
    let address = origin.address(app, request.headers());
    Caller { address, request_id, ..Caller::nobody("unknown".to_owned()) }
}

async fn looked(app: &App, token: &str) -> Result<Option<Link>, Refused> {
    Ok(claims::look(&mut *app.db.reads().acquire().await?, token).await?)
}

fn waiting(link: Link) -> views::Claim {
    views::Claim {
        id: link.id,
        key: link.key_id,
        name: link.key_name,
        environment: link.environment,
        agent: link.agent_name,
        ends: written(link.expires_at),
    }
}

/// What became of a link that cannot be opened. Who asks for links that do not exist is told to wait after a while.
fn over(app: &App, by: &Caller, link: Option<Link>) -> Response {
    const ANEW: &str = "Ask whoever sent you the link for another one.";
    let Some(link) = link else {
        if app.failures.count(by.address, None).is_err() {
            let detail = "Too much was asked from your network.".to_owned();
            let help = ("Try again in a minute.", "too_many_failures");
            return said(StatusCode::TOO_MANY_REQUESTS, "Please wait", detail, help, None);
        }
        let detail = "Its address may be cut off, or the link was forgotten.".to_owned();
        return said(StatusCode::NOT_FOUND, "There is no such link", detail, (ANEW, "not_found"), None);
    };
    let id = Some(link.id);
    let Some(opened_at) = link.opened_at else {
        let detail = "Its time is over, or the key was given another secret since. Nobody opened it.".to_owned();
        return said(StatusCode::GONE, "This link is over", detail, (ANEW, "expired"), id);
    };
    let from = link.opened_ip.map(|address| format!(", from {address}")).unwrap_or_default();
    let detail = format!("It was opened on {}{from}. It shows the secret only once.", written(opened_at));
    let help = "If that was not you, tell your administrator at once: whoever opened it has the secret.";
    said(StatusCode::GONE, "This link was opened before", detail, (help, "opened"), id)
}

fn unwell(refused: Refused) -> Response {
    let status = status(refused.code);
    let code = refused.code.as_str();
    if let Some(cause) = &refused.cause {
        tracing::error!(%cause, code, "the database failed a request");
    }
    said(status, "This does not work now", refused.detail, ("Try again in a moment.", code), None)
}

fn said(
    status: StatusCode,
    title: &str,
    detail: String,
    (help, code): (&str, &'static str),
    claim: Option<String>,
) -> Response {
    let view = views::Refused {
        title: title.to_owned(),
        detail,
        expected: Vec::new(),
        help: help.to_owned(),
        code,
        flow: claim,
        onward: None,
    };
    page(status, &view, None)
}

/// A point in time for people.
fn written(at: OffsetDateTime) -> String {
    at.format(format_description!("[year]-[month]-[day] at [hour]:[minute] UTC")).unwrap_or_else(|_| at.to_string())
}
