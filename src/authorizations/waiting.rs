//! Requests that wait: pushed by a client (RFC 9126), for a person's answer, and for a provider's.
//!
//! Each belongs to one browser, by a cookie, and to one client; what would let another browser take part in it is not kept.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use sqlx::PgConnection;

use super::flows::plain;
use super::request::Request;
use super::store;
use crate::db;
use crate::providers::Remembered;
use crate::refusal::{Code, Refused};
use crate::secrets::Sealing;
use crate::types::id::ProviderId;
use crate::types::keyring::{Keyring, Place};
use crate::types::opaque;
use crate::types::redacted::Secret;

/// How long a pushed request can be begun (RFC 9126 §2.2).
pub const PUSHED_SECONDS: i32 = 60;
/// How long a request waits for a person's answer, and then again for a provider's.
pub const WAITING_SECONDS: i32 = 600;
/// What stands before the secret part of a reference to a pushed request (RFC 9126 §2.2).
pub const REFERENCE_PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

/// A request that waits, as the browser that it belongs to may see it.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its flow.
    pub flow_id: String,
    /// What is asked for.
    pub request: Request,
}

/// What a provider's answer is about.
#[derive(Debug)]
pub struct Departed {
    /// The request.
    pub waiting: Waiting,
    /// Who was asked.
    pub provider_id: ProviderId,
    /// What was remembered, sealed.
    sealed: Vec<u8>,
    secret_key: String,
}

/// Keeps parameters for a client that sends a browser with a reference to them. Its flow must be open.
///
/// # Errors
///
/// The database refuses.
pub async fn push(conn: &mut PgConnection, flow: &str, parameters: &[(String, String)]) -> db::Result<Secret<String>> {
    let reference = opaque::random();
    let parameters = serde_json::to_value(parameters).unwrap_or_default();
    store::insert_request(conn, flow, &parameters, store::Holder::Reference(&opaque::sha256(reference.reveal())))
        .await?;
    Ok(Secret::new(format!("{REFERENCE_PREFIX}{}", reference.reveal())))
}

/// The parameters behind a reference, with their flow; the reference is spent. `None`: there is none, or not any more.
///
/// # Errors
///
/// The database cannot answer.
pub async fn pull(
    conn: &mut PgConnection,
    reference: &str,
    client_id: &str,
) -> db::Result<Option<(String, Vec<(String, String)>)>> {
    let Some(secret) = reference.strip_prefix(REFERENCE_PREFIX).filter(|secret| opaque::is_one(secret)) else {
        return Ok(None);
    };
    let Some((flow, parameters)) = store::take_pushed(conn, &opaque::sha256(secret), &plain(client_id)).await? else {
        return Ok(None);
    };
    Ok(Some((flow, store::readable(parameters)?)))
}

/// Lets a checked request wait for the person in this browser. Its flow must be open.
///
/// # Errors
///
/// The database refuses.
pub async fn hold(conn: &mut PgConnection, waiting: &Waiting, browser: &str) -> db::Result<()> {
    let request = serde_json::to_value(&waiting.request).unwrap_or_default();
    let digest = of_browser(waiting, browser);
    store::insert_request(conn, &waiting.flow_id, &request, store::Holder::Browser(&digest)).await
}

/// Lets a request wait in this browser that may wait in another already: whoever typed a device's code last has it.
///
/// # Errors
///
/// The database refuses.
pub async fn take_over(tx: &mut PgConnection, waiting: &Waiting, browser: &str) -> db::Result<()> {
    store::remove_request(tx, &waiting.flow_id).await?;
    hold(tx, waiting, browser).await
}

/// The request of a flow that waits in this browser. `None`: it is over, or another browser's.
///
/// # Errors
///
/// The database cannot answer.
pub async fn waiting(conn: &mut PgConnection, flow: &str, browser: &str) -> db::Result<Option<Waiting>> {
    let Some((request, digest)) = store::find_request(conn, flow).await? else { return Ok(None) };
    let waiting = Waiting { flow_id: flow.to_owned(), request: store::readable(request)? };
    let own = verify_slices_are_equal(&of_browser(&waiting, browser), &digest).is_ok();
    Ok(own.then_some(waiting))
}

/// Writes down what the person said: that it agreed, or wants to be somebody else. The time for its answer begins anew.
///
/// # Errors
///
/// The database refuses.
pub async fn answered(conn: &mut PgConnection, waiting: &Waiting) -> db::Result<()> {
    let request = serde_json::to_value(&waiting.request).unwrap_or_default();
    store::set_request(conn, &waiting.flow_id, &request).await
}

/// Ends the wait. False when somebody else did so first: a request is answered once.
///
/// # Errors
///
/// The database refuses.
pub async fn end(conn: &mut PgConnection, flow: &str) -> db::Result<bool> {
    store::remove_request(conn, flow).await
}

/// Notes what a provider is asked. `state` was made by then, after the person agreed, and is good once and for
/// [`WAITING_SECONDS`]; one from before of this flow is no longer.
///
/// # Errors
///
/// The secret key is unknown, or the database refuses.
pub async fn depart(
    conn: &mut PgConnection,
    sealing: Sealing<'_>,
    waiting: &Waiting,
    (provider, state, remember): (ProviderId, &str, &Remembered),
) -> Result<(), Refused> {
    let internal = || Refused::new(Code::Internal, "What must be remembered could not be sealed.");
    let open = serde_json::to_vec(remember).map(zeroize::Zeroizing::new).map_err(|_| internal())?;
    let sealed = sealing.keyring.seal(sealing.secret_key, place(&waiting.flow_id), &open).ok_or_else(internal)?;
    let upstream = store::Upstream {
        state: &opaque::sha256(state),
        provider: provider.as_str(),
        secret_key: sealing.secret_key,
        sealed: &sealed,
    };
    Ok(store::set_upstream(conn, &waiting.flow_id, &upstream).await?)
}

/// What a provider's answer with this `state` is about; it is spent, whatever comes of it. `None`: nobody asked, or it was
/// answered, or too long ago. With whether it is this browser that was sent there.
///
/// # Errors
///
/// The database cannot answer.
pub async fn returned(conn: &mut PgConnection, state: &str, browser: &str) -> db::Result<Option<(Departed, bool)>> {
    let Some(row) = store::take_returned(conn, &opaque::sha256(state)).await? else { return Ok(None) };
    let waiting = Waiting { flow_id: row.flow_id, request: store::readable(row.request)? };
    let own = verify_slices_are_equal(&of_browser(&waiting, browser), &row.browser).is_ok();
    let provider_id = store::id(&row.provider_id)?;
    Ok(Some((Departed { waiting, provider_id, sealed: row.upstream, secret_key: row.secret_key }, own)))
}

impl Departed {
    /// What was remembered. `None` when it cannot be opened: its secret key is gone, or somebody changed it.
    #[must_use]
    pub fn remembered(&self, keyring: &Keyring) -> Option<Remembered> {
        let open = keyring.open(&self.secret_key, place(&self.waiting.flow_id), &self.sealed).ok()?;
        serde_json::from_slice(&open).ok()
    }
}

fn place(flow: &str) -> Place<'_> {
    Place { table: "authorization_requests", column: "upstream", row: flow }
}

/// The cookie alone is the browser's for every flow; what is kept is bound to this flow and its client.
fn of_browser(waiting: &Waiting, browser: &str) -> [u8; 32] {
    opaque::sha256_of(&[browser, &waiting.flow_id, &waiting.request.client_id])
}
