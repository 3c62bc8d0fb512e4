//! Telling people what happened: webhooks and mail, from an outbox. Owns `webhooks`, `webhook_keys`, `deliveries` and
//! `mailers`.
//!
//! Whoever changes something calls [`note`] in the transaction of the change, beside its audit entry: what is committed is
//! told, and what is not committed is not. decisions/0027 says what is promised to receivers and what is not.

mod event;
mod store;

use sqlx::PgConnection;

use crate::db;

pub use event::{Event, EventType};

/// Tells of what happened, when the transaction commits: a row for each webhook that asked for this type in this project, and
/// one for the owner's mail. Where nobody asked it writes nothing. One statement.
///
/// # Errors
///
/// The database refuses.
pub async fn note(tx: &mut PgConnection, event: &Event) -> db::Result<()> {
    store::note(tx, event).await
}
