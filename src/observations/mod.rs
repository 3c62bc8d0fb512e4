//! What was seen of credentials in use: last uses, and how often each was asked about with which outcome. Written behind,
//! never part of the feed. Owns `introspections`.

mod store;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;
use time::OffsetDateTime;

use crate::db::{self, Db};
use crate::secrets::{self, Rehash, Use};
use crate::sessions::refresh;
use crate::types::clock::Timestamp;
use crate::types::id::{ClientId, KeyId, OperatorId, ServerId, SessionId};

pub use store::{Event, events, expire};

/// Different counts kept in memory between two writes; past that addresses are no longer told apart, then nothing is.
const COUNTS_MAX: usize = 20_000;
/// Versions of secrets whose last use is remembered.
const USES_MAX: usize = 2_000_000;
/// Digests that wait to be made anew.
const REHASHES_MAX: usize = 10_000;
/// Tokens of people whose first use waits to be written.
const SHOWN_MAX: usize = 100_000;
/// A version's last use is written at most once in this time.
const USE_WRITE_MICROS: i64 = 60_000_000;
const BATCH_MAX: usize = 5_000;

/// Whose secret was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// An agent's key.
    Key(KeyId),
    /// An operator.
    Operator(OperatorId),
    /// A server.
    Server(ServerId),
    /// An OAuth client.
    Client(ClientId),
}

impl Owner {
    /// The owner's id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Key(id) => id.as_str(),
            Self::Operator(id) => id.as_str(),
            Self::Server(id) => id.as_str(),
            Self::Client(id) => id.as_str(),
        }
    }
}

/// Where and when a credential was shown.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// By the clock that the answer went by.
    pub at: Timestamp,
    /// To which server; `None`: to the authority itself.
    pub server: Option<ServerId>,
    /// From where.
    pub address: Option<IpAddr>,
}

/// The outcome of a question about a good credential.
pub const ACTIVE: &str = "active";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Count {
    minute: i64,
    credential: Option<KeyId>,
    server: Option<ServerId>,
    outcome: &'static str,
    address: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct LastUse {
    place: Place,
    written: Timestamp,
}

impl LastUse {
    fn of(&self, owner: Owner, version: i32) -> Use {
        Use {
            owner: owner.as_str().to_owned(),
            version,
            at: self.place.at.to_utc(),
            client_ip: self.place.address.map(|address| address.to_string()),
            server_id: self.place.server.map(|server| server.to_string()),
        }
    }
}

#[derive(Default)]
struct Memory {
    // Keyed anew in each process: addresses are chosen by callers.
    counts: HashMap<Count, i64, RandomState>,
    uses: HashMap<(Owner, i32), LastUse, RandomState>,
    rehashes: HashMap<(String, i32), Rehash>,
    shown: Vec<SessionId>,
    dropped: u64,
}

/// What this node has seen since it last wrote.
#[derive(Default)]
pub struct Observations(Mutex<Memory>);

/// What is noted of one request, under one lock. For a moment: others wait.
pub struct Noting<'a>(MutexGuard<'a, Memory>);

impl Observations {
    /// Begins to note.
    pub fn noting(&self) -> Noting<'_> {
        Noting(self.lock())
    }
}

impl Noting<'_> {
    /// A question about a credential was answered.
    ///
    /// `credential` is the key once its secret or signature proved right, else none: what does not exist is counted for
    /// the asking server, so that nobody fills a table with made-up ids.
    pub fn answered(&mut self, credential: Option<KeyId>, outcome: &'static str, place: Place) {
        let address = if outcome == ACTIVE { None } else { place.address };
        let minute = place.at.seconds().div_euclid(60);
        let mut count = Count { minute, credential, server: place.server, outcome, address };
        let memory = &mut *self.0;
        if let Some(number) = memory.counts.get_mut(&count) {
            *number += 1;
            return;
        }
        if memory.counts.len() >= COUNTS_MAX {
            count.address = None;
            if !memory.counts.contains_key(&count) {
                memory.dropped += 1;
                return;
            }
        }
        *memory.counts.entry(count).or_insert(0) += 1;
    }

    /// A version of a secret was used.
    pub fn used(&mut self, owner: Owner, version: i32, place: Place) {
        let memory = &mut *self.0;
        let full = memory.uses.len() >= USES_MAX;
        match memory.uses.get_mut(&(owner, version)) {
            Some(last) => last.place = Place { at: last.place.at.max(place.at), ..place },
            None if full => {}
            None => {
                let first = LastUse { place, written: Timestamp::from_micros(0) };
                memory.uses.insert((owner, version), first);
            }
        }
    }
}

impl Noting<'_> {
    /// A token of a person was shown for the first time.
    pub fn shown(&mut self, session: SessionId) {
        if self.0.shown.len() < SHOWN_MAX {
            self.0.shown.push(session);
        }
    }
}

impl Observations {
    /// A digest under an old secret key was seen with its secret: it moves to the newest one.
    pub fn rehash(&self, rehash: Rehash) {
        let mut memory = self.lock();
        if memory.rehashes.len() < REHASHES_MAX {
            memory.rehashes.insert((rehash.owner.clone(), rehash.version), rehash);
        }
    }

    /// How many things wait to be written, now or later.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let memory = self.lock();
        let uses = memory.uses.values().filter(|last| last.place.at > last.written).count();
        let all = memory.counts.len() + uses + memory.rehashes.len() + memory.shown.len();
        u64::try_from(all).unwrap_or(u64::MAX)
    }

    /// Writes what is due: refusals at once, last uses and successes once a minute, everything when `all`.
    ///
    /// # Errors
    ///
    /// The database refuses; what was not written is tried again.
    pub async fn flush(&self, db: &Db, now: Timestamp, all: bool) -> db::Result<()> {
        let due = self.take_due(now, all);
        if due.is_empty() {
            return Ok(());
        }
        let written = due.write(db).await;
        if written.is_err() {
            self.put_back(due);
        }
        written
    }

    /// Writes the first use of one version now, if it waits to be written. What other nodes have seen of it in the last
    /// second is not known here.
    ///
    /// # Errors
    ///
    /// The database refuses; it is written later.
    pub async fn write_first_use(&self, db: &Db, owner: Owner, version: i32) -> db::Result<()> {
        let waits = |last: &&LastUse| last.written == Timestamp::from_micros(0);
        let first = self.lock().uses.get(&(owner, version)).filter(waits).map(|last| last.of(owner, version));
        let Some(first) = first else { return Ok(()) };
        let mut tx = db.begin().await?;
        secrets::record_uses(&mut tx, &[first]).await?;
        db::commit(tx).await
    }

    fn take_due(&self, now: Timestamp, all: bool) -> Due {
        let minute = now.seconds().div_euclid(60);
        let mut memory = self.lock();
        let due = |count: &Count| all || count.outcome != ACTIVE || count.minute < minute;
        let counts = memory.counts.extract_if(|count, _| due(count)).take(BATCH_MAX).collect();
        let mut uses = Vec::new();
        for ((owner, version), last) in &mut memory.uses {
            let waited = now.micros() - last.written.micros() >= USE_WRITE_MICROS;
            if last.place.at > last.written && (all || waited) && uses.len() < BATCH_MAX {
                last.written = now.max(last.place.at);
                uses.push(((*owner, *version), last.of(*owner, *version)));
            }
        }
        // Forget what has not been used for long: it is in the table.
        memory.uses.retain(|_, last| {
            last.place.at > last.written || now.micros() - last.place.at.micros() < 10 * USE_WRITE_MICROS
        });
        let rehashes = memory.rehashes.drain().map(|(_, rehash)| rehash).collect();
        let few = memory.shown.len().saturating_sub(BATCH_MAX);
        let shown = memory.shown.split_off(few);
        Due { counts, uses, rehashes, shown }
    }

    fn put_back(&self, due: Due) {
        let mut memory = self.lock();
        memory.shown.extend(due.shown);
        for (count, number) in due.counts {
            *memory.counts.entry(count).or_insert(0) += number;
        }
        for (of, _) in due.uses {
            if let Some(last) = memory.uses.get_mut(&of) {
                last.written = Timestamp::from_micros(0);
            }
        }
    }

    // A thread that panicked while counting leaves at worst a count that is one short.
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Due {
    counts: Vec<(Count, i64)>,
    uses: Vec<((Owner, i32), Use)>,
    rehashes: Vec<Rehash>,
    shown: Vec<SessionId>,
}

impl Due {
    fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.uses.is_empty() && self.rehashes.is_empty() && self.shown.is_empty()
    }

    async fn write(&self, db: &Db) -> db::Result<()> {
        let mut tx = db.begin().await?;
        if !self.uses.is_empty() {
            let uses: Vec<Use> = self.uses.iter().map(|(_, used)| used.clone()).collect();
            secrets::record_uses(&mut tx, &uses).await?;
        }
        for rehash in &self.rehashes {
            secrets::rehash(&mut tx, rehash).await?;
        }
        if !self.shown.is_empty() {
            let sessions: Vec<String> = self.shown.iter().map(ToString::to_string).collect();
            refresh::note_used(&mut tx, &sessions).await?;
        }
        if !self.counts.is_empty() {
            let rows: Vec<store::Row> = self.counts.iter().map(|(count, number)| row(count, *number)).collect();
            store::add(&mut tx, &rows).await?;
        }
        db::commit(tx).await
    }
}

fn row(count: &Count, number: i64) -> store::Row {
    store::Row {
        minute: OffsetDateTime::from_unix_timestamp(count.minute * 60).unwrap_or(OffsetDateTime::UNIX_EPOCH),
        credential: count.credential.map(|key| key.to_string()).unwrap_or_default(),
        server_id: count.server.map(|server| server.to_string()).unwrap_or_default(),
        outcome: count.outcome,
        client_ip: count.address.map(|address| address.to_string()).unwrap_or_default(),
        count: number,
    }
}
