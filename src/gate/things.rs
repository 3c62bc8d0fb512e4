//! What the gate knows: keys, agents, servers, roles, operators, in the gate's own words. Rows are translated into them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::gate::Inactive;
use crate::types::alg::Alg;
use crate::types::clock::Timestamp;
use crate::types::environment::Environment;
use crate::types::id::{AgentId, KeyId, OperatorId, RoleId, ServerId};
use crate::types::keyring::Keyring;
use crate::types::permission::{Permissions, ServerScope};

/// One version of a secret.
#[derive(Clone, Debug)]
pub struct Version {
    /// Counts from 1; the greatest is the newest.
    pub number: i32,
    /// The secret key its digest was made under.
    pub secret_key: Arc<str>,
    /// HMAC-SHA-256.
    pub digest: [u8; 32],
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

/// The newest version of a secret and the one before it, newest first. Older ones are forgotten.
#[derive(Clone, Debug, Default)]
pub struct Secrets(pub Vec<Version>);

impl Secrets {
    /// The version that was presented, live or not. Costs one HMAC for each secret key in use, found or not.
    #[must_use]
    pub fn matching(&self, keyring: &Keyring, presented: &str) -> Option<&Version> {
        let mut found = None;
        let mut made: Option<(&str, Option<[u8; 32]>)> = None;
        for version in &self.0 {
            let digest = match made {
                Some((id, digest)) if id == &*version.secret_key => digest,
                _ => keyring.digest(&version.secret_key, presented),
            };
            made = Some((&version.secret_key, digest));
            let equal = digest.is_some_and(|digest| {
                aws_lc_rs::constant_time::verify_slices_are_equal(&digest, &version.digest).is_ok()
            });
            if equal {
                found = Some(version);
            }
        }
        if self.0.is_empty() {
            keyring.waste_one(presented);
        }
        found
    }

    /// The version of that number, if it lives at `now`.
    #[must_use]
    pub fn live(&self, number: i32, now: Timestamp) -> Option<&Version> {
        self.0.iter().find(|version| version.number == number && now < version.expires)
    }

    /// The newest version.
    #[must_use]
    pub fn newest(&self) -> Option<&Version> {
        self.0.first()
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

/// Permissions on one server.
#[derive(Clone, Debug)]
pub struct Grant {
    /// On which server.
    pub server: ServerId,
    /// Which.
    pub permissions: Permissions,
}

/// An API key.
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
    pub allowed: Option<Vec<IpNet>>,
    /// Its own grants.
    pub grants: Vec<Grant>,
    /// Roles whose grants it has too.
    pub roles: Vec<RoleId>,
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
}

/// A named bundle of grants.
#[derive(Clone, Debug)]
pub struct Role {
    /// What it grants.
    pub grants: Vec<Grant>,
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
