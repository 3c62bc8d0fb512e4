//! API keys of agents: issue, change, rotate, revoke. Owns `keys`; [`notices`] owns `key_notices`.
//!
//! A key's id stays the same through rotation; its secret is versioned. Only `revoked` is final.

mod change;
pub mod claims;
mod issue;
mod loading;
mod rotation;
pub mod notices;
mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db::Db;
use crate::grants::{self, Grant};
use crate::refusal::{Code, Refused};
use crate::roles;
use crate::secrets;
use crate::settings;
use crate::types::caller::Caller;
use crate::types::environment::Environment;
use crate::types::page::{After, Listed, Page};

pub use change::{Change, change};
pub use issue::{NewKey, issue};
pub use loading::{Joined, Row, load_all, load_some};
pub use rotation::{Holder, Rotated, cancel, finish, rotate, rotate_self};

const NAME_CHARS_MAX: usize = 200;
/// Roles that a key may have.
const ROLES_MAX: usize = 20;

/// A key as it is read; never its secret.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = ApiKey)]
#[expect(clippy::struct_excessive_bools, reason = "each is a member of the reply")]
pub struct Key {
    /// Its id, also the `client_id` at `/oauth/token`.
    pub id: String,
    /// Whose it is.
    pub agent_id: String,
    /// Its agent's project.
    pub project: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `prod` or `dev`.
    pub environment: String,
    /// Its own grants.
    pub grants: Vec<Grant>,
    /// Its roles.
    pub roles: Vec<String>,
    /// From where it may be used; absent: from everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_cidrs: Option<Vec<String>>,
    /// May be shown to an MCP server itself; else it is good at `/oauth/token` only.
    pub direct: bool,
    /// May rotate itself.
    pub self_rotation: bool,
    /// Switched off.
    pub disabled: bool,
    /// `active`, `due`, `overlap`, `expired`, `disabled` or `revoked`.
    pub status: String,
    /// Its newest secret was given a longer life than the policy allows by now. It keeps that; a rotation gives a shorter one.
    pub exceeds_policy: bool,
    /// The life of each version of its secret.
    pub expires_in_days: i32,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When the newest version of its secret ends.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<OffsetDateTime>,
    /// While an overlap runs: the secret that it is for, and who still uses it. Only when one key is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<secrets::Shown>,
    /// The versions of its secret, newest first; only when one key is read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<secrets::Shown>,
}

/// What a list of keys is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Its agent's project.
    pub project: Option<String>,
    /// Its agent.
    pub agent_id: Option<String>,
    /// A server it has a grant on, itself or by a role.
    pub server_id: Option<String>,
    /// `prod` or `dev`.
    pub environment: Option<String>,
    /// As in [`Key::status`].
    pub status: Option<String>,
    /// Ends before.
    pub expires_before: Option<OffsetDateTime>,
    /// Was last used before, or never.
    pub last_used_before: Option<OffsetDateTime>,
    /// How its name begins, in any case.
    pub q: Option<String>,
}

/// A key that the caller may see, with the versions of its secret.
///
/// # Errors
///
/// There is none.
pub async fn get(connection: &mut PgConnection, by: &Caller, id: &str) -> Result<Key, Refused> {
    let row = store::find(connection, by.projects(), id).await?.ok_or_else(|| Refused::not_found("key"))?;
    let mut key = complete(connection, row).await?;
    let policies = settings::get(connection).await?;
    key.secrets = secrets::shown(connection, id, &policies.policy(environment(&key.environment)).remind_days).await?;
    key.previous = key.secrets.get(1).filter(|older| older.state == secrets::SUPERSEDED).cloned();
    Ok(key)
}

/// The keys that the caller may see, newest first.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list(db: &Db, by: &Caller, filter: &Filter, page: &Page) -> Result<Listed<Key>, Refused> {
    let mut connection = db.begin_list().await?;
    let (rows, edge) = store::list(&mut connection, by.projects(), filter, page).await?;
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let mut grants = grants::of_many(&mut connection, &ids).await?;
    let mut roles = roles::of_keys(&mut connection, &ids).await?;
    let own = |row: store::Stored| {
        let (grants, roles) = (grants.remove(&row.id), roles.remove(&row.id));
        row.with(grants.unwrap_or_default(), roles.unwrap_or_default())
    };
    let items = rows.into_iter().map(own).collect();
    Ok(page.cut_at(items, edge, |key| After { at: key.created_at, id: key.id.clone() }))
}

async fn complete(connection: &mut PgConnection, row: store::Stored) -> Result<Key, Refused> {
    let grants = grants::of(connection, &row.id).await?;
    let roles = roles::of_key(connection, &row.id).await?;
    Ok(row.with(grants, roles))
}

impl store::Stored {
    fn with(self, grants: Vec<Grant>, roles: Vec<String>) -> Key {
        Key {
            id: self.id,
            agent_id: self.agent_id,
            project: self.project,
            name: self.name,
            environment: self.environment,
            grants,
            roles,
            allowed_cidrs: self.allowed_cidrs,
            direct: self.direct,
            self_rotation: self.self_rotation,
            disabled: self.disabled,
            status: self.status,
            exceeds_policy: self.exceeds_policy,
            expires_in_days: self.expires_in_days,
            created_at: self.created_at,
            expires_at: self.expires_at,
            last_used_at: self.last_used_at,
            previous: None,
            secrets: Vec::new(),
        }
    }
}

/// As the schema holds it.
fn environment(name: &str) -> Environment {
    Environment::parse(name).unwrap_or_default()
}

/// Checks the roles of a key: each is known to the caller, who may give all that it grants.
async fn check_roles(
    connection: &mut PgConnection,
    by: &Caller,
    roles: &[String],
    had: &[String],
) -> Result<(), Refused> {
    if roles.len() > ROLES_MAX {
        return Err(Refused::field("/roles", "too_many", format!("at most {ROLES_MAX}")));
    }
    for (index, role) in roles.iter().enumerate() {
        if had.contains(role) {
            continue;
        }
        let pointer = format!("/roles/{index}");
        roles::get(connection, by, role).await.map_err(|refused| match refused.code {
            Code::NotFound => Refused::field(&pointer, "unknown", "There is no such role, or you may not see it."),
            _ => refused,
        })?;
        grants::may_give(connection, by, role).await?;
    }
    Ok(())
}
