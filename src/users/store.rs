//! SQL of people.

use std::str::FromStr;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Filter, User};
use crate::db;
use crate::types::id::{ProviderId, ServerId, UserId};
use crate::types::page::{self, After, Page};
use crate::types::permission::{Permission, Permissions};

/// A person whose row is locked.
pub(super) struct Locked {
    pub(super) id: UserId,
    pub(super) provider_id: String,
    pub(super) subject: String,
    pub(super) username: Option<String>,
    pub(super) disabled: bool,
}

pub(super) async fn insert_user(
    tx: &mut PgConnection,
    id: UserId,
    provider: ProviderId,
    subject: &str,
) -> db::Result<()> {
    sqlx::query!(
        "insert into users (id, provider_id, subject) values ($1, $2, $3) on conflict (provider_id, subject) do nothing",
        id.as_str(),
        provider.as_str(),
        subject
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn lock_by_subject(tx: &mut PgConnection, provider: ProviderId, subject: &str) -> db::Result<Locked> {
    let row = sqlx::query!(
        "select id, provider_id, subject, username, disabled from users where provider_id = $1 and subject = $2 for update",
        provider.as_str(),
        subject,
    )
    .fetch_one(tx)
    .await?;
    let (id, provider_id) = (self::id(&row.id)?, row.provider_id);
    Ok(Locked { id, provider_id, subject: row.subject, username: row.username, disabled: row.disabled })
}

pub(super) async fn lock_user(tx: &mut PgConnection, user: UserId) -> db::Result<Option<Locked>> {
    let row = sqlx::query!(
        "select provider_id, subject, username, disabled from users where id = $1 for update",
        user.as_str()
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| Locked {
        id: user,
        provider_id: row.provider_id,
        subject: row.subject,
        username: row.username,
        disabled: row.disabled,
    }))
}

pub(super) async fn find_by_subject(
    conn: &mut PgConnection,
    provider: ProviderId,
    subject: &str,
) -> db::Result<Option<UserId>> {
    let row = sqlx::query!("select id from users where provider_id = $1 and subject = $2", provider.as_str(), subject)
        .fetch_optional(conn)
        .await?;
    row.map(|row| id(&row.id)).transpose()
}

pub(super) async fn set_username(tx: &mut PgConnection, user: UserId, username: Option<&str>) -> db::Result<()> {
    sqlx::query!("update users set username = $2 where id = $1", user.as_str(), username).execute(tx).await?;
    Ok(())
}

pub(super) async fn set_email(tx: &mut PgConnection, user: UserId, email: Option<&str>) -> db::Result<()> {
    sqlx::query!("update users set email = $2 where id = $1 and email is distinct from $2", user.as_str(), email)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn set_signed_in(tx: &mut PgConnection, user: UserId) -> db::Result<()> {
    sqlx::query!("update users set signed_in_at = authority_now() where id = $1", user.as_str()).execute(tx).await?;
    Ok(())
}

/// The roles become these, as far as they exist. True when one was taken away.
pub(super) async fn set_roles(tx: &mut PgConnection, user: UserId, roles: &[String]) -> db::Result<bool> {
    let gone = sqlx::query!("delete from user_roles where user_id = $1 and role_id <> all($2)", user.as_str(), roles)
        .execute(&mut *tx)
        .await?;
    sqlx::query!(
        "insert into user_roles (user_id, role_id) select $1, id from roles where id = any($2) on conflict do nothing",
        user.as_str(),
        roles
    )
    .execute(tx)
    .await?;
    Ok(gone.rows_affected() > 0)
}

/// Without tokens what was there is forgotten: it is of a sign-in that is no longer the last.
pub(super) async fn set_check(tx: &mut PgConnection, user: UserId, sealed: Option<(&str, &[u8])>) -> db::Result<()> {
    let (secret_key, tokens) = sealed.unzip();
    sqlx::query!(
        "insert into user_checks (user_id, secret_key, tokens) values ($1, $2, $3)
         on conflict (user_id) do update set secret_key = $2, tokens = $3, checked_at = authority_now(), asking_until = null",
        user.as_str(),
        secret_key,
        tokens,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) struct Checked {
    pub(super) provider_id: String,
    pub(super) secret_key: Option<String>,
    pub(super) tokens: Option<Vec<u8>>,
}

/// With what a person's provider is to be asked, for the one who asks now; nobody else does for as long. `None`: it vouched a
/// moment ago, or somebody asks already.
pub(super) async fn claim_check(
    conn: &mut PgConnection,
    user: UserId,
    (every, asking): (i32, i32),
) -> db::Result<Option<Checked>> {
    Ok(sqlx::query_as!(
        Checked,
        "update user_checks c set asking_until = authority_now() + make_interval(secs => $3)
           from users u
          where c.user_id = $1 and u.id = c.user_id and c.checked_at <= authority_now() - make_interval(secs => $2)
            and (c.asking_until is null or c.asking_until <= authority_now())
         returning u.provider_id, c.secret_key, c.tokens",
        user.as_str(),
        f64::from(every),
        f64::from(asking),
    )
    .fetch_optional(conn)
    .await?)
}

/// The provider could not be asked: another may try again.
pub(super) async fn release_check(conn: &mut PgConnection, user: UserId) -> db::Result<()> {
    sqlx::query!("update user_checks set asking_until = null where user_id = $1", user.as_str()).execute(conn).await?;
    Ok(())
}

/// Whether a person's provider last vouched for it longer than so many seconds ago.
pub(super) async fn is_overdue(conn: &mut PgConnection, user: UserId, seconds: i32) -> db::Result<bool> {
    let row = sqlx::query!(
        r#"select exists (select from user_checks where user_id = $1
                          and checked_at <= authority_now() - make_interval(secs => $2)) as "overdue!""#,
        user.as_str(),
        f64::from(seconds),
    )
    .fetch_one(conn)
    .await?;
    Ok(row.overdue)
}

pub(super) async fn set_disabled(tx: &mut PgConnection, user: UserId, disabled: bool) -> db::Result<()> {
    sqlx::query!("update users set disabled = $2 where id = $1", user.as_str(), disabled).execute(tx).await?;
    Ok(())
}

struct Stored {
    id: String,
    provider_id: String,
    subject: String,
    username: Option<String>,
    email: Option<String>,
    roles: Vec<String>,
    disabled: bool,
    created_at: OffsetDateTime,
    signed_in_at: OffsetDateTime,
}

impl From<Stored> for User {
    fn from(row: Stored) -> Self {
        let Stored { id, provider_id, subject, username, email, roles, disabled, created_at, signed_in_at } = row;
        Self { id, provider_id, subject, username, email, roles, disabled, created_at, signed_in_at }
    }
}

pub(super) async fn find(conn: &mut PgConnection, user: UserId) -> db::Result<Option<User>> {
    let row = sqlx::query_as!(
        Stored,
        r#"select id, provider_id, subject, username, email, disabled, created_at, signed_in_at,
                  array(select role_id from user_roles r where r.user_id = users.id order by role_id) as "roles!"
           from users where id = $1"#,
        user.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(User::from))
}

/// A page, and where the search for the next one begins. What narrows to few people is asked for them first, whatever their
/// age; else the newest are looked at, as many as a page may.
pub(super) async fn list(
    conn: &mut PgConnection,
    filter: &Filter,
    page: &Page,
) -> db::Result<(Vec<User>, Option<After>)> {
    let mut few = match &filter.q {
        Some(q) => page::few(named(conn, q).await?),
        None => None,
    };
    if let (None, Some(provider)) = (&few, &filter.provider_id) {
        few = page::few(of_provider(conn, provider).await?);
    }
    let found = select(conn, few.as_deref(), filter, page).await?;
    let edge = if few.is_none() && page.is_short(found.len()) { edge(conn, page).await? } else { None };
    Ok((found, edge))
}

async fn named(conn: &mut PgConnection, q: &str) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from users where lower(username) collate "C" ^@ lower($1) order by lower(username) collate "C" limit $2"#,
        q,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(conn)
    .await?)
}

/// Written as a range so that its order is the index's also where it is one value: most people have one provider.
async fn of_provider(conn: &mut PgConnection, provider: &str) -> db::Result<Vec<Option<String>>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id?" from users where provider_id between $1 and $1 order by provider_id limit $2"#,
        provider,
        page::LOOKED_AT_MAX,
    )
    .fetch_all(conn)
    .await?)
}

/// The last person that a page looked at; `None` when it looked at all.
async fn edge(conn: &mut PgConnection, page: &Page) -> db::Result<Option<After>> {
    Ok(sqlx::query_as!(
        After,
        "select created_at as at, id from users where $1::timestamptz is null or (created_at, id) < ($1, $2::text)
         order by created_at desc, id desc offset $3 limit 1",
        page.at(),
        page.id(),
        page::LOOKED_AT_MAX - 1,
    )
    .fetch_optional(conn)
    .await?)
}

/// Those of `ids`, or a page of the newest.
async fn select(
    conn: &mut PgConnection,
    ids: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<Vec<User>> {
    let rows = sqlx::query_as!(
        Stored,
        r#"select id, provider_id, subject, username, email, disabled, created_at, signed_in_at,
                  array(select role_id from user_roles r where r.user_id = looked_at.id order by role_id) as "roles!"
           from (select * from users
                 where ($1::text[] is null or id = any($1)) and ($2::timestamptz is null or (created_at, id) < ($2, $3::text))
                 order by created_at desc, id desc limit $4) as looked_at
           where ($5::text is null or provider_id = $5) and ($6::text is null or lower(username) collate "C" ^@ lower($6))
             and ($7::boolean is null or disabled = $7)
           order by created_at desc, id desc limit $8"#,
        ids,
        page.at(),
        page.id(),
        page::LOOKED_AT_MAX,
        filter.provider_id,
        filter.q,
        filter.disabled,
        page.fetch(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(User::from).collect())
}

/// What a person's roles give on a server, now.
///
/// # Errors
///
/// The database cannot answer.
pub async fn permissions_of(conn: &mut PgConnection, user: UserId, server: ServerId) -> db::Result<Permissions> {
    let rows = sqlx::query!(
        "select g.permissions from user_roles r join grants g on g.holder = r.role_id where r.user_id = $1 and g.server_id = $2",
        user.as_str(),
        server.as_str(),
    )
    .fetch_all(conn)
    .await?;
    let texts = rows.iter().flat_map(|row| &row.permissions);
    texts.map(|text| Permission::parse(text).map_err(unreadable)).collect()
}

/// A person as nodes keep it.
pub struct Row {
    /// Its id.
    pub id: String,
    /// With which provider it signs in.
    pub provider_id: String,
    /// What it is called there.
    pub username: Option<String>,
    /// Switched off.
    pub disabled: bool,
}

/// All people.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_all(conn: &mut PgConnection) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(Row, "select id, provider_id, username, disabled from users").fetch_all(conn).await?)
}

/// The people named.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some(conn: &mut PgConnection, ids: &[String]) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(Row, "select id, provider_id, username, disabled from users where id = any($1)", ids)
        .fetch_all(conn)
        .await?)
}

/// Who has which role.
pub struct UserRole {
    /// The person.
    pub user_id: String,
    /// The role.
    pub role_id: String,
}

/// All roles of all people.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_all_roles(conn: &mut PgConnection) -> db::Result<Vec<UserRole>> {
    Ok(sqlx::query_as!(UserRole, "select user_id, role_id from user_roles").fetch_all(conn).await?)
}

/// The roles of the people named.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some_roles(conn: &mut PgConnection, users: &[String]) -> db::Result<Vec<UserRole>> {
    Ok(sqlx::query_as!(UserRole, "select user_id, role_id from user_roles where user_id = any($1)", users)
        .fetch_all(conn)
        .await?)
}

pub(super) fn id<T: FromStr>(text: &str) -> db::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(unreadable)
}

pub(super) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> db::Error {
    sqlx::Error::Decode(Box::new(error)).into()
}
