//! MCP servers that rely on the authority: their resource, their client secret, their own scope names. Owns `servers`.

mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::grants;
use crate::projects::{self, precondition};
use crate::refusal::{Checks, Code, Refused};
use crate::revocations::{self, Kind, New};
use crate::secrets::{self, Sealing};
use crate::signing::{self, Purpose};
use crate::types::alg::Alg;
use crate::types::caller::Caller;
use crate::types::credential;
use crate::types::environment::Environment;
use crate::types::id::ServerId;
use crate::types::page::{After, Listed, Page};
use crate::types::permission::ServerScope;
use crate::types::resource::{Canonical, host_is_within};
use crate::webhooks::{self, Event, EventType, rotated};

pub use store::{Row, load_all, load_some};

const NAME_CHARS_MAX: usize = 200;

/// A server as it is read.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Server {
    /// Its id, also its `client_id`.
    pub id: String,
    /// For people.
    pub name: String,
    /// Its project.
    pub project: String,
    /// Its resource URI (RFC 8707), the audience of its tokens.
    pub resource: String,
    /// The same as `id`, under its OAuth name.
    pub client_id: String,
    /// `prod` or `dev`.
    pub environment: String,
    /// Its own scope names, each standing for permissions.
    #[schema(value_type = Vec<ScopeSchema>)]
    pub scopes: Vec<ServerScope>,
    /// What its tokens are signed with: `EdDSA`, `ES256` or `RS256`.
    pub token_alg: String,
    /// Switched off: nothing for it works.
    pub disabled: bool,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A scope of a server, as the API describes it.
#[derive(utoipa::ToSchema)]
#[schema(as = ServerScope)]
#[expect(dead_code, reason = "only its schema is used: the type itself keeps its fields private")]
pub struct ScopeSchema {
    /// A scope token (RFC 6749 §3.3) that is not named like a permission.
    #[schema(max_length = 128)]
    name: String,
    /// For people, on consent pages.
    #[schema(max_length = 500)]
    description: String,
    /// The permissions it stands for.
    #[schema(min_items = 1, max_items = 200)]
    permissions: Vec<String>,
}

/// What a list of servers is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Its project.
    pub project: Option<String>,
    /// `prod` or `dev`.
    pub environment: Option<String>,
    /// Switched off or not.
    pub disabled: Option<bool>,
    /// How its name begins, in any case.
    pub q: Option<String>,
}

/// A new server.
#[derive(Clone, Debug)]
pub struct NewServer {
    /// For people.
    pub name: String,
    /// Its resource URI.
    pub resource: String,
    /// Where it belongs.
    pub environment: Environment,
    /// Its project; `None`: the default one.
    pub project: Option<String>,
    /// Its own scopes.
    pub scopes: Vec<ServerScope>,
    /// What its tokens are signed with.
    pub token_alg: Alg,
}

/// A change of a server (RFC 7396).
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New name.
    pub name: Option<String>,
    /// New scopes.
    pub scopes: Option<Vec<ServerScope>>,
    /// New algorithm.
    pub token_alg: Option<Alg>,
    /// Switched off or on.
    pub disabled: Option<bool>,
}

/// Registers a server and makes its client secret. If its tokens need an algorithm that no key has yet, one is made.
///
/// # Errors
///
/// Wrong fields, a resource that is registered or was, a host that the project may not use.
pub async fn create(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    new: NewServer,
) -> Result<(Server, secrets::Issued, Done), Refused> {
    let canonical = check(&new)?;
    let mut tx = db.begin().await?;
    let project = projects::of_new(&mut tx, by, new.project.as_deref()).await?;
    if project.hosts.as_ref().is_some_and(|hosts| !host_is_within(&canonical.host(), hosts)) {
        return Err(Refused::new(Code::HostNotAllowed, "The resource lies on a host that this project may not use."));
    }
    let id = ServerId::random();
    let row = store::New {
        id: id.as_str(),
        name: &new.name,
        project: &project.name,
        resource: &new.resource,
        canonical: canonical.as_str(),
        environment: new.environment.as_str(),
        scopes: serde_json::to_value(&new.scopes).unwrap_or_default(),
        token_alg: new.token_alg.as_str(),
    };
    let server = store::insert(&mut tx, &row)
        .await?
        .ok_or_else(|| Refused::new(Code::ResourceTaken, "A server has this resource, or had it."))?;
    let issued = secrets::issue(&mut tx, sealing, credential::Kind::Server, id.as_str(), None).await?;
    signing::ensure(&mut tx, sealing, Purpose::Session, new.token_alg).await?;
    audit::append(
        &mut tx,
        &Entry::new(by, "server.created")
            .on(&server.id)
            .project(&server.project)
            .server(&server.id)
            .with("resource", new.resource),
    )
    .await?;
    Ok((server, issued, db.commit(tx).await?))
}

/// A server that the caller may see.
///
/// # Errors
///
/// There is none.
pub async fn get(connection: &mut PgConnection, by: &Caller, id: &str) -> Result<Server, Refused> {
    store::find(connection, by.projects(), id).await?.ok_or_else(|| Refused::not_found("server"))
}

/// The servers that the caller may see, newest first.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list(db: &Db, by: &Caller, filter: &Filter, page: &Page) -> Result<Listed<Server>, Refused> {
    let (items, edge) = store::list(&mut *db.begin_list().await?, by.projects(), filter, page).await?;
    Ok(page.cut_at(items, edge, |server| After { at: server.created_at, id: server.id.clone() }))
}

/// Changes a server. Switching it off stops all that is for it; tokens from before stay dead when it is switched on again.
///
/// Returns whether a right was taken away.
///
/// # Errors
///
/// No such server, wrong fields, or an old `If-Match` tag.
pub async fn change(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    id: &str,
    (change, expected): (Change, Option<&str>),
) -> Result<(Server, Done, bool), Refused> {
    let mut tx = db.begin().await?;
    let before = store::lock(&mut tx, by.projects(), id).await?.ok_or_else(|| Refused::not_found("server"))?;
    precondition(&before, expected)?;
    let after = Server {
        name: change.name.unwrap_or_else(|| before.name.clone()),
        scopes: change.scopes.unwrap_or_else(|| before.scopes.clone()),
        token_alg: change.token_alg.map_or_else(|| before.token_alg.clone(), |alg| alg.as_str().to_owned()),
        disabled: change.disabled.unwrap_or(before.disabled),
        ..before.clone()
    };
    let mut checks = Checks::default();
    checks.name("/name", &after.name, NAME_CHARS_MAX);
    check_scopes(&mut checks, &after.scopes);
    checks.done()?;
    store::set(&mut tx, &after).await?;
    signing::ensure(&mut tx, sealing, Purpose::Session, Alg::parse(&after.token_alg).unwrap_or_default()).await?;
    let switched_off = after.disabled && !before.disabled;
    if switched_off {
        revocations::add(&mut tx, by, &New::of(Kind::Server, id, &before.project)).await?;
    }
    audit::append(
        &mut tx,
        &Entry::new(by, "server.changed").on(id).project(&after.project).server(id).with("disabled", after.disabled),
    )
    .await?;
    let narrowed = switched_off || after.scopes != before.scopes;
    Ok((after, db.commit(tx).await?, narrowed))
}

/// Deletes a server. What was issued for it dies first; its resource stays reserved.
///
/// # Errors
///
/// No such server.
pub async fn delete(db: &Db, by: &Caller, id: &str) -> Result<(Server, Done), Refused> {
    let mut tx = db.begin().await?;
    let server = store::lock(&mut tx, by.projects(), id).await?.ok_or_else(|| Refused::not_found("server"))?;
    revocations::add(&mut tx, by, &New::of(Kind::Server, id, &server.project)).await?;
    store::remove_grants(&mut tx, id).await?;
    store::set_deleted(&mut tx, id).await?;
    audit::append(&mut tx, &Entry::new(by, "server.deleted").on(id).project(&server.project).server(id)).await?;
    Ok((server, db.commit(tx).await?))
}

/// Makes a new client secret; the old one lives on for the grace.
///
/// # Errors
///
/// No such server, or an overlap that still runs.
pub async fn rotate(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    id: &str,
    grace: Option<i64>,
) -> Result<(Server, secrets::Issued, Done), Refused> {
    let mut tx = db.begin().await?;
    let server = store::lock(&mut tx, by.projects(), id).await?.ok_or_else(|| Refused::not_found("server"))?;
    let issued = secrets::rotate(&mut tx, sealing, (credential::Kind::Server, id), None, grace).await?;
    audit::append(
        &mut tx,
        &Entry::new(by, "server.secret_rotated")
            .on(id)
            .project(&server.project)
            .server(id)
            .with("hint", issued.credential.hint()),
    )
    .await?;
    let event =
        Event::new(EventType::ServerRotated, Some(&server.project)).about(id).with("name", server.name.as_str());
    webhooks::note(&mut tx, &rotated(event, by, &issued)).await?;
    Ok((server, issued, db.commit(tx).await?))
}

/// Withdraws a key's own grant on a server, by an operator of the server's project.
///
/// # Errors
///
/// No such server or grant, or the grant comes from a role.
pub async fn withdraw(db: &Db, by: &Caller, id: &str, key: &str) -> Result<Done, Refused> {
    let mut tx = db.begin().await?;
    let server = store::lock(&mut tx, by.projects(), id).await?.ok_or_else(|| Refused::not_found("server"))?;
    if !grants::remove(&mut tx, key, id).await? {
        return Err(Refused::not_found("grant"));
    }
    audit::append(&mut tx, &Entry::new(by, "grant.withdrawn").on(key).project(&server.project).key(key).server(id))
        .await?;
    Ok(db.commit(tx).await?)
}

fn check(new: &NewServer) -> Result<Canonical, Refused> {
    let mut checks = Checks::default();
    checks.name("/name", &new.name, NAME_CHARS_MAX);
    check_scopes(&mut checks, &new.scopes);
    match Canonical::parse(&new.resource) {
        Ok(canonical) => {
            checks.done()?;
            Ok(canonical)
        }
        Err(error) => {
            checks.wrong("/resource", "format", error.to_string());
            Err(checks.done().err().unwrap_or_else(|| Refused::field("/resource", "format", error.to_string())))
        }
    }
}

fn check_scopes(checks: &mut Checks, scopes: &[ServerScope]) {
    if let Err(error) = ServerScope::check_all(scopes) {
        checks.wrong("/scopes", "invalid", error.to_string());
    }
}
