//! Our signing keys: made here, sealed at rest, published before they sign, kept until what they signed has expired.
//!
//! Owns `signing_keys`. A key signs from `signs_from` until a younger one of its algorithm does.

mod make;
mod private;
mod store;

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{DecodingKey, Header};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::audit::{self, Entry};
use crate::db;
use crate::gate::{Claims, SessionVerifier};
use crate::refusal::{Code, Refused};
use crate::secrets::Sealing;
use crate::signing::private::Private;
use crate::types::alg::Alg;
use crate::types::caller::Caller;
use crate::types::clock::Timestamp;
use crate::types::keyring::{CannotOpen, Keyring, Place};

pub use make::MakeError;
pub use store::{PublicKey, is_revoked, public_of};

/// How long verifiers may keep our key set: `max-age` of `/oauth/jwks`. A new key is published this long before it signs.
pub const PUBLISHED_BEFORE: Duration = Duration::from_mins(5);
/// While a key is made, its transaction says this often that it is still there.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_millis(500);
/// How long a key signs before the next one is made.
pub const SIGNS_FOR: Duration = Duration::from_hours(30 * 24);
/// How long a key that signs no more is still published: the longest life of a token, and a margin.
pub const KEPT_AFTER: Duration = Duration::from_mins(70);

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Session tokens.
    Session,
    /// Checkpoints of the audit.
    Checkpoint,
}

impl Purpose {
    /// Its name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// A key that can sign.
pub struct Signer {
    /// Its id.
    pub kid: Arc<str>,
    /// Its algorithm.
    pub alg: Alg,
    /// What it signs.
    pub purpose: Purpose,
    /// From when on.
    pub from: Timestamp,
    key: Private,
}

impl Signer {
    /// A session token: `typ: at+jwt` (RFC 9068 §2.1).
    ///
    /// # Errors
    ///
    /// The cryptography library refuses.
    pub fn session(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        self.sign("at+jwt", claims)
    }

    /// A JWS of another type.
    ///
    /// # Errors
    ///
    /// The cryptography library refuses.
    pub fn sign(&self, typ: &str, payload: &impl serde::Serialize) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(crate::gate::algorithm(self.alg));
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.kid.to_string());
        self.key.sign(&header, payload)
    }
}

/// All keys that are not gone, with their private halves opened.
#[derive(Default)]
pub struct Signers {
    signers: Vec<Signer>,
}

impl Signers {
    /// The key that signs now with this algorithm, for this purpose: the youngest that has begun.
    #[must_use]
    pub fn current(&self, purpose: Purpose, alg: Alg, now: Timestamp) -> Option<&Signer> {
        let fitting =
            self.signers.iter().filter(|signer| signer.purpose == purpose && signer.alg == alg && signer.from <= now);
        fitting.max_by_key(|signer| signer.from)
    }
}

/// What `load` read.
pub struct Loaded {
    /// For the gate.
    pub verifiers: Vec<SessionVerifier>,
    /// For issuing.
    pub signers: Signers,
}

/// Reads all keys that sign or whose signatures still count.
///
/// # Errors
///
/// The database cannot answer, or a private key cannot be opened.
pub async fn load(connection: &mut PgConnection, keyring: &Keyring) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded { verifiers: Vec::new(), signers: Signers::default() };
    for row in store::usable(connection, KEPT_AFTER).await? {
        let alg = Alg::parse(&row.alg).ok_or_else(|| LoadError::Row(row.kid.clone()))?;
        let purpose = if row.purpose == "session" { Purpose::Session } else { Purpose::Checkpoint };
        let kid: Arc<str> = row.kid.as_str().into();
        if let Some(private) = row.private.filter(|_| row.signs_until.is_none()) {
            let place = Place { table: "signing_keys", column: "private", row: &row.kid };
            let open = keyring
                .open(&row.secret_key, place, &private)
                .map_err(|error| LoadError::Sealed(row.kid.clone(), error))?;
            let key = Private::read(alg, &open).ok_or_else(|| LoadError::Row(row.kid.clone()))?;
            loaded.signers.signers.push(Signer {
                kid: Arc::clone(&kid),
                alg,
                purpose,
                from: row.signs_from.into(),
                key,
            });
        }
        if purpose == Purpose::Session {
            let key = decoding(&row.public_jwk).ok_or_else(|| LoadError::Row(row.kid.clone()))?;
            loaded.verifiers.push(SessionVerifier { kid, alg, key, jwk: row.public_jwk });
        }
    }
    Ok(loaded)
}

/// What checks signatures of a published key.
#[must_use]
pub fn decoding(jwk: &Value) -> Option<DecodingKey> {
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwk.clone()).ok()?;
    DecodingKey::from_jwk(&jwk).ok()
}

/// Why keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The database.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// The private half cannot be opened.
    #[error("signing key {0}: {1}")]
    Sealed(String, #[source] CannotOpen),
    /// The row makes no sense.
    #[error("signing key {0} cannot be read")]
    Row(String),
}

/// Makes sure that there is a key of this algorithm and purpose, and that its successor is published in time. Safe to call
/// on every node at any time. Gives the id of a successor that it made.
///
/// # Errors
///
/// The database refuses, or no key can be made.
pub async fn ensure(
    tx: &mut PgConnection,
    sealing: Sealing<'_>,
    purpose: Purpose,
    alg: Alg,
) -> Result<Option<String>, Refused> {
    store::lock_purpose(tx, purpose.as_str(), alg.as_str()).await?;
    let wait = match store::youngest_age(tx, purpose.as_str(), alg.as_str()).await? {
        // The first of its kind signs at once: nobody has a key set that lacks it and a token that needs it.
        None => Duration::ZERO,
        Some(signed_for) if signed_for >= SIGNS_FOR => PUBLISHED_BEFORE,
        Some(_) => return Ok(None),
    };
    let kid = add(tx, sealing, purpose, alg, wait).await?;
    Ok(Some(kid).filter(|_| !wait.is_zero()))
}

/// Ends a signing key for good, and makes its successor, which signs at once: a thief signs as fast as we do.
///
/// # Errors
///
/// There is no such key of session tokens.
pub async fn replace(tx: &mut PgConnection, sealing: Sealing<'_>, by: &Caller, kid: &str) -> Result<(), Refused> {
    let alg = store::revoke(tx, kid).await?.ok_or_else(|| Refused::not_found("signing key"))?;
    let alg = Alg::parse(&alg).ok_or_else(|| Refused::new(Code::Internal, "The key's algorithm is not known."))?;
    add(tx, sealing, Purpose::Session, alg, Duration::ZERO).await?;
    audit::append(tx, &Entry::new(by, "signing_key.replaced").on(kid)).await?;
    Ok(())
}

async fn add(
    tx: &mut PgConnection,
    sealing: Sealing<'_>,
    purpose: Purpose,
    alg: Alg,
    wait: Duration,
) -> Result<String, Refused> {
    // RSA takes seconds of computing; the other work of this thread must not wait for it.
    let mut making = tokio::task::spawn_blocking(move || make::make(alg));
    // The database ends transactions in which nothing happens; this one must outlive a slow machine.
    let made = loop {
        match tokio::time::timeout(SIGN_OF_LIFE_EVERY, &mut making).await {
            Ok(made) => break made,
            Err(_) => tx.ping().await?,
        }
    };
    let made =
        made.ok().and_then(Result::ok).ok_or_else(|| Refused::new(Code::Internal, "No signing key could be made."))?;
    let place = Place { table: "signing_keys", column: "private", row: &made.kid };
    let sealed = sealing.keyring.seal(sealing.secret_key, place, &made.private);
    let sealed = sealed.ok_or_else(|| Refused::new(Code::Internal, "No signing key could be sealed."))?;
    let new = store::New {
        kid: &made.kid,
        purpose: purpose.as_str(),
        alg: alg.as_str(),
        public_jwk: &made.public_jwk,
        secret_key: sealing.secret_key,
        private: &sealed,
        wait,
    };
    store::insert(tx, &new).await?;
    let by = Caller::nobody("system".to_owned());
    let entry = Entry::new(&by, "signing_key.created")
        .on(&made.kid)
        .with("alg", alg.as_str())
        .with("purpose", purpose.as_str());
    audit::append(tx, &entry).await?;
    Ok(made.kid)
}

/// Retires what a younger key has replaced, forgets private halves that sign no more, and seals the others anew under the
/// newest secret key.
///
/// # Errors
///
/// The database refuses, or a private key cannot be opened.
pub async fn tidy(tx: &mut PgConnection, sealing: Sealing<'_>) -> Result<(), LoadError> {
    store::retire(tx).await?;
    for row in store::sealed_under_others(tx, sealing.secret_key).await? {
        let place = Place { table: "signing_keys", column: "private", row: &row.kid };
        let open = sealing
            .keyring
            .open(&row.secret_key, place, &row.private)
            .map_err(|error| LoadError::Sealed(row.kid.clone(), error))?;
        if let Some(sealed) = sealing.keyring.seal(sealing.secret_key, place, &open) {
            store::reseal(tx, &row.kid, sealing.secret_key, &sealed).await?;
        }
    }
    Ok(())
}
