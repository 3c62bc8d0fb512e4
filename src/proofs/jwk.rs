//! The public key in a proof's header: which keys may prove something, with which algorithm, and what they are called.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use crate::types::thumbprint::Thumbprint;

/// Members of a JWK that only its owner may know (RFC 7518 §6.2.2, §6.3.2, §6.4).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// Bytes of an RSA modulus: 2048 to 4096 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;
/// Bytes of an RSA exponent at most; 65537 has three.
const EXPONENT_BYTES_MAX: usize = 4;

/// An algorithm that proofs may be signed with: asymmetric ones only (RFC 9449 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofAlg {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
}

impl ProofAlg {
    /// Every algorithm, as the metadata lists them.
    pub const ALL: [Self; 5] = [Self::Es256, Self::Es384, Self::EdDsa, Self::Ps256, Self::Rs256];

    /// Its name in JOSE headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Ps256 => "PS256",
            Self::Rs256 => "RS256",
        }
    }

    /// Reads the name; `None` for any other.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.as_str() == name)
    }

    pub(super) const fn algorithm(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::EdDsa => Algorithm::EdDSA,
            Self::Ps256 => Algorithm::PS256,
            Self::Rs256 => Algorithm::RS256,
        }
    }
}

/// A key that a proof may be checked with, by the algorithm that its header names.
pub(super) struct ProofKey {
    pub(super) key: DecodingKey,
    pub(super) thumbprint: Thumbprint,
}

impl ProofKey {
    /// Reads the `jwk`. `None`: it is not public, not of the algorithm's kind, on another curve, or too weak.
    pub(super) fn read(jwk: &Map<String, Value>, alg: ProofAlg) -> Option<Self> {
        if PRIVATE_MEMBERS.iter().any(|name| jwk.contains_key(*name)) {
            return None;
        }
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        // What a key says about its use binds whoever checks with it (RFC 7517 §4.2 to §4.4).
        let signs = text("use").is_none_or(|used| used == "sig");
        let own =
            text("alg").is_none_or(|named| named == alg.as_str() || (named == "Ed25519" && alg == ProofAlg::EdDsa));
        if !signs || !own {
            return None;
        }
        let (kty, crv) = (text("kty")?, text("crv"));
        match (alg, kty, crv) {
            (ProofAlg::Es256, "EC", Some("P-256")) => Self::ec("P-256", 32, (text("x")?, text("y")?)),
            (ProofAlg::Es384, "EC", Some("P-384")) => Self::ec("P-384", 48, (text("x")?, text("y")?)),
            (ProofAlg::EdDsa, "OKP", Some("Ed25519")) => Self::ed(text("x")?),
            (ProofAlg::Ps256 | ProofAlg::Rs256, "RSA", _) => Self::rsa(text("n")?, text("e")?),
            _ => None,
        }
    }

    fn ec(curve: &str, bytes: usize, (x, y): (&str, &str)) -> Option<Self> {
        let whole = |one: &str| decoded(one).is_some_and(|one| one.len() == bytes);
        if !whole(x) || !whole(y) {
            return None;
        }
        let key = DecodingKey::from_ec_components(x, y).ok()?;
        Some(Self {
            key,
            thumbprint: Thumbprint::of(&format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#)),
        })
    }

    fn ed(x: &str) -> Option<Self> {
        decoded(x).filter(|x| x.len() == 32)?;
        let key = DecodingKey::from_ed_components(x).ok()?;
        Some(Self { key, thumbprint: Thumbprint::of(&format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)) })
    }

    fn rsa(n: &str, e: &str) -> Option<Self> {
        let (modulus, exponent) = (decoded(n)?, decoded(e)?);
        // RFC 7518 §2: a number has no leading zeros, so that a key has one thumbprint.
        let plain = |number: &[u8]| number.first().is_some_and(|first| *first != 0);
        let strong = RSA_BYTES.contains(&modulus.len()) && (1..=EXPONENT_BYTES_MAX).contains(&exponent.len());
        if !strong || !plain(&modulus) || !plain(&exponent) {
            return None;
        }
        let key = DecodingKey::from_rsa_components(n, e).ok()?;
        Some(Self { key, thumbprint: Thumbprint::of(&format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)) })
    }
}

/// What stands in the thumbprint's text is nothing but base64url, in its one form.
fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
