//! SQL of servers.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::servers::{Filter, Server};
use crate::types::page::Page;

struct Stored {
    id: String,
    name: String,
    project: String,
    resource: String,
    environment: String,
    scopes: serde_json::Value,
    token_alg: String,
    disabled: bool,
    created_at: OffsetDateTime,
}

impl From<Stored> for Server {
    fn from(row: Stored) -> Self {
        Self {
            client_id: row.id.clone(),
            id: row.id,
            name: row.name,
            project: row.project,
            resource: row.resource,
            environment: row.environment,
            scopes: serde_json::from_value(row.scopes).unwrap_or_default(),
            token_alg: row.token_alg,
            disabled: row.disabled,
            created_at: row.created_at,
        }
    }
}

pub(super) struct New<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) project: &'a str,
    pub(super) resource: &'a str,
    pub(super) canonical: &'a str,
    pub(super) environment: &'a str,
    pub(super) scopes: serde_json::Value,
    pub(super) token_alg: &'a str,
}

/// `None` when the resource is taken.
pub(super) async fn insert(tx: &mut PgConnection, new: &New<'_>) -> db::Result<Option<Server>> {
    let row = sqlx::query_as!(
        Stored,
        "insert into servers (id, name, project, resource, canonical, environment, scopes, token_alg) values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (canonical) do nothing
         returning id, name, project, resource, environment, scopes, token_alg, disabled, created_at",
        new.id,
        new.name,
        new.project,
        new.resource,
        new.canonical,
        new.environment,
        new.scopes,
        new.token_alg,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Server::from))
}

pub(super) async fn find(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    id: &str,
) -> db::Result<Option<Server>> {
    let row = sqlx::query_as!(
        Stored,
        "select id, name, project, resource, environment, scopes, token_alg, disabled, created_at from servers
         where ($1::text[] is null or project = any($1)) and id = $2 and deleted_at is null",
        projects,
        id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Server::from))
}

pub(super) async fn lock(tx: &mut PgConnection, projects: Option<&[String]>, id: &str) -> db::Result<Option<Server>> {
    let row = sqlx::query_as!(
        Stored,
        "select id, name, project, resource, environment, scopes, token_alg, disabled, created_at from servers
         where ($1::text[] is null or project = any($1)) and id = $2 and deleted_at is null for no key update",
        projects,
        id,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Server::from))
}

pub(super) async fn set(tx: &mut PgConnection, server: &Server) -> db::Result<()> {
    let scopes = serde_json::to_value(&server.scopes).unwrap_or_default();
    sqlx::query!(
        "update servers set name = $2, scopes = $3, token_alg = $4, disabled = $5 where id = $1",
        server.id,
        server.name,
        scopes,
        server.token_alg,
        server.disabled,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn remove_grants(tx: &mut PgConnection, id: &str) -> db::Result<()> {
    sqlx::query!("delete from grants where server_id = $1", id).execute(tx).await?;
    Ok(())
}

/// Its secrets go, the row stays: nobody else may get the resource.
pub(super) async fn set_deleted(tx: &mut PgConnection, id: &str) -> db::Result<()> {
    sqlx::query!("delete from secrets where owner = $1", id).execute(&mut *tx).await?;
    sqlx::query!("update servers set deleted_at = authority_now(), disabled = true where id = $1", id)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn list(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<Vec<Server>> {
    let rows = sqlx::query_as!(
        Stored,
        "select id, name, project, resource, environment, scopes, token_alg, disabled, created_at from servers
         where ($1::text[] is null or project = any($1)) and deleted_at is null
           and ($2::text is null or project = $2) and ($3::text is null or environment = $3) and ($4::boolean is null or disabled = $4)
           and ($5::text is null or strpos(lower(name), lower($5)) > 0)
           and ($6::timestamptz is null or (created_at, id) < ($6, $7::text))
         order by created_at desc, id desc limit $8",
        projects,
        filter.project,
        filter.environment,
        filter.disabled,
        filter.q,
        page.at(),
        page.id(),
        page.fetch(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Server::from).collect())
}

/// A server as nodes keep it. A deleted one is not kept.
pub struct Row {
    /// Its id.
    pub id: String,
    /// Its project.
    pub project: String,
    /// Its resource, as registered.
    pub resource: String,
    /// Its resource, as compared.
    pub canonical: String,
    /// Where it belongs.
    pub environment: String,
    /// Its own scopes.
    pub scopes: serde_json::Value,
    /// What its tokens are signed with.
    pub token_alg: String,
    /// Switched off.
    pub disabled: bool,
}

/// All servers, of every project.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_all(connection: &mut PgConnection) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(Row, "select id, project, resource, canonical, environment, scopes, token_alg, disabled from servers where deleted_at is null")
        .fetch_all(connection)
        .await?)
}

/// The servers named, of every project.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        "select id, project, resource, canonical, environment, scopes, token_alg, disabled from servers where deleted_at is null and id = any($1)",
        ids,
    )
    .fetch_all(connection)
    .await?)
}
