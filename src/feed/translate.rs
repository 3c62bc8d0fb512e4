//! Rows into the gate's words. A row that cannot be understood is left out: what is not known is refused.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;

use crate::gate::{Cutoff, Grant, Key, Operator, Position, Role, Secrets, Server, Subject, Version};
use crate::grants;
use crate::keys;
use crate::operators;
use crate::operators::parse_cidr;
use crate::revocations;
use crate::roles;
use crate::secrets;
use crate::servers;
use crate::types::alg::Alg;
use crate::types::clock::Timestamp;
use crate::types::environment::Environment;
use crate::types::id::{KeyId, RoleId, ServerId};
use crate::types::permission::Permissions;
use crate::types::resource::Canonical;

/// Versions of a secret that are kept: the newest, and the one before it.
const VERSIONS_KEPT: usize = 2;

/// The parts of keys, operators and servers that stand in tables of their own, by owner.
#[derive(Default)]
pub(super) struct Parts {
    secrets: HashMap<String, Secrets>,
    grants: HashMap<String, Vec<Grant>>,
    roles: HashMap<String, Vec<RoleId>>,
}

impl Parts {
    /// Rows of secrets come newest first.
    pub(super) fn new(secrets: Vec<secrets::Row>, grants: Vec<grants::Row>, roles: Vec<roles::KeyRole>) -> Self {
        let mut parts = Self::default();
        let mut names: HashMap<String, Arc<str>> = HashMap::new();
        for row in secrets {
            let name = names.entry(row.secret_key).or_insert_with_key(|id| id.as_str().into());
            let Ok(digest) = row.digest.try_into() else { continue };
            let version = Version {
                number: row.version,
                secret_key: Arc::clone(name),
                digest,
                created: row.created_at.into(),
                expires: row.expires_at.map_or(Timestamp::NEVER, Timestamp::from),
            };
            let versions = &mut parts.secrets.entry(row.owner).or_default().0;
            if versions.len() < VERSIONS_KEPT {
                versions.push(version);
            }
        }
        for row in grants {
            if let Some(grant) = grant(&row) {
                parts.grants.entry(row.holder).or_default().push(grant);
            }
        }
        for row in roles {
            if let Ok(id) = row.role_id.parse() {
                parts.roles.entry(row.key_id).or_default().push(id);
            }
        }
        parts
    }

    pub(super) fn key(&mut self, row: keys::Row) -> Option<(KeyId, Key)> {
        let id: KeyId = row.id.parse().ok()?;
        let key = Key {
            id,
            agent: row.agent_id.parse().ok()?,
            environment: Environment::parse(&row.environment)?,
            direct: row.direct,
            disabled: row.disabled,
            revoked: row.revoked,
            allowed: cidrs(row.allowed_cidrs),
            grants: self.grants.remove(&row.id).unwrap_or_default(),
            roles: self.roles.remove(&row.id).unwrap_or_default(),
            secrets: self.secrets.remove(&row.id).unwrap_or_default(),
        };
        Some((id, key))
    }

    pub(super) fn operator(&mut self, row: operators::Row) -> Option<Operator> {
        Some(Operator {
            id: row.id.parse().ok()?,
            name: row.name.as_str().into(),
            scopes: row.scopes,
            projects: row.projects,
            allowed: cidrs(row.allowed_cidrs),
            disabled: row.disabled,
            secrets: self.secrets.remove(&row.id).unwrap_or_default(),
        })
    }

    pub(super) fn server(&mut self, row: servers::Row) -> Option<(Canonical, Server)> {
        let id: ServerId = row.id.parse().ok()?;
        let server = Server {
            id,
            project: row.project.as_str().into(),
            resource: row.resource.as_str().into(),
            environment: Environment::parse(&row.environment)?,
            scopes: serde_json::from_value(row.scopes).ok()?,
            alg: Alg::parse(&row.token_alg)?,
            disabled: row.disabled,
            secrets: self.secrets.remove(&row.id).unwrap_or_default(),
        };
        Some((Canonical::parse(&row.canonical).ok()?, server))
    }

    pub(super) fn role(&mut self, id: &str) -> Option<(RoleId, Role)> {
        Some((id.parse().ok()?, Role { grants: self.grants.remove(id).unwrap_or_default() }))
    }
}

fn grant(row: &grants::Row) -> Option<Grant> {
    Some(Grant { server: row.server_id.parse().ok()?, permissions: Permissions::parse(&row.permissions).ok()? })
}

/// A list with an entry that cannot be read still is a list: it must not turn into "from everywhere".
fn cidrs(texts: Option<Vec<String>>) -> Option<Vec<IpNet>> {
    texts.map(|texts| texts.iter().filter_map(|text| parse_cidr(text)).collect())
}

pub(super) fn revocation(row: &revocations::Known) -> Option<(Subject, Cutoff)> {
    let kind = revocations::Kind::parse(&row.kind)?;
    let target = row.target.as_str();
    let subject = match kind {
        revocations::Kind::Token => Subject::Token(target.parse().ok()?),
        revocations::Kind::Key => Subject::Key(target.parse().ok()?),
        revocations::Kind::KeySessions => Subject::KeySessions(target.parse().ok()?),
        revocations::Kind::Agent => Subject::Agent(target.parse().ok()?),
        revocations::Kind::Server => Subject::Server(target.parse().ok()?),
        revocations::Kind::Project => Subject::Project(target.into()),
        revocations::Kind::SigningKey => Subject::SigningKey(target.into()),
        revocations::Kind::Operator => Subject::Operator(target.parse().ok()?),
        revocations::Kind::All => Subject::All,
    };
    let position = Position { history: row.history, number: row.number };
    let cutoff = match (kind.is_final(), row.issued_before) {
        (true, _) => Cutoff { whole: true, ..Cutoff::default() },
        (false, Some(at)) => Cutoff { issued_before: Some(at.into()), ..Cutoff::default() },
        (false, None) => Cutoff { before: position, ..Cutoff::default() },
    };
    Some((subject, cutoff))
}
