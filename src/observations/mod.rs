//! What was seen of credentials in use: last uses, and how often each was asked about with which outcome. Written behind,
//! never part of the feed. Owns `introspections`.

mod store;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;

use crate::db::{self, Db};
use crate::secrets::{self, Rehash, Use};
use crate::types::clock::Timestamp;

pub use store::{Event, events, expire};

/// Different counts kept in memory between two writes; past that addresses are no longer told apart, then nothing is.
const COUNTS_MAX: usize = 20_000;
/// Versions of secrets whose last use is remembered.
const USES_MAX: usize = 2_000_000;
/// Digests that wait to be made anew.
const REHASHES_MAX: usize = 10_000;
/// A version's last use is written at most once in this time.
const USE_WRITE_MICROS: i64 = 60_000_000;
const BATCH_MAX: usize = 5_000;

/// Where a credential was shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// To which server; `None`: to the authority itself.
    pub server: Option<&'a str>,
    /// From where.
    pub address: Option<IpAddr>,
}

/// The outcome of a question about a good credential.
pub const ACTIVE: &str = "active";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Count {
    minute: i64,
    credential: String,
    server: String,
    outcome: &'static str,
    address: String,
}

#[derive(Clone, Copy, Debug)]
struct LastUse {
    at: Timestamp,
    address: Option<IpAddr>,
    server: [u8; 16],
    written: Timestamp,
}

impl LastUse {
    fn of(&self, owner: &str, version: i32) -> Use {
        let server = std::str::from_utf8(&self.server).unwrap_or_default().trim_end_matches('\0');
        Use {
            owner: owner.to_owned(),
            version,
            at: self.at.to_utc(),
            client_ip: self.address.map(|address| address.to_string()),
            server_id: (!server.is_empty()).then(|| server.to_owned()),
        }
    }
}

#[derive(Default)]
struct Memory {
    counts: HashMap<Count, i64>,
    uses: HashMap<(String, i32), LastUse>,
    rehashes: HashMap<(String, i32), Rehash>,
    dropped: u64,
}

/// What this node has seen since it last wrote.
#[derive(Default)]
pub struct Observations(Mutex<Memory>);

impl Observations {
    /// A question about a credential was answered.
    ///
    /// `credential` is the key's id once its secret or signature proved right, else empty: what does not exist is counted
    /// for the asking server, so that nobody fills a table with made-up ids.
    pub fn answered(&self, credential: &str, outcome: &'static str, at: Place<'_>, now: Timestamp) {
        let address = if outcome == ACTIVE { None } else { at.address };
        let mut count = Count {
            minute: now.seconds().div_euclid(60),
            credential: credential.to_owned(),
            server: at.server.unwrap_or_default().to_owned(),
            outcome,
            address: address.map(|address| address.to_string()).unwrap_or_default(),
        };
        let mut memory = self.lock();
        if memory.counts.len() >= COUNTS_MAX && !memory.counts.contains_key(&count) {
            count.address = String::new();
            if !memory.counts.contains_key(&count) {
                memory.dropped += 1;
                return;
            }
        }
        *memory.counts.entry(count).or_insert(0) += 1;
    }

    /// A version of a secret was used.
    pub fn used(&self, owner: &str, version: i32, at: Place<'_>, now: Timestamp) {
        let address = at.address;
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(at.server.unwrap_or_default().bytes()) {
            *to = from;
        }
        let mut memory = self.lock();
        let full = memory.uses.len() >= USES_MAX;
        match memory.uses.get_mut(&(owner.to_owned(), version)) {
            Some(last) => (last.at, last.address, last.server) = (last.at.max(now), address, id),
            None if full => {}
            None => {
                let first = LastUse { at: now, address, server: id, written: Timestamp::from_micros(0) };
                memory.uses.insert((owner.to_owned(), version), first);
            }
        }
    }

    /// A digest under an old secret key was seen with its secret: it moves to the newest one.
    pub fn rehash(&self, rehash: Rehash) {
        let mut memory = self.lock();
        if memory.rehashes.len() < REHASHES_MAX {
            memory.rehashes.insert((rehash.owner.clone(), rehash.version), rehash);
        }
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
    pub async fn write_first_use(&self, db: &Db, owner: &str, version: i32) -> db::Result<()> {
        let waits = |last: &&LastUse| last.written == Timestamp::from_micros(0);
        let first =
            self.lock().uses.get(&(owner.to_owned(), version)).filter(waits).map(|last| last.of(owner, version));
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
            if last.at > last.written && (all || waited) && uses.len() < BATCH_MAX {
                last.written = now.max(last.at);
                uses.push(last.of(owner, *version));
            }
        }
        // Forget what has not been used for long: it is in the table.
        memory.uses.retain(|_, last| last.at > last.written || now.micros() - last.at.micros() < 10 * USE_WRITE_MICROS);
        let rehashes = memory.rehashes.drain().map(|(_, rehash)| rehash).collect();
        Due { counts, uses, rehashes }
    }

    fn put_back(&self, due: Due) {
        let mut memory = self.lock();
        for (count, number) in due.counts {
            *memory.counts.entry(count).or_insert(0) += number;
        }
        for used in due.uses {
            if let Some(last) = memory.uses.get_mut(&(used.owner, used.version)) {
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
    uses: Vec<Use>,
    rehashes: Vec<Rehash>,
}

impl Due {
    fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.uses.is_empty() && self.rehashes.is_empty()
    }

    async fn write(&self, db: &Db) -> db::Result<()> {
        let mut tx = db.begin().await?;
        if !self.uses.is_empty() {
            secrets::record_uses(&mut tx, &self.uses).await?;
        }
        for rehash in &self.rehashes {
            secrets::rehash(&mut tx, rehash).await?;
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
        credential: count.credential.clone(),
        server_id: count.server.clone(),
        outcome: count.outcome,
        client_ip: count.address.clone(),
        count: number,
    }
}
