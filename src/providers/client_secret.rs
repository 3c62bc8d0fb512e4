//! Our secret at a provider: sealed at rest, opened for one request at a time, never shown.

use std::fmt;

use sqlx::PgConnection;

use crate::db;
use crate::providers::store;
use crate::refusal::{Code, Refused};
use crate::secrets::Sealing;
use crate::types::id::ProviderId;
use crate::types::keyring::{CannotOpen, Keyring, Place};
use crate::types::redacted::Secret;

/// Secrets that are sealed anew at a time.
const RESEALED_AT_ONCE: i64 = 100;

/// A sealed secret, and the secret key that opens it.
#[derive(Clone)]
pub struct ClientSecret {
    pub(super) secret_key: String,
    pub(super) sealed: Vec<u8>,
}

impl ClientSecret {
    /// Seals it for the row of one provider.
    ///
    /// # Errors
    ///
    /// The cryptography library refuses.
    pub fn seal(sealing: Sealing<'_>, provider: ProviderId, secret: &Secret<String>) -> Result<Self, Refused> {
        let sealed = sealing.keyring.seal(sealing.secret_key, place(provider.as_str()), secret.reveal().as_bytes());
        let sealed = sealed.ok_or_else(|| Refused::new(Code::Internal, "The client secret cannot be sealed."))?;
        Ok(Self { secret_key: sealing.secret_key.to_owned(), sealed })
    }

    /// The secret of that provider.
    ///
    /// # Errors
    ///
    /// Its secret key is not among this node's, or it was changed or moved.
    pub fn open(&self, keyring: &Keyring, provider: ProviderId) -> Result<Secret<String>, CannotOpen> {
        let open = keyring.open(&self.secret_key, place(provider.as_str()), &self.sealed)?;
        let text = String::from_utf8(open.to_vec()).map_err(|_| CannotOpen::Tampered)?;
        Ok(Secret::new(text))
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "ClientSecret(under {})", self.secret_key)
    }
}

const fn place(row: &str) -> Place<'_> {
    Place { table: "providers", column: "client_secret", row }
}

/// Moves sealed secrets to the newest secret key. What cannot be opened stays as it is: `doctor` says which key it needs.
///
/// # Errors
///
/// The database refuses.
pub async fn reseal(tx: &mut PgConnection, sealing: Sealing<'_>) -> db::Result<()> {
    for (id, under) in store::sealed_under_others(tx, sealing.secret_key, RESEALED_AT_ONCE).await? {
        let moved = under.open(sealing.keyring, id).ok().and_then(|open| ClientSecret::seal(sealing, id, &open).ok());
        match moved {
            Some(moved) => store::set_client_secret(tx, id, Some(&moved)).await?,
            None => {
                tracing::error!(provider = %id, secret_key = under.secret_key, "its client secret cannot be opened");
            }
        }
    }
    Ok(())
}
