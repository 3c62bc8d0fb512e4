//! `POST /oauth/backchannel_logout/{provider}`: a provider says that a session of a person is over (OpenID Connect
//! Back-Channel Logout 1.0 §2.5).

use axum::extract::{Path, State};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::audit::{self, Entry};
use crate::db;
use crate::http::oauth::OAuthRefusals;
use crate::http::oauth::client::Asking;
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Received;
use crate::http::v1::revocations::enforce;
use crate::providers::{self, LoggedOut, Provider, UpstreamError};
use crate::revocations::Kind;
use crate::users;

/// What a provider sends.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "only described: the form is read by hand")]
pub struct BackchannelLogout {
    /// The provider's logout token.
    logout_token: String,
}

/// Ends a person's sign-ins, and all that was issued on that person's word so far. When this returns 200, no node answers
/// "active" for any of it.
#[utoipa::path(post, path = "/oauth/backchannel_logout/{provider}", operation_id = "backchannel_logout", tag = "oauth",
    params(("provider" = String, Path, description = "The provider's name.")),
    request_body(content = BackchannelLogout, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "It is over everywhere."), OAuthRefusals))]
pub async fn post(
    State(app): AppState,
    Path(name): Path<String>,
    received: Received,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1]), OAuthError> {
    let form = received.form()?;
    form.checked()?;
    let asking = Asking::of(&app, &form);
    let token = form.need("logout_token")?;
    let mut connection = app.db.reads().acquire().await.map_err(db::Error::from)?;
    let provider = providers::by_name(&mut connection, &name).await?;
    drop(connection);
    let provider = provider.filter(|provider| app.upstream.offers(provider));
    let provider = provider.ok_or_else(|| refused(&app, &asking, (&name, "unknown_provider")))?;
    let ended = app.upstream.logged_out(&provider, token).await.map_err(|error| match error {
        UpstreamError::Untrusted(word) => refused(&app, &asking, (provider.id.as_str(), word)),
        // §2.8 has one status for all: that we could not look is no reason to be told less.
        other => OAuthError::invalid_request(other.to_string()),
    })?;
    let complete = end(&app, &asking, &provider, &ended).await?;
    let complete = complete.ok_or_else(|| refused(&app, &asking, (provider.id.as_str(), "logout_replayed")))?;
    if !complete {
        return Err(OAuthError::unavailable());
    }
    Ok((StatusCode::OK, [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]))
}

/// All in one transaction: a token that could not be acted on is not used up. `None`: it was used before.
async fn end(app: &App, asking: &Asking, provider: &Provider, ended: &LoggedOut) -> Result<Option<bool>, OAuthError> {
    let by = asking.by(provider.id.to_string());
    let mut tx = app.db.begin().await?;
    if !providers::use_logout_token(&mut tx, provider.id, ended).await? {
        return Ok(None);
    }
    let people = users::end_logins(&mut tx, provider.id, ended.subject.as_deref(), ended.sid.as_deref()).await?;
    for user in &people {
        providers::cut_off(&mut tx, &by, Kind::User, user.as_str()).await?;
    }
    let entry = Entry::new(&by, "provider.logged_out").on(provider.id.as_str()).with("people", people.len());
    audit::append(&mut tx, &entry).await?;
    let done = app.db.commit(tx).await?;
    Ok(Some(people.is_empty() || enforce(app, Kind::User, done).await.complete))
}

/// A token that is none: counted, recorded, and after too many told to wait.
fn refused(app: &App, asking: &Asking, (target, word): (&str, &'static str)) -> OAuthError {
    app.metrics.failed_authentication("provider");
    match app.failures.count(asking.address, None) {
        Ok(()) => {
            let by = asking.by("unknown".to_owned());
            if !app.recorder.record(Entry::new(&by, "provider.logout_refused").on(target).refused(word)) {
                app.metrics.audit_write_failure();
            }
            OAuthError::invalid_request(format!("no logout token that counts ({word})"))
        }
        Err(wait) => OAuthError::wait(wait.as_secs() + 1),
    }
}
