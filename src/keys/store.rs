//! SQL of keys.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::keys::Filter;
use crate::types::page;
use crate::types::page::{After, Page};

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
#[expect(clippy::struct_excessive_bools, reason = "each is a column")]
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
    pub(super) exceeds_policy: bool,
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

/// A page, and where the search for the next one begins. What narrows to few keys is asked for them first, whatever their
/// age; else the newest are looked at, as many as a page may.
pub(super) async fn list(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<(Vec<Stored>, Option<After>)> {
    if page::is_beyond(projects, filter.project.as_ref()) {
        return Ok((Vec::new(), None));
    }
    let mut few = None;
    for narrow in Narrow::all(projects, filter) {
        few = page::few(narrow.ids(connection).await?);
        if few.is_some() {
            break;
        }
    }
    let found = select(connection, projects, few.as_deref(), filter, page).await?;
    let edge = if few.is_none() && page.is_short(found.len()) { edge(connection, page).await? } else { None };
    Ok((found, edge))
}

/// What may leave few keys.
enum Narrow<'a> {
    Agent(&'a str),
    Server(&'a str),
    Name(&'a str),
    /// Not of those that are `active`.
    Status(&'a str),
    Ending(OffsetDateTime),
    Projects(&'a [String]),
    Environment(&'a str),
}

impl<'a> Narrow<'a> {
    /// What is likely to leave fewest comes first.
    fn all(projects: Option<&'a [String]>, filter: &'a Filter) -> impl Iterator<Item = Self> {
        let status = filter.status.as_deref().filter(|status| *status != "active");
        let projects = filter.project.as_ref().map(std::slice::from_ref).or(projects);
        let all = [
            filter.agent_id.as_deref().map(Self::Agent),
            filter.server_id.as_deref().map(Self::Server),
            filter.q.as_deref().map(Self::Name),
            status.map(Self::Status),
            filter.expires_before.map(Self::Ending),
            projects.map(Self::Projects),
            filter.environment.as_deref().map(Self::Environment),
        ];
        all.into_iter().flatten()
    }

    /// The keys that it leaves, and no more than a page may look at; a row that leads to no key counts too. Ordered as its index
    /// is, so that no other is read; the order by what is equal to one value would say nothing, so that is said as a range.
    async fn ids(&self, connection: &mut PgConnection) -> db::Result<Vec<Option<String>>> {
        let max = page::LOOKED_AT_MAX;
        Ok(match self {
            Self::Agent(agent) => sqlx::query_scalar!(
                r#"select id as "id?" from keys where agent_id between $1 and $1 order by agent_id limit $2"#,
                agent,
                max
            )
            .fetch_all(connection)
            .await?,
            // By a grant of its own, or a role's.
            Self::Server(server) => sqlx::query_scalar!(
                r#"select case when g.holder like 'key\_%' then g.holder else kr.key_id end from grants g
                   left join lateral (select key_id from key_roles where role_id = g.holder offset 0) kr on true
                   where g.server_id = $1 order by g.holder limit $2"#,
                server,
                max
            )
            .fetch_all(connection)
            .await?,
            Self::Name(q) => sqlx::query_scalar!(
                r#"select id as "id?" from keys where lower(name) collate "C" ^@ lower($1) order by lower(name) collate "C" limit $2"#,
                q,
                max
            )
            .fetch_all(connection)
            .await?,
            Self::Ending(at) => sqlx::query_scalar!(
                r#"select id as "id?" from keys where ends_at < $1 order by ends_at limit $2"#,
                at,
                max
            )
            .fetch_all(connection)
            .await?,
            Self::Status(status) => in_state(connection, status).await?,
            // Of deleted agents too.
            Self::Projects(projects) => sqlx::query_scalar!(
                r#"select k.id as "id?" from agents a
                   left join lateral (select id from keys where agent_id = a.id offset 0) k on true
                   where a.project = any($1) order by a.project limit $2"#,
                projects,
                max
            )
            .fetch_all(connection)
            .await?,
            Self::Environment(environment) => sqlx::query_scalar!(
                r#"select id as "id?" from keys where environment between $1 and $1 order by environment limit $2"#,
                environment,
                max
            )
            .fetch_all(connection)
            .await?,
        })
    }
}

/// Keys that are `expired`, `due`, in `overlap`, `revoked`, or else `disabled`, and some that are not.
async fn in_state(connection: &mut PgConnection, status: &str) -> db::Result<Vec<Option<String>>> {
    let max = page::LOOKED_AT_MAX;
    Ok(match status {
        "expired" => {
            sqlx::query_scalar!(
                r#"select id as "id?" from keys where ends_at <= authority_now() order by ends_at limit $1"#,
                max
            )
            .fetch_all(connection)
            .await?
        }
        "due" => {
            sqlx::query_scalar!(
                r#"select id as "id?" from keys where ends_at > authority_now() and ends_at <= authority_now() + make_interval(
                       days => (select max(days) from settings, unnest(prod_remind_days || dev_remind_days) as remind (days)))
                   order by ends_at limit $1"#,
                max
            )
            .fetch_all(connection)
            .await?
        }
        "overlap" => {
            sqlx::query_scalar!(
                r#"select id as "id?" from keys where overlap_until > authority_now() order by overlap_until limit $1"#,
                max
            )
            .fetch_all(connection)
            .await?
        }
        // A row that was locked is marked by a job within a minute; until then the list knows more than the row.
        "revoked" => sqlx::query_scalar!(
            r#"(select id as "id?" from keys where revoked_at is not null order by created_at desc, id desc limit $1)
               union all
               (select target from revocations where kind = 'key' and at > authority_now() - interval '10 minutes'
                 order by at desc, id desc limit $1)"#,
            max
        )
        .fetch_all(connection)
        .await?,
        _ => {
            sqlx::query_scalar!(
                r#"select id as "id?" from keys where disabled order by created_at desc, id desc limit $1"#,
                max
            )
            .fetch_all(connection)
            .await?
        }
    })
}

/// The last key that a page looked at; `None` when it looked at all.
async fn edge(connection: &mut PgConnection, page: &Page) -> db::Result<Option<After>> {
    Ok(sqlx::query_as!(
        After,
        "select created_at as at, id from keys where ($1::timestamptz is null or (created_at, id) < ($1, $2::text))
         order by created_at desc, id desc offset $3 limit 1",
        page.at(),
        page.id(),
        page::LOOKED_AT_MAX - 1,
    )
    .fetch_optional(connection)
    .await?)
}

/// The one statement that reads keys: those of `ids`, or a page of the newest. Everything about a key but its row is looked up
/// for it alone (`offset 0` keeps a look-up one), so that what is read follows from the number of keys looked at.
async fn select(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    ids: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<Vec<Stored>> {
    Ok(sqlx::query_as!(
        Stored,
        r#"select id, agent_id, project as "project!", name, environment, allowed_cidrs, direct, self_rotation, disabled,
                  status as "status!", exceeds_policy as "exceeds_policy!", expires_in_days, created_at, ends_at as expires_at, last_used_at
           from (select k.*, (select a.project from agents a where a.id = k.agent_id) as project,
                        (select max(u.last_used_at) from secret_uses u where u.owner = k.id) as last_used_at,
                        coalesce(newest.created_at < k.ends_at - make_interval(days =>
                            case k.environment when 'prod' then (select prod_max_age_days from settings)
                            else (select dev_max_age_days from settings) end), false) as exceeds_policy,
                        case when k.revoked_at is not null
                                  or exists (select from revocations r where r.kind = 'key' and r.target = k.id offset 0) then 'revoked'
                             when k.disabled then 'disabled'
                             when k.ends_at <= authority_now() then 'expired'
                             when exists (select from unnest(case k.environment when 'prod' then (select prod_remind_days from settings)
                                                             else (select dev_remind_days from settings) end) as remind (days)
                                           where newest.created_at < k.ends_at - make_interval(days => days)
                                             and k.ends_at - make_interval(days => days) <= authority_now()) then 'due'
                             when k.overlap_until > authority_now() then 'overlap' else 'active' end as status
                 from (select * from keys
                       where ($1::text[] is null or id = any($1)) and ($2::timestamptz is null or (created_at, id) < ($2, $3::text))
                       order by created_at desc, id desc limit $4) as k
                 left join lateral (select created_at from secrets where owner = k.id order by version desc limit 1) as newest on true) as found
           where ($5::text[] is null or project = any($5)) and ($6::text is null or project = $6)
             and ($7::text is null or agent_id = $7) and ($8::text is null or environment = $8)
             and ($9::text is null or status = $9) and ($10::timestamptz is null or ends_at < $10)
             and ($11::text is null or lower(name) collate "C" ^@ lower($11))
             and ($12::text is null or exists (select from grants g where g.server_id = $12 and g.holder = found.id offset 0)
                  or exists (select from key_roles kr join grants g on g.holder = kr.role_id
                              where kr.key_id = found.id and g.server_id = $12 offset 0))
             and ($13::timestamptz is null or coalesce(last_used_at, '-infinity') < $13)
           order by created_at desc, id desc limit $14"#,
        ids,
        page.at(),
        page.id(),
        page::LOOKED_AT_MAX,
        projects,
        filter.project,
        filter.agent_id,
        filter.environment,
        filter.status,
        filter.expires_before,
        filter.q,
        filter.server_id,
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
