//! How operators add, change and remove issuers of workload tokens.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::PgConnection;
use url::Url;

use crate::audit::{self, Entry};
use crate::clients::metadata::GrantType;
use crate::clients::{self, Client, ClientKind};
use crate::db::{Db, Done};
use crate::grants;
use crate::issuers::rules::{self, Rule};
use crate::issuers::{ISSUERS_MAX, Issuer, get, store};
use crate::projects::{everywhere, precondition};
use crate::providers::is_address;
use crate::refusal::{Checks, Code, Refused};
use crate::revocations::{self, Kind, New};
use crate::types::caller::Caller;
use crate::types::id::{ClientId, IssuerId};
use crate::types::patch::Patch;

const NAME_CHARS_MAX: usize = 100;
/// Bytes of an issuer's name in tokens, or of an audience.
const TEXT_BYTES_MAX: usize = 512;
/// What workloads in a SPIFFE trust domain call their issuer. Nobody can be asked there.
const SPIFFE: &str = "spiffe";

/// A new issuer.
#[derive(Clone, Debug)]
pub struct NewIssuer {
    /// For people.
    pub name: String,
    /// What its tokens call it.
    pub issuer: String,
    /// Where its keys are; `None`: where its own configuration says.
    pub jwks_uri: Option<String>,
    /// For whom its tokens must be; `None`: our issuer, or the token endpoint's address.
    pub audience: Option<String>,
    /// Which workload acts as which client.
    pub rules: Vec<Rule>,
}

/// A change of an issuer (RFC 7396).
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New name.
    pub name: Option<String>,
    /// Where its keys are.
    pub jwks_uri: Patch<String>,
    /// For whom its tokens must be.
    pub audience: Patch<String>,
    /// All its rules.
    pub rules: Option<Vec<Rule>>,
    /// Switched off or on.
    pub disabled: Option<bool>,
}

/// Adds an issuer. `loopback`: its keys may be on this machine, without TLS too.
///
/// # Errors
///
/// The caller is not on all projects, fields are wrong, there is one already, or a rule would give what the caller may not
/// give.
pub async fn create(db: &Db, by: &Caller, loopback: bool, new: NewIssuer) -> Result<(Issuer, Done), Refused> {
    everywhere(by)?;
    let mut issuer = Issuer {
        id: IssuerId::random().to_string(),
        name: new.name,
        issuer: new.issuer,
        jwks_uri: new.jwks_uri,
        audience: new.audience,
        rules: new.rules,
        disabled: false,
        created_at: time::OffsetDateTime::UNIX_EPOCH,
    };
    check(&issuer, loopback)?;
    let mut tx = db.begin().await?;
    if store::count(&mut tx).await? >= ISSUERS_MAX {
        return Err(Refused::field("/issuer", "too_many", format!("there are {ISSUERS_MAX} issuers; delete one")));
    }
    let taken = || Refused::new(Code::NameTaken, "This issuer is known already.");
    issuer.created_at = store::insert(&mut tx, &issuer).await?.ok_or_else(taken)?;
    set_rules(&mut tx, by, &issuer, &[]).await?;
    audit::append(&mut tx, &recorded(Entry::new(by, "issuer.created"), &issuer)).await?;
    Ok((issuer, db.commit(tx).await?))
}

/// Changes an issuer. What clients got by a way that is gone – a rule, keys, an audience, all of it – ends with it.
///
/// Returns whether something was taken away.
///
/// # Errors
///
/// No such issuer, the caller is not on all projects, fields are wrong, an old `If-Match` tag, or a rule would give what the
/// caller may not give.
pub async fn change(
    db: &Db,
    by: &Caller,
    id: IssuerId,
    (loopback, change, expected): (bool, Change, Option<&str>),
) -> Result<(Issuer, Done, bool), Refused> {
    let mut tx = db.begin().await?;
    let before = locked(&mut tx, by, id).await?;
    precondition(&before, expected)?;
    let after = Issuer {
        name: change.name.unwrap_or_else(|| before.name.clone()),
        jwks_uri: change.jwks_uri.over(before.jwks_uri.clone()),
        audience: change.audience.over(before.audience.clone()),
        rules: change.rules.unwrap_or_else(|| before.rules.clone()),
        disabled: change.disabled.unwrap_or(before.disabled),
        ..before.clone()
    };
    check(&after, loopback)?;
    store::set(&mut tx, &after).await?;
    if after.rules != before.rules {
        set_rules(&mut tx, by, &after, &before.rules).await?;
    }
    let narrowed = cut_off(&mut tx, by, &before, &after).await?;
    audit::append(&mut tx, &recorded(Entry::new(by, "issuer.changed"), &after)).await?;
    Ok((after, db.commit(tx).await?, narrowed))
}

/// Removes an issuer: its tokens get nothing any more, and what its clients have dies.
///
/// # Errors
///
/// No such issuer, or the caller is not on all projects.
pub async fn delete(db: &Db, by: &Caller, id: IssuerId) -> Result<(Issuer, Done), Refused> {
    let mut tx = db.begin().await?;
    let issuer = locked(&mut tx, by, id).await?;
    cut_off(&mut tx, by, &issuer, &Issuer { rules: Vec::new(), ..issuer.clone() }).await?;
    store::delete(&mut tx, &issuer.id).await?;
    audit::append(&mut tx, &recorded(Entry::new(by, "issuer.deleted"), &issuer)).await?;
    Ok((issuer, db.commit(tx).await?))
}

async fn locked(tx: &mut PgConnection, by: &Caller, id: IssuerId) -> Result<Issuer, Refused> {
    everywhere(by)?;
    store::lock(tx, id).await?;
    get(tx, by, id).await
}

/// Ends what came to clients by ways that are gone. A token of a client does not say how it was got, so all of the client's
/// end: whoever is there by right gets another.
async fn cut_off(tx: &mut PgConnection, by: &Caller, before: &Issuer, after: &Issuer) -> Result<bool, Refused> {
    if before.disabled {
        return Ok(false);
    }
    let same = (&before.jwks_uri, &before.audience, after.disabled) == (&after.jwks_uri, &after.audience, false);
    let gone = before.rules.iter().filter(|rule| !same || !after.rules.contains(rule));
    let clients: BTreeSet<ClientId> = gone.map(|rule| rule.client_id).collect();
    for client in &clients {
        if let Some(client) = client_of(tx, by, *client).await? {
            revocations::add(tx, by, &New::of(Kind::Client, &client.id, &client.project)).await?;
        }
    }
    Ok(!clients.is_empty())
}

/// Rules are rights: what they are, and what they were when they went, stands in the audit.
fn recorded(entry: Entry, issuer: &Issuer) -> Entry {
    let entry = entry.on(&issuer.id).with("issuer", issuer.issuer.as_str()).with("disabled", issuer.disabled);
    let entry = entry.with("rules", serde_json::to_value(&issuer.rules).unwrap_or_default());
    let places = [("jwks_uri", &issuer.jwks_uri), ("audience", &issuer.audience)];
    places
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
        .fold(entry, |entry, (name, value)| entry.with(name, Value::from(value)))
}

/// Writes the rules. Who may act as a client has what the client has: the caller must be able to give that.
async fn set_rules(tx: &mut PgConnection, by: &Caller, after: &Issuer, before: &[Rule]) -> Result<(), Refused> {
    let mut checks = Checks::default();
    for (index, rule) in after.rules.iter().enumerate().filter(|(_, rule)| !before.contains(rule)) {
        let pointer = format!("/rules/{index}/client_id");
        let client = client_of(tx, by, rule.client_id).await?;
        match client.filter(|client| client.kind == ClientKind::Registered) {
            None => checks.wrong(&pointer, "unknown", "There is no such client that an operator registered."),
            Some(client) if !client.metadata.grant_types.iter().any(|grant| grant == GrantType::JwtBearer.as_str()) => {
                let why = format!("`{}` is not among the client's grant_types.", GrantType::JwtBearer.as_str());
                checks.wrong(&pointer, "no_jwt_bearer", why);
            }
            Some(client) => grants::may_give(tx, by, &client.id).await?,
        }
    }
    checks.done()?;
    Ok(store::set_rules(tx, &after.id, &after.rules).await?)
}

/// The client of a rule; `None`: it was deleted, or never was.
async fn client_of(tx: &mut PgConnection, by: &Caller, id: ClientId) -> Result<Option<Client>, Refused> {
    match clients::get(tx, by, id.as_str()).await {
        Ok(client) => Ok(Some(client)),
        Err(refused) if refused.code == Code::NotFound => Ok(None),
        Err(refused) => Err(refused),
    }
}

fn check(issuer: &Issuer, loopback: bool) -> Result<(), Refused> {
    let mut checks = Checks::default();
    checks.name("/name", &issuer.name, NAME_CHARS_MAX);
    let text =
        |text: &str| (1..=TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let spiffe = Url::parse(&issuer.issuer)
        .is_ok_and(|url| url.scheme() == SPIFFE && url.has_host() && url.username().is_empty() && url.port().is_none());
    let web = is_address(&issuer.issuer, loopback);
    let bare = text(&issuer.issuer) && !issuer.issuer.contains(['?', '#']);
    let detail = "an https or spiffe URL without query and fragment";
    checks.expect(bare && (spiffe || web), "/issuer", "invalid", detail);
    match &issuer.jwks_uri {
        Some(uri) => checks.expect(is_address(uri, loopback), "/jwks_uri", "invalid", "an https URL without fragment"),
        None => checks.expect(!spiffe, "/jwks_uri", "required", "an issuer that is no web address cannot be asked"),
    }
    let audience = issuer.audience.as_deref().is_none_or(text);
    checks.expect(audience, "/audience", "invalid", &format!("1 to {TEXT_BYTES_MAX} printable ASCII characters"));
    rules::check(&issuer.rules, &mut checks);
    checks.done()
}
