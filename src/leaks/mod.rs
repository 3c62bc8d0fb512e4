//! Reports that a credential of ours was found where it must not be: who sent them, and what is done.
//!
//! Nobody is believed without a signature. decisions/0029 says why reports are signed, and what a replayed one can do.

mod signed;

use std::sync::Arc;

use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::gate::{Key, Recognised};
use crate::refusal::Refused;
use crate::revocations::{self, Kind, New};
use crate::settings::{LeakPolicy, Leaks};
use crate::types::caller::Caller;
use crate::types::environment::Environment;
use crate::webhooks::{self, Event, EventType};

pub use signed::{GitHubKeys, Signature, TOLERANCE_SECONDS, signed_by};

/// Characters of a place that are kept.
const PLACE_CHARS_MAX: usize = 500;

/// A credential of ours that was found, and where, in the reporter's words.
pub struct Found {
    /// Whose it is.
    pub what: Recognised,
    /// Where.
    pub place: String,
}

/// Does what the policy says with each, in one transaction: the revocation, its audit entry and its event hold together.
/// Returns what to wait for, when anything was revoked. One that is revoked already is left as it is, and nobody is told again.
///
/// # Errors
///
/// The database refuses.
pub async fn act(db: &Db, by: &Caller, leaks: &Leaks, found: &[Found]) -> Result<Option<(Kind, Done)>, Refused> {
    if found.is_empty() {
        return Ok(None);
    }
    let mut tx = db.begin().await?;
    let mut revoked = None;
    for Found { what, place } in found {
        let place = plain(place);
        let leak = Leak::of(what, leaks);
        let mut is_new = true;
        if let Some(kind) = leak.revoked {
            let reason = Some(format!("reported as leaked by {}", by.actor));
            let new = New { reason, project: leak.project.clone(), ..New::of(kind, &leak.id, "") };
            (_, is_new) = revocations::add(&mut tx, by, &new).await?;
            revoked = Some(kind);
        }
        let mut entry = Entry::new(by, leak.action).on(&leak.id).with("found_at", place.as_str());
        if let Some(project) = &leak.project {
            entry = entry.project(project);
        }
        entry = entry.with("revoked", leak.revoked.is_some());
        audit::append(&mut tx, &entry).await?;
        if is_new {
            let event = Event::new(EventType::KeyLeaked, leak.project.as_deref()).by(by).with("found_at", place);
            let event = event.with("revoked", leak.revoked.is_some());
            let event = if leak.is_key { event.key(&leak.id) } else { event.about(&leak.id) };
            webhooks::note(&mut tx, &event).await?;
        }
    }
    let done = db.commit(tx).await?;
    Ok(revoked.map(|kind| (kind, done)))
}

struct Leak {
    id: String,
    project: Option<String>,
    action: &'static str,
    revoked: Option<Kind>,
    is_key: bool,
}

impl Leak {
    fn of(what: &Recognised, leaks: &Leaks) -> Self {
        let by_policy = |policy: LeakPolicy, kind: Kind| (policy == LeakPolicy::Revoke).then_some(kind);
        match what {
            Recognised::Key(key, project) => Self {
                id: key.id.to_string(),
                project: Some(project.to_string()),
                action: "key.leaked",
                revoked: by_policy(policy_of(leaks, key), Kind::Key),
                is_key: true,
            },
            Recognised::Operator(id) => Self {
                id: id.to_string(),
                project: None,
                action: "operator.leaked",
                revoked: by_policy(leaks.operators, Kind::Operator),
                is_key: false,
            },
            // A server without its secret could ask nothing any more: its people rotate it.
            Recognised::Server(id, project) => Self {
                id: id.to_string(),
                project: Some(project.to_string()),
                action: "server.leaked",
                revoked: None,
                is_key: false,
            },
        }
    }
}

fn policy_of(leaks: &Leaks, key: &Arc<Key>) -> LeakPolicy {
    match key.environment {
        Environment::Prod => leaks.prod,
        Environment::Dev => leaks.dev,
    }
}

/// A place is a stranger's text: for people to read, never a link to follow, and without what could be a secret of ours.
fn plain(place: &str) -> String {
    if crate::types::credential::looks_like_one(place) {
        return "[redacted]".to_owned();
    }
    place.chars().filter(|sign| !sign.is_control()).take(PLACE_CHARS_MAX).collect()
}
