//! SQL of roles, and of which keys have them.

use std::collections::HashMap;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::types::page::Page;

pub(super) struct Stored {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) project: String,
    pub(super) created_at: OffsetDateTime,
}

/// False when the name is taken.
pub(super) async fn insert(tx: &mut PgConnection, id: &str, name: &str, project: &str) -> db::Result<bool> {
    let done = sqlx::query!(
        "insert into roles (id, name, project) values ($1, $2, $3) on conflict (project, name) do nothing",
        id,
        name,
        project
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn find(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    id: &str,
) -> db::Result<Option<Stored>> {
    Ok(sqlx::query_as!(
        Stored,
        "select id, name, project, created_at from roles where ($1::text[] is null or project = any($1)) and id = $2",
        projects,
        id,
    )
    .fetch_optional(connection)
    .await?)
}

pub(super) async fn lock(tx: &mut PgConnection, projects: Option<&[String]>, id: &str) -> db::Result<Option<Stored>> {
    Ok(sqlx::query_as!(
        Stored,
        "select id, name, project, created_at from roles where ($1::text[] is null or project = any($1)) and id = $2 for update",
        projects,
        id,
    )
    .fetch_optional(tx)
    .await?)
}

pub(super) async fn set_name(tx: &mut PgConnection, id: &str, name: &str) -> db::Result<()> {
    sqlx::query!("update roles set name = $2 where id = $1", id, name).execute(tx).await?;
    Ok(())
}

pub(super) async fn delete(tx: &mut PgConnection, id: &str) -> db::Result<()> {
    sqlx::query!("delete from roles where id = $1", id).execute(tx).await?;
    Ok(())
}

pub(super) async fn list(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    project: Option<&str>,
    page: &Page,
) -> db::Result<Vec<Stored>> {
    Ok(sqlx::query_as!(
        Stored,
        "select id, name, project, created_at from roles
         where ($1::text[] is null or project = any($1)) and ($2::text is null or project = $2)
           and ($3::timestamptz is null or (created_at, id) < ($3, $4::text))
         order by created_at desc, id desc limit $5",
        projects,
        project,
        page.at(),
        page.id(),
        page.fetch(),
    )
    .fetch_all(connection)
    .await?)
}

/// The roles of a key.
///
/// # Errors
///
/// The database cannot answer.
pub async fn of_key(connection: &mut PgConnection, key: &str) -> db::Result<Vec<String>> {
    let rows = sqlx::query!("select role_id from key_roles where key_id = $1 order by role_id", key)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| row.role_id).collect())
}

/// The roles of each of many keys; keys without any are left out.
///
/// # Errors
///
/// The database cannot answer.
pub async fn of_keys(connection: &mut PgConnection, keys: &[String]) -> db::Result<HashMap<String, Vec<String>>> {
    let mut rows = load_some_key_roles(connection, keys).await?;
    rows.sort_by(|one, other| one.role_id.cmp(&other.role_id));
    let mut had: HashMap<String, Vec<String>> = HashMap::new();
    for row in rows {
        had.entry(row.key_id).or_default().push(row.role_id);
    }
    Ok(had)
}

/// Replaces the roles of a key. The caller has checked that they exist and may be given.
///
/// # Errors
///
/// The database refuses.
pub async fn set_of_key(tx: &mut PgConnection, key: &str, roles: &[String]) -> db::Result<()> {
    sqlx::query!("delete from key_roles where key_id = $1 and role_id <> all($2)", key, roles)
        .execute(&mut *tx)
        .await?;
    sqlx::query!(
        "insert into key_roles (key_id, role_id) select $1, unnest($2::text[]) on conflict do nothing",
        key,
        roles
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Which key has which role.
pub struct KeyRole {
    /// The key.
    pub key_id: String,
    /// The role.
    pub role_id: String,
}

/// The ids of all roles, of every project.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_all(connection: &mut PgConnection) -> db::Result<Vec<String>> {
    Ok(sqlx::query!("select id from roles").fetch_all(connection).await?.into_iter().map(|row| row.id).collect())
}

/// All roles of all keys.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_key_roles(connection: &mut PgConnection) -> db::Result<Vec<KeyRole>> {
    Ok(sqlx::query_as!(KeyRole, "select key_id, role_id from key_roles").fetch_all(connection).await?)
}

/// The roles of the keys named.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some_key_roles(connection: &mut PgConnection, keys: &[String]) -> db::Result<Vec<KeyRole>> {
    Ok(sqlx::query_as!(KeyRole, "select key_id, role_id from key_roles where key_id = any($1)", keys)
        .fetch_all(connection)
        .await?)
}
