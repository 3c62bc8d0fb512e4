//! What the database says about itself: its release, its clock, what it gives up for speed, and who copies it.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;

/// The state of a PostgreSQL, as far as our promises hang on it.
#[derive(Clone, Debug)]
pub struct Condition {
    /// For people.
    pub version: String,
    /// For comparing: 150000 is 15.0.
    pub version_number: i32,
    /// What was committed survives a crash of the machine.
    pub fsync: bool,
    /// Pages that were half written in a crash are mended.
    pub full_page_writes: bool,
    /// `on`, `off`, `local`, `remote_write` or `remote_apply`. Our changes set it to `on` for themselves.
    pub synchronous_commit: String,
    /// It is a standby itself: nothing can be changed on it.
    pub recovering: bool,
    /// How many servers copy it now.
    pub standbys: i64,
    /// Which of them a commit waits for; empty: none.
    pub synchronous_standby_names: String,
}

/// Asks for all of it.
///
/// # Errors
///
/// The database cannot answer.
pub async fn condition(connection: &mut PgConnection) -> db::Result<Condition> {
    // Who may not read the view's other columns still sees its rows. Backups that are being taken stand there too.
    Ok(sqlx::query_as!(
        Condition,
        r#"select current_setting('server_version') as "version!", current_setting('server_version_num')::int as "version_number!",
                  current_setting('fsync')::bool as "fsync!", current_setting('full_page_writes')::bool as "full_page_writes!",
                  current_setting('synchronous_commit') as "synchronous_commit!", pg_is_in_recovery() as "recovering!",
                  (select count(*) from pg_stat_replication where state is distinct from 'backup') as "standbys!",
                  current_setting('synchronous_standby_names') as "synchronous_standby_names!""#,
    )
    .fetch_one(connection)
    .await?)
}

/// The database's clock. Needs the schema.
///
/// # Errors
///
/// The database cannot answer.
pub async fn clock(connection: &mut PgConnection) -> db::Result<OffsetDateTime> {
    Ok(sqlx::query!(r#"select authority_now() as "now!""#).fetch_one(connection).await?.now)
}
