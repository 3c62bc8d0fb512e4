//! The data directory: what lies in it, who may read it, and how its files are written.
//!
//! The directory, the lock, the passwords and the log belong to the service's user. Only the cluster below it belongs
//! to the user that runs PostgreSQL. A directory that the service did not make is never changed, only refused.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use rustix::fs::OFlags;

use super::error::Error;

/// A log larger than this is set aside, and the one set aside before is dropped.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How much of the log's end goes into an error.
const LOG_TAIL_BYTES_MAX: u64 = 2048;
/// No small file that is read whole (passwords, process ids, versions) is larger.
const SMALL_FILE_BYTES_MAX: u64 = 8192;
/// Random bytes in a password.
const PASSWORD_BYTES: usize = 32;
/// Random bytes in a name that must not be guessed or met twice.
const NAME_BYTES: usize = 12;

/// A password, in base64url. It has no `Display`, and `Debug` hides it.
#[derive(Clone)]
pub(super) struct Password(String);

impl Password {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// An absolute data directory that is ours alone.
#[derive(Debug, Clone)]
pub(super) struct Home(PathBuf);

impl Home {
    /// Makes the directory (0700) when it is missing, and refuses one that others own or may enter.
    pub(super) fn open(data_dir: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(Error::io("make the data directory", data_dir))?;
        let path = data_dir.canonicalize().map_err(Error::io("find", data_dir))?;
        let meta = fs::metadata(&path).map_err(Error::io("look at", &path))?;
        let ours = rustix::process::geteuid().as_raw();
        if meta.uid() != ours {
            return Err(Error::refused(
                &path,
                format!(
                    "the data directory belongs to user {}, this process is user {ours}; \
                     run it as that user, or set MCPA_DATA_DIR to a directory of its own",
                    meta.uid()
                ),
            ));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(Error::refused(
                &path,
                format!(
                    "the data directory is open to other users (mode {:04o}) and will hold keys and passwords; \
                     run: chmod 700 '{}'",
                    meta.mode() & 0o7777,
                    path.display()
                ),
            ));
        }
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.0.join("cluster")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("postgres.log")
    }

    /// PostgreSQL's log, opened for appending by us, so that its user needs no right on our directory.
    pub(super) fn open_log(&self) -> Result<File, Error> {
        let path = self.log();
        private().append(true).create(true).open(&path).map_err(Error::io("open", &path))
    }

    /// Sets a large log aside. PostgreSQL may be writing to it: it appends, so it goes on at the start of the emptied
    /// file; a line written between the two steps is lost.
    pub(super) fn bound_log(&self) -> Result<(), Error> {
        let path = self.log();
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
            fs::copy(&path, self.0.join("postgres.log.1"))
                .and_then(|_| private().write(true).open(&path)?.set_len(0))
                .map_err(Error::io("set aside", &path))?;
        }
        Ok(())
    }

    /// A failure of a PostgreSQL program, with the end of the log.
    pub(super) fn failed(&self, step: impl Into<String>) -> Error {
        let tail = self.log_tail().unwrap_or_default();
        Error::Failed { step: step.into(), log: self.log(), tail }
    }

    fn log_tail(&self) -> std::io::Result<String> {
        let mut file = private().read(true).open(self.log())?;
        let start = file.metadata()?.len().saturating_sub(LOG_TAIL_BYTES_MAX);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The password kept in the file `name`, if there is one.
    pub(super) fn password(&self, name: &str) -> Result<Option<Password>, Error> {
        let path = self.0.join(name);
        let Some(bytes) = read_small(&path)? else { return Ok(None) };
        // Whatever else stands in the file is not a password of ours; it must not reach a connection or a statement.
        match String::from_utf8(bytes) {
            Ok(text) if BASE64_URL_SAFE_NO_PAD.decode(&text).is_ok_and(|raw| raw.len() == PASSWORD_BYTES) => {
                Ok(Some(Password(text)))
            }
            _ => Err(Error::refused(&path, "is damaged; put it back from a backup of the data directory")),
        }
    }

    /// The password kept in the file `name`; a new random one, on disk before this returns, when there is none.
    pub(super) fn password_or_new(&self, name: &str) -> Result<Password, Error> {
        if let Some(password) = self.password(name)? {
            return Ok(password);
        }
        let password = Password(random::<PASSWORD_BYTES>(&self.0)?);
        self.write(name, password.0.as_bytes())?;
        Ok(password)
    }

    /// Writes a file (0600) whole or not at all, and to disk.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.0.join(name);
        let fresh = self.0.join(format!("{name}.new"));
        let written = private()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&fresh)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        written.and_then(|()| fs::rename(&fresh, &path)).map_err(Error::io("write", &path))?;
        self.sync()
    }

    /// Brings the directory's entries to disk.
    pub(super) fn sync(&self) -> Result<(), Error> {
        File::open(&self.0).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", &self.0))
    }

    /// A name nobody can guess.
    pub(super) fn random_name(&self) -> Result<String, Error> {
        random::<NAME_BYTES>(&self.0)
    }
}

/// Options for a file that only we may read and that is not a link.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// The whole of a small file, `None` when it is missing. Links are not followed: files in the cluster belong to another
/// user, who must not be able to make root read a file of its choice.
pub(super) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let mut options = private();
    // Without NONBLOCK, opening a pipe that somebody put there would wait for ever.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match options.read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(SMALL_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(Some(bytes))
}

/// Removes a file; that it is gone already is fine.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn random<const N: usize>(home: &Path) -> Result<String, Error> {
    let mut bytes = [0_u8; N];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| Error::io("draw random bytes for", home)(std::io::Error::other(error)))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}
