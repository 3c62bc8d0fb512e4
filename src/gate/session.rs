//! Session tokens: their claims, their signature, and everything they hang on.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, Validation};

use crate::gate::principals::check_key;
use crate::gate::things::check_address;
use crate::gate::{Grant, Inactive, Key, Position, Server, Subject, SubjectKind, Verified, View};
use crate::types::alg::Alg;
use crate::types::clock::Timestamp;
use crate::types::environment::Environment;
use crate::types::id::{AgentId, KeyId, ServerId, SessionId};
use crate::types::permission::{Permission, Permissions};

/// Bytes of a session token at most; anything longer is not one of ours.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The `typ` of an access token (RFC 9068 §2.1).
pub(super) const TYP: &str = "at+jwt";

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

/// The claims of a session token (RFC 9068 §2.2, and four of ours: `srv`, `kv`, `anc`, `pos`).
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Our issuer.
    pub iss: String,
    /// The agent.
    pub sub: String,
    /// The server's resource, as registered.
    pub aud: String,
    /// The key.
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
    /// The agent.
    pub agent_id: AgentId,
    /// Where it is good.
    pub environment: Environment,
    /// The key.
    pub key_id: KeyId,
    /// Who acts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub act: Option<Actor>,
    /// The server's id: a resource may be given to another server one day.
    pub srv: ServerId,
    /// The version of the key's secret.
    pub kv: i32,
    /// What it hangs on beside its key and agent.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub anc: Vec<String>,
    /// History and feed number that the issuing node had published before it began to authorise.
    pub pos: String,
}

/// A token may hold more members than one grant may: it is bounded by its bytes.
fn permissions<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Permissions, D::Error> {
    Ok(<Vec<Permission> as serde::Deserialize>::deserialize(from)?.into_iter().collect())
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
}

/// What the claim of a [`Ancestor::SigningKey`] begins with.
const SIGNING_KEY: &str = "kid";

impl Ancestor {
    /// As in the claim `anc`.
    #[must_use]
    pub fn to_claim(&self) -> String {
        match self {
            Self::Token(id, issued) => format!("{id}:{issued}"),
            Self::Key(id, version) => format!("{id}:{version}"),
            Self::SigningKey(kid) => format!("{SIGNING_KEY}:{kid}"),
        }
    }
}

impl FromStr for Ancestor {
    type Err = Inactive;

    /// An ancestor that we do not understand is dead.
    fn from_str(text: &str) -> Result<Self, Inactive> {
        let (id, rest) = text.split_once(':').ok_or(Inactive::Unknown)?;
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

/// A token whose form, type, algorithm, signature and issuer are right; checked once, and remembered. Says nothing about
/// whether it is still good: see [`check_session`].
///
/// The header chooses only which of our keys to check against. `alg` must be that key's; `jku`, `x5u`, `jwk` and `crit`
/// are never followed.
///
/// # Errors
///
/// What is wrong with it.
pub fn verify_session(view: View<'_>, token: &str) -> Result<Arc<Verified>, Inactive> {
    if token.len() > TOKEN_BYTES_MAX || token.bytes().filter(|byte| *byte == b'.').count() != 2 {
        return Err(Inactive::Malformed);
    }
    let verified = view.live.verified.get_or_verify(token, || verify(view, token))?;
    // A key that was taken out of the key set since takes what it signed with it.
    let known = view.live.verifiers.load().iter().any(|verifier| verifier.kid == verified.kid);
    if known { Ok(verified) } else { Err(Inactive::Unknown) }
}

fn verify(view: View<'_>, token: &str) -> Result<Verified, Inactive> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| Inactive::Malformed)?;
    if header.typ.as_deref() != Some(TYP) {
        return Err(Inactive::WrongType);
    }
    let verifiers = view.live.verifiers.load();
    let kid = header.kid.as_deref().unwrap_or_default();
    let verifier = verifiers.iter().find(|verifier| &*verifier.kid == kid).ok_or(Inactive::Unknown)?;
    let algorithm = algorithm(verifier.alg);
    if header.alg != algorithm {
        return Err(Inactive::BadSignature);
    }
    let mut validation = Validation::new(algorithm);
    // Time and audience are checked by us, after the signature, each time a token is shown.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.leeway = 0;
    validation.required_spec_claims.clear();
    let claims = jsonwebtoken::decode::<Claims>(token, &verifier.key, &validation)
        .map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => Inactive::BadSignature,
            _ => Inactive::Malformed,
        })?
        .claims;
    if *claims.iss != *view.live.issuer {
        return Err(Inactive::WrongIssuer);
    }
    Verified::new(claims, Arc::clone(&verifier.kid))
}

/// The library's name for an algorithm of ours.
#[must_use]
pub(crate) const fn algorithm(alg: Alg) -> Algorithm {
    match alg {
        Alg::EdDsa => Algorithm::EdDSA,
        Alg::Es256 => Algorithm::ES256,
        Alg::Rs256 => Algorithm::RS256,
    }
}

/// What a verified token may do now at `server`, for a caller at `address`: everything it hangs on is checked, each time.
///
/// # Errors
///
/// Why it may do nothing.
pub fn check_session<'a>(
    view: View<'a>,
    token: &Verified,
    server: &Server,
    address: Option<IpAddr>,
) -> Result<Cow<'a, Permissions>, Inactive> {
    let (claims, position) = (&token.claims, token.position);
    if claims.srv != server.id || *claims.aud != *server.resource {
        return Err(Inactive::WrongServer);
    }
    if claims.environment != server.environment {
        return Err(Inactive::WrongEnvironment);
    }
    if view.now >= Timestamp::from_seconds(claims.exp) {
        return Err(Inactive::Expired);
    }
    if server.disabled {
        return Err(Inactive::ServerDisabled);
    }
    if view.position.is_before(position) {
        return Err(Inactive::NotYet);
    }
    if position.history != view.position.history {
        return Err(Inactive::Revoked);
    }
    let mut check = Lineage { view, position, issued: token.issued, address };
    check.not_revoked(SubjectKind::All, || Subject::All)?;
    check.not_revoked(SubjectKind::SigningKey, || Subject::SigningKey(Arc::clone(&token.kid)))?;
    check.not_revoked(SubjectKind::Token, || Subject::Token(claims.jti))?;
    check.not_revoked(SubjectKind::Server, || Subject::Server(server.id))?;
    check.not_revoked(SubjectKind::Project, || Subject::Project(Arc::clone(&server.project)))?;
    let key = check.key(claims.key_id, claims.kv)?;
    if key.agent != claims.agent_id {
        return Err(Inactive::Unknown);
    }
    let mut left = narrowed(effective_permissions(view, key, server.id), &claims.permissions);
    for ancestor in &token.ancestors {
        match ancestor {
            Ancestor::Token(id, _) => check.not_revoked(SubjectKind::Token, || Subject::Token(*id))?,
            Ancestor::SigningKey(kid) => {
                check.not_revoked(SubjectKind::SigningKey, || Subject::SigningKey(Arc::clone(kid)))?;
            }
            Ancestor::Key(id, version) => {
                let key = check.key(*id, *version)?;
                left = narrowed(effective_permissions(view, key, server.id), &left);
            }
        }
    }
    if left.is_empty() { Err(Inactive::NothingLeft) } else { Ok(left) }
}

/// What of `held` is in `granted` too. Most tokens have all that their key has, and nothing is to be made.
fn narrowed<'a>(held: Cow<'a, Permissions>, granted: &Permissions) -> Cow<'a, Permissions> {
    if *held == *granted { held } else { Cow::Owned(held.intersect(granted)) }
}

/// What a token hangs on, being checked.
struct Lineage<'a> {
    view: View<'a>,
    position: Position,
    issued: Timestamp,
    address: Option<IpAddr>,
}

impl<'a> Lineage<'a> {
    fn not_revoked(&self, kind: SubjectKind, subject: impl FnOnce() -> Subject) -> Result<(), Inactive> {
        let revoked = &self.view.memory.revoked;
        let dead = revoked.any(kind) && revoked.kills(&subject(), self.position, self.issued);
        if dead { Err(Inactive::Revoked) } else { Ok(()) }
    }

    /// The key exists, works, its version lives, its agent works, and none of them was cut off after this token was issued.
    fn key(&mut self, id: KeyId, version: i32) -> Result<&'a Key, Inactive> {
        let key = self.view.memory.keys.get(&id).ok_or(Inactive::Unknown)?;
        let agent = check_key(self.view, key)?;
        key.secrets.live(version, self.view.now).ok_or(Inactive::Superseded)?;
        self.not_revoked(SubjectKind::KeySessions, || Subject::KeySessions(id))?;
        self.not_revoked(SubjectKind::Agent, || Subject::Agent(key.agent))?;
        self.not_revoked(SubjectKind::Project, || Subject::Project(Arc::clone(&agent.project)))?;
        check_address(key.allowed.as_deref(), self.address)?;
        Ok(key)
    }
}

/// What a key may do on a server now, by its own grants and its roles'.
#[must_use]
pub fn effective_permissions<'a>(view: View<'a>, key: &'a Key, server: ServerId) -> Cow<'a, Permissions> {
    let mut held: Option<Cow<'a, Permissions>> = None;
    let mut add = |grants: &'a [Grant]| {
        for grant in grants.iter().filter(|grant| grant.server == server) {
            // Most keys have one grant on a server, and nothing is to be put together.
            held = Some(match held.take() {
                None => Cow::Borrowed(&grant.permissions),
                Some(held) => Cow::Owned(held.union(&grant.permissions)),
            });
        }
    };
    add(&key.grants);
    for role in key.roles.iter().filter_map(|role| view.memory.roles.get(role)) {
        add(&role.grants);
    }
    held.unwrap_or_default()
}

/// The servers on which a key may do anything now.
#[must_use]
pub(crate) fn servers_of(view: View<'_>, key: &Key) -> BTreeSet<ServerId> {
    let roles = key.roles.iter().filter_map(|role| view.memory.roles.get(role));
    let of_roles = roles.flat_map(|role| role.grants.iter().map(|grant| grant.server).collect::<Vec<_>>());
    key.grants.iter().map(|grant| grant.server).chain(of_roles).collect()
}
