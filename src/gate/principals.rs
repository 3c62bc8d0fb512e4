//! Who presents a secret: an agent's key, an operator's, a server's.
//!
//! In each, the secret is compared before anything about its owner is looked at, and an unknown id costs the same HMAC.

use std::net::IpAddr;
use std::sync::Arc;

use crate::gate::things::check_address;
use crate::gate::{Agent, Inactive, Key, Operator, Secrets, Server, Subject, Version, View};
use crate::types::credential::{Kind, Presented};
use crate::types::id::{KeyId, OperatorId, ServerId};

/// An agent's key that was presented with its right secret, and works.
#[derive(Clone, Debug)]
pub struct KeyCaller {
    /// The key.
    pub key: Arc<Key>,
    /// Its agent.
    pub agent: Arc<Agent>,
    /// Which version of the secret was presented.
    pub version: Version,
}

/// The same where it stands in a node's memory: what all requests share is not counted for each of them.
#[derive(Clone, Copy, Debug)]
pub struct KeyShown<'a> {
    /// The key.
    pub key: &'a Arc<Key>,
    /// Its agent.
    pub agent: &'a Arc<Agent>,
    /// Which version of the secret was presented.
    pub version: &'a Version,
}

impl From<KeyShown<'_>> for KeyCaller {
    fn from(shown: KeyShown<'_>) -> Self {
        Self { key: Arc::clone(shown.key), agent: Arc::clone(shown.agent), version: *shown.version }
    }
}

/// The key presented, if it works for a caller at `address`.
///
/// # Errors
///
/// Why it does not, with the key's id once its secret proved right.
pub fn authenticate_key<'a>(
    view: View<'a>,
    presented: &Presented<'_>,
    address: Option<IpAddr>,
) -> Result<KeyShown<'a>, (Inactive, Option<KeyId>)> {
    let Kind::Key(environment) = presented.kind() else { return Err((Inactive::WrongType, None)) };
    let id = KeyId::of(presented.id()).ok_or((Inactive::Malformed, None))?;
    let key = view.memory.keys.get(&id);
    let version = matching(view, key.map(|key| &key.secrets), presented);
    let key = key.ok_or((Inactive::Unknown, None))?;
    let version = version.ok_or((Inactive::WrongSecret, Some(id)))?;
    let known = |cause| (cause, Some(id));
    if key.environment != environment {
        return Err(known(Inactive::WrongEnvironment));
    }
    key.secrets.check_live(version, view.now).map_err(known)?;
    let agent = check_key(view, key).map_err(known)?;
    check_address(key.allowed.as_deref(), address).map_err(known)?;
    Ok(KeyShown { key, agent, version })
}

/// Whether a key, whatever its secret, and its agent may act now.
///
/// # Errors
///
/// Why not.
pub fn check_key<'a>(view: View<'a>, key: &Key) -> Result<&'a Arc<Agent>, Inactive> {
    if key.revoked || view.memory.revoked.whole(&Subject::Key(key.id)) {
        return Err(Inactive::Revoked);
    }
    if key.disabled {
        return Err(Inactive::KeyDisabled);
    }
    let agent = view.memory.agents.get(&key.agent).ok_or(Inactive::Unknown)?;
    if agent.disabled { Err(Inactive::AgentDisabled) } else { Ok(agent) }
}

/// The operator presented, if its key works for a caller at `address`, and which version of it was presented.
///
/// # Errors
///
/// Why it does not.
pub fn authenticate_operator(
    view: View<'_>,
    presented: &Presented<'_>,
    address: Option<IpAddr>,
) -> Result<(Arc<Operator>, Version), Inactive> {
    if presented.kind() != Kind::Admin {
        return Err(Inactive::WrongType);
    }
    let id = OperatorId::of(presented.id()).ok_or(Inactive::Malformed)?;
    let operator = view.memory.operators.get(&id);
    let version = matching(view, operator.map(|operator| &operator.secrets), presented);
    let operator = operator.ok_or(Inactive::Unknown)?;
    let version = version.ok_or(Inactive::WrongSecret)?;
    operator.secrets.check_live(version, view.now)?;
    if view.memory.revoked.whole(&Subject::Operator(id)) {
        return Err(Inactive::Revoked);
    }
    if operator.disabled {
        return Err(Inactive::KeyDisabled);
    }
    check_address(operator.allowed.as_deref(), address)?;
    Ok((Arc::clone(operator), *version))
}

/// The server presented, if its client secret works, and which version of it was presented.
///
/// # Errors
///
/// Why it does not.
pub fn authenticate_server<'a>(
    view: View<'a>,
    presented: &Presented<'_>,
) -> Result<(&'a Arc<Server>, &'a Version), Inactive> {
    if presented.kind() != Kind::Server {
        return Err(Inactive::WrongType);
    }
    let id = ServerId::of(presented.id()).ok_or(Inactive::Malformed)?;
    let server = view.memory.servers.get(&id);
    let version = matching(view, server.map(|server| &server.secrets), presented);
    let server = server.ok_or(Inactive::Unknown)?;
    let version = version.ok_or(Inactive::WrongSecret)?;
    server.secrets.check_live(version, view.now)?;
    if server.disabled {
        return Err(Inactive::ServerDisabled);
    }
    Ok((server, version))
}

fn matching<'a>(view: View<'_>, secrets: Option<&'a Secrets>, presented: &Presented<'_>) -> Option<&'a Version> {
    const NOTHING: &Secrets = &Secrets::NONE;
    secrets.unwrap_or(NOTHING).matching(&view.live.keyring, presented.reveal())
}

/// Whose a secret is, whatever its state.
#[derive(Clone, Debug)]
pub enum Recognised {
    /// An agent's key, and its project.
    Key(Arc<Key>, Arc<str>),
    /// An operator.
    Operator(OperatorId),
    /// A server, and its project.
    Server(ServerId, Arc<str>),
}

/// Whose secret this is, whatever its state and wherever it is shown from: for ending it. `None`: nobody's.
#[must_use]
pub fn recognise(view: View<'_>, presented: &Presented<'_>) -> Option<Recognised> {
    match presented.kind() {
        Kind::Key(_) => recognise_key(view, presented).ok().map(|(key, project)| Recognised::Key(key, project)),
        Kind::Admin => {
            let operator = OperatorId::of(presented.id()).and_then(|id| view.memory.operators.get(&id));
            let right = matching(view, operator.map(|operator| &operator.secrets), presented).is_some();
            operator.filter(|_| right).map(|operator| Recognised::Operator(operator.id))
        }
        Kind::Server => {
            let server = ServerId::of(presented.id()).and_then(|id| view.memory.servers.get(&id));
            let right = matching(view, server.map(|server| &server.secrets), presented).is_some();
            server.filter(|_| right).map(|server| Recognised::Server(server.id, Arc::clone(&server.project)))
        }
        Kind::Client | Kind::Refresh => None,
    }
}

/// The key whose secret this is, whatever its state and wherever it is shown from: for ending it. With its project.
///
/// # Errors
///
/// It is nobody's.
pub fn recognise_key(view: View<'_>, presented: &Presented<'_>) -> Result<(Arc<Key>, Arc<str>), Inactive> {
    let Kind::Key(_) = presented.kind() else { return Err(Inactive::WrongType) };
    let id = KeyId::of(presented.id()).ok_or(Inactive::Malformed)?;
    let key = view.memory.keys.get(&id);
    let version = matching(view, key.map(|key| &key.secrets), presented);
    let key = key.ok_or(Inactive::Unknown)?;
    version.ok_or(Inactive::WrongSecret)?;
    let project = view.memory.agents.get(&key.agent).map(|agent| Arc::clone(&agent.project)).unwrap_or_default();
    Ok((Arc::clone(key), project))
}
