//! The processes of one cluster, found without trusting what the cluster's own files say.
//!
//! A postmaster and its children work inside the cluster's folder. On Linux that is how they are recognised, together
//! with their user and their name; so a reused process id, or an id that somebody wrote into `postmaster.pid`, never
//! makes the service – perhaps root – signal a stranger.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::home::read_small;

/// How often a condition is looked at while waiting for it.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// What a postmaster writes into its cluster about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: u32,
    /// It accepts connections.
    pub(super) ready: bool,
}

/// The name of that file.
pub(super) const PID_FILE: &str = "postmaster.pid";

/// Reads `postmaster.pid`; `None` when it is missing or half written.
pub(super) fn pid_file(cluster: &Path) -> Option<PidFile> {
    let text = String::from_utf8(read_small(&cluster.join(PID_FILE)).ok()??).ok()?;
    parse(&text)
}

/// Line 1 is the process id, line 8 the state.
fn parse(text: &str) -> Option<PidFile> {
    let pid = text.lines().next()?.trim().parse().ok()?;
    let ready = text.lines().nth(7).is_some_and(|state| state.trim() == "ready");
    Some(PidFile { pid, ready })
}

/// Sends a signal; that the process is gone already is fine.
pub(super) fn signal(pid: u32, signal: Signal) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!(%error, "a process of the private PostgreSQL was gone before its signal");
    }
}

/// Whether `done` holds within `limit`.
pub(super) async fn settles(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !done() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(POLL).await;
    }
    true
}

/// The living processes of the cluster that belong to its owner. Zombies do not count.
#[cfg(target_os = "linux")]
pub(super) fn of_cluster(cluster: &Path) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;

    let Ok(meta) = std::fs::metadata(cluster) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let inside = |process: &Path| {
        // A file's mode and owner say nothing through this link: it leads to the folder itself.
        let folder = std::fs::metadata(process.join("cwd"));
        let owner = std::fs::metadata(process).map(|found| found.uid());
        let name = read_small(&process.join("comm")).ok().flatten();
        folder.is_ok_and(|folder| (folder.dev(), folder.ino()) == (meta.dev(), meta.ino()))
            && owner.is_ok_and(|owner| owner == meta.uid())
            && name.is_some_and(|name| name.starts_with(b"postgres"))
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| inside(&Path::new("/proc").join(pid.to_string())))
        .collect()
}

/// Without `/proc`: the process that `postmaster.pid` names, if its command line names this cluster.
#[cfg(not(target_os = "linux"))]
pub(super) fn of_cluster(cluster: &Path) -> Vec<u32> {
    let Some(file) = pid_file(cluster) else { return Vec::new() };
    let output = std::process::Command::new("/bin/ps")
        .args(["-ww", "-o", "command=", "-p", &file.pid.to_string()])
        .env_clear()
        .stdin(std::process::Stdio::null())
        .output();
    let line = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let ours = line.contains("postgres -D") && line.contains(&*cluster.to_string_lossy());
    if ours { vec![file.pid] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_file_with_its_state_is_ready() {
        let head = "4711\n/proc/self/fd/9\n1795410442\n5432\n.\n\n 10117127         9\n";
        assert_eq!(parse(&format!("{head}ready   \n")), Some(PidFile { pid: 4711, ready: true }));
        assert_eq!(parse(&format!("{head}starting\n")), Some(PidFile { pid: 4711, ready: false }));
        assert_eq!(parse(head), Some(PidFile { pid: 4711, ready: false }));
        assert_eq!(parse(""), None);
        assert_eq!(parse("../etc\n"), None);
    }

    #[test]
    fn no_process_is_invented() {
        let dir = tempfile::tempdir().unwrap();
        assert!(of_cluster(dir.path()).is_empty());
        assert!(of_cluster(Path::new("/does/not/exist")).is_empty());
    }
}
