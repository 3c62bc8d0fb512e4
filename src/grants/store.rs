//! SQL of grants.

use sqlx::PgConnection;

use crate::db;
use crate::types::id::KeyId;

/// A grant as it is stored.
pub struct Row {
    /// The key or the role.
    pub holder: String,
    /// On which server.
    pub server_id: String,
    /// Which permissions.
    pub permissions: Vec<String>,
}

pub(super) async fn of(connection: &mut PgConnection, holder: &str) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        "select holder, server_id, permissions from grants where holder = $1 order by server_id",
        holder
    )
    .fetch_all(connection)
    .await?)
}

pub(super) struct Server {
    pub(super) id: String,
    pub(super) environment: String,
}

pub(super) async fn servers(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    ids: &[String],
) -> db::Result<Vec<Server>> {
    Ok(sqlx::query_as!(
        Server,
        "select id, environment from servers where ($1::text[] is null or project = any($1)) and id = any($2) and deleted_at is null",
        projects,
        ids,
    )
    .fetch_all(connection)
    .await?)
}

/// The servers a holder has grants on.
///
/// # Errors
///
/// The database cannot answer.
pub async fn servers_of(connection: &mut PgConnection, holder: &str) -> db::Result<Vec<String>> {
    let rows = sqlx::query!("select server_id from grants where holder = $1", holder).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| row.server_id).collect())
}

pub(super) async fn put(tx: &mut PgConnection, holder: &str, server: &str, permissions: &[String]) -> db::Result<()> {
    sqlx::query!(
        "insert into grants (holder, server_id, permissions) values ($1, $2, $3)
         on conflict (holder, server_id) do update set permissions = excluded.permissions",
        holder,
        server,
        permissions,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes one grant; false when there was none.
///
/// # Errors
///
/// The database refuses.
pub async fn remove(tx: &mut PgConnection, holder: &str, server: &str) -> db::Result<bool> {
    let done =
        sqlx::query!("delete from grants where holder = $1 and server_id = $2", holder, server).execute(tx).await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn remove_all(tx: &mut PgConnection, holder: &str) -> db::Result<()> {
    sqlx::query!("delete from grants where holder = $1", holder).execute(tx).await?;
    Ok(())
}

/// A grant on a server, as the operators of the server's project see it: nothing else of the key.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = ServerGrant)]
pub struct OnServer {
    /// The key.
    pub key_id: String,
    /// The key's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    /// Its agent.
    pub agent_id: String,
    /// The agent's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The role by which it has them; absent: the key's own grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_id: Option<String>,
    /// Which permissions.
    pub permissions: Vec<String>,
}

/// Who has grants on a server, by the key's id, a key's own first; at most `limit`, after a key or after a key and a role.
///
/// # Errors
///
/// The database cannot answer.
pub async fn on_server(
    connection: &mut PgConnection,
    server: &str,
    after: Option<&str>,
    limit: i64,
) -> db::Result<Vec<OnServer>> {
    Ok(sqlx::query_as!(
        OnServer,
        r#"select k.id as "key_id!", k.name as key_name, k.agent_id as "agent_id!", a.owner, g.role_id, g.permissions as "permissions!"
           from ((select holder as key_id, null::text as role_id, permissions from grants
                  where server_id = $1 and holder like 'key\_%' and ($2::text is null or holder > left($2, 16)) order by holder limit $3)
                 union all
                 (select h.key_id, r.holder, r.permissions from grants r cross join lateral (
                      select key_id from key_roles where role_id = r.holder
                         and ($2::text is null or (key_id >= left($2, 16) and (key_id, r.holder) > (left($2, 16), substr($2, 17))))
                      order by key_id limit $3) h
                  where r.server_id = $1 and r.holder like 'rol\_%')) g
           join keys k on k.id = g.key_id join agents a on a.id = k.agent_id
           order by g.key_id, coalesce(g.role_id, '') limit $3"#,
        server,
        after,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// All grants of whatever is no API key: those come with their keys.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_others(connection: &mut PgConnection) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        "select holder, server_id, permissions from grants where not starts_with(holder, $1)",
        KeyId::PREFIX,
    )
    .fetch_all(connection)
    .await?)
}

/// The grants of the holders named.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some(connection: &mut PgConnection, holders: &[String]) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(Row, "select holder, server_id, permissions from grants where holder = any($1)", holders)
        .fetch_all(connection)
        .await?)
}
