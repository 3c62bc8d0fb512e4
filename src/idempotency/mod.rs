//! Outcomes of requests with an `Idempotency-Key`, kept 24 hours, without the secrets they showed. Owns `idempotency_keys`.

mod store;

use sqlx::PgConnection;

use crate::db;

pub use store::{expire, finish, forget};

/// Characters of a key at most.
pub const KEY_CHARS_MAX: usize = 255;

/// One request, as far as repeating it goes.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who sent it.
    pub operator: String,
    /// Method and path.
    pub route: String,
    /// The key.
    pub key: String,
    /// SHA-256 of its body.
    pub fingerprint: [u8; 32],
}

/// What is known of a request that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is the first.
    First,
    /// The key was used with another body.
    Reused,
    /// The first still runs, or its end is not known.
    Running,
    /// The outcome of the first, without its secret.
    Done {
        /// Its status.
        status: u16,
        /// Its body.
        body: String,
    },
}

/// Begins a request: only one of several at the same time is the first.
///
/// # Errors
///
/// The database cannot answer.
pub async fn begin(connection: &mut PgConnection, request: &Request) -> db::Result<Begun> {
    if store::insert(connection, request).await? {
        return Ok(Begun::First);
    }
    let Some(known) = store::find(connection, request).await? else { return Ok(Begun::Running) };
    if known.fingerprint != request.fingerprint {
        return Ok(Begun::Reused);
    }
    Ok(match known.status.and_then(|status| u16::try_from(status).ok()) {
        Some(status) => Begun::Done { status, body: known.body.unwrap_or_default() },
        None => Begun::Running,
    })
}
