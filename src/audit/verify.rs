//! Reads the whole audit and says what was changed, removed, reordered or inserted.

use std::fmt;

use sqlx::{Connection, PgConnection};

use crate::audit::chain::{Head, hex, link};
use crate::audit::checkpoint::{Checkpoint, fingerprint, signed};
use crate::audit::removal::Gone;
use crate::audit::{CheckpointKey, store};
use crate::db;

pub(super) const PAGE: i64 = 1_000;
const FINDINGS_MAX: usize = 100;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The entry's bytes, time or place are not what its hash covers.
    Changed {
        /// Its chain.
        chain: String,
        /// Its place.
        position: i64,
        /// Its id now.
        id: String,
    },
    /// Entries are gone.
    Removed {
        /// Their chain.
        chain: String,
        /// The first that is missing.
        from: i64,
        /// The last that is missing.
        to: i64,
    },
    /// An entry that was never linked into a chain, or stands after its end.
    Inserted {
        /// Its id.
        id: String,
    },
    /// A signed checkpoint does not agree with the chain.
    Disagrees {
        /// The checkpoint's number.
        checkpoint: i64,
        /// What it says.
        head: Head,
    },
    /// A checkpoint is missing, or its signature or its link to the one before is wrong.
    Checkpoint {
        /// Its number.
        number: i64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { chain, position, id } => {
                write!(to, "changed: entry {position} of {chain} ({id}) is not what was written")
            }
            Self::Removed { chain, from, to: last } => {
                write!(to, "removed: entries {from} to {last} of {chain} are missing")
            }
            Self::Inserted { id } => write!(to, "inserted: {id} belongs to no chain"),
            Self::Disagrees { checkpoint, head } => {
                write!(
                    to,
                    "rewritten: checkpoint {checkpoint} saw entry {} of {} with another hash",
                    head.position, head.chain
                )
            }
            Self::Checkpoint { number } => {
                write!(to, "checkpoint {number} is missing, forged or not the successor of the one before")
            }
        }
    }
}

/// What was read and found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Entries read.
    pub entries: i64,
    /// Chains read.
    pub chains: usize,
    /// Checkpoints read.
    pub checkpoints: i64,
    /// Everything from before then was removed when its time was over, in seconds since 1970: nobody vouches for it any more.
    pub vouches_from: Option<i64>,
    /// What is wrong; empty: nothing. At most a hundred.
    pub findings: Vec<Finding>,
}

impl Verified {
    pub(super) fn found(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX && !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

/// Verifies all chains, all checkpoints, and checkpoints that were kept elsewhere (compact JWS each).
///
/// # Errors
///
/// The database cannot be read. What is wrong with the audit is no error but a [`Finding`].
pub async fn verify(connection: &mut PgConnection, key: &CheckpointKey<'_>, kept: &[String]) -> db::Result<Verified> {
    // One snapshot: what is written meanwhile is neither missing nor too much.
    let mut tx = connection.begin_with("begin isolation level repeatable read, read only").await?;
    let connection = &mut *tx;
    store::hold(connection).await?;
    let gone = Gone::read(connection, key).await?;
    let mut verified = Verified { vouches_from: gone.before, ..Verified::default() };
    for head in store::heads(connection).await? {
        verified.chains += 1;
        chain_after(connection, &head, gone.start(&head.chain), &mut verified).await?;
    }
    for id in store::unlinked(connection, PAGE).await? {
        verified.found(Finding::Inserted { id });
    }
    let mut before: Option<String> = None;
    let mut number = 0;
    loop {
        let page = store::checkpoints_from(connection, number + 1, PAGE).await?;
        if page.is_empty() {
            break;
        }
        for stored in page {
            number += 1;
            verified.checkpoints += 1;
            let right = signed(&stored.jws, key).filter(|read| read.number == number && stored.number == number);
            let Some(read) =
                right.filter(|read| read.previous == before.as_deref().map(fingerprint).unwrap_or_default())
            else {
                verified.found(Finding::Checkpoint { number });
                number = stored.number;
                before = Some(stored.jws);
                continue;
            };
            compare(connection, &read, &gone, &mut verified).await?;
            before = Some(stored.jws);
        }
    }
    for jws in kept {
        let Some(read) = signed(jws, key) else {
            verified.found(Finding::Checkpoint { number: 0 });
            continue;
        };
        let stored = store::checkpoints_from(connection, read.number, 1).await?;
        if stored.first().is_none_or(|stored| stored.jws != *jws) {
            verified.found(Finding::Checkpoint { number: read.number });
        }
        compare(connection, &read, &gone, &mut verified).await?;
    }
    Ok(verified)
}

/// Walks one chain from a place on, whose hash is known, to its end.
pub(super) async fn chain_after(
    connection: &mut PgConnection,
    head: &Head,
    start: (i64, Vec<u8>),
    verified: &mut Verified,
) -> db::Result<()> {
    let mut walk = Walk::from(head, start);
    while walk.page(connection, verified).await? {}
    walk.end(verified);
    Ok(())
}

/// A walk along one chain: each entry against the stored hash of the one before it, so that one change is one finding.
pub(super) struct Walk<'a> {
    head: &'a Head,
    first: i64,
    pub(super) place: i64,
    pub(super) previous: Vec<u8>,
}

impl<'a> Walk<'a> {
    /// After a place whose hash is known.
    pub(super) fn from(head: &'a Head, (place, previous): (i64, Vec<u8>)) -> Self {
        Self { head, first: place, place, previous }
    }

    /// Goes on by a page. False: there are no more entries.
    pub(super) async fn page(&mut self, connection: &mut PgConnection, verified: &mut Verified) -> db::Result<bool> {
        let chain = &self.head.chain;
        let page = store::entries_after(connection, chain, self.place, PAGE).await?;
        let more = !page.is_empty();
        for entry in page {
            verified.entries += 1;
            if entry.position > self.place + 1 {
                verified.found(Finding::Removed { chain: chain.clone(), from: self.place + 1, to: entry.position - 1 });
            } else if link(&self.previous, chain, entry.position, entry.at_micros, &entry.body) != entry.hash {
                verified.found(Finding::Changed {
                    chain: chain.clone(),
                    position: entry.position,
                    id: entry.id.clone(),
                });
            }
            if entry.position > self.head.position {
                verified.found(Finding::Inserted { id: entry.id });
            }
            self.place = entry.position;
            self.previous = entry.hash;
        }
        Ok(more)
    }

    /// What the end of the entries says about the end of the chain.
    pub(super) fn end(self, verified: &mut Verified) {
        let Self { head, first, place, previous } = self;
        if first > head.position {
            // The chain's end was set back to before what was removed.
            verified.found(Finding::Disagrees { checkpoint: 0, head: head.clone() });
        } else if place < head.position {
            verified.found(Finding::Removed { chain: head.chain.clone(), from: place + 1, to: head.position });
        } else if place == head.position && place > 0 && hex(&previous) != head.hash {
            verified.found(Finding::Disagrees { checkpoint: 0, head: head.clone() });
        }
    }
}

/// What a checkpoint saw, against what is there; or, where that was removed, against what was said then.
pub(super) async fn compare(
    connection: &mut PgConnection,
    checkpoint: &Checkpoint,
    gone: &Gone,
    verified: &mut Verified,
) -> db::Result<()> {
    for head in &checkpoint.heads {
        let removed = gone.head(&head.chain).filter(|removed| head.position <= removed.position);
        let hash = match removed {
            Some(removed) if removed.position == head.position => Some(removed.hash.clone()),
            Some(_) => continue,
            None => store::hash_at(connection, &head.chain, head.position).await?.map(|hash| hex(&hash)),
        };
        match hash {
            None => {
                verified.found(Finding::Removed { chain: head.chain.clone(), from: head.position, to: head.position });
            }
            Some(hash) if hash != head.hash => {
                verified.found(Finding::Disagrees { checkpoint: checkpoint.number, head: head.clone() });
            }
            Some(_) => {}
        }
    }
    Ok(())
}
