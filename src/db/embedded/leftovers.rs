//! Clears what a killed predecessor left behind. Called only by the holder of the lock, before it starts anything.
//!
//! A postmaster that outlived its service is stopped rather than taken over: it may run with other settings, and it
//! would be nobody's child, so its end could not be noticed.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::cluster;
use super::error::Error;
use super::home::{Home, remove};
use super::lock::Record;
use super::processes::{PID_FILE, of_cluster, pid_file, settles, signal};
use super::socket;

/// A fast shutdown writes a checkpoint; after this long it is cut short.
pub(super) const FAST_STOP_SECONDS_MAX: u64 = 30;
/// An immediate shutdown only ends processes.
pub(super) const IMMEDIATE_STOP_SECONDS_MAX: u64 = 8;
/// Children of a postmaster that was killed notice it and end by themselves within this time.
const ORPHANS_SECONDS_MAX: u64 = 5;
/// How long the system may take to remove a process that was killed outright.
const KILL_SECONDS_MAX: u64 = 5;
/// How often the removal of a cluster in the making is tried.
const REMOVALS_MAX: u32 = 5;

/// Afterwards no process works in the cluster, and no file says that one does.
///
/// # Errors
/// A process of the cluster cannot be ended, or a file cannot be removed.
pub(super) async fn clear(home: &Home) -> Result<(), Error> {
    let cluster = home.cluster();
    end(&cluster).await?;
    let recorded = Record::read(home)?;
    socket::remove_stale(&cluster, recorded.as_ref().map(|record| record.socket_dir.as_path()))?;
    Record::remove(home)?;
    for directory in cluster::unfinished(home.path())? {
        tracing::warn!(path = %directory.display(), "removing a cluster whose making was interrupted");
        remove_unfinished(&directory).await?;
    }
    Ok(())
}

/// Removes a cluster in the making. An `initdb` that outlived its service may still add to it, but only until it finds
/// its folder gone.
async fn remove_unfinished(directory: &Path) -> Result<(), Error> {
    let mut result = Ok(());
    for _ in 0..REMOVALS_MAX {
        end_orphans(directory).await?;
        result = std::fs::remove_dir_all(directory);
        if result.is_ok() {
            break;
        }
    }
    result.map_err(Error::io("remove", directory))
}

/// Afterwards no process works in the cluster, and `postmaster.pid` names none.
pub(super) async fn end(cluster: &Path) -> Result<(), Error> {
    stop_postmaster(cluster).await;
    end_orphans(cluster).await?;
    if cfg!(target_os = "linux") {
        // No process is left that could hold the old shared memory, which is what PostgreSQL reads this file for; and
        // its process id may be somebody else's by now, for which PostgreSQL would refuse to start. Elsewhere children
        // of a killed postmaster are not found, and PostgreSQL's own check has to stand.
        remove(&cluster.join(PID_FILE))?;
    }
    Ok(())
}

/// Fast, then immediate; what is left after that is an orphan.
async fn stop_postmaster(cluster: &Path) {
    let Some(file) = pid_file(cluster) else { return };
    let steps = [(Signal::INT, FAST_STOP_SECONDS_MAX), (Signal::QUIT, IMMEDIATE_STOP_SECONDS_MAX)];
    for (number, seconds) in steps {
        if !of_cluster(cluster).contains(&file.pid) {
            return;
        }
        tracing::warn!(pid = file.pid, "stopping the PostgreSQL that outlived its service");
        signal(file.pid, number);
        settles(Duration::from_secs(seconds), || !of_cluster(cluster).contains(&file.pid)).await;
    }
}

async fn end_orphans(cluster: &Path) -> Result<(), Error> {
    let gone = || of_cluster(cluster).is_empty();
    if settles(Duration::from_secs(ORPHANS_SECONDS_MAX), gone).await {
        return Ok(());
    }
    for pid in of_cluster(cluster) {
        tracing::warn!(pid, "killing a process of PostgreSQL that outlived its postmaster");
        signal(pid, Signal::KILL);
    }
    if settles(Duration::from_secs(KILL_SECONDS_MAX), gone).await {
        return Ok(());
    }
    Err(Error::refused(cluster, format!("its processes {:?} cannot be ended; end them", of_cluster(cluster))))
}
