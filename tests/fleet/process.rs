//! A node as a process of its own, which signals can stop, resume and kill.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mcp_authority::types::switches::Protection;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

use crate::support::node::{PUBLIC_URL, SECRET_KEY};

/// A start takes no longer, however busy the machine is.
const START_MAX: Duration = Duration::from_mins(1);

/// Longer than the balancer of the test needs to notice, on a machine that is busy.
const DRAIN_SECONDS: &str = "3";

/// A running process.
pub struct Process {
    child: Child,
    pub url: String,
    dir: TempDir,
    options: PgConnectOptions,
    off: String,
}

impl Process {
    /// Starts one, with these protections out. It is not waited for.
    pub fn start(options: &PgConnectOptions, off: &[Protection]) -> Self {
        let off: Vec<String> = off.iter().map(|one| format!("{one:?}")).collect();
        let dir = tempfile::tempdir().expect("a directory");
        Self::spawn(options.clone(), off.join(","), dir)
    }

    fn spawn(options: PgConnectOptions, off: String, dir: TempDir) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let log = File::options().create(true).append(true).open(dir.path().join("log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_mcp-authority"))
            .arg("serve")
            .env("MCPA_DATABASE_URL", options.to_url_lossy().as_str())
            .env("MCPA_SECRET_KEYS", SECRET_KEY)
            .env("MCPA_PUBLIC_URL", PUBLIC_URL)
            .env("MCPA_LISTEN", format!("127.0.0.1:{port}"))
            .env("MCPA_METRICS_LISTEN", "off")
            .env("MCPA_DRAIN_SECONDS", DRAIN_SECONDS)
            .env("TEST_SWITCHES_OFF", &off)
            .env("TEST_CLOCKS", dir.path().join("clocks"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        Self { child, url: format!("http://127.0.0.1:{port}"), dir, options, off }
    }

    /// The same again, on another port.
    pub fn again(self) -> Self {
        let (options, off) = (self.options.clone(), self.off.clone());
        drop(self);
        Self::spawn(options, off, tempfile::tempdir().expect("a directory"))
    }

    /// Waits until it answers.
    pub async fn ready(&mut self, client: &reqwest::Client) {
        let began = Instant::now();
        loop {
            let reply = client.get(format!("{}/health/ready", self.url)).send().await;
            if reply.is_ok_and(|reply| reply.status().is_success()) {
                return;
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none() && began.elapsed() < START_MAX, "not ready ({ended:?}):\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("sent");
    }

    /// Ends it without a chance to say so.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Ends it as an init system does, and waits until it is gone.
    pub async fn terminate(mut self) {
        self.signal(Signal::TERM);
        let began = Instant::now();
        while self.child.try_wait().expect("a child").is_none() {
            assert!(began.elapsed() < START_MAX, "it does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Moves its clocks by so many milliseconds against the machine's.
    pub fn clocks(&self, boot: i64, wall: i64) {
        let path = self.dir.path().join("clocks");
        let next: PathBuf = self.dir.path().join("clocks.next");
        std::fs::write(&next, format!("{boot} {wall}")).expect("written");
        std::fs::rename(next, path).expect("in place at once");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
