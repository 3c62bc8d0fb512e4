//! Signatures of reports: GitHub's, and those of reporters that operators named (Standard Webhooks, `v1a`).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use url::Url;

use crate::outbound::{Documents, Failure, Outbound, Shape};
use crate::settings::{LeakReporter, Leaks};
use crate::types::clock::{BootInstant, Timestamp};

/// Seconds that a report may be old, or early by the reporter's clock.
pub const TOLERANCE_SECONDS: i64 = 300;
/// Bytes of the document with GitHub's keys.
const KEYS_BYTES_MAX: usize = 64 * 1024;
/// Keys in it that are looked at.
const KEYS_MAX: usize = 32;
/// The address may be changed; no more than these are remembered.
const DOCUMENTS_MAX: usize = 4;
const KEY_ID_BYTES_MAX: usize = 128;
const SIGNATURE_BYTES_MAX: usize = 512;
/// Before the point of a P-256 key (RFC 5480 §2): the algorithm, and that 65 bytes of an uncompressed point follow.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_BYTES: usize = 65;

/// GitHub's signature of a report, and which of its keys made it.
pub struct Signature<'a> {
    key_id: &'a str,
    bytes: Vec<u8>,
}

impl<'a> Signature<'a> {
    /// Reads both headers; `None` when they cannot be right, whatever the keys are.
    #[must_use]
    pub fn read(key_id: &'a str, signature: &str) -> Option<Self> {
        let named = !key_id.is_empty() && key_id.len() <= KEY_ID_BYTES_MAX && signature.len() <= SIGNATURE_BYTES_MAX;
        let bytes = STANDARD.decode(signature).ok().filter(|bytes| named && !bytes.is_empty())?;
        Some(Self { key_id, bytes })
    }
}

/// GitHub's keys by their ids.
struct Keys(Vec<(String, [u8; POINT_BYTES])>);

#[derive(Deserialize)]
struct Wire {
    public_keys: Vec<WireKey>,
}

#[derive(Deserialize)]
struct WireKey {
    key_identifier: String,
    key: String,
}

/// It is no document of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a list of public keys")]
struct NoKeys;

impl Keys {
    /// Keys of a kind that is not known here are left out: a new kind must not end the old.
    fn read(_: &Url, bytes: &[u8]) -> Result<Self, NoKeys> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| NoKeys)?;
        let keys = wire.public_keys.into_iter().take(KEYS_MAX);
        Ok(Self(keys.filter_map(|key| Some((key.key_identifier, point(&key.key)?))).collect()))
    }

    fn find(&self, id: &str) -> Option<&[u8; POINT_BYTES]> {
        self.0.iter().find(|(known, _)| known == id).map(|(_, point)| point)
    }
}

fn point(pem: &str) -> Option<[u8; POINT_BYTES]> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
    der.as_ref().strip_prefix(&P256_PREFIX)?.try_into().ok()
}

/// GitHub's keys, fetched when they are needed and kept as long as GitHub says, within our bounds.
pub struct GitHubKeys {
    documents: Documents<Keys, NoKeys>,
}

impl GitHubKeys {
    /// None are there yet.
    #[must_use]
    pub fn new(outbound: Outbound) -> Self {
        let shape = Shape { bytes_max: KEYS_BYTES_MAX, count_max: DOCUMENTS_MAX, read: Keys::read };
        Self { documents: Documents::new(outbound, shape) }
    }

    /// Whether GitHub signed these bytes. An id that is not known makes us ask anew, once in
    /// [`crate::outbound::RENEWED_AFTER`] at most, whoever sends it. `None`: GitHub's keys cannot be had now.
    pub async fn verify(&self, url: &Url, signature: &Signature<'_>, body: &[u8], now: BootInstant) -> Option<bool> {
        let mut keys = self.documents.get(url, now).await;
        if keys.as_ref().is_ok_and(|keys| keys.find(signature.key_id).is_none()) {
            keys = self.documents.renew(url, now).await;
        }
        match keys {
            Ok(keys) => Some(keys.find(signature.key_id).is_some_and(|point| {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(body, &signature.bytes).is_ok()
            })),
            Err(failure) => {
                log(&failure);
                None
            }
        }
    }
}

fn log(failure: &Failure<NoKeys>) {
    tracing::warn!(%failure, "GitHub's keys cannot be had: its report of a leak is refused for now");
}

/// Who signed these bytes: `id`, `timestamp` and `signatures` are the headers of Standard Webhooks. `None`: nobody that
/// operators named, or not just now.
#[must_use]
pub fn signed_by<'a>(
    leaks: &'a Leaks,
    (id, timestamp, signatures): (&str, &str, &str),
    body: &[u8],
    now: Timestamp,
) -> Option<&'a LeakReporter> {
    let sent: i64 = timestamp.parse().ok()?;
    if (now.seconds() - sent).abs() > TOLERANCE_SECONDS || signatures.len() > SIGNATURE_BYTES_MAX {
        return None;
    }
    let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let given: Vec<Vec<u8>> =
        signatures.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1a,")?).ok()).collect();
    leaks.reporters.iter().find(|reporter| {
        reporter.key().is_some_and(|key| {
            let key = UnparsedPublicKey::new(&ED25519, key);
            given.iter().any(|signature| key.verify(&message, signature).is_ok())
        })
    })
}
