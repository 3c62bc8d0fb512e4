//! Issues a key.

use crate::agents;
use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::grants::{self, Grant};
use crate::keys::rotation::event;
use crate::keys::{Key, NAME_CHARS_MAX, check_roles, get, store};
use crate::operators::check_cidrs;
use crate::refusal::{Checks, Refused};
use crate::roles;
use crate::secrets::{self, Sealing};
use crate::settings;
use crate::types::caller::Caller;
use crate::types::credential;
use crate::types::environment::Environment;
use crate::types::id::KeyId;
use crate::webhooks::{self, EventType};

/// A new key.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Whose.
    pub agent_id: String,
    /// Where it is good.
    pub environment: Environment,
    /// For people.
    pub name: Option<String>,
    /// Its own grants.
    pub grants: Vec<Grant>,
    /// Its roles.
    pub roles: Vec<String>,
    /// The life of each version of its secret; `None`: the policy's maximum.
    pub expires_in_days: Option<i32>,
    /// From where.
    pub allowed_cidrs: Option<Vec<String>>,
    /// May be shown to a server; `None`: only if all its grants are on one.
    pub direct: Option<bool>,
    /// May rotate itself.
    pub self_rotation: bool,
}

/// Issues a key for an agent.
///
/// # Errors
///
/// Wrong fields, a life beyond the policy's maximum, grants or roles that the caller may not give.
pub async fn issue(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    new: NewKey,
) -> Result<(Key, secrets::Issued, Done), Refused> {
    let mut tx = db.begin().await?;
    let unknown = |_| Refused::field("/agent_id", "unknown", "There is no such agent, or you may not see it.");
    let agent = agents::get(&mut tx, by, &new.agent_id)
        .await
        .map_err(|refused| if refused.cause.is_some() { refused } else { unknown(refused) })?;
    let longest = settings::get(&mut tx).await?.policy(new.environment).max_age_days;
    let days = new.expires_in_days.unwrap_or(longest);
    check(&new, days, longest)?;
    check_roles(&mut tx, by, &new.roles, &[]).await?;
    let id = KeyId::random();
    let row = store::New {
        id: id.as_str(),
        agent_id: &agent.id,
        name: new.name.as_deref(),
        environment: new.environment.as_str(),
        allowed_cidrs: new.allowed_cidrs.as_deref(),
        direct: new.direct.unwrap_or(new.grants.len() <= 1 && new.roles.is_empty()),
        self_rotation: new.self_rotation,
        days,
    };
    store::insert(&mut tx, &row).await?;
    grants::replace(&mut tx, by, id.as_str(), &new.grants, Some(new.environment.as_str())).await?;
    roles::set_of_key(&mut tx, id.as_str(), &new.roles).await?;
    let issued =
        secrets::issue(&mut tx, sealing, credential::Kind::Key(new.environment), id.as_str(), Some(days)).await?;
    let key = get(&mut tx, by, id.as_str()).await?;
    let entry = Entry::new(by, "key.issued")
        .on(&key.id)
        .project(&key.project)
        .agent(&key.agent_id)
        .key(&key.id)
        .with("direct", key.direct)
        .with("hint", issued.credential.hint());
    audit::append(&mut tx, &entry).await?;
    let event = event(EventType::KeyIssued, by, &key).with("hint", issued.credential.hint());
    webhooks::note(&mut tx, &event).await?;
    Ok((key, issued, db.commit(tx).await?))
}

fn check(new: &NewKey, days: i32, longest: i32) -> Result<(), Refused> {
    let mut checks = Checks::default();
    if let Some(name) = &new.name {
        checks.name("/name", name, NAME_CHARS_MAX);
    }
    checks.expect(
        (1..=longest).contains(&days),
        "/expires_in_days",
        "range",
        &format!("1 to {longest}, the policy's maximum"),
    );
    check_cidrs(&mut checks, new.allowed_cidrs.as_deref());
    // A direct key shows itself to a server, so a server that a role brings later would see it too.
    let roles_need_exchange = new.direct != Some(true) || new.roles.is_empty();
    checks.expect(roles_need_exchange, "/direct", "roles", "a key with roles is not direct");
    checks.done()
}
