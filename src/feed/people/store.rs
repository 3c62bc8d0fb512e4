//! SQL of what nodes keep of clients and providers. The rooms own the tables; only the feed reads them in this shape.

use sqlx::PgConnection;

use crate::db;

pub(super) struct ClientRow {
    pub(super) id: String,
    pub(super) client_id: String,
    pub(super) project: String,
    pub(super) disabled: bool,
}

pub(super) struct ProviderRow {
    pub(super) id: String,
    pub(super) disabled: bool,
}

/// All of them.
pub(super) async fn all_clients(connection: &mut PgConnection) -> db::Result<Vec<ClientRow>> {
    Ok(sqlx::query_as!(ClientRow, "select id, client_id, project, disabled from clients where deleted_at is null")
        .fetch_all(connection)
        .await?)
}

/// Those named.
pub(super) async fn some_clients(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<ClientRow>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as!(
        ClientRow,
        "select id, client_id, project, disabled from clients where deleted_at is null and id = any($1)",
        ids
    )
    .fetch_all(connection)
    .await?)
}

/// All of them.
pub(super) async fn all_providers(connection: &mut PgConnection) -> db::Result<Vec<ProviderRow>> {
    Ok(sqlx::query_as!(ProviderRow, "select id, disabled from providers where deleted_at is null")
        .fetch_all(connection)
        .await?)
}

/// Those named.
pub(super) async fn some_providers(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<ProviderRow>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as!(
        ProviderRow,
        "select id, disabled from providers where deleted_at is null and id = any($1)",
        ids
    )
    .fetch_all(connection)
    .await?)
}
