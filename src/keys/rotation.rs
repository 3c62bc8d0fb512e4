//! Rotation: an operator's, a key's own, and its end – taken back, or finished early.

use sqlx::PgConnection;

use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::keys::{Key, claims, complete, environment, get, notices, store};
use crate::refusal::{Code, Refused};
use crate::secrets::{self, Sealing};
use crate::settings::{self, KeyPolicy};
use crate::types::caller::Caller;
use crate::types::credential;
use crate::webhooks::{self, Event, EventType};

/// What a rotation made.
#[derive(Debug)]
pub struct Rotated {
    /// The key.
    pub key: Key,
    /// Its new secret.
    pub issued: secrets::Issued,
    /// The version before it, if there is one, and who uses that.
    pub previous: Option<secrets::Shown>,
}

/// A key that is locked, with what its environment's policy says.
pub(super) struct Locked {
    pub(super) row: store::Stored,
    pub(super) policy: KeyPolicy,
}

impl Locked {
    /// Locks a key that one may rotate.
    pub(super) async fn new(tx: &mut PgConnection, projects: Option<&[String]>, id: &str) -> Result<Self, Refused> {
        let row = store::lock(tx, projects, id).await?.ok_or_else(|| Refused::not_found("key"))?;
        if row.status == "revoked" {
            return Err(Refused::new(Code::KeyRevoked, "The key is revoked, for good. Issue another."));
        }
        let policy = settings::get(tx).await?.policy(environment(&row.environment)).clone();
        Ok(Self { row, policy })
    }

    /// Makes the next version. No version lives longer than the policy allows now; a link to an older one leads nowhere.
    pub(super) async fn rotate(
        self,
        tx: &mut PgConnection,
        sealing: Sealing<'_>,
        grace_seconds: Option<i64>,
    ) -> Result<Rotated, Refused> {
        let Self { row, policy } = self;
        let kind = credential::Kind::Key(environment(&row.environment));
        // The policy may have become stricter since the key was issued.
        let days = row.expires_in_days.min(policy.max_age_days);
        let grace = grace_seconds.unwrap_or(policy.overlap_seconds);
        let issued = secrets::rotate(tx, sealing, (kind, &row.id), Some(days), Some(grace)).await?;
        claims::withdraw(tx, &row.id).await?;
        let previous = secrets::shown(tx, &row.id, &policy.remind_days).await?.into_iter().nth(1);
        Ok(Rotated { key: complete(tx, row).await?, issued, previous })
    }
}

/// The entry of a change of a key's secret.
pub(super) fn entry(by: &Caller, action: &str, key: &Key) -> Entry {
    Entry::new(by, action).on(&key.id).project(&key.project).agent(&key.agent_id).key(&key.id)
}

/// What is told of a change of a key's secret.
pub(super) fn event(kind: EventType, by: &Caller, key: &Key) -> Event {
    Event::new(kind, Some(&key.project)).key(&key.id).by(by)
}

/// Makes a new version of a key's secret; the old one lives on for the grace, or as long as the policy says. Brings an expired
/// key back to life. No version lives longer than the policy allows now.
///
/// # Errors
///
/// No such key, it is revoked, or an overlap that still runs.
pub async fn rotate(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    id: &str,
    grace_seconds: Option<i64>,
) -> Result<(Rotated, Done), Refused> {
    let mut tx = db.begin().await?;
    let rotated = Locked::new(&mut tx, by.projects(), id).await?.rotate(&mut tx, sealing, grace_seconds).await?;
    let entry = entry(by, "key.rotated", &rotated.key).with("hint", rotated.issued.credential.hint());
    audit::append(&mut tx, &entry).await?;
    webhooks::note(&mut tx, &webhooks::rotated(event(EventType::KeyRotated, by, &rotated.key), by, &rotated.issued))
        .await?;
    Ok((rotated, db.commit(tx).await?))
}

/// Who holds a key, by the version of its secret that it showed.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// The key.
    pub key: &'a str,
    /// The version.
    pub version: i32,
}

/// The same by the key itself, if it may: its newest secret, or the one before while the answer may have been lost. The overlap is
/// never shorter than the policy's, and nothing comes back to life.
///
/// # Errors
///
/// [`Code::SelfRotationOff`], [`Code::NotNewest`], [`Code::OverlapRunning`], [`Code::Unauthenticated`] for a key or secret that
/// works no more, [`Code::InvalidFields`] for a grace below the policy's overlap.
pub async fn rotate_self(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    holder: Holder<'_>,
    grace_seconds: Option<i64>,
) -> Result<(Rotated, Done), Refused> {
    let mut tx = db.begin().await?;
    let locked = Locked::new(&mut tx, None, holder.key).await?;
    if locked.row.disabled {
        return Err(Refused::new(Code::Unauthenticated, "The key is switched off."));
    }
    secrets::may_succeed(&mut tx, holder.key, holder.version).await?;
    if !locked.row.self_rotation {
        return Err(Refused::new(Code::SelfRotationOff, "This key may not rotate itself; an operator can allow it."));
    }
    let shortest = locked.policy.overlap_seconds;
    if grace_seconds.is_some_and(|grace| grace < shortest) {
        return Err(Refused::field("/grace_seconds", "range", format!("{shortest}, the policy's overlap, or more")));
    }
    let rotated = locked.rotate(&mut tx, sealing, grace_seconds).await?;
    let entry = entry(by, "key.rotated", &rotated.key)
        .with("hint", rotated.issued.credential.hint())
        .with("by", "key")
        .with("version", holder.version);
    audit::append(&mut tx, &entry).await?;
    // Also by mail: an owner who knows of no rotation has lost a key.
    let event = event(EventType::KeyRotated, by, &rotated.key).with("by", "key").to_owner();
    webhooks::note(&mut tx, &event).await?;
    Ok((rotated, db.commit(tx).await?))
}

/// Takes a rotation back while its overlap runs: the new secret is dead with its tokens, the old one has its own end again.
///
/// # Errors
///
/// No such key, it is revoked, or [`Code::NoOverlap`].
pub async fn cancel(db: &Db, by: &Caller, id: &str) -> Result<(Key, Done), Refused> {
    let mut tx = db.begin().await?;
    Locked::new(&mut tx, by.projects(), id).await?;
    secrets::cancel(&mut tx, id).await?;
    notices::told_nothing(&mut tx, id).await?;
    claims::withdraw(&mut tx, id).await?;
    let key = get(&mut tx, by, id).await?;
    audit::append(&mut tx, &entry(by, "key.rotation_cancelled", &key)).await?;
    webhooks::note(&mut tx, &event(EventType::KeyRotationCancelled, by, &key)).await?;
    Ok((key, db.commit(tx).await?))
}

/// Ends the old secret now, before the end of its overlap.
///
/// # Errors
///
/// No such key, it is revoked, or [`Code::NoOverlap`].
pub async fn finish(db: &Db, by: &Caller, id: &str) -> Result<(Key, Done), Refused> {
    let mut tx = db.begin().await?;
    Locked::new(&mut tx, by.projects(), id).await?;
    secrets::finish(&mut tx, id).await?;
    let key = get(&mut tx, by, id).await?;
    audit::append(&mut tx, &entry(by, "key.rotation_finished", &key)).await?;
    // That the old secret has ended is told by the job that tells of every end.
    Ok((key, db.commit(tx).await?))
}
