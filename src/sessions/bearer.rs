//! On whose rights a token is issued, as it proved to be.

use std::sync::Arc;

use crate::gate::{Client, Consent, Holder, KeyCaller, View};
use crate::types::id::AgentId;

/// See the module.
#[derive(Clone, Debug)]
pub(super) enum Bearer {
    /// An agent's key.
    Key(KeyCaller),
    /// What a person allowed a client.
    Consent(Arc<Consent>, Arc<Client>),
    /// A client by itself.
    Client(Arc<Client>),
}

impl Bearer {
    /// The holder of a checked token, as if it had been presented itself.
    pub(super) fn of(view: View<'_>, holder: &Holder) -> Option<Self> {
        let memory = view.memory;
        match holder {
            Holder::Key { id, version, .. } => {
                let key = Arc::clone(memory.keys.get(id)?);
                let agent = Arc::clone(memory.agents.get(&key.agent)?);
                let version = *key.secrets.live(*version, view.now)?;
                Some(Self::Key(KeyCaller { key, agent, version }))
            }
            Holder::Consent(id) => {
                let consent = Arc::clone(memory.consents.get(id)?);
                let client = Arc::clone(memory.clients.get(&consent.client)?);
                Some(Self::Consent(consent, client))
            }
            Holder::Client(id) => Some(Self::Client(Arc::clone(memory.clients.get(id)?))),
        }
    }

    /// Its agent, if it is an agent's.
    pub(super) fn agent(&self) -> Option<AgentId> {
        match self {
            Self::Key(caller) => Some(caller.key.agent),
            Self::Consent(..) | Self::Client(_) => None,
        }
    }

    pub(super) fn holder(&self) -> Holder {
        match self {
            Self::Key(caller) => {
                Holder::Key { id: caller.key.id, agent: caller.key.agent, version: caller.version.number }
            }
            Self::Consent(consent, _) => Holder::Consent(consent.id),
            Self::Client(client) => Holder::Client(client.id),
        }
    }

    /// The claims `sub` and `client_id`.
    pub(super) fn names(&self) -> (String, String) {
        match self {
            Self::Key(caller) => (caller.key.agent.to_string(), caller.key.id.to_string()),
            Self::Consent(consent, client) => (consent.user.to_string(), client.client_id.to_string()),
            // RFC 9068 §2.2: without a person, `sub` is the client.
            Self::Client(client) => (client.client_id.to_string(), client.client_id.to_string()),
        }
    }
}
