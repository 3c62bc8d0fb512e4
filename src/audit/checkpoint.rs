//! Signed statements of where the chains stand. Each covers the chains that moved, and names the one before it.
//!
//! A copy kept elsewhere – the log carries each – shows later whether the end of a chain was cut off or rewritten.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::chain::{Head, hex};
use crate::audit::store;
use crate::db;

/// Signs checkpoints. A key that signs nothing else.
pub struct Signer<'a> {
    /// The key's id.
    pub kid: &'a str,
    /// Makes a JWS in compact form over a payload.
    pub sign: &'a (dyn Fn(&Checkpoint) -> Option<String> + Sync),
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Checkpoint {
    /// Counts from 1.
    pub number: i64,
    /// SHA-256 of the JWS before this one, in hex; empty for the first.
    pub previous: String,
    /// When, in seconds since 1970.
    pub iat: i64,
    /// The chains that moved since the one before.
    pub heads: Vec<Head>,
    /// What was removed with this checkpoint, because its time was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removed>,
}

/// Entries that are gone: they were kept as long as they had to be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Removed {
    /// All of them were written before then, in seconds since 1970.
    pub before: i64,
    /// Up to where, in each chain, and the hash of the last one: what follows is vouched for.
    pub heads: Vec<Head>,
}

/// Looks up the public half of the key that signed a checkpoint.
pub type CheckpointKey<'a> = dyn Fn(&str) -> Option<jsonwebtoken::DecodingKey> + Sync + 'a;

/// Writes the next checkpoint if a chain moved since the last, and returns it as signed. Nodes may try at the same time;
/// one succeeds. Run it in one transaction: the number and what it covers belong together.
///
/// # Errors
///
/// The database cannot be asked.
pub async fn checkpoint(
    connection: &mut PgConnection,
    signer: &Signer<'_>,
    now: OffsetDateTime,
) -> db::Result<Option<String>> {
    next(connection, signer, now, None).await
}

/// The next checkpoint: when a chain moved, or entries are to be removed.
pub(super) async fn next(
    connection: &mut PgConnection,
    signer: &Signer<'_>,
    now: OffsetDateTime,
    removed: Option<Removed>,
) -> db::Result<Option<String>> {
    let last = store::last_checkpoint(connection).await?;
    let moved = store::moved(connection).await?;
    if moved.is_empty() && removed.is_none() {
        return Ok(None);
    }
    let (number, previous) = last.map_or((1, String::new()), |last| (last.number + 1, fingerprint(&last.jws)));
    let next = Checkpoint { number, previous, iat: now.unix_timestamp(), heads: moved, removed };
    let Some(jws) = (signer.sign)(&next) else { return Ok(None) };
    if !store::insert_checkpoint(connection, (number, signer.kid, &jws), next.removed.is_some()).await? {
        return Ok(None);
    }
    store::set_covered(connection, &next.heads).await?;
    Ok(Some(jws))
}

/// A checkpoint as it is read over the API.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = AuditCheckpoint)]
pub struct Published {
    /// Counts from 1.
    pub number: i64,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The key that signed it.
    pub kid: String,
    /// The whole of it, signed (RFC 7515, compact).
    pub jws: String,
}

/// Checkpoints from a number on, oldest first.
///
/// # Errors
///
/// The database cannot be asked.
pub async fn checkpoints(connection: &mut PgConnection, from: i64, limit: i64) -> db::Result<Vec<Published>> {
    let rows = store::checkpoints_from(connection, from, limit).await?;
    Ok(rows.into_iter().map(|row| Published { number: row.number, at: row.at, kid: row.kid, jws: row.jws }).collect())
}

/// The hash by which the next checkpoint names this one.
pub(super) fn fingerprint(jws: &str) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, jws.as_bytes()).as_ref())
}

/// What a signed checkpoint says, if its signature is right.
pub(super) fn signed(jws: &str, key: &CheckpointKey<'_>) -> Option<Checkpoint> {
    let kid = jsonwebtoken::decode_header(jws).ok()?.kid?;
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    Some(jsonwebtoken::decode::<Checkpoint>(jws, &key(&kid)?, &validation).ok()?.claims)
}
