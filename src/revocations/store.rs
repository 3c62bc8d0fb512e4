//! SQL of the revocation list.

use futures_util::TryStreamExt;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::revocations::{Kind, New, Revocation};
use crate::types::page::Page;

/// How much longer than needed an entry is kept.
const PRUNE_MARGIN_MINUTES: i32 = 10;
const PRUNE_BATCH: i64 = 10_000;

pub(super) async fn find_final(tx: &mut PgConnection, new: &New) -> db::Result<Option<String>> {
    if !new.kind.is_final() {
        return Ok(None);
    }
    let row = sqlx::query!(
        "select id from revocations where kind = $1 and target = $2 limit 1",
        new.kind.as_str(),
        new.target
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.id))
}

pub(super) async fn is_future(tx: &mut PgConnection, at: Option<OffsetDateTime>) -> db::Result<bool> {
    let row = sqlx::query!(r#"select coalesce($1::timestamptz > authority_now(), false) as "future!""#, at)
        .fetch_one(tx)
        .await?;
    Ok(row.future)
}

/// False when it was there already.
pub(super) async fn insert(tx: &mut PgConnection, id: &str, new: &New, actor: &str) -> db::Result<bool> {
    let done = sqlx::query!(
        // Kept until what it kills has expired anyway: a key with its last secret, a token with itself, a cut-off with the
        // longest life that a session token can have, and with that of the refresh tokens that there are now. What signs,
        // and operators, are kept for ever.
        "insert into revocations (id, kind, target, reason, issued_before, actor, project, prune_at)
         values ($1, $2, $3, $4, $5, $6, $7, case
             when $2 in ('signing_key', 'operator') then null
             when $2 = 'key' then (select max(expires_at) from secrets where owner = $3)
             when $2 = 'token' then coalesce((select expires_at from sessions where id = $3), authority_now() + interval '1 hour')
             when $2 in ('agent', 'key_sessions') then authority_now() + interval '1 hour'
             else greatest(authority_now() + interval '1 hour', (select max(expires_at) from refresh_families)) end)
         on conflict do nothing",
        id,
        new.kind.as_str(),
        new.target,
        new.reason,
        new.issued_before,
        actor,
        new.project,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn find(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    id: &str,
) -> db::Result<Option<Revocation>> {
    Ok(sqlx::query_as!(
        Revocation,
        r#"select id, kind, target, reason, issued_before, actor, project, at, coalesce(number, 0) as "sequence!", coalesce(history, 0) as "history!"
           from revocations where ($1::text[] is null or project = any($1)) and id = $2"#,
        projects,
        id,
    )
    .fetch_optional(connection)
    .await?)
}

pub(super) async fn list(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    kind: Option<&str>,
    target: Option<&str>,
    page: &Page,
) -> db::Result<Vec<Revocation>> {
    Ok(sqlx::query_as!(
        Revocation,
        r#"select id, kind, target, reason, issued_before, actor, project, at, coalesce(number, 0) as "sequence!", coalesce(history, 0) as "history!"
           from revocations
           where ($1::text[] is null or project = any($1)) and ($2::text is null or kind = $2) and ($3::text is null or target = $3)
             and ($4::timestamptz is null or (at, id) < ($4, $5::text))
           order by at desc, id desc limit $6"#,
        projects,
        kind,
        target,
        page.at(),
        page.id(),
        page.fetch(),
    )
    .fetch_all(connection)
    .await?)
}

/// An entry as nodes keep it.
#[derive(Clone, Debug)]
pub struct Known {
    /// Which kind.
    pub kind: String,
    /// Which one.
    pub target: String,
    /// Only what was issued up to then.
    pub issued_before: Option<OffsetDateTime>,
    /// The feed's history when it was made.
    pub history: i64,
    /// Its number there.
    pub number: i64,
    /// When everything it kills has expired, if it does.
    pub prune_at: Option<OffsetDateTime>,
}

/// Removes entries that kill only what has expired long enough ago.
///
/// # Errors
///
/// The database refuses.
pub async fn prune(connection: &mut PgConnection) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from revocations where id in (
             select id from revocations r where prune_at < authority_now() - make_interval(mins => $1)
                and (kind <> 'key' or exists (select from keys k where k.id = r.target and k.revoked_at is not null))
             order by prune_at limit $2)",
        PRUNE_MARGIN_MINUTES,
        PRUNE_BATCH,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Whether one of these was cut off at this time or later.
pub(super) async fn is_cut_off(
    connection: &mut PgConnection,
    targets: &[(Kind, &str)],
    since: OffsetDateTime,
) -> db::Result<bool> {
    let kinds: Vec<&str> = targets.iter().map(|(kind, _)| kind.as_str()).collect();
    let targets: Vec<&str> = targets.iter().map(|(_, target)| *target).collect();
    let found = sqlx::query_scalar!(
        r#"select exists (select from revocations r join unnest($1::text[], $2::text[]) as t (kind, target) using (kind, target)
                          where coalesce(r.issued_before, r.at) >= $3) as "some!""#,
        &kinds as &[&str],
        &targets as &[&str],
        since,
    );
    Ok(found.fetch_one(connection).await?)
}

/// Marks the keys and operators whose revocation found their row locked, so that lists say so too.
///
/// # Errors
///
/// The database refuses.
pub async fn settle(connection: &mut PgConnection) -> db::Result<u64> {
    let keys = sqlx::query!(
        // `disabled` stays as it is: that it is named tells the nodes.
        "update keys set revoked_at = r.at, disabled = keys.disabled from revocations r where r.kind = 'key' and r.target = keys.id and keys.revoked_at is null",
    )
    .execute(&mut *connection)
    .await?;
    let operators = sqlx::query!(
        "update operators set revoked_at = r.at from revocations r where r.kind = 'operator' and r.target = operators.id and operators.revoked_at is null",
    )
    .execute(connection)
    .await?;
    Ok(keys.rows_affected() + operators.rows_affected())
}

/// Writes back an entry that this node had applied and a promoted database has lost. False when it is there.
///
/// # Errors
///
/// The database refuses.
pub async fn restore(
    connection: &mut PgConnection,
    id: &str,
    kind: &str,
    target: &str,
    issued_before: Option<OffsetDateTime>,
) -> db::Result<bool> {
    let done = sqlx::query!(
        "insert into revocations (id, kind, target, reason, issued_before, actor)
         select $1, $2, $3, 'written back by a node that had applied it', $4, 'system'
         where not exists (select from revocations where kind = $2 and target = $3 and issued_before is not distinct from $4)
         on conflict do nothing",
        id,
        kind,
        target,
        issued_before,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Marks rows for lists, as far as nobody holds them, or their table, now; [`settle`] does the rest.
pub(super) async fn mark(tx: &mut PgConnection, targets: &[String]) -> db::Result<()> {
    if !targets.is_empty() {
        sqlx::query!("select mark_revoked($1)", targets).execute(tx).await?;
    }
    Ok(())
}

pub(super) struct Place {
    pub(super) id: String,
    pub(super) history: i64,
    pub(super) number: i64,
}

pub(super) async fn places(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<Place>> {
    Ok(sqlx::query_as!(
        Place,
        r#"select id, coalesce(history, 0) as "history!", coalesce(number, 0) as "number!" from revocations where id = any($1)"#,
        ids,
    )
    .fetch_all(connection)
    .await?)
}

/// What is to be revoked, as entries name it.
#[derive(Clone, Debug)]
pub struct Reached {
    /// Its id: of a project its name, of a client that was named by the address of its document its own id.
    pub target: String,
    /// Its project; `None`: it belongs to none, as people and providers.
    pub project: Option<String>,
}

/// What is to be revoked, if the caller reaches it. A token is reached through its agent's project and through its
/// server's, what a person allowed through the server's and the client's; people and providers by who reaches all projects.
///
/// # Errors
///
/// The database cannot answer.
pub async fn reach(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    kind: super::Kind,
    target: &str,
) -> db::Result<Option<Reached>> {
    Ok(sqlx::query_as!(
        Reached,
        r#"select target as "target!", project from (
               select k.id as target, a.project from keys k join agents a on a.id = k.agent_id where $2 = 'key' and k.id = $3
               union all select id, project from agents where $2 = 'agent' and id = $3
               union all select id, project from servers where $2 = 'server' and id = $3
               union all select name, name from projects where $2 = 'project' and (name = $3 or id = $3)
               union all select s.id, a.project from sessions s join agents a on a.id = s.agent_id where $2 = 'token' and s.id = $3
               union all select s.id, v.project from sessions s join servers v on v.id = s.server_id where $2 = 'token' and s.id = $3
               union all select id, project from clients where $2 = 'client' and (id = $3 or client_id = $3)
               union all select c.id, v.project from consents c join servers v on v.id = c.server_id where $2 = 'grant' and c.id = $3
               union all select c.id, l.project from consents c join clients l on l.id = c.client_id where $2 = 'grant' and c.id = $3
               union all select id, null from users where $2 = 'user' and id = $3
               union all select id, null from providers where $2 = 'provider' and id = $3
           ) as found where $1::text[] is null or project = any($1) limit 1"#,
        projects,
        kind.as_str(),
        target,
    )
    .fetch_optional(connection)
    .await?)
}

/// All entries, each handed over as it arrives.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_all(connection: &mut PgConnection, mut each: impl FnMut(Known)) -> db::Result<()> {
    let mut rows = sqlx::query_as!(
        Known,
        r#"select kind, target, issued_before, coalesce(history, 0) as "history!", coalesce(number, 0) as "number!", prune_at from revocations"#,
    )
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        each(row);
    }
    Ok(())
}

/// An entry as nodes read it when it is new, with whom it reaches.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Which kind.
    pub kind: String,
    /// Which one.
    pub target: String,
    /// Which one, in the words of introspection: of a client its `client_id`, of what a person allowed, and of a
    /// family of refresh tokens, the person.
    pub subject: String,
    /// Only what was issued up to then.
    pub issued_before: Option<OffsetDateTime>,
    /// The feed's history when it was made.
    pub history: i64,
    /// Its number there.
    pub number: i64,
    /// When everything it kills has expired, if it does.
    pub prune_at: Option<OffsetDateTime>,
    /// The servers that a token is for, on which a key or an agent's keys have grants, or on which people allowed something.
    pub servers: Vec<String>,
    /// The person of a family of refresh tokens.
    pub user_id: Option<String>,
    /// The key of a token.
    pub key_id: Option<String>,
    /// The agent of a token or a key.
    pub agent_id: Option<String>,
    /// The revoked key's own row says so too.
    pub marked: bool,
}

impl Named {
    /// What is kept of it.
    #[must_use]
    pub fn known(&self) -> Known {
        Known {
            kind: self.kind.clone(),
            target: self.target.clone(),
            issued_before: self.issued_before,
            history: self.history,
            number: self.number,
            prune_at: self.prune_at,
        }
    }
}

/// The entries named.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<Named>> {
    Ok(sqlx::query_as!(
        Named,
        r#"select r.id as "id!", r.kind as "kind!", r.target as "target!", r.issued_before, coalesce(r.history, 0) as "history!",
                  coalesce(r.number, 0) as "number!", r.prune_at, t.key_id as "key_id?", coalesce(t.agent_id, k.agent_id) as agent_id,
                  r.kind = 'key' and k.revoked_at is not null as "marked!",
                  f.user_id as "user_id?",
                  case when r.kind = 'token' then array_remove(array[coalesce(t.server_id, f.server_id)], null)
                       when r.kind in ('key', 'key_sessions') then array(
                           select server_id from grants where holder = r.target
                           union select g.server_id from key_roles kr join grants g on g.holder = kr.role_id where kr.key_id = r.target)
                       when r.kind = 'agent' then array(
                           select g.server_id from keys k join grants g on g.holder = k.id where k.agent_id = r.target
                           union select g.server_id from keys k join key_roles kr on kr.key_id = k.id
                                 join grants g on g.holder = kr.role_id where k.agent_id = r.target)
                       when r.kind = 'client' then array(
                           select server_id from grants where holder = r.target
                           union select server_id from consents where client_id = r.target)
                       when r.kind = 'user' then array(select server_id from consents where user_id = r.target)
                       when r.kind = 'grant' then array(select server_id from consents where id = r.target)
                       when r.kind = 'provider' then array(
                           select distinct c.server_id from users u join consents c on c.user_id = u.id where u.provider_id = r.target)
                       else '{}' end as "servers!",
                  case r.kind when 'client' then coalesce((select client_id from clients where id = r.target), r.target)
                              when 'grant' then coalesce((select user_id from consents where id = r.target), r.target)
                              else coalesce(f.user_id, r.target) end as "subject!"
           from revocations r left join sessions t on r.kind = 'token' and t.id = r.target
                left join refresh_families f on r.kind = 'token' and f.id = r.target
                left join keys k on r.kind in ('key', 'key_sessions') and k.id = r.target
           where r.id = any($1)"#,
        ids,
    )
    .fetch_all(connection)
    .await?)
}
