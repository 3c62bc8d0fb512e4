//! Roles: named bundles of grants that keys share. A changed role counts at once. Owns `roles` and `key_roles`.

mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::grants::{self, Grant};
use crate::projects::{self, precondition};
use crate::refusal::{Checks, Code, Refused};
use crate::types::caller::Caller;
use crate::types::id::RoleId;
use crate::types::page::{After, Listed, Page};

pub use store::{KeyRole, load_all, load_key_roles, load_some_key_roles, of_key, of_keys, set_of_key};

const NAME_CHARS_MAX: usize = 100;

/// A role as it is read.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Role {
    /// Its id.
    pub id: String,
    /// Its name, unique in its project.
    pub name: String,
    /// Its project.
    pub project: String,
    /// What it grants.
    pub grants: Vec<Grant>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A new role.
#[derive(Clone, Debug)]
pub struct NewRole {
    /// Its name.
    pub name: String,
    /// Its project; `None`: the default one.
    pub project: Option<String>,
    /// What it grants.
    pub grants: Vec<Grant>,
}

/// A change of a role (RFC 7396).
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New name.
    pub name: Option<String>,
    /// New grants.
    pub grants: Option<Vec<Grant>>,
}

/// Makes a role.
///
/// # Errors
///
/// Wrong fields, a taken name, or grants that the caller may not give.
pub async fn create(db: &Db, by: &Caller, new: NewRole) -> Result<(Role, Done), Refused> {
    check_name(&new.name)?;
    let mut tx = db.begin().await?;
    let project = projects::of_new(&mut tx, by, new.project.as_deref()).await?;
    let id = RoleId::random();
    if !store::insert(&mut tx, id.as_str(), &new.name, &project.name).await? {
        return Err(taken());
    }
    grants::replace(&mut tx, by, id.as_str(), &new.grants, None).await?;
    audit::append(&mut tx, &Entry::new(by, "role.created").on(id.as_str()).project(&project.name)).await?;
    let role = get(&mut tx, by, id.as_str()).await?;
    Ok((role, db.commit(tx).await?))
}

/// A role that the caller may see.
///
/// # Errors
///
/// There is none.
pub async fn get(connection: &mut PgConnection, by: &Caller, id: &str) -> Result<Role, Refused> {
    let row = store::find(connection, by.projects(), id).await?.ok_or_else(|| Refused::not_found("role"))?;
    with_grants(connection, row).await
}

/// The roles that the caller may see, newest first.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list(db: &Db, by: &Caller, project: Option<&str>, page: &Page) -> Result<Listed<Role>, Refused> {
    let mut connection = db.begin_list().await?;
    let mut items = Vec::new();
    for row in store::list(&mut connection, by.projects(), project, page).await? {
        items.push(with_grants(&mut connection, row).await?);
    }
    Ok(page.cut(items, |role| After { at: role.created_at, id: role.id.clone() }))
}

/// Changes a role, for all keys that have it, at once. Returns whether a right was taken away.
///
/// # Errors
///
/// No such role, wrong fields, a taken name, grants that the caller may not give, or an old tag.
pub async fn change(
    db: &Db,
    by: &Caller,
    id: &str,
    change: Change,
    expected: Option<&str>,
) -> Result<(Role, Done, bool), Refused> {
    let mut tx = db.begin().await?;
    let before = store::lock(&mut tx, by.projects(), id).await?.ok_or_else(|| Refused::not_found("role"))?;
    let before = with_grants(&mut tx, before).await?;
    precondition(&before, expected)?;
    if let Some(name) = &change.name {
        check_name(name)?;
        store::set_name(&mut tx, id, name)
            .await
            .map_err(|error| if error.constraint().is_some() { taken() } else { error.into() })?;
    }
    let narrowed = match &change.grants {
        Some(grants) => grants::replace(&mut tx, by, id, grants, None).await?,
        None => false,
    };
    audit::append(&mut tx, &Entry::new(by, "role.changed").on(id).project(&before.project)).await?;
    let after = get(&mut tx, by, id).await?;
    Ok((after, db.commit(tx).await?, narrowed))
}

/// Deletes a role that no key has.
///
/// # Errors
///
/// No such role, or a key has it.
pub async fn delete(db: &Db, by: &Caller, id: &str) -> Result<Done, Refused> {
    let mut tx = db.begin().await?;
    let role = store::lock(&mut tx, by.projects(), id).await?.ok_or_else(|| Refused::not_found("role"))?;
    grants::remove_all(&mut tx, id).await?;
    let in_use = || Refused::new(Code::InUse, "A key has this role.");
    store::delete(&mut tx, id)
        .await
        .map_err(|error| if error.constraint().is_some() { in_use() } else { error.into() })?;
    audit::append(&mut tx, &Entry::new(by, "role.deleted").on(id).project(&role.project)).await?;
    Ok(db.commit(tx).await?)
}

async fn with_grants(connection: &mut PgConnection, row: store::Stored) -> Result<Role, Refused> {
    let grants = grants::of(connection, &row.id).await?;
    Ok(Role { id: row.id, name: row.name, project: row.project, grants, created_at: row.created_at })
}

fn check_name(name: &str) -> Result<(), Refused> {
    let mut checks = Checks::default();
    checks.name("/name", name, NAME_CHARS_MAX);
    checks.done()
}

fn taken() -> Refused {
    Refused::new(Code::NameTaken, "The project has a role of this name.")
}
