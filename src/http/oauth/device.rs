//! Devices without a browser (RFC 8628): `POST /oauth/device_authorization` begins, and at `/oauth/device` a person types the
//! code that the device shows. What comes then is the way of every authorization: consent, and only after it a provider.
//!
//! Whoever sends a code to somebody else gets what that person allows; the page that asks says so, and shows the code.

use axum::Json;
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::OAuthRefusals;
use super::authorize::consent::ours;
use super::authorize::{End, Visit, browser, for_device, stage};
use super::client::{Asking, authenticate_application, failed};
use super::error::{OAuthError, write_down};
use super::form::{Form, Received};
use crate::app::{App, AppState};
use crate::authorizations::devices::{self, DEVICE_SECONDS, PACE_SECONDS};
use crate::authorizations::{self, Purpose, Request, Waiting};
use crate::clients::Application;
use crate::clients::metadata::GrantType;
use crate::db;
use crate::failures::network_of;
use crate::gate::Inactive;
use crate::http::caller::Origin;
use crate::http::pages::cookies::Cookie;
use crate::http::pages::{page, see_other, views};
use crate::providers;
use crate::refusal::Refused;
use crate::sessions::Refusal;
use crate::types::id::{FlowId, ServerId};

/// What a device is told (RFC 8628 §3.2).
#[derive(Serialize, ToSchema)]
pub struct DeviceAuthorization {
    /// What the device asks the token endpoint with. It is shown to nobody.
    device_code: String,
    /// What the person types.
    user_code: String,
    /// Where.
    verification_uri: String,
    /// The same with the code in it, for a picture to be read by a telephone.
    verification_uri_complete: String,
    /// Seconds that the person has.
    expires_in: i32,
    /// Seconds between two questions of the device.
    interval: i32,
}

/// What a device asks for.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "only described: the form is read by hand, so that nothing is looked at too early")]
pub struct DeviceRequest {
    /// The client's id, if it is not in `Authorization: Basic`.
    client_id: Option<String>,
    /// The server's resource URI (RFC 8707); may be left out while there is only one server.
    resource: Option<String>,
    /// Permissions, the server's scopes, and `offline_access`; all of the server's scopes when left out.
    scope: Option<String>,
}

/// Begins the authorization of a device. The client authenticates as at `/oauth/token`.
#[utoipa::path(post, path = "/oauth/device_authorization", operation_id = "authorize_device", tag = "oauth",
    request_body(content = DeviceRequest, content_type = "application/x-www-form-urlencoded"),
    security(("client" = []), ()),
    responses((status = 200, description = "What the device shows, and what it asks with.", body = DeviceAuthorization), OAuthRefusals))]
pub async fn authorize(State(app): AppState, received: Received) -> Result<Response, OAuthError> {
    let begun = begun(&app, &received).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(begun)).into_response())
}

async fn begun(app: &App, received: &Received) -> Result<DeviceAuthorization, OAuthError> {
    let form = received.form()?;
    let asking = Asking::of(app, &form);
    let client = authenticate_application(app, &form, &asking).await?;
    let client = client.ok_or_else(|| failed(app, &asking, Inactive::WrongType, form.get("client_id")))?;
    form.checked()?;
    if let Err(wait) = app.strangers.sign_in(asking.address) {
        return Err(OAuthError::slow_down(wait.as_secs() + 1));
    }
    let flow = FlowId::random().to_string();
    let request = match wanted(app, &form, &client).await {
        Ok(request) => request,
        Err(error) => {
            refused(app, &flow, &client, &error).await;
            return Err(error);
        }
    };
    let mut tx = app.db.begin().await?;
    authorizations::open(&mut tx, &flow, &client.client_id, request.server_id.as_ref().map(ServerId::as_str)).await?;
    authorizations::step(&mut tx, &flow, stage::REQUEST, None).await?;
    let begun = devices::begin(&mut tx, &flow, &request, &network_of(asking.address)).await?;
    let begun = begun.ok_or_else(|| OAuthError::slow_down(u64::try_from(DEVICE_SECONDS).unwrap_or(1) / 10))?;
    db::commit(tx).await?;
    let verification_uri = format!("{}/device", app.config.public_url.issuer());
    Ok(DeviceAuthorization {
        device_code: begun.device_code.reveal().clone(),
        verification_uri_complete: format!("{verification_uri}?user_code={}", begun.user_code),
        user_code: begun.user_code,
        verification_uri,
        expires_in: DEVICE_SECONDS,
        interval: PACE_SECONDS,
    })
}

async fn wanted(app: &App, form: &Form<'_>, client: &Application) -> Result<Request, OAuthError> {
    if !client.metadata.grant_types.contains(&GrantType::DeviceCode) {
        return Err(Refusal::UnauthorizedClient.into());
    }
    let mut connection = app.db.reads().acquire().await.map_err(Refused::from)?;
    let offered = providers::offered(&mut connection).await?;
    if !offered.iter().any(|one| app.upstream.offers(one)) {
        return Err(OAuthError::access_denied("people cannot sign in here"));
    }
    for_device(app, form, client)?.map_err(OAuthError::of)
}

/// That a device was refused is a step of a flow too. The client is known by then.
async fn refused(app: &App, flow: &str, client: &Application, error: &OAuthError) {
    write_down(async {
        let mut connection = app.db.reads().acquire().await?;
        authorizations::open(&mut connection, flow, &client.client_id, None).await?;
        error.trace(&mut connection, flow, stage::REQUEST).await
    })
    .await;
}

/// What may stand in the page's address.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only described: the query is read by hand")]
pub struct Typed {
    /// A code to begin with. It is never sent by itself.
    user_code: Option<String>,
}

/// The page on which a person types the code that a device shows.
#[utoipa::path(get, path = "/oauth/device", operation_id = "type_device_code", tag = "oauth", params(Typed),
    responses((status = 200, description = "The page.", content_type = "text/html", body = String)))]
pub async fn get(request: HttpRequest) -> Response {
    let (parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let received = Received::asked(parts.headers, Origin::of(&parts.extensions), query);
    let typed = received.form().ok().and_then(|form| form.get("user_code").and_then(devices::read_user_code));
    let code = typed.map(|code| devices::dashed(&code)).unwrap_or_default();
    page(StatusCode::OK, &views::Device { code, wrong: false }, None)
}

/// What a person typed.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "only described: the form is read by hand")]
pub struct DeviceCode {
    /// In any case, with dashes or without.
    user_code: String,
}

/// Takes the code, and leads to the page that asks. A code that is not good is refused in the same words whatever is wrong.
#[utoipa::path(post, path = "/oauth/device", operation_id = "enter_device_code", tag = "oauth",
    request_body(content = DeviceCode, content_type = "application/x-www-form-urlencoded"),
    responses((status = 303, description = "To the page that asks.", headers(("Location" = String))),
              (status = 400, description = "The page again: the code is not good.", content_type = "text/html", body = String),
              (status = 403, description = "A page: the code did not come from ours.", content_type = "text/html", body = String),
              (status = 413, description = "The body is too large.", body = super::OAuthWire),
              (status = 415, description = "The body is not a form.", body = super::OAuthWire),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String, headers(("Retry-After" = u64))),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String, headers(("Retry-After" = u64)))))]
pub async fn post(State(app): AppState, received: Received) -> Response {
    let visit = Visit::new(app, received.headers.clone(), received.origin);
    match entered(&visit, &received).await {
        Ok(response) => response,
        Err(end) => end.answer(&visit).await,
    }
}

async fn entered(visit: &Visit, received: &Received) -> Result<Response, End> {
    let app = &*visit.app;
    ours(visit)?;
    let mut conn = visit.connection().await?;
    let login = visit.login(&mut conn).await?;
    drop(conn);
    // Every attempt counts, also a right one: a count of wrong ones would still tell a right one when it is reached.
    let person = login.as_ref().map(|login| login.user_id.to_string());
    if let Err(wait) = app.strangers.type_code(visit.by.address, person.as_deref()) {
        return Err(End::wait(wait.as_secs() + 1));
    }
    let form = received.form().ok();
    let typed = form.as_ref().and_then(|form| form.get("user_code")).unwrap_or_default();
    let mut tx = app.db.begin().await?;
    let found = match devices::read_user_code(typed) {
        Some(code) => devices::typed(&mut tx, &code).await?.map(|(flow, request)| (flow, request, code)),
        None => None,
    };
    let Some((flow, request, code)) = found else {
        db::commit(tx).await?;
        let code = typed.chars().take(views::CODE_CHARS_MAX).collect();
        return Ok(page(StatusCode::BAD_REQUEST, &views::Device { code, wrong: true }, None));
    };
    let request = Request { purpose: Purpose::Device(devices::dashed(&code)), ..request };
    let (cookie, waiting) = (browser(visit), Waiting { flow_id: flow, request });
    authorizations::take_over(&mut tx, &waiting, &cookie).await?;
    authorizations::step(&mut tx, &waiting.flow_id, stage::DEVICE, None).await?;
    db::commit(tx).await?;
    let mut response = see_other(&format!("/oauth/authorize/{}", waiting.flow_id));
    Cookie::Browser.set(app, response.headers_mut(), &cookie);
    Ok(response)
}

/// The last page: the person goes back to the device.
#[utoipa::path(get, path = "/oauth/device/done", operation_id = "device_done", tag = "oauth",
    responses((status = 200, description = "The page.", content_type = "text/html", body = String)))]
pub async fn done() -> Response {
    page(StatusCode::OK, &views::DeviceDone, None)
}
