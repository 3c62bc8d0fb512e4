//! The whole memory, from one snapshot of the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::agents;
use crate::db;
use crate::feed::Shared;
use crate::feed::people;
use crate::feed::pools::Pools;
use crate::feed::store;
use crate::feed::translate::{Parts, agent, bare_key, find, grant, revocation, version};
use crate::gate::{Live, Memory, Position, SettingsNow};
use crate::grants;
use crate::keys;
use crate::operators;
use crate::revocations;
use crate::roles;
use crate::secrets;
use crate::servers;
use crate::settings;
use crate::signing;
use crate::tools;

/// All sees one state. Keys, secrets and grants are put together in the database's memory, not in files of its.
const BEGIN: &str = "begin isolation level repeatable read, read only; set local work_mem = '64MB'";

/// Why the memory could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Database(#[from] db::Error),
    #[error(transparent)]
    Signing(#[from] signing::LoadError),
    #[error("the database holds an entry that cannot be understood: {0}")]
    Unreadable(String),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Where the feed stood in the snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loaded {
    pub(super) position: Position,
    pub(super) mark: Uuid,
    pub(super) installation: Uuid,
}

/// Loads everything in one REPEATABLE READ transaction that reads the head first, and replaces the memory by it.
pub(super) async fn load(
    connection: &mut PgConnection,
    live: &Live,
    shared: &Shared,
    pools: &mut Pools,
) -> Result<Loaded, Error> {
    let mut tx = connection.begin_with(BEGIN).await?;
    let head = store::head(&mut tx).await?;
    let installation = settings::installation(&mut tx).await?;
    load_settings(&mut tx, live).await?;
    load_signing(&mut tx, live, shared).await?;
    let mut memory = Memory::default();
    let mut parts = load_keys(&mut tx, &mut memory, pools).await?;
    load_others(&mut tx, &mut memory, &mut parts).await?;
    load_revocations(&mut tx, &mut memory).await?;
    tx.commit().await?;
    live.change(|before| *before = memory);
    Ok(Loaded { position: head.position, mark: head.mark, installation })
}

/// Loads keys, each with its secret and its grants. What belongs to other holders is returned.
async fn load_keys(tx: &mut PgConnection, memory: &mut Memory, pools: &mut Pools) -> Result<Parts, Error> {
    let mut parts = Parts::default();
    let keys = &mut memory.keys;
    // Few different ones, which are read once and have their texts in common.
    let mut known = HashMap::new();
    keys::load_all(tx, |row| {
        let Some(id) = row.key.id.parse().ok() else { return };
        if find(keys, &id).is_none()
            && let Some((id, key)) = bare_key(&row.key, pools)
        {
            keys.insert(id, Arc::new(key));
        }
        let Some(key) = find(keys, &id) else { return };
        if let Some(secret) = &row.secret {
            key.secrets.add(version(secret));
        }
        let Some(row) = row.grant else { return };
        let read = |(server, permissions): &(String, Vec<String>)| grant(server, permissions);
        let grant = known.entry((row.server_id, row.permissions)).or_insert_with_key(read).clone();
        match &grant {
            Some(grant) if key.grants.is_empty() => key.grants = pools.grants.share(std::slice::from_ref(grant)),
            _ => parts.add_grant(row.holder, grant),
        }
    })
    .await?;
    for row in secrets::load_others(tx).await? {
        parts.add_secret(row);
    }
    for row in grants::load_others(tx).await? {
        let grant = grant(&row.server_id, &row.permissions);
        parts.add_grant(row.holder, grant);
    }
    for row in roles::load_key_roles(tx).await? {
        parts.add_role(row);
    }
    parts.rest(keys, pools);
    keys.shrink();
    Ok(parts)
}

async fn load_others(tx: &mut PgConnection, memory: &mut Memory, parts: &mut Parts) -> Result<(), Error> {
    let agents = agents::load_all(tx).await?;
    memory.agents = agents.into_iter().filter_map(|row| Some((row.id.parse().ok()?, Arc::new(agent(&row))))).collect();
    for row in tools::load_all(tx).await? {
        parts.add_tool(&row);
    }
    for (canonical, server) in servers::load_all(tx).await?.into_iter().filter_map(|row| parts.server(row)) {
        memory.resources.insert(canonical, server.id);
        memory.servers.insert(server.id, Arc::new(server));
    }
    let operators = operators::load_all(tx).await?.into_iter().filter_map(|row| parts.operator(row));
    memory.operators = operators.map(|operator| (operator.id, Arc::new(operator))).collect();
    let roles = roles::load_all(tx).await?;
    people::Rows::all(tx).await?.put(memory, parts);
    memory.roles = roles.iter().filter_map(|id| parts.role(id)).map(|(id, role)| (id, Arc::new(role))).collect();
    Ok(())
}

/// An entry that is not understood may revoke anything: better no node than one that ignores it.
async fn load_revocations(tx: &mut PgConnection, memory: &mut Memory) -> Result<(), Error> {
    let mut unreadable = None;
    revocations::load_all(tx, |row| match revocation(&row) {
        Some((subject, cutoff, until)) => memory.revoked.add(subject, cutoff, until),
        None => unreadable = Some(format!("revocation of {} {}", row.kind, row.target)),
    })
    .await?;
    memory.revoked.shrink();
    unreadable.map_or(Ok(()), |what| Err(Error::Unreadable(what)))
}

pub(super) async fn load_settings(connection: &mut PgConnection, live: &Live) -> Result<(), Error> {
    let settings = settings::get(connection).await?;
    let seconds = u64::try_from(settings.session_ttl_seconds).unwrap_or(60);
    let longest_lease = live.settings.load().longest_lease;
    let policies = settings.key_policies;
    let dynamic_registration = settings.dynamic_registration != settings::DynamicRegistration::Off;
    live.settings.store(Arc::new(SettingsNow {
        session_ttl: Duration::from_secs(seconds),
        dynamic_registration,
        dpop_nonce_required: settings.dpop_nonce_required,
        remind_days: [policies.prod.remind_days.into(), policies.dev.remind_days.into()],
        longest_lease,
    }));
    Ok(())
}

pub(super) async fn load_signing(connection: &mut PgConnection, live: &Live, shared: &Shared) -> Result<(), Error> {
    let loaded = signing::load(connection, &live.keyring).await?;
    live.verifiers.store(Arc::new(loaded.verifiers));
    shared.signers.store(Arc::new(loaded.signers));
    Ok(())
}
