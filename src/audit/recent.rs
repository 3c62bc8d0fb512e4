//! Verifies the end of the audit only: quick, for `doctor`. `audit verify` reads all of it.

use sqlx::{Connection, PgConnection};

use crate::audit::checkpoint::{fingerprint, signed};
use crate::audit::removal::Gone;
use crate::audit::verify::{PAGE, chain_after, compare};
use crate::audit::{CheckpointKey, Finding, Verified, store};
use crate::db;

/// How many of the last entries of each chain are verified.
pub const RECENT_ENTRIES_MAX: i64 = 10_000;
/// How many of the last checkpoints are verified.
const RECENT_CHECKPOINTS_MAX: i64 = 100;

/// Verifies the last [`RECENT_ENTRIES_MAX`] entries of each chain and the last hundred checkpoints.
///
/// # Errors
///
/// The database cannot be read. What is wrong with the audit is no error but a [`Finding`].
pub async fn verify_recent(connection: &mut PgConnection, key: &CheckpointKey<'_>) -> db::Result<Verified> {
    let mut tx = connection.begin_with("begin isolation level repeatable read, read only").await?;
    let connection = &mut *tx;
    store::hold(connection).await?;
    let gone = Gone::read(connection, key).await?;
    let mut verified = Verified { vouches_from: gone.before, ..Verified::default() };
    for head in store::heads(connection).await? {
        verified.chains += 1;
        let (first, known) = gone.start(&head.chain);
        let place = (head.position - RECENT_ENTRIES_MAX).max(first);
        let hash = if place == first { Some(known) } else { store::hash_at(connection, &head.chain, place).await? };
        match hash {
            Some(hash) => chain_after(connection, &head, (place, hash), &mut verified).await?,
            None => verified.found(Finding::Removed { chain: head.chain.clone(), from: place, to: place }),
        }
    }
    for id in store::unlinked(connection, PAGE).await? {
        verified.found(Finding::Inserted { id });
    }
    let Some(last) = store::last_checkpoint(connection).await? else { return Ok(verified) };
    let first = (last.number - RECENT_CHECKPOINTS_MAX + 1).max(1);
    let mut before = (first == 1).then(String::new);
    let mut expected = first;
    for stored in store::checkpoints_from(connection, first, RECENT_CHECKPOINTS_MAX).await? {
        verified.checkpoints += 1;
        // The one before the first that is read is believed.
        let follows = |previous: &str| before.as_deref().is_none_or(|before| before == previous);
        let read = signed(&stored.jws, key)
            .filter(|read| read.number == expected && stored.number == expected && follows(&read.previous));
        match read {
            Some(read) => compare(connection, &read, &gone, &mut verified).await?,
            None => verified.found(Finding::Checkpoint { number: expected }),
        }
        before = Some(fingerprint(&stored.jws));
        expected = stored.number + 1;
    }
    Ok(verified)
}
