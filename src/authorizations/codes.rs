//! Authorization codes (RFC 6749 §4.1.2): random, short-lived, single use. At rest there is only their SHA-256.

use sqlx::PgConnection;

use super::store;
use crate::db;
use crate::gate::Position;
use crate::types::id::{ClientId, ConsentId, ServerId, SessionId, UserId};
use crate::types::opaque;
use crate::types::permission::Permissions;
use crate::types::redacted::Secret;
use crate::types::thumbprint::Thumbprint;

/// How long a code is good. Clients redeem it at once.
pub const CODE_SECONDS: i32 = 60;

/// What a new code stands for.
#[derive(Clone, Copy, Debug)]
pub struct NewCode<'a> {
    /// The flow that led to it.
    pub flow_id: &'a str,
    /// What the person agreed to.
    pub consent_id: ConsentId,
    /// Who.
    pub user_id: UserId,
    /// Which client may redeem it.
    pub client_id: ClientId,
    /// For which server.
    pub server_id: ServerId,
    /// What it gives.
    pub permissions: &'a Permissions,
    /// Where it was sent; the token request must name the same, if it names one (RFC 6749 §4.1.3).
    pub redirect_uri: &'a str,
    /// Base64url of SHA-256 of the verifier (RFC 7636 §4.2).
    pub code_challenge: &'a str,
    /// The key that it is bound to (RFC 9449 §10).
    pub jkt: Option<Thumbprint>,
    /// Whether `offline_access` was asked for.
    pub offline: bool,
    /// What a node must have applied before it honours the code: the consent stands there.
    pub position: Position,
}

/// A code that somebody shows.
#[derive(Clone, Debug)]
pub struct Code {
    /// The flow that led to it.
    pub flow_id: String,
    /// What the person agreed to.
    pub consent_id: ConsentId,
    /// Who.
    pub user_id: UserId,
    /// Which client may redeem it.
    pub client_id: ClientId,
    /// For which server.
    pub server_id: ServerId,
    /// What it gives.
    pub permissions: Permissions,
    /// Where it was sent.
    pub redirect_uri: String,
    /// Base64url of SHA-256 of the verifier.
    pub code_challenge: String,
    /// The key that it is bound to.
    pub jkt: Option<Thumbprint>,
    /// Whether `offline_access` was asked for.
    pub offline: bool,
    /// What a node must have applied before it honours it.
    pub position: Position,
    /// Its time is over.
    pub expired: bool,
    /// It was redeemed.
    pub used: bool,
    /// The family of tokens that came of it: to be revoked when the code is shown again.
    pub family_id: Option<SessionId>,
    pub(super) digest: [u8; 32],
}

/// Makes a code, good for [`CODE_SECONDS`].
///
/// # Errors
///
/// The database refuses.
pub async fn issue_code(tx: &mut PgConnection, new: &NewCode<'_>) -> db::Result<Secret<String>> {
    let code = opaque::random();
    store::insert_code(tx, &opaque::sha256(code.reveal()), new).await?;
    Ok(code)
}

/// The code that somebody shows, also one that is used or over; nobody else can use it before the transaction ends. `None`:
/// there is no such code, or it is forgotten.
///
/// # Errors
///
/// The database cannot answer.
pub async fn look_at_code(tx: &mut PgConnection, code: &str) -> db::Result<Option<Code>> {
    if !opaque::is_one(code) {
        return Ok(None);
    }
    store::lock_code(tx, opaque::sha256(code)).await
}

/// Marks a code as redeemed, and what came of it. The code was looked at in the same transaction.
///
/// # Errors
///
/// The database refuses.
pub async fn use_code(tx: &mut PgConnection, code: &Code, family: SessionId) -> db::Result<()> {
    store::set_code_used(tx, &code.digest, family).await
}
