//! Rows into the gate's words. A row that cannot be understood is left out: what is not known is refused.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;

use crate::agents;
use crate::feed::pools::Pools;
use crate::gate::{
    Agent, Cutoff, Grant, Key, Map, Operator, Position, Role, SecretKeyId, Secrets, Server, Subject, Tool, ToolSchema,
    Tools, Version,
};
use crate::grants;
use crate::keys;
use crate::operators;
use crate::operators::parse_cidr;
use crate::revocations;
use crate::roles;
use crate::secrets;
use crate::servers;
use crate::tools::{self, Tag};
use crate::types::alg::Alg;
use crate::types::clock::Timestamp;
use crate::types::environment::Environment;
use crate::types::id::{KeyId, RoleId, ServerId};
use crate::types::permission::Permissions;
use crate::types::resource::Canonical;

/// Keys that are being put together.
pub(super) type Keys = Map<KeyId, Arc<Key>>;

/// The key, when nobody else has it yet.
pub(super) fn find<'a>(keys: &'a mut Keys, id: &KeyId) -> Option<&'a mut Key> {
    keys.get_mut(id).map(Arc::make_mut)
}

/// The parts of keys, operators and servers that stand in tables of their own, by owner.
#[derive(Default)]
pub(super) struct Parts {
    secrets: HashMap<String, Secrets>,
    grants: HashMap<String, Vec<Grant>>,
    roles: HashMap<String, Vec<RoleId>>,
    tools: HashMap<String, Tools>,
}

impl Parts {
    pub(super) fn new(secrets: Vec<secrets::Row>, grants: Vec<grants::Row>, roles: Vec<roles::KeyRole>) -> Self {
        let mut parts = Self::default();
        for row in secrets {
            parts.add_secret(row);
        }
        for row in grants {
            parts.add_grant(row.holder, grant(&row.server_id, &row.permissions));
        }
        for row in roles {
            parts.add_role(row);
        }
        parts
    }

    pub(super) fn add_secret(&mut self, row: secrets::Row) {
        let version = version(&row);
        self.secrets.entry(row.owner).or_default().add(version);
    }

    pub(super) fn add_grant(&mut self, holder: String, grant: Option<Grant>) {
        if let Some(grant) = grant {
            self.grants.entry(holder).or_default().push(grant);
        }
    }

    pub(super) fn add_role(&mut self, row: roles::KeyRole) {
        if let Ok(id) = row.role_id.parse() {
            self.roles.entry(row.key_id).or_default().push(id);
        }
    }

    pub(super) fn with_tools(mut self, rows: &[tools::Row]) -> Self {
        for row in rows {
            self.add_tool(row);
        }
        self
    }

    /// A tool whose row cannot be understood is left out, so that no call of it is allowed.
    pub(super) fn add_tool(&mut self, row: &tools::Row) {
        if let Some(tool) = tool(row) {
            self.tools.entry(row.server_id.clone()).or_default().add(tool);
        }
    }

    /// A key with its parts. Its lists are those of all keys that have the same.
    pub(super) fn key(&mut self, row: &keys::Row, pools: &mut Pools) -> Option<(KeyId, Key)> {
        let (id, mut key) = bare_key(row, pools)?;
        key.secrets = self.secrets.remove(&row.id).unwrap_or_default();
        self.lists(&row.id, &mut key, pools);
        Some((id, key))
    }

    /// Gives a key the grants and roles that are here, beside what it has.
    fn lists(&mut self, id: &str, key: &mut Key, pools: &mut Pools) {
        if let Some(mut grants) = self.grants.remove(id) {
            grants.extend_from_slice(&key.grants);
            grants.sort_by_key(|grant| grant.server);
            grants.dedup_by_key(|grant| grant.server);
            key.grants = pools.grants.share(&grants);
        }
        if let Some(mut roles) = self.roles.remove(id) {
            roles.sort();
            key.roles = pools.roles.share(&roles);
        }
    }

    /// Gives keys the parts that are left here.
    pub(super) fn rest(&mut self, keys: &mut Keys, pools: &mut Pools) {
        let mut ids: Vec<String> = self.grants.keys().chain(self.roles.keys()).cloned().collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            if let Some(key) = id.parse().ok().and_then(|id| find(keys, &id)) {
                self.lists(&id, key, pools);
            }
        }
    }

    pub(super) fn operator(&mut self, row: operators::Row) -> Option<Operator> {
        Some(Operator {
            id: row.id.parse().ok()?,
            name: row.name.as_str().into(),
            scopes: row.scopes,
            projects: row.projects,
            allowed: cidrs(row.allowed_cidrs.as_deref()),
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
            tools: Arc::new(self.tools.remove(&row.id).unwrap_or_default()),
        };
        Some((Canonical::parse(&row.canonical).ok()?, server))
    }

    /// The secrets of an owner that is none of these.
    pub(super) fn secrets_of(&mut self, owner: &str) -> Secrets {
        self.secrets.remove(owner).unwrap_or_default()
    }

    /// The grants of a holder that is none of these.
    pub(super) fn grants_of(&mut self, holder: &str) -> Vec<Grant> {
        self.grants.remove(holder).unwrap_or_default()
    }

    pub(super) fn role(&mut self, id: &str) -> Option<(RoleId, Role)> {
        Some((id.parse().ok()?, Role { grants: self.grants.remove(id).unwrap_or_default() }))
    }
}

fn tool(row: &tools::Row) -> Option<Tool> {
    let tagged = |tag: Tag| row.tags.iter().any(|known| known == tag.as_str());
    Some(Tool {
        id: row.id.parse().ok()?,
        name: row.name.as_str().into(),
        schema: row.input_schema.as_deref().map(|source| Arc::new(ToolSchema::new(source))),
        price_micros: row.price_micros.try_into().ok()?,
        read_only: tagged(Tag::ReadOnly),
        expensive: tagged(Tag::Expensive),
        calls_per_minute: row.calls_per_minute.map(TryInto::try_into).transpose().ok()?,
    })
}

pub(super) fn agent(row: &agents::Row) -> Agent {
    Agent { project: row.project.as_str().into(), disabled: row.disabled }
}

/// A key without its secrets, grants and roles.
pub(super) fn bare_key(row: &keys::Row, pools: &mut Pools) -> Option<(KeyId, Key)> {
    let id: KeyId = row.id.parse().ok()?;
    let key = Key {
        id,
        agent: row.agent_id.parse().ok()?,
        environment: Environment::parse(&row.environment)?,
        direct: row.direct,
        disabled: row.disabled,
        revoked: row.revoked,
        allowed: cidrs(row.allowed_cidrs.as_deref()).map(|cidrs| pools.networks.share(&cidrs)),
        grants: Arc::default(),
        roles: Arc::default(),
        secrets: Secrets::default(),
    };
    Some((id, key))
}

/// A version of a secret.
#[must_use]
pub(crate) fn version(row: &secrets::Row) -> Version {
    Version {
        number: row.version,
        secret_key: SecretKeyId::of(&row.secret_key),
        digest: row.digest,
        created: row.created_at.into(),
        expires: row.expires_at.map_or(Timestamp::NEVER, Timestamp::from),
    }
}

pub(super) fn grant(server: &str, permissions: &[String]) -> Option<Grant> {
    Some(Grant { server: server.parse().ok()?, permissions: Permissions::parse(permissions).ok()? })
}

/// A list with an entry that cannot be read still is a list: it must not turn into "from everywhere".
fn cidrs(texts: Option<&[String]>) -> Option<Vec<IpNet>> {
    texts.map(|texts| texts.iter().filter_map(|text| parse_cidr(text)).collect())
}

/// What an entry of the list is about, what is dead of it, and when all that has expired.
pub(super) fn revocation(row: &revocations::Known) -> Option<(Subject, Cutoff, Timestamp)> {
    let kind = revocations::Kind::parse(&row.kind)?;
    let target = row.target.as_str();
    let subject = match kind {
        revocations::Kind::Token => Subject::Token(target.parse().ok()?),
        revocations::Kind::Key => Subject::Key(target.parse().ok()?),
        revocations::Kind::KeySessions => Subject::KeySessions(target.parse().ok()?),
        revocations::Kind::Agent => Subject::Agent(target.parse().ok()?),
        revocations::Kind::Server => Subject::Server(target.parse().ok()?),
        revocations::Kind::Client => Subject::Client(target.parse().ok()?),
        revocations::Kind::User => Subject::User(target.parse().ok()?),
        revocations::Kind::Grant => Subject::Consent(target.parse().ok()?),
        revocations::Kind::Provider => Subject::Provider(target.parse().ok()?),
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
    Some((subject, cutoff, row.prune_at.map_or(Timestamp::NEVER, Timestamp::from)))
}
