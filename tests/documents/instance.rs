//! A fresh private instance of the real binary, as `mcp-authority serve` starts it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::shell::Shell;

const PATIENCE: Duration = Duration::from_mins(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A lease so long that a busy machine cannot make a node refuse in the middle of a page.
const CALM: &str = "curl -fsS -o /dev/null -X PATCH -H \"Authorization: Bearer $OPERATOR_KEY\" \
    -H 'Content-Type: application/json' -d '{\"lease_ms\":60000}' \"$URL/v1/settings\"";

/// The service in a process of its own, with everything it has below one directory.
pub(crate) struct Instance {
    dir: TempDir,
    listen: String,
    child: Option<Child>,
}

impl Instance {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let dir = tempfile::Builder::new().prefix("mcpa-documents-").tempdir().expect("a directory");
        let mut instance = Self { dir, listen: format!("127.0.0.1:{port}"), child: None };
        instance.serve();
        instance.shell().run(CALM);
        instance
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the reader works: files that blocks write are here.
    pub(crate) fn desk(&self) -> PathBuf {
        let desk = self.dir().join("desk");
        std::fs::create_dir_all(&desk).expect("a directory");
        desk
    }

    #[expect(clippy::disallowed_methods, reason = "the pages' commands run where this test runs")]
    fn settings(&self) -> Vec<(&'static str, String)> {
        let program = Path::new(env!("CARGO_BIN_EXE_mcp-authority")).parent().expect("a folder").display().to_string();
        let path = format!("{program}:{}", std::env::var("PATH").expect("PATH"));
        vec![
            ("PATH", path),
            ("HOME", self.dir().display().to_string()),
            ("MCPA_LISTEN", self.listen.clone()),
            ("MCPA_METRICS_LISTEN", "off".to_owned()),
            ("MCPA_DATA_DIR", self.dir().join("data").display().to_string()),
        ]
    }

    /// Starts the service and waits until it is ready.
    pub(crate) fn serve(&mut self) {
        assert!(self.child.is_none(), "it serves already");
        let log = std::fs::File::options().create(true).append(true).open(self.dir().join("log")).expect("a log");
        let mut service = Command::new(env!("CARGO_BIN_EXE_mcp-authority"));
        service.arg("serve").env_clear().envs(self.settings()).stdin(Stdio::null());
        service.stdout(log.try_clone().expect("a log")).stderr(log);
        let mut child = service.spawn().expect("the service");
        let began = Instant::now();
        loop {
            let mut healthcheck = Command::new(env!("CARGO_BIN_EXE_mcp-authority"));
            healthcheck.arg("healthcheck").env_clear().envs(self.settings()).stderr(Stdio::null());
            if healthcheck.status().expect("the check").success() {
                break;
            }
            let ended = child.try_wait().expect("its state");
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "it does not serve:\n{}", self.log());
            std::thread::sleep(LOOK_EVERY);
        }
        self.child = Some(child);
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// Stops the service as `systemctl stop` would, and waits for its end.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_raw(child.id().cast_signed()).expect("a process");
            kill_process(pid, Signal::TERM).expect("told to end");
            let ended = child.wait().expect("its end");
            assert!(ended.success(), "{ended}\n{}", self.log());
        }
    }

    /// A shell with what a reader has: the address, the first operator's key, the program in its path.
    pub(crate) fn shell(&self) -> Shell {
        let mut env = self.settings();
        let key = std::fs::read_to_string(self.dir().join("data/operator.key")).expect("the first operator's key");
        env.push(("OPERATOR_KEY", key.trim().to_owned()));
        env.push(("URL", format!("http://localhost:{}", self.listen.rsplit(':').next().expect("a port"))));
        Shell::new(&self.desk(), &env)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let _ = child.wait();
        }
    }
}
