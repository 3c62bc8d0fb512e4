//! SQL of what nodes keep of clients and providers. The rooms own the tables; only the feed reads them in this shape.

use sqlx::PgConnection;

use crate::db;

pub(super) struct Client {
    pub(super) id: String,
    pub(super) client_id: String,
    pub(super) project: String,
    pub(super) disabled: bool,
}

pub(super) struct Provider {
    pub(super) id: String,
    pub(super) disabled: bool,
}

/// All of them.
pub(super) async fn all_clients(connection: &mut PgConnection) -> db::Result<Vec<Client>> {
    Ok(sqlx::query_as!(Client, "select id, client_id, project, disabled from clients where deleted_at is null")
        .fetch_all(connection)
        .await?)
}

/// Those named.
pub(super) async fn some_clients(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<Client>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as!(
        Client,
        "select id, client_id, project, disabled from clients where deleted_at is null and id = any($1)",
        ids
    )
    .fetch_all(connection)
    .await?)
}

/// All of them.
pub(super) async fn all_providers(connection: &mut PgConnection) -> db::Result<Vec<Provider>> {
    Ok(sqlx::query_as!(Provider, "select id, disabled from providers where deleted_at is null")
        .fetch_all(connection)
        .await?)
}

/// Those named.
pub(super) async fn some_providers(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<Provider>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as!(Provider, "select id, disabled from providers where deleted_at is null and id = any($1)", ids)
        .fetch_all(connection)
        .await?)
}
