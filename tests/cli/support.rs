//! What these tests share: the binary with nothing of this process's environment, a service, throw-away databases.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mcp_authority::db::Db;
use mcp_authority::db::embedded::Embedded;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use tempfile::TempDir;
use tokio::sync::OnceCell;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_mcp-authority");
/// Two secret keys of 32 bytes, base64.
pub(crate) const SECRET_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
pub(crate) const OTHER_KEY: &str = "YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";
/// Whatever must come true does so within this; it is never waited for when it does.
const PATIENCE: Duration = Duration::from_mins(2);
const TEMPLATE: &str = "template_cli";

static CLUSTER: OnceCell<(PgConnectOptions, PathBuf)> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Settings, as environment variables.
pub(crate) type Settings = Vec<(String, String)>;

pub(crate) fn settings(given: &[(&str, &str)]) -> Settings {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The same with some replaced or added.
pub(crate) fn with(settings: &Settings, given: &[(&str, &str)]) -> Settings {
    let mut changed = settings.clone();
    changed.retain(|(name, _)| !given.iter().any(|(other, _)| other == name));
    changed.extend(self::settings(given));
    changed
}

/// The binary with these settings and nothing else but the search path.
#[expect(clippy::disallowed_methods, reason = "PostgreSQL is found where this process would find it")]
pub(crate) fn command(arguments: &[&str], settings: &Settings) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(settings.iter().map(|(name, value)| (name, value))).current_dir(std::env::temp_dir());
    command.stdin(Stdio::null());
    command
}

pub(crate) fn run(arguments: &[&str], settings: &Settings) -> Output {
    command(arguments, settings).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails with what was said when it ended in another way.
pub(crate) fn ended(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "\n{}\n{}", stdout(output), stderr(output));
}

pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A directory for a private database, and the settings that name it.
pub(crate) struct Private {
    pub(crate) dir: TempDir,
    pub(crate) settings: Settings,
}

impl Private {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let listen = format!("127.0.0.1:{}", free_port());
        let settings = settings(&[
            ("MCPA_DATA_DIR", data.to_str().unwrap()),
            ("MCPA_LISTEN", &listen),
            ("MCPA_METRICS_LISTEN", "off"),
        ]);
        Self { dir, settings }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}

/// A database of one test, cloned from a migrated template, and the settings that name it.
pub(crate) struct TestDb {
    pub(crate) options: PgConnectOptions,
    pub(crate) settings: Settings,
    /// Where the cluster's files lie.
    pub(crate) data: PathBuf,
}

impl TestDb {
    pub(crate) async fn new() -> Self {
        Self::of(&format!(" template {TEMPLATE}")).await
    }

    /// One without a schema.
    pub(crate) async fn empty() -> Self {
        Self::of("").await
    }

    async fn of(template: &str) -> Self {
        let (cluster, data) = CLUSTER.get_or_init(start_cluster).await;
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        execute(&cluster.clone().database("postgres"), &format!("create database {name}{template}")).await;
        let options = cluster.clone().database(&name);
        let listen = format!("127.0.0.1:{}", free_port());
        let settings = settings(&[
            ("MCPA_DATABASE_URL", options.to_url_lossy().as_str()),
            ("MCPA_SECRET_KEYS", SECRET_KEY),
            ("MCPA_LISTEN", &listen),
            ("MCPA_METRICS_LISTEN", "off"),
        ]);
        Self { options, settings, data: data.clone() }
    }

    pub(crate) async fn execute(&self, sql: &str) {
        execute(&self.options, sql).await;
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let mut connection = self.options.connect().await.unwrap();
        connection.fetch_one(AssertSqlSafe(sql.to_owned())).await.unwrap().get(0)
    }

    /// Moves the database's clock: every statement reads it through this one function.
    pub(crate) async fn shift_clock(&self, seconds: i64) {
        self.execute(&format!(
            "create or replace function authority_now() returns timestamptz language sql stable parallel safe \
             as $$ select statement_timestamp() + interval '{seconds} seconds' $$"
        ))
        .await;
    }
}

async fn execute(options: &PgConnectOptions, sql: &str) {
    let mut connection = options.connect().await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

/// Starts the cluster, migrates the template, and leaves a guard behind that removes all when this process ends.
async fn start_cluster() -> (PgConnectOptions, PathBuf) {
    let dir = tempfile::Builder::new().prefix("mcpa-cli-").tempdir().unwrap().keep();
    let data = dir.join("data");
    let cluster = Embedded::start_throwaway(&data).await.unwrap();
    let options = cluster.connect_options();
    guard(cluster.postmaster_pid().unwrap(), &dir);
    // The cluster outlives this value on purpose; the guard ends it.
    std::mem::forget(cluster);
    execute(&options, &format!("create database {TEMPLATE}")).await;
    let template = Db::new(options.clone().database(TEMPLATE));
    template.migrate().await.unwrap();
    template.close().await;
    (options, data)
}

#[expect(clippy::zombie_processes, reason = "it outlives this process, which is its purpose")]
/// A shell that waits for the end of its standard input, which this process holds until it ends, however it ends.
fn guard(pid: u32, dir: &Path) {
    let script =
        "cat > /dev/null; kill -QUIT \"$1\"; while kill -0 \"$1\" 2>/dev/null; do sleep 0.1; done; rm -rf \"$2\"";
    let mut shell = Command::new("sh")
        .args(["-c", script, "guard", &pid.to_string()])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"\n").unwrap();
    std::mem::forget(input);
}

/// A running `serve` without a terminal.
pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) address: String,
    pub(crate) client: reqwest::Client,
    said: TempDir,
}

impl Service {
    /// Returns when it is ready.
    pub(crate) async fn start(settings: &Settings) -> Self {
        let said = tempfile::tempdir().unwrap();
        let child = command(&["serve"], settings)
            .stdout(File::create(said.path().join("stdout")).unwrap())
            .stderr(File::create(said.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let address = settings.iter().find(|(name, _)| name == "MCPA_LISTEN").unwrap().1.clone();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build().unwrap();
        let mut service = Self { child, address, client, said };
        until("the service is ready", async || {
            let ended = service.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", service.stderr());
            let reply = service.client.get(service.url("/health/ready")).send().await;
            reply.is_ok_and(|reply| reply.status().is_success())
        })
        .await;
        service
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.said.path().join("stdout")).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.said.path().join("stderr")).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_to(self.child.id(), signal);
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the service ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Sends a JSON body as an operator; returns the status and the reply.
    pub(crate) async fn post(&self, operator: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.post(self.url(path)).bearer_auth(operator).json(body);
        let reply = request.send().await.unwrap();
        let status = reply.status().as_u16();
        (status, serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap_or(Value::Null))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            // Asked first, so that a private PostgreSQL goes too.
            self.signal(Signal::TERM);
            let began = Instant::now();
            while self.child.try_wait().unwrap().is_none() {
                if began.elapsed() > PATIENCE {
                    self.child.kill().unwrap();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

pub(crate) fn signal_to(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// An operator's key, made by the binary.
pub(crate) fn operator(settings: &Settings) -> String {
    let output = run(&["admin", "create-key", "--name", "test"], settings);
    ended(&output, 0);
    stdout(&output).trim().to_owned()
}

/// What `doctor --json` says.
pub(crate) struct Diagnosis {
    pub(crate) code: i32,
    pub(crate) document: Value,
}

impl Diagnosis {
    pub(crate) fn of(settings: &Settings) -> Self {
        let output = run(&["doctor", "--json"], settings);
        let document = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", stdout(&output), stderr(&output)));
        Self { code: output.status.code().unwrap(), document }
    }

    /// All checks of a name, as (status, detail, fix).
    pub(crate) fn all(&self, name: &str) -> Vec<(String, String, String)> {
        let text = |check: &Value, member: &str| check[member].as_str().unwrap_or_default().to_owned();
        let checks = self.document["checks"].as_array().unwrap();
        let named = checks.iter().filter(|check| check["name"] == name);
        named.map(|check| (text(check, "status"), text(check, "detail"), text(check, "fix"))).collect()
    }

    /// Fails unless a check of that name and status says all of these words, and has a mend unless it is right.
    pub(crate) fn says(&self, name: &str, status: &str, words: &[&str]) {
        let all = self.all(name);
        let found = all.iter().find(|(found, detail, fix)| {
            found == status && words.iter().all(|word| detail.contains(word) || fix.contains(word))
        });
        let Some((_, _, fix)) = found else { panic!("no {status} of {name} with {words:?} in {:#}", self.document) };
        assert_eq!(fix.is_empty(), status == "ok", "{all:?}");
        if status == "failure" {
            assert_eq!((self.code, &self.document["status"]), (7, &Value::from("failure")));
        }
    }
}
