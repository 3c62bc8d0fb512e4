//! SQL of flows as operators read them.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Filter, Flow, Outcome, Step, Trace};
use crate::db;
use crate::types::page::{self, After, Page};

struct Stored {
    id: String,
    client_id: String,
    server_id: Option<String>,
    user_id: Option<String>,
    project: Option<String>,
    result: String,
    created_at: OffsetDateTime,
}

impl From<Stored> for Flow {
    fn from(row: Stored) -> Self {
        let Stored { id, client_id, server_id, user_id, project, result, created_at } = row;
        Self { id, client_id, server_id, user_id, project, result: Outcome::parse(&result), created_at }
    }
}

/// The flow, its names, and no steps yet.
pub(super) async fn find(conn: &mut PgConnection, projects: Option<&[String]>, id: &str) -> db::Result<Option<Trace>> {
    let row = sqlx::query!(
        r#"select f.id, f.client_id, f.server_id, f.user_id, f.project, f.result, f.created_at, c.name as "client_name?",
                  s.name as "server_name?", u.username as "username?"
           from flows f left join clients c on c.client_id = f.client_id left join servers s on s.id = f.server_id
                left join users u on u.id = f.user_id
           where f.id = $2 and ($1::text[] is null or f.project = any($1))"#,
        projects,
        id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Trace {
        flow: Flow {
            id: row.id,
            client_id: row.client_id,
            server_id: row.server_id,
            user_id: row.user_id,
            project: row.project,
            result: Outcome::parse(&row.result),
            created_at: row.created_at,
        },
        client_name: row.client_name,
        server_name: row.server_name,
        username: row.username,
        steps: Vec::new(),
    }))
}

pub(super) async fn steps(conn: &mut PgConnection, flow: &str) -> db::Result<Vec<Step>> {
    Ok(sqlx::query_as!(
        Step,
        "select number, step, code, detail as reason, at from flow_steps where flow_id = $1 order by number",
        flow
    )
    .fetch_all(conn)
    .await?)
}

/// A page, and where the search for the next one begins. What narrows to few flows is asked for them first, whatever their
/// age; else the newest are looked at, as many as a page may.
pub(super) async fn list(
    conn: &mut PgConnection,
    projects: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<(Vec<Flow>, Option<After>)> {
    let mut few = match &filter.user_id {
        Some(user) => page::few(of_user(conn, user).await?),
        None => None,
    };
    if let (None, Some(client)) = (&few, &filter.client_id) {
        few = page::few(of_client(conn, client).await?);
    }
    if let (None, Some(projects)) = (&few, projects) {
        few = page::few(in_projects(conn, projects).await?);
    }
    if let (None, Some(result)) = (&few, filter.result) {
        few = page::few(that_stand(conn, result).await?);
    }
    let found = select(conn, projects, few.as_deref(), filter, page).await?;
    let edge = if few.is_none() && page.is_short(found.len()) { edge(conn, page).await? } else { None };
    Ok((found, edge))
}

/// Written as a range so that its order is the index's also where it is one value; so are those below.
async fn of_user(conn: &mut PgConnection, user: &str) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from flows where user_id between $1 and $1 order by user_id limit $2"#,
        user,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(conn)
    .await?)
}

async fn of_client(conn: &mut PgConnection, client: &str) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from flows where client_id between $1 and $1 order by client_id limit $2"#,
        client,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(conn)
    .await?)
}

async fn in_projects(conn: &mut PgConnection, projects: &[String]) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from flows where project = any($1) order by project limit $2"#,
        projects,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(conn)
    .await?)
}

async fn that_stand(conn: &mut PgConnection, result: Outcome) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from flows where result between $1 and $1 order by result limit $2"#,
        result.as_str(),
        page::LOOKED_AT_MAX,
    )
    .fetch_all(conn)
    .await?)
}

/// The last flow that a page looked at; `None` when it looked at all.
async fn edge(conn: &mut PgConnection, page: &Page) -> db::Result<Option<After>> {
    Ok(sqlx::query_as!(
        After,
        "select created_at as at, id from flows where $1::timestamptz is null or (created_at, id) < ($1, $2::text)
         order by created_at desc, id desc offset $3 limit 1",
        page.at(),
        page.id(),
        page::LOOKED_AT_MAX - 1,
    )
    .fetch_optional(conn)
    .await?)
}

/// Those of `ids`, or a page of the newest.
async fn select(
    conn: &mut PgConnection,
    projects: Option<&[String]>,
    ids: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<Vec<Flow>> {
    let rows = sqlx::query_as!(
        Stored,
        r#"select id, client_id, server_id, user_id, project, result, created_at
           from (select * from flows
                 where ($1::text[] is null or id = any($1)) and ($2::timestamptz is null or (created_at, id) < ($2, $3::text))
                 order by created_at desc, id desc limit $4) as looked_at
           where ($5::text[] is null or project = any($5)) and ($6::text is null or client_id = $6) and ($7::text is null or user_id = $7)
             and ($8::text is null or result = $8)
           order by created_at desc, id desc limit $9"#,
        ids,
        page.at(),
        page.id(),
        page::LOOKED_AT_MAX,
        projects,
        filter.client_id,
        filter.user_id,
        filter.result.map(Outcome::as_str),
        page.fetch(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Flow::from).collect())
}
