//! The running nodes, as the database knows them. Owns `nodes`.

mod store;

use time::OffsetDateTime;

pub use store::{
    Beat, Census, Row, Seen, acknowledge, beat, census, insert, list, others, remove, remove_all, remove_silent,
};

/// A node as operators see it.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Node {
    /// Random at each start.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// Which release it runs.
    pub version: String,
    /// What it has applied: `<history>.<number>`.
    pub applied: String,
    /// How many feed entries it is behind.
    pub behind: i64,
    /// When it started.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When it last proved to be current.
    #[serde(with = "time::serde::rfc3339")]
    pub beat_at: OffsetDateTime,
    /// Ids of the secret keys it can open, newest first.
    pub secret_keys: Vec<String>,
}
