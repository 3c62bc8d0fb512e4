//! The outbox: what is on its way, what came through, and what did not.

pub(super) mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::{self, Entry};
use crate::db::{self, Db};
use crate::refusal::Refused;
use crate::types::caller::Caller;
use crate::types::id::{DeliveryId, WebhookId};
use crate::types::page::{After, Listed, Page};
use crate::webhooks::{Event, get};

/// Days that what came through is kept for those who look.
const DELIVERED_DAYS: i32 = 30;
/// Days that what did not is kept, to be sent again.
const DEAD_DAYS: i32 = 90;
/// Days that something waits at most: longer than all attempts take. It waits so long only while its webhook is switched off,
/// or no node can send mail.
const PENDING_DAYS: i32 = 7;
/// Deliveries of one webhook that are kept; of more, the oldest go. Who can take no more than that loses the rest.
const KEPT_MAX: i64 = 100_000;

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeliveryStatus)]
pub enum Status {
    /// It waits for its first or next attempt.
    Pending,
    /// The receiver took it.
    Delivered,
    /// All attempts failed. It can be sent again.
    Dead,
}

impl Status {
    /// Its name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// An event on its way to a webhook.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Delivery {
    /// Its id.
    pub id: String,
    /// The event's id, which the receiver gets as `webhook-id`: the same in every attempt.
    pub event_id: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `pending`, `delivered` or `dead`.
    #[schema(value_type = Status)]
    pub status: String,
    /// Attempts that were begun, since it was last sent anew.
    pub attempts: i32,
    /// When it happened.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it is tried next. While an attempt runs, when it is tried again if this node dies meanwhile.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<OffsetDateTime>,
    /// When the last attempt began.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub last_attempt_at: Option<OffsetDateTime>,
    /// The HTTP status of the last reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<i32>,
    /// Why the last attempt failed: `status`, `timeout`, `unreachable`, `redirected`, `address_refused`, `tls`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it came through, or was given up.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<OffsetDateTime>,
}

/// Tells of what happened, when the transaction commits: a row for each webhook that asked for this type in this project, and
/// one for the owner's mail. Where nobody asked it writes nothing. One statement.
///
/// # Errors
///
/// The database refuses.
pub async fn note(tx: &mut PgConnection, event: &Event) -> db::Result<()> {
    store::note(tx, event, None).await
}

/// Tells one webhook, whatever it asked for.
pub(super) async fn enqueue(tx: &mut PgConnection, webhook: WebhookId, event: &Event) -> Result<Delivery, Refused> {
    store::note(tx, event, Some(webhook)).await?;
    let noted = store::of_event(tx, webhook, event.id.as_str()).await?;
    noted.ok_or_else(|| Refused::not_found("webhook"))
}

/// The deliveries of a webhook, newest first, for an operator on all projects.
///
/// # Errors
///
/// No such webhook, the caller is not on all projects, or the database cannot answer.
pub async fn deliveries(
    db: &Db,
    by: &Caller,
    webhook: WebhookId,
    status: Option<Status>,
    page: &Page,
) -> Result<Listed<Delivery>, Refused> {
    let mut connection = db.begin_list().await?;
    get(&mut connection, by, webhook).await?;
    let items = store::list(&mut connection, webhook, status.map(Status::as_str), page).await?;
    Ok(page.cut(items, |delivery| After { at: delivery.created_at, id: delivery.id.clone() }))
}

/// Sends what is over once more, as the same message: its `webhook-id` and body stay. What waits already stays as it is.
///
/// # Errors
///
/// No such webhook or delivery, or the caller is not on all projects.
pub async fn resend(db: &Db, by: &Caller, webhook: WebhookId, id: DeliveryId) -> Result<Delivery, Refused> {
    let mut tx = db.begin().await?;
    get(&mut tx, by, webhook).await?;
    store::again(&mut tx, webhook, id).await?;
    let delivery = store::find(&mut tx, webhook, id).await?.ok_or_else(|| Refused::not_found("delivery"))?;
    let entry = Entry::new(by, "webhook.resent").on(webhook.as_str()).with("delivery_id", delivery.id.as_str());
    audit::append(&mut tx, &entry.with("event_id", delivery.event_id.as_str())).await?;
    db.commit_change(tx).await?;
    Ok(delivery)
}

/// Gives up what waited too long and removes what is over for long, at most `limit` of each. Returns how many changed.
///
/// # Errors
///
/// The database refuses.
pub async fn expire(tx: &mut PgConnection, limit: i64) -> db::Result<u64> {
    let crowd = store::remove_crowd(tx, KEPT_MAX, limit).await?;
    if crowd > 0 {
        tracing::warn!(crowd, "more was told than is kept; the oldest deliveries were removed");
    }
    Ok(crowd
        + store::give_up(tx, PENDING_DAYS, limit).await?
        + store::remove_over(tx, (DELIVERED_DAYS, DEAD_DAYS), limit).await?
        + store::remove_orphans(tx, limit).await?
        + super::store::expire_keys(tx).await?)
}
