//! SQL of signing keys.

use std::time::Duration;

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;

pub(super) struct Usable {
    pub(super) kid: String,
    pub(super) purpose: String,
    pub(super) alg: String,
    pub(super) public_jwk: Value,
    pub(super) secret_key: String,
    pub(super) private: Option<Vec<u8>>,
    pub(super) signs_from: OffsetDateTime,
    pub(super) signs_until: Option<OffsetDateTime>,
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Keys that are neither revoked nor so long retired that nothing they signed can still be good.
pub(super) async fn usable(connection: &mut PgConnection, kept_after: Duration) -> db::Result<Vec<Usable>> {
    Ok(sqlx::query_as!(
        Usable,
        "select kid, purpose, alg, public_jwk, secret_key, private, signs_from, signs_until from signing_keys
         where revoked_at is null and (signs_until is null or signs_until > authority_now() - $1::float8 * interval '1 second')
         order by created_at",
        seconds(kept_after),
    )
    .fetch_all(connection)
    .await?)
}

/// Only one transaction at a time makes keys of a kind.
pub(super) async fn lock_purpose(tx: &mut PgConnection, purpose: &str, alg: &str) -> db::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('signing_keys ' || $1 || ' ' || $2, 0))", purpose, alg)
        .execute(tx)
        .await?;
    Ok(())
}

/// How long the youngest key has been signing; less than zero while it only is published. `None`: there is none.
pub(super) async fn youngest_age(tx: &mut PgConnection, purpose: &str, alg: &str) -> db::Result<Option<Duration>> {
    let row = sqlx::query!(
        r#"select extract(epoch from authority_now() - max(signs_from))::float8 as age from signing_keys
           where purpose = $1 and alg = $2 and revoked_at is null and signs_until is null"#,
        purpose,
        alg,
    )
    .fetch_one(tx)
    .await?;
    Ok(row.age.map(|age| Duration::try_from_secs_f64(age).unwrap_or(Duration::ZERO)))
}

pub(super) struct New<'a> {
    pub(super) kid: &'a str,
    pub(super) purpose: &'a str,
    pub(super) alg: &'a str,
    pub(super) public_jwk: &'a Value,
    pub(super) secret_key: &'a str,
    pub(super) private: &'a [u8],
    pub(super) wait: Duration,
}

pub(super) async fn insert(tx: &mut PgConnection, new: &New<'_>) -> db::Result<()> {
    sqlx::query!(
        "insert into signing_keys (kid, purpose, alg, public_jwk, secret_key, private, signs_from)
         values ($1, $2, $3, $4, $5, $6, authority_now() + $7::float8 * interval '1 second')",
        new.kid,
        new.purpose,
        new.alg,
        new.public_jwk,
        new.secret_key,
        new.private,
        seconds(new.wait),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends a session-signing key for good; its private half is wiped. Returns its algorithm.
pub(super) async fn revoke(tx: &mut PgConnection, kid: &str) -> db::Result<Option<String>> {
    let row = sqlx::query!(
        "update signing_keys set revoked_at = authority_now(), signs_until = coalesce(signs_until, authority_now()), private = null
         where kid = $1 and purpose = 'session' and revoked_at is null returning alg",
        kid,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.alg))
}

/// Keys whose successor has begun sign no more; their private halves are wiped.
pub(super) async fn retire(tx: &mut PgConnection) -> db::Result<()> {
    sqlx::query!(
        "update signing_keys k set signs_until = authority_now(), private = null
         where signs_until is null and exists (
             select from signing_keys y where y.purpose = k.purpose and y.alg = k.alg and y.revoked_at is null
                and y.signs_from > k.signs_from and y.signs_from <= authority_now())",
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) struct Sealed {
    pub(super) kid: String,
    pub(super) secret_key: String,
    pub(super) private: Vec<u8>,
}

pub(super) async fn sealed_under_others(tx: &mut PgConnection, secret_key: &str) -> db::Result<Vec<Sealed>> {
    Ok(sqlx::query_as!(
        Sealed,
        r#"select kid, secret_key, private as "private!" from signing_keys where private is not null and secret_key <> $1 for update"#,
        secret_key,
    )
    .fetch_all(tx)
    .await?)
}

pub(super) async fn reseal(tx: &mut PgConnection, kid: &str, secret_key: &str, private: &[u8]) -> db::Result<()> {
    sqlx::query!("update signing_keys set secret_key = $2, private = $3 where kid = $1", kid, secret_key, private)
        .execute(tx)
        .await?;
    Ok(())
}

/// The public half of a key, whatever became of it.
pub struct PublicKey {
    /// Its id.
    pub kid: String,
    /// As published.
    pub jwk: Value,
}

/// The public halves of all keys of a purpose, also of those long gone.
///
/// # Errors
///
/// The database cannot answer.
pub async fn public_of(connection: &mut PgConnection, purpose: super::Purpose) -> db::Result<Vec<PublicKey>> {
    let rows = sqlx::query!("select kid, public_jwk from signing_keys where purpose = $1", purpose.as_str())
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| PublicKey { kid: row.kid, jwk: row.public_jwk }).collect())
}

/// Whether a key was ended before its time.
///
/// # Errors
///
/// The database cannot answer.
pub async fn is_revoked(connection: &mut PgConnection, kid: &str) -> db::Result<bool> {
    let row = sqlx::query!(
        r#"select exists (select from signing_keys where kid = $1 and revoked_at is not null) as "revoked!""#,
        kid
    )
    .fetch_one(connection)
    .await?;
    Ok(row.revoked)
}
