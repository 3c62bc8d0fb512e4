//! `/oauth/callback/{provider}`: a provider sends a person's browser back.

use std::sync::Arc;

use axum::extract::{Path, Request as HttpRequest, State};
use axum::response::Response;
use utoipa::IntoParams;

use super::authorize::consent::still_there;
use super::authorize::{End, Grant, START_ANEW, Visit, Who, stage};
use super::form::Received;
use super::grants::signed_in as own_page;
use super::sign_in::{callback, not_signed_in};
use crate::app::AppState;
use crate::authorizations::{self, Departed, Purpose};
use crate::http::caller::Origin;
use crate::http::pages::cookies::Cookie;
use crate::providers::{self, Answer, UpstreamError};

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 16 * 1_024;

/// What a provider sends.
#[derive(serde::Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only described: the query is read by hand")]
pub struct ProviderAnswer {
    /// What it was asked with.
    state: Option<String>,
    /// Its code.
    code: Option<String>,
    /// Its issuer (RFC 9207).
    iss: Option<String>,
    /// Why there is no code.
    error: Option<String>,
}

/// Ends the sign-in at a provider, and sends the browser to the client: with a code, or with why there is none.
#[utoipa::path(get, path = "/oauth/callback/{provider}", operation_id = "provider_answer", tag = "oauth",
    params(("provider" = String, Path, description = "The provider's name."), ProviderAnswer),
    responses((status = 303, description = "To the client's redirect URI.", headers(("Location" = String))),
              (status = 400, description = "A page: nothing waits for this answer in this browser.", content_type = "text/html", body = String),
              (status = 429, description = "A page that says to wait.", content_type = "text/html", body = String, headers(("Retry-After" = u64))),
              (status = 502, description = "A page that says that the client's metadata cannot be had.", content_type = "text/html", body = String),
              (status = 503, description = "A page that says to try again.", content_type = "text/html", body = String, headers(("Retry-After" = u64)))))]
pub async fn get(State(app): AppState, Path(name): Path<String>, request: HttpRequest) -> Response {
    let (parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let received = Received::asked(parts.headers.clone(), Origin::of(&parts.extensions), query);
    let visit = Visit::new(Arc::clone(&app), parts.headers, received.origin);
    match Box::pin(returned(&visit, &name, &received)).await {
        Ok(response) => response,
        Err(end) => end.answer(&visit).await,
    }
}

async fn returned(visit: &Visit, name: &str, received: &Received) -> Result<Response, End> {
    let form = received.form().ok().filter(|form| received.len() <= ANSWER_BYTES_MAX && form.checked().is_ok());
    let form = form.ok_or_else(|| nothing("unreadable", "The answer of the sign-in cannot be read."))?;
    let state =
        form.get("state").ok_or_else(|| nothing("state_missing", "The answer does not say what it answers."))?;
    let browser = Cookie::Browser.read(&visit.app, &visit.headers).unwrap_or_default();
    let found = authorizations::returned(&mut *visit.connection().await?, state, browser).await?;
    let Some((departed, own)) = found else {
        return Err(nothing("state_unknown", "Nothing waits for this answer: it was used, or came too late."));
    };
    let flow = departed.waiting.flow_id.clone();
    if !own {
        let detail = "It was begun in another browser, or your browser did not send the cookie that it was given.";
        return Err(nothing("other_browser", detail).of(&flow));
    }
    let answer = Answer { code: form.get("code"), iss: form.get("iss"), error: form.get("error") };
    signed_in(visit, name, &departed, &answer).await.map_err(|end| end.of(&flow))
}

async fn signed_in(visit: &Visit, name: &str, departed: &Departed, answer: &Answer<'_>) -> Result<Response, End> {
    let app = &*visit.app;
    let request = &departed.waiting.request;
    let provider = providers::by_id(&mut *visit.connection().await?, departed.provider_id).await?;
    let provider = provider
        .ok_or_else(|| End::client(stage::SIGN_IN, "access_denied", "the identity provider was removed", request))?;
    let refused = |error| not_signed_in(visit, (stage::SIGN_IN, &provider), error, request);
    if provider.name != name {
        // The answer to one provider's question came to another's address.
        return Err(refused(UpstreamError::Untrusted("other_provider")));
    }
    let remembered = departed.remembered(&app.live.keyring);
    let remembered = remembered.ok_or_else(|| refused(UpstreamError::Untrusted("not_remembered")))?;
    let finished = app.upstream.finish(&provider, &callback(app, &provider)?, &remembered, answer).await;
    let person = finished.map_err(refused)?;
    if request.purpose == Purpose::OwnPage {
        return own_page(visit, &departed.waiting.flow_id, &provider, &person).await;
    }
    let client = still_there(visit, request).await?;
    let grant = Grant { visit, flow: &departed.waiting.flow_id, request, client: &client };
    grant.agreed(Who::New(&provider, &person)).await
}

fn nothing(code: &'static str, detail: &str) -> End {
    End::page(stage::SIGN_IN, code, "This sign-in cannot go on", detail).help(START_ANEW)
}
