//! What can go wrong with the private PostgreSQL, each with its mend.

use std::path::{Path, PathBuf};

/// Why the private PostgreSQL cannot be used. The text of each variant is meant for the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable `postgres` and `initdb` on this machine.
    #[error(
        "the PostgreSQL server programs (postgres and initdb, version {minimum} or newer) were not found.\n\
         Debian, Ubuntu: apt install postgresql\n\
         Fedora: dnf install postgresql-server\n\
         macOS: brew install postgresql@17\n\
         The other way: set MCPA_DATABASE_URL to a PostgreSQL that runs already."
    )]
    Missing {
        /// The oldest major version that is accepted.
        minimum: u32,
    },
    /// The cluster was made by a major version whose programs are not here.
    #[error(
        "the cluster {cluster} was made by PostgreSQL {found}, but only PostgreSQL {ours} is installed. \
         Either install PostgreSQL {found} again, or bring the cluster to version {ours} with pg_upgrade: \
         stop the service, make an empty cluster with the new initdb (superuser postgres, data checksums, \
         locale C, encoding UTF8), then run \
         pg_upgrade --old-bindir=<bin directory of PostgreSQL {found}> --new-bindir={bin} \
         --old-datadir={cluster} --new-datadir=<the empty cluster> --username=postgres, \
         and put the new cluster in the place of the old one"
    )]
    Version {
        /// The cluster's directory.
        cluster: PathBuf,
        /// The major version that made the cluster.
        found: u32,
        /// The newest major version installed.
        ours: u32,
        /// The directory of the installed programs.
        bin: PathBuf,
    },
    /// Another service holds the data directory.
    #[error(
        "another service (process {pid}) is running on the data directory {data_dir}; \
         stop it first, or give this one a directory of its own with MCPA_DATA_DIR"
    )]
    Running {
        /// The other service's process id.
        pid: u32,
        /// The directory both want.
        data_dir: PathBuf,
    },
    /// Another process did not let go of the data directory, or did not become ready, in time.
    #[error("process {pid} has held the data directory {data_dir} for {seconds} s; wait for it to end, then try again")]
    Busy {
        /// The other process, 0 when it has not named itself.
        pid: u32,
        /// The directory both want.
        data_dir: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// A directory or file is not as it must be; nothing was changed.
    #[error("{path}: {problem}")]
    Refused {
        /// What was looked at.
        path: PathBuf,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// A PostgreSQL program failed or did not finish in time.
    #[error("{step}; the last lines of {log}:\n{tail}")]
    Failed {
        /// What did not work.
        step: String,
        /// PostgreSQL's log.
        log: PathBuf,
        /// The end of that log.
        tail: String,
    },
    /// The operating system refused something.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// PostgreSQL runs but refused a statement or a connection.
    #[error("the private PostgreSQL answered: {0}")]
    Database(#[from] sqlx::Error),
}

impl Error {
    /// Wraps a system error: `map_err(Error::io("open", path))`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// A directory or file that must not be used as it is.
    pub(super) fn refused(path: &Path, problem: impl Into<String>) -> Self {
        Self::Refused { path: path.to_owned(), problem: problem.into() }
    }
}
