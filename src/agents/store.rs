//! SQL of agents.

use sqlx::PgConnection;

use crate::agents::{Agent, Filter};
use crate::db;
use crate::types::page;
use crate::types::page::{After, Page};

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: &str,
    name: &str,
    owner: Option<&str>,
    project: &str,
) -> db::Result<Agent> {
    Ok(sqlx::query_as!(
        Agent,
        "insert into agents (id, name, owner, project) values ($1, $2, $3, $4) returning id, name, owner, project, disabled, created_at",
        id,
        name,
        owner,
        project,
    )
    .fetch_one(tx)
    .await?)
}

pub(super) async fn find(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    id: &str,
) -> db::Result<Option<Agent>> {
    Ok(sqlx::query_as!(
        Agent,
        "select id, name, owner, project, disabled, created_at from agents
         where ($1::text[] is null or project = any($1)) and id = $2 and deleted_at is null",
        projects,
        id,
    )
    .fetch_optional(connection)
    .await?)
}

pub(super) async fn lock(tx: &mut PgConnection, projects: Option<&[String]>, id: &str) -> db::Result<Option<Agent>> {
    Ok(sqlx::query_as!(
        Agent,
        "select id, name, owner, project, disabled, created_at from agents
         where ($1::text[] is null or project = any($1)) and id = $2 and deleted_at is null for update",
        projects,
        id,
    )
    .fetch_optional(tx)
    .await?)
}

pub(super) async fn set(tx: &mut PgConnection, agent: &Agent) -> db::Result<()> {
    sqlx::query!(
        "update agents set name = $2, owner = $3, disabled = $4 where id = $1",
        agent.id,
        agent.name,
        agent.owner,
        agent.disabled
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// For lists; the agent's absence is what kills them. That `disabled` is named tells the nodes.
pub(super) async fn revoke_keys(tx: &mut PgConnection, id: &str) -> db::Result<()> {
    sqlx::query!(
        "update keys set revoked_at = authority_now(), disabled = disabled where agent_id = $1 and revoked_at is null",
        id
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn set_deleted(tx: &mut PgConnection, id: &str) -> db::Result<()> {
    sqlx::query!("update agents set deleted_at = authority_now(), disabled = true where id = $1", id)
        .execute(tx)
        .await?;
    Ok(())
}

/// A page, and where the search for the next one begins. What narrows to few agents is asked for them first, whatever
/// their age; else the newest are looked at, as many as a page may.
pub(super) async fn list(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<(Vec<Agent>, Option<After>)> {
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

/// Agents whose names begin so; one that is deleted counts too.
async fn named(connection: &mut PgConnection, q: &str) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select case when deleted_at is null then id end from agents where lower(name) collate "C" ^@ lower($1)
           order by lower(name) collate "C" limit $2"#,
        q,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(connection)
    .await?)
}

async fn in_projects(connection: &mut PgConnection, projects: &[String]) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from agents where deleted_at is null and project = any($1) order by project limit $2"#,
        projects,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(connection)
    .await?)
}

/// The last agent that a page looked at; `None` when it looked at all.
async fn edge(connection: &mut PgConnection, page: &Page) -> db::Result<Option<After>> {
    Ok(sqlx::query_as!(
        After,
        "select created_at as at, id from agents
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
) -> db::Result<Vec<Agent>> {
    Ok(sqlx::query_as!(
        Agent,
        r#"select id, name, owner, project, disabled, created_at
           from (select * from agents
                 where deleted_at is null and ($1::text[] is null or id = any($1))
                   and ($2::timestamptz is null or (created_at, id) < ($2, $3::text))
                 order by created_at desc, id desc limit $4) as looked_at
           where ($5::text[] is null or project = any($5)) and ($6::text is null or project = $6) and ($7::text is null or lower(name) collate "C" ^@ lower($7))
             and ($8::boolean is null or disabled = $8)
           order by created_at desc, id desc limit $9"#,
        ids,
        page.at(),
        page.id(),
        page::LOOKED_AT_MAX,
        projects,
        filter.project,
        filter.q,
        filter.disabled,
        page.fetch(),
    )
    .fetch_all(connection)
    .await?)
}

/// An agent as nodes keep it. A deleted one is not kept.
pub struct Row {
    /// Its id.
    pub id: String,
    /// Its project.
    pub project: String,
    /// Switched off.
    pub disabled: bool,
}

/// All agents, of every project.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_all(connection: &mut PgConnection) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(Row, "select id, project, disabled from agents where deleted_at is null")
        .fetch_all(connection)
        .await?)
}

/// The agents named, of every project.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(Row, "select id, project, disabled from agents where deleted_at is null and id = any($1)", ids)
        .fetch_all(connection)
        .await?)
}
