//! Verifies the audit piece by piece, going on where the last piece ended: for the job, which must not read all of it at once.

use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};

use crate::audit::chain::{hex, unhex};
use crate::audit::checkpoint::{fingerprint, signed};
use crate::audit::removal::Gone;
use crate::audit::verify::{PAGE, Walk, compare};
use crate::audit::{CheckpointKey, Finding, Verified, store};
use crate::db;

/// Up to where everything was verified. The default is before everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Chains before this one, by name, are done.
    chain: String,
    /// The last entry of it that was read, and its hash in hex.
    position: i64,
    hash: String,
    /// The last checkpoint that was read, and its hash. Checkpoints come after all chains.
    checkpoint: i64,
    previous: String,
    /// All chains are done.
    chains_done: bool,
}

/// Verifies the next `pages_max` pages of a thousand entries or checkpoints. `None` for where it got to: all is done, and the
/// next call begins anew. What was changed behind it is found by then.
///
/// # Errors
///
/// The database cannot be read. What is wrong with the audit is no error but a [`Finding`].
pub async fn verify_on(
    connection: &mut PgConnection,
    key: &CheckpointKey<'_>,
    from: Reached,
    pages_max: u32,
) -> db::Result<(Verified, Option<Reached>)> {
    let mut tx = connection.begin_with("begin isolation level repeatable read, read only").await?;
    let connection = &mut *tx;
    store::hold(connection).await?;
    let gone = Gone::read(connection, key).await?;
    let mut verified = Verified { vouches_from: gone.before, ..Verified::default() };
    let (mut reached, mut pages) = (from, pages_max);
    if !reached.chains_done {
        chains(connection, &gone, (&mut reached, &mut pages), &mut verified).await?;
        if !reached.chains_done {
            return Ok((verified, Some(reached)));
        }
        for id in store::unlinked(connection, PAGE).await? {
            verified.found(Finding::Inserted { id });
        }
    }
    let done = checkpoints(connection, (&gone, key), (&mut reached, &mut pages), &mut verified).await?;
    Ok((verified, (!done).then_some(reached)))
}

async fn chains(
    connection: &mut PgConnection,
    gone: &Gone,
    (reached, pages): (&mut Reached, &mut u32),
    verified: &mut Verified,
) -> db::Result<()> {
    for head in store::heads(connection).await?.into_iter().filter(|head| *head.chain >= *reached.chain) {
        let first = gone.start(&head.chain);
        let known = head.chain == reached.chain && reached.position > first.0;
        let start = if known { (reached.position, unhex(&reached.hash)) } else { first };
        let mut walk = Walk::from(&head, start);
        loop {
            if *pages == 0 {
                reached.hash = hex(&walk.previous);
                (reached.position, reached.chain) = (walk.place, head.chain);
                return Ok(());
            }
            if !walk.page(connection, verified).await? {
                break;
            }
            *pages -= 1;
        }
        walk.end(verified);
        verified.chains += 1;
    }
    reached.chains_done = true;
    Ok(())
}

/// Whether all checkpoints are done.
async fn checkpoints(
    connection: &mut PgConnection,
    (gone, key): (&Gone, &CheckpointKey<'_>),
    (reached, pages): (&mut Reached, &mut u32),
    verified: &mut Verified,
) -> db::Result<bool> {
    while *pages > 0 {
        *pages -= 1;
        let page = store::checkpoints_from(connection, reached.checkpoint + 1, PAGE).await?;
        if page.is_empty() {
            return Ok(true);
        }
        for stored in page {
            let number = reached.checkpoint + 1;
            verified.checkpoints += 1;
            let right = signed(&stored.jws, key)
                .filter(|read| read.number == number && stored.number == number && read.previous == reached.previous);
            match right {
                Some(read) => compare(connection, &read, gone, verified).await?,
                None => verified.found(Finding::Checkpoint { number }),
            }
            (reached.checkpoint, reached.previous) = (stored.number, fingerprint(&stored.jws));
        }
    }
    Ok(false)
}
