//! SQL of people who are vouched for.

use sqlx::PgConnection;

use crate::db;
use crate::types::id::UserId;

pub(super) async fn roles_of(conn: &mut PgConnection, user: UserId) -> db::Result<Vec<String>> {
    let roles = sqlx::query_scalar!("select role_id from user_roles where user_id = $1", user.as_str());
    Ok(roles.fetch_all(conn).await?)
}

/// A provider said all that rules look at: it is as good as an answer to a question. With less, a person who is new was
/// heard of now, and one who is known was not asked about.
pub(super) async fn note_vouched(tx: &mut PgConnection, user: UserId, whole: bool) -> db::Result<()> {
    sqlx::query!(
        "insert into user_checks (user_id) values ($1)
         on conflict (user_id) do update set checked_at = authority_now() where $2",
        user.as_str(),
        whole,
    )
    .execute(tx)
    .await?;
    Ok(())
}
