//! Grants: which permissions a key or a role has on which server. Owns `grants`.
//!
//! Who owns a server decides who gets in: each grant that arises needs `grants:write` in its server's project, whatever
//! route it arises by.

mod store;

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;

use crate::db;
use crate::refusal::{Checks, Code, Refused};
use crate::types::caller::Caller;
use crate::types::object;
use crate::types::permission::Permissions;

pub use store::{OnServer, Row, load_others, load_some, on_server, remove, servers_of};

/// Servers that a key or a role may have grants on.
pub const GRANTS_MAX: usize = 100;

/// A grant on the wire.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// On which server.
    pub server_id: String,
    /// Which permissions: 1 to 200, each of at most 512 bytes.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 200)]
    pub permissions: Permissions,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    server_id: String,
    permissions: Permissions,
}

impl<'de> serde::Deserialize<'de> for Grant {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Shape { server_id, permissions } = object::only(from)?;
        Ok(Self { server_id, permissions })
    }
}

/// The grants of a holder, by server.
///
/// # Errors
///
/// The database cannot answer.
pub async fn of(connection: &mut PgConnection, holder: &str) -> Result<Vec<Grant>, Refused> {
    store::of(connection, holder).await?.into_iter().map(Grant::try_from).collect()
}

/// The grants of each of many holders, by server; holders without any are left out.
///
/// # Errors
///
/// The database cannot answer.
pub async fn of_many(
    connection: &mut PgConnection,
    holders: &[String],
) -> Result<HashMap<String, Vec<Grant>>, Refused> {
    let mut rows = store::load_some(connection, holders).await?;
    rows.sort_by(|one, other| one.server_id.cmp(&other.server_id));
    let mut held: HashMap<String, Vec<Grant>> = HashMap::new();
    for row in rows {
        held.entry(row.holder.clone()).or_default().push(row.try_into()?);
    }
    Ok(held)
}

/// Replaces the grants of a holder.
///
/// Each pair of server and permission that was not there before needs `grants:write` in the server's project. A key's
/// grants must be on servers of its environment. Returns whether anything was taken away.
///
/// # Errors
///
/// Unknown servers, wrong permissions, or a right that the caller may not give.
pub async fn replace(
    tx: &mut PgConnection,
    by: &Caller,
    holder: &str,
    grants: &[Grant],
    environment: Option<&str>,
) -> Result<bool, Refused> {
    let mut wanted = check(grants)?;
    let before = of(tx, holder).await?;
    let ids: Vec<String> = wanted.keys().cloned().collect();
    let servers = store::servers(tx, by.projects(), &ids).await?;
    let mut checks = Checks::default();
    for (index, grant) in grants.iter().enumerate() {
        let pointer = format!("/grants/{index}/server_id");
        let Some(server) = servers.iter().find(|server| server.id == grant.server_id) else {
            // A grant that stays as it was may be on a server that this caller does not see.
            if !before
                .iter()
                .any(|old| old.server_id == grant.server_id && old.permissions.covers_all(&grant.permissions))
            {
                checks.wrong(&pointer, "unknown", "There is no such server, or you may not see it.");
            }
            continue;
        };
        let right = environment.is_none_or(|environment| environment == server.environment);
        checks.expect(right, &pointer, "wrong_environment", "The server belongs to the other environment.");
    }
    checks.done()?;
    let widened = wanted.iter().any(|(server, permissions)| !held(&before, server).covers_all(permissions));
    if widened && !by.has("grants:write") {
        return Err(Refused::new(
            Code::MissingScope,
            "A new grant needs the scope grants:write in the server's project.",
        ));
    }
    let narrowed =
        before.iter().any(|old| !wanted.get(&old.server_id).is_some_and(|new| new.covers_all(&old.permissions)));
    for old in &before {
        if !wanted.contains_key(&old.server_id) {
            store::remove(tx, holder, &old.server_id).await?;
        } else if wanted.get(&old.server_id) == Some(&old.permissions) {
            wanted.remove(&old.server_id);
        }
    }
    for (server, permissions) in &wanted {
        let permissions: Vec<String> = permissions.iter().map(ToString::to_string).collect();
        store::put(tx, holder, server, &permissions).await?;
    }
    Ok(narrowed)
}

/// Whether the caller may give everything that a role grants, as assigning it does.
///
/// # Errors
///
/// A server of the role lies in a project that the caller does not reach, or the scope is missing.
pub async fn may_give(connection: &mut PgConnection, by: &Caller, role: &str) -> Result<(), Refused> {
    let wanted = store::servers_of(connection, role).await?;
    let seen = store::servers(connection, by.projects(), &wanted).await?;
    if wanted.is_empty() || (seen.len() == wanted.len() && by.has("grants:write")) {
        return Ok(());
    }
    Err(Refused::new(
        Code::BeyondOwnRights,
        "The role grants rights on a server in whose project you lack grants:write.",
    ))
}

fn held(grants: &[Grant], server: &str) -> Permissions {
    grants.iter().find(|grant| grant.server_id == server).map(|grant| grant.permissions.clone()).unwrap_or_default()
}

fn check(grants: &[Grant]) -> Result<BTreeMap<String, Permissions>, Refused> {
    let mut checks = Checks::default();
    checks.expect(grants.len() <= GRANTS_MAX, "/grants", "too_many", &format!("at most {GRANTS_MAX}"));
    let mut wanted = BTreeMap::new();
    for (index, grant) in grants.iter().enumerate() {
        checks.expect(
            !grant.permissions.is_empty(),
            &format!("/grants/{index}/permissions"),
            "empty",
            "at least one permission",
        );
        let twice = wanted.insert(grant.server_id.clone(), grant.permissions.clone()).is_some();
        checks.expect(!twice, &format!("/grants/{index}/server_id"), "duplicate", "each server once");
    }
    checks.done()?;
    Ok(wanted)
}

impl TryFrom<Row> for Grant {
    type Error = Refused;

    fn try_from(row: Row) -> Result<Self, Refused> {
        let permissions = Permissions::parse(&row.permissions)
            .map_err(|_| Refused::new(Code::Internal, "A stored grant cannot be read."))?;
        Ok(Self { server_id: row.server_id, permissions })
    }
}

/// Drops a role's or a key's grants, all of them.
///
/// # Errors
///
/// The database refuses.
pub async fn remove_all(tx: &mut PgConnection, holder: &str) -> db::Result<()> {
    store::remove_all(tx, holder).await
}
