//! Refresh tokens (RFC 6749 §6, OAuth 2.1 §4.3): each is good once, and its family dies when one is stolen.
//!
//! Programs lose answers, and several processes share one token. So a token that is shown again is answered with the same
//! successor and the same session token, as long as nobody has used either of them: then there still is one living branch.
//! After that, two hold the family, one of them is a thief, and nobody can say which: the family ends.

mod store;

use sqlx::PgConnection;

use crate::db;
use crate::gate::{Claims, Position};
use crate::refusal::{Code, Refused};
use crate::secrets::Sealing;
use crate::sessions::Allowed;
use crate::types::base62;
use crate::types::clock::Timestamp;
use crate::types::credential::{Credential, Kind, Presented};
use crate::types::id::{ClientId, ConsentId, ServerId, SessionId, UserId};
use crate::types::keyring::Keyring;
use crate::types::permission::Permissions;
use crate::types::thumbprint::Thumbprint;

pub use store::{expire, note_used};

/// The life of a family: people sign in again after it.
pub const FAMILY_DAYS: i32 = 90;
/// The life of a token that nobody uses.
pub const IDLE_DAYS: i32 = 30;

/// A family that begins.
#[derive(Clone, Debug)]
pub struct NewFamily {
    /// Its id.
    pub id: SessionId,
    /// The authorization that it comes from.
    pub flow: String,
    /// What it rests on.
    pub consent: ConsentId,
    /// Who allowed it.
    pub user: UserId,
    /// Whom.
    pub client: ClientId,
    /// Where.
    pub server: ServerId,
    /// What was asked for.
    pub permissions: Permissions,
    /// What the node had published that authorised it.
    pub position: Position,
}

/// A refresh token that was shown, with its right secret. Its family is locked.
#[derive(Debug)]
pub struct Shown {
    id: String,
    secret_key: String,
    /// Its family.
    pub family: SessionId,
    /// The authorization that it comes from.
    pub flow: Option<String>,
    /// To which client it was given.
    pub client: ClientId,
    /// Whose it is.
    pub user: UserId,
    /// The key that it is bound to: nobody else may use it (RFC 9449 §5).
    pub key: Option<Thumbprint>,
    /// What it can be turned into.
    pub allowed: Allowed,
    /// What becomes of it.
    pub state: State,
}

/// What becomes of a refresh token that was shown.
#[derive(Debug)]
pub enum State {
    /// It was never used.
    Fresh,
    /// It was used, and nothing that came of it was: the same answer once more.
    Again(Box<Again>),
    /// It was used, and so was what came of it.
    Replayed,
    /// Its family is over, or its time.
    Over,
}

/// What was answered the first time.
#[derive(Debug)]
pub struct Again {
    /// The session token's claims.
    pub claims: Claims,
    /// Its row is there.
    pub written: bool,
    successor: [u8; 12],
}

/// Begins a family, which may have no refresh token: then it is what a session token hangs on.
///
/// # Errors
///
/// The database refuses.
pub async fn begin(tx: &mut PgConnection, new: &NewFamily) -> db::Result<()> {
    store::insert_family(tx, new).await
}

/// Makes the first token of a family, to be shown once; bound to this key, if there is one.
///
/// # Errors
///
/// The database refuses.
pub async fn first(
    tx: &mut PgConnection,
    sealing: Sealing<'_>,
    family: SessionId,
    key: Option<Thumbprint>,
) -> Result<Credential, Refused> {
    let first = Credential::generate(Kind::Refresh, &base62::random_twelve());
    insert(tx, sealing, family, (&first, key)).await?;
    Ok(first)
}

/// Reads a refresh token and locks its family, so that of many who show it at once, on whatever node, one is first.
///
/// # Errors
///
/// The database cannot answer.
pub async fn look(tx: &mut PgConnection, keyring: &Keyring, presented: &Presented<'_>) -> db::Result<Option<Shown>> {
    let id = String::from_utf8_lossy(presented.id()).into_owned();
    let row = if presented.kind() == Kind::Refresh { store::lock(tx, &id).await? } else { None };
    let Some(row) = row else {
        keyring.waste_one(presented.reveal());
        return Ok(None);
    };
    let digest = keyring.digest(&row.secret_key, presented.reveal());
    let right =
        digest.is_some_and(|digest| aws_lc_rs::constant_time::verify_slices_are_equal(&digest, &row.digest).is_ok());
    if right { shown(tx, row).await } else { Ok(None) }
}

/// A row that cannot be understood is no token.
async fn shown(tx: &mut PgConnection, row: store::Row) -> db::Result<Option<Shown>> {
    let state = state(tx, &row).await?;
    let position = Position { history: row.history, number: row.number };
    let shown = || {
        let family = row.family_id.parse().ok()?;
        let began = Timestamp::from(row.family_created_at);
        let permissions = Permissions::parse(&row.permissions).ok()?;
        let consent = row.consent_id.parse().ok()?;
        let allowed = Allowed { consent, permissions, family: (family, began), position };
        let (client, user) = (row.client_id.parse().ok()?, row.user_id.parse().ok()?);
        // A key that cannot be read is not none.
        let key = row.jkt.map(|jkt| Thumbprint::parse(&jkt).ok_or(())).transpose().ok()?;
        let (id, secret_key, flow) = (row.id, row.secret_key, row.flow_id);
        Some(Shown { id, secret_key, family, flow, client, user, key, allowed, state })
    };
    Ok(shown())
}

async fn state(tx: &mut PgConnection, row: &store::Row) -> db::Result<State> {
    if !row.live {
        return Ok(State::Over);
    }
    let (Some(successor), Some(session)) = (&row.successor, &row.session) else { return Ok(State::Fresh) };
    let next = store::after(tx, successor, row.session_id.as_deref()).await?;
    if row.session_used || next.as_ref().is_none_or(|next| next.used) {
        return Ok(State::Replayed);
    }
    let claims = serde_json::from_value(session.clone());
    let (Ok(claims), Ok(successor)) = (claims, successor.as_bytes().try_into()) else { return Ok(State::Replayed) };
    let written = next.is_some_and(|next| next.written);
    Ok(State::Again(Box::new(Again { claims, written, successor })))
}

impl Shown {
    /// Uses it: its successor is to be shown once, with the session token of these claims, and is bound to this key.
    ///
    /// # Errors
    ///
    /// The database refuses, or the secret key that it was made under is not known here.
    pub async fn rotate(
        &self,
        tx: &mut PgConnection,
        sealing: Sealing<'_>,
        presented: &Presented<'_>,
        (claims, key): (&Claims, Option<Thumbprint>),
    ) -> Result<Credential, Refused> {
        let next = base62::random_twelve();
        let successor = self.successor(sealing.keyring, presented, &next)?;
        insert(tx, sealing, self.family, (&successor, key)).await?;
        let session = serde_json::to_value(claims).map_err(|_| unknown())?;
        store::used(tx, &self.id, &String::from_utf8_lossy(&next), claims.jti.as_str(), &session).await?;
        Ok(successor)
    }

    /// Gives the same successor another session token: the first one is over, and nobody used it.
    ///
    /// # Errors
    ///
    /// The database refuses.
    pub async fn renew(&self, tx: &mut PgConnection, again: &Again, claims: &Claims) -> Result<(), Refused> {
        let session = serde_json::to_value(claims).map_err(|_| unknown())?;
        let successor = String::from_utf8_lossy(&again.successor);
        Ok(store::used(tx, &self.id, &successor, claims.jti.as_str(), &session).await?)
    }

    /// The successor that was told before.
    ///
    /// # Errors
    ///
    /// The secret key that it was made under is not known here.
    pub fn same(&self, keyring: &Keyring, presented: &Presented<'_>, again: &Again) -> Result<Credential, Refused> {
        self.successor(keyring, presented, &again.successor)
    }

    fn successor(&self, keyring: &Keyring, presented: &Presented<'_>, next: &[u8; 12]) -> Result<Credential, Refused> {
        let bits = keyring.successor(&self.secret_key, presented.reveal(), next).ok_or_else(unknown)?;
        Ok(Credential::of(Kind::Refresh, next, &bits))
    }
}

async fn insert(
    tx: &mut PgConnection,
    sealing: Sealing<'_>,
    family: SessionId,
    (token, key): (&Credential, Option<Thumbprint>),
) -> Result<(), Refused> {
    let id = Presented::parse(token.reveal()).map(|presented| *presented.id()).ok_or_else(unknown)?;
    let digest = sealing.keyring.digest(sealing.secret_key, token.reveal()).ok_or_else(unknown)?;
    let new = store::New {
        id: &String::from_utf8_lossy(&id),
        family: family.as_str(),
        secret_key: sealing.secret_key,
        digest: &digest,
        jkt: key.as_ref().map(Thumbprint::as_str),
    };
    Ok(store::insert(tx, &new).await?)
}

fn unknown() -> Refused {
    Refused::new(Code::Internal, "The secret key to use is not known here.")
}

/// Ends a family in the database: no token of it is taken any more. What hangs on it in memory dies with the entry of the
/// revocation list that the caller adds. False when it was over already.
///
/// # Errors
///
/// The database refuses.
pub async fn end(tx: &mut PgConnection, family: SessionId, why: &str) -> db::Result<bool> {
    store::end(tx, family.as_str(), why).await
}
