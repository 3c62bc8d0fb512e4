//! The whole memory, from one snapshot of the database.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::agents;
use crate::db;
use crate::feed::Shared;
use crate::feed::store;
use crate::feed::translate::{Parts, revocation};
use crate::gate::{Agent, Live, Position, SettingsNow};
use crate::grants;
use crate::keys;
use crate::operators;
use crate::revocations;
use crate::roles;
use crate::secrets;
use crate::servers;
use crate::settings;
use crate::signing;

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

/// Loads everything in one REPEATABLE READ transaction that reads the head first. Nothing may be answered meanwhile: the
/// parts are replaced one after another.
pub(super) async fn load(connection: &mut PgConnection, live: &Live, shared: &Shared) -> Result<Loaded, Error> {
    let mut tx = connection.begin_with("begin isolation level repeatable read, read only").await?;
    let head = store::head(&mut tx).await?;
    let installation = settings::installation(&mut tx).await?;
    load_settings(&mut tx, live).await?;
    load_signing(&mut tx, live, shared).await?;
    let secrets = secrets::load_all(&mut tx).await?;
    let grants = grants::load_all(&mut tx).await?;
    let key_roles = roles::load_key_roles(&mut tx).await?;
    let mut parts = Parts::new(secrets, grants, key_roles);
    let agents = agents::load_all(&mut tx).await?;
    live.agents.replace(agents.into_iter().filter_map(|row| {
        Some((row.id.parse().ok()?, Agent { project: row.project.as_str().into(), disabled: row.disabled }))
    }));
    let servers: Vec<_> = servers::load_all(&mut tx).await?.into_iter().filter_map(|row| parts.server(row)).collect();
    live.resources.replace(servers.iter().map(|(canonical, server)| (canonical.clone(), server.id)));
    live.servers.replace(servers.into_iter().map(|(_, server)| (server.id, server)));
    let operators = operators::load_all(&mut tx).await?;
    live.operators
        .replace(operators.into_iter().filter_map(|row| parts.operator(row)).map(|operator| (operator.id, operator)));
    let roles = roles::load_all(&mut tx).await?;
    live.roles.replace(roles.iter().filter_map(|id| parts.role(id)));
    let keys = keys::load_all(&mut tx).await?;
    live.keys.replace(keys.into_iter().filter_map(|row| parts.key(row)));
    let entries = revocations::load_all(&mut tx).await?;
    // An entry that is not understood may revoke anything: better no node than one that ignores it.
    let unreadable = entries.iter().find(|row| revocation(row).is_none());
    if let Some(row) = unreadable {
        return Err(Error::Unreadable(format!("revocation of {} {}", row.kind, row.target)));
    }
    live.revoked.replace(entries.iter().filter_map(revocation));
    tx.commit().await?;
    Ok(Loaded { position: head.position, mark: head.mark, installation })
}

pub(super) async fn load_settings(connection: &mut PgConnection, live: &Live) -> Result<(), Error> {
    let settings = settings::get(connection).await?;
    let seconds = u64::try_from(settings.session_ttl_seconds).unwrap_or(60);
    let longest_lease = live.settings.load().longest_lease;
    live.settings.store(Arc::new(SettingsNow { session_ttl: Duration::from_secs(seconds), longest_lease }));
    Ok(())
}

pub(super) async fn load_signing(connection: &mut PgConnection, live: &Live, shared: &Shared) -> Result<(), Error> {
    let loaded = signing::load(connection, &live.keyring).await?;
    live.verifiers.store(Arc::new(loaded.verifiers));
    shared.signers.store(Arc::new(loaded.signers));
    Ok(())
}
