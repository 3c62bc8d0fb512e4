//! Who calls an OAuth endpoint: a server with its client secret, or the holder of an API key. Before anything else.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Extensions, HeaderMap, header};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::app::App;
use crate::audit::Entry;
use crate::gate::{Inactive, KeyCaller, Server, Version, authenticate_key, authenticate_server};
use crate::http::caller::{address, bearer};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Form;
use crate::http::problem::Problem;
use crate::http::request_id::RequestId;
use crate::observations::{Owner, Place};
use crate::types::caller::Caller;
use crate::types::credential::{Kind, Presented};
use crate::types::id::{KeyId, ServerId};

/// An authenticated caller.
pub(super) enum Client {
    /// A server.
    Server(Arc<Server>),
    /// The holder of an API key.
    Key(KeyCaller),
}

/// What was presented, wherever it stood.
struct Claimed<'a> {
    id: Option<Cow<'a, str>>,
    secret: Cow<'a, str>,
}

/// Who asks, and from where, for what is recorded of the request.
pub(super) struct Asking {
    /// From where.
    pub(super) address: Option<IpAddr>,
    /// The request's id.
    pub(super) request_id: Option<String>,
}

impl Asking {
    pub(super) fn of(app: &App, form: &Form<'_>) -> Self {
        Self {
            address: address(app, form.extensions, form.headers),
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
pub(super) fn authenticate(app: &App, form: &Form<'_>, asking: &Asking) -> Result<Option<Client>, OAuthError> {
    Ok(with_version(app, form, asking)?.map(|(client, _)| client))
}

/// The server that calls a route of `/v1`, and the version of its secret that it showed.
///
/// # Errors
///
/// No server, or one whose secret does not work; 503 when this node cannot prove that it is current.
pub(in crate::http) fn calling_server(
    app: &App,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<(Arc<Server>, i32), Problem> {
    let form = Form::bare(headers, extensions);
    let asking = Asking::of(app, &form);
    match with_version(app, &form, &asking)? {
        Some((Client::Server(server), version)) => Ok((server, version.number)),
        Some((Client::Key(caller), _)) => {
            Err(failed(app, &asking, Inactive::WrongType, Some(caller.key.id.as_str())).into())
        }
        None => Err(failed(app, &asking, Inactive::Malformed, None).into()),
    }
}

fn with_version(app: &App, form: &Form<'_>, asking: &Asking) -> Result<Option<(Client, Version)>, OAuthError> {
    let basic = form.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(basic);
    let Some(claimed) = claimed(form, basic.as_ref().map(|basic| basic.as_str()))? else { return Ok(None) };
    let mut outcome = one(app, &claimed, asking.address)?;
    // Basic credentials arrive raw or form-encoded (RFC 6749 §2.3.1); SDKs differ, so the second reading is tried too.
    if let (Err(_), Some(decoded)) = (&outcome, claimed.decoded().filter(|_| basic.is_some())) {
        outcome = one(app, &decoded, asking.address)?;
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

type Outcome = Result<(Client, Version), (Inactive, Option<String>)>;

fn one(app: &App, claimed: &Claimed<'_>, address: Option<IpAddr>) -> Result<Outcome, OAuthError> {
    let Some(presented) = Presented::parse(&claimed.secret) else { return Ok(Err((Inactive::Malformed, None))) };
    let prefix = match presented.kind() {
        Kind::Key(_) => KeyId::PREFIX,
        Kind::Server => ServerId::PREFIX,
        Kind::Admin => return Ok(Err((Inactive::WrongType, None))),
    };
    let is_own = |named: &str| named.strip_prefix(prefix).is_some_and(|rest| rest.as_bytes() == presented.id());
    let named = claimed.id.as_deref().is_none_or(is_own);
    let (outcome, place) = app.live.answer(|view| {
        let place = Place { at: view.now, server: None, address };
        let outcome = match presented.kind() {
            Kind::Server => authenticate_server(view, &presented)
                .map(|(server, version)| (Owner::Server(server.id), version, Client::Server(server))),
            _ => match authenticate_key(view, &presented, address) {
                Ok(caller) => Ok((Owner::Key(caller.key.id), caller.version, Client::Key(caller))),
                Err((cause, known)) => {
                    app.observations.answered(known, cause.as_str(), place);
                    Err(cause)
                }
            },
        };
        (outcome, place)
    })?;
    let id = || format!("{prefix}{}", String::from_utf8_lossy(presented.id()));
    Ok(match outcome {
        Ok((owner, version, client)) if named => {
            app.used(presented.reveal(), owner, &version, place);
            Ok((client, version))
        }
        Ok(_) => Err((Inactive::WrongSecret, Some(id()))),
        Err(cause) => Err((cause, Some(id()))),
    })
}

/// The one credential of a request.
fn claimed<'a>(form: &'a Form<'_>, basic: Option<&'a str>) -> Result<Option<Claimed<'a>>, OAuthError> {
    let bearer = bearer(form.headers);
    let body = form.get("client_secret");
    let ways = usize::from(basic.is_some()) + usize::from(bearer.is_some()) + usize::from(body.is_some());
    if ways > 1 || form.headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return Err(OAuthError::invalid_request("authenticate in one way only"));
    }
    if let Some(basic) = basic {
        let (id, secret) = basic.split_once(':').unwrap_or((basic, ""));
        return Ok(Some(Claimed { id: Some(id.into()), secret: secret.into() }));
    }
    let id = form.get("client_id").map(Cow::Borrowed);
    Ok(bearer.or(body).map(|secret| Claimed { id, secret: secret.into() }))
}

impl Claimed<'_> {
    /// The same, form-decoded; `None` when nothing in it could be.
    fn decoded(&self) -> Option<Claimed<'static>> {
        let encoded = |text: &str| text.contains(['%', '+']);
        if !encoded(&self.secret) && !self.id.as_deref().is_some_and(encoded) {
            return None;
        }
        let decoded =
            |text: &str| Cow::Owned(percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned());
        Some(Claimed { id: self.id.as_deref().map(decoded), secret: decoded(&self.secret) })
    }
}

/// What `Basic` says; nothing that can be read is a wrong credential, not none.
fn basic(header: &str) -> Option<Zeroizing<String>> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = STANDARD.decode(encoded.trim()).ok().unwrap_or_default();
    Some(Zeroizing::new(String::from_utf8(bytes).unwrap_or_default()))
}
