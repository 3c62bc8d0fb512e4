//! SQL of notices.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::keys::notices::step::Step;

/// A version of a key's secret, and what there is to know of it now.
pub(super) struct Due {
    pub(super) key_id: String,
    pub(super) version: i32,
    pub(super) told_seconds: Option<i64>,
    pub(super) created_at: OffsetDateTime,
    pub(super) expires_at: OffsetDateTime,
    pub(super) environment: String,
    pub(super) agent_id: String,
    pub(super) project: String,
    /// It or its agent is switched off.
    pub(super) off: bool,
    pub(super) revoked: bool,
    /// The newest version of the key, and when it was made.
    pub(super) newest: i32,
    pub(super) newest_at: OffsetDateTime,
    pub(super) last_used_at: Option<OffsetDateTime>,
    pub(super) now: OffsetDateTime,
}

impl Due {
    /// A newer version has taken its place.
    pub(super) const fn is_old(&self) -> bool {
        self.version < self.newest
    }
}

/// Versions whose time has come. They are locked, and those that somebody else has locked are left out. What belongs to each is
/// looked up for it alone (`offset 0` keeps a look-up one): a batch must not read whole tables, however it is planned.
pub(super) async fn due(tx: &mut PgConnection, limit: i64) -> db::Result<Vec<Due>> {
    Ok(sqlx::query_as!(
        Due,
        r#"select n.key_id as "key_id!", n.version as "version!", n.told_seconds, s.created_at, s.expires_at as "expires_at!",
                  k.environment, k.agent_id, a.project, (k.disabled or a.disabled) as "off!",
                  (k.revoked_at is not null or exists (select from revocations r where r.kind = 'key' and r.target = k.id offset 0)) as "revoked!",
                  newest.version as "newest!", newest.created_at as "newest_at!", u.last_used_at as "last_used_at?", authority_now() as "now!"
           from (select key_id, version, told_seconds from key_notices where next_at <= authority_now()
                  order by next_at limit $1 for update skip locked) n
           cross join lateral (select * from secrets where owner = n.key_id and version = n.version offset 0) s
           cross join lateral (select * from keys where id = n.key_id offset 0) k
           cross join lateral (select * from agents where id = k.agent_id offset 0) a
           cross join lateral (select version, created_at from secrets where owner = n.key_id order by version desc limit 1) newest
           left join lateral (select * from secret_uses where owner = n.key_id and version = n.version offset 0) u on true"#,
        limit,
    )
    .fetch_all(tx)
    .await?)
}

/// What becomes of the rows that were looked at.
#[derive(Default)]
pub(super) struct Next {
    keys: Vec<String>,
    versions: Vec<i32>,
    told: Vec<Option<i64>>,
    times: Vec<Option<OffsetDateTime>>,
    revoked: Vec<bool>,
}

impl Next {
    pub(super) fn add(&mut self, row: &Due, step: &Step) {
        self.keys.push(row.key_id.clone());
        self.versions.push(row.version);
        self.told.push(step.told);
        self.times.push(step.next);
        self.revoked.push(row.revoked);
    }
}

/// Notes what was told and when to look again. A key that is revoked, for good, has no more notices.
pub(super) async fn set_next(tx: &mut PgConnection, next: &Next) -> db::Result<()> {
    sqlx::query!(
        "with n as (select * from unnest($1::text[], $2::integer[], $3::bigint[], $4::timestamptz[], $5::boolean[])
                        as n (key_id, version, told, next_at, revoked)),
              gone as (delete from key_notices k using n where n.revoked and k.key_id = n.key_id and k.version = n.version)
         update key_notices k set told_seconds = n.told, next_at = coalesce(n.next_at, 'infinity') from n
          where not n.revoked and k.key_id = n.key_id and k.version = n.version",
        &next.keys,
        &next.versions,
        &next.told as &[Option<i64>],
        &next.times as &[Option<OffsetDateTime>],
        &next.revoked,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Has the versions of a key looked at as if nothing had been told of them but their end.
pub(super) async fn told_nothing(tx: &mut PgConnection, key: &str) -> db::Result<()> {
    sqlx::query!(
        "update key_notices set told_seconds = null, next_at = authority_now() where key_id = $1 and told_seconds > 0",
        key
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The last of the next keys that have a secret; `None`: there are none.
pub(super) async fn last_of_next(tx: &mut PgConnection, after: &str, limit: i64) -> db::Result<Option<String>> {
    Ok(sqlx::query_scalar!(
        r#"select max(id) as last from (select id from keys where id > $1 order by id limit $2) as next"#,
        after,
        limit,
    )
    .fetch_one(tx)
    .await?)
}

/// Has the versions of these keys looked at anew. What ended before it had notices is taken to be told.
pub(super) async fn look_anew(tx: &mut PgConnection, after: &str, last: &str) -> db::Result<u64> {
    let done = sqlx::query!(
        "insert into key_notices as n (key_id, version, told_seconds)
         select s.owner, s.version, case when s.expires_at <= authority_now() then 0 end
           from keys k cross join lateral (select owner, version, expires_at from secrets where owner = k.id offset 0) s
          where k.id > $1 and k.id <= $2 and k.revoked_at is null
          order by s.owner, s.version
         on conflict (key_id, version) do update set next_at = authority_now() where n.next_at > authority_now() and n.next_at < 'infinity'",
        after,
        last,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
