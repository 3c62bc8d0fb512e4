//! The audit: who did what, on which thing, with which result, from where and when. Never a secret.
//!
//! Owns `audit_chains`, `audit_log`, `audit_checkpoints`. Changes write their entry in their own transaction; what
//! changes nothing goes through the [`Recorder`]. The database links each entry into its chain inside COMMIT.

mod chain;
mod checkpoint;
mod entry;
mod recent;
mod recorder;
mod removal;
mod resume;
mod store;
mod verify;

pub use chain::Head;
pub use checkpoint::{Checkpoint, CheckpointKey, Published as Checkpointed, Removed, Signer, checkpoint, checkpoints};
pub use entry::{Entry, Outcome};
pub use recent::{RECENT_ENTRIES_MAX, verify_recent};
pub use recorder::{QUEUE_ENTRIES_MAX, Recorder};
pub(crate) use recorder::{open_chain, own_chain};
pub use removal::remove_oldest;
pub use resume::{Reached, verify_on};
pub use store::{Filter, Recorded, list, uncovered_since};
pub use verify::{Finding, Verified, verify};

use sqlx::PgConnection;

use crate::db;

/// The chain of everything that changed something.
pub const CHANGES: &str = "changes";

/// Writes a change's entry in the change's own transaction: both are there or neither.
///
/// # Errors
///
/// The database refuses; the change must then fail too.
pub async fn append(tx: &mut PgConnection, entry: &Entry) -> db::Result<()> {
    append_to(tx, CHANGES, entry).await
}

/// Writes an entry of this start of the node in a transaction of its own kind: a batch of issued tokens.
///
/// # Errors
///
/// The database refuses; the batch must then fail too.
pub async fn append_to(tx: &mut PgConnection, chain: &str, entry: &Entry) -> db::Result<()> {
    store::insert(tx, chain, &[entry.to_body()]).await.map_err(|error| match error {
        db::Error::Sqlx(error) => db::Error::Unrecorded(error),
        other => other,
    })
}
