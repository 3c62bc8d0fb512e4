//! What a session token says, and what it hangs on.

use std::str::FromStr;
use std::sync::Arc;

use crate::gate::Inactive;
use crate::types::environment::Environment;
use crate::types::id::{AgentId, ClientId, ConsentId, KeyId, ServerId, SessionId};
use crate::types::permission::{Permission, Permissions};
use crate::types::thumbprint::Thumbprint;

/// Who acts for the subject (RFC 8693 §4.1), and for whom before.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// The actor.
    pub sub: String,
    /// Who acted before it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(no_recursion)]
    pub act: Option<Box<Actor>>,
}

impl Actor {
    /// How many actors there are, this one included.
    #[must_use]
    pub fn depth(&self) -> usize {
        std::iter::successors(Some(self), |actor| actor.act.as_deref()).count()
    }
}

/// By what whoever shows a token proves to be its holder (RFC 7800 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The thumbprint of its key (RFC 9449 §6.1).
    #[schema(value_type = String)]
    pub jkt: Thumbprint,
}

/// The claims of a session token (RFC 9068 §2.2, and four of ours: `srv`, `kv`, `anc`, `pos`).
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Our issuer.
    pub iss: String,
    /// Whose rights these are: the agent, the person, or the client itself.
    pub sub: String,
    /// The server's resource, as registered.
    pub aud: String,
    /// Through what they are used: the key, or the OAuth client.
    pub client_id: String,
    /// Its id.
    pub jti: SessionId,
    /// Issued at, seconds.
    pub iat: i64,
    /// Ends at, seconds. Expired means `now >= exp`.
    pub exp: i64,
    /// Permissions and the server's scopes they cover, for those who read only this.
    pub scope: String,
    /// Permissions.
    #[serde(deserialize_with = "permissions")]
    pub permissions: Permissions,
    /// The agent, when it comes from an agent's key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent_id: Option<AgentId>,
    /// Where it is good.
    pub environment: Environment,
    /// That key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key_id: Option<KeyId>,
    /// Who acts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub act: Option<Actor>,
    /// The key that it is bound to: nobody else may use it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cnf: Option<Confirmation>,
    /// The server's id: a resource may be given to another server one day.
    pub srv: ServerId,
    /// The version of the key's secret.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kv: Option<i32>,
    /// What it hangs on beside its key and agent: what a person allowed, or the client, first of all.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub anc: Vec<String>,
    /// History and feed number that the issuing node had published before it began to authorise.
    pub pos: String,
}

/// A token may hold more members than one grant may: it is bounded by its bytes.
fn permissions<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Permissions, D::Error> {
    Ok(<Vec<Permission> as serde::Deserialize>::deserialize(from)?.into_iter().collect())
}

/// On whose rights a token rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// An agent's key.
    Key {
        /// The key.
        id: KeyId,
        /// Its agent, when the token was issued.
        agent: AgentId,
        /// The version of its secret.
        version: i32,
    },
    /// What a person allowed a client.
    Consent(ConsentId),
    /// A client by itself.
    Client(ClientId),
}

impl Holder {
    /// The key, if it is one.
    #[must_use]
    pub const fn key(&self) -> Option<KeyId> {
        match self {
            Self::Key { id, .. } => Some(*id),
            Self::Consent(_) | Self::Client(_) => None,
        }
    }

    /// Takes it out of the ancestors, unless it is the key that the claims name.
    ///
    /// # Errors
    ///
    /// The claims name half a key, or neither a key nor exactly one other holder.
    pub(super) fn of(claims: &Claims, ancestors: &mut Vec<Ancestor>) -> Result<Self, Inactive> {
        match (claims.key_id, claims.agent_id, claims.kv) {
            (Some(id), Some(agent), Some(version)) => Ok(Self::Key { id, agent, version }),
            (None, None, None) => {
                let mut holders = ancestors.extract_if(.., |ancestor| ancestor.holder().is_some());
                let holder = holders.next().and_then(|first| first.holder()).ok_or(Inactive::Malformed)?;
                if holders.next().is_some() { Err(Inactive::Malformed) } else { Ok(holder) }
            }
            _ => Err(Inactive::Malformed),
        }
    }
}

/// Something a token hangs on beside its own key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ancestor {
    /// A token it was exchanged from, and when that was issued: a cut-off in time reaches what comes from it.
    Token(SessionId, i64),
    /// A version of an actor's key.
    Key(KeyId, i32),
    /// The key that signed a token it was exchanged from; its own signature may be another's.
    SigningKey(Arc<str>),
    /// What a person allowed a client.
    Consent(ConsentId),
    /// A client that acts by itself.
    Client(ClientId),
}

/// What the claim of an [`Ancestor::SigningKey`] begins with.
const SIGNING_KEY: &str = "kid";

impl Ancestor {
    /// As in the claim `anc`.
    #[must_use]
    pub fn to_claim(&self) -> String {
        match self {
            Self::Token(id, issued) => format!("{id}:{issued}"),
            Self::Key(id, version) => format!("{id}:{version}"),
            Self::SigningKey(kid) => format!("{SIGNING_KEY}:{kid}"),
            Self::Consent(id) => id.to_string(),
            Self::Client(id) => id.to_string(),
        }
    }

    /// The holder that it is, if it can be one.
    const fn holder(&self) -> Option<Holder> {
        match self {
            Self::Consent(id) => Some(Holder::Consent(*id)),
            Self::Client(id) => Some(Holder::Client(*id)),
            Self::Token(..) | Self::Key(..) | Self::SigningKey(_) => None,
        }
    }
}

impl FromStr for Ancestor {
    type Err = Inactive;

    /// An ancestor that we do not understand is dead.
    fn from_str(text: &str) -> Result<Self, Inactive> {
        let Some((id, rest)) = text.split_once(':') else {
            let client = || text.parse().map(Self::Client);
            return text.parse().map(Self::Consent).or_else(|_| client()).map_err(|_| Inactive::Unknown);
        };
        if id == SIGNING_KEY {
            return Ok(Self::SigningKey(rest.into()));
        }
        if let Ok(id) = id.parse() {
            return Ok(Self::Token(id, rest.parse().map_err(|_| Inactive::Unknown)?));
        }
        let id = id.parse().map_err(|_| Inactive::Unknown)?;
        Ok(Self::Key(id, rest.parse().map_err(|_| Inactive::Unknown)?))
    }
}
