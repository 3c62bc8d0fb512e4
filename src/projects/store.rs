//! SQL of projects.

use sqlx::PgConnection;

use crate::db;
use crate::projects::Project;
use crate::types::page::Page;

/// `None` when the name is taken.
pub(super) async fn insert(
    tx: &mut PgConnection,
    name: &str,
    id: &str,
    hosts: Option<&[String]>,
) -> db::Result<Option<Project>> {
    Ok(sqlx::query_as!(
        Project,
        "insert into projects (name, id, hosts) values ($1, $2, $3) on conflict (name) do nothing returning id, name, hosts, created_at",
        name,
        id,
        hosts,
    )
    .fetch_optional(tx)
    .await?)
}

pub(super) async fn find(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    reference: &str,
) -> db::Result<Option<Project>> {
    Ok(sqlx::query_as!(
        Project,
        "select id, name, hosts, created_at from projects where ($1::text[] is null or name = any($1)) and (name = $2 or id = $2)",
        projects,
        reference,
    )
    .fetch_optional(connection)
    .await?)
}

/// Of any project: the callers have checked that theirs is everywhere.
pub(super) async fn lock(tx: &mut PgConnection, reference: &str) -> db::Result<Option<Project>> {
    Ok(sqlx::query_as!(
        Project,
        "select id, name, hosts, created_at from projects where name = $1 or id = $1 for update",
        reference
    )
    .fetch_optional(tx)
    .await?)
}

pub(super) async fn set_hosts(tx: &mut PgConnection, name: &str, hosts: Option<&[String]>) -> db::Result<Project> {
    Ok(sqlx::query_as!(
        Project,
        "update projects set hosts = $2 where name = $1 returning id, name, hosts, created_at",
        name,
        hosts
    )
    .fetch_one(tx)
    .await?)
}

pub(super) async fn delete(tx: &mut PgConnection, name: &str) -> db::Result<()> {
    sqlx::query!("delete from projects where name = $1", name).execute(tx).await?;
    Ok(())
}

pub(super) async fn list(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    page: &Page,
) -> db::Result<Vec<Project>> {
    Ok(sqlx::query_as!(
        Project,
        "select id, name, hosts, created_at from projects
         where ($1::text[] is null or name = any($1)) and ($2::timestamptz is null or (created_at, id) < ($2, $3::text))
         order by created_at desc, id desc limit $4",
        projects,
        page.at(),
        page.id(),
        page.fetch(),
    )
    .fetch_all(connection)
    .await?)
}
