//! Makes key pairs, and reads private keys back.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::types::alg::Alg;

/// The cryptography library refused.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no key pair could be made")]
pub struct MakeError;

/// A new key pair.
pub(super) struct Made {
    /// Its thumbprint (RFC 7638).
    pub(super) kid: String,
    /// PKCS #8.
    pub(super) private: Zeroizing<Vec<u8>>,
    /// The public half, with `kid`, `alg` and `use`.
    pub(super) public_jwk: Value,
}

pub(super) fn make(alg: Alg) -> Result<Made, MakeError> {
    let (private, mut jwk) = match alg {
        Alg::EdDsa => ed25519()?,
        Alg::Es256 => p256()?,
        Alg::Rs256 => rsa()?,
    };
    // RFC 7638 §3: the required members alone, in lexicographic order; serde_json keeps maps sorted.
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, jwk.to_string().as_bytes());
    let kid = URL_SAFE_NO_PAD.encode(digest.as_ref());
    if let Some(members) = jwk.as_object_mut() {
        members.insert("kid".to_owned(), json!(kid));
        members.insert("alg".to_owned(), json!(alg.as_str()));
        members.insert("use".to_owned(), json!("sig"));
    }
    Ok(Made { kid, private, public_jwk: jwk })
}

fn ed25519() -> Result<(Zeroizing<Vec<u8>>, Value), MakeError> {
    let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| MakeError)?;
    let private = Zeroizing::new(pair.as_ref().to_vec());
    let read = Ed25519KeyPair::from_pkcs8(&private).map_err(|_| MakeError)?;
    let x = URL_SAFE_NO_PAD.encode(read.public_key().as_ref());
    Ok((private, json!({"kty": "OKP", "crv": "Ed25519", "x": x})))
}

fn p256() -> Result<(Zeroizing<Vec<u8>>, Value), MakeError> {
    let pair =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).map_err(|_| MakeError)?;
    let private = Zeroizing::new(pair.as_ref().to_vec());
    let read = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &private).map_err(|_| MakeError)?;
    // An uncompressed point: 4, then both coordinates.
    let (x, y) = read.public_key().as_ref().get(1..).and_then(|point| point.split_at_checked(32)).ok_or(MakeError)?;
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    Ok((private, json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})))
}

fn rsa() -> Result<(Zeroizing<Vec<u8>>, Value), MakeError> {
    let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).map_err(|_| MakeError)?;
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(|_| MakeError)?;
    let private = Zeroizing::new(der.as_ref().to_vec());
    let public = pair.public_key();
    let n = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
    let e = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
    Ok((private, json!({"kty": "RSA", "n": n, "e": e})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_32_a_published_key_has_no_private_member() {
        for alg in [Alg::EdDsa, Alg::Es256, Alg::Rs256] {
            let made = make(alg).unwrap();
            for member in ["d", "p", "q", "k", "dp", "dq", "qi"] {
                assert!(made.public_jwk.get(member).is_none(), "{alg:?} {member}");
            }
        }
    }
}
