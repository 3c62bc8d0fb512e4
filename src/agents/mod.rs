//! Agents: programs that call MCP servers and hold API keys. Owns `agents`.

mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::projects::{self, precondition};
use crate::refusal::{Checks, Refused};
use crate::revocations::{self, Kind, New};
use crate::types::caller::Caller;
use crate::types::id::AgentId;
use crate::types::page::{After, Listed, Page};
use crate::types::patch::Patch;

pub use store::{Row, load_all, load_some};

/// Characters of a name or an owner at most.
const NAME_CHARS_MAX: usize = 200;

/// An agent as it is read.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Agent {
    /// Its id, also the `sub` of its tokens.
    pub id: String,
    /// For people.
    pub name: String,
    /// An e-mail address or a team's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its project.
    pub project: String,
    /// Switched off: nothing of it works.
    pub disabled: bool,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// What a list of agents is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Its project.
    pub project: Option<String>,
    /// `active` or `disabled`.
    pub disabled: Option<bool>,
    /// How its name begins, in any case.
    pub q: Option<String>,
}

/// A new agent.
#[derive(Clone, Debug)]
pub struct NewAgent {
    /// For people.
    pub name: String,
    /// An e-mail address or a team's name.
    pub owner: Option<String>,
    /// Its project; `None`: the default one.
    pub project: Option<String>,
}

/// A change of an agent (RFC 7396).
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New name.
    pub name: Option<String>,
    /// New owner.
    pub owner: Patch<String>,
    /// Switched off or on.
    pub disabled: Option<bool>,
}

/// Makes an agent.
///
/// # Errors
///
/// Wrong fields, or a project that the caller does not reach.
pub async fn create(db: &Db, by: &Caller, new: NewAgent) -> Result<(Agent, Done), Refused> {
    check(&new.name, new.owner.as_deref())?;
    let mut tx = db.begin().await?;
    let project = projects::of_new(&mut tx, by, new.project.as_deref()).await?;
    let agent =
        store::insert(&mut tx, AgentId::random().as_str(), &new.name, new.owner.as_deref(), &project.name).await?;
    audit::append(&mut tx, &Entry::new(by, "agent.created").on(&agent.id).project(&agent.project).agent(&agent.id))
        .await?;
    Ok((agent, db.commit(tx).await?))
}

/// An agent that the caller may see.
///
/// # Errors
///
/// There is none.
pub async fn get(connection: &mut PgConnection, by: &Caller, id: &str) -> Result<Agent, Refused> {
    store::find(connection, by.projects(), id).await?.ok_or_else(|| Refused::not_found("agent"))
}

/// The agents that the caller may see, newest first.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list(db: &Db, by: &Caller, filter: &Filter, page: &Page) -> Result<Listed<Agent>, Refused> {
    let (items, edge) = store::list(&mut *db.begin_list().await?, by.projects(), filter, page).await?;
    Ok(page.cut_at(items, edge, |agent| After { at: agent.created_at, id: agent.id.clone() }))
}

/// Changes an agent. Switching it off kills all it holds: its keys while it is off, its tokens for good.
///
/// Returns whether a right was taken away.
///
/// # Errors
///
/// No such agent, wrong fields, or an old `If-Match` tag.
pub async fn change(
    db: &Db,
    by: &Caller,
    id: &str,
    change: Change,
    expected: Option<&str>,
) -> Result<(Agent, Done, bool), Refused> {
    let mut tx = db.begin().await?;
    let before = store::lock(&mut tx, by.projects(), id).await?.ok_or_else(|| Refused::not_found("agent"))?;
    precondition(&before, expected)?;
    let after = Agent {
        name: change.name.unwrap_or_else(|| before.name.clone()),
        owner: change.owner.over(before.owner.clone()),
        disabled: change.disabled.unwrap_or(before.disabled),
        ..before.clone()
    };
    check(&after.name, after.owner.as_deref())?;
    store::set(&mut tx, &after).await?;
    let switched_off = after.disabled && !before.disabled;
    if switched_off {
        revocations::add(&mut tx, by, &New::of(Kind::Agent, id, &before.project)).await?;
    }
    let entry =
        Entry::new(by, "agent.changed").on(id).project(&after.project).agent(id).with("disabled", after.disabled);
    audit::append(&mut tx, &entry).await?;
    Ok((after, db.commit(tx).await?, switched_off))
}

/// Deletes an agent: its keys are revoked for good, its tokens die.
///
/// # Errors
///
/// No such agent.
pub async fn delete(db: &Db, by: &Caller, id: &str) -> Result<(Agent, Done), Refused> {
    let mut tx = db.begin().await?;
    let agent = store::lock(&mut tx, by.projects(), id).await?.ok_or_else(|| Refused::not_found("agent"))?;
    store::revoke_keys(&mut tx, id).await?;
    store::set_deleted(&mut tx, id).await?;
    revocations::add(&mut tx, by, &New::of(Kind::Agent, id, &agent.project)).await?;
    audit::append(&mut tx, &Entry::new(by, "agent.deleted").on(id).project(&agent.project).agent(id)).await?;
    Ok((agent, db.commit(tx).await?))
}

fn check(name: &str, owner: Option<&str>) -> Result<(), Refused> {
    let mut checks = Checks::default();
    checks.name("/name", name, NAME_CHARS_MAX);
    if let Some(owner) = owner {
        checks.name("/owner", owner, NAME_CHARS_MAX);
    }
    checks.done()
}
