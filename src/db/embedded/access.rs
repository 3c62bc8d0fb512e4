//! The application's role and database inside the cluster: made once, mended when they do not fit the password's file.

use std::path::Path;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor};

use super::cluster::{SUPERUSER, SUPERUSER_PASSWORD};
use super::error::Error;
use super::home::{Home, Password};
use super::launch::Profile;
use super::socket::PORT;

/// The application's role, not a superuser, and its database.
const APPLICATION: &str = "authority";
/// The role's password's file, below the data directory.
pub(super) const PASSWORD: &str = "postgres.password";

/// How the application signs in.
pub(super) fn application(socket_dir: &Path, password: &Password) -> PgConnectOptions {
    options(socket_dir, APPLICATION, APPLICATION, password)
}

fn options(socket_dir: &Path, user: &str, database: &str, password: &Password) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(PORT)
        .username(user)
        .database(database)
        .password(password.reveal())
        // Nothing leaves the machine, and PostgreSQL offers no TLS on a Unix socket.
        .ssl_mode(PgSslMode::Disable)
        .application_name("mcp-authority")
}

/// Afterwards the application can sign in with the returned password.
///
/// Each step looks first, so an interrupted first start is completed by the next one, and a lost password's file is
/// made anew.
pub(super) async fn ensure(home: &Home, socket_dir: &Path, profile: Profile) -> Result<Password, Error> {
    if let Some(password) = home.password(PASSWORD)?
        && let Ok(connection) = application(socket_dir, &password).connect().await
    {
        connection.close().await?;
        return Ok(password);
    }
    let password = home.password_or_new(PASSWORD)?;
    let superuser = home.password(SUPERUSER_PASSWORD)?.ok_or_else(|| {
        Error::refused(
            &home.path().join(SUPERUSER_PASSWORD),
            "is missing, and without it the role's password cannot be set; put it back from a backup",
        )
    })?;
    let mut connection = options(socket_dir, SUPERUSER, "postgres", &superuser).connect().await?;
    ensure_role(&mut connection, &password, profile).await?;
    ensure_database(&mut connection).await?;
    connection.close().await?;
    application(socket_dir, &password).connect().await?.close().await?;
    Ok(password)
}

async fn ensure_role(connection: &mut PgConnection, password: &Password, profile: Profile) -> Result<(), Error> {
    if !exists(connection, "select exists (select from pg_roles where rolname = 'authority')").await? {
        connection.execute("create role authority").await?;
    }
    set_password(connection, password).await?;
    if profile == Profile::Throwaway {
        // Tests clone databases.
        connection.execute("alter role authority createdb").await?;
    }
    Ok(())
}

/// The password travels as a parameter and is quoted by the server; nothing of it reaches the log, whatever fails.
#[expect(clippy::disallowed_methods, reason = "asks PostgreSQL itself, before the schema that the macros know exists")]
async fn set_password(connection: &mut PgConnection, password: &Password) -> Result<(), Error> {
    connection.execute("set log_min_messages = panic; set log_min_error_statement = panic").await?;
    let _: String = sqlx::query_scalar("select set_config('authority.password', $1, false)")
        .bind(password.reveal())
        .fetch_one(&mut *connection)
        .await?;
    connection
        .execute(
            "do $$ begin
               execute format('alter role authority with login nosuperuser nocreaterole nobypassrls noreplication
                               nocreatedb password %L', current_setting('authority.password'));
             end $$",
        )
        .await?;
    connection.execute("reset authority.password").await?;
    Ok(())
}

async fn ensure_database(connection: &mut PgConnection) -> Result<(), Error> {
    if !exists(connection, "select exists (select from pg_database where datname = 'authority')").await? {
        connection.execute("create database authority owner authority").await?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "asks PostgreSQL itself, before the schema that the macros know exists")]
async fn exists(connection: &mut PgConnection, question: &'static str) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(question).fetch_one(connection).await?)
}
