//! What people allowed, as they and operators read it. What was revoked since is not there any more.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::store;
use crate::clients::ClientKind;
use crate::db::{self, Db};
use crate::refusal::Refused;
use crate::types::caller::Caller;
use crate::types::id::{ConsentId, UserId};
use crate::types::page::{After, Listed, Page};
use crate::types::permission::{Permissions, ServerScope};

/// Consents that a person's page shows at most: the newest.
pub const ALLOWED_SHOWN_MAX: i64 = 200;

/// What a person allowed a client on a server, as an operator reads it.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Consent {
    /// Its id. To end it: `POST /v1/revocations` with the kind `grant`.
    pub id: String,
    /// Who allowed it.
    pub user_id: String,
    /// Whom: the client's own id, `cli_…`.
    pub client_id: String,
    /// Where.
    pub server_id: String,
    /// What.
    pub permissions: Vec<String>,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When something was last added to it.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// What a list of consents is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct ConsentFilter {
    /// Who allowed it.
    pub user_id: Option<String>,
    /// Whom, by `cli_…`.
    pub client_id: Option<String>,
    /// Where.
    pub server_id: Option<String>,
}

/// What a person allowed, in what people need to judge it.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// Its id.
    pub id: ConsentId,
    /// What the client calls itself.
    pub client_name: Option<String>,
    /// How the client came to be known.
    pub client_kind: Option<ClientKind>,
    /// The client, as it stands on the wire.
    pub client_id: String,
    /// What the server is called.
    pub server: String,
    /// Its address.
    pub resource: String,
    /// Its scopes.
    pub scopes: Vec<ServerScope>,
    /// Its project.
    pub project: String,
    /// What was allowed.
    pub permissions: Permissions,
    /// Since when.
    pub since: OffsetDateTime,
    /// When the client last got a token for it, as far back as that is kept.
    pub used: Option<OffsetDateTime>,
}

/// What a person allowed, newest first, and whether there is more than [`ALLOWED_SHOWN_MAX`].
///
/// # Errors
///
/// The database cannot answer.
pub async fn allowed_by(conn: &mut PgConnection, user: UserId) -> db::Result<(Vec<Allowed>, bool)> {
    let mut found = store::allowed(conn, user, None, ALLOWED_SHOWN_MAX + 1).await?;
    let most = usize::try_from(ALLOWED_SHOWN_MAX).unwrap_or(usize::MAX);
    let more = found.len() > most;
    found.truncate(most);
    Ok((found, more))
}

/// One thing that a person allowed. `None`: it did not, or it is over.
///
/// # Errors
///
/// The database cannot answer.
pub async fn allowed_one(conn: &mut PgConnection, user: UserId, id: ConsentId) -> db::Result<Option<Allowed>> {
    Ok(store::allowed(conn, user, Some(id), 1).await?.pop())
}

/// The consents on servers that the caller may see, newest first.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list_consents(
    db: &Db,
    by: &Caller,
    filter: &ConsentFilter,
    page: &Page,
) -> Result<Listed<Consent>, Refused> {
    let (items, edge) = store::list(&mut *db.begin_list().await?, by.projects(), filter, page).await?;
    Ok(page.cut_at(items, edge, |consent| After { at: consent.created_at, id: consent.id.clone() }))
}

/// A consent on a server that the caller may see.
///
/// # Errors
///
/// There is none, or it was revoked.
pub async fn get_consent(conn: &mut PgConnection, by: &Caller, id: ConsentId) -> Result<Consent, Refused> {
    let found = store::find(conn, by.projects(), id).await?;
    found.ok_or_else(|| Refused::not_found("consent"))
}
