//! What a git repository remembers: every object it holds, those that no branch reaches any more among them.
//!
//! The `git` program reads them. It is asked for nothing that runs a program which the repository names.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::SyncSender;

use crate::cli::scan::finder::Finder;
use crate::cli::scan::walk::found;
use crate::cli::scan::{Event, Place};

/// Commits are looked up for so many objects of a repository; what is found in more is told with the object alone.
const LOOKUPS_MAX: usize = 1_000;
/// What git says of an object, and of what went wrong.
const LINE_BYTES_MAX: u64 = 8 * 1024;

/// Whether a folder is the top of a repository: of one with files, or of one without.
pub(super) fn is_repository(folder: &Path) -> bool {
    folder.join(".git").exists() || is_bare(folder)
}

/// A `.git` is not: the folder that holds it stands for it.
fn is_bare(folder: &Path) -> bool {
    folder.file_name() != Some(OsStr::new(".git"))
        && folder.join("HEAD").is_file()
        && folder.join("objects").is_dir()
        && folder.join("refs").is_dir()
}

/// Whether `path`, in `folder`, is where a repository keeps its objects.
pub(super) fn holds_objects(folder: &Path, path: &Path) -> bool {
    path.file_name() == Some(OsStr::new("objects"))
        && folder.join("HEAD").is_file()
        && (folder.file_name() == Some(OsStr::new(".git")) || is_bare(folder))
}

/// Reads every object of the repository. `None`: nobody listens any more.
pub(super) fn read(finder: &mut Finder, folder: &Path, events: &SyncSender<Event>) -> Option<()> {
    let mut repository = Repository { folder, events, lookups: 0 };
    match repository.read(finder) {
        Ok(done) => done,
        Err(error) => events.send(Event::unreadable(&folder.join("(git history)"), &error)).ok(),
    }
}

struct Repository<'a> {
    folder: &'a Path,
    events: &'a SyncSender<Event>,
    lookups: usize,
}

impl Repository<'_> {
    fn read(&mut self, finder: &mut Finder) -> io::Result<Option<()>> {
        let mut child = git(self.folder, &["cat-file", "--batch", "--batch-all-objects", "--unordered", "--buffer"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let outcome = self.objects(finder, &mut child);
        if !matches!(outcome, Ok(Some(()))) {
            // It would wait for a reader for ever.
            let _gone = child.kill();
        }
        let mut said = String::new();
        if let Some(stderr) = child.stderr.take() {
            let _read = stderr.take(LINE_BYTES_MAX).read_to_string(&mut said);
        }
        let status = child.wait()?;
        match outcome? {
            Some(()) if !status.success() => Err(io::Error::other(format!("git: {}", said.trim()))),
            done => Ok(done),
        }
    }

    fn objects(&mut self, finder: &mut Finder, child: &mut Child) -> io::Result<Option<()>> {
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("git has no output"))?;
        let mut stdout = BufReader::new(stdout);
        loop {
            let mut head = String::new();
            if (&mut stdout).take(LINE_BYTES_MAX).read_line(&mut head)? == 0 {
                return Ok(Some(()));
            }
            let mut words = head.split_ascii_whitespace();
            let (Some(id), Some(kind), Some(size), None) = (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(io::Error::other(format!("git said {:?}", head.trim())));
            };
            let size: u64 = size.parse().map_err(io::Error::other)?;
            let mut content = (&mut stdout).take(size);
            // A tree holds names and ids alone.
            if kind == "tree" {
                io::copy(&mut content, &mut io::sink())?;
            } else if self.object(finder, (id, kind), &mut content)?.is_none() {
                return Ok(None);
            }
            if (&mut stdout).take(1).read_to_end(&mut Vec::new())? != 1 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
    }

    fn object(
        &mut self,
        finder: &mut Finder,
        (id, kind): (&str, &str),
        content: &mut impl Read,
    ) -> io::Result<Option<()>> {
        let (mut open, mut origin) = (true, None);
        let bytes = finder.read(content, |presented, line| {
            let origin = origin.get_or_insert_with(|| self.origin(id, kind));
            open &= found(presented, Place::history(self.folder, origin, line), self.events).is_some();
        })?;
        Ok(if open { self.events.send(Event::Read { bytes }).ok() } else { None })
    }

    /// The commit that brought an object, and the path it had there; of what no commit has, the object itself.
    fn origin(&mut self, id: &str, kind: &str) -> Origin {
        let alone = Origin { commit: id.to_owned(), path: None };
        if kind != "blob" || self.lookups == LOOKUPS_MAX {
            return alone;
        }
        self.lookups += 1;
        let wanted = format!("--find-object={id}");
        let asked = ["log", "--all", "--reflog", "-m", "--raw", "-z", "--no-abbrev", "--no-renames", "--format=%H"];
        let output = git(self.folder, &asked).arg(wanted).stdout(Stdio::piped()).stderr(Stdio::null()).output();
        output.ok().and_then(|output| first_with(&output.stdout, id)).unwrap_or(alone)
    }
}

/// Where an object came from.
pub(super) struct Origin {
    /// A commit, or the object itself.
    pub(super) commit: String,
    pub(super) path: Option<PathBuf>,
}

/// The oldest commit of a log in which the object came; the log begins with the newest.
fn first_with(log: &[u8], id: &str) -> Option<Origin> {
    let (mut commit, mut came, mut last) = (None, false, None);
    for field in log.split(|byte| *byte == 0) {
        let text = String::from_utf8_lossy(field);
        let text = text.trim_start_matches('\n');
        if let Some(change) = text.strip_prefix(':') {
            came = change.split(' ').nth(3) == Some(id);
        } else if came {
            last = Some(Origin { commit: commit.clone()?, path: Some(PathBuf::from(text)) });
            came = false;
        } else if text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            commit = Some(text.to_owned());
        }
    }
    last
}

/// A call of git that this repository cannot turn into another: nothing is fetched, asked or written, no pager is run.
fn git(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(["--no-pager", "--no-replace-objects", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never"]);
    command.args(["-c", "log.showSignature=false", "-c", "core.commitGraph=false"]);
    command.arg("-C").arg(folder).args(arguments).stdin(Stdio::null());
    for elsewhere in
        ["GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_TRACE"]
    {
        command.env_remove(elsewhere);
    }
    command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
    command
}
