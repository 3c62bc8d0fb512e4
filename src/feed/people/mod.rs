//! Clients, providers, people and what these allowed: from their tables into the gate's words.

mod store;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sqlx::PgConnection;

use crate::db;
use crate::feed::translate::Parts;
use crate::gate::{Client, Consent, Memory, Provider, User};
use crate::types::id::RoleId;
use crate::types::permission::Permissions;
use crate::users;

/// What a batch names of them, each once.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) clients: BTreeSet<String>,
    providers: BTreeSet<String>,
    users: BTreeSet<String>,
    consents: BTreeSet<String>,
}

/// What was read, ready to be put in place.
#[derive(Default)]
pub(super) struct Rows {
    clients: Vec<store::ClientRow>,
    providers: Vec<store::ProviderRow>,
    users: Vec<users::Row>,
    roles: Vec<users::UserRole>,
    consents: Vec<users::ConsentRow>,
}

impl Names {
    /// Notes an entry of one of these kinds; false for any other.
    pub(super) fn add(&mut self, kind: &str, target: &str) -> bool {
        let names = match kind {
            "client" => &mut self.clients,
            "provider" => &mut self.providers,
            "user" => &mut self.users,
            "consent" => &mut self.consents,
            _ => return false,
        };
        names.insert(target.to_owned());
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { clients, providers, users, consents } = self;
        [clients, providers, users, consents].iter().all(|names| names.is_empty())
    }

    /// Reads what is named.
    pub(super) async fn read(&self, connection: &mut PgConnection) -> db::Result<Rows> {
        let ids = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
        let mut rows = Rows {
            clients: store::some_clients(connection, &ids(&self.clients)).await?,
            providers: store::some_providers(connection, &ids(&self.providers)).await?,
            ..Rows::default()
        };
        if !self.users.is_empty() {
            let users = ids(&self.users);
            rows.roles = users::load_some_roles(connection, &users).await?;
            rows.users = users::load_some(connection, &users).await?;
        }
        if !self.consents.is_empty() {
            rows.consents = users::load_some_consents(connection, &ids(&self.consents)).await?;
        }
        Ok(rows)
    }

    /// Takes out what is named: what is still there is put in its place again.
    pub(super) fn forget(&self, memory: &mut Memory) {
        for id in self.clients.iter().filter_map(|id| id.parse().ok()) {
            memory.clients.remove(&id);
        }
        for id in self.providers.iter().filter_map(|id| id.parse().ok()) {
            memory.providers.remove(&id);
        }
        for id in self.users.iter().filter_map(|id| id.parse().ok()) {
            memory.users.remove(&id);
        }
        for id in self.consents.iter().filter_map(|id| id.parse().ok()) {
            memory.consents.remove(&id);
        }
    }
}

impl Rows {
    /// Reads everything.
    pub(super) async fn all(connection: &mut PgConnection) -> db::Result<Self> {
        Ok(Self {
            clients: store::all_clients(connection).await?,
            providers: store::all_providers(connection).await?,
            users: users::load_all(connection).await?,
            roles: users::load_all_roles(connection).await?,
            consents: users::load_all_consents(connection).await?,
        })
    }

    /// Puts them in place. A row that cannot be understood is left out: what is not known is refused.
    pub(super) fn put(self, memory: &mut Memory, parts: &mut Parts) {
        for row in self.clients {
            let Ok(id) = row.id.parse() else { continue };
            let client = Client {
                id,
                client_id: row.client_id.into(),
                project: row.project.into(),
                disabled: row.disabled,
                grants: parts.grants_of(&row.id),
                secrets: parts.secrets_of(&row.id),
            };
            memory.clients.insert(id, Arc::new(client));
        }
        for row in self.providers {
            if let Ok(id) = row.id.parse() {
                memory.providers.insert(id, Arc::new(Provider { disabled: row.disabled }));
            }
        }
        let mut roles: HashMap<String, Vec<RoleId>> = HashMap::new();
        for row in self.roles {
            if let Ok(role) = row.role_id.parse() {
                roles.entry(row.user_id).or_default().push(role);
            }
        }
        for row in self.users {
            let (Ok(id), Ok(provider)) = (row.id.parse(), row.provider_id.parse()) else { continue };
            let roles = roles.remove(&row.id).unwrap_or_default();
            let user = User { provider, username: row.username.map(Into::into), disabled: row.disabled, roles };
            memory.users.insert(id, Arc::new(user));
        }
        for consent in self.consents.iter().filter_map(consent) {
            memory.consents.insert(consent.id, Arc::new(consent));
        }
    }
}

fn consent(row: &users::ConsentRow) -> Option<Consent> {
    Some(Consent {
        id: row.id.parse().ok()?,
        user: row.user_id.parse().ok()?,
        client: row.client_id.parse().ok()?,
        server: row.server_id.parse().ok()?,
        permissions: Permissions::parse(&row.permissions).ok()?,
    })
}
