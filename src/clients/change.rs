//! What operators do to clients: register, change, give a new secret, delete.

use serde_json::{Map, Value};
use sqlx::PgConnection;

use super::application::{ClientKind, stored};
use super::metadata::{ClientMetadata, GrantType, Mistake, Source};
use super::wire::Described;
use super::{Client, store, with_grants};
use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::grants::{self, Grant};
use crate::projects::{self, precondition};
use crate::refusal::{Checks, Code, Refused};
use crate::revocations::{self, Kind, New};
use crate::secrets::{self, Sealing};
use crate::types::caller::Caller;
use crate::types::credential;
use crate::types::id::ClientId;

/// A client that an operator registers.
#[derive(Clone, Debug, Default)]
pub struct NewClient {
    /// Its project; `None`: the default one.
    pub project: Option<String>,
    /// What it says about itself, under the names of RFC 7591 §2.
    pub metadata: Map<String, Value>,
    /// What it may do for itself, by client credentials.
    pub grants: Vec<Grant>,
}

/// A change of a client (RFC 7396).
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Members of its metadata; null removes one.
    pub metadata: Map<String, Value>,
    /// New grants.
    pub grants: Option<Vec<Grant>>,
    /// Switched off or on.
    pub disabled: Option<bool>,
}

/// Registers a client, and makes its secret if it authenticates with one.
///
/// # Errors
///
/// Wrong fields, a project that the caller does not reach, or grants that he may not give.
pub async fn create(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    new: NewClient,
) -> Result<(Client, Option<secrets::Issued>, Done), Refused> {
    let metadata = read(new.metadata, &new.grants)?;
    let mut tx = db.begin().await?;
    let project = projects::of_new(&mut tx, by, new.project.as_deref()).await?;
    let (row, issued) = insert(&mut tx, sealing, ClientKind::Registered, &project.name, &metadata).await?;
    grants::replace(&mut tx, by, &row.id, &new.grants, None).await?;
    let entry = Entry::new(by, "client.created").on(&row.id).project(&row.project);
    audit::append(&mut tx, &entry.with("metadata", row.metadata.clone()).with("grants", told(&new.grants))).await?;
    let client = with_grants(row, new.grants)?;
    Ok((client, issued, db.commit(tx).await?))
}

/// The row of a registration, and its secret if it has one.
pub(super) async fn insert(
    tx: &mut PgConnection,
    sealing: Sealing<'_>,
    kind: ClientKind,
    project: &str,
    metadata: &ClientMetadata,
) -> Result<(store::Stored, Option<secrets::Issued>), Refused> {
    let id = ClientId::random();
    let described = Described::from(metadata);
    let new = store::New {
        id: id.to_string(),
        kind,
        client_id: id.as_str(),
        name: described.client_name.as_deref(),
        project,
        metadata: Value::Object(described.members()),
    };
    let row = store::insert(tx, &new).await?;
    let issued = if metadata.auth_method.is_symmetric() {
        Some(secrets::issue(tx, sealing, credential::Kind::Client, id.as_str(), None).await?)
    } else {
        None
    };
    Ok((row, issued))
}

/// Changes a client. Switching it off stops all that is for it; its tokens from before stay dead when it is switched on
/// again. Of a client that describes itself in a document nothing else can be changed here.
///
/// Returns whether a right was taken away.
///
/// # Errors
///
/// No such client, wrong fields, grants that the caller may not give, or an old `If-Match` tag.
pub async fn change(
    db: &Db,
    by: &Caller,
    id: &str,
    change: Change,
    expected: Option<&str>,
) -> Result<(Client, Done, bool), Refused> {
    ClientMetadata::check_some(&change.metadata).map_err(|mistake| refused(&mistake))?;
    let mut tx = db.begin().await?;
    let row = store::lock(&mut tx, by.projects(), id).await?.ok_or_else(|| Refused::not_found("client"))?;
    let held = grants::of(&mut tx, id).await?;
    let before = with_grants(row.clone(), held.clone())?;
    precondition(&before, expected)?;
    if before.kind != ClientKind::Registered && change.grants.is_some() {
        return Err(immutable("grants", "Only a client that an operator registered has grants of its own."));
    }
    if before.kind == ClientKind::Document && !change.metadata.is_empty() {
        return Err(immutable("metadata", "The client describes itself, at its own address."));
    }
    let wanted = change.grants.unwrap_or(held);
    let mut after = store::Stored { disabled: change.disabled.unwrap_or(before.disabled), ..row };
    if !change.metadata.is_empty() {
        let described = Described::from(&read(merged(before.metadata.members(), change.metadata), &wanted)?);
        (after.name, after.metadata) = (described.client_name.clone(), Value::Object(described.members()));
    }
    store::set(&mut tx, &after).await?;
    let mut narrowed = grants::replace(&mut tx, by, id, &wanted, None).await?;
    if after.disabled && !before.disabled {
        revocations::add(&mut tx, by, &New::of(Kind::Client, id, &before.project)).await?;
        narrowed = true;
    }
    let entry = Entry::new(by, "client.changed").on(id).project(&after.project).with("disabled", after.disabled);
    let entry = entry.with("metadata", after.metadata.clone()).with("grants", told(&wanted));
    audit::append(&mut tx, &entry).await?;
    let after = with_grants(after, wanted)?;
    Ok((after, db.commit(tx).await?, narrowed))
}

/// Makes a new secret for a client that has one; the old one lives on for the grace.
///
/// # Errors
///
/// No such client, one without a secret, or an overlap that still runs.
pub async fn rotate(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    id: &str,
    grace: Option<i64>,
) -> Result<(Client, secrets::Issued, Done), Refused> {
    let mut tx = db.begin().await?;
    let row = store::lock(&mut tx, by.projects(), id).await?.ok_or_else(|| Refused::not_found("client"))?;
    let issued = secrets::rotate(&mut tx, sealing, (credential::Kind::Client, id), None, grace).await?;
    let entry = Entry::new(by, "client.secret_rotated").on(id).project(&row.project);
    audit::append(&mut tx, &entry.with("hint", issued.credential.hint())).await?;
    let held = grants::of(&mut tx, id).await?;
    Ok((with_grants(row, held)?, issued, db.commit(tx).await?))
}

/// Deletes a client, for good: what was issued to it dies first, and nobody comes by its id again, nor by the address of
/// its document.
///
/// # Errors
///
/// No such client.
pub async fn delete(db: &Db, by: &Caller, id: &str) -> Result<(Client, Done), Refused> {
    let mut tx = db.begin().await?;
    let row = store::lock(&mut tx, by.projects(), id).await?.ok_or_else(|| Refused::not_found("client"))?;
    let held = grants::of(&mut tx, id).await?;
    revocations::add(&mut tx, by, &New::of(Kind::Client, id, &row.project)).await?;
    grants::remove_all(&mut tx, id).await?;
    store::set_deleted(&mut tx, id).await?;
    let entry = Entry::new(by, "client.deleted").on(id).project(&row.project).with("client_id", row.client_id.as_str());
    audit::append(&mut tx, &entry).await?;
    Ok((with_grants(row, held)?, db.commit(tx).await?))
}

/// Metadata of a client that an operator registers: what strangers may leave out must be right here.
fn read(members: Map<String, Value>, grants: &[Grant]) -> Result<ClientMetadata, Refused> {
    let metadata = ClientMetadata::read(members, Source::Registration).map_err(|mistake| refused(&mistake))?;
    let asks = |grant: GrantType| metadata.grant_types.contains(&grant);
    let mut checks = Checks::default();
    checks.expect(metadata.client_name.is_some(), "/client_name", "required", "a name, for people");
    checks.expect(
        !asks(GrantType::AuthorizationCode) || !metadata.redirect_uris.is_empty(),
        "/redirect_uris",
        "required",
        "at least one, for authorization_code",
    );
    checks.expect(
        !asks(GrantType::ClientCredentials) || metadata.is_confidential(),
        "/grant_types",
        "public_client",
        "client_credentials is for clients that authenticate",
    );
    checks.expect(
        grants.is_empty() || asks(GrantType::ClientCredentials) || asks(GrantType::JwtBearer),
        "/grants",
        "no_client_credentials",
        "grants of its own need client_credentials in grant_types, or the jwt-bearer grant for workloads",
    );
    checks.done()?;
    Ok(metadata)
}

/// A mistake in metadata as the field that it is: `redirect_uris[1]` is `/redirect_uris/1`.
fn refused(mistake: &Mistake) -> Refused {
    let pointer = format!("/{}", mistake.member.replace(['[', '.'], "/").replace(']', ""));
    Refused::field(&pointer, "invalid", mistake.wrong)
}

fn merged(mut members: Map<String, Value>, patch: Map<String, Value>) -> Map<String, Value> {
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            members.insert(name, value);
        }
    }
    members
}

fn immutable(field: &str, why: &str) -> Refused {
    Refused::new(Code::ImmutableField, format!("`{field}` cannot be changed. {why}"))
}

fn told(grants: &[Grant]) -> Value {
    serde_json::to_value(grants).unwrap_or_default()
}

/// The metadata of a row, for the API.
pub(super) fn described(kind: ClientKind, metadata: &Value) -> Result<Described, Refused> {
    let read = stored(kind, metadata.clone());
    read.map(|metadata| Described::from(&metadata))
        .map_err(|_| Refused::new(Code::Internal, "A stored client cannot be read."))
}
