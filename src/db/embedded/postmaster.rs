//! The running server: started as a child, watched until ready, stopped cleanly.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::error::Error;
use super::launch::{Argument, Launch, Profile};
use super::leftovers::{FAST_STOP_SECONDS_MAX, IMMEDIATE_STOP_SECONDS_MAX};
use super::processes::{POLL, pid_file, signal};
use super::socket::{PORT, SocketDir};

/// After a crash PostgreSQL first repeats its log; a long one on a slow disk is given this long.
const READY_SECONDS_MAX: u64 = 180;

/// Settings of both profiles: no TCP, a socket for its owner only, modest memory, nothing that needs the machine's
/// locale or time zone. They stand on the command line, so no file in the cluster overrides them.
const SETTINGS: [&str; 21] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "password_encryption=scram-sha-256",
    "synchronous_commit=on",
    "shared_buffers=128MB",
    "work_mem=4MB",
    "maintenance_work_mem=64MB",
    "max_wal_size=1GB",
    // Shared memory of parallel queries would need more of /dev/shm than a container has; no query here profits.
    "max_parallel_workers_per_gather=0",
    "max_parallel_maintenance_workers=0",
    "jit=off",
    "log_destination=stderr",
    "logging_collector=off",
    "log_line_prefix=%m [%p] ",
    "log_timezone=UTC",
    "timezone=UTC",
    "log_checkpoints=off",
    "log_statement=none",
    // What a statement was given may be a secret.
    "log_parameter_max_length=0",
    "log_parameter_max_length_on_error=0",
    "cluster_name=mcp-authority",
];

/// What `fsync` protects is worth its price, except in tests.
const DURABLE: [&str; 3] = ["fsync=on", "full_page_writes=on", "max_connections=200"];
const THROWAWAY: [&str; 3] = ["fsync=off", "full_page_writes=off", "max_connections=300"];

/// A running server. Dropping it begins a fast shutdown without waiting for it.
#[derive(Debug)]
pub(super) struct Postmaster {
    child: Child,
    pid: u32,
}

impl Postmaster {
    /// Starts the server on the cluster and returns when it accepts connections.
    pub(super) async fn start(launch: &Launch, socket: &SocketDir) -> Result<Self, Error> {
        let cluster = launch.home.cluster();
        let program = launch.programs.postgres();
        let argument = Argument::new(&cluster, launch.user)?;
        let mut command = launch.command(&program)?;
        command.arg("-D").arg(argument.text()).args(["-p", &PORT.to_string()]);
        command.args(["-c", &format!("unix_socket_directories={}", socket.setting())]);
        let profile = match launch.profile {
            Profile::Durable => DURABLE,
            Profile::Throwaway => THROWAWAY,
        };
        for setting in SETTINGS.iter().chain(&profile) {
            command.args(["-c", setting]);
        }
        let child = Command::from(command).spawn().map_err(Error::io("run", &program))?;
        drop(argument);
        let pid = child.id().unwrap_or_default();
        let mut postmaster = Self { child, pid };
        match postmaster.ready(launch, &cluster).await {
            Ok(()) => Ok(postmaster),
            Err(error) => {
                postmaster.stop().await?;
                Err(error)
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    async fn ready(&mut self, launch: &Launch, cluster: &Path) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(READY_SECONDS_MAX);
        while !pid_file(cluster).is_some_and(|file| file.pid == self.pid && file.ready) {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(launch.home.failed(format!("PostgreSQL ended while starting ({status})")));
            }
            if Instant::now() >= deadline {
                return Err(launch.home.failed(format!("PostgreSQL was not ready within {READY_SECONDS_MAX} s")));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Returns when the server has ended, however that came about.
    pub(super) async fn exited(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// A fast shutdown, and an immediate one when that takes too long. Afterwards the server has ended.
    pub(super) async fn stop(mut self) -> Result<(), Error> {
        let steps = [(Signal::INT, FAST_STOP_SECONDS_MAX), (Signal::QUIT, IMMEDIATE_STOP_SECONDS_MAX)];
        for (number, seconds) in steps {
            if self.child.id().is_none() {
                return Ok(());
            }
            signal(self.pid, number);
            if timeout(Duration::from_secs(seconds), self.child.wait()).await.is_ok() {
                return Ok(());
            }
            tracing::warn!(pid = self.pid, seconds, "the private PostgreSQL did not stop in time");
        }
        self.child.kill().await.map_err(Error::io("kill", Path::new("postgres")))
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        // `id` is `None` once the child was waited for, so this never signals a stranger.
        if self.child.id().is_some() {
            signal(self.pid, Signal::INT);
        }
    }
}
