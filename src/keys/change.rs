//! Changes a key.

use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::grants::{self, Grant};
use crate::keys::{Key, NAME_CHARS_MAX, check_roles, complete, get, store};
use crate::operators::check_cidrs;
use crate::projects::precondition;
use crate::refusal::{Checks, Code, Refused};
use crate::revocations::{self, Kind, New};
use crate::roles;
use crate::types::caller::Caller;
use crate::types::patch::Patch;

/// A change of a key (RFC 7396).
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New name.
    pub name: Patch<String>,
    /// New grants.
    pub grants: Option<Vec<Grant>>,
    /// New roles.
    pub roles: Option<Vec<String>>,
    /// New addresses.
    pub allowed_cidrs: Patch<Vec<String>>,
    /// May be shown to a server.
    pub direct: Option<bool>,
    /// May rotate itself.
    pub self_rotation: Option<bool>,
    /// Switched off or on.
    pub disabled: Option<bool>,
}

/// Changes a key. Switching it off kills its session tokens for good. Returns whether a right was taken away.
///
/// # Errors
///
/// No such key, wrong fields, grants or roles that the caller may not give, a second server for a direct key, an old tag.
pub async fn change(
    db: &Db,
    by: &Caller,
    id: &str,
    change: Change,
    expected: Option<&str>,
) -> Result<(Key, Done, bool), Refused> {
    let mut tx = db.begin().await?;
    let before = store::lock(&mut tx, by.projects(), id).await?.ok_or_else(|| Refused::not_found("key"))?;
    let before = complete(&mut tx, before).await?;
    precondition(&before, expected)?;
    let wanted = Wanted::of(change, &before);
    wanted.check(&before)?;
    check_roles(&mut tx, by, &wanted.roles, &before.roles).await?;
    let mut narrowed = wanted.narrows(&before);
    narrowed |= grants::replace(&mut tx, by, id, &wanted.grants, Some(&before.environment)).await?;
    roles::set_of_key(&mut tx, id, &wanted.roles).await?;
    let row = store::Changed {
        id,
        name: wanted.name.as_deref(),
        allowed_cidrs: wanted.allowed_cidrs.as_deref(),
        direct: wanted.direct,
        self_rotation: wanted.self_rotation,
        disabled: wanted.disabled,
    };
    store::set(&mut tx, &row).await?;
    if wanted.disabled && !before.disabled {
        revocations::add(&mut tx, by, &New::of(Kind::KeySessions, id, &before.project)).await?;
    }
    let after = get(&mut tx, by, id).await?;
    let entry = Entry::new(by, "key.changed")
        .on(id)
        .project(&after.project)
        .agent(&after.agent_id)
        .key(id)
        .with("direct", after.direct)
        .with("disabled", after.disabled)
        .with("grants", serde_json::to_value(&after.grants).unwrap_or_default());
    audit::append(&mut tx, &entry).await?;
    Ok((after, db.commit(tx).await?, narrowed))
}

/// The key as it is to be.
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the key")]
struct Wanted {
    name: Option<String>,
    grants: Vec<Grant>,
    roles: Vec<String>,
    allowed_cidrs: Option<Vec<String>>,
    direct: bool,
    direct_was_said: bool,
    self_rotation: bool,
    disabled: bool,
}

impl Wanted {
    fn of(change: Change, before: &Key) -> Self {
        Self {
            name: change.name.over(before.name.clone()),
            grants: change.grants.unwrap_or_else(|| before.grants.clone()),
            roles: change.roles.unwrap_or_else(|| before.roles.clone()),
            allowed_cidrs: change.allowed_cidrs.over(before.allowed_cidrs.clone()),
            direct: change.direct.unwrap_or(before.direct),
            direct_was_said: change.direct.is_some(),
            self_rotation: change.self_rotation.unwrap_or(before.self_rotation),
            disabled: change.disabled.unwrap_or(before.disabled),
        }
    }

    fn check(&self, before: &Key) -> Result<(), Refused> {
        let mut checks = Checks::default();
        if let Some(name) = &self.name {
            checks.name("/name", name, NAME_CHARS_MAX);
        }
        check_cidrs(&mut checks, self.allowed_cidrs.as_deref());
        checks.done()?;
        let more_servers = self.grants.len() > 1 && self.grants.len() > before.grants.len();
        if self.direct && !self.direct_was_said && (more_servers || !self.roles.is_empty()) {
            let detail =
                "The key is direct: each server that is shown it could use it on the others. Say `direct` too.";
            return Err(Refused::new(Code::DirectUndecided, detail));
        }
        if self.direct && !self.roles.is_empty() {
            return Err(Refused::field("/direct", "roles", "a key with roles is not direct"));
        }
        Ok(())
    }

    fn narrows(&self, before: &Key) -> bool {
        let fewer_roles = before.roles.iter().any(|role| !self.roles.contains(role));
        let other_addresses = self.allowed_cidrs.is_some() && self.allowed_cidrs != before.allowed_cidrs;
        fewer_roles || other_addresses || (before.direct && !self.direct) || (self.disabled && !before.disabled)
    }
}
