//! Links that hand a key's new secret to a person: single use, short-lived. Owns `key_claims`.
//!
//! Programs that show messages fetch every address in them, so looking at a link changes nothing: only the button on its page
//! does. The secret is sealed until then and erased afterwards, or when the link's time is over.

mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::{self, Entry};
use crate::db::{self, Db, Done};
use crate::keys::get;
use crate::keys::rotation::{Locked, entry, event};
use crate::refusal::{Checks, Code, Refused};
use crate::secrets::{self, Sealing};
use crate::types::caller::Caller;
use crate::types::id::ClaimId;
use crate::types::keyring::{Keyring, Place};
use crate::types::opaque;
use crate::types::redacted::Secret;
use crate::webhooks::{self, Event, EventType};

pub use store::{Claim, Link};

/// The life of a link unless said, in seconds.
pub const LIFE_SECONDS_DEFAULT: i32 = 3_600;
/// The shortest life.
pub const LIFE_SECONDS_MIN: i32 = 60;
/// The longest life.
pub const LIFE_SECONDS_MAX: i32 = 86_400;
/// Links of a key that are listed: the newest.
const LISTED_MAX: i64 = 100;
/// Links are kept so long after their end, so that operators see what became of them.
const KEPT_DAYS: i32 = 90;

/// What a link is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewClaim {
    /// Its life; an hour unless said.
    pub life_seconds: Option<i32>,
    /// How long the secret before lives on; the policy's overlap unless said.
    pub grace_seconds: Option<i64>,
}

/// A link that was just made.
#[derive(Debug)]
pub struct Made {
    /// Its id.
    pub id: ClaimId,
    /// What its address ends with. Whoever has it has the secret.
    pub token: Secret<String>,
    /// When it leads nowhere any more.
    pub expires_at: OffsetDateTime,
    /// The version of the secret that it hands over.
    pub version: i32,
    /// The version before, if there is one, and who uses that.
    pub previous: Option<secrets::Shown>,
}

/// Makes a new version of a key's secret that only whoever opens the link sees. A version that nobody ever used makes room for
/// it at once.
///
/// # Errors
///
/// No such key, it is revoked, an overlap that still runs, wrong fields.
pub async fn create(
    db: &Db,
    sealing: Sealing<'_>,
    by: &Caller,
    key: &str,
    new: NewClaim,
) -> Result<(Made, Done), Refused> {
    let life = new.life_seconds.unwrap_or(LIFE_SECONDS_DEFAULT);
    let mut checks = Checks::default();
    checks.expect(
        (LIFE_SECONDS_MIN..=LIFE_SECONDS_MAX).contains(&life),
        "/life_seconds",
        "range",
        &format!("{LIFE_SECONDS_MIN} to {LIFE_SECONDS_MAX}"),
    );
    checks.done()?;
    let mut tx = db.begin().await?;
    let locked = Locked::new(&mut tx, by.projects(), key).await?;
    let grace = if secrets::is_untouched(&mut tx, key).await? { Some(0) } else { new.grace_seconds };
    let rotated = locked.rotate(&mut tx, sealing, grace).await?;
    let (id, token) = (ClaimId::random(), opaque::random());
    let open = rotated.issued.credential.reveal().as_bytes();
    let sealed = sealing.keyring.seal(sealing.secret_key, place(id.as_str()), open);
    let sealed = sealed.ok_or_else(|| Refused::new(Code::Internal, "The secret cannot be sealed."))?;
    let version = rotated.issued.version;
    let row = store::New {
        id: id.as_str(),
        key,
        version,
        token_digest: &opaque::sha256(token.reveal()),
        secret_key: sealing.secret_key,
        sealed: &sealed,
        by: &by.actor,
        life_seconds: life,
    };
    let expires_at = store::insert(&mut tx, &row).await?;
    let hint = rotated.issued.credential.hint();
    let entry = entry(by, "key.claim_created", &rotated.key).with("claim", id.as_str()).with("hint", hint);
    audit::append(&mut tx, &entry).await?;
    webhooks::note(&mut tx, &webhooks::rotated(event(EventType::KeyRotated, by, &rotated.key), by, &rotated.issued))
        .await?;
    let made = Made { id, token, expires_at, version, previous: rotated.previous };
    Ok((made, db.commit(tx).await?))
}

const fn place(row: &str) -> Place<'_> {
    Place { table: "key_claims", column: "secret", row }
}

/// The newest links of a key that the caller may see, at most a hundred.
///
/// # Errors
///
/// No such key.
pub async fn list(connection: &mut PgConnection, by: &Caller, key: &str) -> Result<Vec<Claim>, Refused> {
    get(connection, by, key).await?;
    Ok(store::list(connection, key, LISTED_MAX).await?)
}

/// What a link is, to whoever has it. Changes nothing. `None`: there is no such link, or it was forgotten.
///
/// # Errors
///
/// The database cannot answer.
pub async fn look(connection: &mut PgConnection, token: &str) -> db::Result<Option<Link>> {
    if !opaque::is_one(token) {
        return Ok(None);
    }
    store::find(connection, &opaque::sha256(token)).await
}

/// Opens a link: its secret, this once. From then on the link only says when it was opened, and from where. `None`: it is none that
/// can be opened, which [`look`] tells more of.
///
/// # Errors
///
/// The database cannot answer; the secret key that the secret was sealed under is gone.
pub async fn open(
    db: &Db,
    keyring: &Keyring,
    by: &Caller,
    token: &str,
) -> Result<Option<(Link, Secret<String>)>, Refused> {
    if !opaque::is_one(token) {
        return Ok(None);
    }
    let mut tx = db.begin().await?;
    let Some((link, sealed)) = store::take(&mut tx, &opaque::sha256(token)).await? else { return Ok(None) };
    let broken = || Refused::new(Code::Internal, "The secret cannot be opened here.");
    let open = keyring.open(&sealed.secret_key, place(&link.id), &sealed.secret).map_err(|_| broken())?;
    let secret = Secret::new(String::from_utf8(open.to_vec()).map_err(|_| broken())?);
    let by = Caller { actor: link.id.clone(), ..by.clone() };
    store::opened(&mut tx, &link.id, by.address.map(|address| address.to_string())).await?;
    let entry = Entry::new(&by, "key.claimed").on(&link.key_id).project(&link.project);
    audit::append(&mut tx, &entry.agent(&link.agent_id).key(&link.key_id).with("version", link.version)).await?;
    let event = Event::new(EventType::KeyClaimed, Some(&link.project)).key(&link.key_id).by(&by);
    let from = by.address.map(|address| address.to_string());
    webhooks::note(&mut tx, &event.with("claim", link.id.as_str()).with("from", from)).await?;
    db.commit_change(tx).await?;
    Ok(Some((link, secret)))
}

/// Ends the links of a key that nobody opened: their secret is erased.
pub(super) async fn withdraw(tx: &mut PgConnection, key: &str) -> db::Result<()> {
    store::withdraw(tx, key).await
}

/// Erases secrets whose link's time is over, and links that are kept no longer, at most `limit` of each. Returns how many.
///
/// # Errors
///
/// The database refuses.
pub async fn expire(tx: &mut PgConnection, limit: i64) -> db::Result<u64> {
    Ok(store::erase(tx, limit).await? + store::forget(tx, KEPT_DAYS, limit).await?)
}
