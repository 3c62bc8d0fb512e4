//! What deliveries are signed with (Standard Webhooks): made here, sealed at rest, opened for the time of a delivery.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sqlx::PgConnection;
use zeroize::Zeroizing;

use crate::db;
use crate::refusal::{Code, Refused};
use crate::secrets::Sealing;
use crate::types::clock::Timestamp;
use crate::types::id::WebhookId;
use crate::types::keyring::{CannotOpen, Keyring, Place};
use crate::webhooks::store;

/// Bytes of a shared secret, and of the seed of a key pair.
const SECRET_BYTES: usize = 32;
/// Keys that are sealed anew at a time.
const RESEALED_AT_ONCE: i64 = 100;

/// How deliveries are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = WebhookSignature)]
pub enum Signature {
    /// HMAC-SHA-256 with a secret that the receiver has too.
    V1,
    /// Ed25519: the receiver has the public half, and whoever steals it from there can forge nothing.
    #[default]
    V1a,
}

impl Signature {
    /// Its name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1a => "v1a",
        }
    }

    /// Reads the name; what is no name is `v1a`, under which a shared secret is never used.
    pub(super) fn parse(name: &str) -> Self {
        if name == Self::V1.as_str() { Self::V1 } else { Self::V1a }
    }
}

/// What a receiver needs to check what comes: one of the two.
#[derive(Debug, Default)]
pub struct Secrets {
    /// `whsec_…`, to be shown once.
    pub secret: Option<Zeroizing<String>>,
    /// `whpk_…`, no secret.
    pub public_key: Option<String>,
}

/// A key that was just made.
pub(super) struct Made {
    bits: Zeroizing<[u8; SECRET_BYTES]>,
    pub(super) shown: Secrets,
}

impl Made {
    /// A new key.
    ///
    /// # Errors
    ///
    /// The cryptography library refuses.
    pub(super) fn new(signature: Signature) -> Result<Self, Refused> {
        use rand::RngExt;
        let mut bits = Zeroizing::new([0; SECRET_BYTES]);
        rand::rng().fill(&mut bits[..]);
        let shown = match signature {
            Signature::V1 => Secrets {
                secret: Some(Zeroizing::new(format!("whsec_{}", STANDARD.encode(&bits[..])))),
                public_key: None,
            },
            Signature::V1a => {
                let pair = Ed25519KeyPair::from_seed_unchecked(&bits[..]).map_err(|_| cannot("made"))?;
                Secrets {
                    secret: None,
                    public_key: Some(format!("whpk_{}", STANDARD.encode(pair.public_key().as_ref()))),
                }
            }
        };
        Ok(Self { bits, shown })
    }

    /// Sealed, as it stands in its row.
    ///
    /// # Errors
    ///
    /// The cryptography library refuses.
    pub(super) fn seal(&self, sealing: Sealing<'_>, row: &str) -> Result<Vec<u8>, Refused> {
        sealing.keyring.seal(sealing.secret_key, place(row), &self.bits[..]).ok_or_else(|| cannot("sealed"))
    }
}

fn cannot(what: &str) -> Refused {
    Refused::new(Code::Internal, format!("The webhook's key cannot be {what}."))
}

/// A sealed key as it is stored.
pub(super) struct KeyRow {
    pub(super) id: String,
    pub(super) secret_key: String,
    pub(super) sealed: Vec<u8>,
}

/// A key that signs.
pub(super) enum Signer {
    V1(Box<hmac::Key>),
    V1a(Ed25519KeyPair),
}

impl Signer {
    /// Opens one.
    ///
    /// # Errors
    ///
    /// Its secret key is not among this node's, or it was changed or moved.
    pub(super) fn open(keyring: &Keyring, signature: Signature, key: &KeyRow) -> Result<Self, CannotOpen> {
        let bits = keyring.open(&key.secret_key, place(&key.id), &key.sealed)?;
        match signature {
            Signature::V1 => Ok(Self::V1(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &bits)))),
            Signature::V1a => {
                Ed25519KeyPair::from_seed_unchecked(&bits).map(Self::V1a).map_err(|_| CannotOpen::Tampered)
            }
        }
    }

    fn sign(&self, content: &[u8]) -> String {
        match self {
            Self::V1(key) => format!("v1,{}", STANDARD.encode(hmac::sign(key.as_ref(), content))),
            Self::V1a(pair) => format!("v1a,{}", STANDARD.encode(pair.sign(content))),
        }
    }
}

/// The header `webhook-signature`: one signature of each key, the newest first.
pub(super) fn header(signers: &[Signer], id: &str, at: Timestamp, body: &str) -> String {
    let content = format!("{id}.{}.{body}", at.seconds());
    signers.iter().map(|signer| signer.sign(content.as_bytes())).collect::<Vec<_>>().join(" ")
}

/// The primary key of a webhook's key.
pub(super) fn row(webhook: WebhookId, version: i32) -> String {
    format!("{webhook}.{version}")
}

const fn place(row: &str) -> Place<'_> {
    Place { table: "webhook_keys", column: "sealed", row }
}

/// Moves sealed keys to the newest secret key. What cannot be opened stays as it is: `doctor` says which key it needs.
///
/// # Errors
///
/// The database refuses.
pub async fn reseal(tx: &mut PgConnection, sealing: Sealing<'_>) -> db::Result<()> {
    for key in store::sealed_under_others(tx, sealing.secret_key, RESEALED_AT_ONCE).await? {
        let open = sealing.keyring.open(&key.secret_key, place(&key.id), &key.sealed).ok();
        let Some(sealed) = open.and_then(|open| sealing.keyring.seal(sealing.secret_key, place(&key.id), &open)) else {
            tracing::error!(key = key.id, secret_key = key.secret_key, "a webhook's key cannot be opened");
            continue;
        };
        store::reseal(tx, &key.id, sealing.secret_key, &sealed).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &str = r#"{"test": 2432232314}"#;

    #[test]
    fn a_signature_is_that_of_the_standards_own_library() {
        let bits = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signers = [Signer::V1(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &bits)))];
        let ours = header(&signers, ID, Timestamp::from_seconds(1_614_265_330), BODY);
        assert_eq!(ours, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let theirs = standardwebhooks::Webhook::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(theirs.sign(ID, 1_614_265_330, BODY.as_bytes()).unwrap(), ours);
    }

    #[test]
    fn what_the_private_half_signs_the_public_half_verifies() {
        let made = Made::new(Signature::V1a).unwrap();
        let signers = [Signer::V1a(Ed25519KeyPair::from_seed_unchecked(&made.bits[..]).unwrap())];
        let header = header(&signers, ID, Timestamp::from_seconds(1_614_265_330), BODY);
        let signature = STANDARD.decode(header.strip_prefix("v1a,").unwrap()).unwrap();
        assert!(made.shown.secret.is_none());
        let public = STANDARD.decode(made.shown.public_key.unwrap().strip_prefix("whpk_").unwrap()).unwrap();
        let public = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, public);
        public.verify(format!("{ID}.1614265330.{BODY}").as_bytes(), &signature).unwrap();
        assert!(public.verify(format!("{ID}.1614265331.{BODY}").as_bytes(), &signature).is_err(), "another time");
    }
}
