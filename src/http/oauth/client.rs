//! Who calls an OAuth endpoint: a server with its client secret, or the holder of an API key. Before anything else.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header;
use percent_encoding::percent_decode_str;

use crate::app::App;
use crate::audit::Entry;
use crate::gate::{Inactive, KeyCaller, Server, authenticate_key, authenticate_server};
use crate::http::caller::{address, bearer};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Form;
use crate::http::request_id::RequestId;
use crate::observations::Place;
use crate::types::caller::Caller;
use crate::types::credential::{Kind, Presented};

/// An authenticated caller.
pub(super) enum Client {
    /// A server.
    Server(Arc<Server>),
    /// The holder of an API key.
    Key(KeyCaller),
}

/// What was presented, wherever it stood.
struct Claimed {
    id: Option<String>,
    secret: String,
}

/// Who asks, and from where, for what is recorded of the request.
pub(super) struct Asking {
    /// From where.
    pub(super) address: Option<IpAddr>,
    /// The request's id.
    pub(super) request_id: Option<String>,
}

impl Asking {
    pub(super) fn of(app: &App, form: &Form) -> Self {
        Self {
            address: address(app, &form.extensions, &form.headers),
            request_id: form.extensions.get::<RequestId>().map(|id| id.0.clone()),
        }
    }

    pub(super) fn by(&self, actor: String) -> Caller {
        Caller { address: self.address, request_id: self.request_id.clone(), ..Caller::nobody(actor) }
    }
}

/// The caller. `None` when nothing was presented at all.
///
/// # Errors
///
/// `invalid_client`, always the same words; `invalid_request` when two ways were used at once (RFC 6749 §2.3).
pub(super) fn authenticate(app: &App, form: &Form, asking: &Asking) -> Result<Option<Client>, OAuthError> {
    let claimed = claimed(form)?;
    let Some((first, rest)) = claimed.split_first() else { return Ok(None) };
    let mut outcome = one(app, first, asking.address)?;
    // Basic credentials arrive raw or form-encoded (RFC 6749 §2.3.1); SDKs differ, so the second reading is tried too.
    if let (Err(_), Some(second)) = (&outcome, rest.first()) {
        outcome = one(app, second, asking.address)?;
    }
    match outcome {
        Ok(client) => Ok(Some(client)),
        Err((cause, id)) => Err(failed(app, asking, cause, id.as_deref())),
    }
}

/// A failed attempt is counted and recorded; after too many the caller is told to wait.
pub(super) fn failed(app: &App, asking: &Asking, cause: Inactive, client: Option<&str>) -> OAuthError {
    app.metrics.failed_authentication("client");
    match app.failures.count(asking.address, client) {
        Ok(()) => {
            let mut entry = Entry::new(&asking.by("unknown".to_owned()), "client.refused").refused(cause.as_str());
            if let Some(client) = client {
                entry = entry.on(client);
            }
            if !app.recorder.record(entry) {
                app.metrics.audit_write_failure();
            }
            OAuthError::invalid_client()
        }
        Err(wait) => OAuthError::wait(wait.as_secs() + 1),
    }
}

type Outcome = Result<Client, (Inactive, Option<String>)>;

fn one(app: &App, claimed: &Claimed, address: Option<IpAddr>) -> Result<Outcome, OAuthError> {
    let Some(presented) = Presented::parse(&claimed.secret) else { return Ok(Err((Inactive::Malformed, None))) };
    let prefix = match presented.kind() {
        Kind::Key(_) => "key_",
        Kind::Server => "srv_",
        Kind::Admin => return Ok(Err((Inactive::WrongType, None))),
    };
    let id = format!("{prefix}{}", String::from_utf8_lossy(presented.id()));
    let named = claimed.id.as_ref().is_none_or(|named| *named == id);
    let outcome = app.live.answer(|view| match presented.kind() {
        Kind::Server => {
            authenticate_server(view, &presented).map(|(server, version)| (Client::Server(server), version))
        }
        _ => match authenticate_key(view, &presented, address) {
            Ok(caller) => Ok((Client::Key(caller.clone()), caller.version)),
            Err((cause, known)) => {
                let credential = known.map(|id| id.to_string()).unwrap_or_default();
                app.observations.answered(&credential, cause.as_str(), Place { server: None, address }, view.now);
                Err(cause)
            }
        },
    })?;
    Ok(match outcome {
        Ok((client, version)) if named => {
            app.used(&presented, &id, &version, Place { server: None, address });
            Ok(client)
        }
        Ok(_) => Err((Inactive::WrongSecret, Some(id))),
        Err(cause) => Err((cause, Some(id))),
    })
}

/// The one credential of a request, in each way it may be read.
fn claimed(form: &Form) -> Result<Vec<Claimed>, OAuthError> {
    let basic = form.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(basic);
    let bearer = bearer(&form.headers);
    let body = form.get("client_secret");
    let ways = usize::from(basic.is_some()) + usize::from(bearer.is_some()) + usize::from(body.is_some());
    if ways > 1 || form.headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return Err(OAuthError::invalid_request("authenticate in one way only"));
    }
    if let Some((id, secret)) = basic {
        let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let raw = Claimed { id: Some(id.clone()), secret: secret.clone() };
        let encoded = Claimed { id: Some(decoded(&id)), secret: decoded(&secret) };
        return Ok(if encoded.id == raw.id && encoded.secret == raw.secret { vec![raw] } else { vec![raw, encoded] });
    }
    if let Some(token) = bearer {
        return Ok(vec![Claimed { id: form.get("client_id").map(str::to_owned), secret: token.to_owned() }]);
    }
    Ok(body
        .map(|secret| Claimed { id: form.get("client_id").map(str::to_owned), secret: secret.to_owned() })
        .into_iter()
        .collect())
}

fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = STANDARD.decode(encoded.trim()).ok().unwrap_or_default();
    let text = String::from_utf8(bytes).unwrap_or_default();
    let (id, secret) = text.split_once(':').unwrap_or((&text, ""));
    Some((id.to_owned(), secret.to_owned()))
}
