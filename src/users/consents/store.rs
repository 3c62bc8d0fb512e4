//! SQL of what people allowed.

use sqlx::PgConnection;

use crate::db;
use crate::types::id::{ClientId, ConsentId, ServerId, UserId};
use crate::types::permission::Permissions;
use crate::users::store::{id, unreadable};

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

/// With what counts of it: nothing, when it was revoked since.
pub(super) async fn lock_consent(tx: &mut PgConnection, place: &Place) -> db::Result<(ConsentId, Permissions)> {
    let row = sqlx::query!(
        r#"select id, permissions,
                  exists (select from revocations r where r.kind = 'grant' and r.target = consents.id
                          and coalesce(r.issued_before + interval '5 seconds', r.at) >= consents.updated_at) as "revoked!"
           from consents where user_id = $1 and client_id = $2 and server_id = $3 for update"#,
        place.user.as_str(),
        place.client.as_str(),
        place.server.as_str(),
    )
    .fetch_one(tx)
    .await?;
    let permissions = if row.revoked { Vec::new() } else { row.permissions };
    Ok((id(&row.id)?, Permissions::parse(&permissions).map_err(unreadable)?))
}

pub(super) async fn find_consent(
    conn: &mut PgConnection,
    place: &Place,
) -> db::Result<Option<(ConsentId, Permissions)>> {
    let row = sqlx::query!(
        "select id, permissions from consents
         where user_id = $1 and client_id = $2 and server_id = $3
           and not exists (select from revocations r where r.kind = 'grant' and r.target = consents.id
                           and coalesce(r.issued_before + interval '5 seconds', r.at) >= consents.updated_at)",
        place.user.as_str(),
        place.client.as_str(),
        place.server.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((id(&row.id)?, Permissions::parse(&row.permissions).map_err(unreadable)?)))
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

/// Those that were revoked since they were last given. The entry that says so is forgotten.
pub(super) async fn remove_revoked(conn: &mut PgConnection, most: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from consents where id in (
             select c.id from revocations r join consents c on c.id = r.target
             where r.kind = 'grant' and coalesce(r.issued_before + interval '5 seconds', r.at) >= c.updated_at limit $1)",
        most,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn project_of_server(tx: &mut PgConnection, server: ServerId) -> db::Result<Option<String>> {
    let row = sqlx::query!("select project from servers where id = $1", server.as_str()).fetch_optional(tx).await?;
    Ok(row.map(|row| row.project))
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
