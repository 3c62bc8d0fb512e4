//! `POST /oauth/par`: a client hands its authorization request over by itself and sends the browser with a reference (RFC 9126).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::OAuthRefusals;
use super::authorize::{pairs, redirect_uri, rest, stage};
use super::client::{Asking, authenticate_application, failed};
use super::dpop;
use super::error::OAuthError;
use super::form::{Form, Received};
use crate::app::{App, AppState};
use crate::authorizations::{self, PUSHED_SECONDS, Request};
use crate::clients::Application;
use crate::gate::Inactive;
use crate::proofs::Wrong;
use crate::refusal::Refused;
use crate::types::id::{FlowId, ServerId};

/// Where it is.
const PATH: &str = "/oauth/par";

/// Where the request is kept.
#[derive(Serialize, ToSchema)]
pub struct Pushed {
    /// To be named at `/oauth/authorize`, once.
    request_uri: String,
    /// Seconds until it is forgotten.
    expires_in: i32,
}

/// Keeps an authorization request for a minute. It is checked now, and again when it is begun.
#[utoipa::path(post, path = PATH, operation_id = "push_authorization_request", tag = "oauth",
    request_body(content_type = "application/x-www-form-urlencoded", description = "The parameters of `GET /oauth/authorize`, and the client's authentication as at `/oauth/token`.", content = Object),
    security(("client" = []), ()),
    params(("DPoP" = Option<String>, Header, description = "A proof of possession: the code will be bound to its key (RFC 9449 §10.1).")),
    responses((status = 201, description = "The reference.", body = Pushed,
                 headers(("DPoP-Nonce" = String, description = "With a proof, while nonces are demanded: the nonce for the next one."))), OAuthRefusals))]
pub async fn post(State(app): AppState, received: Received) -> Result<Response, OAuthError> {
    let pushed = push(&app, &received).await;
    let nonce = dpop::next_nonce(&app, &received.headers);
    let pushed = pushed.map_err(|error| error.with_nonce(nonce.clone()))?;
    Ok((
        StatusCode::CREATED,
        nonce.map(|nonce| [(dpop::NONCE, nonce)]),
        [(header::CACHE_CONTROL, "no-store")],
        Json(pushed),
    )
        .into_response())
}

async fn push(app: &App, received: &Received) -> Result<Pushed, OAuthError> {
    let form = received.form()?;
    let asking = Asking::of(app, &form);
    let client = authenticate_application(app, &form, &asking).await?;
    let client = client.ok_or_else(|| failed(app, &asking, Inactive::WrongType, form.get("client_id")))?;
    form.checked()?;
    if app.strangers.sign_in(asking.address).is_err() {
        return Err(OAuthError::wait(1));
    }
    let checked = checked(app, &form, &client).await;
    let flow = FlowId::random().to_string();
    let mut conn = app.db.reads().acquire().await.map_err(Refused::from)?;
    match checked {
        Ok((request, pairs)) => {
            let server = request.server_id.as_ref().map(ServerId::as_str);
            authorizations::open(&mut conn, &flow, &client.client_id, server).await.map_err(Refused::from)?;
            let reference = authorizations::push(&mut conn, &flow, &pairs).await.map_err(Refused::from)?;
            Ok(Pushed { request_uri: reference.reveal().clone(), expires_in: PUSHED_SECONDS })
        }
        Err(refused) => {
            if refused.is_final() {
                // Whoever looks for the reason finds a flow that ended where it began.
                authorizations::open(&mut conn, &flow, &client.client_id, None).await.map_err(Refused::from)?;
                refused.trace(&mut conn, &flow, stage::REQUEST).await.map_err(Refused::from)?;
            }
            Err(refused)
        }
    }
}

/// The request, and its parameters as they are kept.
async fn checked(
    app: &App,
    form: &Form<'_>,
    client: &Application,
) -> Result<(Request, Vec<(String, String)>), OAuthError> {
    if form.get("request_uri").is_some() {
        // RFC 9126 §2.1.
        return Err(OAuthError::invalid_request("request_uri has no place in what is pushed"));
    }
    let redirect_uri = redirect_uri(form, client)
        .map_err(|_| OAuthError::invalid_request("redirect_uri is none of those that the client is known by"))?;
    let checked = rest(app, form, client, redirect_uri).map_err(|_| OAuthError::unavailable())?;
    let request = checked.map_err(|(mistake, _)| OAuthError::of(mistake))?;
    let key = dpop::proven(app, form, PATH).await?;
    if key.is_some() && request.jkt.is_some() && key != request.jkt {
        return Err(OAuthError::invalid_proof(Wrong::OtherKey));
    }
    let mut pairs = pairs(form, client);
    if let Some(key) = key.filter(|_| request.jkt.is_none()) {
        pairs.push(("dpop_jkt".to_owned(), key.to_string()));
    }
    Ok((request, pairs))
}
