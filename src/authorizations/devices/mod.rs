//! Device authorizations (RFC 8628): a device without a browser asks, a person agrees somewhere else, and the device, which
//! asks again and again, gets tokens.
//!
//! What people type is short, so there is an end to how often a code may be typed, and nothing is said about why one is
//! not good. What the device shows is 256 random bits, of which only the SHA-256 is kept.

mod store;

use rand::RngExt;
use sqlx::PgConnection;

use super::request::Request;
use crate::db;
use crate::gate::Position;
use crate::types::id::{ConsentId, ServerId, SessionId, UserId};
use crate::types::opaque;
use crate::types::permission::Permissions;
use crate::types::redacted::Secret;

/// How long a device may wait for its person.
pub const DEVICE_SECONDS: i32 = 600;
/// Seconds between two questions of a device, and what is added when one comes too soon (RFC 8628 §3.5).
pub const PACE_SECONDS: i32 = 5;
/// Seconds that are asked for at most, however often a device comes too soon.
pub const PACE_SECONDS_MAX: i32 = 60;
/// How often a code may be typed. Then it is good for nobody.
pub const TRIES_MAX: i32 = 10;
/// Codes of one client that wait at once.
pub const LIVE_PER_CLIENT_MAX: i64 = 2_000;
/// Codes that wait at once for those of one network.
pub const LIVE_PER_ADDRESS_MAX: i64 = 50;
/// What user codes are made of (RFC 8628 §6.1): no vowels, so that no words come up, and nothing that looks like another.
const LETTERS: [char; 20] =
    ['B', 'C', 'D', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P', 'Q', 'R', 'S', 'T', 'V', 'W', 'X', 'Z'];
/// Letters of a user code: 34 bits, which are guessed once in ten minutes by nobody who is bounded.
const LETTERS_COUNT: usize = 8;
/// Rows that go in one transaction.
const EXPIRE_BATCH: i64 = 1_000;

/// What a device is told.
#[derive(Debug)]
pub struct Begun {
    /// What it asks with.
    pub device_code: Secret<String>,
    /// What people type, with its dash.
    pub user_code: String,
}

/// Begins a wait. The flow must be open. `None`: too many wait already, of this client or from this network.
///
/// # Errors
///
/// The database refuses.
pub async fn begin(tx: &mut PgConnection, flow: &str, request: &Request, network: &str) -> db::Result<Option<Begun>> {
    let (of_client, of_address) = store::count_live(tx, &request.client_id, network).await?;
    if of_client >= LIVE_PER_CLIENT_MAX || of_address >= LIVE_PER_ADDRESS_MAX {
        return Ok(None);
    }
    let (device_code, user_code) = (opaque::random(), random_user_code());
    let kept = serde_json::to_value(request).unwrap_or_default();
    let new =
        store::New { flow, user_code: &user_code, client_id: &request.client_id, request: &kept, address: network };
    store::insert(tx, &opaque::sha256(device_code.reveal()), &new).await?;
    Ok(Some(Begun { device_code, user_code: dashed(&user_code) }))
}

/// Reads what somebody typed: in any case, with dashes and spaces anywhere. `None`: it cannot be a code.
#[must_use]
pub fn read_user_code(text: &str) -> Option<String> {
    let signs = text.chars().filter(|sign| *sign != '-' && !sign.is_whitespace()).map(|sign| sign.to_ascii_uppercase());
    let code: String = signs.take(LETTERS_COUNT + 1).collect();
    (code.len() == LETTERS_COUNT && code.chars().all(|sign| LETTERS.contains(&sign))).then_some(code)
}

/// A code as it is shown, in two halves.
#[must_use]
pub fn dashed(code: &str) -> String {
    match code.split_at_checked(LETTERS_COUNT / 2) {
        Some((first, second)) => format!("{first}-{second}"),
        None => code.to_owned(),
    }
}

fn random_user_code() -> String {
    let mut random = rand::rng();
    (0..LETTERS_COUNT).filter_map(|_| LETTERS.get(random.random_range(0..LETTERS.len()))).collect()
}

/// The request that waits under a code that somebody typed, with its flow. `None`: none does, for whatever reason.
///
/// # Errors
///
/// The database refuses.
pub async fn typed(conn: &mut PgConnection, user_code: &str) -> db::Result<Option<(String, Request)>> {
    store::count_try(conn, user_code).await
}

/// What a person agreed to.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// Who.
    pub user_id: UserId,
    /// What it agreed to.
    pub consent_id: ConsentId,
    /// For which server.
    pub server_id: ServerId,
    /// What of it was asked for.
    pub permissions: Permissions,
    /// What a node must have applied before it honours it.
    pub position: Position,
}

/// The device gets tokens when it asks next. False when it does not wait any more.
///
/// # Errors
///
/// The database refuses.
pub async fn approve(tx: &mut PgConnection, flow: &str, agreement: &Agreement) -> db::Result<bool> {
    store::approve(tx, flow, agreement).await
}

/// The device gets nothing.
///
/// # Errors
///
/// The database refuses.
pub async fn deny(conn: &mut PgConnection, flow: &str) -> db::Result<()> {
    store::deny(conn, flow).await
}

/// What a device asks about.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its flow.
    pub flow_id: String,
    /// The client, as it stands on the wire.
    pub client_id: String,
    /// Whether `offline_access` was asked for.
    pub offline: bool,
    /// How it stands.
    pub state: State,
    /// Its time is over.
    pub expired: bool,
    /// It asked a moment ago.
    pub too_soon: bool,
    /// The family of tokens that came of it.
    pub family_id: Option<SessionId>,
}

/// How a device authorization stands.
#[derive(Clone, Debug)]
pub enum State {
    /// Nobody has said anything yet.
    Pending,
    /// Somebody agreed.
    Approved(Agreement),
    /// Somebody said no, or the device code was in wrong hands.
    Denied,
    /// The tokens were given.
    Redeemed,
}

/// What a device code stands for, also one that is over; nobody else can use it before the transaction ends. `None`: there is
/// no such code, or it is forgotten.
///
/// # Errors
///
/// The database cannot answer.
pub async fn look_at_device(tx: &mut PgConnection, device_code: &str) -> db::Result<Option<Device>> {
    if !opaque::is_one(device_code) {
        return Ok(None);
    }
    store::lock(tx, &opaque::sha256(device_code)).await
}

/// Notes that a device asked; one that came too soon must wait longer from now on.
///
/// # Errors
///
/// The database refuses.
pub async fn asked_again(tx: &mut PgConnection, device: &Device) -> db::Result<()> {
    store::asked(tx, &device.flow_id, device.too_soon).await
}

/// Marks a device code as used, and what came of it. It was looked at in the same transaction.
///
/// # Errors
///
/// The database refuses.
pub async fn use_device(tx: &mut PgConnection, device: &Device, family: SessionId) -> db::Result<()> {
    store::set_redeemed(tx, &device.flow_id, family).await
}

/// Removes what is over for a day, a bounded number at a time. Returns how many went.
///
/// # Errors
///
/// The database refuses.
pub(super) async fn expire(conn: &mut PgConnection) -> db::Result<u64> {
    store::expire(conn, EXPIRE_BATCH).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_people_type_it() {
        for typed in ["BCDF-GHJK", "bcdfghjk", " bcdf ghjk ", "b-c-d-f-g-h-j-k", "BCDF–GHJK".replace('–', "-").as_str()]
        {
            assert_eq!(read_user_code(typed).as_deref(), Some("BCDFGHJK"), "{typed}");
        }
        for wrong in ["", "BCDFGHJ", "BCDFGHJKL", "BCDFGHJA", "BCDFGHJ1", "BCDFGHJé", "BCDF_GHJK", &"B".repeat(10_000)]
        {
            assert_eq!(read_user_code(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn codes_are_random_and_read_as_they_are_shown() {
        let codes: std::collections::BTreeSet<String> = (0..1_000).map(|_| random_user_code()).collect();
        assert_eq!(codes.len(), 1_000);
        for code in codes {
            assert_eq!(read_user_code(&dashed(&code)), Some(code));
        }
    }
}
