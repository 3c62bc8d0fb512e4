//! SQL of secrets.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::secrets::Shown;
use crate::types::id::KeyId;

pub(super) struct Version {
    pub(super) number: i32,
    /// What the version after it is called.
    pub(super) next: i32,
    pub(super) age_seconds: i64,
    pub(super) live: bool,
    pub(super) used: bool,
}

/// All versions there are, newest first.
pub(super) async fn versions(tx: &mut PgConnection, owner: &str) -> db::Result<Vec<Version>> {
    Ok(sqlx::query_as!(
        Version,
        r#"select version as number, coalesce(next_version, version + 1) as "next!",
                  extract(epoch from authority_now() - created_at)::bigint as "age_seconds!",
                  coalesce(expires_at > authority_now(), true) as "live!",
                  exists (select from secret_uses u where u.owner = s.owner and u.version = s.version) as "used!"
           from secrets s where owner = $1 order by version desc"#,
        owner,
    )
    .fetch_all(tx)
    .await?)
}

pub(super) struct New<'a> {
    pub(super) owner: &'a str,
    pub(super) version: i32,
    pub(super) secret_key: &'a str,
    pub(super) digest: &'a [u8],
    pub(super) hint: &'a str,
    pub(super) life_days: Option<i32>,
}

pub(super) async fn insert(tx: &mut PgConnection, new: &New<'_>) -> db::Result<Option<OffsetDateTime>> {
    let row = sqlx::query!(
        "insert into secrets (owner, version, secret_key, digest, hint, expires_at)
         values ($1, $2, $3, $4, $5, authority_now() + make_interval(days => $6::integer)) returning expires_at",
        new.owner,
        new.version,
        new.secret_key,
        new.digest,
        new.hint,
        new.life_days,
    )
    .fetch_one(tx)
    .await?;
    Ok(row.expires_at)
}

pub(super) async fn end_all(tx: &mut PgConnection, owner: &str) -> db::Result<()> {
    sqlx::query!("update secrets set expires_at = authority_now() where owner = $1 and coalesce(expires_at > authority_now(), true)", owner)
        .execute(tx)
        .await?;
    Ok(())
}

/// `least` ignores null, so a version without an end gets one and another never a later one.
pub(super) async fn end_after(tx: &mut PgConnection, owner: &str, version: i32, seconds: i64) -> db::Result<()> {
    sqlx::query!(
        "update secrets set own_end = expires_at, expires_at = least(expires_at, authority_now() + $3::bigint * interval '1 second')
         where owner = $1 and version = $2",
        owner,
        version,
        seconds,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// No version before this one ends after it.
pub(super) async fn none_outlives(tx: &mut PgConnection, owner: &str, version: i32) -> db::Result<()> {
    sqlx::query!(
        "update secrets older set expires_at = newest.expires_at from secrets newest
         where older.owner = $1 and newest.owner = $1 and newest.version = $2 and older.version < $2
           and older.expires_at > newest.expires_at",
        owner,
        version,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn end_now(tx: &mut PgConnection, owner: &str, version: i32) -> db::Result<()> {
    sqlx::query!("update secrets set expires_at = authority_now() where owner = $1 and version = $2", owner, version)
        .execute(tx)
        .await?;
    Ok(())
}

/// Makes a superseded version the newest again, with the end that it had before. `next`: what no version was called yet.
pub(super) async fn restore(tx: &mut PgConnection, owner: &str, version: i32, next: i32) -> db::Result<()> {
    sqlx::query!(
        "update secrets set expires_at = coalesce(own_end, expires_at), own_end = null, next_version = $3 where owner = $1 and version = $2",
        owner,
        version,
        next,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn remove(tx: &mut PgConnection, owner: &str, version: i32) -> db::Result<()> {
    sqlx::query!("delete from secrets where owner = $1 and version = $2", owner, version).execute(tx).await?;
    Ok(())
}

/// Forgets what ended long ago: the newest two tell all that is asked.
pub(super) async fn remove_before(tx: &mut PgConnection, owner: &str, version: i32) -> db::Result<()> {
    sqlx::query!(
        "delete from secrets where owner = $1 and version < $2 and expires_at <= authority_now()",
        owner,
        version
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn previous_end(
    tx: &mut PgConnection,
    owner: &str,
    version: i32,
) -> db::Result<Option<OffsetDateTime>> {
    let row = sqlx::query!(
        "select expires_at from secrets where owner = $1 and version < $2 order by version desc limit 1",
        owner,
        version,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.and_then(|row| row.expires_at))
}

pub(super) async fn shown(connection: &mut PgConnection, owner: &str, remind_days: &[i32]) -> db::Result<Vec<Shown>> {
    Ok(sqlx::query_as!(
        Shown,
        r#"select s.version, s.hint, s.created_at, s.expires_at, u.last_used_at as "last_used_at?",
                  host(u.client_ip) as last_used_ip, u.server_id as last_used_server_id,
                  case when s.expires_at <= authority_now() then 'retired'
                       when s.version < max(s.version) over () then 'superseded'
                       when exists (select from unnest($2::integer[]) as remind (days)
                                     where s.created_at < s.expires_at - make_interval(days => days)
                                       and s.expires_at - make_interval(days => days) <= authority_now()) then 'due'
                       else 'active' end as "state!"
           from secrets s left join secret_uses u on u.owner = s.owner and u.version = s.version
           where s.owner = $1 order by s.version desc limit 2"#,
        owner,
        remind_days,
    )
    .fetch_all(connection)
    .await?)
}

/// The last use of a version.
#[derive(Clone, Debug)]
pub struct Use {
    /// `key_…`, `opr_…`, `srv_…` or `cli_…`.
    pub owner: String,
    /// Which version of its secret.
    pub version: i32,
    /// When.
    pub at: OffsetDateTime,
    /// From where.
    pub client_ip: Option<String>,
    /// On which server.
    pub server_id: Option<String>,
}

/// Notes last uses; an older one never replaces a younger one.
///
/// # Errors
///
/// The database refuses; nothing was noted.
pub async fn record_uses(connection: &mut PgConnection, uses: &[Use]) -> db::Result<()> {
    let owners: Vec<&str> = uses.iter().map(|used| used.owner.as_str()).collect();
    let versions: Vec<i32> = uses.iter().map(|used| used.version).collect();
    let times: Vec<OffsetDateTime> = uses.iter().map(|used| used.at).collect();
    let addresses: Vec<Option<&str>> = uses.iter().map(|used| used.client_ip.as_deref()).collect();
    let servers: Vec<Option<&str>> = uses.iter().map(|used| used.server_id.as_deref()).collect();
    sqlx::query!(
        "insert into secret_uses (owner, version, last_used_at, client_ip, server_id)
         select o, v, t, i::inet, s from unnest($1::text[], $2::integer[], $3::timestamptz[], $4::text[], $5::text[]) as u (o, v, t, i, s)
         order by o, v
         on conflict (owner, version) do update
            set last_used_at = excluded.last_used_at, client_ip = excluded.client_ip, server_id = excluded.server_id
          where secret_uses.last_used_at < excluded.last_used_at",
        &owners as &[&str],
        &versions,
        &times,
        &addresses as &[Option<&str>],
        &servers as &[Option<&str>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A digest to be made anew under a newer secret key.
#[derive(Clone, Debug)]
pub struct Rehash {
    /// Whose.
    pub owner: String,
    /// Which version.
    pub version: i32,
    /// The secret key it is under now.
    pub from: String,
    /// The secret key it moves to.
    pub to: String,
    /// The digest under that one.
    pub digest: Vec<u8>,
}

/// Moves a digest to a newer secret key, if it is still under the old one.
///
/// # Errors
///
/// The database refuses.
pub async fn rehash(connection: &mut PgConnection, rehash: &Rehash) -> db::Result<()> {
    sqlx::query!(
        "update secrets set secret_key = $4, digest = $5 where owner = $1 and version = $2 and secret_key = $3",
        rehash.owner,
        rehash.version,
        rehash.from,
        rehash.to,
        rehash.digest,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// HMAC-SHA-256, as a node keeps it.
pub type Digest = [u8; 32];

/// A version of a secret as nodes keep it.
pub struct Row {
    /// Whose.
    pub owner: String,
    /// Counts from 1.
    pub version: i32,
    /// The secret key its digest was made under.
    pub secret_key: String,
    /// HMAC-SHA-256.
    pub digest: Digest,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
}

/// All versions of the secrets of whatever is no API key: those come with their keys.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_others(connection: &mut PgConnection) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        r#"select owner, version, secret_key, digest as "digest: Digest", created_at, expires_at from secrets
           where not starts_with(owner, $1)"#,
        KeyId::PREFIX,
    )
    .fetch_all(connection)
    .await?)
}

/// The versions of the owners named.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some(connection: &mut PgConnection, owners: &[String]) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        r#"select owner, version, secret_key, digest as "digest: Digest", created_at, expires_at from secrets where owner = any($1)"#,
        owners,
    )
    .fetch_all(connection)
    .await?)
}

/// What still needs a secret key.
#[derive(Clone, Debug)]
pub struct InUse {
    /// The secret key's id.
    pub id: String,
    /// How many digests of living secrets, and sealed values.
    pub rows: i64,
    /// How many of them are secrets that end with their owner only.
    pub endless: i64,
    /// When the last of the others ends, if it is never used before; a used one moves to the newest secret key.
    pub until: Option<OffsetDateTime>,
}

/// The secret keys that something needs. Secrets that have expired need none: nothing brings them back.
///
/// # Errors
///
/// The database cannot answer.
pub async fn secret_keys_in_use(connection: &mut PgConnection) -> db::Result<Vec<InUse>> {
    Ok(sqlx::query_as!(
        InUse,
        r#"select secret_key as "id!", count(*) as "rows!", count(*) filter (where endless) as "endless!", max(until) as until
           from (select secret_key, expires_at is null as endless, expires_at as until from secrets
                 where expires_at is null or expires_at > authority_now()
                 union all
                 select secret_key, false, null from signing_keys where private is not null
                 union all
                 select secret_key, false, null from providers where secret_key is not null
                 union all
                 select secret_key, false, expires_at from key_claims
                 where secret_key is not null and expires_at > authority_now()
                 union all
                 select secret_key, false, signs_until from webhook_keys
                 where signs_until is null or signs_until > authority_now()
                 union all
                 select secret_key, false, checked_at + interval '90 days' from user_checks where secret_key is not null
                 union all
                 select t.secret_key, false, f.expires_at from refresh_tokens t join refresh_families f on f.id = t.family_id
                 where f.ended_by is null and f.expires_at > authority_now()) as named
           group by secret_key order by secret_key"#,
    )
    .fetch_all(connection)
    .await?)
}
