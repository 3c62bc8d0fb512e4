//! SQL of agents.

use sqlx::PgConnection;

use crate::agents::{Agent, Filter};
use crate::db;
use crate::types::page::Page;

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

/// For lists; the agent's absence is what kills them.
pub(super) async fn revoke_keys(tx: &mut PgConnection, id: &str) -> db::Result<()> {
    sqlx::query!("update keys set revoked_at = authority_now() where agent_id = $1 and revoked_at is null", id)
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

pub(super) async fn list(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<Vec<Agent>> {
    Ok(sqlx::query_as!(
        Agent,
        "select id, name, owner, project, disabled, created_at from agents
         where ($1::text[] is null or project = any($1)) and deleted_at is null
           and ($2::text is null or project = $2) and ($3::boolean is null or disabled = $3)
           and ($4::text is null or strpos(lower(name), lower($4)) > 0)
           and ($5::timestamptz is null or (created_at, id) < ($5, $6::text))
         order by created_at desc, id desc limit $7",
        projects,
        filter.project,
        filter.disabled,
        filter.q,
        page.at(),
        page.id(),
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
