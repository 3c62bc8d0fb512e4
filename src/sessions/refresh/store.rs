//! SQL of refresh tokens and their families.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::sessions::refresh::{FAMILY_DAYS, IDLE_DAYS, NewFamily};

const EXPIRE_BATCH: i64 = 10_000;

pub(super) async fn insert_family(tx: &mut PgConnection, new: &NewFamily) -> db::Result<()> {
    let permissions: Vec<String> = new.permissions.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "insert into refresh_families (id, flow_id, consent_id, user_id, client_id, server_id, permissions, history, number, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, authority_now() + make_interval(days => $10))",
        new.id.as_str(),
        new.flow,
        new.consent.as_str(),
        new.user.as_str(),
        new.client.as_str(),
        new.server.as_str(),
        &permissions,
        new.position.history,
        new.position.number,
        FAMILY_DAYS,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) struct New<'a> {
    pub(super) id: &'a str,
    pub(super) family: &'a str,
    pub(super) secret_key: &'a str,
    pub(super) digest: &'a [u8],
    pub(super) jkt: Option<&'a str>,
}

pub(super) async fn insert(tx: &mut PgConnection, new: &New<'_>) -> db::Result<()> {
    sqlx::query!(
        "insert into refresh_tokens (id, family_id, secret_key, digest, jkt) values ($1, $2, $3, $4, $5)",
        new.id,
        new.family,
        new.secret_key,
        new.digest,
        new.jkt,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) struct Row {
    pub(super) id: String,
    pub(super) family_id: String,
    pub(super) secret_key: String,
    pub(super) digest: Vec<u8>,
    pub(super) successor: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) session: Option<Value>,
    pub(super) session_used: bool,
    pub(super) jkt: Option<String>,
    pub(super) flow_id: Option<String>,
    pub(super) consent_id: String,
    pub(super) user_id: String,
    pub(super) client_id: String,
    pub(super) permissions: Vec<String>,
    pub(super) history: i64,
    pub(super) number: i64,
    pub(super) family_created_at: OffsetDateTime,
    /// Neither over nor ended.
    pub(super) live: bool,
}

/// The family is locked first, then the token is read: as it is once whoever held the lock is through.
pub(super) async fn lock(tx: &mut PgConnection, id: &str) -> db::Result<Option<Row>> {
    sqlx::query!(
        "select from refresh_families where id = (select family_id from refresh_tokens where id = $1) for update",
        id
    )
    .fetch_optional(&mut *tx)
    .await?;
    Ok(sqlx::query_as!(
        Row,
        r#"select t.id, t.family_id, t.secret_key, t.digest, t.successor, t.session_id, t.session, t.session_used, t.jkt,
                  f.flow_id, f.consent_id, f.user_id, f.client_id, f.permissions, f.history, f.number, f.created_at as family_created_at,
                  f.ended_by is null and f.expires_at > authority_now()
                      and (t.used_at is not null or t.created_at > authority_now() - make_interval(days => $2)) as "live!"
           from refresh_tokens t join refresh_families f on f.id = t.family_id where t.id = $1"#,
        id,
        IDLE_DAYS,
    )
    .fetch_optional(tx)
    .await?)
}

pub(super) struct After {
    pub(super) used: bool,
    pub(super) written: bool,
}

/// What came of a token: whether its successor was used, and whether the row of its session token is there.
pub(super) async fn after(tx: &mut PgConnection, successor: &str, session: Option<&str>) -> db::Result<Option<After>> {
    Ok(sqlx::query_as!(
        After,
        r#"select used_at is not null as "used!", exists (select from sessions where sessions.id = $2) as "written!"
           from refresh_tokens where id = $1"#,
        successor,
        session,
    )
    .fetch_optional(tx)
    .await?)
}

pub(super) async fn used(
    tx: &mut PgConnection,
    id: &str,
    successor: &str,
    session_id: &str,
    session: &Value,
) -> db::Result<()> {
    sqlx::query!(
        "update refresh_tokens set used_at = authority_now(), successor = $2, session_id = $3, session = $4 where id = $1",
        id,
        successor,
        session_id,
        session,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn end(tx: &mut PgConnection, family: &str, why: &str) -> db::Result<bool> {
    let done =
        sqlx::query!("update refresh_families set ended_by = $2 where id = $1 and ended_by is null", family, why)
            .execute(tx)
            .await?;
    Ok(done.rows_affected() == 1)
}

/// Session tokens that somebody has shown: a refresh token they came with is not answered again.
///
/// # Errors
///
/// The database refuses.
pub async fn note_used(tx: &mut PgConnection, sessions: &[String]) -> db::Result<()> {
    sqlx::query!(
        "update refresh_tokens set session_used = true where session_id = any($1) and not session_used",
        sessions
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes families whose time is over, a bounded number at a time; those that ended before it stay until then, so that a
/// token shown late is known.
///
/// # Errors
///
/// The database refuses.
pub async fn expire(connection: &mut PgConnection) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from refresh_families where id in (select id from refresh_families where expires_at < authority_now() limit $1)",
        EXPIRE_BATCH,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
