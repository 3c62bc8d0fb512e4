//! SQL of idempotency.

use sqlx::PgConnection;

use crate::db;
use crate::idempotency::Request;

const KEPT_HOURS: i32 = 24;

/// False when the key is in use. One that is older than it is kept counts as not there.
pub(super) async fn insert(connection: &mut PgConnection, request: &Request) -> db::Result<bool> {
    let done = sqlx::query!(
        "insert into idempotency_keys as k (operator, route, key, fingerprint) values ($1, $2, $3, $4)
         on conflict (operator, route, key) do update set fingerprint = excluded.fingerprint, status = null, body = null, created_at = authority_now()
            where k.created_at < authority_now() - make_interval(hours => $5)",
        request.operator,
        request.route,
        request.key,
        &request.fingerprint,
        KEPT_HOURS,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) struct Known {
    pub(super) fingerprint: Vec<u8>,
    pub(super) status: Option<i32>,
    pub(super) body: Option<String>,
}

pub(super) async fn find(connection: &mut PgConnection, request: &Request) -> db::Result<Option<Known>> {
    Ok(sqlx::query_as!(
        Known,
        "select fingerprint, status, body from idempotency_keys where operator = $1 and route = $2 and key = $3",
        request.operator,
        request.route,
        request.key,
    )
    .fetch_optional(connection)
    .await?)
}

/// Keeps the outcome.
///
/// # Errors
///
/// The database refuses; the request then counts as running until it is forgotten.
pub async fn finish(connection: &mut PgConnection, request: &Request, status: u16, body: &str) -> db::Result<()> {
    sqlx::query!(
        "update idempotency_keys set status = $4, body = $5 where operator = $1 and route = $2 and key = $3",
        request.operator,
        request.route,
        request.key,
        i32::from(status),
        body,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets a request that changed nothing, so that it can be sent again.
///
/// # Errors
///
/// The database refuses.
pub async fn forget(connection: &mut PgConnection, request: &Request) -> db::Result<()> {
    sqlx::query!(
        "delete from idempotency_keys where operator = $1 and route = $2 and key = $3 and status is null",
        request.operator,
        request.route,
        request.key,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes what is older than it is kept.
///
/// # Errors
///
/// The database refuses.
pub async fn expire(connection: &mut PgConnection) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from idempotency_keys where created_at < authority_now() - make_interval(hours => $1)",
        KEPT_HOURS
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
