//! What can be told: a closed list, and the few words that go with it.

use serde_json::{Map, Value};
use time::format_description::well_known::Rfc3339;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::secrets::Issued;
use crate::types::caller::Caller;
use crate::types::id::EventId;

macro_rules! event_types {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum EventType {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl EventType {
            /// Every type.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

event_types! {
    /// A key was issued.
    KeyIssued = "key.issued",
    /// A key has a new secret; the old one lives on for its overlap.
    KeyRotated = "key.rotated",
    /// A rotation was taken back: the secret from before it is the newest again.
    KeyRotationCancelled = "key.rotation_cancelled",
    /// A key must be rotated soon.
    KeyDue = "key.due",
    /// A key ends soon and was not rotated, or its old secret ends soon and is still used.
    KeyReminder = "key.reminder",
    /// The old secret of a key works no more.
    KeyRetired = "key.retired",
    /// A key reached its end without being rotated.
    KeyExpired = "key.expired",
    /// A key was revoked, for good.
    KeyRevoked = "key.revoked",
    /// A key was found where it must not be.
    KeyLeaked = "key.leaked",
    /// Somebody opened the link that hands over a key's secret.
    KeyClaimed = "key.claimed",
    /// A key of another system was taken over.
    KeyImported = "key.imported",
    /// An operator was made.
    OperatorCreated = "operator.created",
    /// An operator has a new key.
    OperatorRotated = "operator.rotated",
    /// An operator's key was revoked, for good.
    OperatorRevoked = "operator.revoked",
    /// A server has a new client secret.
    ServerRotated = "server.rotated",
    /// A new signing key is published, and signs from a time on.
    SigningKeyRotated = "signing_key.rotated",
    /// Something was revoked.
    RevocationCreated = "revocation.created",
    /// A job has not succeeded for longer than it should.
    JobLate = "job.late",
    /// A job that was late has succeeded.
    JobRecovered = "job.recovered",
    /// The audit's chain does not hold.
    AuditBroken = "audit.broken",
    /// The service stopped delivering to a webhook.
    WebhookDisabled = "webhook.disabled",
    /// Somebody asked to see whether a webhook works.
    WebhookTest = "webhook.test",
}

// By hand: a derived one would have the names of the variants.
impl PartialSchema for EventType {
    fn schema() -> RefOr<Schema> {
        let names = Self::ALL.iter().map(|kind| kind.as_str());
        let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
        schema.description(Some("What happened.")).into()
    }
}

impl ToSchema for EventType {}

impl EventType {
    /// Reads the name; `None` for any other.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// Whether the agent's owner is told by mail.
    #[must_use]
    pub const fn is_mailed(self) -> bool {
        matches!(
            self,
            Self::KeyDue | Self::KeyReminder | Self::KeyExpired | Self::KeyRevoked | Self::KeyLeaked | Self::KeyClaimed
        )
    }
}

/// Something that happened. Built up, then noted once; its id is made here.
#[derive(Clone, Debug)]
pub struct Event {
    pub(super) id: EventId,
    pub(super) kind: EventType,
    pub(super) project: Option<String>,
    pub(super) key: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) to_owner: bool,
    pub(super) data: Map<String, Value>,
}

impl Event {
    /// `project`: where it happened. `None`: in the project of the key or agent that it is about; if it is about neither, only
    /// webhooks of all projects are told.
    #[must_use]
    pub fn new(kind: EventType, project: Option<&str>) -> Self {
        Self {
            id: EventId::random(),
            kind,
            project: project.map(ToOwned::to_owned),
            key: None,
            agent: None,
            to_owner: kind.is_mailed(),
            data: Map::new(),
        }
    }

    /// To what it happened: an id.
    #[must_use]
    pub fn about(self, id: &str) -> Self {
        self.with("id", id)
    }

    /// Who did it.
    #[must_use]
    pub fn by(self, by: &Caller) -> Self {
        self.with("actor", by.actor.as_str())
    }

    /// About which key. Its name, end, agent and owner are added from the database.
    #[must_use]
    pub fn key(mut self, id: &str) -> Self {
        self.key = Some(id.to_owned());
        self.about(id)
    }

    /// About which agent. Its name and owner are added from the database.
    #[must_use]
    pub fn agent(mut self, id: &str) -> Self {
        self.agent = Some(id.to_owned());
        self
    }

    /// The owner is told by mail, though that is not usual for this type.
    #[must_use]
    pub const fn to_owner(mut self) -> Self {
        self.to_owner = true;
        self
    }

    /// More about it: an id, a name, a time, a reason. Never a secret, never an argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }
}

/// Adds to an event of a rotation who did it and what it made.
#[must_use]
pub fn rotated(event: Event, by: &Caller, issued: &Issued) -> Event {
    let event = event.by(by).with("hint", issued.credential.hint());
    match issued.previous_expires_at.and_then(|end| end.format(&Rfc3339).ok()) {
        Some(end) => event.with("previous_expires_at", end),
        None => event,
    }
}

/// What a receiver gets.
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[schema(as = EventMessage)]
pub struct Message {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// When.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// To what, by whom, why. Members that an event has no word for are absent; there may be more than these.
    pub data: EventData,
}

/// What an event says: ids, names, times and reasons. Never a secret, never what a call carried.
#[derive(Debug, Default, serde::Deserialize, utoipa::ToSchema)]
pub struct EventData {
    /// To what it happened: a key, an operator, a server, a signing key, a job, a webhook, or whatever was revoked.
    pub id: Option<String>,
    /// Where; absent: in no project.
    pub project: Option<String>,
    /// Who did it: `key_…`, `opr_…`, `srv_…`, `machine` or `system`.
    pub actor: Option<String>,
    /// Why, in the words of whoever did it, or in one of ours.
    pub reason: Option<String>,
    /// The key.
    pub key_id: Option<String>,
    /// Its name.
    pub key_name: Option<String>,
    /// `prod` or `dev`.
    pub environment: Option<String>,
    /// When the newest version of its secret ends.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// The last characters of a new secret, to tell versions apart.
    pub hint: Option<String>,
    /// When the version before it ends.
    #[schema(format = DateTime)]
    pub previous_expires_at: Option<String>,
    /// The agent.
    pub agent_id: Option<String>,
    /// Its name.
    pub agent_name: Option<String>,
    /// Whose it is: an e-mail address or a team's name.
    pub owner: Option<String>,
    /// Of `revocation.created`: what kind of thing.
    pub kind: Option<String>,
    /// Of `revocation.created`: its entry in the revocation list.
    pub revocation_id: Option<String>,
    /// A name that people gave to what it happened to.
    pub name: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_its_name_and_no_other() {
        for kind in EventType::ALL {
            assert_eq!(EventType::parse(kind.as_str()), Some(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(EventType::parse("*"), None);
    }
}
