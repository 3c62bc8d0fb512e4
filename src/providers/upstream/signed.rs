//! A provider's keys, and what they signed.
//!
//! Which algorithm counts is ours to say, never the token's: signatures by the provider's own asymmetric keys, and nothing
//! that a client secret or nobody at all could have made.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{CoreJsonWebKeySet, CoreJwsSigningAlgorithm};
use openidconnect::{JsonWebKey, JsonWebKeyAlgorithm, JsonWebKeyUse, JwsSigningAlgorithm as _};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::configuration::Unusable;
use crate::outbound::{Documents, Outbound, Shape};
use crate::providers::error::UpstreamError;
use crate::types::clock::{BootInstant, Timestamp};

/// Bytes of a key set. Those of large providers, with certificates, have some twenty thousand.
const KEY_SET_BYTES_MAX: usize = 64 * 1024;
/// Keys of a set that are looked at.
const KEYS_MAX: usize = 100;
/// Bytes of a token that a provider signed. Many groups make it long.
const TOKEN_BYTES_MAX: usize = 48 * 1024;

/// Bytes of an issuer's name at most.
const ISSUER_BYTES_MAX: usize = 512;

/// The algorithms that count.
pub(super) const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Key sets, each kept under the address that it was fetched from.
pub struct KeySets(Documents<KeySet, Unusable>);

impl KeySets {
    /// None is there yet; at most so many are kept.
    #[must_use]
    pub fn new(outbound: Outbound, count_max: usize) -> Self {
        Self(Documents::new(outbound, Shape { bytes_max: KEY_SET_BYTES_MAX, count_max, read: KeySet::read }))
    }

    /// The claims of a token that a key of the set at this address signed.
    ///
    /// # Errors
    ///
    /// None of them did, or the set cannot be had.
    pub async fn claims(&self, url: &Url, token: &Token<'_>, now: Timestamp) -> Result<Value, UpstreamError> {
        self.with(url, now, |keys| token.verify(keys)).await
    }

    /// Does it with the keys; once more with new ones when the one that is needed is not among them.
    pub(super) async fn with<T>(
        &self,
        url: &Url,
        now: Timestamp,
        verify: impl Fn(&KeySet) -> Result<T, Refusal>,
    ) -> Result<T, UpstreamError> {
        let now = moment(now);
        let known = self.0.get(url, now).await?;
        let first = verify(&known);
        if !matches!(first, Err(Refusal::UnknownKey)) {
            return Ok(first?);
        }
        let renewed = self.0.renew(url, now).await?;
        Ok(verify(&renewed)?)
    }
}

/// For documents: the database's clock, which only goes forward. Only differences count.
#[must_use]
pub fn moment(now: Timestamp) -> BootInstant {
    BootInstant::START.plus(Duration::from_micros(now.micros().max(0).unsigned_abs()))
}

/// A provider's published keys (RFC 7517 §5).
pub(super) struct KeySet(pub(super) CoreJsonWebKeySet);

impl KeySet {
    fn read(_: &Url, bytes: &[u8]) -> Result<Self, Unusable> {
        let keys: CoreJsonWebKeySet = serde_json::from_slice(bytes).map_err(|_| Unusable("key_set_invalid"))?;
        if keys.keys().len() > KEYS_MAX { Err(Unusable("key_set_invalid")) } else { Ok(Self(keys)) }
    }
}

/// Why a signed token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The key that it names is not among those that are known: they may be newer.
    UnknownKey,
    /// For good.
    Invalid(&'static str),
}

impl From<Refusal> for UpstreamError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownKey => Self::Untrusted("unknown_key"),
            Refusal::Invalid(word) => Self::Untrusted(word),
        }
    }
}

/// A signed token, taken apart.
pub struct Token<'a> {
    header: Header,
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: CoreJwsSigningAlgorithm,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
    #[serde(rename = "enc")]
    encrypted: Option<Value>,
}

impl<'a> Token<'a> {
    /// Takes a compact JWS apart (RFC 7515 §7.1). Nothing of it counts yet.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one stable word.
    pub fn read(text: &'a str) -> Result<Self, &'static str> {
        const MALFORMED: &str = "token_malformed";
        if text.len() > TOKEN_BYTES_MAX {
            return Err("token_too_large");
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, payload) = signed.split_once('.').ok_or(MALFORMED)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| MALFORMED)?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| MALFORMED)?;
        // An algorithm that is not known, `none` among them, is no algorithm.
        let header: Header = serde_json::from_slice(&header).map_err(|_| "token_algorithm")?;
        if !ALGORITHMS.contains(&header.alg) || header.crit.is_some() || header.encrypted.is_some() {
            return Err("token_algorithm");
        }
        Ok(Self { header, signed, payload, signature })
    }

    /// The type that it gives itself, in small letters and without `application/`.
    #[must_use]
    pub fn typ(&self) -> Option<String> {
        let typ = self.header.typ.as_ref()?.to_ascii_lowercase();
        Some(typ.strip_prefix("application/").map(str::to_owned).unwrap_or(typ))
    }

    /// Who it says signed it: for finding the keys, and believed of nobody.
    #[must_use]
    pub fn claimed_issuer(&self) -> Option<String> {
        let fits = |issuer: &&str| issuer.len() <= ISSUER_BYTES_MAX && !issuer.chars().any(char::is_control);
        payload(self.payload)?.get("iss")?.as_str().filter(fits).map(str::to_owned)
    }

    /// The claims, if a key of the set signed them.
    pub(super) fn verify(&self, keys: &KeySet) -> Result<Value, Refusal> {
        let mut fitting = keys.0.keys().iter().filter(|key| {
            let named = self.header.kid.as_deref().is_none_or(|kid| key.key_id().is_some_and(|id| id.as_str() == kid));
            let kind = self.header.alg.key_type().as_ref() == Some(key.key_type());
            let allowed = match key.signing_alg() {
                JsonWebKeyAlgorithm::Algorithm(alg) => *alg == self.header.alg,
                JsonWebKeyAlgorithm::Unspecified => true,
                JsonWebKeyAlgorithm::Unsupported => false,
            };
            named && kind && allowed && key.key_use().is_none_or(JsonWebKeyUse::allows_signature)
        });
        // OpenID Connect Core §10.1: with several keys the token must name its own.
        let (Some(key), None) = (fitting.next(), fitting.next()) else { return Err(Refusal::UnknownKey) };
        key.verify_signature(&self.header.alg, self.signed.as_bytes(), &self.signature)
            .map_err(|_| Refusal::Invalid("token_signature"))?;
        payload(self.payload).ok_or(Refusal::Invalid("token_malformed"))
    }
}

/// The claims of a payload whose signature was verified.
pub(super) fn payload(text: &str) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}
