//! Proofs that whoever sends a request has a key (`DPoP`, RFC 9449). Owns `proofs`.
//!
//! [`Proof::check`] decides from the text alone. [`use_up`] makes a proof good once, on whatever node; nonces bound how long before
//! it may have been made.

mod jwk;
mod nonce;
mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::Url;

use crate::db::{self, Db};
use crate::types::clock::Timestamp;
use crate::types::opaque;
use crate::types::thumbprint::Thumbprint;

pub use jwk::ProofAlg;
pub use nonce::{NONCE_LIFE, fresh as fresh_nonce, is_good as is_good_nonce};
pub use store::expire;

/// Bytes of a proof at most. One with an RSA key of 4096 bits has two thousand.
pub const PROOF_BYTES_MAX: usize = 8 * 1024;
/// How far from the database's clock, before it or after, a proof may say that it was made (RFC 9449 §11.1).
pub const PROOF_AGE_MAX: Duration = Duration::from_mins(5);
/// Bytes of a `jti` at most.
pub const JTI_BYTES_MAX: usize = 512;
/// What a proof says that it is (RFC 9449 §4.2).
const TYP: &str = "dpop+jwt";

/// Why a proof proves nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A proof is needed, and there is none.
    #[error("a DPoP proof is needed")]
    Missing,
    /// There are several headers.
    #[error("one DPoP header at most")]
    Several,
    /// No JWS in compact form with the members that are needed, or too large.
    #[error("the DPoP proof cannot be read, or lacks a claim")]
    Malformed,
    /// Another kind of token.
    #[error("typ must be dpop+jwt")]
    Type,
    /// Symmetric, none, or one that we do not know.
    #[error("alg must be one of dpop_signing_alg_values_supported")]
    Algorithm,
    /// Not public, not of the algorithm, or too weak.
    #[error("jwk must be a public key of the algorithm, RSA with 2048 to 4096 bits")]
    Key,
    /// The signature is not the key's over this text.
    #[error("the proof's signature is wrong")]
    Signature,
    /// Made for another method.
    #[error("htm is not the request's method")]
    Method,
    /// Made for another address.
    #[error("htu is not the address that the metadata names")]
    Uri,
    /// Too old, or from the future.
    #[error("iat is not within five minutes of the clock here")]
    Time,
    /// Made for another access token, or for one where there is none.
    #[error("ath is not that of the token in the request")]
    Token,
    /// It was shown before.
    #[error("the proof was used before; make a new one for each request")]
    Replayed,
    /// The request is made with one key and names another.
    #[error("the proof is made with another key than dpop_jkt names")]
    OtherKey,
}

impl Wrong {
    /// A stable name, for the audit.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Missing => "proof_missing",
            Self::Several => "proof_several",
            Self::Malformed => "proof_malformed",
            Self::Type => "proof_type",
            Self::Algorithm => "proof_algorithm",
            Self::Key => "proof_key",
            Self::Signature => "proof_signature",
            Self::Method => "proof_method",
            Self::Uri => "proof_uri",
            Self::Time => "proof_time",
            Self::Token => "proof_token",
            Self::Replayed => "proof_replayed",
            Self::OtherKey => "proof_other_key",
        }
    }
}

/// The request that a proof comes with.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its address, as clients know it.
    pub uri: &'a str,
    /// The access token that it is about, if it shows one.
    pub token: Option<&'a str>,
    /// The database's clock.
    pub now: Timestamp,
}

/// A proof in which everything is right. Whether it was shown before is not known yet: see [`use_up`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The key that its sender has.
    pub key: Thumbprint,
    /// The nonce in it.
    pub nonce: Option<String>,
    digest: [u8; 32],
    ends: Timestamp,
}

#[derive(Deserialize)]
struct Header {
    typ: Option<String>,
    alg: String,
    jwk: Option<Map<String, Value>>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: f64,
    nonce: Option<String>,
    ath: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

impl Proof {
    /// Checks a proof (RFC 9449 §4.3), all but whether it was shown before and whether its nonce is ours.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(text: &str, shown: &Shown<'_>) -> Result<Self, Wrong> {
        let (signed, signature) =
            text.rsplit_once('.').filter(|_| text.len() <= PROOF_BYTES_MAX).ok_or(Wrong::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Wrong::Malformed)?;
        let header: Header = part(header)?;
        if header.typ.as_deref() != Some(TYP) {
            return Err(Wrong::Type);
        }
        let alg = ProofAlg::parse(&header.alg).ok_or(Wrong::Algorithm)?;
        let jwk = header.jwk.ok_or(Wrong::Key)?;
        // Extensions that change what a JWS means must not be passed over (RFC 7515 §4.1.11), and we know none.
        if header.crit.is_some() {
            return Err(Wrong::Malformed);
        }
        let key = jwk::ProofKey::read(&jwk, alg).ok_or(Wrong::Key)?;
        let right = jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, alg.algorithm());
        if !right.unwrap_or(false) {
            return Err(Wrong::Signature);
        }
        let claims: Claims = part(claims)?;
        claims.check(shown)?;
        let made = date(claims.iat).ok_or(Wrong::Malformed)?;
        let digest = opaque::sha256_of(&[key.thumbprint.as_str(), &claims.jti]);
        Ok(Self { key: key.thumbprint, nonce: claims.nonce, digest, ends: made.plus(PROOF_AGE_MAX) })
    }
}

impl Claims {
    fn check(&self, shown: &Shown<'_>) -> Result<(), Wrong> {
        if self.jti.is_empty() || self.jti.len() > JTI_BYTES_MAX {
            return Err(Wrong::Malformed);
        }
        if self.htm != shown.method {
            return Err(Wrong::Method);
        }
        if !is_same_address(&self.htu, shown.uri) {
            return Err(Wrong::Uri);
        }
        let made = date(self.iat).ok_or(Wrong::Malformed)?;
        let mut in_time = shown.now <= made.plus(PROOF_AGE_MAX) && made <= shown.now.plus(PROOF_AGE_MAX);
        if let Some(exp) = self.exp {
            in_time &= shown.now < date(exp).ok_or(Wrong::Malformed)?;
        }
        if let Some(nbf) = self.nbf {
            in_time &= date(nbf).ok_or(Wrong::Malformed)? <= shown.now.plus(PROOF_AGE_MAX);
        }
        if !in_time {
            return Err(Wrong::Time);
        }
        // A proof made for one token must not be carried to where there is another, or none.
        let right =
            |ath: &String| shown.token.is_some_and(|token| *ath == URL_SAFE_NO_PAD.encode(opaque::sha256(token)));
        if self.ath.as_ref().is_none_or(right) { Ok(()) } else { Err(Wrong::Token) }
    }
}

fn part<T: DeserializeOwned>(encoded: &str) -> Result<T, Wrong> {
    let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Wrong::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Wrong::Malformed)
}

/// A `NumericDate` (RFC 7519 §2) that can be one.
fn date(seconds: f64) -> Option<Timestamp> {
    Some(Timestamp::from_seconds(0).plus(Duration::try_from_secs_f64(seconds).ok()?))
}

/// Whether two addresses are one, without query and fragment, once both are written the same way (RFC 9449 §4.3, RFC 3986 §6.2.2
/// and §6.2.3).
fn is_same_address(one: &str, other: &str) -> bool {
    let address = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| url.has_host() && url.username().is_empty())?;
        if url.password().is_some() {
            return None;
        }
        Some((url.scheme().to_owned(), url.host_str()?.to_owned(), url.port_or_known_default(), plainly(url.path())))
    };
    address(one).is_some_and(|one| address(other).is_some_and(|other| one == other))
}

/// A path in which nothing is encoded that need not be.
fn plainly(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        let hex = after.get(..2).unwrap_or(after);
        let sign = u8::from_str_radix(hex, 16).map(char::from).ok();
        if let Some(sign) = sign.filter(|sign| sign.is_ascii_alphanumeric() || "-._~".contains(*sign)) {
            plain.push(sign);
        } else {
            plain.push('%');
            plain.push_str(&hex.to_ascii_uppercase());
        }
        rest = after.get(hex.len()..).unwrap_or_default();
    }
    plain + rest
}

/// Uses up a proof, on every node. False when it was shown before.
///
/// # Errors
///
/// The database refuses.
pub async fn use_up(db: &Db, proof: &Proof) -> db::Result<bool> {
    let mut tx = db.begin().await?;
    let first = store::insert(&mut tx, &proof.digest, proof.ends.to_utc()).await?;
    db::commit(tx).await?;
    Ok(first)
}
