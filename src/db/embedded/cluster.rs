//! The cluster's files: made once, whole or not at all, and checked at every start.

use std::fs::{self, DirBuilder, File};
use std::io::{Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use super::error::Error;
use super::home::{Password, private, read_small, remove};
use super::launch::{Argument, Launch, Profile};

/// The superuser that `initdb` makes; only this module signs in as it.
pub(super) const SUPERUSER: &str = "postgres";
/// Its password's file, below the data directory.
pub(super) const SUPERUSER_PASSWORD: &str = "postgres.superuser.password";
/// `initdb` takes about two seconds; a slow disk is given this long.
const INITDB_SECONDS_MAX: u64 = 180;
/// A cluster in the making; never used, and removed by the next start.
const UNFINISHED: &str = "cluster.new-";

/// The major version of the cluster, `None` when there is no cluster yet.
///
/// # Errors
/// What stands in its place is not a cluster, or others may enter it.
pub(super) fn major(cluster: &Path) -> Result<Option<u32>, Error> {
    let meta = match fs::symlink_metadata(cluster) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("look at", cluster)(error)),
    };
    if !meta.is_dir() {
        return Err(Error::refused(cluster, "is not a directory; move it away"));
    }
    if meta.mode() & 0o077 != 0 {
        let mend = format!("is open to other users; run: chmod 700 '{}'", cluster.display());
        return Err(Error::refused(cluster, mend));
    }
    let version = read_small(&cluster.join("PG_VERSION"))?
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.trim().parse().ok());
    version.map(Some).ok_or_else(|| {
        Error::refused(
            cluster,
            "holds no PG_VERSION, so it is not a PostgreSQL cluster; put back a backup or move it away",
        )
    })
}

/// Makes the cluster under a temporary name and gives it its own when it is whole and on disk.
pub(super) async fn make(launch: &Launch) -> Result<(), Error> {
    let home = &launch.home;
    let password = home.password_or_new(SUPERUSER_PASSWORD)?;
    let fresh = home.path().join(format!("{UNFINISHED}{}", home.random_name()?));
    DirBuilder::new().mode(0o700).create(&fresh).map_err(Error::io("make", &fresh))?;
    if let Some(user) = launch.user {
        // Ours since the line above, inside a directory that only we may enter.
        lchown(&fresh, Some(user.uid), Some(user.gid)).map_err(Error::io("hand over", &fresh))?;
    }
    tracing::info!(bin = %launch.programs.bin.display(), "making the private PostgreSQL's cluster");
    initdb(launch, &fresh, &password).await?;
    let cluster = home.cluster();
    fs::rename(&fresh, &cluster).map_err(Error::io("name", &cluster))?;
    home.sync()
}

async fn initdb(launch: &Launch, directory: &Path, password: &Password) -> Result<(), Error> {
    let argument = Argument::new(directory, launch.user)?;
    let mut command = launch.command(&launch.programs.initdb())?;
    command
        .arg("-D")
        .arg(argument.text())
        .args(["--auth=scram-sha-256", "--pwfile=/dev/stdin", "--encoding=UTF8", "--locale=C", "--data-checksums"])
        .args([format!("--username={SUPERUSER}"), "--no-instructions".to_owned()])
        .stdin(password_file(launch, password)?);
    if launch.profile == Profile::Throwaway {
        command.arg("--no-sync");
    }
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn().map_err(Error::io("run", &launch.programs.initdb()))?;
    drop(argument);
    match timeout(Duration::from_secs(INITDB_SECONDS_MAX), child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(launch.home.failed(format!("initdb failed ({status})"))),
        Ok(Err(error)) => Err(Error::io("wait for", &launch.programs.initdb())(error)),
        Err(_) => Err(launch.home.failed(format!("initdb did not finish within {INITDB_SECONDS_MAX} s"))),
    }
}

/// The superuser's password as a file without a name that the server's user may read: `initdb` opens it through
/// `/dev/stdin`, which for a pipe of root's would be refused, and a password has no place on a command line.
fn password_file(launch: &Launch, password: &Password) -> Result<File, Error> {
    let path = launch.home.path().join("initdb.password");
    remove(&path)?;
    let mut file = private().read(true).write(true).create_new(true).open(&path).map_err(Error::io("make", &path))?;
    remove(&path)?;
    file.write_all(password.reveal().as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.rewind())
        .map_err(Error::io("write", &path))?;
    if let Some(user) = launch.user {
        fchown(&file, Some(user.uid), Some(user.gid)).map_err(Error::io("hand over", &path))?;
    }
    Ok(file)
}

/// What interrupted runs of `initdb` left.
pub(super) fn unfinished(data_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data_dir).map_err(Error::io("list", data_dir))? {
        let entry = entry.map_err(Error::io("list", data_dir))?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
