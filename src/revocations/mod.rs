//! The revocation list: what is dead for good, and cut-offs. Owns `revocations`.
//!
//! Adding an entry takes no lock on what it revokes: every check reads the list. The row's own status serves lists only.

mod revoker;
mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::{self, Entry};
use crate::db;
use crate::gate::Position;
use crate::refusal::{Code, Refused};
use crate::types::caller::Caller;
use crate::types::clock::Timestamp;
use crate::types::id::RevocationId;
use crate::types::page::{After, Listed, Page};
use crate::webhooks::{self, Event, EventType};

pub use revoker::{QUEUE_MAX, Revoked, Revoker};
pub use store::{Known, Named, Reached, load_all, load_some, prune, reach, restore, settle};

/// What may be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RevocationKind)]
pub enum Kind {
    /// A session token, by its `jti`.
    Token,
    /// An API key, for good, and what was issued from it.
    Key,
    /// What was issued to an agent so far.
    Agent,
    /// What was issued for a server so far.
    Server,
    /// What was issued to an OAuth client so far.
    Client,
    /// What was issued for a person so far.
    User,
    /// What was issued so far on what a person allowed a client on a server.
    Grant,
    /// What was issued so far for those who signed in with an identity provider.
    Provider,
    /// What was issued in a project so far.
    Project,
    /// Everything that a signing key ever signed.
    SigningKey,
    /// Everything issued so far.
    All,
    /// An operator's key, for good. Only through `/v1/operators/{id}/revoke`.
    #[serde(skip_deserializing)]
    Operator,
    /// What was issued from a key so far; left behind by disabling it.
    #[serde(skip_deserializing)]
    KeySessions,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Token,
        Self::Key,
        Self::Agent,
        Self::Server,
        Self::Client,
        Self::User,
        Self::Grant,
        Self::Provider,
        Self::Project,
        Self::SigningKey,
        Self::All,
        Self::Operator,
        Self::KeySessions,
    ];

    /// Its name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Key => "key",
            Self::Agent => "agent",
            Self::Server => "server",
            Self::Client => "client",
            Self::User => "user",
            Self::Grant => "grant",
            Self::Provider => "provider",
            Self::Project => "project",
            Self::SigningKey => "signing_key",
            Self::All => "all",
            Self::Operator => "operator",
            Self::KeySessions => "key_sessions",
        }
    }

    /// Reads the name; `None` for any other.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Revoked once and for good; the others are cut-offs, of which each call makes a new one.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Token | Self::Key | Self::SigningKey | Self::Operator)
    }
}

/// What is to be revoked.
#[derive(Clone, Debug)]
pub struct New {
    /// Which kind.
    pub kind: Kind,
    /// Which one.
    pub target: String,
    /// Why, in the caller's words.
    pub reason: Option<String>,
    /// Instead of what was issued so far: what was issued up to then.
    pub issued_before: Option<OffsetDateTime>,
    /// Its project, for those who list.
    pub project: Option<String>,
}

impl New {
    /// Everything of the target so far, or the target for good, as its kind says.
    #[must_use]
    pub fn of(kind: Kind, target: &str, project: &str) -> Self {
        Self { kind, target: target.to_owned(), reason: None, issued_before: None, project: Some(project.to_owned()) }
    }
}

/// An entry as it is read.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Revocation {
    /// Its id.
    pub id: String,
    /// What is revoked: the kind.
    pub kind: String,
    /// What is revoked: which one.
    #[serde(rename = "target")]
    pub target: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only what was issued up to then.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub issued_before: Option<OffsetDateTime>,
    /// Who revoked it.
    pub actor: String,
    /// Its project, if it belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Its number in the feed.
    pub sequence: i64,
    /// The feed's history that the number is of.
    #[serde(skip)]
    pub history: i64,
}

impl Revocation {
    /// Where it stands in the feed.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position { history: self.history, number: self.sequence }
    }
}

/// Adds an entry within a change. One that is final and there already stays as it is: revoking twice is no error.
///
/// Returns its id, and whether it is new.
///
/// # Errors
///
/// A time in the future, or the database refuses.
pub async fn add(tx: &mut PgConnection, by: &Caller, new: &New) -> Result<(String, bool), Refused> {
    if new.issued_before.is_some() && store::is_future(tx, new.issued_before).await? {
        return Err(Refused::field("/issued_before", "future", "not later than now"));
    }
    let id = RevocationId::random();
    if !store::insert(tx, id.as_str(), new, &by.actor).await? {
        let first = store::find_final(tx, new).await?;
        return first
            .map(|first| (first, false))
            .ok_or_else(|| Refused::new(Code::TemporarilyUnavailable, "Try again."));
    }
    let mut entry = Entry::new(by, "revocation.created")
        .on(&new.target)
        .with("kind", new.kind.as_str())
        .with("revocation_id", id.as_str());
    for (name, value) in [("reason", &new.reason), ("project", &new.project)] {
        if let Some(value) = value {
            entry = entry.with(name, value.as_str());
        }
    }
    audit::append(tx, &entry).await?;
    tell(tx, by, new, id).await?;
    Ok((id.to_string(), true))
}

/// Each revocation is told as one; that of a key or an operator also by its own name.
async fn tell(tx: &mut PgConnection, by: &Caller, new: &New, id: RevocationId) -> db::Result<()> {
    let told = |kind| {
        let event = Event::new(kind, new.project.as_deref()).by(by);
        let event = if new.kind == Kind::Key { event.key(&new.target) } else { event.about(&new.target) };
        let event = event.with("revocation_id", id.as_str());
        match &new.reason {
            Some(reason) => event.with("reason", reason.as_str()),
            None => event,
        }
    };
    webhooks::note(tx, &told(EventType::RevocationCreated).with("kind", new.kind.as_str())).await?;
    match new.kind {
        Kind::Key => webhooks::note(tx, &told(EventType::KeyRevoked)).await,
        Kind::Operator => webhooks::note(tx, &told(EventType::OperatorRevoked)).await,
        _ => Ok(()),
    }
}

/// An entry that the caller may see.
///
/// # Errors
///
/// There is none.
pub async fn get(connection: &mut PgConnection, by: &Caller, id: &str) -> Result<Revocation, Refused> {
    store::find(connection, by.projects(), id).await?.ok_or_else(|| Refused::not_found("revocation"))
}

/// Whether what was said of one of these at this time is over since: somebody else's word that was given before a cut-off and
/// is shown after it must not bring back what was ended.
///
/// # Errors
///
/// The database cannot answer.
pub async fn is_cut_off(
    connection: &mut PgConnection,
    targets: &[(Kind, &str)],
    said_at: Timestamp,
) -> db::Result<bool> {
    store::is_cut_off(connection, targets, said_at.to_utc()).await
}

/// Where an entry stands in the feed; `None` when there is none.
///
/// # Errors
///
/// The database cannot answer.
pub async fn position_of(connection: &mut PgConnection, id: &str) -> db::Result<Option<Position>> {
    let places = store::places(connection, &[id.to_owned()]).await?;
    Ok(places.first().map(|place| Position { history: place.history, number: place.number }))
}

/// The entries that the caller may see, newest first.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list(
    connection: &mut PgConnection,
    by: &Caller,
    kind: Option<Kind>,
    target: Option<&str>,
    page: &Page,
) -> db::Result<Listed<Revocation>> {
    let items = store::list(connection, by.projects(), kind.map(Kind::as_str), target, page).await?;
    Ok(page.cut(items, |entry| After { at: entry.at, id: entry.id.clone() }))
}
