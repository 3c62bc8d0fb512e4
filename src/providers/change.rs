//! How operators add, change and remove identity providers.

use sqlx::PgConnection;

use serde_json::Value;

use crate::audit::{self, Entry};
use crate::db::{self, Db, Done};
use crate::grants;
use crate::projects::precondition;
use crate::providers::client_secret::ClientSecret;
use crate::providers::rules::{self, Rule};
use crate::providers::settings::{ProviderKind, Settings};
use crate::providers::{PROVIDERS_MAX, Provider, Shown, by_id, everywhere, store};
use crate::refusal::{Checks, Code, Refused};
use crate::revocations::{self, Kind, New};
use crate::roles;
use crate::secrets::Sealing;
use crate::types::caller::Caller;
use crate::types::id::ProviderId;
use crate::types::patch::Patch;
use crate::types::redacted::Secret;

const TITLE_CHARS_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 32;
const SECRET_BYTES_MAX: usize = 500;

/// What this node allows beyond the rule.
#[derive(Clone, Copy, Debug)]
pub struct Here {
    /// Providers may be on this machine, without TLS too.
    pub loopback: bool,
    /// The service is for this machine only: the demo provider may be.
    pub local: bool,
}

/// A new provider.
#[derive(Debug)]
pub struct NewProvider {
    /// Stands in addresses: `a-z`, `0-9` and `-`, at most 32.
    pub name: String,
    /// What people read; `None`: the name.
    pub title: Option<String>,
    /// What it speaks.
    pub kind: ProviderKind,
    /// What its kind needs.
    pub settings: Value,
    /// Our secret there; `None` for a public client.
    pub client_secret: Option<Secret<String>>,
    /// Who has which role.
    pub rules: Vec<Rule>,
    /// Its identity assertions stand for its people.
    pub enterprise_managed: bool,
}

/// A change of a provider (RFC 7396).
#[derive(Debug, Default)]
pub struct Change {
    /// New title; clearing it makes it the name.
    pub title: Patch<String>,
    /// A merge patch of the settings.
    pub settings: Option<Value>,
    /// New secret.
    pub client_secret: Patch<Secret<String>>,
    /// All its rules.
    pub rules: Option<Vec<Rule>>,
    /// Whether its identity assertions stand for its people.
    pub enterprise_managed: Option<bool>,
    /// Switched off or on.
    pub disabled: Option<bool>,
}

/// Adds a provider.
///
/// # Errors
///
/// The caller is not on all projects, fields are wrong, the name is taken, or a rule would give a role whose rights the
/// caller may not give.
pub async fn create(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    here: Here,
    new: NewProvider,
) -> Result<(Shown, Done), Refused> {
    everywhere(by)?;
    let settings = Settings::read(new.kind, new.settings)?;
    let mut provider = Provider {
        id: ProviderId::random(),
        title: new.title.unwrap_or_else(|| new.name.clone()),
        name: new.name,
        kind: new.kind,
        enterprise_managed: new.enterprise_managed,
        disabled: false,
        settings,
        rules: new.rules,
        client_secret: None,
        created_at: time::OffsetDateTime::UNIX_EPOCH,
    };
    check(&provider, new.client_secret.as_ref(), here)?;
    provider.client_secret =
        new.client_secret.map(|secret| ClientSecret::seal(sealing, provider.id, &secret)).transpose()?;
    let mut tx = db.begin().await?;
    if store::count(&mut tx).await? >= PROVIDERS_MAX {
        return Err(Refused::field("/name", "too_many", format!("there are {PROVIDERS_MAX} providers; delete one")));
    }
    let taken = || Refused::new(Code::NameTaken, "There is a provider of this name.");
    provider.created_at = store::insert(&mut tx, &provider).await.map_err(one_issuer)?.ok_or_else(taken)?;
    set_rules(&mut tx, by, &provider, &[]).await?;
    let entry = Entry::new(by, "provider.created").on(provider.id.as_str()).with("kind", provider.kind.as_str());
    audit::append(&mut tx, &recorded(entry, &provider)).await?;
    Ok((provider.into(), db.commit(tx).await?))
}

/// Changes a provider. New rules count from each person's next sign-in or renewal on.
///
/// # Errors
///
/// No such provider, the caller is not on all projects, fields are wrong, an old `If-Match` tag, a change of what decides
/// whom a subject names, or a rule that would give a role whose rights the caller may not give.
pub async fn change(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    id: ProviderId,
    (here, change, expected): (Here, Change, Option<&str>),
) -> Result<(Shown, Done, bool), Refused> {
    everywhere(by)?;
    let mut tx = db.begin().await?;
    let before = locked(&mut tx, id).await?;
    precondition(&Shown::from(before.clone()), expected)?;
    let settings = match change.settings {
        Some(patch) => merged(&before, patch)?,
        None => before.settings.clone(),
    };
    let mut after = Provider {
        title: change.title.over(Some(before.title.clone())).unwrap_or_else(|| before.name.clone()),
        settings,
        rules: change.rules.unwrap_or_else(|| before.rules.clone()),
        enterprise_managed: change.enterprise_managed.unwrap_or(before.enterprise_managed),
        disabled: change.disabled.unwrap_or(before.disabled),
        ..before.clone()
    };
    let secret = match &change.client_secret {
        Patch::Set(secret) => Some(secret),
        Patch::Absent | Patch::Clear => None,
    };
    check(&after, secret, here)?;
    store::set(&mut tx, &after).await.map_err(one_issuer)?;
    if change.client_secret.is_present() {
        after.client_secret = secret.map(|secret| ClientSecret::seal(sealing, id, secret)).transpose()?;
        store::set_client_secret(&mut tx, id, after.client_secret.as_ref()).await?;
    }
    if after.rules != before.rules {
        set_rules(&mut tx, by, &after, &before.rules).await?;
    }
    if after.disabled != before.disabled {
        store::set_disabled(&mut tx, id, after.disabled).await?;
    }
    // What came of assertions cannot be told apart from what else its people hold: it all ends.
    let switched_off = (after.disabled && !before.disabled) || (before.enterprise_managed && !after.enterprise_managed);
    if switched_off {
        cut_off(&mut tx, by, Kind::Provider, id.as_str()).await?;
    }
    let entry = Entry::new(by, "provider.changed").on(id.as_str()).with("disabled", after.disabled);
    let entry = entry.with("client_secret_changed", change.client_secret.is_present());
    audit::append(&mut tx, &recorded(entry, &after)).await?;
    Ok((after.into(), db.commit(tx).await?, switched_off))
}

/// Deletes a provider: nobody signs in with it any more, and what its people hold dies.
///
/// # Errors
///
/// No such provider, or the caller is not on all projects.
pub async fn delete(db: &Db, by: &Caller, id: ProviderId) -> Result<(Shown, Done), Refused> {
    everywhere(by)?;
    let mut tx = db.begin().await?;
    let provider = locked(&mut tx, id).await?;
    store::set_deleted(&mut tx, id).await?;
    cut_off(&mut tx, by, Kind::Provider, id.as_str()).await?;
    audit::append(&mut tx, &Entry::new(by, "provider.deleted").on(id.as_str()).with("name", provider.name.as_str()))
        .await?;
    Ok((provider.into(), db.commit(tx).await?))
}

/// Ends all that was issued so far to a provider's people, or to one of them. They belong to no project.
///
/// # Errors
///
/// The database refuses.
pub async fn cut_off(tx: &mut PgConnection, by: &Caller, kind: Kind, target: &str) -> Result<(), Refused> {
    let new = New { kind, target: target.to_owned(), reason: None, issued_before: None, project: None };
    revocations::add(tx, by, &new).await.map(|_| ())
}

async fn locked(tx: &mut PgConnection, id: ProviderId) -> Result<Provider, Refused> {
    let found = if store::lock(tx, id).await? { by_id(tx, id).await? } else { None };
    found.ok_or_else(|| Refused::not_found("provider"))
}

/// Of two providers with one issuer, one at most may have assertions: nothing in an assertion would say which is meant.
fn one_issuer(error: db::Error) -> Refused {
    if error.constraint() == Some("providers_enterprise_managed") {
        let why = "assertions of this issuer are another provider's already";
        return Refused::field("/enterprise_managed", "duplicate", why);
    }
    error.into()
}

/// What came in with the change stands in the audit: rules are rights.
fn recorded(entry: Entry, provider: &Provider) -> Entry {
    let of = |value: Result<Value, serde_json::Error>| value.unwrap_or_default();
    entry
        .with("settings", of(serde_json::to_value(&provider.settings)))
        .with("rules", of(serde_json::to_value(&provider.rules)))
        .with("enterprise_managed", provider.enterprise_managed)
}

/// The settings after a merge patch (RFC 7396). What decides whom a subject names stays: else the subjects of one provider
/// would be taken for those of another.
fn merged(before: &Provider, patch: Value) -> Result<Settings, Refused> {
    let Value::Object(patch) = patch else {
        return Err(Refused::field("/settings", "invalid", "an object"));
    };
    let mut value = serde_json::to_value(&before.settings).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        for (name, member) in patch {
            // Null takes a member away; objects in it are replaced whole, as arrays are.
            if member.is_null() {
                members.remove(&name);
            } else {
                members.insert(name, member);
            }
        }
    }
    let after = Settings::read(before.kind, value)?;
    for ((pointer, old), (_, new)) in before.settings.identity().into_iter().zip(after.identity()) {
        if old != new {
            let why = format!("`{pointer}` never changes: it decides whom a subject names. Make another provider.");
            return Err(Refused::new(Code::ImmutableField, why));
        }
    }
    Ok(after)
}

/// Writes the rules. Each role that comes in is given away, so the caller must see it and be able to give all it grants.
async fn set_rules(tx: &mut PgConnection, by: &Caller, after: &Provider, before: &[Rule]) -> Result<(), Refused> {
    let mut checks = Checks::default();
    for (index, rule) in after.rules.iter().enumerate().filter(|(_, rule)| !before.contains(rule)) {
        let role = rule.role_id.as_str();
        let first = after.rules.iter().take(index).all(|earlier| earlier.role_id != rule.role_id);
        if !first {
            continue;
        }
        match roles::get(tx, by, role).await {
            Ok(_) => grants::may_give(tx, by, role).await?,
            Err(refused) if refused.code == Code::NotFound => {
                let pointer = format!("/rules/{index}/role_id");
                checks.wrong(&pointer, "unknown", "There is no such role, or you may not see it.");
            }
            Err(refused) => return Err(refused),
        }
    }
    checks.done()?;
    let gone = || Refused::field("/rules", "unknown", "A role was deleted meanwhile.");
    store::set_rules(tx, after.id, &after.rules)
        .await
        .map_err(|error| if error.constraint().is_some() { gone() } else { error.into() })
}

fn check(provider: &Provider, secret: Option<&Secret<String>>, here: Here) -> Result<(), Refused> {
    let mut checks = Checks::default();
    let name = provider.name.as_str();
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    let detail = format!("a-z, 0-9 and - within, 1 to {NAME_BYTES_MAX}");
    checks.expect(fits, "/name", "invalid", &detail);
    checks.name("/title", &provider.title, TITLE_CHARS_MAX);
    if provider.kind == ProviderKind::Demo {
        let detail =
            "the demo provider lets anybody in: only while MCPA_LISTEN and MCPA_PUBLIC_URL are of this machine";
        checks.expect(here.local, "/kind", "not_allowed_here", detail);
    }
    let asserts = !provider.enterprise_managed || provider.kind == ProviderKind::OpenId;
    checks.expect(asserts, "/enterprise_managed", "not_openid", "only an OpenID Connect provider signs assertions");
    provider.settings.check(here.loopback, &mut checks);
    rules::check(&provider.rules, &mut checks);
    if let Some(secret) = secret {
        let secret = secret.reveal();
        let fits =
            (1..=SECRET_BYTES_MAX).contains(&secret.len()) && secret.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let detail = format!("1 to {SECRET_BYTES_MAX} printable ASCII characters");
        checks.expect(fits, "/client_secret", "invalid", &detail);
        checks.expect(provider.kind != ProviderKind::Demo, "/client_secret", "unknown", "the demo provider has none");
    }
    checks.done()
}
