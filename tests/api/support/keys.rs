//! Key pairs of clients, and the assertions that they sign.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

use super::jwt::{assemble, encode};

/// What signs.
enum Private {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A key pair with its name in a key set.
pub struct Signing {
    private: Private,
    /// The public half (RFC 7517 §4).
    pub jwk: Value,
}

impl Signing {
    /// A pair for `EdDSA`, `ES256` or `RS256`.
    pub fn new(alg: &str, kid: &str) -> Self {
        let random = SystemRandom::new();
        let (private, mut jwk) = match alg {
            "EdDSA" => {
                let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).expect("a pair");
                let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("read");
                let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())});
                (Private::Ed25519(pair), jwk)
            }
            "ES256" => {
                let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a pair");
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).expect("read");
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)});
                (Private::P256(pair), jwk)
            }
            "RS256" => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a pair");
                let public = pair.public_key();
                let n = encode(public.modulus().big_endian_without_leading_zero());
                let e = encode(public.exponent().big_endian_without_leading_zero());
                (Private::Rsa(pair), json!({"kty": "RSA", "n": n, "e": e}))
            }
            other => panic!("no pair for {other}"),
        };
        jwk["kid"] = json!(kid);
        Self { private, jwk }
    }

    /// A key set of these.
    pub fn set(keys: &[&Self]) -> Value {
        json!({"keys": keys.iter().map(|key| key.jwk.clone()).collect::<Vec<_>>()})
    }

    /// A signed JWT with exactly this header.
    pub fn jwt(&self, header: &Value, claims: &Value) -> String {
        assemble(header, claims, |text| self.sign(text))
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.private {
            Private::Ed25519(pair) => pair.sign(text).as_ref().to_vec(),
            Private::P256(pair) => pair.sign(&random, text).expect("signed").as_ref().to_vec(),
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).expect("signed");
                signature
            }
        }
    }
}
