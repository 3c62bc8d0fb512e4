//! Telling people what happened: webhooks and mail, from an outbox. Owns `webhooks`, `webhook_keys`, `deliveries` and
//! `mailers`.
//!
//! Whoever changes something calls [`note`] in the transaction of the change, beside its audit entry: what is committed is
//! told, and what is not committed is not. decisions/0027 says what is promised to receivers and what is not.

mod change;
mod deliver;
mod event;
mod mail;
mod outbox;
mod signature;
mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db::{self, Db};
use crate::projects::everywhere;
use crate::refusal::Refused;
use crate::types::caller::Caller;
use crate::types::id::WebhookId;
use crate::types::page::{After, Listed, Page};

pub use change::{Change, GRACE_SECONDS_DEFAULT, GRACE_SECONDS_MAX, NewWebhook, change, create, delete, rotate, test};
pub use deliver::{Deliverer, Means};
pub use event::{Event, EventData, EventType, Message, rotated};
pub use mail::{CannotMail, Mailer};
pub use outbox::{Delivery, Status, deliveries, expire, note, resend};
pub use signature::{Secrets, Signature, reseal};

/// Webhooks that there may be. Each has deliveries of its own under way, so their number bounds those of all.
pub const WEBHOOKS_MAX: usize = 50;
/// Stands for every type.
pub const EVERY_TYPE: &str = "*";

/// Who is told what happened.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Webhook {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// Where deliveries are sent.
    pub url: String,
    /// Types of events, or `*` alone for all that there are and will be.
    pub events: Vec<String>,
    /// Only of what happens in this project; absent: of all, and of what belongs to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// How deliveries are signed.
    pub signature: Signature,
    /// What the receiver checks signatures with, newest first: `whpk_…`. Absent with `v1`, where that is a secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<String>,
    /// Nothing is delivered, and nothing that happens meanwhile is kept for it.
    pub disabled: bool,
    /// Why the service switched it off by itself: `gone` (the receiver said 410) or `failing` (for five days).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_for: Option<String>,
    /// Since when no delivery came through; absent: the last one did, or none was tried.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<OffsetDateTime>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A webhook, for an operator on all projects.
///
/// # Errors
///
/// There is none, or the caller is not on all projects.
pub async fn get(connection: &mut PgConnection, by: &Caller, id: WebhookId) -> Result<Webhook, Refused> {
    everywhere(by)?;
    store::find(connection, id).await?.ok_or_else(|| Refused::not_found("webhook"))
}

/// The webhooks, newest first, for an operator on all projects.
///
/// # Errors
///
/// The caller is not on all projects, or the database cannot answer.
pub async fn list(db: &Db, by: &Caller, page: &Page) -> Result<Listed<Webhook>, Refused> {
    everywhere(by)?;
    let items = store::list(&mut *db.begin_list().await?, page).await?;
    Ok(page.cut(items, |webhook| After { at: webhook.created_at, id: webhook.id.clone() }))
}

/// Whether there are as many as there may be.
async fn is_full(tx: &mut PgConnection) -> db::Result<bool> {
    Ok(store::count(tx).await? >= WEBHOOKS_MAX)
}
