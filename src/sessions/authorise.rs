//! What a key may have as a session token (RFC 6749 §4.4, RFC 8707): decided from memory, without I/O.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::gate::{Claims, Key, KeyCaller, Position, Server, View, effective_permissions, servers_of};
use crate::types::alg::Alg;
use crate::types::clock::Timestamp;
use crate::types::id::SessionId;
use crate::types::permission::{Permissions, SCOPE_BYTES_MAX, requested, scope_string};
use crate::types::resource::Canonical;

/// A refusal of the token endpoint, in OAuth's words (RFC 6749 §5.2, RFC 8707 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client is not who it says, or may not act now. Always the same words.
    InvalidClient,
    /// The request itself is wrong, or its subject token is not good (RFC 8693 §2.2.2).
    InvalidRequest(String),
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
    let parts = Parts {
        caller,
        server: &server,
        granted,
        ends: caller.version.expires,
        act: None,
        ancestors: Vec::new(),
        address: wish.address,
    };
    draft(view, parts)
}

/// Everything a token is made of.
pub(super) struct Parts<'a> {
    pub(super) caller: &'a KeyCaller,
    pub(super) server: &'a Server,
    pub(super) granted: Permissions,
    /// No parent lives longer than this.
    pub(super) ends: Timestamp,
    pub(super) act: Option<crate::gate::Actor>,
    pub(super) ancestors: Vec<String>,
    pub(super) address: Option<IpAddr>,
}

/// Puts the claims together. `exp` is at most the settings' life away, and never after a parent's end.
pub(super) fn draft(view: View<'_>, parts: Parts<'_>) -> Result<Draft, Refusal> {
    let key: &Arc<Key> = &parts.caller.key;
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
    let claims = Claims {
        iss: view.live.issuer.to_string(),
        sub: key.agent.to_string(),
        aud: parts.server.resource.to_string(),
        client_id: key.id.to_string(),
        jti: SessionId::at(view.now),
        iat: view.now.seconds(),
        exp,
        scope,
        permissions: parts.granted,
        agent_id: key.agent,
        environment: key.environment,
        key_id: key.id,
        act: parts.act,
        srv: parts.server.id,
        kv: parts.caller.version.number,
        anc: parts.ancestors,
        pos: view.position.to_string(),
    };
    Ok(Draft { claims, alg: parts.server.alg, position: view.position, expires_in, address: parts.address })
}

/// The server asked for; the key's only one when none was named. Whatever is wrong is `invalid_target` (RFC 8707 §2).
pub(super) fn target(view: View<'_>, key: &Key, resources: &[String]) -> Result<Arc<Server>, Refusal> {
    let id = match resources {
        [] => {
            let mut servers = servers_of(view, key).into_iter();
            let only = servers.next().ok_or(Refusal::InvalidTarget)?;
            if servers.next().is_some() {
                return Err(Refusal::InvalidTarget);
            }
            only
        }
        [resource] => {
            let canonical = Canonical::parse(resource).map_err(|_| Refusal::InvalidTarget)?;
            *view.memory.resources.get(&canonical).ok_or(Refusal::InvalidTarget)?
        }
        _ => return Err(Refusal::InvalidTarget),
    };
    view.memory.servers.get(&id).cloned().ok_or(Refusal::InvalidTarget)
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
