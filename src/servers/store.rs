//! SQL of servers.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::servers::{Filter, Server};
use crate::types::page;
use crate::types::page::{After, Page};

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
    sqlx::query!("delete from tools where server_id = $1", id).execute(&mut *tx).await?;
    sqlx::query!("update servers set deleted_at = authority_now(), disabled = true where id = $1", id)
        .execute(tx)
        .await?;
    Ok(())
}

/// A page, and where the search for the next one begins. What narrows to few servers is asked for them first, whatever
/// their age; else the newest are looked at, as many as a page may.
pub(super) async fn list(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<(Vec<Server>, Option<After>)> {
    if page::is_beyond(projects, filter.project.as_ref()) {
        return Ok((Vec::new(), None));
    }
    let mut few = match &filter.q {
        Some(q) => page::few(named(connection, q).await?),
        None => None,
    };
    if let (None, Some(projects)) = (&few, filter.project.as_ref().map(std::slice::from_ref).or(projects)) {
        few = page::few(in_projects(connection, projects).await?);
    }
    let found = select(connection, projects, few.as_deref(), filter, page).await?;
    let edge = if few.is_none() && page.is_short(found.len()) { edge(connection, page).await? } else { None };
    Ok((found, edge))
}

/// Servers whose names begin so; one that is deleted counts too.
async fn named(connection: &mut PgConnection, q: &str) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select case when deleted_at is null then id end from servers where lower(name) collate "C" ^@ lower($1)
           order by lower(name) collate "C" limit $2"#,
        q,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(connection)
    .await?)
}

async fn in_projects(connection: &mut PgConnection, projects: &[String]) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from servers where deleted_at is null and project = any($1) order by project limit $2"#,
        projects,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(connection)
    .await?)
}

/// The last server that a page looked at; `None` when it looked at all.
async fn edge(connection: &mut PgConnection, page: &Page) -> db::Result<Option<After>> {
    Ok(sqlx::query_as!(
        After,
        "select created_at as at, id from servers
         where deleted_at is null and ($1::timestamptz is null or (created_at, id) < ($1, $2::text))
         order by created_at desc, id desc offset $3 limit 1",
        page.at(),
        page.id(),
        page::LOOKED_AT_MAX - 1,
    )
    .fetch_optional(connection)
    .await?)
}

/// Those of `ids`, or a page of the newest.
async fn select(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    ids: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<Vec<Server>> {
    let rows = sqlx::query_as!(
        Stored,
        r#"select id, name, project, resource, environment, scopes, token_alg, disabled, created_at
           from (select * from servers
                 where deleted_at is null and ($1::text[] is null or id = any($1))
                   and ($2::timestamptz is null or (created_at, id) < ($2, $3::text))
                 order by created_at desc, id desc limit $4) as looked_at
           where ($5::text[] is null or project = any($5)) and ($6::text is null or project = $6) and ($7::text is null or lower(name) collate "C" ^@ lower($7))
             and ($8::text is null or environment = $8) and ($9::boolean is null or disabled = $9)
           order by created_at desc, id desc limit $10"#,
        ids,
        page.at(),
        page.id(),
        page::LOOKED_AT_MAX,
        projects,
        filter.project,
        filter.q,
        filter.environment,
        filter.disabled,
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
