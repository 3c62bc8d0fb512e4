//! Dynamic registration (RFC 7591): anybody may make a client, which is nothing until a person agrees to it.
//!
//! What nobody ever agrees to is swept away, so a flood of registrations costs no more than the rows of its last hours.

use std::time::Duration;

use serde_json::{Map, Value};
use sqlx::PgConnection;

use super::application::ClientKind;
use super::metadata::{ClientMetadata, GrantType, Mistake, Source};
use super::wire::Described;
use super::{change, store};
use crate::audit::{self, Entry};
use crate::db::{self, Db, Done};
use crate::projects;
use crate::refusal::Refused;
use crate::secrets::{self, Sealing};
use crate::settings::{self, DynamicRegistration};
use crate::types::caller::Caller;

/// Clients that registered themselves and that nobody agreed to yet, at most.
pub const UNUSED_MAX: i64 = 10_000;
/// A client that nobody agreed to in this time is forgotten.
pub(super) const UNUSED_KEPT: Duration = Duration::from_hours(7 * 24);
/// The same while there are more than half of [`UNUSED_MAX`]: somebody registers without end.
pub(super) const UNUSED_KEPT_IN_A_FLOOD: Duration = Duration::from_hours(1);

/// The grants that a client may have that nobody vouches for: those in which a person agrees. Another is left out.
const GRANTS: [GrantType; 3] = [GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::DeviceCode];

/// A client that registered itself.
#[derive(Debug)]
pub struct Registered {
    /// Its id.
    pub client_id: String,
    /// When, in seconds since 1970.
    pub issued_at: i64,
    /// What of its metadata counts here.
    pub metadata: Described,
    /// Its secret, if it authenticates with one.
    pub issued: Option<secrets::Issued>,
}

/// Why there is no registration.
#[derive(Debug)]
pub enum Refusal {
    /// Nobody may register here.
    Off,
    /// Its redirect URIs lead to another machine than the person's own, and the settings allow only those.
    NotLoopback,
    /// A member of the metadata.
    Mistake(Mistake),
    /// Too many clients that nobody agreed to yet.
    Full,
    /// The database cannot answer.
    Failed(Refused),
}

impl From<Mistake> for Refusal {
    fn from(mistake: Mistake) -> Self {
        Self::Mistake(mistake)
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::Failed(refused)
    }
}

impl From<db::Error> for Refusal {
    fn from(error: db::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Registers a client that asks for it.
///
/// # Errors
///
/// It may not, or its metadata are wrong.
pub async fn register(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    members: Map<String, Value>,
) -> Result<(Registered, Done), Refusal> {
    let mut tx = db.begin().await?;
    let allowed = settings::get(&mut tx).await?.dynamic_registration;
    if allowed == DynamicRegistration::Off {
        return Err(Refusal::Off);
    }
    let mut metadata = read(members)?;
    if allowed == DynamicRegistration::Loopback {
        // What a person agrees to there goes to whatever machine asked: no more than a redirect to another host is that open
        // to whoever registers.
        metadata.grant_types.retain(|grant| *grant != GrantType::DeviceCode);
    }
    if allowed == DynamicRegistration::Loopback && !metadata.is_loopback_only() {
        return Err(Refusal::NotLoopback);
    }
    if store::count_unused(&mut tx, UNUSED_MAX).await? >= UNUSED_MAX {
        return Err(Refusal::Full);
    }
    let (row, issued) = change::insert(&mut tx, sealing, ClientKind::Dynamic, projects::DEFAULT, &metadata).await?;
    let entry = Entry::new(by, "client.registered").on(&row.id).project(&row.project);
    audit::append(&mut tx, &entry.with("metadata", row.metadata)).await?;
    let registered = Registered {
        client_id: row.client_id,
        issued_at: row.created_at.unix_timestamp(),
        metadata: Described::from(&metadata),
        issued,
    };
    Ok((registered, db.commit(tx).await?))
}

fn read(members: Map<String, Value>) -> Result<ClientMetadata, Mistake> {
    let mut metadata = ClientMetadata::read(members, Source::Registration)?;
    metadata.grant_types.retain(|grant| GRANTS.contains(grant));
    let by_code = metadata.grant_types.contains(&GrantType::AuthorizationCode);
    if !by_code && !metadata.grant_types.contains(&GrantType::DeviceCode) {
        return Err(Mistake::new("grant_types", "must hold authorization_code or the device code's"));
    }
    if by_code && metadata.redirect_uris.is_empty() {
        return Err(Mistake::new("redirect_uris", "must hold 1 to 32 URIs"));
    }
    Ok(metadata)
}

/// Forgets clients that registered themselves and that nobody agreed to; at most `limit` of them. Returns how many.
///
/// # Errors
///
/// The database refuses.
pub async fn sweep(tx: &mut PgConnection, limit: i64) -> db::Result<u64> {
    let flood = store::count_unused(tx, UNUSED_MAX).await? > UNUSED_MAX / 2;
    let kept = if flood { UNUSED_KEPT_IN_A_FLOOD } else { UNUSED_KEPT };
    store::sweep(tx, i64::try_from(kept.as_secs()).unwrap_or(i64::MAX), limit).await
}
