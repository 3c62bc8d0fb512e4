//! How a PostgreSQL program is started: as which user, with which environment, and how it reaches the cluster.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::FdFlags;

use super::error::Error;
use super::home::Home;
use super::programs::Programs;
use super::user::ServerUser;

/// The link through which a Linux process reaches its open files whatever the rights on the path to them.
const OWN_FILES: &str = "/proc/self/fd";

/// Everything that stays the same between two starts of the cluster by one process.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) home: Home,
    pub(super) programs: Programs,
    pub(super) user: Option<ServerUser>,
    /// What is given up for speed, see [`Profile`].
    pub(super) profile: Profile,
}

/// What the cluster is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// Everything committed survives a crash of the machine.
    Durable,
    /// For tests: survives a kill of the processes, not of the machine; the role may create databases.
    Throwaway,
}

impl Launch {
    /// A program in its own process group – so that Ctrl-C in a terminal reaches the service alone, which then stops
    /// PostgreSQL when nothing uses it any more – with an environment that holds no secret of the service and no `PG*`
    /// variable, and with its output in the log.
    pub(super) fn command(&self, program: &Path) -> Result<Command, Error> {
        let log = self.home.open_log()?;
        let errors = log.try_clone().map_err(Error::io("open", &self.home.log()))?;
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("LC_ALL", "C"), ("TZ", "UTC")])
            // Our own directory may be one that the server's user cannot enter.
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        if let Some(user) = self.user {
            // The standard library drops root's supplementary groups with this.
            command.gid(user.gid).uid(user.uid);
        }
        Ok(command)
    }
}

/// A directory as an argument of a program that may run as another user.
///
/// On Linux as root the directory is opened here and named by its descriptor, because the other user may be unable to
/// walk to it (`/root/…`). `initdb`, the postmaster and all their children inherit the descriptor, and the postmaster
/// works inside the directory from then on. Elsewhere, and as an ordinary user, it is the path.
pub(super) struct Argument {
    text: OsString,
    /// Keeps the descriptor open until the program runs.
    _open: Option<OwnedFd>,
}

impl Argument {
    pub(super) fn new(directory: &Path, user: Option<ServerUser>) -> Result<Self, Error> {
        if user.is_none() || !Path::new(OWN_FILES).is_dir() {
            return Ok(Self { text: directory.into(), _open: None });
        }
        let open = OwnedFd::from(File::open(directory).map_err(Error::io("open", directory))?);
        // Inherited from here until this value is dropped. A program that another thread starts in between gets a
        // descriptor of a directory it has no right to read, and no more.
        rustix::io::fcntl_setfd(&open, FdFlags::empty())
            .map_err(|error| Error::io("hand on", directory)(error.into()))?;
        let text = PathBuf::from(OWN_FILES).join(open.as_raw_fd().to_string()).into_os_string();
        Ok(Self { text, _open: Some(open) })
    }

    pub(super) fn text(&self) -> &OsString {
        &self.text
    }
}
