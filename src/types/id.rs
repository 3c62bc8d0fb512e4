//! Ids: a prefix that says the kind, then twelve base62 characters (`key_`, `opr_`, `srv_`) or a `UUIDv7` in 32 hex digits.
//!
//! An id of one kind never parses as another. All are inline text, so they are copied and compared without a heap.

use std::fmt;
use std::str::FromStr;

use crate::types::base62;
use crate::types::clock::Timestamp;

/// The text is not an id of the kind wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id that starts with `{prefix}_`")]
pub struct InvalidId {
    /// The prefix that was wanted, without its underscore.
    pub prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $length:literal, $valid:path, $make:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $length]);

        impl $name {
            /// The prefix with its underscore.
            pub const PREFIX: &'static str = concat!($prefix, "_");

            /// A new id.
            #[must_use]
            pub fn random() -> Self {
                Self::of($make().as_ref()).unwrap_or(Self([b'0'; $length]))
            }

            /// The id whose text after the prefix is `rest`.
            #[must_use]
            pub fn of(rest: &[u8]) -> Option<Self> {
                let prefix = Self::PREFIX.as_bytes();
                let mut text = [0; $length];
                if prefix.len() + rest.len() != $length || !$valid(rest) {
                    return None;
                }
                for (to, from) in text.iter_mut().zip(prefix.iter().chain(rest)) {
                    *to = *from;
                }
                Some(Self(text))
            }

            /// Its whole text, prefix included.
            #[must_use]
            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.0).unwrap_or_default()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix(Self::PREFIX)
                    .and_then(|rest| Self::of(rest.as_bytes()))
                    .ok_or(InvalidId { prefix: $prefix })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                <std::borrow::Cow<'de, str>>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fn twelve(rest: &[u8]) -> bool {
    base62::is_digits(rest)
}

fn hex(rest: &[u8]) -> bool {
    rest.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
}

fn uuid_v7() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

id!(/** An API key: `key_` and the twelve public characters of the key. */ KeyId, "key", 16, twelve, base62::random_twelve);
id!(/** An operator, and its key. */ OperatorId, "opr", 16, twelve, base62::random_twelve);
id!(/** An MCP server, also its `client_id`. */ ServerId, "srv", 16, twelve, base62::random_twelve);
id!(/** A tool of a server. */ ToolId, "tool", 37, hex, uuid_v7);
id!(/** An agent. */ AgentId, "agt", 36, hex, uuid_v7);
id!(/** A project. */ ProjectId, "prj", 36, hex, uuid_v7);
id!(/** A role. */ RoleId, "rol", 36, hex, uuid_v7);
id!(/** A session token, also its `jti`. */ SessionId, "ses", 36, hex, uuid_v7);
id!(/** An entry of the revocation list. */ RevocationId, "rev", 36, hex, uuid_v7);
id!(/** An identity provider. */ ProviderId, "idp", 36, hex, uuid_v7);
id!(/** Who vouches for workloads. */ IssuerId, "iss", 36, hex, uuid_v7);
id!(/** An OAuth client, however it came to be known. */ ClientId, "cli", 36, hex, uuid_v7);
id!(/** A person. */ UserId, "usr", 36, hex, uuid_v7);
id!(/** What a person allowed a client on a server. */ ConsentId, "grt", 36, hex, uuid_v7);
id!(/** An authorization request and what became of it. */ FlowId, "flw", 36, hex, uuid_v7);
id!(/** A link that hands a secret to a person. */ ClaimId, "clm", 36, hex, uuid_v7);
id!(/** Who is told what happened. */ WebhookId, "whk", 36, hex, uuid_v7);
id!(/** An event on its way to one who is told. */ DeliveryId, "dlv", 36, hex, uuid_v7);
id!(/** An entry of the audit, or an event that is told. */ EventId, "evt", 36, hex, uuid_v7);

impl SessionId {
    /// A new id of a token issued then. The table of sessions is partitioned by the time in their ids, so that time is the
    /// database's, not this machine's.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        let micros = now.micros().max(0).unsigned_abs();
        let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
        let at = uuid::Timestamp::from_unix(uuid::NoContext, micros / 1_000_000, nanos);
        Self::of(uuid::Uuid::new_v7(at).simple().to_string().as_bytes()).unwrap_or_else(Self::random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_one_kind_never_parses_as_another() {
        let key = KeyId::random();
        assert_eq!(key.as_str().parse(), Ok(key));
        assert!(key.as_str().parse::<OperatorId>().is_err());
        let agent = AgentId::random();
        assert_eq!(agent.as_str().parse(), Ok(agent));
        assert!(agent.as_str().parse::<RoleId>().is_err());
    }

    #[test]
    fn a_session_made_later_has_the_greater_id() {
        let at = Timestamp::from_micros(1_795_422_633_123_456);
        let id = SessionId::at(at);
        assert!(id.as_str().starts_with("ses_01a207873ca37"), "{id}");
        assert!(id != SessionId::at(at), "and no two are the same");
        assert!(id.as_str() < SessionId::at(at.plus(std::time::Duration::from_millis(1))).as_str());
    }

    #[test]
    fn what_is_not_exactly_an_id_is_refused() {
        for text in [
            "",
            "key_",
            "key_0123456789a",
            "key_0123456789abc",
            "key_0123456789a\0",
            "KEY_0123456789ab",
            "key_0123456789aé",
        ] {
            assert!(text.parse::<KeyId>().is_err(), "{text:?}");
        }
        assert!("agt_0123456789ABCDEF0123456789ABCDEF".parse::<AgentId>().is_err(), "upper case");
    }
}
