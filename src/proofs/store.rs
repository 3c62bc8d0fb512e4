//! SQL of proofs.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;

/// Uses up a proof; false when that was done before.
pub(super) async fn insert(tx: &mut PgConnection, digest: &[u8], expires_at: OffsetDateTime) -> db::Result<bool> {
    let done = sqlx::query!(
        "insert into proofs (digest, expires_at) values ($1, $2) on conflict (digest) do nothing",
        digest,
        expires_at,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets proofs whose time is over, at most `limit` of them. They are known for longer than they are good, since the clocks of
/// nodes may differ by a moment.
///
/// # Errors
///
/// The database refuses.
pub async fn expire(tx: &mut PgConnection, limit: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from proofs where digest in
           (select digest from proofs where expires_at < authority_now() - interval '10 minutes' order by expires_at limit $1)",
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
