//! Finds the PostgreSQL server programs on this machine; nothing is ever downloaded.
//!
//! Order: what the operator chose (`PATH`, then `pg_config --bindir`), then the places of the usual packages, newest
//! first. A cluster that exists is served by the programs of its own major version when they are installed, so that an
//! upgrade of the packages does not stop the service.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::Error;

/// The oldest major version whose options and roles behave as this module expects.
const MAJOR_MIN: u32 = 15;
/// More folders than this are not looked at.
const FOLDERS_MAX: usize = 128;
/// Parents of per-version folders (`<parent>/<prefix>*<suffix>`): Debian and Ubuntu, the PostgreSQL project's RPMs,
/// Homebrew on Apple silicon and on Intel, Postgres.app.
const PACKAGES: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// A set of server programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The folder that holds `postgres` and `initdb`.
    pub bin: PathBuf,
    /// The major version, such as 15.
    pub major: u32,
}

impl Programs {
    pub(super) fn postgres(&self) -> PathBuf {
        self.bin.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.bin.join("initdb")
    }
}

/// The programs a new cluster would be made with.
///
/// # Errors
/// [`Error::Missing`] when there are none; its text says what to install.
pub fn find_programs() -> Result<Programs, Error> {
    choose(&installed(), None, Path::new(""))
}

/// The usable programs in the given folders, in their order, each folder once.
#[must_use]
pub fn programs_in(folders: &[PathBuf]) -> Vec<Programs> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for folder in folders.iter().filter(|folder| folder.is_absolute()).take(FOLDERS_MAX) {
        let Ok(bin) = folder.canonicalize() else { continue };
        if seen.contains(&bin) || !executable(&bin.join("postgres")) || !executable(&bin.join("initdb")) {
            continue;
        }
        seen.push(bin.clone());
        if let Some(major) = major_of(&bin.join("postgres")).filter(|major| *major >= MAJOR_MIN) {
            found.push(Programs { bin, major });
        }
    }
    found
}

/// Picks from `found` (best first): the cluster's own major version, or the first when there is no cluster yet.
///
/// # Errors
/// [`Error::Missing`] when `found` is empty, [`Error::Version`] when the cluster needs another major version.
pub fn choose(found: &[Programs], cluster_major: Option<u32>, cluster: &Path) -> Result<Programs, Error> {
    let first = found.first().ok_or(Error::Missing { minimum: MAJOR_MIN })?;
    let Some(wanted) = cluster_major else { return Ok(first.clone()) };
    found.iter().find(|programs| programs.major == wanted).cloned().ok_or_else(|| {
        let newest = found.iter().max_by_key(|programs| programs.major).unwrap_or(first);
        Error::Version { cluster: cluster.to_owned(), found: wanted, ours: newest.major, bin: newest.bin.clone() }
    })
}

/// All usable programs on this machine, best first.
#[expect(clippy::disallowed_methods, reason = "PATH is not a setting of the service; it is where programs are")]
pub(super) fn installed() -> Vec<Programs> {
    let path: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let mut chosen = path.clone();
    chosen.extend(path.iter().map(|folder| folder.join("pg_config")).find_map(|program| bindir(&program)));
    let mut found = programs_in(&chosen);
    let mut packaged = programs_in(&package_folders());
    packaged.sort_by_key(|programs| std::cmp::Reverse(programs.major));
    packaged.retain(|programs| !found.contains(programs));
    found.extend(packaged);
    found
}

fn package_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for (parent, prefix, suffix) in PACKAGES {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        let named = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        folders.extend(named.map(|entry| entry.path().join(suffix)).take(FOLDERS_MAX));
    }
    folders
}

fn executable(program: &Path) -> bool {
    fs::metadata(program).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn bindir(pg_config: &Path) -> Option<PathBuf> {
    let text = executable(pg_config).then(|| answer(pg_config, "--bindir")).flatten()?;
    Some(PathBuf::from(text.trim_end()))
}

fn major_of(postgres: &Path) -> Option<u32> {
    parse_major(&answer(postgres, "--version")?)
}

/// What a program prints for one argument. The environment is empty: it may hold secrets of the service.
fn answer(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).env_clear().stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` → 15; also `17beta1` → 17.
fn parse_major(text: &str) -> Option<u32> {
    let version = text.split_once("(PostgreSQL) ")?.1;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(major: u32) -> Programs {
        Programs { bin: PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")), major }
    }

    #[test]
    fn the_version_is_read_from_every_form() {
        for (text, major) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 17beta1\n", Some(17)),
            ("postgres (PostgreSQL) devel\n", None),
            ("something else 15.1\n", None),
        ] {
            assert_eq!(parse_major(text), major, "{text}");
        }
    }

    #[test]
    fn a_cluster_is_served_by_its_own_version() {
        let found = [programs(17), programs(15)];
        let cluster = Path::new("/data/cluster");
        assert_eq!(choose(&found, None, cluster).map(|p| p.major).ok(), Some(17));
        assert_eq!(choose(&found, Some(15), cluster).map(|p| p.major).ok(), Some(15));
        assert!(matches!(choose(&found, Some(14), cluster), Err(Error::Version { found: 14, ours: 17, .. })));
        assert!(matches!(choose(&[], Some(14), cluster), Err(Error::Missing { .. })));
    }
}
