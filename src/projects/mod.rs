//! Projects: a team's share of the authority. Owns `projects`.

mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::refusal::{Checks, Code, Refused};
use crate::types::caller::Caller;
use crate::types::id::ProjectId;
use crate::types::page::{After, Listed, Page};
use crate::types::patch::{Patch, etag};

/// The project that exists from the start.
pub const DEFAULT: &str = "default";
const HOSTS_MAX: usize = 100;

/// A project as it is read.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Project {
    /// Its id.
    pub id: String,
    /// Its name, by which everything else refers to it. It never changes.
    pub name: String,
    /// Hosts that resources may lie on: a name, or `*.` and a name. Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Makes a project.
///
/// # Errors
///
/// A wrong name or host, a taken name, or a caller who does not reach all projects.
pub async fn create(db: &Db, by: &Caller, name: &str, hosts: Option<Vec<String>>) -> Result<(Project, Done), Refused> {
    everywhere(by)?;
    let mut checks = Checks::default();
    let edges = |text: &str| !text.starts_with('-') && !text.ends_with('-');
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    checks.expect(
        plain && edges(name) && (1..=63).contains(&name.len()),
        "/name",
        "format",
        "1 to 63 of a-z, 0-9 and -, no - at the ends",
    );
    check_hosts(&mut checks, hosts.as_deref());
    checks.done()?;
    let mut tx = db.begin().await?;
    let made = store::insert(&mut tx, name, ProjectId::random().as_str(), hosts.as_deref()).await?;
    let project = made.ok_or_else(|| Refused::new(Code::NameTaken, "There is a project of this name."))?;
    audit::append(&mut tx, &Entry::new(by, "project.created").on(&project.id).project(name)).await?;
    Ok((project, db.commit(tx).await?))
}

/// A project the caller reaches, by name or id.
///
/// # Errors
///
/// There is none.
pub async fn get(connection: &mut PgConnection, by: &Caller, reference: &str) -> Result<Project, Refused> {
    store::find(connection, by.projects(), reference).await?.ok_or_else(|| Refused::not_found("project"))
}

/// The projects the caller reaches, newest first.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list(db: &Db, by: &Caller, page: &Page) -> Result<Listed<Project>, Refused> {
    let items = store::list(&mut *db.begin_list().await?, by.projects(), page).await?;
    Ok(page.cut(items, |project| After { at: project.created_at, id: project.id.clone() }))
}

/// Changes the hosts of a project. What is registered already stays.
///
/// # Errors
///
/// No such project, wrong hosts, or the `If-Match` tag is old.
pub async fn change(
    db: &Db,
    by: &Caller,
    reference: &str,
    hosts: Patch<Vec<String>>,
    expected: Option<&str>,
) -> Result<(Project, Done), Refused> {
    everywhere(by)?;
    let mut tx = db.begin().await?;
    let project = store::lock(&mut tx, reference).await?.ok_or_else(|| Refused::not_found("project"))?;
    precondition(&project, expected)?;
    let hosts = hosts.over(project.hosts.clone());
    let mut checks = Checks::default();
    check_hosts(&mut checks, hosts.as_deref());
    checks.done()?;
    let project = store::set_hosts(&mut tx, &project.name, hosts.as_deref()).await?;
    audit::append(&mut tx, &Entry::new(by, "project.changed").on(&project.id).project(&project.name)).await?;
    Ok((project, db.commit(tx).await?))
}

/// Deletes a project that nothing belongs to.
///
/// # Errors
///
/// No such project, it is the default one, or something belongs to it.
pub async fn delete(db: &Db, by: &Caller, reference: &str) -> Result<Done, Refused> {
    everywhere(by)?;
    let mut tx = db.begin().await?;
    let project = store::lock(&mut tx, reference).await?.ok_or_else(|| Refused::not_found("project"))?;
    if project.name == DEFAULT {
        return Err(Refused::new(Code::DefaultProject, "The default project cannot be deleted."));
    }
    let in_use = || Refused::new(Code::InUse, "Servers, agents or roles belong to this project, or belonged to it.");
    store::delete(&mut tx, &project.name)
        .await
        .map_err(|error| if error.constraint().is_some() { in_use() } else { error.into() })?;
    audit::append(&mut tx, &Entry::new(by, "project.deleted").on(&project.id).project(&project.name)).await?;
    Ok(db.commit(tx).await?)
}

/// Whether the caller may put something into a project, and the project.
///
/// # Errors
///
/// A field error that says the project is not known.
pub async fn of_new(connection: &mut PgConnection, by: &Caller, name: Option<&str>) -> Result<Project, Refused> {
    let name = name.unwrap_or(DEFAULT);
    let found = store::find(connection, by.projects(), name).await?.filter(|project| project.name == name);
    found.ok_or_else(|| Refused::field("/project", "unknown", "There is no such project, or you may not see it."))
}

/// The `If-Match` check: the tag given must be the current one.
///
/// # Errors
///
/// It is not.
pub fn precondition(thing: &impl serde::Serialize, expected: Option<&str>) -> Result<(), Refused> {
    match expected {
        Some(tag) if tag != "*" && !tag.split(',').any(|one| one.trim() == etag(thing)) => {
            Err(Refused::new(Code::PreconditionFailed, "It has changed since you read it; read it again."))
        }
        _ => Ok(()),
    }
}

/// Whether the caller reaches all projects, as what belongs to none asks for.
///
/// # Errors
///
/// It does not.
pub fn everywhere(by: &Caller) -> Result<(), Refused> {
    if by.projects.is_none() {
        Ok(())
    } else {
        Err(Refused::new(Code::BeyondOwnRights, "Only an operator on all projects may do this."))
    }
}

fn check_hosts(checks: &mut Checks, hosts: Option<&[String]>) {
    let hosts = hosts.unwrap_or_default();
    checks.expect(hosts.len() <= HOSTS_MAX, "/hosts", "too_many", &format!("at most {HOSTS_MAX}"));
    for (index, host) in hosts.iter().enumerate() {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let plain =
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-[]:".contains(&byte));
        checks.expect(
            plain && !name.is_empty() && name.len() <= 253,
            &format!("/hosts/{index}"),
            "format",
            "a host name in lower case, or `*.` and one",
        );
    }
}
