//! Browsers in which somebody is signed in: a cookie, of which only the SHA-256 is kept.

mod store;

use sqlx::PgConnection;

use crate::audit::{self, Entry};
use crate::db;
use crate::types::caller::Caller;
use crate::types::id::{ProviderId, UserId};
use crate::types::opaque;
use crate::types::redacted::Secret;
use crate::users::store::find_by_subject;

/// How long a browser stays signed in.
pub const LOGIN_SECONDS: i32 = 12 * 3_600;
/// Browsers in which one person is signed in at once, at most; the oldest ends for a new one.
pub const LOGINS_MAX: i64 = 20;
/// Rows that go in one transaction.
const EXPIRE_BATCH: i64 = 1_000;

/// Who is signed in in a browser.
#[derive(Clone, Debug)]
pub struct Login {
    /// The person.
    pub user_id: UserId,
    /// What the person is called.
    pub name: String,
    /// The provider that vouched for it, in people's words.
    pub provider: String,
    /// Seconds since it last proved who it is.
    pub proved_seconds: i64,
}

/// Signs a browser in. Returns the cookie's value: nobody else ever sees it.
///
/// # Errors
///
/// The database refuses.
pub async fn log_in(tx: &mut PgConnection, user: UserId, sid: Option<&str>) -> db::Result<Secret<String>> {
    let cookie = opaque::random();
    store::remove_oldest_logins(tx, user, LOGINS_MAX - 1).await?;
    store::insert_login(tx, &opaque::sha256(cookie.reveal()), user, sid).await?;
    Ok(cookie)
}

/// Who is signed in in the browser with this cookie. Nobody, when the person or its provider is switched off, or was revoked
/// since it signed in.
///
/// # Errors
///
/// The database cannot answer.
pub async fn logged_in(conn: &mut PgConnection, cookie: &str) -> db::Result<Option<Login>> {
    if !opaque::is_one(cookie) {
        return Ok(None);
    }
    store::find_login(conn, &opaque::sha256(cookie)).await
}

/// Ends a browser's sign-in.
///
/// # Errors
///
/// The database refuses.
pub async fn log_out(conn: &mut PgConnection, cookie: &str) -> db::Result<()> {
    store::remove_login(conn, &opaque::sha256(cookie)).await
}

/// Ends a browser's sign-in because its person wants that.
///
/// # Errors
///
/// The database refuses.
pub async fn sign_out(tx: &mut PgConnection, by: &Caller, cookie: &str) -> db::Result<()> {
    let Some(login) = logged_in(tx, cookie).await? else { return log_out(tx, cookie).await };
    log_out(tx, cookie).await?;
    let by = Caller { actor: login.user_id.to_string(), ..by.clone() };
    audit::append(tx, &Entry::new(&by, "user.signed_out").on(login.user_id.as_str())).await
}

/// Ends all sign-ins of a person.
pub(super) async fn end_all(tx: &mut PgConnection, user: UserId) -> db::Result<()> {
    store::remove_logins_of(tx, user).await
}

/// Ends the sign-ins that a provider says are over: of a person, of one of its sessions, or both named. Returns whose.
///
/// # Errors
///
/// The database refuses.
pub async fn end_logins(
    tx: &mut PgConnection,
    provider: ProviderId,
    subject: Option<&str>,
    sid: Option<&str>,
) -> db::Result<Vec<UserId>> {
    let mut users = store::end_logins(tx, provider, subject, sid).await?;
    // A person whose browsers are all signed out by now has tokens that live on.
    if let Some(subject) = subject {
        users.extend(find_by_subject(tx, provider, subject).await?);
    }
    users.sort();
    users.dedup();
    Ok(users)
}

/// Removes sign-ins whose time is over or that a revocation ended, a bounded number at a time. Returns how many went.
///
/// # Errors
///
/// The database refuses.
pub async fn expire_logins(conn: &mut PgConnection) -> db::Result<u64> {
    let revoked = store::remove_revoked(conn, EXPIRE_BATCH).await?;
    Ok(revoked + store::expire_logins(conn, EXPIRE_BATCH).await?)
}
