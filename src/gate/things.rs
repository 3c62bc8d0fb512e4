//! What the gate knows: keys, agents, servers, roles, operators, in the gate's own words. Rows are translated into them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::gate::{Inactive, Tools};
use crate::types::alg::Alg;
use crate::types::clock::Timestamp;
use crate::types::environment::Environment;
use crate::types::id::{AgentId, ClientId, ConsentId, KeyId, OperatorId, ProviderId, RoleId, ServerId, UserId};
use crate::types::keyring::Keyring;
use crate::types::permission::{Permissions, ServerScope};

/// The id of a secret key, as it stands beside each digest: eight characters, copied instead of counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretKeyId([u8; 8]);

impl SecretKeyId {
    /// The id. A text that is none of ours becomes the empty one, which names no key: digests under it match nothing.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(text.as_bytes().try_into().unwrap_or_default())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::ops::Deref for SecretKeyId {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl std::fmt::Debug for SecretKeyId {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(self)
    }
}

/// One version of a secret.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// Counts from 1; the greatest is the newest.
    pub number: i32,
    /// The secret key its digest was made under.
    pub secret_key: SecretKeyId,
    /// HMAC-SHA-256.
    pub digest: [u8; 32],
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

/// The newest version of a secret and the one before it. Older ones are forgotten.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Versions);

/// Most secrets have one version, which then stands with its owner.
#[derive(Clone, Debug, Default)]
enum Versions {
    #[default]
    None,
    One(Version),
    // The newest first.
    Two(Box<[Version; 2]>),
}

impl Secrets {
    /// No version at all.
    pub(super) const NONE: Self = Self(Versions::None);

    /// Adds a version, in any order; the newest two stay. One that is there already stays as it is.
    pub fn add(&mut self, version: Version) {
        if self.versions().iter().any(|known| known.number == version.number) {
            return;
        }
        let two = |one: Version, other: Version| {
            Versions::Two(Box::new(if one.number > other.number { [one, other] } else { [other, one] }))
        };
        self.0 = match &self.0 {
            Versions::None => Versions::One(version),
            Versions::One(known) => two(*known, version),
            Versions::Two(known) if known.iter().all(|known| known.number > version.number) => return,
            Versions::Two(known) => {
                let [newest, _] = **known;
                two(newest, version)
            }
        };
    }

    /// The versions, newest first.
    #[must_use]
    pub fn versions(&self) -> &[Version] {
        match &self.0 {
            Versions::None => &[],
            Versions::One(version) => std::slice::from_ref(version),
            Versions::Two(versions) => &**versions,
        }
    }

    /// The version that was presented, live or not. Costs one HMAC for each secret key in use, found or not.
    #[must_use]
    pub fn matching(&self, keyring: &Keyring, presented: &str) -> Option<&Version> {
        let mut found = None;
        let mut made: Option<(SecretKeyId, Option<[u8; 32]>)> = None;
        for version in self.versions() {
            let digest = match made {
                Some((id, digest)) if id == version.secret_key => digest,
                _ => keyring.digest(&version.secret_key, presented),
            };
            made = Some((version.secret_key, digest));
            let equal = digest.is_some_and(|digest| {
                aws_lc_rs::constant_time::verify_slices_are_equal(&digest, &version.digest).is_ok()
            });
            if equal {
                found = Some(version);
            }
        }
        if self.versions().is_empty() {
            keyring.waste_one(presented);
        }
        found
    }

    /// The version of that number, if it lives at `now`.
    #[must_use]
    pub fn live(&self, number: i32, now: Timestamp) -> Option<&Version> {
        self.versions().iter().find(|version| version.number == number && now < version.expires)
    }

    /// The newest version.
    #[must_use]
    pub fn newest(&self) -> Option<&Version> {
        self.versions().first()
    }

    /// `Ok` while `version` lives; else whether it was superseded or simply expired.
    ///
    /// # Errors
    ///
    /// The cause of its end.
    pub fn check_live(&self, version: &Version, now: Timestamp) -> Result<(), Inactive> {
        if now < version.expires {
            return Ok(());
        }
        let newest = self.newest().is_some_and(|newest| newest.number == version.number);
        Err(if newest { Inactive::Expired } else { Inactive::Superseded })
    }
}

impl FromIterator<Version> for Secrets {
    fn from_iter<I: IntoIterator<Item = Version>>(versions: I) -> Self {
        let mut secrets = Self::default();
        versions.into_iter().for_each(|version| secrets.add(version));
        secrets
    }
}

/// Permissions on one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// On which server.
    pub server: ServerId,
    /// Which.
    pub permissions: Permissions,
}

/// An API key. There may be a million: lists are shared by all keys whose lists are equal.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id, the same through rotation.
    pub id: KeyId,
    /// Whose it is.
    pub agent: AgentId,
    /// Where it is good.
    pub environment: Environment,
    /// May be shown to a server; else it is good at the token endpoint only.
    pub direct: bool,
    /// Switched off.
    pub disabled: bool,
    /// Known to be revoked, also when its entry has left the revocation list.
    pub revoked: bool,
    /// From where it may be used; `None`: from everywhere.
    pub allowed: Option<Arc<[IpNet]>>,
    /// Its own grants, by server.
    pub grants: Arc<[Grant]>,
    /// Roles whose grants it has too.
    pub roles: Arc<[RoleId]>,
    /// Its secret's versions.
    pub secrets: Secrets,
}

/// Whether a caller's address is on the list, if there is one.
///
/// # Errors
///
/// There is a list, and the address is unknown or not on it.
pub(super) fn check_address(allowed: Option<&[IpNet]>, address: Option<IpAddr>) -> Result<(), Inactive> {
    let Some(allowed) = allowed else { return Ok(()) };
    let address = address.ok_or(Inactive::AddressUnknown)?.to_canonical();
    if allowed.iter().any(|net| net.contains(&address)) { Ok(()) } else { Err(Inactive::AddressRefused) }
}

/// An agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its project.
    pub project: Arc<str>,
    /// Switched off, with all its keys.
    pub disabled: bool,
}

/// An MCP server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its id, also its `client_id`.
    pub id: ServerId,
    /// Its project.
    pub project: Arc<str>,
    /// Its resource URI, byte for byte as registered: the audience of its tokens.
    pub resource: Arc<str>,
    /// Where it belongs.
    pub environment: Environment,
    /// Its own scope names.
    pub scopes: Vec<ServerScope>,
    /// What its tokens are signed with.
    pub alg: Alg,
    /// Switched off: nothing for it works.
    pub disabled: bool,
    /// Its client secret's versions.
    pub secrets: Secrets,
    /// What it offers.
    pub tools: Arc<Tools>,
}

/// A named bundle of grants.
#[derive(Clone, Debug)]
pub struct Role {
    /// What it grants.
    pub grants: Vec<Grant>,
}

/// An OAuth client: an application.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its id.
    pub id: ClientId,
    /// What stands in requests and tokens: its id, or the address of its metadata document.
    pub client_id: Arc<str>,
    /// Its project.
    pub project: Arc<str>,
    /// Switched off, with all that people allowed it.
    pub disabled: bool,
    /// What it may do by itself, without a person.
    pub grants: Vec<Grant>,
    /// Its client secret's versions.
    pub secrets: Secrets,
}

/// Somebody whom people sign in with.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Switched off, with all who signed in with it.
    pub disabled: bool,
}

/// A person.
#[derive(Clone, Debug)]
pub struct User {
    /// With whom it signs in.
    pub provider: ProviderId,
    /// What it is called there.
    pub username: Option<Arc<str>>,
    /// Switched off.
    pub disabled: bool,
    /// What the provider's claims gave it.
    pub roles: Vec<RoleId>,
}

/// What a person allowed a client on a server.
#[derive(Clone, Debug)]
pub struct Consent {
    /// Its id.
    pub id: ConsentId,
    /// Who.
    pub user: UserId,
    /// Whom.
    pub client: ClientId,
    /// Where.
    pub server: ServerId,
    /// What.
    pub permissions: Permissions,
}

/// An operator.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Its id.
    pub id: OperatorId,
    /// For people.
    pub name: Arc<str>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Where; `None`: everywhere.
    pub projects: Option<Vec<String>>,
    /// From where it may be used; `None`: from everywhere.
    pub allowed: Option<Vec<IpNet>>,
    /// Switched off.
    pub disabled: bool,
    /// Its key's versions.
    pub secrets: Secrets,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: i32) -> Version {
        Version {
            number,
            secret_key: SecretKeyId::of("01234567"),
            digest: [0; 32],
            created: Timestamp::from_seconds(0),
            expires: Timestamp::NEVER,
        }
    }

    #[test]
    fn the_newest_two_versions_stay_in_whatever_order_they_come() {
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1], [1, 3, 2], [3, 1, 2], [2, 1, 3]] {
            let secrets: Secrets = order.into_iter().map(version).collect();
            let kept: Vec<i32> = secrets.versions().iter().map(|version| version.number).collect();
            assert_eq!(kept, [3, 2], "{order:?}");
        }
        assert_eq!(Secrets::default().newest().map(|version| version.number), None);
    }

    #[test]
    fn a_key_is_small_because_there_may_be_a_million() {
        // With what the map and the allocator add, a key with one secret and one shared list of grants takes some 250 bytes.
        assert!(size_of::<Key>() <= 184, "{}", size_of::<Key>());
    }

    #[test]
    fn a_secret_key_that_cannot_be_ours_is_the_one_that_matches_nothing() {
        assert_eq!(SecretKeyId::of("0a1b2c3d").as_str(), "0a1b2c3d");
        for text in ["", "short", "much longer than ours"] {
            assert!(SecretKeyId::of(text) == SecretKeyId([0; 8]), "{text}");
        }
    }
}
