//! The versions of every random secret we give out: of agents' keys, operators' keys and servers' client secrets.
//!
//! Owns `secrets` and `secret_uses`. At rest there is only a keyed digest. One rule for all three kinds: at most two
//! versions live, the newest and, during an overlap, the one before it.

mod store;

pub use store::{Digest, InUse, Rehash, Row, Use, load_others, load_some, record_uses, rehash, secret_keys_in_use};

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::refusal::{Code, Refused};
use crate::types::credential::{Credential, Kind};
use crate::types::keyring::Keyring;

/// The overlap of a rotation unless asked otherwise.
pub const GRACE_SECONDS_DEFAULT: i64 = 86_400;
/// The longest overlap that may be asked for.
pub const GRACE_SECONDS_MAX: i64 = 90 * 86_400;

/// How long after a rotation the version before may rotate, while the newest was never used.
pub const LOST_ANSWER_SECONDS: i64 = 600;

/// The secret key that new digests and sealed values are made under: the newest that every node announces.
#[derive(Clone, Copy, Debug)]
pub struct Sealing<'a> {
    /// All secret keys of this node.
    pub keyring: &'a Keyring,
    /// The one to use.
    pub secret_key: &'a str,
}

/// A version that was just made.
#[derive(Debug)]
pub struct Issued {
    /// To be shown once.
    pub credential: Credential,
    /// Counts from 1.
    pub version: i32,
    /// When it ends; `None`: with its owner.
    pub expires_at: Option<OffsetDateTime>,
    /// When the version before it ends, if it still lives.
    pub previous_expires_at: Option<OffsetDateTime>,
}

/// Makes the first version of a secret.
///
/// # Errors
///
/// The database refuses.
pub async fn issue(
    tx: &mut PgConnection,
    sealing: Sealing<'_>,
    kind: Kind,
    owner: &str,
    life_days: Option<i32>,
) -> Result<Issued, Refused> {
    add(tx, sealing, Next { kind, owner, version: 1, life_days }).await
}

/// Makes the next version. The one before it lives on for the grace, but never longer than it would have; with a grace
/// of 0 every older one ends at once.
///
/// While the newest has never been used – its answer may have been lost – it is replaced and the older keeps its end.
/// The owner's row must be locked.
///
/// # Errors
///
/// [`Code::OverlapRunning`] when two used versions live and the grace is not 0, [`Code::InvalidFields`] for a grace out of bounds.
pub async fn rotate(
    tx: &mut PgConnection,
    sealing: Sealing<'_>,
    (kind, owner): (Kind, &str),
    life_days: Option<i32>,
    grace_seconds: Option<i64>,
) -> Result<Issued, Refused> {
    let grace = grace_seconds.unwrap_or(GRACE_SECONDS_DEFAULT);
    if !(0..=GRACE_SECONDS_MAX).contains(&grace) {
        return Err(Refused::field("/grace_seconds", "range", format!("0 to {GRACE_SECONDS_MAX}")));
    }
    let versions = store::versions(tx, owner).await?;
    let newest = versions.first().ok_or_else(|| Refused::not_found("secret"))?;
    let older_lives = versions.iter().skip(1).any(|version| version.live);
    let version = newest.next;
    if grace == 0 {
        store::end_all(tx, owner).await?;
    } else if older_lives && newest.live {
        if newest.used {
            return Err(Refused::new(
                Code::OverlapRunning,
                "The overlap of the last rotation is still running. Wait for its end, or rotate with `grace_seconds` 0.",
            ));
        }
        store::remove(tx, owner, newest.number).await?;
    } else {
        store::end_after(tx, owner, newest.number, grace).await?;
    }
    store::remove_before(tx, owner, newest.number - 1).await?;
    let mut issued = add(tx, sealing, Next { kind, owner, version, life_days }).await?;
    // A policy that became stricter may give the new one less than is left of the old one.
    store::none_outlives(tx, owner, version).await?;
    issued.previous_expires_at = store::previous_end(tx, owner, version).await?;
    Ok(issued)
}

/// Takes a rotation back while its overlap runs: the newest version is gone at once, and the one before it has the end again that it
/// had before. What the newest was called is never used again. The owner's row must be locked.
///
/// # Errors
///
/// [`Code::NoOverlap`].
pub async fn cancel(tx: &mut PgConnection, owner: &str) -> Result<(), Refused> {
    let (newest, older) = overlap(tx, owner).await?;
    store::remove(tx, owner, newest.number).await?;
    Ok(store::restore(tx, owner, older.number, newest.next).await?)
}

/// Ends the version before the newest now. The owner's row must be locked.
///
/// # Errors
///
/// [`Code::NoOverlap`].
pub async fn finish(tx: &mut PgConnection, owner: &str) -> Result<(), Refused> {
    let (_, older) = overlap(tx, owner).await?;
    Ok(store::end_now(tx, owner, older.number).await?)
}

/// The two versions that live.
async fn overlap(tx: &mut PgConnection, owner: &str) -> Result<(store::Version, store::Version), Refused> {
    let mut versions = store::versions(tx, owner).await?.into_iter();
    let older_lives = |older: &store::Version| older.live;
    match (versions.next(), versions.next().filter(older_lives)) {
        (Some(newest), Some(older)) => Ok((newest, older)),
        _ => Err(Refused::new(Code::NoOverlap, "No overlap is running: there is one secret, or none.")),
    }
}

/// Whether the holder of a version may make the next one: it is the newest; or the one before, soon after the newest was made and
/// while that was never used – its answer may have been lost. The owner's row must be locked.
///
/// # Errors
///
/// [`Code::NotNewest`], or [`Code::Unauthenticated`] when the version lives no more.
pub async fn may_succeed(tx: &mut PgConnection, owner: &str, version: i32) -> Result<(), Refused> {
    let versions = store::versions(tx, owner).await?;
    let Some(own) = versions.iter().find(|own| own.number == version && own.live) else {
        return Err(Refused::new(Code::Unauthenticated, "This secret works no more."));
    };
    let newest = versions.first().unwrap_or(own);
    let lost = !newest.used && newest.age_seconds < LOST_ANSWER_SECONDS;
    if newest.number == own.number || lost {
        return Ok(());
    }
    let detail = "There is a newer secret of this key. The one before rotates only for ten minutes, while the newest was never used.";
    Err(Refused::new(Code::NotNewest, detail))
}

/// Whether the newest version was never used, and no other lives: nobody has it yet.
///
/// # Errors
///
/// The database cannot answer.
pub async fn is_untouched(tx: &mut PgConnection, owner: &str) -> db::Result<bool> {
    let versions = store::versions(tx, owner).await?;
    let mut older = versions.iter().skip(1);
    Ok(versions.first().is_some_and(|newest| !newest.used) && older.all(|version| !version.live))
}

struct Next<'a> {
    kind: Kind,
    owner: &'a str,
    version: i32,
    life_days: Option<i32>,
}

async fn add(tx: &mut PgConnection, sealing: Sealing<'_>, next: Next<'_>) -> Result<Issued, Refused> {
    let id = next.owner.as_bytes().last_chunk::<12>().ok_or_else(|| Refused::not_found("owner"))?;
    let credential = Credential::generate(next.kind, id);
    let digest = sealing
        .keyring
        .digest(sealing.secret_key, credential.reveal())
        .ok_or_else(|| Refused::new(Code::Internal, "The secret key to use is not known here."))?;
    let new = store::New {
        owner: next.owner,
        version: next.version,
        secret_key: sealing.secret_key,
        digest: &digest,
        hint: &credential.hint(),
        life_days: next.life_days,
    };
    let expires_at = store::insert(tx, &new).await?;
    Ok(Issued { credential, version: next.version, expires_at, previous_expires_at: None })
}

/// The state of a version that works while a newer one is there.
pub const SUPERSEDED: &str = "superseded";

/// A version as operators see it.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = SecretVersion)]
pub struct Shown {
    /// Counts from 1.
    pub version: i32,
    /// `active`, `due` when it must be replaced soon, `superseded` while a newer one is there, `retired` when its time is over.
    pub state: String,
    /// The last characters of the secret.
    pub hint: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<OffsetDateTime>,
    /// From where it was last used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_ip: Option<String>,
    /// On which server it was last used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_server_id: Option<String>,
}

/// The newest two versions of an owner, newest first. `remind_days`: so many days before its end the newest is due.
///
/// # Errors
///
/// The database cannot answer.
pub async fn shown(connection: &mut PgConnection, owner: &str, remind_days: &[i32]) -> db::Result<Vec<Shown>> {
    store::shown(connection, owner, remind_days).await
}
