//! Tables that grow without end: their partitions are made before they are needed, and dropped when all in them is over.
//!
//! A partition that is missing loses nothing: `<table>_rest` catches what no other one holds. How they are made stands in
//! the migrations, so that the one who changes a table sees it.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db::{self, Db, Tx};

/// Partitions of one table that are dropped in one run of the job.
pub const DROPPED_PER_RUN_MAX: i64 = 8;

/// A table that is partitioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `sessions`, by the time in their ids.
    Sessions,
    /// `audit_log`, by the time of its entries.
    Audit,
    /// `feed`, by its numbers.
    Feed,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sessions, Self::Audit, Self::Feed];

    /// Its name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Audit => "audit_log",
            Self::Feed => "feed",
        }
    }
}

/// Begins a change of partitions. It waits a twentieth of a second for the table at most: whoever uses the table stands
/// behind it meanwhile. The next run tries again.
///
/// # Errors
///
/// No connection, or the database refuses.
pub async fn begin(db: &Db) -> db::Result<Tx> {
    let mut tx = db.begin().await?;
    sqlx::query!("set local lock_timeout = '50ms'").execute(&mut *tx).await?;
    Ok(tx)
}

/// Makes the partitions of a table that will be needed soon. Holds afterwards: what is written now has its place, unless
/// the rest holds too many rows of its time. Returns how many were made.
///
/// # Errors
///
/// The database refuses, or somebody holds the table.
pub async fn ahead(tx: &mut PgConnection, table: Table) -> db::Result<i32> {
    let made = match table {
        Table::Sessions => {
            sqlx::query_scalar!(r#"select partitions_ahead_sessions() as "made!""#).fetch_one(tx).await?
        }
        Table::Audit => sqlx::query_scalar!(r#"select partitions_ahead_audit_log() as "made!""#).fetch_one(tx).await?,
        Table::Feed => sqlx::query_scalar!(r#"select partitions_ahead_feed() as "made!""#).fetch_one(tx).await?,
    };
    Ok(made)
}

/// Makes the partitions of all tables, before anything is written: after a month's rest there are none for now.
///
/// # Errors
///
/// The database refuses. That somebody holds a table is no error: the rest catches what is written, and the job looks
/// after it.
pub async fn ahead_at_start(db: &Db) -> db::Result<()> {
    for table in Table::ALL {
        let mut tx = begin(db).await?;
        match ahead(&mut tx, table).await {
            Ok(_) => db::commit(tx).await?,
            Err(error) if error.is_passing() => {
                tracing::warn!(table = table.name(), %error, "partitions could not be made yet; a job does it");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Drops a partition; with a column and a time only if no row's time is that or later. False when it stays or is gone.
///
/// # Errors
///
/// The database refuses, or somebody holds the table.
pub async fn drop_one(
    tx: &mut PgConnection,
    partition: &str,
    unless: Option<(&str, OffsetDateTime)>,
) -> db::Result<bool> {
    let (column, until) = unless.unzip();
    let dropped = sqlx::query_scalar!(r#"select partition_drop($1, $2, $3) as "dropped!""#, partition, column, until)
        .fetch_one(tx)
        .await?;
    Ok(dropped)
}

/// How many rows the rest of a table holds, counted up to a bound: zero unless partitions were missing.
///
/// # Errors
///
/// The database cannot be asked.
pub async fn caught(connection: &mut PgConnection, table: Table) -> db::Result<i64> {
    let rows = match table {
        Table::Sessions => {
            sqlx::query_scalar!(r#"select count(*) as "rows!" from (select from sessions_rest limit 10000) as few"#)
                .fetch_one(connection)
                .await?
        }
        Table::Audit => {
            sqlx::query_scalar!(r#"select count(*) as "rows!" from (select from audit_log_rest limit 10000) as few"#)
                .fetch_one(connection)
                .await?
        }
        Table::Feed => {
            sqlx::query_scalar!(r#"select count(*) as "rows!" from (select from feed_rest limit 10000) as few"#)
                .fetch_one(connection)
                .await?
        }
    };
    Ok(rows)
}
