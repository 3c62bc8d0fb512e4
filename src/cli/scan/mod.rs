//! `scan`: finds our credentials in files and in git history, and prints none of them.

mod finder;
mod history;
mod report;
mod walk;

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::cli::output::{Format, talk};
use crate::types::base62::DIGITS_32_BITS;
use crate::types::credential::{Kind, Presented};

/// Different credentials that are remembered, to be counted and reported once each.
const KEPT_MAX: usize = 10_000;

#[derive(Args)]
pub(super) struct Arguments {
    /// Files and folders to look into.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Leaves the history of git repositories out.
    #[arg(long)]
    no_history: bool,
    /// Says which agents' keys would be revoked at `MCPA_URL`, each by itself.
    #[arg(long)]
    report: bool,
    /// With `--report`: revokes them.
    #[arg(long, requires = "report")]
    yes: bool,
    /// How to print.
    #[arg(long, value_enum)]
    output: Option<Format>,
}

/// What a reader has to say.
enum Event {
    Found(Finding, Zeroizing<String>),
    Read {
        bytes: u64,
    },
    /// Neither a file nor a folder: a link, a device, a socket.
    PassedOver,
    Unreadable(String),
}

impl Event {
    fn found(presented: Presented<'_>, place: Place) -> Self {
        let (prefix, kind) = words(presented.kind());
        let id = format!("{prefix}{}", String::from_utf8_lossy(presented.id()));
        let finding = Finding { kind, id, hint: presented.hint(), place };
        Self::Found(finding, Zeroizing::new(presented.reveal().to_owned()))
    }

    fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::Unreadable(format!("{}: {error}", path.display()))
    }
}

/// The prefix of its id and the name of a kind. Of clients and refresh tokens only a part of the id is in the secret.
const fn words(kind: Kind) -> (&'static str, &'static str) {
    use crate::types::environment::Environment::{Dev, Prod};
    match kind {
        Kind::Key(Prod) => ("key_", "prod"),
        Kind::Key(Dev) => ("key_", "dev"),
        Kind::Admin => ("opr_", "admin"),
        Kind::Server => ("srv_", "server"),
        Kind::Client => ("", "client"),
        Kind::Refresh => ("", "refresh"),
    }
}

/// A credential at a place.
#[derive(Serialize)]
struct Finding {
    kind: &'static str,
    id: String,
    hint: String,
    #[serde(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Place {
    path: String,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
}

impl Place {
    fn file(path: &Path, line: u64) -> Self {
        Self { path: path.display().to_string(), line, commit: None }
    }

    fn history(repository: &Path, origin: &history::Origin, line: u64) -> Self {
        let path = origin.path.as_ref().map_or_else(|| repository.to_owned(), |path| repository.join(path));
        Self { commit: Some(origin.commit.clone()), ..Self::file(&path, line) }
    }
}

#[derive(Default)]
struct Tally {
    found: u64,
    read: u64,
    bytes: u64,
    passed_over: u64,
    unreadable: u64,
    /// Agents' keys, to be reported, by id and checksum: what is found of one version is found again and again.
    keys: HashMap<(String, String), Zeroizing<String>>,
    /// More keys than are remembered.
    full: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let desk = crate::config::Desk::load().map_err(|error| Failure::new(2, error))?;
    let format = Format::chosen(arguments.output, &desk)?;
    let report = arguments.report.then(|| report::Report::new(&desk, arguments.yes)).transpose()?;
    let (paths, with_history) = (arguments.paths, !arguments.no_history);
    let tally = tokio::task::spawn_blocking(move || look(paths, with_history, format)).await??;
    if let Some(report) = report {
        let failed = report.send(&tally.keys).await;
        if failed > 0 || tally.full {
            return Err(Failure::new(7, anyhow::anyhow!("{failed} or more keys could not be revoked: run it again")));
        }
    }
    tally.outcome()
}

fn look(paths: Vec<PathBuf>, with_history: bool, format: Format) -> Result<Tally, Failure> {
    let bar = progress();
    let (mut tally, mut printer) = (Tally::default(), Printer::new(format)?);
    for event in walk::start(paths, with_history) {
        match event {
            Event::Found(finding, secret) => {
                bar.suspend(|| printer.print(&finding))?;
                tally.found += 1;
                if matches!(finding.kind, "prod" | "dev") {
                    tally.keep(finding.id, secret);
                }
            }
            Event::Read { bytes } => {
                tally.read += 1;
                tally.bytes += bytes;
                bar.set_message(format!("{} read, {} MiB, {} found", tally.read, tally.bytes >> 20, tally.found));
            }
            Event::PassedOver => tally.passed_over += 1,
            Event::Unreadable(why) => {
                bar.suspend(|| talk(&format!("cannot read {why}")));
                tally.unreadable += 1;
            }
        }
    }
    bar.finish_and_clear();
    printer.end()?;
    let Tally { found, read, bytes, passed_over, unreadable, .. } = &tally;
    talk(&format!(
        "{found} found in {read} files and objects ({bytes} bytes); {unreadable} unreadable, \
         {passed_over} links and special files passed over"
    ));
    Ok(tally)
}

impl Tally {
    fn keep(&mut self, id: String, secret: Zeroizing<String>) {
        let checksum = secret.get(secret.len() - DIGITS_32_BITS..).unwrap_or_default().to_owned();
        if self.keys.len() < KEPT_MAX {
            self.keys.insert((id, checksum), secret);
        } else {
            self.full |= !self.keys.contains_key(&(id, checksum));
        }
    }

    fn outcome(&self) -> Result<(), Failure> {
        match (self.found, self.unreadable) {
            (0, 0) => Ok(()),
            (0, unreadable) => Err(Failure::new(1, anyhow::anyhow!("{unreadable} could not be read"))),
            (found, 0) => Err(Failure::new(7, anyhow::anyhow!("{found} found"))),
            (found, unreadable) => {
                Err(Failure::new(7, anyhow::anyhow!("{found} found, and {unreadable} could not be read")))
            }
        }
    }
}

/// Shown at a terminal only.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
    let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Prints as it is found, so that nothing is kept.
struct Printer {
    format: Format,
    out: io::Stdout,
    first: bool,
}

impl Printer {
    fn new(format: Format) -> io::Result<Self> {
        let mut out = io::stdout();
        match format {
            Format::Json => write!(out, "{{\"items\":[")?,
            Format::Table => writeln!(out, "KIND\tID\tHINT\tPLACE")?,
            Format::Jsonl | Format::Id => {}
        }
        Ok(Self { format, out, first: true })
    }

    fn print(&mut self, finding: &Finding) -> io::Result<()> {
        let Place { path, line, commit } = &finding.place;
        let commit = commit.as_ref().map(|commit| format!("{commit}:")).unwrap_or_default();
        let Finding { kind, id, hint, .. } = finding;
        let first = std::mem::replace(&mut self.first, false);
        match self.format {
            Format::Json if first => write!(self.out, "\n{}", serde_json::to_string(finding)?),
            Format::Json => write!(self.out, ",\n{}", serde_json::to_string(finding)?),
            Format::Jsonl => writeln!(self.out, "{}", serde_json::to_string(finding)?),
            Format::Id => writeln!(self.out, "{id}"),
            // A name may hold anything, and a terminal obeys some of it.
            Format::Table => writeln!(self.out, "{kind}\t{id}\t…{hint}\t{commit}{}:{line}", path.escape_debug()),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        if self.format == Format::Json {
            writeln!(self.out, "\n]}}")?;
        }
        self.out.flush()
    }
}
