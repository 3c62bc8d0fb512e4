//! Who asks. A layer authenticates the operator before anything else is looked at; the scope that a route needs is the
//! type of its handler's parameter.

use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use http::{Extensions, HeaderMap, header};

use crate::app::{App, AppState};
use crate::audit::Entry;
use crate::gate::{Inactive, authenticate_operator};
use crate::http::client_address::client_address;
use crate::http::problem::Problem;
use crate::http::request_id::RequestId;
use crate::observations::{Owner, Place};
use crate::refusal::{Code, Refused};
use crate::types::caller::Caller;
use crate::types::credential::Presented;

/// A scope, as a type.
pub trait Scope: Send + Sync + 'static {
    /// Its name.
    const NAME: &'static str;
}

macro_rules! scopes {
    ($($name:ident = $text:literal),+ $(,)?) => {
        $(
            #[doc = concat!("`", $text, "`.")]
            #[derive(Debug)]
            pub struct $name;
            impl Scope for $name {
                const NAME: &'static str = $text;
            }
        )+
    };
}

scopes! {
    ProjectsRead = "projects:read", ProjectsWrite = "projects:write",
    OperatorsRead = "operators:read", OperatorsWrite = "operators:write",
    ServersRead = "servers:read", ServersWrite = "servers:write",
    AgentsRead = "agents:read", AgentsWrite = "agents:write",
    KeysRead = "keys:read", KeysWrite = "keys:write",
    ClientsRead = "clients:read", ClientsWrite = "clients:write",
    RolesRead = "roles:read", RolesWrite = "roles:write",
    ProvidersRead = "providers:read", ProvidersWrite = "providers:write",
    IssuersRead = "issuers:read", IssuersWrite = "issuers:write",
    UsersRead = "users:read", UsersWrite = "users:write",
    SessionsRead = "sessions:read", SessionsWrite = "sessions:write",
    RevocationsRead = "revocations:read", RevocationsWrite = "revocations:write",
    AuditRead = "audit:read",
    NodesRead = "nodes:read",
    JobsRead = "jobs:read", JobsWrite = "jobs:write",
    SettingsRead = "settings:read", SettingsWrite = "settings:write",
    WebhooksRead = "webhooks:read", WebhooksWrite = "webhooks:write",
    GrantsWrite = "grants:write",
}

/// An operator who has the scope `S`.
pub struct By<S> {
    /// The operator, with all its rights.
    pub caller: Caller,
    scope: PhantomData<S>,
}

impl<S: Scope> FromRequestParts<Arc<App>> for By<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        // The layer below put it there; a route without the layer lets nobody in.
        let caller = parts.extensions.get::<Caller>().cloned().ok_or(Problem::from(Code::Unauthenticated))?;
        if caller.has(S::NAME) {
            return Ok(Self { caller, scope: PhantomData });
        }
        Err(Refused::new(Code::MissingScope, format!("This needs the scope `{}`.", S::NAME)).into())
    }
}

/// The layer of `/v1`: lets operators in, and notes who it is.
///
/// # Errors
///
/// No operator, or one whose key does not work; 503 when this node cannot prove that it is current.
pub async fn authenticate(State(app): AppState, mut request: Request, next: Next) -> Result<Response, Problem> {
    let address = address(&app, request.extensions(), request.headers());
    let request_id = request.extensions().get::<RequestId>().map(ToString::to_string);
    let caller = operator(&app, request.headers(), address, request_id)?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

fn operator(
    app: &App,
    headers: &HeaderMap,
    address: Option<IpAddr>,
    request_id: Option<String>,
) -> Result<Caller, Problem> {
    let token = bearer(headers).unwrap_or_default();
    let presented = Presented::parse(token);
    let (outcome, at) = app.live.answer(|view| {
        let operator = presented.as_ref().ok_or(Inactive::Malformed);
        (operator.and_then(|presented| authenticate_operator(view, presented, address)), view.now)
    })?;
    match (outcome, presented) {
        (Ok((operator, version)), Some(presented)) => {
            app.used(presented.reveal(), Owner::Operator(operator.id), &version, Place { at, server: None, address });
            Ok(Caller {
                actor: operator.id.to_string(),
                scopes: operator.scopes.clone(),
                projects: operator.projects.clone(),
                address,
                request_id,
            })
        }
        (Err(cause), presented) => {
            let client = presented.map(|presented| format!("opr_{}", String::from_utf8_lossy(presented.id())));
            let by = Caller { address, request_id, ..Caller::nobody("unknown".to_owned()) };
            let mut entry = Entry::new(&by, "operator.refused").refused(cause.as_str());
            if let Some(client) = &client {
                entry = entry.on(client);
            }
            Err(failed(app, "operator", (address, client.as_deref()), entry))
        }
        (Ok(_), None) => Err(Code::Internal.into()),
    }
}

/// A failed authentication: counted, recorded, and after too many told to wait.
pub(super) fn failed(
    app: &App,
    kind: &'static str,
    (address, client): (Option<IpAddr>, Option<&str>),
    entry: Entry,
) -> Problem {
    app.metrics.failed_authentication(kind);
    match app.failures.count(address, client) {
        Ok(()) => {
            if !app.recorder.record(entry) {
                app.metrics.audit_write_failure();
            }
            Refused::new(Code::Unauthenticated, "A credential that works is needed in `Authorization: Bearer`.").into()
        }
        Err(wait) => {
            let problem = Problem::from(Refused::new(Code::TooManyFailures, "Too many failed attempts; wait."));
            Problem { retry_after: Some(wait.as_secs() + 1), ..problem }
        }
    }
}

/// The one credential of `Authorization: Bearer`. Two headers are none.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (first, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = first.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// From where a request comes, if that is known.
pub(super) fn address(app: &App, extensions: &Extensions, headers: &HeaderMap) -> Option<IpAddr> {
    Origin::of(extensions).address(app, headers)
}

/// What is known of a request beside what it says itself.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    /// The other end of its connection.
    pub(super) peer: Option<IpAddr>,
    /// Its id.
    pub(super) id: Option<RequestId>,
}

impl Origin {
    /// As the listener and the layers noted it.
    pub(super) fn of(extensions: &Extensions) -> Self {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        Self { peer, id: extensions.get::<RequestId>().copied() }
    }

    /// From where the request comes, if that is known.
    pub(super) fn address(self, app: &App, headers: &HeaderMap) -> Option<IpAddr> {
        client_address(self.peer?, headers, &app.config.trusted_proxies, app.config.behind_tls_proxy)
    }
}
