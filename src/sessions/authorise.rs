//! What a key, a client or what a person allowed may have as a session token (RFC 6749 §4, RFC 8707): decided from memory,
//! without I/O.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::gate::{
    Ancestor, Claims, Client, Confirmation, Holder, Inactive, Key, KeyCaller, Position, Server, View, check_holder,
    effective_permissions, servers_of,
};
use crate::sessions::bearer::Bearer;
use crate::types::alg::Alg;
use crate::types::clock::Timestamp;
use crate::types::id::{ConsentId, ServerId, SessionId};
use crate::types::permission::{Permissions, SCOPE_BYTES_MAX, requested, scope_string};
use crate::types::resource::Canonical;
use crate::types::thumbprint::Thumbprint;

/// A refusal of the token endpoint, in OAuth's words (RFC 6749 §5.2, RFC 8707 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client is not who it says, or may not act now. Always the same words.
    InvalidClient,
    /// The request itself is wrong, or its subject token is not good (RFC 8693 §2.2.2).
    InvalidRequest(String),
    /// The code or the refresh token is not good, or not for this client (RFC 6749 §5.2). Always the same words.
    InvalidGrant,
    /// This client may not use this grant.
    UnauthorizedClient,
    /// The resource is unknown or not for this client.
    InvalidTarget,
    /// The scope is malformed, unknown, or nothing of it is held.
    InvalidScope(String),
    /// A token is from a state that this node has not reached.
    Ahead(Position),
}

/// What is asked for beside who asks.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The resource URIs asked for.
    pub resources: Vec<String>,
    /// The scope asked for; `None`: all there is.
    pub scope: Option<String>,
    /// From where the request came.
    pub address: Option<IpAddr>,
    /// The key that the sender proved to have: the token is bound to it (RFC 9449 §5).
    pub key: Option<Thumbprint>,
}

/// A token that may be issued: to be signed, written, and only then handed out.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its claims.
    pub claims: Claims,
    /// What it is to be signed with.
    pub alg: Alg,
    /// What the issuing node had published before it began to authorise.
    pub position: Position,
    /// Seconds until it ends.
    pub expires_in: i64,
    /// From where it was asked for.
    pub address: Option<IpAddr>,
    /// On whose rights it rests.
    pub holder: Holder,
    /// The family of refresh tokens that it belongs to.
    pub family: Option<SessionId>,
}

/// A token for an authenticated key.
///
/// # Errors
///
/// See [`Refusal`].
pub fn authorise(view: View<'_>, caller: &KeyCaller, wish: &Wish) -> Result<Draft, Refusal> {
    let server = target(view, &caller.key, &wish.resources)?;
    let held = effective_permissions(view, &caller.key, server.id);
    if held.is_empty() || server.environment != caller.key.environment || server.disabled {
        return Err(Refusal::InvalidTarget);
    }
    let granted = narrow(&held, wish.scope.as_deref(), &server)?;
    draft(view, Parts::new(&Bearer::Key(caller.clone()), &server, granted, caller.version.expires, wish))
}

/// A token for a client that authenticated and acts by itself (RFC 6749 §4.4).
///
/// # Errors
///
/// See [`Refusal`].
pub fn authorise_client(view: View<'_>, client: &Arc<Client>, wish: &Wish) -> Result<Draft, Refusal> {
    let servers = || client.grants.iter().map(|grant| grant.server).collect();
    let server = target_among(view, servers, &wish.resources)?;
    let now = (view.position, view.now);
    let held = check_holder(view, &Holder::Client(client.id), &server, now).map_err(|cause| match cause {
        Inactive::NothingLeft | Inactive::ServerDisabled => Refusal::InvalidTarget,
        Inactive::NotYet => Refusal::Ahead(view.position),
        _ => Refusal::InvalidClient,
    })?;
    let granted = narrow(&held, wish.scope.as_deref(), &server)?;
    let bearer = Bearer::Client(Arc::clone(client));
    draft(view, Parts::new(&bearer, &server, granted, Timestamp::NEVER, wish))
}

/// What a person allowed, being turned into a token: by a code, or by a refresh token.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// What was allowed.
    pub consent: ConsentId,
    /// The part of it that was asked for then.
    pub permissions: Permissions,
    /// The family that the token will belong to, and when that began.
    pub family: (SessionId, Timestamp),
    /// What the node had published that began it.
    pub position: Position,
}

/// A token on a person's word.
///
/// # Errors
///
/// See [`Refusal`]; whatever is dead of what it hangs on is [`Refusal::InvalidGrant`].
pub fn authorise_allowed(view: View<'_>, allowed: &Allowed, wish: &Wish) -> Result<Draft, Refusal> {
    if view.position.is_before(allowed.position) {
        return Err(Refusal::Ahead(allowed.position));
    }
    let holder = Holder::Consent(allowed.consent);
    let bearer = Bearer::of(view, &holder).ok_or(Refusal::InvalidGrant)?;
    let Bearer::Consent(consent, _) = &bearer else { return Err(Refusal::InvalidGrant) };
    let server = view.memory.servers.get(&consent.server).cloned().ok_or(Refusal::InvalidGrant)?;
    // The server was chosen by the person: a resource may only repeat it.
    if !wish.resources.is_empty() && named(view, &wish.resources)?.id != server.id {
        return Err(Refusal::InvalidTarget);
    }
    let (family, began) = allowed.family;
    let held = check_holder(view, &holder, &server, (allowed.position, began)).map_err(|_| Refusal::InvalidGrant)?;
    let held = held.intersect(&allowed.permissions);
    if held.is_empty() {
        return Err(Refusal::InvalidGrant);
    }
    let granted = narrow(&held, wish.scope.as_deref(), &server)?;
    let mut parts = Parts::new(&bearer, &server, granted, Timestamp::NEVER, wish);
    parts.ancestors.push(Ancestor::Token(family, began.seconds()).to_claim());
    Ok(Draft { family: Some(family), ..draft(view, parts)? })
}

/// Why [`authorise_allowed`] finds the grant dead: the stable cause, for the flow's trace.
#[must_use]
pub fn why_refused(view: View<'_>, allowed: &Allowed) -> &'static str {
    let holder = Holder::Consent(allowed.consent);
    let server = match Bearer::of(view, &holder) {
        Some(Bearer::Consent(consent, _)) => view.memory.servers.get(&consent.server),
        _ => None,
    };
    let Some(server) = server else { return Inactive::Unknown.as_str() };
    let since = (allowed.position, allowed.family.1);
    check_holder(view, &holder, server, since).err().unwrap_or(Inactive::NothingLeft).as_str()
}

/// Everything a token is made of.
pub(super) struct Parts<'a> {
    pub(super) bearer: &'a Bearer,
    pub(super) server: &'a Server,
    pub(super) granted: Permissions,
    /// No parent lives longer than this.
    pub(super) ends: Timestamp,
    pub(super) act: Option<crate::gate::Actor>,
    pub(super) ancestors: Vec<String>,
    pub(super) wish: &'a Wish,
}

impl<'a> Parts<'a> {
    /// A token that nobody acts with but its holder, and that hangs on nothing else.
    fn new(bearer: &'a Bearer, server: &'a Server, granted: Permissions, ends: Timestamp, wish: &'a Wish) -> Self {
        Self { bearer, server, granted, ends, act: None, ancestors: Vec::new(), wish }
    }
}

/// Puts the claims together. `exp` is at most the settings' life away, and never after a parent's end.
pub(super) fn draft(view: View<'_>, parts: Parts<'_>) -> Result<Draft, Refusal> {
    let scope = scope_string(&parts.granted, &parts.server.scopes);
    if scope.len() > SCOPE_BYTES_MAX {
        return Err(Refusal::InvalidScope(format!(
            "the token's scope would be longer than {SCOPE_BYTES_MAX} bytes; ask for less"
        )));
    }
    let ttl: Duration = view.live.settings.load().session_ttl;
    let exp = view.now.plus(ttl).min(parts.ends).seconds();
    let expires_in = exp - view.now.seconds();
    if expires_in < 1 {
        return Err(Refusal::InvalidClient);
    }
    let holder = parts.bearer.holder();
    let mut ancestors = parts.ancestors;
    let (mut agent_id, mut key_id, mut kv) = (None, None, None);
    let own = match holder {
        Holder::Key { id, agent, version } => {
            (agent_id, key_id, kv) = (Some(agent), Some(id), Some(version));
            None
        }
        Holder::Consent(id) => Some(Ancestor::Consent(id).to_claim()),
        Holder::Client(id) => Some(Ancestor::Client(id).to_claim()),
    };
    // What was exchanged has it already.
    ancestors.extend(own.filter(|own| !ancestors.contains(own)));
    let (sub, client_id) = parts.bearer.names();
    let claims = Claims {
        iss: view.live.issuer.to_string(),
        sub,
        aud: parts.server.resource.to_string(),
        client_id,
        jti: SessionId::at(view.now),
        iat: view.now.seconds(),
        exp,
        scope,
        permissions: parts.granted,
        agent_id,
        environment: parts.server.environment,
        key_id,
        act: parts.act,
        cnf: parts.wish.key.map(|jkt| Confirmation { jkt }),
        srv: parts.server.id,
        kv,
        anc: ancestors,
        pos: view.position.to_string(),
    };
    let (alg, position, address) = (parts.server.alg, view.position, parts.wish.address);
    Ok(Draft { claims, alg, position, expires_in, address, holder, family: None })
}

/// The server asked for; the key's only one when none was named. Whatever is wrong is `invalid_target` (RFC 8707 §2).
pub(super) fn target(view: View<'_>, key: &Key, resources: &[String]) -> Result<Arc<Server>, Refusal> {
    target_among(view, || servers_of(view, key), resources)
}

fn target_among(
    view: View<'_>,
    servers: impl FnOnce() -> BTreeSet<ServerId>,
    resources: &[String],
) -> Result<Arc<Server>, Refusal> {
    if !resources.is_empty() {
        return named(view, resources);
    }
    let mut servers = servers().into_iter();
    match (servers.next(), servers.next()) {
        (Some(only), None) => view.memory.servers.get(&only).cloned().ok_or(Refusal::InvalidTarget),
        _ => Err(Refusal::InvalidTarget),
    }
}

/// The one server that is named.
pub(super) fn named(view: View<'_>, resources: &[String]) -> Result<Arc<Server>, Refusal> {
    let [resource] = resources else { return Err(Refusal::InvalidTarget) };
    let canonical = Canonical::parse(resource).map_err(|_| Refusal::InvalidTarget)?;
    let id = view.memory.resources.get(&canonical).ok_or(Refusal::InvalidTarget)?;
    view.memory.servers.get(id).cloned().ok_or(Refusal::InvalidTarget)
}

/// The part of what is held that was asked for. What is known but not held is left out; nothing left is a refusal.
pub(super) fn narrow(held: &Permissions, scope: Option<&str>, server: &Server) -> Result<Permissions, Refusal> {
    let Some(scope) = scope.filter(|scope| !scope.is_empty()) else { return Ok(held.clone()) };
    let wanted = requested(scope, &server.scopes).map_err(|error| Refusal::InvalidScope(error.to_string()))?;
    let granted = held.intersect(&wanted);
    if granted.is_empty() {
        return Err(Refusal::InvalidScope("nothing of what was asked for is held".to_owned()));
    }
    Ok(granted)
}
