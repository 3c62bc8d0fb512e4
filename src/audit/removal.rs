//! Removes entries that have been kept as long as they must be, a partition at a time. A signed checkpoint says in the same
//! transaction where each chain goes on, so that what is left can still be verified.

use std::collections::HashMap;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::chain::{Head, start, unhex};
use crate::audit::checkpoint::{Removed, next, signed};
use crate::audit::{CheckpointKey, Signer, store};
use crate::db;
use crate::db::partitions;

/// Entries that were written while a partition was missing go singly, at most so many at a time.
const REST_BATCH: i64 = 10_000;
const PAGE: i64 = 1_000;

/// Removes the oldest entries whose time is over: a whole partition, or what was caught while one was missing. Returns the
/// checkpoint that says so, as signed. `None`: there is nothing to remove, or another node writes a checkpoint now.
///
/// # Errors
///
/// The database refuses, or somebody holds the table. Nothing is removed then, and nothing is said to be.
pub async fn remove_oldest(
    tx: &mut PgConnection,
    signer: &Signer<'_>,
    now: OffsetDateTime,
) -> db::Result<Option<String>> {
    let (partition, before) = match store::expired_partition(tx).await? {
        Some((partition, before)) => (Some(partition), before),
        None => match store::expired_rest(tx, REST_BATCH).await? {
            Some(before) => (None, before),
            None => return Ok(None),
        },
    };
    let heads = store::heads_before(tx, before).await?;
    let removed = Removed { before: before.unix_timestamp(), heads };
    let Some(jws) = next(tx, signer, now, Some(removed)).await? else { return Ok(None) };
    match partition {
        Some(partition) => {
            partitions::drop_one(tx, &partition, None).await?;
        }
        None => store::remove_rest(tx, before).await?,
    }
    Ok(Some(jws))
}

/// What signed checkpoints say was removed.
#[derive(Default)]
pub(super) struct Gone {
    /// Before when all of it was written, in seconds since 1970.
    pub(super) before: Option<i64>,
    heads: HashMap<String, Head>,
}

impl Gone {
    /// Reads all of them. One whose signature or number is wrong says nothing here.
    pub(super) async fn read(connection: &mut PgConnection, key: &CheckpointKey<'_>) -> db::Result<Self> {
        let mut gone = Self::default();
        let mut number = 0;
        loop {
            let page = store::removals_after(connection, number, PAGE).await?;
            let Some(last) = page.last() else { return Ok(gone) };
            number = last.number;
            for stored in page {
                let right = signed(&stored.jws, key).filter(|read| read.number == stored.number);
                if let Some(removed) = right.and_then(|read| read.removed) {
                    gone.add(removed);
                }
            }
        }
    }

    fn add(&mut self, removed: Removed) {
        self.before = self.before.max(Some(removed.before));
        for head in removed.heads {
            let known = self.heads.get(&head.chain).map_or(0, |known| known.position);
            if head.position > known {
                self.heads.insert(head.chain.clone(), head);
            }
        }
    }

    /// The last entry of a chain that was removed.
    pub(super) fn head(&self, chain: &str) -> Option<&Head> {
        self.heads.get(chain)
    }

    /// From where on a chain is vouched for: the place before its first entry, and the hash there.
    pub(super) fn start(&self, chain: &str) -> (i64, Vec<u8>) {
        self.head(chain).map_or_else(|| (0, start().to_vec()), |head| (head.position, unhex(&head.hash)))
    }
}
