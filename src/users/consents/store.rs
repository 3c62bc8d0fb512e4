//! SQL of what people allowed.

use sqlx::PgConnection;

use super::{Allowed, Consent, ConsentFilter};
use crate::clients::ClientKind;
use crate::db;
use crate::types::id::{ClientId, ConsentId, ServerId, UserId};
use crate::types::page::{self, After, Page};
use crate::types::permission::Permissions;
use crate::users::store::{id, unreadable};

/// Whose consent, for what.
pub(super) struct Place {
    pub(super) user: UserId,
    pub(super) client: ClientId,
    pub(super) server: ServerId,
}

/// False when there is one already; waits for whoever is making it.
pub(super) async fn insert_consent(
    tx: &mut PgConnection,
    id: ConsentId,
    place: &Place,
    (permissions, own): (&[String], &[String]),
) -> db::Result<bool> {
    let done = sqlx::query!(
        "insert into consents (id, user_id, client_id, server_id, permissions, own) values ($1, $2, $3, $4, $5, $6)
         on conflict (user_id, client_id, server_id) do nothing",
        id.as_str(),
        place.user.as_str(),
        place.client.as_str(),
        place.server.as_str(),
        permissions,
        own,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// With what counts of it, and what of that the person itself agreed to: nothing, when it was revoked since.
pub(super) async fn lock_consent(
    tx: &mut PgConnection,
    place: &Place,
) -> db::Result<(ConsentId, Permissions, Permissions)> {
    let row = sqlx::query!(
        r#"select id, permissions, own,
                  exists (select from revocations r where r.kind = 'grant' and r.target = consents.id
                          and coalesce(r.issued_before + interval '5 seconds', r.at) >= consents.updated_at) as "revoked!"
           from consents where user_id = $1 and client_id = $2 and server_id = $3 for update"#,
        place.user.as_str(),
        place.client.as_str(),
        place.server.as_str(),
    )
    .fetch_one(tx)
    .await?;
    let (permissions, own) = if row.revoked { (Vec::new(), Vec::new()) } else { (row.permissions, row.own) };
    let read = |list: &[String]| Permissions::parse(list).map_err(unreadable);
    Ok((id(&row.id)?, read(&permissions)?, read(&own)?))
}

/// The consent's id, whether it still counts or not.
pub(super) async fn consent_id(conn: &mut PgConnection, place: &Place) -> db::Result<Option<ConsentId>> {
    let row = sqlx::query!(
        "select id from consents where user_id = $1 and client_id = $2 and server_id = $3",
        place.user.as_str(),
        place.client.as_str(),
        place.server.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| id(&row.id)).transpose()
}

/// What the person itself agreed to: what a provider gave in its place is not in it.
pub(super) async fn find_consent(
    conn: &mut PgConnection,
    place: &Place,
) -> db::Result<Option<(ConsentId, Permissions)>> {
    let row = sqlx::query!(
        "select id, own from consents
         where user_id = $1 and client_id = $2 and server_id = $3 and own <> '{}'
           and not exists (select from revocations r where r.kind = 'grant' and r.target = consents.id
                           and coalesce(r.issued_before + interval '5 seconds', r.at) >= consents.updated_at)",
        place.user.as_str(),
        place.client.as_str(),
        place.server.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((id(&row.id)?, Permissions::parse(&row.own).map_err(unreadable)?)))
}

pub(super) async fn set_consent(
    tx: &mut PgConnection,
    id: ConsentId,
    (permissions, own): (&[String], &[String]),
) -> db::Result<()> {
    sqlx::query!(
        "update consents set permissions = $2, own = $3, updated_at = authority_now() where id = $1",
        id.as_str(),
        permissions,
        own,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What a person allowed, or one of it: newest first.
pub(super) async fn allowed(
    conn: &mut PgConnection,
    user: UserId,
    only: Option<ConsentId>,
    most: i64,
) -> db::Result<Vec<Allowed>> {
    let rows = sqlx::query!(
        r#"select c.id, l.name as client_name, l.kind, l.client_id, s.name as server, s.resource, s.scopes, s.project, c.permissions,
                  c.created_at, used.at as "used?"
           from consents c join clients l on l.id = c.client_id join servers s on s.id = c.server_id
                left join lateral (select greatest(max(f.created_at), max(t.created_at)) as at
                                     from refresh_families f left join refresh_tokens t on t.family_id = f.id
                                    where f.consent_id = c.id) used on true
           where c.user_id = $1 and ($2::text is null or c.id = $2)
             and not exists (select from revocations r where r.kind = 'grant' and r.target = c.id
                             and coalesce(r.issued_before + interval '5 seconds', r.at) >= c.updated_at)
           order by c.created_at desc, c.id desc limit $3"#,
        user.as_str(),
        only.as_ref().map(ConsentId::as_str),
        most,
    )
    .fetch_all(conn)
    .await?;
    let allowed = rows.into_iter().map(|row| {
        Ok(Allowed {
            id: id(&row.id)?,
            client_name: row.client_name,
            client_kind: ClientKind::parse(&row.kind),
            client_id: row.client_id,
            server: row.server,
            resource: row.resource,
            scopes: serde_json::from_value(row.scopes).map_err(unreadable)?,
            project: row.project,
            permissions: Permissions::parse(&row.permissions).map_err(unreadable)?,
            since: row.created_at,
            used: row.used,
        })
    });
    allowed.collect()
}

pub(super) async fn find(
    conn: &mut PgConnection,
    projects: Option<&[String]>,
    id: ConsentId,
) -> db::Result<Option<Consent>> {
    Ok(sqlx::query_as!(
        Consent,
        "select c.id, c.user_id, c.client_id, c.server_id, c.permissions, c.created_at, c.updated_at
         from consents c join servers s on s.id = c.server_id
         where c.id = $2 and ($1::text[] is null or s.project = any($1))
           and not exists (select from revocations r where r.kind = 'grant' and r.target = c.id
                           and coalesce(r.issued_before + interval '5 seconds', r.at) >= c.updated_at)",
        projects,
        id.as_str(),
    )
    .fetch_optional(conn)
    .await?)
}

/// A page, and where the search for the next one begins. What narrows to few consents is asked for them first, whatever
/// their age; else the newest are looked at, as many as a page may.
pub(super) async fn list(
    conn: &mut PgConnection,
    projects: Option<&[String]>,
    filter: &ConsentFilter,
    page: &Page,
) -> db::Result<(Vec<Consent>, Option<After>)> {
    let mut few = match &filter.user_id {
        Some(user) => page::few(of_user(conn, user).await?),
        None => None,
    };
    if let (None, Some(client)) = (&few, &filter.client_id) {
        few = page::few(of_client(conn, client).await?);
    }
    if let (None, Some(server)) = (&few, &filter.server_id) {
        few = page::few(of_server(conn, server).await?);
    }
    if let (None, Some(projects)) = (&few, projects) {
        few = page::few(in_projects(conn, projects).await?);
    }
    let found = select(conn, projects, few.as_deref(), filter, page).await?;
    let edge = if few.is_none() && page.is_short(found.len()) { edge(conn, page).await? } else { None };
    Ok((found, edge))
}

/// Written as a range so that its order is the index's also where it is one value; so are those below.
async fn of_user(conn: &mut PgConnection, user: &str) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from consents where user_id between $1 and $1 order by user_id limit $2"#,
        user,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(conn)
    .await?)
}

async fn of_client(conn: &mut PgConnection, client: &str) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from consents where client_id between $1 and $1 order by client_id limit $2"#,
        client,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(conn)
    .await?)
}

async fn of_server(conn: &mut PgConnection, server: &str) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from consents where server_id between $1 and $1 order by server_id limit $2"#,
        server,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(conn)
    .await?)
}

/// Server by server; one without consents counts too.
async fn in_projects(conn: &mut PgConnection, projects: &[String]) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select c.id as "id?" from servers s
           left join lateral (select id from consents where server_id = s.id offset 0) c on true
           where s.deleted_at is null and s.project = any($1) order by s.project limit $2"#,
        projects,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(conn)
    .await?)
}

/// The last consent that a page looked at; `None` when it looked at all.
async fn edge(conn: &mut PgConnection, page: &Page) -> db::Result<Option<After>> {
    Ok(sqlx::query_as!(
        After,
        "select created_at as at, id from consents where $1::timestamptz is null or (created_at, id) < ($1, $2::text)
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
    filter: &ConsentFilter,
    page: &Page,
) -> db::Result<Vec<Consent>> {
    Ok(sqlx::query_as!(
        Consent,
        "select id, user_id, client_id, server_id, permissions, created_at, updated_at
           from (select * from consents
                 where ($1::text[] is null or id = any($1)) and ($2::timestamptz is null or (created_at, id) < ($2, $3::text))
                 order by created_at desc, id desc limit $4) as looked_at
           where ($5::text[] is null or (select project from servers where id = server_id) = any($5))
             and ($6::text is null or user_id = $6) and ($7::text is null or client_id = $7) and ($8::text is null or server_id = $8)
             and not exists (select from revocations r where r.kind = 'grant' and r.target = looked_at.id
                             and coalesce(r.issued_before + interval '5 seconds', r.at) >= looked_at.updated_at)
           order by created_at desc, id desc limit $9",
        ids,
        page.at(),
        page.id(),
        page::LOOKED_AT_MAX,
        projects,
        filter.user_id,
        filter.client_id,
        filter.server_id,
        page.fetch(),
    )
    .fetch_all(conn)
    .await?)
}

/// Those that were revoked since they were last given. The entry that says so is forgotten.
pub(super) async fn remove_revoked(conn: &mut PgConnection, most: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from consents where id in (
             select c.id from revocations r join consents c on c.id = r.target
             where r.kind = 'grant' and coalesce(r.issued_before + interval '5 seconds', r.at) >= c.updated_at limit $1)",
        most,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn project_of_server(tx: &mut PgConnection, server: ServerId) -> db::Result<Option<String>> {
    let row = sqlx::query!("select project from servers where id = $1", server.as_str()).fetch_optional(tx).await?;
    Ok(row.map(|row| row.project))
}

/// A consent as nodes keep it.
pub struct ConsentRow {
    /// Its id.
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// For which client.
    pub client_id: String,
    /// On which server.
    pub server_id: String,
    /// What.
    pub permissions: Vec<String>,
}

/// All consents.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_all_consents(conn: &mut PgConnection) -> db::Result<Vec<ConsentRow>> {
    Ok(sqlx::query_as!(ConsentRow, "select id, user_id, client_id, server_id, permissions from consents")
        .fetch_all(conn)
        .await?)
}

/// The consents named.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some_consents(conn: &mut PgConnection, ids: &[String]) -> db::Result<Vec<ConsentRow>> {
    Ok(sqlx::query_as!(
        ConsentRow,
        "select id, user_id, client_id, server_id, permissions from consents where id = any($1)",
        ids
    )
    .fetch_all(conn)
    .await?)
}
