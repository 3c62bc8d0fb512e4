//! SQL of clients.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::clients::{ClientKind, Filter};
use crate::db;
use crate::types::page;
use crate::types::page::{After, Page};

/// A client as it stands in its row.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) client_id: String,
    pub(super) name: Option<String>,
    pub(super) project: String,
    pub(super) metadata: Value,
    pub(super) disabled: bool,
    pub(super) created_at: OffsetDateTime,
    pub(super) last_used_at: Option<OffsetDateTime>,
}

/// A client that a request names, with the row's own state.
pub(super) struct Named {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) client_id: String,
    pub(super) project: String,
    pub(super) metadata: Value,
    pub(super) disabled: bool,
    pub(super) deleted: bool,
}

pub(super) async fn find_by_client_id(connection: &mut PgConnection, client_id: &str) -> db::Result<Option<Named>> {
    Ok(sqlx::query_as!(
        Named,
        r#"select id, kind, client_id, project, metadata, disabled, deleted_at is not null as "deleted!" from clients where client_id = $1"#,
        client_id,
    )
    .fetch_optional(connection)
    .await?)
}

/// Notes that somebody agrees to a client now; false when it is switched off or gone.
pub(super) async fn note_consent(tx: &mut PgConnection, id: &str) -> db::Result<bool> {
    let done = sqlx::query!(
        "update clients set last_used_at = authority_now() where id = $1 and deleted_at is null and not disabled",
        id
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that a client authenticated. One that registered itself is in use only once somebody has agreed to it: naming it
/// is free, and must not keep it from being forgotten.
pub(super) async fn note_use(tx: &mut PgConnection, id: &str) -> db::Result<()> {
    sqlx::query!(
        "update clients set last_used_at = authority_now() where id = $1 and (kind <> 'dynamic' or last_used_at is not null)",
        id
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) struct New<'a> {
    pub(super) id: String,
    pub(super) kind: ClientKind,
    pub(super) client_id: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) project: &'a str,
    pub(super) metadata: Value,
}

pub(super) async fn insert(tx: &mut PgConnection, new: &New<'_>) -> db::Result<Stored> {
    Ok(sqlx::query_as!(
        Stored,
        "insert into clients (id, kind, client_id, name, project, metadata) values ($1, $2, $3, $4, $5, $6)
         returning id, kind, client_id, name, project, metadata, disabled, created_at, last_used_at",
        new.id,
        new.kind.as_str(),
        new.client_id,
        new.name,
        new.project,
        new.metadata,
    )
    .fetch_one(tx)
    .await?)
}

pub(super) async fn find(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    id: &str,
) -> db::Result<Option<Stored>> {
    Ok(sqlx::query_as!(
        Stored,
        "select id, kind, client_id, name, project, metadata, disabled, created_at, last_used_at from clients
         where ($1::text[] is null or project = any($1)) and id = $2 and deleted_at is null",
        projects,
        id,
    )
    .fetch_optional(connection)
    .await?)
}

pub(super) async fn lock(tx: &mut PgConnection, projects: Option<&[String]>, id: &str) -> db::Result<Option<Stored>> {
    Ok(sqlx::query_as!(
        Stored,
        "select id, kind, client_id, name, project, metadata, disabled, created_at, last_used_at from clients
         where ($1::text[] is null or project = any($1)) and id = $2 and deleted_at is null for no key update",
        projects,
        id,
    )
    .fetch_optional(tx)
    .await?)
}

pub(super) async fn set(tx: &mut PgConnection, client: &Stored) -> db::Result<()> {
    sqlx::query!(
        "update clients set name = $2, metadata = $3, disabled = $4 where id = $1",
        client.id,
        client.name,
        client.metadata,
        client.disabled,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Its secrets go, the row stays: nobody comes by its id again.
pub(super) async fn set_deleted(tx: &mut PgConnection, id: &str) -> db::Result<()> {
    sqlx::query!("delete from secrets where owner = $1", id).execute(&mut *tx).await?;
    sqlx::query!("update clients set deleted_at = authority_now(), disabled = true where id = $1", id)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) struct Settled {
    pub(super) id: String,
    pub(super) made: bool,
}

/// The row of a document client, made or brought up to date; `None` when it is switched off or deleted.
pub(super) async fn settle(tx: &mut PgConnection, new: &New<'_>) -> db::Result<Option<Settled>> {
    Ok(sqlx::query_as!(
        Settled,
        r#"insert into clients (id, kind, client_id, name, project, metadata, last_used_at) values ($1, $2, $3, $4, $5, $6, authority_now())
           on conflict (client_id) do update set name = excluded.name, metadata = excluded.metadata, last_used_at = excluded.last_used_at
             where clients.deleted_at is null and not clients.disabled
           returning id, id = $1 as "made!""#,
        new.id,
        new.kind.as_str(),
        new.client_id,
        new.name,
        new.project,
        new.metadata,
    )
    .fetch_optional(tx)
    .await?)
}

/// Uses up an assertion; false when that was done before. It is known for longer than it is good, since the clocks of
/// nodes may differ by a moment.
pub(super) async fn use_assertion(
    tx: &mut PgConnection,
    client_id: &str,
    jti: &[u8],
    expires_at: OffsetDateTime,
) -> db::Result<bool> {
    let done = sqlx::query!(
        "insert into client_assertions (client_id, jti, expires_at) values ($1, $2, $3) on conflict (client_id, jti) do nothing",
        client_id,
        jti,
        expires_at,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets assertions that ended long enough ago; at most `limit` of them.
///
/// # Errors
///
/// The database refuses.
pub async fn expire_assertions(tx: &mut PgConnection, limit: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from client_assertions where (client_id, jti) in
           (select client_id, jti from client_assertions where expires_at < authority_now() - interval '10 minutes'
            order by expires_at limit $1)",
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// How many clients registered themselves without anybody's agreement; counted up to `limit`.
pub(super) async fn count_unused(connection: &mut PgConnection, limit: i64) -> db::Result<i64> {
    let counted = sqlx::query_scalar!(
        r#"select count(*) as "count!" from (select from clients
            where kind = 'dynamic' and last_used_at is null and deleted_at is null limit $1) as unused"#,
        limit,
    );
    Ok(counted.fetch_one(connection).await?)
}

/// Removes those that are older than `seconds`, oldest first. Whoever agrees to one meanwhile has its row.
pub(super) async fn sweep(tx: &mut PgConnection, seconds: i64, limit: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "with unused as (
             select id from clients c where kind = 'dynamic' and last_used_at is null and deleted_at is null
                and created_at < authority_now() - $1::bigint * interval '1 second' and not disabled
                and not exists (select from consents where client_id = c.id)
              order by created_at limit $2 for update skip locked),
         gone as (delete from secrets where owner in (select id from unused))
         delete from clients where id in (select id from unused)",
        seconds,
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// A page, and where the search for the next one begins. What narrows to few clients is asked for them first, whatever
/// their age; else the newest are looked at, as many as a page may.
pub(super) async fn list(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<(Vec<Stored>, Option<After>)> {
    if page::is_beyond(projects, filter.project.as_ref()) {
        return Ok((Vec::new(), None));
    }
    let mut few = match &filter.q {
        Some(q) => page::few(named(connection, q).await?),
        None => None,
    };
    if let (None, Some(kind)) = (&few, filter.kind) {
        few = page::few(of_kind(connection, kind).await?);
    }
    if let (None, Some(projects)) = (&few, filter.project.as_ref().map(std::slice::from_ref).or(projects)) {
        few = page::few(in_projects(connection, projects).await?);
    }
    let found = select(connection, projects, few.as_deref(), filter, page).await?;
    let edge = if few.is_none() && page.is_short(found.len()) { edge(connection, page).await? } else { None };
    Ok((found, edge))
}

/// Clients whose names begin so; one that is deleted counts too.
async fn named(connection: &mut PgConnection, q: &str) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select case when deleted_at is null then id end from clients where lower(name) collate "C" ^@ lower($1)
           order by lower(name) collate "C" limit $2"#,
        q,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(connection)
    .await?)
}

/// Written as a range so that its order is the index's also where it is one value: most are of one kind.
async fn of_kind(connection: &mut PgConnection, kind: ClientKind) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from clients where deleted_at is null and kind between $1 and $1 order by kind limit $2"#,
        kind.as_str(),
        page::LOOKED_AT_MAX,
    )
    .fetch_all(connection)
    .await?)
}

async fn in_projects(connection: &mut PgConnection, projects: &[String]) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from clients where deleted_at is null and project = any($1) order by project limit $2"#,
        projects,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(connection)
    .await?)
}

/// The last client that a page looked at; `None` when it looked at all.
async fn edge(connection: &mut PgConnection, page: &Page) -> db::Result<Option<After>> {
    Ok(sqlx::query_as!(
        After,
        "select created_at as at, id from clients
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
) -> db::Result<Vec<Stored>> {
    Ok(sqlx::query_as!(
        Stored,
        r#"select id, kind, client_id, name, project, metadata, disabled, created_at, last_used_at
           from (select * from clients
                 where deleted_at is null and ($1::text[] is null or id = any($1))
                   and ($2::timestamptz is null or (created_at, id) < ($2, $3::text))
                 order by created_at desc, id desc limit $4) as looked_at
           where ($5::text[] is null or project = any($5)) and ($6::text is null or project = $6) and ($7::text is null or lower(name) collate "C" ^@ lower($7))
             and ($8::text is null or kind = $8) and ($9::boolean is null or disabled = $9)
           order by created_at desc, id desc limit $10"#,
        ids,
        page.at(),
        page.id(),
        page::LOOKED_AT_MAX,
        projects,
        filter.project,
        filter.q,
        filter.kind.map(ClientKind::as_str),
        filter.disabled,
        page.fetch(),
    )
    .fetch_all(connection)
    .await?)
}
