//! The database: two pools, how a change begins and commits, and what can go wrong with it.

pub mod condition;
pub mod embedded;
pub mod partitions;

use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrate;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions, PgSeverity};
use sqlx::{Connection as _, PgPool, Postgres, Transaction};
use tokio::sync::Notify;

use crate::gate::Position;
use crate::types::clock::BootInstant;
use crate::types::switches::{Protection, on};

/// Connections for everything but revocations and the follower.
const GENERAL_CONNECTIONS_MAX: u32 = 12;
/// Connections that only revoking and waiting for it use, so that they never queue behind anything else.
const RESERVED_CONNECTIONS_MAX: u32 = 4;
/// How long a request waits for a connection before it is told to come back.
const ACQUIRE_SECONDS_MAX: Duration = Duration::from_secs(5);

/// A connection that was used this recently is taken to be there still: to ask it first would cost each statement another
/// round trip. Short, because a request that meets one that broke meanwhile is told to come back.
const UNTESTED_MAX: Duration = Duration::from_millis(50);

/// What a change begins with, in one round trip. Bounds are set for each transaction, because a pooler between us and
/// PostgreSQL may give every transaction another connection.
const BEGIN: &str = "begin isolation level read committed; set local lock_timeout = '2s'; \
    set local idle_in_transaction_session_timeout = '2s'; set local statement_timeout = '30s'; \
    set local synchronous_commit = on";

/// What a list is read in. Such a statement may take its time, but not for ever.
const BEGIN_LIST: &str = "begin isolation level repeatable read read only; set local plan_cache_mode = force_custom_plan; \
    set local statement_timeout = '30s'; set local idle_in_transaction_session_timeout = '30s'";

/// What a change begins with where nothing asks for durability.
const BEGIN_AS_THE_DATABASE_IS_SET: &str = "begin isolation level read committed";

fn begin() -> &'static str {
    if on(Protection::Durable) { BEGIN } else { BEGIN_AS_THE_DATABASE_IS_SET }
}

/// A transaction that changes something.
pub type Tx = Transaction<'static, Postgres>;

/// What the database said, as far as callers can act on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Any failure of a statement; nothing was changed.
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
    /// What happened could not be recorded, so it must not happen.
    #[error("the audit could not be written: {0}")]
    Unrecorded(#[source] sqlx::Error),
    /// The connection broke during COMMIT: the change may be there or not.
    #[error("the connection was lost while committing; the outcome is unknown")]
    OutcomeUnknown(#[source] sqlx::Error),
}

impl Error {
    /// The name of the constraint that a statement violated.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Sqlx(error) | Self::Unrecorded(error) | Self::OutcomeUnknown(error) => {
                error.as_database_error()?.constraint()
            }
        }
    }

    /// The same failure, of a statement that came after a successful COMMIT: "not done" would be wrong.
    #[must_use]
    pub fn after_commit(self) -> Self {
        match self {
            Self::Sqlx(error) | Self::Unrecorded(error) | Self::OutcomeUnknown(error) => Self::OutcomeUnknown(error),
        }
    }

    /// Whether no connection could be had or kept, or the server is going down or coming up.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Sqlx(error) | Self::Unrecorded(error) | Self::OutcomeUnknown(error) => match error {
                sqlx::Error::Io(_) => true,
                sqlx::Error::Database(database) => {
                    database.code().is_some_and(|code| code.starts_with("08") || code.starts_with("57P"))
                }
                _ => false,
            },
        }
    }

    /// Whether trying again later may help: no connection, a lock held too long, the server going down or read-only.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::OutcomeUnknown(_) | Self::Unrecorded(_) => true,
            Self::Sqlx(error) => match error {
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => true,
                sqlx::Error::Database(database) => database.code().is_some_and(|code| {
                    // 08 connection, 25006 read-only, 40 rollback, 53 resources, 55P03 lock_timeout, 57 operator intervention.
                    ["08", "25006", "40", "53", "55P03", "57"].iter().any(|class| code.starts_with(class))
                }),
                _ => false,
            },
        }
    }
}

/// The result of a statement.
pub type Result<T> = std::result::Result<T, Error>;

/// A change that is committed.
#[derive(Clone, Copy, Debug)]
#[must_use = "a change is finished only when it is enforced"]
pub struct Done {
    /// At or after the change's own place in the feed.
    pub position: Position,
    /// When the COMMIT was acknowledged.
    pub committed: BootInstant,
}

/// The pools.
#[derive(Clone, Debug)]
pub struct Db {
    options: PgConnectOptions,
    general: PgPool,
    reserved: PgPool,
    told: Arc<Told>,
}

/// Who is told that something was committed: they read the feed on. To be told late, or never, costs only time.
#[derive(Debug, Default)]
pub struct Told {
    /// This node.
    pub here: Notify,
    /// The task that tells the others.
    pub elsewhere: Notify,
}

impl Db {
    /// Makes the pools. Connects to nothing yet.
    #[must_use]
    pub fn new(options: PgConnectOptions) -> Self {
        let options = options.application_name("mcp-authority");
        let pool = |connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_SECONDS_MAX)
                .test_before_acquire(false)
                .before_acquire(|connection, idle| {
                    Box::pin(async move {
                        if idle.idle_for > UNTESTED_MAX {
                            connection.ping().await?;
                        }
                        Ok(true)
                    })
                })
                .connect_lazy_with(options.clone())
        };
        let (general, reserved) = (pool(GENERAL_CONNECTIONS_MAX), pool(RESERVED_CONNECTIONS_MAX));
        Self { options, general, reserved, told: Arc::default() }
    }

    /// For reads.
    #[must_use]
    pub const fn reads(&self) -> &PgPool {
        &self.general
    }

    /// For revocations and the waiting for them only.
    #[must_use]
    pub fn reserved(&self) -> &PgPool {
        if on(Protection::Reserved) { &self.reserved } else { &self.general }
    }

    /// Who is told of commits.
    #[must_use]
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// How to reach the database, for those with a connection of their own.
    #[must_use]
    pub const fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Begins a change.
    ///
    /// # Errors
    ///
    /// No connection, or the database refuses.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(self.general.begin_with(begin()).await?)
    }

    /// Begins a revocation, on a reserved connection.
    ///
    /// # Errors
    ///
    /// No connection, or the database refuses.
    pub async fn begin_reserved(&self) -> Result<Tx> {
        Ok(self.reserved().begin_with(begin()).await?)
    }

    /// Begins the reading of a list, of which all statements see the same. They are planned for the filters that are there: a
    /// plan for any of them would read the whole table.
    ///
    /// # Errors
    ///
    /// No connection, or the database refuses.
    pub async fn begin_list(&self) -> Result<Tx> {
        Ok(self.general.begin_with(BEGIN_LIST).await?)
    }

    /// Commits, and reads where the feed stands after it.
    ///
    /// # Errors
    ///
    /// [`Error::OutcomeUnknown`] when the connection broke on the way: neither success nor "not done".
    pub async fn commit(&self, tx: Tx) -> Result<Done> {
        let committed = self.commit_change(tx).await?;
        // The change is there; where it stands is not known, so it cannot be waited for.
        let position = self.position().await.map_err(Error::after_commit)?;
        Ok(Done { position, committed })
    }

    /// Commits, and tells those who read the feed. Gives the instant at which the COMMIT was acknowledged.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`].
    pub async fn commit_change(&self, tx: Tx) -> Result<BootInstant> {
        commit(tx).await?;
        let committed = BootInstant::now();
        self.told.here.notify_one();
        self.told.elsewhere.notify_one();
        Ok(committed)
    }

    /// Where the feed stands now.
    ///
    /// # Errors
    ///
    /// The database cannot be asked.
    pub async fn position(&self) -> Result<Position> {
        let head = sqlx::query!("select history, number from feed_head").fetch_one(self.reserved()).await?;
        Ok(Position { history: head.history, number: head.number })
    }

    /// The version of the database's schema; 0 before the first migration.
    ///
    /// # Errors
    ///
    /// The database cannot be asked.
    pub async fn schema(&self) -> Result<i64> {
        let mut connection = self.general.acquire().await?;
        let there = sqlx::query!(r#"select to_regclass($1) is not null as "there!""#, MIGRATIONS_TABLE)
            .fetch_one(&mut *connection)
            .await?
            .there;
        if !there {
            return Ok(0);
        }
        let applied = connection.list_applied_migrations(MIGRATIONS_TABLE).await.map_err(migrate_error)?;
        Ok(applied.iter().map(|migration| migration.version).max().unwrap_or(0))
    }

    /// Brings the schema up to this binary's. Concurrent callers wait for one another.
    ///
    /// # Errors
    ///
    /// The database is newer than the binary, or a migration fails.
    pub async fn migrate(&self) -> std::result::Result<(), sqlx::migrate::MigrateError> {
        MIGRATIONS.run(&self.general).await
    }

    /// Closes all connections that are not in use, and waits for the others.
    pub async fn close(&self) {
        self.general.close().await;
        self.reserved.close().await;
    }
}

/// Commits what nobody needs to hear of at once: no feed, or a change that the next poll finds early enough.
///
/// # Errors
///
/// [`Error::OutcomeUnknown`] when the connection broke on the way.
pub async fn commit(tx: Tx) -> Result<()> {
    tx.commit()
        .await
        .map_err(|error| if is_refusal(&error) { Error::Sqlx(error) } else { Error::OutcomeUnknown(error) })
}

/// Whether PostgreSQL itself said that the transaction was rolled back. A backend that dies says FATAL, and may have
/// committed before; a pooler that lost its backend speaks in its name with class 08.
fn is_refusal(error: &sqlx::Error) -> bool {
    let Some(database) = error.as_database_error() else { return false };
    let said = database.try_downcast_ref::<PgDatabaseError>();
    let is_error = said.is_some_and(|said| said.severity() == PgSeverity::Error);
    is_error && !database.code().is_some_and(|code| code.starts_with("08") || code == "40003")
}

/// Whether this transaction gets the lock of that name, which it then holds until its end.
///
/// # Errors
///
/// The database cannot be asked.
pub async fn try_lock(tx: &mut sqlx::PgConnection, name: &str) -> Result<bool> {
    let row = sqlx::query!(r#"select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as "got!""#, name)
        .fetch_one(tx)
        .await?;
    Ok(row.got)
}

/// The version of the schema that this binary was made for.
#[must_use]
pub fn schema_of_binary() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

fn migrate_error(error: sqlx::migrate::MigrateError) -> Error {
    match error {
        sqlx::migrate::MigrateError::Execute(error) => Error::Sqlx(error),
        other => Error::Sqlx(sqlx::Error::Configuration(Box::new(other))),
    }
}

/// All migrations, from the binary itself.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();
