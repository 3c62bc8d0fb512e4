//! What the tests of the private PostgreSQL share: a service in a process of its own, and a table that remembers.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mcp_authority::db::embedded::Embedded;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection, Executor};
use tempfile::TempDir;

/// Names the data directory to the test that plays a service in a process of its own.
pub(crate) const SERVICE_DIR: &str = "MCPA_TEST_SERVICE_DIR";
/// The user `nobody` of Linux.
pub(crate) const NOBODY: u32 = 65_534;
/// How often something is looked at while waiting for it, and how many times: a minute.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS_MAX: u32 = 6000;

pub(crate) fn scratch() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..LOOKS_MAX {
        if done() {
            return;
        }
        std::thread::sleep(LOOK);
    }
    panic!("{what} did not happen within {:?}", LOOK * LOOKS_MAX);
}

pub(crate) fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

/// A zombie, which only its parent still knows, is not alive.
pub(crate) fn alive(pid: u32) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    if Path::new("/proc/self").exists() {
        return fs::read_to_string(process.join("cmdline")).is_ok_and(|line| !line.is_empty());
    }
    test_kill_process(Pid::from_raw(pid.cast_signed()).unwrap()).is_ok()
}

async fn connect(db: &Embedded) -> PgConnection {
    db.connect_options().connect().await.unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the tables are the test's own")]
pub(crate) async fn text(db: &Embedded, question: &'static str) -> String {
    let mut connection = connect(db).await;
    let answer = sqlx::query_scalar(question).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    answer
}

#[expect(clippy::disallowed_methods, reason = "the tables are the test's own")]
pub(crate) async fn remember(db: &Embedded, word: &str) {
    let mut connection = connect(db).await;
    connection.execute("create table if not exists kept (word text)").await.unwrap();
    let insert = "with row as (select $1::text as word) insert into kept select word from row returning word";
    let _: String = sqlx::query_scalar(insert).bind(word).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

pub(crate) async fn kept(db: &Embedded) -> String {
    text(db, "select string_agg(word, ',' order by word) from kept").await
}

/// A service in a process of its own, which may be killed.
pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) data: PathBuf,
    postmaster: Option<u32>,
}

impl Service {
    pub(crate) fn spawn(data: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["plays_a_service", "--exact", "--test-threads=1"])
            .env(SERVICE_DIR, data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, data: data.to_owned(), postmaster: None }
    }

    /// The process id of its PostgreSQL.
    pub(crate) fn ready(&mut self) -> u32 {
        let said = self.data.join("ready");
        until("the service", || fs::read_to_string(&said).is_ok_and(|text| text.ends_with('\n')));
        let pid = fs::read_to_string(&said).unwrap().trim().parse().unwrap();
        fs::remove_file(said).unwrap();
        self.postmaster = Some(pid);
        pid
    }

    /// Kills the service and leaves its PostgreSQL running.
    pub(crate) fn kill(mut self) {
        self.end();
        self.postmaster = None;
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
        if let Some(postmaster) = self.postmaster.filter(|pid| alive(*pid)) {
            kill(postmaster);
        }
    }
}

/// The folder of the socket that clients are told.
pub(crate) fn socket_dir(db: &Embedded) -> PathBuf {
    db.connect_options().get_socket().unwrap().clone()
}
