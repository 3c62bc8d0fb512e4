//! Who calls an OAuth endpoint: a server with its client secret, or the holder of an API key. Before anything else.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Extensions, HeaderMap, header};
use percent_encoding::percent_decode_str;
use zeroize::{Zeroize, Zeroizing};

use crate::app::App;
use crate::audit::Entry;
use crate::gate::{Inactive, KeyCaller, KeyShown, Server, Version, View, authenticate_key, authenticate_server};
use crate::http::caller::{Origin, bearer};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Form;
use crate::http::problem::Problem;
use crate::http::request_id::RequestId;
use crate::observations::{Owner, Place};
use crate::types::caller::Caller;
use crate::types::clock::Timestamp;
use crate::types::credential::{self, Kind, Presented};
use crate::types::id::{KeyId, ServerId};

pub(super) use crate::http::oauth::application::{authenticate_application, resolve, shows_application};

/// Characters of a client's name that are recorded when it is refused.
const CLIENT_CHARS_MAX: usize = 300;

/// An authenticated caller.
pub(super) enum Client {
    /// A server.
    Server(Arc<Server>),
    /// The holder of an API key.
    Key(KeyCaller),
}

/// Who asks, and from where, for what is recorded of the request.
pub(super) struct Asking {
    /// From where.
    pub(super) address: Option<IpAddr>,
    /// The request's id.
    pub(super) request_id: Option<RequestId>,
}

impl Asking {
    pub(super) fn of(app: &App, form: &Form<'_>) -> Self {
        Self { address: form.origin.address(app, form.headers), request_id: form.origin.id }
    }

    pub(super) fn by(&self, actor: String) -> Caller {
        let request_id = self.request_id.as_ref().map(ToString::to_string);
        Caller { address: self.address, request_id, ..Caller::nobody(actor) }
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
    let form = Form::bare(headers, Origin::of(extensions));
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
    let basic = Basic::of(form.headers);
    let Some(claim) = basic.claim(form)? else { return Ok(None) };
    let prove = |view: View<'_>| {
        let proven = claim.prove(view, asking.address).map(|proven| (Client::from(proven.who), proven.used()));
        (proven, view.now)
    };
    let (outcome, at) = app.live.answer(prove)?;
    match outcome {
        Ok((client, used)) => {
            app.used(
                claim.secret(&used),
                used.owner,
                &used.version,
                Place { at, server: None, address: asking.address },
            );
            Ok(Some((client, used.version)))
        }
        Err(unproven) => Err(unproven.refused(app, asking, at)),
    }
}

/// A failed attempt is counted and recorded; after too many the caller is told to wait.
pub(super) fn failed(app: &App, asking: &Asking, cause: Inactive, client: Option<&str>) -> OAuthError {
    failed_as(app, asking, cause.as_str(), client)
}

/// The same for a cause that only OAuth clients have.
pub(super) fn failed_as(app: &App, asking: &Asking, cause: &'static str, client: Option<&str>) -> OAuthError {
    app.metrics.failed_authentication("client");
    match app.failures.count(asking.address, client) {
        Ok(()) => {
            let mut entry = Entry::new(&asking.by("unknown".to_owned()), "client.refused").refused(cause);
            // Whatever stands there was sent by anybody: a secret in the wrong place, or without end, is not kept.
            if let Some(client) = client.filter(|client| !credential::looks_like_one(client)) {
                let plain = client.chars().filter(|sign| !sign.is_control()).take(CLIENT_CHARS_MAX);
                entry = entry.on(&plain.collect::<String>());
            }
            if !app.recorder.record(entry) {
                app.metrics.audit_write_failure();
            }
            OAuthError::invalid_client().because(cause)
        }
        Err(wait) => OAuthError::wait(wait.as_secs() + 1),
    }
}

/// Who proved to be the caller, as it stands in a node's memory.
#[derive(Clone, Copy)]
pub(super) enum Who<'a> {
    /// A server, and the version of its secret that it showed.
    Server(&'a Arc<Server>, &'a Version),
    /// The holder of an API key.
    Key(KeyShown<'a>),
}

impl From<Who<'_>> for Client {
    fn from(who: Who<'_>) -> Self {
        match who {
            Who::Server(server, _) => Self::Server(Arc::clone(server)),
            Who::Key(shown) => Self::Key(shown.into()),
        }
    }
}

/// A caller that proved who it is.
#[derive(Clone, Copy)]
pub(super) struct Proven<'a> {
    /// Who it is.
    pub(super) who: Who<'a>,
    reading: Reading,
}

/// A secret that was right.
#[derive(Clone, Copy)]
pub(super) struct Used {
    /// Whose it is.
    pub(super) owner: Owner,
    /// Which version of it.
    pub(super) version: Version,
    reading: Reading,
}

impl Proven<'_> {
    /// What is noted of it.
    pub(super) fn used(&self) -> Used {
        let (owner, version) = match self.who {
            Who::Server(server, version) => (Owner::Server(server.id), *version),
            Who::Key(shown) => (Owner::Key(shown.key.id), *shown.version),
        };
        Used { owner, version, reading: self.reading }
    }
}

/// Nobody did.
pub(super) struct Unproven {
    cause: Inactive,
    /// The id that was named.
    id: Option<String>,
    /// A key was shown: that it does not work is counted.
    key_shown: bool,
    /// Which, once its secret was right.
    key: Option<KeyId>,
}

impl Unproven {
    const fn of(cause: Inactive) -> Self {
        Self { cause, id: None, key_shown: false, key: None }
    }

    /// Counts and records it.
    pub(super) fn refused(self, app: &App, asking: &Asking, at: Timestamp) -> OAuthError {
        if self.key_shown {
            let place = Place { at, server: None, address: asking.address };
            app.observations.noting().answered(self.key, self.cause.as_str(), place);
        }
        failed(app, asking, self.cause, self.id.as_deref())
    }
}

/// How Basic credentials were read: they arrive raw or form-encoded (RFC 6749 §2.3.1), and SDKs differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Raw,
    Decoded,
}

/// What a request presents to say who calls, in both readings.
pub(super) struct Claim<'a> {
    raw: Claimed<'a>,
    decoded: Option<Claimed<'static>>,
}

impl Claim<'_> {
    /// Who it proves to be.
    ///
    /// # Errors
    ///
    /// Nobody, in neither reading.
    pub(super) fn prove<'a>(&'a self, view: View<'a>, address: Option<IpAddr>) -> Result<Proven<'a>, Unproven> {
        let of = |who, reading| Proven { who, reading };
        match (self.raw.prove(view, address), &self.decoded) {
            (Err(_), Some(decoded)) => decoded.prove(view, address).map(|who| of(who, Reading::Decoded)),
            (raw, _) => raw.map(|who| of(who, Reading::Raw)),
        }
    }

    /// The secret that was right.
    pub(super) fn secret(&self, used: &Used) -> &str {
        match &self.decoded {
            Some(decoded) if used.reading == Reading::Decoded => &decoded.secret,
            _ => &self.raw.secret,
        }
    }
}

/// An id, if one was named, and a secret.
struct Claimed<'a> {
    id: Option<Cow<'a, str>>,
    secret: Cow<'a, str>,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        // A decoded secret is a copy of its own.
        if let Cow::Owned(secret) = &mut self.secret {
            secret.zeroize();
        }
    }
}

impl Claimed<'_> {
    fn prove<'a>(&self, view: View<'a>, address: Option<IpAddr>) -> Result<Who<'a>, Unproven> {
        let presented = Presented::parse(&self.secret).ok_or(Unproven::of(Inactive::Malformed))?;
        let prefix = match presented.kind() {
            Kind::Key(_) => KeyId::PREFIX,
            Kind::Server => ServerId::PREFIX,
            Kind::Admin | Kind::Client | Kind::Refresh => return Err(Unproven::of(Inactive::WrongType)),
        };
        let unproven = |cause, key| {
            let id = Some(format!("{prefix}{}", String::from_utf8_lossy(presented.id())));
            Unproven { cause, id, key_shown: presented.kind() != Kind::Server, key }
        };
        let who = if presented.kind() == Kind::Server {
            let (server, version) = authenticate_server(view, &presented).map_err(|cause| unproven(cause, None))?;
            Who::Server(server, version)
        } else {
            Who::Key(authenticate_key(view, &presented, address).map_err(|(cause, key)| unproven(cause, key))?)
        };
        let is_own = |named: &str| named.strip_prefix(prefix).is_some_and(|rest| rest.as_bytes() == presented.id());
        if self.id.as_deref().is_none_or(is_own) {
            return Ok(who);
        }
        // The secret is right, and somebody's; nothing is counted for him.
        Err(Unproven { key_shown: false, ..unproven(Inactive::WrongSecret, None) })
    }

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

/// What `Authorization: Basic` holds, decoded. What cannot be read is a wrong credential, not none.
pub(super) struct Basic(Option<Zeroizing<String>>);

impl Basic {
    /// Of a request with these headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(basic))
    }

    /// What a request presents.
    ///
    /// # Errors
    ///
    /// Two ways were used at once (RFC 6749 §2.3).
    pub(super) fn credentials<'a>(&'a self, form: &'a Form<'_>) -> Result<Credentials<'a>, OAuthError> {
        let basic = self.0.as_ref().map(|basic| {
            let (id, secret) = basic.split_once(':').unwrap_or((basic, ""));
            Credentials::Basic { id, secret }
        });
        let ways = [
            basic,
            bearer(form.headers).map(Credentials::Bearer),
            form.get("client_secret").map(Credentials::Post),
            form.get("client_assertion").map(Credentials::Assertion),
        ];
        let mut ways = ways.into_iter().flatten();
        let first = ways.next().unwrap_or(Credentials::None);
        if ways.next().is_some() || form.headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
            return Err(OAuthError::invalid_request("authenticate in one way only"));
        }
        Ok(first)
    }

    /// The one credential of a server or a key's holder; `None` when none was presented.
    ///
    /// # Errors
    ///
    /// As [`Basic::credentials`].
    pub(super) fn claim<'a>(&'a self, form: &'a Form<'_>) -> Result<Option<Claim<'a>>, OAuthError> {
        match self.credentials(form)? {
            Credentials::Basic { id, secret } => {
                let raw = Claimed { id: Some(id.into()), secret: secret.into() };
                Ok(Some(Claim { decoded: raw.decoded(), raw }))
            }
            Credentials::Post(secret) | Credentials::Bearer(secret) => {
                let id = form.get("client_id").map(Cow::Borrowed);
                Ok(Some(Claim { raw: Claimed { id, secret: secret.into() }, decoded: None }))
            }
            Credentials::Assertion(_) | Credentials::None => Ok(None),
        }
    }
}

/// What a request presents to say who sends it, unread.
pub(super) enum Credentials<'a> {
    /// `Authorization: Basic`, taken apart but not form-decoded.
    Basic {
        /// What stands before the colon.
        id: &'a str,
        /// What stands after it.
        secret: &'a str,
    },
    /// `Authorization: Bearer`.
    Bearer(&'a str),
    /// `client_secret` in the body.
    Post(&'a str),
    /// `client_assertion` (RFC 7523 §2.2).
    Assertion(&'a str),
    /// Nothing.
    None,
}

fn basic(header: &str) -> Option<Zeroizing<String>> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let encoded = encoded.trim();
    // The decoder's own buffer would be zeroed memory, which no thread keeps at hand.
    let mut bytes = Vec::with_capacity(encoded.len());
    if STANDARD.decode_vec(encoded, &mut bytes).is_err() {
        bytes.clear();
    }
    Some(Zeroizing::new(String::from_utf8(bytes).unwrap_or_default()))
}
