//! SQL of keys.

use futures_util::TryStreamExt;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::keys::Filter;
use crate::types::page::Page;

/// Keys are few below this number.
const KEYS_FEW_MAX: i64 = 10_000;

pub(super) struct New<'a> {
    pub(super) id: &'a str,
    pub(super) agent_id: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) environment: &'a str,
    pub(super) allowed_cidrs: Option<&'a [String]>,
    pub(super) direct: bool,
    pub(super) self_rotation: bool,
    pub(super) days: i32,
}

pub(super) async fn insert(tx: &mut PgConnection, new: &New<'_>) -> db::Result<()> {
    sqlx::query!(
        "insert into keys (id, agent_id, name, environment, allowed_cidrs, direct, self_rotation, expires_in_days)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        new.id,
        new.agent_id,
        new.name,
        new.environment,
        new.allowed_cidrs,
        new.direct,
        new.self_rotation,
        new.days,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A key with what its row, its agent and its secrets say.
pub(super) struct Stored {
    pub(super) id: String,
    pub(super) agent_id: String,
    pub(super) project: String,
    pub(super) name: Option<String>,
    pub(super) environment: String,
    pub(super) allowed_cidrs: Option<Vec<String>>,
    pub(super) direct: bool,
    pub(super) self_rotation: bool,
    pub(super) disabled: bool,
    pub(super) status: String,
    pub(super) expires_in_days: i32,
    pub(super) created_at: OffsetDateTime,
    pub(super) expires_at: Option<OffsetDateTime>,
    pub(super) last_used_at: Option<OffsetDateTime>,
}

pub(super) async fn find(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    id: &str,
) -> db::Result<Option<Stored>> {
    let (filter, ids) = (Filter::default(), [id.to_owned()]);
    let page = Page { limit: 1, after: None };
    Ok(select(connection, projects, Some(&ids), &filter, &page).await?.into_iter().next())
}

pub(super) async fn lock(tx: &mut PgConnection, projects: Option<&[String]>, id: &str) -> db::Result<Option<Stored>> {
    sqlx::query!("select id from keys where id = $1 for no key update", id).fetch_optional(&mut *tx).await?;
    find(tx, projects, id).await
}

/// What narrows to few keys is asked for them first, whatever their age; where it leaves many, some are soon met among the
/// newest of all.
pub(super) async fn list(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<Vec<Stored>> {
    let few = match (&filter.server_id, filter.expires_before) {
        (Some(server), _) => few(on_server(connection, server).await?),
        (None, Some(at)) => few(ending(connection, at).await?),
        (None, None) => None,
    };
    select(connection, projects, few.as_deref(), filter, page).await
}

/// `None` when there are many.
fn few(ids: Vec<String>) -> Option<Vec<String>> {
    i64::try_from(ids.len()).is_ok_and(|found| found < KEYS_FEW_MAX).then_some(ids)
}

/// Keys with a grant on a server, their own or a role's.
async fn on_server(connection: &mut PgConnection, server: &str) -> db::Result<Vec<String>> {
    let rows = sqlx::query!(
        r#"select holder as "id!" from grants where server_id = $1 and holder like 'key\_%'
           union all
           select kr.key_id from grants g join key_roles kr on kr.role_id = g.holder where g.server_id = $1
           limit $2"#,
        server,
        KEYS_FEW_MAX,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Keys that end before a time.
async fn ending(connection: &mut PgConnection, at: OffsetDateTime) -> db::Result<Vec<String>> {
    let rows =
        sqlx::query!("select id from keys where ends_at < $1 limit $2", at, KEYS_FEW_MAX).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// The one statement that reads keys: those of `ids`, or a page. What a filter says is said once more in the terms that an
/// index is in.
async fn select(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    ids: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<Vec<Stored>> {
    Ok(sqlx::query_as!(
        Stored,
        r#"select id, agent_id, project, name, environment, allowed_cidrs, direct, self_rotation, disabled, status as "status!",
                  expires_in_days, created_at, expires_at as "expires_at?", last_used_at
           from (select k.*, a.project, k.ends_at as expires_at,
                        (select max(u.last_used_at) from secret_uses u where u.owner = k.id) as last_used_at,
                        case when k.revoked_at is not null or exists (select from revocations r where r.kind = 'key' and r.target = k.id)
                             then 'revoked'
                             when k.disabled then 'disabled'
                             when k.ends_at <= authority_now() then 'expired'
                             when k.overlap_until > authority_now() then 'overlap' else 'active' end as status
                 from keys k join agents a on a.id = k.agent_id
                 where ($1::text[] is null or a.project = any($1)) and ($2::text[] is null or k.id = any($2))
                   and ($3::text is null or a.project = $3) and ($4::text is null or k.agent_id = $4)
                   and ($5::text is null or exists (select from grants g where g.server_id = $5 and g.holder = k.id)
                        or exists (select from key_roles kr join grants g on g.holder = kr.role_id where kr.key_id = k.id and g.server_id = $5))
                   and ($6::text is null or k.environment = $6)
                   and ($7::text is null or strpos(lower(coalesce(k.name, '')), lower($7)) > 0)
                   and ($8::timestamptz is null or (k.created_at, k.id) < ($8, $9::text))
                   and ($10::text is null or $10 <> 'disabled' or k.disabled)
                   and ($10 is null or $10 <> 'expired' or k.ends_at <= authority_now())
                   and ($10 is null or $10 <> 'overlap' or k.overlap_until > authority_now())
                   -- A row that was locked is marked by a job within a minute; until then the list knows more than the row.
                   and ($10 is null or $10 <> 'revoked' or k.revoked_at is not null or k.id = any(array(
                        select r.target from revocations r where r.kind = 'key' and r.at > authority_now() - interval '10 minutes')))
                   and ($11::timestamptz is null or k.ends_at < $11)
                   and ($12::timestamptz is null or not exists (select from secret_uses u where u.owner = k.id and u.last_used_at >= $12))) as found
           where $10 is null or status = $10
           order by created_at desc, id desc limit $13"#,
        projects,
        ids,
        filter.project,
        filter.agent_id,
        filter.server_id,
        filter.environment,
        filter.q,
        page.at(),
        page.id(),
        filter.status,
        filter.expires_before,
        filter.last_used_before,
        page.fetch(),
    )
    .fetch_all(connection)
    .await?)
}

pub(super) struct Changed<'a> {
    pub(super) id: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) allowed_cidrs: Option<&'a [String]>,
    pub(super) direct: bool,
    pub(super) self_rotation: bool,
    pub(super) disabled: bool,
}

pub(super) async fn set(tx: &mut PgConnection, key: &Changed<'_>) -> db::Result<()> {
    sqlx::query!(
        "update keys set name = $2, allowed_cidrs = $3, direct = $4, self_rotation = $5, disabled = $6 where id = $1",
        key.id,
        key.name,
        key.allowed_cidrs,
        key.direct,
        key.self_rotation,
        key.disabled,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A key as nodes keep it. A revoked one is kept until its secrets have ended, so that its uses are told apart from guesses.
pub struct Row {
    /// Its id.
    pub id: String,
    /// Whose.
    pub agent_id: String,
    /// Where it is good.
    pub environment: String,
    /// From where.
    pub allowed_cidrs: Option<Vec<String>>,
    /// May be shown to a server.
    pub direct: bool,
    /// Switched off.
    pub disabled: bool,
    /// For good.
    pub revoked: bool,
}

/// All keys, of every project, each handed over as it arrives.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_all(connection: &mut PgConnection, mut each: impl FnMut(Row)) -> db::Result<()> {
    let mut rows = sqlx::query_as!(
        Row,
        r#"select id, agent_id, environment, allowed_cidrs, direct, disabled, revoked_at is not null as "revoked!" from keys k
           where revoked_at is null or exists (select from secrets s where s.owner = k.id and s.expires_at > authority_now())"#,
    )
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        each(row);
    }
    Ok(())
}

/// The keys named, of every project.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        r#"select id, agent_id, environment, allowed_cidrs, direct, disabled, revoked_at is not null as "revoked!" from keys k
           where id = any($1)
             and (revoked_at is null or exists (select from secrets s where s.owner = k.id and s.expires_at > authority_now()))"#,
        ids,
    )
    .fetch_all(connection)
    .await?)
}
