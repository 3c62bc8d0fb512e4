//! What a node keeps in memory of keys, agents, servers, roles, operators and revocations, as it was at one instant.

use std::sync::Arc;

use crate::gate::{Agent, Key, Map, Operator, Revoked, Role, Server};
use crate::types::id::{AgentId, KeyId, OperatorId, RoleId, ServerId};
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
    /// The revocation list.
    pub revoked: Revoked,
}
