//! SQL of people and of what they allowed.

use sqlx::PgConnection;

use crate::db;
use crate::types::id::{ClientId, ConsentId, ServerId, UserId};
use crate::types::permission::{Permission, Permissions};

/// Whose consent, for what.
pub(super) struct Place {
    pub(super) user: UserId,
    pub(super) client: ClientId,
    pub(super) server: ServerId,
}

/// False when there is one already; waits for whoever is making it.
pub(super) async fn insert_consent(
    tx: &mut PgConnection,
    id: ConsentId,
    place: &Place,
    permissions: &[String],
) -> db::Result<bool> {
    let done = sqlx::query!(
        "insert into consents (id, user_id, client_id, server_id, permissions) values ($1, $2, $3, $4, $5)
         on conflict (user_id, client_id, server_id) do nothing",
        id.as_str(),
        place.user.as_str(),
        place.client.as_str(),
        place.server.as_str(),
        permissions,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn lock_consent(tx: &mut PgConnection, place: &Place) -> db::Result<(ConsentId, Permissions)> {
    let row = sqlx::query!(
        "select id, permissions from consents where user_id = $1 and client_id = $2 and server_id = $3 for update",
        place.user.as_str(),
        place.client.as_str(),
        place.server.as_str(),
    )
    .fetch_one(tx)
    .await?;
    Ok((row.id.parse().map_err(unreadable)?, Permissions::parse(&row.permissions).map_err(unreadable)?))
}

pub(super) async fn find_consent(
    conn: &mut PgConnection,
    place: &Place,
) -> db::Result<Option<(ConsentId, Permissions)>> {
    let row = sqlx::query!(
        "select id, permissions from consents where user_id = $1 and client_id = $2 and server_id = $3",
        place.user.as_str(),
        place.client.as_str(),
        place.server.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((row.id.parse().map_err(unreadable)?, Permissions::parse(&row.permissions).map_err(unreadable)?)))
}

pub(super) async fn set_consent(tx: &mut PgConnection, id: ConsentId, permissions: &[String]) -> db::Result<()> {
    sqlx::query!(
        "update consents set permissions = $2, updated_at = authority_now() where id = $1",
        id.as_str(),
        permissions
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn project_of_server(tx: &mut PgConnection, server: ServerId) -> db::Result<Option<String>> {
    let row = sqlx::query!("select project from servers where id = $1", server.as_str()).fetch_optional(tx).await?;
    Ok(row.map(|row| row.project))
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

/// A consent as nodes keep it.
pub struct ConsentRow {
    /// Its id.
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// For which client.
    pub client_id: String,
    /// On which server.
    pub server_id: String,
    /// What.
    pub permissions: Vec<String>,
}

/// All consents.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_all_consents(conn: &mut PgConnection) -> db::Result<Vec<ConsentRow>> {
    Ok(sqlx::query_as!(ConsentRow, "select id, user_id, client_id, server_id, permissions from consents")
        .fetch_all(conn)
        .await?)
}

/// The consents named.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some_consents(conn: &mut PgConnection, ids: &[String]) -> db::Result<Vec<ConsentRow>> {
    Ok(sqlx::query_as!(
        ConsentRow,
        "select id, user_id, client_id, server_id, permissions from consents where id = any($1)",
        ids
    )
    .fetch_all(conn)
    .await?)
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> db::Error {
    sqlx::Error::Decode(Box::new(error)).into()
}
