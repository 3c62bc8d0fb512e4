//! What a node keeps in memory of keys, agents, servers, roles, operators, clients, people and revocations, as it was at one
//! instant.

use std::sync::Arc;

use crate::gate::{Agent, Client, Consent, Key, Map, Operator, Provider, Revoked, Role, Server, User};
use crate::types::id::{AgentId, ClientId, ConsentId, KeyId, OperatorId, ProviderId, RoleId, ServerId, UserId};
use crate::types::resource::Canonical;

/// See the module. Cloning is cheap, and a clone stays as it is whatever becomes of the other.
#[derive(Clone, Default)]
pub struct Memory {
    /// API keys.
    pub keys: Map<KeyId, Arc<Key>>,
    /// Agents.
    pub agents: Map<AgentId, Arc<Agent>>,
    /// Servers.
    pub servers: Map<ServerId, Arc<Server>>,
    /// Servers by canonical resource.
    pub resources: Map<Canonical, ServerId>,
    /// Roles.
    pub roles: Map<RoleId, Arc<Role>>,
    /// Operators.
    pub operators: Map<OperatorId, Arc<Operator>>,
    /// OAuth clients.
    pub clients: Map<ClientId, Arc<Client>>,
    /// Identity providers.
    pub providers: Map<ProviderId, Arc<Provider>>,
    /// People.
    pub users: Map<UserId, Arc<User>>,
    /// What people allowed.
    pub consents: Map<ConsentId, Arc<Consent>>,
    /// The revocation list.
    pub revoked: Revoked,
}
