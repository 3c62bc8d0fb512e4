//! Operators: who administers the authority, with which scopes, on which projects. Owns `operators`.
//!
//! Nobody makes, changes, rotates or enables an operator beyond his own scopes and projects.

mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::projects::precondition;
use crate::refusal::{Checks, Code, Refused};
use crate::revocations::{self, Kind, New};
use crate::secrets::{self, Sealing};
use crate::types::caller::{Caller, EVERYTHING};
use crate::types::credential;
use crate::types::id::OperatorId;
use crate::types::page::{After, Listed, Page};
use crate::types::patch::Patch;
use crate::webhooks::{self, Event, EventType, rotated};

pub use store::{Row, any, load_all, load_some};

/// Days that a version of an operator's key lives at most.
pub const AGE_DAYS_MAX: i32 = 90;
const NAME_CHARS_MAX: usize = 200;
const CIDRS_MAX: usize = 100;
const PROJECTS_MAX: usize = 100;

/// The nouns of `/v1` that scopes are made of.
pub const NOUNS: [&str; 17] = [
    "projects",
    "operators",
    "servers",
    "agents",
    "keys",
    "roles",
    "clients",
    "providers",
    "issuers",
    "users",
    "sessions",
    "revocations",
    "audit",
    "nodes",
    "jobs",
    "settings",
    "webhooks",
];

/// Every scope there is.
#[must_use]
pub fn scopes() -> Vec<String> {
    let nouns = NOUNS.iter().flat_map(|noun| [format!("{noun}:read"), format!("{noun}:write")]);
    nouns.chain(["grants:write".to_owned(), EVERYTHING.to_owned()]).collect()
}

/// An operator as it is read.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Operator {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Where; absent: everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projects: Option<Vec<String>>,
    /// From where its key may be used; absent: from everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_cidrs: Option<Vec<String>>,
    /// Switched off.
    pub disabled: bool,
    /// `active`, `expired`, `disabled` or `revoked`.
    pub status: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When the newest version of its key ends.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<OffsetDateTime>,
    /// When its key was last used, to the minute.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<OffsetDateTime>,
    /// The life of each version of its key.
    pub expires_in_days: i32,
}

/// A new operator.
#[derive(Clone, Debug)]
pub struct NewOperator {
    /// For people.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Where; `None`: everywhere.
    pub projects: Option<Vec<String>>,
    /// The life of each version of its key; `None`: [`AGE_DAYS_MAX`].
    pub expires_in_days: Option<i32>,
    /// From where.
    pub allowed_cidrs: Option<Vec<String>>,
}

/// A change of an operator (RFC 7396).
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New name.
    pub name: Option<String>,
    /// New scopes.
    pub scopes: Option<Vec<String>>,
    /// New projects.
    pub projects: Patch<Vec<String>>,
    /// New addresses.
    pub allowed_cidrs: Patch<Vec<String>>,
    /// Switched off or on.
    pub disabled: Option<bool>,
}

/// Makes an operator and its key.
///
/// # Errors
///
/// Wrong fields, or more than the caller has himself.
pub async fn create(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    new: NewOperator,
) -> Result<(Operator, secrets::Issued, Done), Refused> {
    create_after(db, sealing, by, new, |_| Ok(())).await
}

/// Makes an operator, after its key has been kept: when `keep` fails there is no operator.
///
/// # Errors
///
/// As [`create`], or the key could not be kept.
pub async fn create_after(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    new: NewOperator,
    keep: impl FnOnce(&credential::Credential) -> std::io::Result<()> + Send,
) -> Result<(Operator, secrets::Issued, Done), Refused> {
    let mut checks = Checks::default();
    let days = new.expires_in_days.unwrap_or(AGE_DAYS_MAX);
    checks.expect((1..=AGE_DAYS_MAX).contains(&days), "/expires_in_days", "range", &format!("1 to {AGE_DAYS_MAX}"));
    check(checks, &new.name, &new.scopes, new.projects.as_deref(), new.allowed_cidrs.as_deref())?;
    within(by, &new.scopes, new.projects.as_deref())?;
    let mut tx = db.begin().await?;
    projects_exist(&mut tx, new.projects.as_deref()).await?;
    let id = OperatorId::random();
    store::insert(&mut tx, id.as_str(), &new, days).await?;
    let issued = secrets::issue(&mut tx, sealing, credential::Kind::Admin, id.as_str(), Some(days)).await?;
    let entry = Entry::new(by, "operator.created")
        .on(id.as_str())
        .with("scopes", new.scopes.clone())
        .with("hint", issued.credential.hint());
    audit::append(&mut tx, &entry).await?;
    let event = Event::new(EventType::OperatorCreated, None).about(id.as_str()).by(by).with("name", new.name.as_str());
    webhooks::note(&mut tx, &event).await?;
    let operator = store::find(&mut tx, id.as_str()).await?.ok_or_else(|| Refused::not_found("operator"))?;
    keep(&issued.credential)
        .map_err(|error| Refused::new(Code::Internal, format!("The key could not be kept: {error}")))?;
    Ok((operator, issued, db.commit(tx).await?))
}

/// An operator within the caller's own projects and scopes.
///
/// # Errors
///
/// There is none.
pub async fn get(connection: &mut PgConnection, by: &Caller, id: &str) -> Result<Operator, Refused> {
    let found = store::find(connection, id).await?;
    found
        .filter(|operator| by.may_give(&[], operator.projects.as_deref()))
        .ok_or_else(|| Refused::not_found("operator"))
}

/// The operators within the caller's own projects, newest first.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list(db: &Db, by: &Caller, page: &Page) -> Result<Listed<Operator>, Refused> {
    let items = store::list(&mut *db.begin_list().await?, by.projects(), page).await?;
    Ok(page.cut(items, |operator| After { at: operator.created_at, id: operator.id.clone() }))
}

/// Changes an operator. Returns whether a right was taken away.
///
/// # Errors
///
/// No such operator, wrong fields, more than the caller has himself, an old tag, or it is the last one with all rights.
pub async fn change(
    db: &Db,
    by: &Caller,
    id: &str,
    change: Change,
    expected: Option<&str>,
) -> Result<(Operator, Done, bool), Refused> {
    let mut tx = db.begin().await?;
    let before = lock(&mut tx, by, id).await?;
    precondition(&before, expected)?;
    let after = Operator {
        name: change.name.unwrap_or_else(|| before.name.clone()),
        scopes: change.scopes.unwrap_or_else(|| before.scopes.clone()),
        projects: change.projects.over(before.projects.clone()),
        allowed_cidrs: change.allowed_cidrs.over(before.allowed_cidrs.clone()),
        disabled: change.disabled.unwrap_or(before.disabled),
        ..before.clone()
    };
    check(Checks::default(), &after.name, &after.scopes, after.projects.as_deref(), after.allowed_cidrs.as_deref())?;
    within(by, &after.scopes, after.projects.as_deref())?;
    projects_exist(&mut tx, after.projects.as_deref()).await?;
    store::set(&mut tx, &after).await?;
    if has_everything(&before) && !has_everything(&after) {
        not_the_last(&mut tx).await?;
    }
    let entry =
        Entry::new(by, "operator.changed").on(id).with("scopes", after.scopes.clone()).with("disabled", after.disabled);
    audit::append(&mut tx, &entry).await?;
    let after = store::find(&mut tx, id).await?.ok_or_else(|| Refused::not_found("operator"))?;
    Ok((after, db.commit(tx).await?, true))
}

/// Makes a new key; the old one lives on for the grace.
///
/// # Errors
///
/// No such operator, it is revoked, or an overlap that still runs.
pub async fn rotate(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    id: &str,
    grace: Option<i64>,
) -> Result<(secrets::Issued, Done), Refused> {
    let mut tx = db.begin().await?;
    let operator = lock(&mut tx, by, id).await?;
    if operator.status == "revoked" {
        return Err(Refused::new(Code::KeyRevoked, "The operator's key is revoked, for good."));
    }
    let issued =
        secrets::rotate(&mut tx, sealing, (credential::Kind::Admin, id), Some(operator.expires_in_days), grace).await?;
    audit::append(&mut tx, &Entry::new(by, "operator.rotated").on(id).with("hint", issued.credential.hint())).await?;
    let event = Event::new(EventType::OperatorRotated, None).about(id).with("name", operator.name);
    webhooks::note(&mut tx, &rotated(event, by, &issued)).await?;
    Ok((issued, db.commit(tx).await?))
}

/// Revokes an operator's key for good. Revoking again answers with the place of the first time.
///
/// # Errors
///
/// No such operator, or it is the last one with all rights.
pub async fn revoke(db: &Db, by: &Caller, id: &str, reason: Option<String>) -> Result<(Operator, Done), Refused> {
    let mut tx = db.begin_reserved().await?;
    let operator = lock(&mut tx, by, id).await?;
    let new = New { reason, project: None, ..New::of(Kind::Operator, id, "") };
    let (entry, _) = revocations::add(&mut tx, by, &new).await?;
    store::set_revoked(&mut tx, id).await?;
    if has_everything(&operator) {
        not_the_last(&mut tx).await?;
    }
    let operator = store::find(&mut tx, id).await?.unwrap_or(operator);
    audit::append(&mut tx, &Entry::new(by, "operator.revoked").on(id)).await?;
    let done = db.commit(tx).await?;
    let place = revocations::position_of(&mut *db.reserved().acquire().await?, &entry).await?;
    Ok((operator, Done { position: place.unwrap_or(done.position), ..done }))
}

fn has_everything(operator: &Operator) -> bool {
    let everything = operator.scopes.iter().any(|scope| scope == EVERYTHING);
    everything && operator.projects.is_none() && !operator.disabled && operator.status != "revoked"
}

/// Locks all operators, so that two cannot take the last one's rights away together, and finds this one.
async fn lock(tx: &mut PgConnection, by: &Caller, id: &str) -> Result<Operator, Refused> {
    store::lock_all(tx).await?;
    let operator = get(tx, by, id).await?;
    within(by, &operator.scopes, operator.projects.as_deref())?;
    Ok(operator)
}

async fn not_the_last(tx: &mut PgConnection) -> Result<(), Refused> {
    if store::some_with_everything(tx).await? {
        return Ok(());
    }
    let detail = "This is the last operator with all rights on all projects. Make another first, or use `mcp-authority admin create-key`.";
    Err(Refused::new(Code::LastOperator, detail))
}

fn within(by: &Caller, scopes: &[String], projects: Option<&[String]>) -> Result<(), Refused> {
    if by.may_give(scopes, projects) {
        return Ok(());
    }
    Err(Refused::new(Code::BeyondOwnRights, "The operator has scopes or projects that you do not have."))
}

async fn projects_exist(connection: &mut PgConnection, projects: Option<&[String]>) -> Result<(), Refused> {
    let projects = projects.unwrap_or_default();
    if store::projects_known(connection, projects).await? {
        Ok(())
    } else {
        Err(Refused::field("/projects", "unknown", "There is no such project."))
    }
}

fn check(
    mut checks: Checks,
    name: &str,
    scopes: &[String],
    projects: Option<&[String]>,
    cidrs: Option<&[String]>,
) -> Result<(), Refused> {
    checks.name("/name", name, NAME_CHARS_MAX);
    let known = self::scopes();
    checks.expect((1..=64).contains(&scopes.len()), "/scopes", "length", "1 to 64");
    for (index, scope) in scopes.iter().enumerate() {
        checks.expect(
            known.contains(scope),
            &format!("/scopes/{index}"),
            "unknown",
            "not a scope: see the list in docs/operators.md",
        );
    }
    let projects = projects.map(<[String]>::len);
    checks.expect(
        projects.is_none_or(|count| (1..=PROJECTS_MAX).contains(&count)),
        "/projects",
        "length",
        &format!("1 to {PROJECTS_MAX}, or left out"),
    );
    check_cidrs(&mut checks, cidrs);
    checks.done()
}

/// Checks a list of addresses and networks.
pub fn check_cidrs(checks: &mut Checks, cidrs: Option<&[String]>) {
    let Some(cidrs) = cidrs else { return };
    checks.expect(
        (1..=CIDRS_MAX).contains(&cidrs.len()),
        "/allowed_cidrs",
        "length",
        &format!("1 to {CIDRS_MAX}, or left out"),
    );
    for (index, cidr) in cidrs.iter().enumerate() {
        checks.expect(
            parse_cidr(cidr).is_some(),
            &format!("/allowed_cidrs/{index}"),
            "format",
            "an address or a network in CIDR form",
        );
    }
}

/// An address or a network.
#[must_use]
pub fn parse_cidr(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from))
}
