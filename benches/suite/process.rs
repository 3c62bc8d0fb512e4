//! Processes that are measured, and the guard that leaves none of them behind.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::bare::Bare;

/// The unit of /proc/PID/stat; the same on every Linux, whatever its kernel's own clock.
const TICKS_A_SECOND: u64 = 100;
/// A node that is not ready by then never will be.
const READY_MAX: Duration = Duration::from_mins(3);
/// How often a node that starts is asked.
const READY_POLL: Duration = Duration::from_millis(5);
/// A node that was told to end has ended by then.
const STOP_MAX: Duration = Duration::from_secs(40);

/// A shell that waits for the end of this process, however it ends, and then ends its whole process group, PostgreSQL,
/// and the folder. All processes that are started here are of its group, so that Ctrl-C reaches none of them first.
pub(crate) struct Guard {
    shell: Child,
}

impl Guard {
    pub(crate) fn new(postmaster: u32, folder: &Path) -> anyhow::Result<Self> {
        let script = "cat > /dev/null; kill -QUIT \"$1\" 2>/dev/null; while kill -0 \"$1\" 2>/dev/null; do sleep 0.1; done; \
                      rm -rf \"$2\"; kill -s KILL -- \"-$$\"";
        let shell = Command::new("sh")
            .args(["-c", script, "guard", &postmaster.to_string()])
            .arg(folder)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { shell })
    }

    /// A command whose process ends with this one.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.process_group(self.shell.id().try_into().unwrap_or(0));
        command
    }

    /// Returns when everything is gone.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        drop(self.shell.stdin.take());
        self.shell.wait()?;
        Ok(())
    }
}

/// A process that is measured from outside.
pub(crate) struct Measured {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Measured {
    /// The processor time that it has used so far, of all its threads, in user and kernel mode.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(stat(self.child.id())?.cpu)
    }

    /// The memory that it has resident (`VmRSS`) or had at most (`VmHWM`), in bytes.
    pub(crate) fn memory(&self, name: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.with_context(|| format!("{name} in /proc/PID/status"))?.trim().trim_end_matches(" kB");
        Ok(kib.parse::<u64>()? * 1_024)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// One of the ceilings, answering this body.
    pub(crate) fn bare(guard: &Guard, bare: Bare, body: &[u8]) -> anyhow::Result<Self> {
        let mut child = guard
            .command(std::env::current_exe()?)
            .args(["bare", bare.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("its input")?.write_all(body)?;
        let mut port = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut port)?;
        let port: u16 = port.trim().parse().context("its port")?;
        Ok(Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) })
    }

    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// A node of the service.
pub(crate) struct Node {
    pub(crate) process: Measured,
    pub(crate) metrics: SocketAddr,
    /// From the start of the process until `/health/ready` said 200.
    pub(crate) ready_after: Duration,
}

impl Node {
    /// Returns when it is ready.
    pub(crate) async fn start(mut command: Command, client: &reqwest::Client, log: &Path) -> anyhow::Result<Self> {
        let (address, metrics) = (free_address()?, free_address()?);
        let out = File::options().create(true).append(true).open(log)?;
        command
            .arg("serve")
            .env("MCPA_LISTEN", address.to_string())
            .env("MCPA_METRICS_LISTEN", metrics.to_string())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let began = Instant::now();
        let mut process = Measured { child: command.spawn()?, address };
        let url = process.url("/health/ready");
        loop {
            if client.get(&url).send().await.is_ok_and(|reply| reply.status().as_u16() == 200) {
                return Ok(Self { process, metrics, ready_after: began.elapsed() });
            }
            let ended = process.child.try_wait()?;
            if ended.is_some() || began.elapsed() > READY_MAX {
                bail!("the node is not ready ({ended:?}):\n{}", fs::read_to_string(log).unwrap_or_default());
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// Ends it as a service is ended.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.process.child), Signal::TERM)?;
        let began = Instant::now();
        while self.process.child.try_wait()?.is_none() {
            ensure!(began.elapsed() < STOP_MAX, "the node does not end");
            tokio::time::sleep(READY_POLL).await;
        }
        Ok(())
    }
}

/// What /proc says of a process.
struct Stat {
    parent: u32,
    /// Of all its threads, in user and kernel mode.
    cpu: Duration,
    /// Of its children that have ended.
    ended: Duration,
}

fn stat(process: u32) -> anyhow::Result<Stat> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the program's name in parentheses, the fourth the parent; the times are the 14th to the 17th.
    let (_, rest) = stat.rsplit_once(") ").context("a line of /proc/PID/stat")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let number = |field: usize| -> anyhow::Result<u64> { Ok(fields.get(field).context("a field")?.parse()?) };
    let time = |first: usize| -> anyhow::Result<Duration> {
        Ok(Duration::from_millis((number(first)? + number(first + 1)?) * 1_000 / TICKS_A_SECOND))
    };
    Ok(Stat { parent: u32::try_from(number(1)?)?, cpu: time(11)?, ended: time(13)? })
}

/// The processor time of a process, of its children that live, and of those that have ended.
pub(crate) fn family_cpu(parent: u32) -> anyhow::Result<Duration> {
    let own = stat(parent)?;
    let mut all = own.cpu + own.ended;
    for entry in fs::read_dir("/proc")? {
        let process = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        // One that ends meanwhile is no error.
        let child = process.and_then(|process| stat(process).ok()).filter(|child| child.parent == parent);
        all += child.map_or(Duration::ZERO, |child| child.cpu);
    }
    Ok(all)
}

/// An address that nobody has now.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
