//! Who signed in, in our words; and what is remembered between the two halves of a sign-in and between two checks.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::types::clock::Timestamp;
use crate::types::id::{ProviderId, RoleId};
use crate::types::redacted::Secret;

/// How somebody wants to sign in.
#[derive(Clone, Debug, Default)]
pub struct SignInWish {
    /// The person must prove anew who it is (`prompt=login`).
    pub again: bool,
    /// The person wants to choose among accounts (`prompt=select_account`).
    pub choose: bool,
    /// Who it probably is.
    pub login_hint: Option<String>,
}

/// A sign-in that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Where the browser goes.
    pub url: Url,
    /// The `state` that comes back: whoever has it answers this sign-in. Good once.
    pub state: Secret<String>,
    /// To be kept out of the browser's reach until then, and handed to [`super::Upstream::finish`].
    pub remember: Remembered,
}

/// What must be known when the provider answers.
#[derive(Clone, Serialize, Deserialize)]
pub struct Remembered {
    /// Which provider was asked: an answer by way of another one is none (RFC 9700 §4.4).
    pub(super) provider: ProviderId,
    /// What the ID token must name.
    #[serde(with = "hidden")]
    pub(super) nonce: Secret<String>,
    /// RFC 7636 §4.1.
    #[serde(with = "hidden")]
    pub(super) verifier: Secret<String>,
}

impl fmt::Debug for Remembered {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Remembered({})", self.provider)
    }
}

/// The query of the callback, but for `state`, by which it was found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    /// The provider's code.
    pub code: Option<&'a str>,
    /// The provider's name for itself (RFC 9207).
    pub iss: Option<&'a str>,
    /// Why there is no code.
    pub error: Option<&'a str>,
}

/// Somebody whom a provider vouches for.
#[derive(Clone, Debug)]
pub struct Person {
    /// The provider's name for the person: never given to another.
    pub subject: String,
    /// What people call it. May change, and may be anybody's.
    pub username: Option<String>,
    /// For display. Decides nothing.
    pub email: Option<String>,
    /// By the provider's rules.
    pub roles: BTreeSet<RoleId>,
    /// The provider's name for its own session.
    pub sid: Option<String>,
    /// With what it can be asked again.
    pub tokens: Option<UpstreamTokens>,
}

/// The tokens that a provider gave for a person.
#[derive(Clone, Serialize, Deserialize)]
pub struct UpstreamTokens {
    /// The provider's name for the person: what is learned later must be about the same one.
    pub(super) subject: String,
    #[serde(with = "hidden")]
    pub(super) access_token: Secret<String>,
    /// When it ends, in seconds since 1970, as far as the provider said.
    pub(super) ends_at: Option<i64>,
    #[serde(default, with = "hidden::option", skip_serializing_if = "Option::is_none")]
    pub(super) refresh_token: Option<Secret<String>>,
    /// The provider's name for its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sid: Option<String>,
}

impl fmt::Debug for UpstreamTokens {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("UpstreamTokens([redacted])")
    }
}

/// Whose sessions a provider has ended: of a person, one of them, or both named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedOut {
    /// The provider's name for the person.
    pub subject: Option<String>,
    /// The provider's name for its session.
    pub sid: Option<String>,
    /// The token's own name: it is good once.
    pub jti: String,
    /// When the token is no good any more anyway.
    pub ends_at: Timestamp,
}

/// Secrets on their way into a sealed value and back.
mod hidden {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::types::redacted::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret<String>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.reveal())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret<String>, D::Error> {
        String::deserialize(from).map(Secret::new)
    }

    pub(super) mod option {
        use serde::{Deserialize, Deserializer, Serializer};

        use crate::types::redacted::Secret;

        #[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
        pub(in super::super) fn serialize<S: Serializer>(
            secret: &Option<Secret<String>>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match secret {
                Some(secret) => to.serialize_some(secret.reveal()),
                None => to.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Secret<String>>, D::Error> {
            Ok(Option::<String>::deserialize(from)?.map(Secret::new))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_a_sealed_value_and_never_print() {
        let tokens = UpstreamTokens {
            subject: "s".to_owned(),
            access_token: Secret::new("canary-a".to_owned()),
            ends_at: Some(7),
            refresh_token: Some(Secret::new("canary-r".to_owned())),
            sid: None,
        };
        let text = serde_json::to_string(&tokens).unwrap();
        let read: UpstreamTokens = serde_json::from_str(&text).unwrap();
        assert_eq!(read.refresh_token.as_ref().unwrap().reveal(), "canary-r");
        assert_eq!(read.access_token.reveal(), "canary-a");
        let remembered = Remembered {
            provider: ProviderId::random(),
            nonce: Secret::new("canary-n".to_owned()),
            verifier: Secret::new("canary-v".to_owned()),
        };
        assert!(!format!("{tokens:?} {remembered:?} {read:#?}").contains("canary"));
    }
}
