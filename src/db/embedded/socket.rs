//! Where the cluster listens: in its own folder, or, when that path is too long for a socket, in a folder of its own
//! under the temporary directory.

use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::home::{Home, remove};
use super::user::ServerUser;

/// The port is only a part of the socket's name; nothing listens on TCP.
pub(super) const PORT: u16 = 5432;
const SOCKET: &str = ".s.PGSQL.5432";
const SOCKET_LOCK: &str = ".s.PGSQL.5432.lock";
/// `sun_path` without its final zero.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "macos") { 103 } else { 107 };
/// Begins the name of a folder made here, so that only such a folder is ever removed.
const TEMPORARY: &str = "mcp-authority-";

/// The folder of the socket.
#[derive(Debug)]
pub(super) struct SocketDir {
    /// An absolute path, short enough for clients.
    pub(super) path: PathBuf,
    temporary: bool,
}

impl SocketDir {
    /// The cluster's folder when clients can name a socket in it, else the name of a new folder nobody can guess.
    pub(super) fn choose(home: &Home, user: Option<ServerUser>) -> Result<Self, Error> {
        let cluster = home.cluster();
        if fits(&cluster) {
            return Ok(Self { path: cluster, temporary: false });
        }
        let name = format!("{TEMPORARY}{}", home.random_name()?);
        let wished = std::env::temp_dir().join(&name);
        let path = if usable(&wished, user) { wished } else { Path::new("/tmp").join(&name) };
        Ok(Self { path, temporary: true })
    }

    /// Makes the temporary folder (0700, of the server's user) when it is missing: at the first start, and again when
    /// somebody tidied the temporary directory.
    pub(super) fn make(&self, user: Option<ServerUser>) -> Result<(), Error> {
        let path = &self.path;
        if !self.temporary || is_ours(path, user) {
            return Ok(());
        }
        // Fails when something of that name is there, so nobody can put a folder of theirs in its place.
        DirBuilder::new().mode(0o700).create(path).map_err(Error::io("make", path))?;
        if let Some(user) = user {
            lchown(path, Some(user.uid), Some(user.gid)).map_err(Error::io("hand over", path))?;
        }
        Ok(())
    }

    /// What PostgreSQL is told. It works inside the cluster's folder, so `.` means that folder even to a user who
    /// cannot walk to it.
    pub(super) fn setting(&self) -> String {
        if self.temporary { self.path.to_string_lossy().into_owned() } else { ".".to_owned() }
    }

    /// Removes a temporary folder; the cluster's own stays.
    pub(super) fn remove(&self) -> Result<(), Error> {
        if self.temporary { remove_temporary(&self.path) } else { Ok(()) }
    }
}

/// Removes what a dead postmaster left to listen on, so that a reused process id in it cannot stop the next one.
pub(super) fn remove_stale(cluster: &Path, recorded: Option<&Path>) -> Result<(), Error> {
    clear(cluster)?;
    match recorded {
        Some(path) if path != cluster => remove_temporary(path),
        _ => Ok(()),
    }
}

/// Removes a folder that [`SocketDir::choose`] made, and nothing else: neither another name nor anything inside it
/// that is not a socket's.
fn remove_temporary(path: &Path) -> Result<(), Error> {
    let ours = path.file_name().is_some_and(|name| name.as_bytes().starts_with(TEMPORARY.as_bytes()));
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !ours || !meta.is_dir() || meta.mode() & 0o077 != 0 {
        return Ok(());
    }
    clear(path)?;
    if let Err(error) = fs::remove_dir(path) {
        // An empty folder left in the temporary directory is no reason to refuse a start or to fail a stop.
        tracing::warn!(path = %path.display(), %error, "cannot remove the socket's temporary folder");
    }
    Ok(())
}

/// Removes a socket and its lock.
pub(super) fn clear(directory: &Path) -> Result<(), Error> {
    remove(&directory.join(SOCKET))?;
    remove(&directory.join(SOCKET_LOCK))
}

fn is_ours(path: &Path, user: Option<ServerUser>) -> bool {
    let uid = user.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid);
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == uid && matches!(meta.mode() & 0o077, 0))
}

fn fits(directory: &Path) -> bool {
    directory.as_os_str().len() + 1 + SOCKET.len() <= SOCKET_PATH_BYTES_MAX
}

/// Whether a folder can lie there: short, without a character that means something in PostgreSQL's list of folders,
/// and below folders that the server's user may enter.
fn usable(directory: &Path, user: Option<ServerUser>) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(byte);
    let entered = |folder: &Path| fs::metadata(folder).is_ok_and(|meta| meta.mode() & 0o001 != 0);
    directory.is_absolute()
        && fits(directory)
        && directory.as_os_str().as_bytes().iter().all(plain)
        && (user.is_none() || directory.ancestors().skip(1).all(entered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_has_at_most_107_bytes() {
        let room = SOCKET_PATH_BYTES_MAX - 1 - SOCKET.len();
        let path = |bytes: usize| PathBuf::from(format!("/{}", "x".repeat(bytes - 1)));
        assert!(fits(&path(room)));
        assert!(!fits(&path(room + 1)));
    }

    #[test]
    fn only_plain_reachable_folders_are_used() {
        let other = Some(ServerUser { uid: 65_534, gid: 65_534 });
        assert!(usable(Path::new("/tmp/mcp-authority-x"), other));
        assert!(!usable(Path::new("/tmp/a,b"), other));
        assert!(!usable(Path::new("relative/x"), None));
        assert!(!usable(Path::new("/does-not-exist/x"), other));
    }

    #[test]
    fn a_folder_of_another_name_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("precious");
        let ours = dir.path().join("mcp-authority-abc");
        for path in [&other, &ours] {
            DirBuilder::new().mode(0o700).create(path).unwrap();
            remove_temporary(path).unwrap();
        }
        assert!(other.exists());
        assert!(!ours.exists());
    }
}
