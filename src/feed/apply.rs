//! A batch of feed entries into memory: what they name is read anew, then put in place.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use crate::agents;
use crate::feed::load::{Error, load_settings, load_signing};
use crate::feed::notice::{Narrowing, Notice};
use crate::feed::store::Entry;
use crate::feed::subscribe::notices;
use crate::feed::translate::{Parts, revocation};
use crate::feed::{KINDS, Shared};
use crate::gate::{Agent, Live, Position, Server, View};
use crate::grants;
use crate::keys;
use crate::operators;
use crate::revocations;
use crate::roles;
use crate::secrets;
use crate::servers;
use crate::types::id::{AgentId, KeyId, OperatorId, RoleId, ServerId};
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
            kind => return KINDS.contains(&kind) && matches!(kind, "start" | "history"),
        }
        true
    }

    /// Reads what the entries name. Nothing is put in place yet.
    pub(super) async fn read(self, connection: &mut PgConnection) -> Result<Read, Error> {
        let owners: Vec<String> = self.keys.iter().chain(&self.operators).chain(&self.servers).cloned().collect();
        let holders: Vec<String> = self.keys.iter().chain(&self.roles).cloned().collect();
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
            parts: Parts::new(secrets, granted, key_roles),
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

    /// Puts everything in place: revocations first, so that what dies is dead before anything else changes. Gives what
    /// servers are to be told of it, up to `position`.
    pub(super) fn publish(mut self, live: &Live, position: Position) -> Vec<Notice> {
        for (subject, cutoff) in self.revocations.iter().filter_map(|row| revocation(&row.known())) {
            live.revoked.add(&subject, cutoff);
        }
        for row in self.agents {
            self.names.agents.remove(&row.id);
            if let Ok(id) = row.id.parse::<AgentId>() {
                live.agents.set(&id, Some(Agent { project: row.project.as_str().into(), disabled: row.disabled }));
            }
        }
        for row in self.servers {
            self.names.servers.remove(&row.id);
            if let Some((canonical, server)) = self.parts.server(row) {
                put_server(live, &canonical, server);
            }
        }
        for row in self.operators {
            self.names.operators.remove(&row.id);
            if let Some(operator) = self.parts.operator(row) {
                live.operators.set(&operator.id.clone(), Some(operator));
            }
        }
        let parts = &mut self.parts;
        for (id, role) in self.names.roles.iter().filter_map(|id| parts.role(id)) {
            live.roles.set(&id, Some(role));
        }
        for row in self.keys {
            self.names.keys.remove(&row.id);
            if let Some((id, key)) = self.parts.key(row) {
                live.keys.set(&id, Some(key));
            }
        }
        let narrowing = std::mem::take(&mut self.names.narrowing);
        self.names.forget_what_is_gone(live);
        notices(View { live, now: live.now(), position }, &narrowing, &self.revocations)
    }
}

impl Batch {
    /// What was named and not found is gone, or revoked for good.
    fn forget_what_is_gone(self, live: &Live) {
        for id in self.agents.iter().filter_map(|id| id.parse().ok()) {
            live.agents.set(&id, None);
        }
        for id in self.servers.iter().filter_map(|id| id.parse().ok()) {
            if let Some(server) = live.servers.get(&id) {
                if let Ok(canonical) = Canonical::parse(&server.resource) {
                    live.resources.set(&canonical, None);
                }
                live.servers.set(&id, None);
            }
        }
        for id in self.operators.iter().filter_map(|id| id.parse().ok()) {
            live.operators.set(&id, None);
        }
        for id in self.keys.iter().filter_map(|id| id.parse().ok()) {
            live.keys.set(&id, None);
        }
    }
}

fn put_server(live: &Live, canonical: &Canonical, server: Server) {
    let id = server.id;
    live.servers.set(&id, Some(server));
    live.resources.set(canonical, Some(id));
}
