//! How operators add, change and remove webhooks.

use sqlx::PgConnection;
use url::Url;

use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::outbound::{self, Outbound};
use crate::projects::{self, everywhere, precondition};
use crate::refusal::{Checks, Code, Refused};
use crate::secrets::Sealing;
use crate::types::caller::Caller;
use crate::types::id::WebhookId;
use crate::webhooks::signature::{self, Made};
use crate::webhooks::{
    Delivery, EVERY_TYPE, Event, EventType, Secrets, Signature, WEBHOOKS_MAX, Webhook, get, is_full, outbox, store,
};

const NAME_CHARS_MAX: usize = 100;
const URL_BYTES_MAX: usize = 2_000;
/// How long both keys sign after a rotation, unless asked otherwise.
pub const GRACE_SECONDS_DEFAULT: i64 = 86_400;
/// The longest that may be asked for.
pub const GRACE_SECONDS_MAX: i64 = 7 * 86_400;

/// A new webhook.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// For people.
    pub name: String,
    /// Where deliveries are sent.
    pub url: String,
    /// Types of events, or `*` alone.
    pub events: Vec<String>,
    /// Only of what happens in this project; `None`: of all, and of what belongs to none.
    pub project: Option<String>,
    /// How deliveries are signed.
    pub signature: Signature,
}

/// A change of a webhook.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New name.
    pub name: Option<String>,
    /// Another place. What waits goes there too.
    pub url: Option<String>,
    /// New types.
    pub events: Option<Vec<String>>,
    /// Switched off or on.
    pub disabled: Option<bool>,
}

/// Adds a webhook, with the key that it is signed with.
///
/// # Errors
///
/// The caller is not on all projects, fields are wrong, there are too many, or the address may not be connected to.
pub async fn create(
    db: &Db,
    (outbound, sealing): (&Outbound, Sealing<'_>),
    by: &Caller,
    new: NewWebhook,
) -> Result<(Webhook, Secrets, Done), Refused> {
    everywhere(by)?;
    let id = WebhookId::random();
    check(&new.name, &new.events)?;
    check_url(outbound, &new.url).await?;
    let made = Made::new(new.signature)?;
    let mut tx = db.begin().await?;
    if let Some(project) = &new.project {
        projects::of_new(&mut tx, by, Some(project)).await?;
    }
    if is_full(&mut tx).await? {
        return Err(Refused::field("/url", "too_many", format!("there are {WEBHOOKS_MAX} webhooks; delete one")));
    }
    store::insert(&mut tx, id, &new).await?;
    add_key(&mut tx, sealing, (id, 1), &made).await?;
    let webhook = get(&mut tx, by, id).await?;
    audit::append(&mut tx, &recorded(Entry::new(by, "webhook.created"), &webhook)).await?;
    Ok((webhook, made.shown, db.commit(tx).await?))
}

/// Changes a webhook. Switched on again, it goes on with what waited when it was switched off.
///
/// # Errors
///
/// No such webhook, the caller is not on all projects, fields are wrong, the address may not be connected to, or an old
/// `If-Match` tag.
pub async fn change(
    db: &Db,
    outbound: &Outbound,
    by: &Caller,
    id: WebhookId,
    (change, expected): (Change, Option<&str>),
) -> Result<(Webhook, Done), Refused> {
    everywhere(by)?;
    if let Some(url) = &change.url {
        // Before the row is locked: names may take seconds to be looked up.
        check_url(outbound, url).await?;
    }
    let mut tx = db.begin().await?;
    let before = locked(&mut tx, by, id).await?;
    precondition(&before, expected)?;
    let after = Webhook {
        name: change.name.unwrap_or_else(|| before.name.clone()),
        url: change.url.unwrap_or_else(|| before.url.clone()),
        events: change.events.unwrap_or_else(|| before.events.clone()),
        disabled: change.disabled.unwrap_or(before.disabled),
        ..before.clone()
    };
    check(&after.name, &after.events)?;
    store::set(&mut tx, &after).await?;
    audit::append(&mut tx, &recorded(Entry::new(by, "webhook.changed"), &after)).await?;
    let after = get(&mut tx, by, id).await?;
    Ok((after, db.commit(tx).await?))
}

/// Removes a webhook. What waits for it is not sent any more.
///
/// # Errors
///
/// No such webhook, or the caller is not on all projects.
pub async fn delete(db: &Db, by: &Caller, id: WebhookId) -> Result<(Webhook, Done), Refused> {
    let mut tx = db.begin().await?;
    let webhook = locked(&mut tx, by, id).await?;
    store::delete(&mut tx, id).await?;
    audit::append(&mut tx, &recorded(Entry::new(by, "webhook.deleted"), &webhook)).await?;
    Ok((webhook, db.commit(tx).await?))
}

/// Makes a new key. For the grace, deliveries carry a signature of each, so that the receiver can change at leisure; with a
/// grace of 0 the old one signs no more.
///
/// # Errors
///
/// No such webhook, the caller is not on all projects, or a grace out of bounds.
pub async fn rotate(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    id: WebhookId,
    grace_seconds: Option<i64>,
) -> Result<(Webhook, Secrets, Done), Refused> {
    let grace = grace_seconds.unwrap_or(GRACE_SECONDS_DEFAULT);
    if !(0..=GRACE_SECONDS_MAX).contains(&grace) {
        return Err(Refused::field("/grace_seconds", "range", format!("0 to {GRACE_SECONDS_MAX}")));
    }
    let mut tx = db.begin().await?;
    let webhook = locked(&mut tx, by, id).await?;
    let made = Made::new(webhook.signature)?;
    let newest = store::retire_keys(&mut tx, id, grace).await?;
    add_key(&mut tx, sealing, (id, newest + 1), &made).await?;
    let webhook = get(&mut tx, by, id).await?;
    let entry = recorded(Entry::new(by, "webhook.rotated"), &webhook).with("grace_seconds", grace);
    audit::append(&mut tx, &entry).await?;
    Ok((webhook, made.shown, db.commit(tx).await?))
}

/// Sends an event that means nothing, so that one sees whether it arrives.
///
/// # Errors
///
/// No such webhook, it is switched off, or the caller is not on all projects.
pub async fn test(db: &Db, by: &Caller, id: WebhookId) -> Result<Delivery, Refused> {
    let mut tx = db.begin().await?;
    let webhook = locked(&mut tx, by, id).await?;
    if webhook.disabled {
        return Err(Refused::new(Code::InUse, "The webhook is switched off: nothing is delivered to it."));
    }
    let event = Event::new(EventType::WebhookTest, webhook.project.as_deref()).about(&webhook.id).by(by);
    let delivery = outbox::enqueue(&mut tx, id, &event).await?;
    audit::append(&mut tx, &Entry::new(by, "webhook.tested").on(&webhook.id)).await?;
    db.commit_change(tx).await?;
    Ok(delivery)
}

async fn locked(tx: &mut PgConnection, by: &Caller, id: WebhookId) -> Result<Webhook, Refused> {
    everywhere(by)?;
    store::lock(tx, id).await?;
    get(tx, by, id).await
}

async fn add_key(
    tx: &mut PgConnection,
    sealing: Sealing<'_>,
    (id, version): (WebhookId, i32),
    made: &Made,
) -> Result<(), Refused> {
    let row = signature::row(id, version);
    let sealed = made.seal(sealing, &row)?;
    let key = signature::KeyRow { id: row, secret_key: sealing.secret_key.to_owned(), sealed };
    Ok(store::insert_key(tx, (id, version), &key, made.shown.public_key.as_deref()).await?)
}

pub(super) fn recorded(entry: Entry, webhook: &Webhook) -> Entry {
    let entry = entry.on(&webhook.id).with("url", webhook.url.as_str()).with("events", webhook.events.clone());
    let entry = entry.with("disabled", webhook.disabled);
    match &webhook.project {
        Some(project) => entry.project(project),
        None => entry,
    }
}

fn check(name: &str, events: &[String]) -> Result<(), Refused> {
    let mut checks = Checks::default();
    checks.name("/name", name, NAME_CHARS_MAX);
    let all = EventType::ALL.len();
    checks.expect((1..=all).contains(&events.len()), "/events", "length", &format!("1 to {all}"));
    let every = events.iter().any(|event| event == EVERY_TYPE);
    checks.expect(!every || events.len() == 1, "/events", "invalid", "`*` stands alone");
    for (index, event) in events.iter().enumerate() {
        let known = event == EVERY_TYPE || EventType::parse(event).is_some();
        checks.expect(known, &format!("/events/{index}"), "unknown", "not a type of event: see docs/webhooks.md");
    }
    checks.done()
}

/// Refused is what would never be connected to. A host that cannot be heard now may be there later.
async fn check_url(outbound: &Outbound, url: &str) -> Result<(), Refused> {
    let wrong = |detail: &str| Refused::field("/url", "invalid", detail);
    let detail = "an https URL without user name and fragment, of at most 2,000 bytes";
    let parsed = Url::parse(url).ok().filter(|parsed| url.len() <= URL_BYTES_MAX && parsed.fragment().is_none());
    match outbound.check(&parsed.ok_or_else(|| wrong(detail))?).await {
        Err(outbound::Error::NotHttps) => Err(wrong(detail)),
        Err(outbound::Error::AddressRefused) => {
            let detail = "The host is, or leads to, an address that is not of the public Internet.";
            Err(Refused::field("/url", "address_refused", detail))
        }
        _ => Ok(()),
    }
}
