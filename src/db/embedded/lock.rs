//! Who may start and stop the cluster: one process at a time, by a file lock in the data directory.
//!
//! The holder owns the postmaster. A service holds the lock for its life. A command holds it only when no service
//! does; then it runs the cluster for itself, and a service that starts meanwhile waits for it. A command that finds a
//! service holding the lock is its guest. The system drops the lock when the holder dies, however it dies; the file
//! stays, because removing it would let two processes lock two files of one name.
//!
//! The file names the holder. What it says is valid only while the lock is held, and for an instant after the lock
//! was taken it still names the holder before; so readers look again (`Holder` and `Record` carry the same `start`).

use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::home::{Home, private, read_small, remove};

/// Who holds the lock, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `serve`: one at a time on a data directory, for as long as it runs.
    Service,
    /// A command such as `admin` or `audit`: beside a service it is a guest, alone it runs the cluster for itself.
    Command,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Command => "command",
        }
    }
}

/// What the lock file says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) role: Role,
    pub(super) pid: u32,
    /// A random name of this one start.
    start: String,
}

/// The lock, held until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    start: String,
}

impl Lock {
    /// Takes the lock, or says that another process has it (`None`).
    pub(super) fn try_take(home: &Home, role: Role) -> Result<Option<Self>, Error> {
        let path = file(home);
        let options_error = Error::io("open", &path);
        let mut file =
            private().read(true).write(true).create(true).truncate(false).open(&path).map_err(options_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        let start = home.random_name()?;
        let line = format!("{} {} {start}\n", role.name(), std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(line.as_bytes()))
            .map_err(Error::io("write", &path))?;
        Ok(Some(Self { file, start }))
    }

    /// Tells guests that the cluster is ready, and where.
    pub(super) fn publish(&self, home: &Home, socket_dir: &Path) -> Result<(), Error> {
        let mut bytes = format!("{}\n", self.start).into_bytes();
        bytes.extend_from_slice(socket_dir.as_os_str().as_bytes());
        home.write(RECORD, &bytes)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Emptied before it is let go, so that nobody reads the name of a holder that has left. If this fails, the
        // next holder overwrites it.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

/// The lock's file name, below the data directory.
const LOCK: &str = "service.lock";
/// The record's file name, below the data directory.
const RECORD: &str = "postgres.socket";

fn file(home: &Home) -> PathBuf {
    home.path().join(LOCK)
}

/// The holder as the file names it; `None` while the file is empty or half written.
pub(super) fn holder(home: &Home) -> Result<Option<Holder>, Error> {
    Ok(read_small(&file(home))?.as_deref().and_then(parse))
}

fn parse(bytes: &[u8]) -> Option<Holder> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let mut words = text.split(' ');
    let role = match words.next()? {
        "service" => Role::Service,
        "command" => Role::Command,
        _ => return None,
    };
    Some(Holder { role, pid: words.next()?.parse().ok()?, start: words.next()?.to_owned() })
}

/// Where the cluster of a holder listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    start: String,
    pub(super) socket_dir: PathBuf,
}

impl Record {
    /// The record on disk, if any; it may be a dead predecessor's.
    pub(super) fn read(home: &Home) -> Result<Option<Self>, Error> {
        let Some(bytes) = read_small(&home.path().join(RECORD))? else { return Ok(None) };
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let (start, rest) = bytes.split_at(end);
        let path = rest.get(1..).unwrap_or_default().to_vec();
        Ok(Some(Self {
            start: String::from_utf8_lossy(start).into_owned(),
            socket_dir: PathBuf::from(std::ffi::OsString::from_vec(path)),
        }))
    }

    /// Whether this holder wrote it.
    pub(super) fn is_of(&self, holder: &Holder) -> bool {
        self.start == holder.start
    }

    /// Removes the record.
    pub(super) fn remove(home: &Home) -> Result<(), Error> {
        remove(&home.path().join(RECORD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_names_nobody() {
        let whole = Holder { role: Role::Service, pid: 42, start: "abc".to_owned() };
        assert_eq!(parse(b"service 42 abc\n"), Some(whole));
        for half in [&b""[..], b"serv", b"service 4", b"service 42 abc", b"guest 42 abc\n", b"service x abc\n"] {
            assert_eq!(parse(half), None, "{half:?}");
        }
    }
}
