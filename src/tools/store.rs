//! SQL of tools.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::tools::{Tag, Tool, ToolLimits, Wanted};
use crate::types::page::Page;

struct Stored {
    id: String,
    server_id: String,
    name: String,
    description: Option<String>,
    input_schema: Option<serde_json::Value>,
    price_micros: i64,
    tags: Vec<String>,
    calls_per_minute: Option<i32>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Stored> for Tool {
    fn from(row: Stored) -> Self {
        Self {
            id: row.id,
            server_id: row.server_id,
            wanted: Wanted {
                name: row.name,
                description: row.description,
                input_schema: row.input_schema,
                price_micros: row.price_micros,
                tags: row.tags.iter().filter_map(|tag| Tag::parse(tag)).collect(),
                limits: ToolLimits { calls_per_minute: row.calls_per_minute },
            },
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Notes a change of a server's tools: the server's row is locked, and nodes will read it anew. Gives its project; `None`
/// when the caller sees no such server.
pub(super) async fn touch(
    tx: &mut PgConnection,
    projects: Option<&[String]>,
    server: &str,
) -> db::Result<Option<String>> {
    Ok(sqlx::query_scalar!(
        "update servers set tools_revision = tools_revision + 1
         where ($1::text[] is null or project = any($1)) and id = $2 and deleted_at is null returning project",
        projects,
        server,
    )
    .fetch_optional(tx)
    .await?)
}

/// False when the name is taken.
pub(super) async fn insert(tx: &mut PgConnection, id: &str, server: &str, wanted: &Wanted) -> db::Result<bool> {
    let done = sqlx::query!(
        "insert into tools (id, server_id, name, description, input_schema, price_micros, tags, calls_per_minute)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (server_id, name) do nothing",
        id,
        server,
        wanted.name,
        wanted.description,
        wanted.input_schema,
        wanted.price_micros,
        &tags(wanted),
        wanted.limits.calls_per_minute,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn set(tx: &mut PgConnection, id: &str, wanted: &Wanted) -> db::Result<()> {
    sqlx::query!(
        "update tools set name = $2, description = $3, input_schema = $4, price_micros = $5, tags = $6, calls_per_minute = $7,
             updated_at = authority_now() where id = $1",
        id,
        wanted.name,
        wanted.description,
        wanted.input_schema,
        wanted.price_micros,
        &tags(wanted),
        wanted.limits.calls_per_minute,
    )
    .execute(tx)
    .await?;
    Ok(())
}

fn tags(wanted: &Wanted) -> Vec<String> {
    wanted.tags.iter().map(|tag| tag.as_str().to_owned()).collect()
}

pub(super) async fn delete(tx: &mut PgConnection, ids: &[String]) -> db::Result<()> {
    sqlx::query!("delete from tools where id = any($1)", ids).execute(tx).await?;
    Ok(())
}

pub(super) async fn count(connection: &mut PgConnection, server: &str) -> db::Result<i64> {
    Ok(sqlx::query_scalar!(r#"select count(*) as "count!" from tools where server_id = $1"#, server)
        .fetch_one(connection)
        .await?)
}

pub(super) async fn find(connection: &mut PgConnection, server: &str, id: &str) -> db::Result<Option<Tool>> {
    let row = sqlx::query_as!(
        Stored,
        "select id, server_id, name, description, input_schema, price_micros, tags, calls_per_minute, created_at, updated_at
         from tools where server_id = $1 and id = $2",
        server,
        id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Tool::from))
}

/// A page. All of a server are no more than one server may have, so a filter looks at that many at most.
pub(super) async fn list(
    connection: &mut PgConnection,
    server: &str,
    q: Option<&str>,
    page: &Page,
) -> db::Result<Vec<Tool>> {
    let rows = sqlx::query_as!(
        Stored,
        r#"select id, server_id, name, description, input_schema, price_micros, tags, calls_per_minute, created_at, updated_at
           from tools where server_id = $1 and ($2::text is null or lower(name) collate "C" ^@ lower($2))
             and ($3::timestamptz is null or (created_at, id) < ($3, $4::text))
           order by created_at desc, id desc limit $5"#,
        server,
        q,
        page.at(),
        page.id(),
        page.fetch(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Tool::from).collect())
}

/// A tool as nodes keep it.
pub struct Row {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub server_id: String,
    /// What calls name it by.
    pub name: String,
    /// Its schema, as text.
    pub input_schema: Option<String>,
    /// What a call costs.
    pub price_micros: i64,
    /// What it is.
    pub tags: Vec<String>,
    /// Calls a minute.
    pub calls_per_minute: Option<i32>,
}

/// All tools, of every project.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_all(connection: &mut PgConnection) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        "select id, server_id, name, input_schema::text, price_micros, tags, calls_per_minute from tools"
    )
    .fetch_all(connection)
    .await?)
}

/// The tools of the servers named, of every project.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some(connection: &mut PgConnection, servers: &[String]) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        "select id, server_id, name, input_schema::text, price_micros, tags, calls_per_minute from tools where server_id = any($1)",
        servers,
    )
    .fetch_all(connection)
    .await?)
}
