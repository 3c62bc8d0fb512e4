//! Where to look: files below the paths given, and the histories of the repositories among them.

use std::fs::{self, File, FileType};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::cli::scan::finder::Finder;
use crate::cli::scan::history;
use crate::cli::scan::{Event, Place};
use crate::types::credential::Presented;

/// Readers at most, on however large a machine: beyond that the disk is what is waited for.
const READERS_MAX: usize = 8;
/// Files that were listed and wait for a reader; the listing waits when there are more.
const WAITING_MAX: usize = 1_024;
/// What was found and waits to be printed; the readers wait when there is more.
const FOUND_MAX: usize = 256;

enum Task {
    File(PathBuf),
    History(PathBuf),
}

/// Starts to look, in threads of its own. The events end when all was looked at.
pub(super) fn start(paths: Vec<PathBuf>, with_history: bool) -> Receiver<Event> {
    let (events, receiver) = sync_channel(FOUND_MAX);
    let (tasks, waiting) = sync_channel(WAITING_MAX);
    let waiting = Arc::new(Mutex::new(waiting));
    let readers = thread::available_parallelism().map_or(1, usize::from).min(READERS_MAX);
    for _ in 0..readers {
        let (waiting, events) = (Arc::clone(&waiting), events.clone());
        thread::spawn(move || read_all(&waiting, &events));
    }
    thread::spawn(move || {
        let mut lister = Lister { tasks, events, with_history };
        for path in paths {
            lister.list(path);
        }
    });
    receiver
}

fn read_all(waiting: &Mutex<Receiver<Task>>, events: &SyncSender<Event>) {
    let mut finder = Finder::new();
    loop {
        let task = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = task else { return };
        let done = match task {
            Task::File(path) => read_file(&mut finder, &path, events),
            Task::History(path) => history::read(&mut finder, &path, events),
        };
        // Nobody listens any more.
        if done.is_none() {
            return;
        }
    }
}

fn read_file(finder: &mut Finder, path: &Path, events: &SyncSender<Event>) -> Option<()> {
    let mut open = true;
    let outcome = File::open(path).and_then(|mut file| {
        finder.read(&mut file, |presented, line| open &= found(presented, Place::file(path, line), events).is_some())
    });
    if !open {
        return None;
    }
    events
        .send(match outcome {
            Ok(bytes) => Event::Read { bytes },
            Err(error) => Event::unreadable(path, &error),
        })
        .ok()
}

pub(super) fn found(presented: Presented<'_>, place: Place, events: &SyncSender<Event>) -> Option<()> {
    events.send(Event::found(presented, place)).ok()
}

struct Lister {
    tasks: SyncSender<Task>,
    events: SyncSender<Event>,
    with_history: bool,
}

impl Lister {
    /// A path that was named is followed to where it leads; what is found below it is not, so that no loop is walked.
    fn list(&mut self, named: PathBuf) -> Option<()> {
        match fs::metadata(&named) {
            Ok(metadata) if metadata.is_dir() => self.below(named),
            Ok(metadata) => self.one(named, metadata.file_type()),
            Err(error) => self.unreadable(&named, &error),
        }
    }

    fn below(&mut self, top: PathBuf) -> Option<()> {
        // One entry for each folder that was seen and not yet read.
        let mut folders = vec![top];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    self.unreadable(&folder, &error)?;
                    continue;
                }
            };
            if self.with_history && history::is_repository(&folder) {
                self.tasks.send(Task::History(folder.clone())).ok()?;
            }
            for entry in entries {
                let (path, kind) = match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
                    Ok(entry) => entry,
                    Err(error) => {
                        self.unreadable(&folder, &error)?;
                        continue;
                    }
                };
                // They are compressed; what is in them is read as history.
                let packed = self.with_history && kind.is_dir() && history::holds_objects(&folder, &path);
                if packed {
                    continue;
                }
                if kind.is_dir() { folders.push(path) } else { self.one(path, kind)? }
            }
        }
        Some(())
    }

    fn one(&mut self, path: PathBuf, kind: FileType) -> Option<()> {
        if kind.is_file() { self.tasks.send(Task::File(path)).ok() } else { self.events.send(Event::PassedOver).ok() }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) -> Option<()> {
        self.events.send(Event::unreadable(path, error)).ok()
    }
}
