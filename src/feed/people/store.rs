//! SQL of what nodes keep of clients, providers and people. The rooms own the tables; only the feed reads them in this shape.

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

pub(super) struct User {
    pub(super) id: String,
    pub(super) provider_id: String,
    pub(super) username: Option<String>,
    pub(super) disabled: bool,
}

pub(super) struct UserRole {
    pub(super) user_id: String,
    pub(super) role_id: String,
}

pub(super) struct Consent {
    pub(super) id: String,
    pub(super) user_id: String,
    pub(super) client_id: String,
    pub(super) server_id: String,
    pub(super) permissions: Vec<String>,
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

/// All of them.
pub(super) async fn all_users(connection: &mut PgConnection) -> db::Result<Vec<User>> {
    Ok(sqlx::query_as!(User, "select id, provider_id, username, disabled from users").fetch_all(connection).await?)
}

/// Those named.
pub(super) async fn some_users(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<User>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as!(User, "select id, provider_id, username, disabled from users where id = any($1)", ids)
        .fetch_all(connection)
        .await?)
}

/// All of them.
pub(super) async fn all_user_roles(connection: &mut PgConnection) -> db::Result<Vec<UserRole>> {
    Ok(sqlx::query_as!(UserRole, "select user_id, role_id from user_roles").fetch_all(connection).await?)
}

/// Those named.
pub(super) async fn some_user_roles(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<UserRole>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as!(UserRole, "select user_id, role_id from user_roles where user_id = any($1)", ids)
        .fetch_all(connection)
        .await?)
}

/// All of them.
pub(super) async fn all_consents(connection: &mut PgConnection) -> db::Result<Vec<Consent>> {
    Ok(sqlx::query_as!(Consent, "select id, user_id, client_id, server_id, permissions from consents")
        .fetch_all(connection)
        .await?)
}

/// Those named.
pub(super) async fn some_consents(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<Consent>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as!(
        Consent,
        "select id, user_id, client_id, server_id, permissions from consents where id = any($1)",
        ids
    )
    .fetch_all(connection)
    .await?)
}
