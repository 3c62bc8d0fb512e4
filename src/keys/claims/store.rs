//! SQL of links that hand secrets over.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;

pub(super) struct New<'a> {
    pub(super) id: &'a str,
    pub(super) key: &'a str,
    pub(super) version: i32,
    pub(super) token_digest: &'a [u8],
    pub(super) secret_key: &'a str,
    pub(super) sealed: &'a [u8],
    pub(super) by: &'a str,
    pub(super) life_seconds: i32,
}

pub(super) async fn insert(tx: &mut PgConnection, new: &New<'_>) -> db::Result<OffsetDateTime> {
    let row = sqlx::query!(
        "insert into key_claims (id, key_id, version, token_digest, secret_key, secret, created_by, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, authority_now() + $8::integer * interval '1 second') returning expires_at",
        new.id,
        new.key,
        new.version,
        new.token_digest,
        new.secret_key,
        new.sealed,
        new.by,
        new.life_seconds,
    )
    .fetch_one(tx)
    .await?;
    Ok(row.expires_at)
}

/// A link as operators read it; never what its address ends with.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = KeyClaim)]
pub struct Claim {
    /// Its id.
    pub id: String,
    /// The version of the key's secret that it hands over.
    pub version: i32,
    /// `waiting`, `opened`, `expired`, or `withdrawn` when the key was rotated again before anybody opened it.
    pub status: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When its time is over.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// When it was opened.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<OffsetDateTime>,
    /// From where, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_ip: Option<String>,
}

pub(super) async fn list(connection: &mut PgConnection, key: &str, limit: i64) -> db::Result<Vec<Claim>> {
    Ok(sqlx::query_as!(
        Claim,
        r#"select id, version, created_by, created_at, expires_at, opened_at, host(opened_ip) as opened_ip,
                  case when opened_at is not null then 'opened' when expires_at <= authority_now() then 'expired'
                       when secret is null then 'withdrawn' else 'waiting' end as "status!"
           from key_claims where key_id = $1 order by created_at desc, id desc limit $2"#,
        key,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// A link as whoever has its address sees it.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its id.
    pub id: String,
    /// The key.
    pub key_id: String,
    /// The key's name.
    pub key_name: Option<String>,
    /// `prod` or `dev`.
    pub environment: String,
    /// Whose key.
    pub agent_id: String,
    /// What its agent is called.
    pub agent_name: String,
    /// Its agent's project.
    pub project: String,
    /// The version of the secret.
    pub version: i32,
    /// When the link's time is over.
    pub expires_at: OffsetDateTime,
    /// When it was opened.
    pub opened_at: Option<OffsetDateTime>,
    /// From where.
    pub opened_ip: Option<String>,
    /// When the secret ends; `None`: it works no more.
    pub secret_expires_at: Option<OffsetDateTime>,
    /// It can be opened.
    pub waits: bool,
}

pub(super) async fn find(connection: &mut PgConnection, digest: &[u8]) -> db::Result<Option<Link>> {
    Ok(sqlx::query_as!(
        Link,
        r#"select c.id, c.key_id, k.name as key_name, k.environment, k.agent_id, a.name as agent_name, a.project, c.version, c.expires_at,
                  c.opened_at, host(c.opened_ip) as opened_ip, s.expires_at as "secret_expires_at?",
                  c.secret is not null and c.expires_at > authority_now() and s.version is not null
                  and not exists (select from revocations r where r.kind = 'key' and r.target = c.key_id) as "waits!"
           from key_claims c join keys k on k.id = c.key_id join agents a on a.id = k.agent_id
           left join secrets s on s.owner = c.key_id and s.version = c.version and s.expires_at > authority_now()
           where c.token_digest = $1"#,
        digest,
    )
    .fetch_optional(connection)
    .await?)
}

/// A secret at rest.
pub(super) struct Sealed {
    pub(super) secret_key: String,
    pub(super) secret: Vec<u8>,
}

/// A link that can be opened, locked: of two who open it at the same time the second finds it opened.
pub(super) async fn take(tx: &mut PgConnection, digest: &[u8]) -> db::Result<Option<(Link, Sealed)>> {
    let row = sqlx::query!("select secret_key, secret from key_claims where token_digest = $1 for update", digest)
        .fetch_optional(&mut *tx)
        .await?;
    let Some((secret_key, secret)) = row.and_then(|row| row.secret_key.zip(row.secret)) else { return Ok(None) };
    let link = find(tx, digest).await?.filter(|link| link.waits);
    Ok(link.map(|link| (link, Sealed { secret_key, secret })))
}

pub(super) async fn opened(tx: &mut PgConnection, id: &str, address: Option<String>) -> db::Result<()> {
    sqlx::query!(
        "update key_claims set opened_at = authority_now(), opened_ip = $2::text::inet, secret = null, secret_key = null where id = $1",
        id,
        address,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn withdraw(tx: &mut PgConnection, key: &str) -> db::Result<()> {
    sqlx::query!(
        "update key_claims set secret = null, secret_key = null where key_id = $1 and secret is not null",
        key
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn erase(tx: &mut PgConnection, limit: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "update key_claims set secret = null, secret_key = null where id in (
             select id from key_claims where secret is not null and expires_at <= authority_now() order by expires_at limit $1)",
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn forget(tx: &mut PgConnection, days: i32, limit: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from key_claims where id in (
             select id from key_claims where expires_at < authority_now() - make_interval(days => $1) order by expires_at limit $2)",
        days,
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
