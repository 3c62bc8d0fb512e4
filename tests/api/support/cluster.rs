//! One private PostgreSQL for the whole run, one database for each test, cloned from a migrated template.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mcp_authority::db::Db;
use mcp_authority::db::embedded::{Embedded, find_programs};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

const TEMPLATE: &str = "template_authority";
/// Much shorter than in earnest, so that a test that waits for a lease to end need not wait long.
pub const LEASE: Duration = Duration::from_secs(1);

static CLUSTER: OnceCell<PgConnectOptions> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);
/// Databases of tests that are over. The next test removes them, so that a run needs the disk of a few tests only.
static OVER: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A database of one test.
pub struct TestDb {
    pub options: PgConnectOptions,
    pub name: String,
}

impl TestDb {
    pub async fn new() -> Self {
        let cluster = CLUSTER.get_or_init(start).await;
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = cluster.clone().database("postgres").connect().await.expect("the cluster answers");
        let over = std::mem::take(&mut *OVER.lock().expect("a list"));
        for name in over {
            // Whoever is still connected belongs to a test that is over.
            let sql = format!("drop database if exists {name} with (force)");
            match connection.execute(AssertSqlSafe(sql)).await {
                // A worker of PostgreSQL's own is tidying there, and may not be ended by us. It is soon done: the next test tries.
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => {
                    OVER.lock().expect("a list").push(name);
                }
                removed => drop(removed.expect("removed")),
            }
        }
        connection
            .execute(AssertSqlSafe(format!("create database {name} template {TEMPLATE}")))
            .await
            .expect("a clone");
        connection.close().await.expect("closed");
        Self { options: cluster.clone().database(&name), name }
    }

    /// A database without anything in it.
    pub async fn empty() -> Self {
        let db = Self::new().await;
        let mut cluster = db.options.clone().database("postgres").connect().await.expect("the cluster answers");
        for sql in [format!("drop database {}", db.name), format!("create database {} template template0", db.name)] {
            cluster.execute(AssertSqlSafe(sql)).await.expect("empty");
        }
        cluster.close().await.expect("closed");
        db
    }

    /// A copy of this database as it is now. Nobody may be connected to it, or is cut off.
    pub async fn copy(&self) -> Self {
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut cluster = self.alone().await;
        let sql = format!("create database {name} template {}", self.name);
        cluster.execute(AssertSqlSafe(sql)).await.expect("a copy");
        cluster.close().await.expect("closed");
        Self { options: self.options.clone().database(&name), name }
    }

    /// Puts a copy in this database's place, as if it had been restored, or promoted from a replica that lagged.
    pub async fn become_copy(&self, copy: Self) {
        let mut cluster = self.alone().await;
        let sql = format!("alter database {} rename to {}_lost", self.name, self.name);
        cluster.execute(AssertSqlSafe(sql)).await.expect("away");
        let sql = format!("alter database {} rename to {}", copy.name, self.name);
        cluster.execute(AssertSqlSafe(sql)).await.expect("in its place");
        cluster.close().await.expect("closed");
    }

    /// A connection beside this database, once nobody is connected to it any more.
    async fn alone(&self) -> PgConnection {
        let mut cluster = self.options.clone().database("postgres").connect().await.expect("the cluster answers");
        for _ in 0..1_000 {
            // PostgreSQL's own workers go by themselves, and may not be ended by others.
            let sql = format!(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{}' and usename = current_user",
                self.name
            );
            let row = cluster.fetch_one(AssertSqlSafe(sql)).await.expect("counted");
            if sqlx::Row::get::<i64, _>(&row, 0) == 0 {
                return cluster;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("somebody stays connected to {}", self.name);
    }

    pub fn db(&self) -> Db {
        Db::new(self.options.clone())
    }

    pub async fn connection(&self) -> PgConnection {
        self.options.connect().await.expect("the database answers")
    }

    /// Runs statements as they stand; for looking into the database and for tampering with it.
    pub async fn execute(&self, sql: &str) {
        let mut connection = self.connection().await;
        connection.execute(AssertSqlSafe(sql.to_owned())).await.expect("the statement");
        connection.close().await.expect("closed");
    }

    /// One number that a statement counts.
    pub async fn count(&self, sql: &str) -> i64 {
        use sqlx::Row;
        let mut connection = self.connection().await;
        connection.fetch_one(AssertSqlSafe(sql.to_owned())).await.expect("the statement").get(0)
    }

    /// Moves the database's clock: every statement reads it through this one function.
    pub async fn shift_clock(&self, seconds: i64) {
        let body = format!(
            "create or replace function authority_now() returns timestamptz language sql stable parallel safe \
             as $$ select statement_timestamp() + interval '{seconds} seconds' $$"
        );
        self.execute(&body).await;
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        OVER.lock().expect("a list").extend([self.name.clone(), format!("{}_lost", self.name)]);
    }
}

/// Starts the cluster, migrates the template, and leaves a guard behind that removes everything when this process ends.
async fn start() -> PgConnectOptions {
    let dir = tempfile::Builder::new().prefix("mcpa-tests-").tempdir().expect("a directory").keep();
    let data = dir.join("data");
    let cluster = Embedded::start_throwaway(&data).await.expect("a private PostgreSQL for the tests");
    let options = cluster.connect_options();
    let pid = cluster.postmaster_pid().expect("its process");
    guard(pid, &dir);
    // The cluster outlives this value on purpose; the guard ends it.
    std::mem::forget(cluster);
    let mut connection = options.clone().connect().await.expect("the cluster answers");
    connection.execute(AssertSqlSafe(format!("create database {TEMPLATE}"))).await.expect("the template");
    connection.close().await.expect("closed");
    let template = Db::new(options.clone().database(TEMPLATE));
    template.migrate().await.expect("migrated");
    template.close().await;
    let mut connection = options.clone().database(TEMPLATE).connect().await.expect("the template answers");
    let lease = LEASE.as_millis();
    let settings = format!("update settings set lease_ms = {lease}, previous_lease_ms = {lease}");
    connection.execute(AssertSqlSafe(settings)).await.expect("a short lease");
    connection.close().await.expect("closed");
    assert!(find_programs().is_ok());
    options
}

#[expect(clippy::zombie_processes, reason = "it outlives this process, which is its purpose")]
/// A shell that waits for the end of its standard input, which this process holds until it ends, however it ends.
fn guard(pid: u32, dir: &std::path::Path) {
    let script = "cat > /dev/null; kill -QUIT \"$1\" 2>/dev/null; while kill -0 \"$1\" 2>/dev/null; do sleep 0.1; done; rm -rf \"$2\"";
    let mut shell = Command::new("sh")
        .args(["-c", script, "guard", &pid.to_string()])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    let mut input = shell.stdin.take().expect("its input");
    input.write_all(b"\n").expect("it listens");
    std::mem::forget(input);
}
