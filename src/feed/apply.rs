//! A batch of feed entries into memory: what they name is read anew, then put in place.

use std::collections::BTreeSet;
use std::sync::Arc;

use sqlx::PgConnection;

use crate::agents;
use crate::feed::load::{Error, load_settings, load_signing};
use crate::feed::notice::{Narrowing, Notice};
use crate::feed::people;
use crate::feed::pools::Pools;
use crate::feed::store::Entry;
use crate::feed::subscribe::notices;
use crate::feed::translate::{Parts, agent, revocation};
use crate::feed::{KINDS, Shared};
use crate::gate::{Key, Live, Memory, Position, View};
use crate::grants;
use crate::keys;
use crate::operators;
use crate::revocations;
use crate::roles;
use crate::secrets;
use crate::servers;
use crate::tools;
use crate::types::id::{ClientId, KeyId, OperatorId, RoleId, ServerId};
use crate::types::resource::Canonical;

/// What a batch of entries names, each thing once however often it changed.
#[derive(Debug, Default)]
pub(super) struct Batch {
    settings: bool,
    signing: bool,
    keys: BTreeSet<String>,
    operators: BTreeSet<String>,
    servers: BTreeSet<String>,
    agents: BTreeSet<String>,
    roles: BTreeSet<String>,
    revocations: BTreeSet<String>,
    people: people::Names,
    narrowing: Vec<Narrowing>,
}

impl Batch {
    /// Notes an entry. False when its kind is not understood.
    pub(super) fn add(&mut self, entry: Entry) -> bool {
        self.narrowing.extend(entry.narrowing());
        let Entry { kind, target, .. } = entry;
        match kind.as_str() {
            "settings" => self.settings = true,
            "signing_key" => self.signing = true,
            "operator" => drop(self.operators.insert(target)),
            "server" => drop(self.servers.insert(target)),
            "agent" => drop(self.agents.insert(target)),
            "role" => drop(self.roles.insert(target)),
            "key" => drop(self.keys.insert(target)),
            "revocation" => drop(self.revocations.insert(target)),
            // The owner of a secret or the holder of a grant is what changed.
            "secret" | "grant" if target.starts_with(KeyId::PREFIX) => drop(self.keys.insert(target)),
            "secret" if target.starts_with(OperatorId::PREFIX) => drop(self.operators.insert(target)),
            "secret" if target.starts_with(ServerId::PREFIX) => drop(self.servers.insert(target)),
            "grant" if target.starts_with(RoleId::PREFIX) => drop(self.roles.insert(target)),
            "secret" | "grant" if target.starts_with(ClientId::PREFIX) => drop(self.people.clients.insert(target)),
            kind if self.people.add(kind, &target) => {}
            kind => return KINDS.contains(&kind) && matches!(kind, "start" | "history"),
        }
        true
    }

    /// Reads what the entries name. Nothing is put in place yet.
    pub(super) async fn read(self, connection: &mut PgConnection) -> Result<Read, Error> {
        let clients = &self.people.clients;
        let owners = self.keys.iter().chain(&self.operators).chain(&self.servers).chain(clients);
        let owners: Vec<String> = owners.cloned().collect();
        let holders: Vec<String> = self.keys.iter().chain(&self.roles).chain(clients).cloned().collect();
        let ids = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
        let secrets = if owners.is_empty() { Vec::new() } else { secrets::load_some(connection, &owners).await? };
        let granted = if holders.is_empty() { Vec::new() } else { grants::load_some(connection, &holders).await? };
        let key_ids = ids(&self.keys);
        let key_roles =
            if key_ids.is_empty() { Vec::new() } else { roles::load_some_key_roles(connection, &key_ids).await? };
        let keys = if key_ids.is_empty() { Vec::new() } else { keys::load_some(connection, &key_ids).await? };
        let operators = if self.operators.is_empty() {
            Vec::new()
        } else {
            operators::load_some(connection, &ids(&self.operators)).await?
        };
        let servers = if self.servers.is_empty() {
            Vec::new()
        } else {
            servers::load_some(connection, &ids(&self.servers)).await?
        };
        let tools = if self.servers.is_empty() {
            Vec::new()
        } else {
            tools::load_some(connection, &ids(&self.servers)).await?
        };
        let agents =
            if self.agents.is_empty() { Vec::new() } else { agents::load_some(connection, &ids(&self.agents)).await? };
        let revocations = if self.revocations.is_empty() {
            Vec::new()
        } else {
            revocations::load_some(connection, &ids(&self.revocations)).await?
        };
        if let Some(row) = revocations.iter().find(|row| revocation(&row.known()).is_none()) {
            return Err(Error::Unreadable(format!("revocation of {} {}", row.kind, row.target)));
        }
        Ok(Read {
            people: self.people.read(connection).await?,
            parts: Parts::new(secrets, granted, key_roles).with_tools(&tools),
            keys,
            operators,
            servers,
            agents,
            revocations,
            names: self,
        })
    }
}

/// What was read, ready to be put in place.
pub(super) struct Read {
    names: Batch,
    parts: Parts,
    keys: Vec<keys::Row>,
    operators: Vec<operators::Row>,
    servers: Vec<servers::Row>,
    agents: Vec<agents::Row>,
    revocations: Vec<revocations::Named>,
    people: people::Rows,
}

impl Read {
    /// Reads settings and signing keys, which are small, if they changed.
    pub(super) async fn read_small(
        &self,
        connection: &mut PgConnection,
        live: &Live,
        shared: &Shared,
    ) -> Result<(), Error> {
        if self.names.settings {
            load_settings(connection, live).await?;
        }
        if self.names.signing {
            load_signing(connection, live, shared).await?;
        }
        Ok(())
    }

    /// Puts everything in place at once: no request sees a part of it. Gives what servers are to be told of it, up to
    /// `position`.
    pub(super) fn publish(mut self, live: &Live, pools: &mut Pools, position: Position) -> Vec<Notice> {
        let narrowing = std::mem::take(&mut self.names.narrowing);
        let revocations = std::mem::take(&mut self.revocations);
        if !self.names.is_empty() {
            live.change(|memory| self.put(&revocations, memory, pools));
        }
        let view = View { live, memory: &live.memory(), now: live.now(), position };
        notices(view, &narrowing, &revocations)
    }

    fn put(mut self, revocations: &[revocations::Named], memory: &mut Memory, pools: &mut Pools) {
        for (subject, cutoff, until) in revocations.iter().filter_map(|row| revocation(&row.known())) {
            memory.revoked.add(subject, cutoff, until);
        }
        for id in revocations.iter().filter(|row| row.marked).filter_map(|row| row.target.parse().ok()) {
            let known = memory.keys.get(&id).filter(|key| !key.revoked);
            if let Some(key) = known.map(|key| Key { revoked: true, ..Key::clone(key) }) {
                memory.keys.insert(id, Arc::new(key));
            }
        }
        for row in self.agents {
            self.names.agents.remove(&row.id);
            if let Ok(id) = row.id.parse() {
                memory.agents.insert(id, Arc::new(agent(&row)));
            }
        }
        for row in self.servers {
            self.names.servers.remove(&row.id);
            if let Some((canonical, mut server)) = self.parts.server(row) {
                if let Some(before) = memory.servers.get(&server.id) {
                    Arc::make_mut(&mut server.tools).keep_schemas(&before.tools);
                }
                memory.resources.insert(canonical, server.id);
                memory.servers.insert(server.id, Arc::new(server));
            }
        }
        for row in self.operators {
            self.names.operators.remove(&row.id);
            if let Some(operator) = self.parts.operator(row) {
                memory.operators.insert(operator.id, Arc::new(operator));
            }
        }
        let parts = &mut self.parts;
        for (id, role) in self.names.roles.iter().filter_map(|id| parts.role(id)) {
            memory.roles.insert(id, Arc::new(role));
        }
        for row in self.keys {
            self.names.keys.remove(&row.id);
            if let Some((id, key)) = self.parts.key(&row, pools) {
                memory.keys.insert(id, Arc::new(key));
            }
        }
        self.names.people.forget(memory);
        self.people.put(memory, &mut self.parts);
        self.names.forget_what_is_gone(memory);
    }
}

impl Batch {
    /// Whether nothing that memory holds is named.
    fn is_empty(&self) -> bool {
        let Self {
            settings: _,
            signing: _,
            keys,
            operators,
            servers,
            agents,
            roles,
            revocations,
            people,
            narrowing: _,
        } = self;
        people.is_empty() && [keys, operators, servers, agents, roles, revocations].iter().all(|names| names.is_empty())
    }

    /// What was named and not found is gone, or revoked for good.
    fn forget_what_is_gone(self, memory: &mut Memory) {
        for id in self.agents.iter().filter_map(|id| id.parse().ok()) {
            memory.agents.remove(&id);
        }
        for id in self.servers.iter().filter_map(|id| id.parse().ok()) {
            let canonical = memory.servers.get(&id).and_then(|server| Canonical::parse(&server.resource).ok());
            if let Some(canonical) = canonical {
                memory.resources.remove(&canonical);
            }
            memory.servers.remove(&id);
        }
        for id in self.operators.iter().filter_map(|id| id.parse().ok()) {
            memory.operators.remove(&id);
        }
        for id in self.keys.iter().filter_map(|id| id.parse().ok()) {
            memory.keys.remove(&id);
        }
    }
}
