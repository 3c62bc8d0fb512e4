//! SQL of browsers in which somebody is signed in.

use sqlx::PgConnection;

use super::{LOGIN_SECONDS, Login};
use crate::db;
use crate::types::id::{ProviderId, UserId};
use crate::users::store::id;

pub(super) async fn insert_login(
    tx: &mut PgConnection,
    digest: &[u8],
    user: UserId,
    sid: Option<&str>,
) -> db::Result<()> {
    sqlx::query!(
        "insert into logins (digest, user_id, sid, expires_at) values ($1, $2, $3, authority_now() + make_interval(secs => $4))",
        digest,
        user.as_str(),
        sid,
        f64::from(LOGIN_SECONDS),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn remove_oldest_logins(tx: &mut PgConnection, user: UserId, kept: i64) -> db::Result<()> {
    sqlx::query!(
        "delete from logins where digest in (select digest from logins where user_id = $1 order by created_at desc, digest offset $2)",
        user.as_str(),
        kept,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A cut-off that came after the sign-in ends it too: else a browser would get new tokens at once.
pub(super) async fn find_login(conn: &mut PgConnection, digest: &[u8]) -> db::Result<Option<Login>> {
    let row = sqlx::query!(
        r#"select u.id, coalesce(u.username, u.email, u.subject) as "name!", p.title as provider,
                  floor(extract(epoch from authority_now() - l.proved_at))::bigint as "proved_seconds!"
           from logins l join users u on u.id = l.user_id join providers p on p.id = u.provider_id
           where l.digest = $1 and l.expires_at > authority_now() and not u.disabled and not p.disabled and p.deleted_at is null
             and not exists (select from revocations r
                             where (r.kind, r.target) in (('user', u.id), ('provider', p.id), ('all', 'all'))
                               and coalesce(r.issued_before + interval '5 seconds', r.at) >= l.proved_at)"#,
        digest,
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Login {
        user_id: id(&row.id)?,
        name: row.name,
        provider: row.provider,
        proved_seconds: row.proved_seconds.max(0),
    }))
}

pub(super) async fn remove_login(conn: &mut PgConnection, digest: &[u8]) -> db::Result<()> {
    sqlx::query!("delete from logins where digest = $1", digest).execute(conn).await?;
    Ok(())
}

/// Of a person when only it is named, of a session when only that is, of both when both are.
pub(super) async fn end_logins(
    tx: &mut PgConnection,
    provider: ProviderId,
    subject: Option<&str>,
    sid: Option<&str>,
) -> db::Result<Vec<UserId>> {
    let rows = sqlx::query!(
        "delete from logins l using users u
         where u.id = l.user_id and u.provider_id = $1 and ($2::text is not null or $3::text is not null)
           and ($2::text is null or u.subject = $2) and ($3::text is null or l.sid = $3)
         returning u.id",
        provider.as_str(),
        subject,
        sid,
    )
    .fetch_all(tx)
    .await?;
    rows.iter().map(|row| id(&row.id)).collect()
}

pub(super) async fn remove_logins_of(tx: &mut PgConnection, user: UserId) -> db::Result<()> {
    sqlx::query!("delete from logins where user_id = $1", user.as_str()).execute(tx).await?;
    Ok(())
}

pub(super) async fn expire_logins(conn: &mut PgConnection, most: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from logins where digest in
             (select digest from logins where expires_at <= authority_now() order by expires_at limit $1)",
        most,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Those that a cut-off ended. It is forgotten sooner than they would end.
pub(super) async fn remove_revoked(conn: &mut PgConnection, most: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from logins where digest in (
             select l.digest from logins l join users u on u.id = l.user_id
             where exists (select from revocations r
                           where (r.kind, r.target) in (('user', u.id), ('provider', u.provider_id), ('all', 'all'))
                             and coalesce(r.issued_before + interval '5 seconds', r.at) >= l.proved_at)
             limit $1)",
        most,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
