//! What proves something, and what does not.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const URI: &str = "https://auth.example.com/oauth/token";
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A key, its algorithm and its JWK.
struct Signer {
    alg: &'static str,
    jwk: Value,
    sign: Sign,
}

impl Signer {
    fn ec(alg: &'static str, curve: &str, algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let point = pair.public_key().as_ref()[1..].to_vec();
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)});
        let sign = move |text: &[u8]| pair.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec();
        Self { alg, jwk, sign: Box::new(sign) }
    }

    fn es256() -> Self {
        Self::ec("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    fn es384() -> Self {
        Self::ec("ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn eddsa() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key())});
        Self { alg: "EdDSA", jwk, sign: Box::new(move |text| pair.sign(text).as_ref().to_vec()) }
    }

    fn rsa(alg: &'static str, padding: &'static dyn RsaEncoding, size: KeySize) -> Self {
        let pair = RsaKeyPair::generate(size).unwrap();
        let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
        let jwk = json!({"kty": "RSA", "n": encode(n.big_endian_without_leading_zero()), "e": encode(e.big_endian_without_leading_zero())});
        let sign = move |text: &[u8]| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(padding, &SystemRandom::new(), text, &mut signature).unwrap();
            signature
        };
        Self { alg, jwk, sign: Box::new(sign) }
    }

    fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": self.alg, "jwk": self.jwk})
    }

    fn proof(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = (self.sign)(signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }
}

fn claims() -> Value {
    json!({"jti": "one", "htm": "POST", "htu": URI, "iat": NOW.seconds()})
}

fn with(object: &Value, member: &str, value: Value) -> Value {
    let mut changed = object.clone();
    changed[member] = value;
    changed
}

fn without(object: &Value, member: &str) -> Value {
    let mut changed = object.clone();
    changed.as_object_mut().unwrap().remove(member);
    changed
}

const SHOWN: Shown<'_> = Shown { method: "POST", uri: URI, token: None, now: NOW };

#[test]
fn every_algorithm_of_the_metadata_proves_with_its_own_kind_of_key_and_with_no_other() {
    let signers = [
        Signer::es256(),
        Signer::es384(),
        Signer::eddsa(),
        Signer::rsa("PS256", &RSA_PSS_SHA256, KeySize::Rsa2048),
        Signer::rsa("RS256", &RSA_PKCS1_SHA256, KeySize::Rsa2048),
    ];
    assert!(ProofAlg::ALL.iter().all(|alg| signers.iter().any(|signer| signer.alg == alg.as_str())));
    for signer in &signers {
        let proof = Proof::check(&signer.proof(&signer.header(), &claims()), &SHOWN).unwrap();
        let jwk = serde_json::from_value::<jsonwebtoken::jwk::Jwk>(signer.jwk.clone()).unwrap();
        let known = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap();
        assert_eq!(proof.key.as_str(), known, "{}", signer.alg);
        for other in signers.iter().filter(|other| other.alg != signer.alg) {
            let named = with(&signer.header(), "alg", json!(other.alg));
            assert!(Proof::check(&signer.proof(&named, &claims()), &SHOWN).is_err(), "{} as {}", signer.alg, other.alg);
            let foreign = with(&signer.header(), "jwk", other.jwk.clone());
            assert!(
                Proof::check(&signer.proof(&foreign, &claims()), &SHOWN).is_err(),
                "{} by {}",
                other.alg,
                signer.alg
            );
        }
    }
}

#[test]
fn attack_12_no_header_but_the_right_one_proves_anything() {
    let signer = Signer::es256();
    let header = signer.header();
    let jwk = |changed: Value| with(&header, "jwk", changed);
    let cases = [
        (without(&header, "typ"), Wrong::Type),
        (with(&header, "typ", json!("JWT")), Wrong::Type),
        (with(&header, "typ", json!("at+jwt")), Wrong::Type),
        (without(&header, "alg"), Wrong::Malformed),
        (with(&header, "alg", json!("none")), Wrong::Algorithm),
        (with(&header, "alg", json!("None")), Wrong::Algorithm),
        (with(&header, "alg", json!("HS256")), Wrong::Algorithm),
        (with(&header, "alg", json!("es256")), Wrong::Algorithm),
        (with(&header, "alg", json!("ES512")), Wrong::Algorithm),
        (with(&header, "alg", json!("RS1")), Wrong::Algorithm),
        (with(&header, "crit", json!(["x"])), Wrong::Malformed),
        (without(&header, "jwk"), Wrong::Key),
        (jwk(json!({})), Wrong::Key),
        (jwk(json!("text")), Wrong::Malformed),
        (jwk(with(&signer.jwk, "d", json!("AAAA"))), Wrong::Key),
        (jwk(with(&signer.jwk, "k", json!("AAAA"))), Wrong::Key),
        (jwk(json!({"kty": "oct", "k": "AAAA"})), Wrong::Key),
        (jwk(json!({"kty": "oct", "crv": "P-256", "x": "AAAA", "y": "AAAA"})), Wrong::Key),
        (jwk(with(&signer.jwk, "crv", json!("P-384"))), Wrong::Key),
        (jwk(with(&signer.jwk, "crv", json!("secp256k1"))), Wrong::Key),
        (jwk(with(&signer.jwk, "use", json!("enc"))), Wrong::Key),
        (jwk(with(&signer.jwk, "alg", json!("ES384"))), Wrong::Key),
        (jwk(with(&signer.jwk, "x", signer.jwk["y"].clone())), Wrong::Signature),
        (jwk(with(&signer.jwk, "x", json!("\",\"kty\":\"RSA"))), Wrong::Key),
        (jwk(Signer::es256().jwk), Wrong::Signature),
    ];
    for (header, wrong) in cases {
        assert_eq!(Proof::check(&signer.proof(&header, &claims()), &SHOWN), Err(wrong), "{header}");
    }
    // What points elsewhere is never followed, and a name changes nothing.
    let elsewhere = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": signer.jwk, "jku": "https://x.example", "x5u": "https://x.example", "kid": "1"});
    assert!(Proof::check(&signer.proof(&elsewhere, &claims()), &SHOWN).is_ok());
}

#[test]
fn rsa_keys_are_neither_weak_nor_endless_and_have_one_name() {
    let strong = Signer::rsa("PS256", &RSA_PSS_SHA256, KeySize::Rsa2048);
    let key = |n: Vec<u8>, e: &[u8]| {
        let jwk = json!({"kty": "RSA", "n": encode(n), "e": encode(e)});
        jwk::ProofKey::read(jwk.as_object().unwrap(), ProofAlg::Ps256).is_some()
    };
    let n = URL_SAFE_NO_PAD.decode(strong.jwk["n"].as_str().unwrap()).unwrap();
    let e: &[u8] = &[1, 0, 1];
    assert!(key(n.clone(), e));
    assert!(!key(n[..255].to_vec(), e), "2040 bits");
    assert!(!key([&n[..], &n[..], &[1]].concat(), e), "more than 4096 bits");
    assert!(!key([&[0], &n[..]].concat(), e), "another text of the same number");
    assert!(!key(n.clone(), &[0, 1, 0, 1]) && !key(n.clone(), &[]) && !key(n.clone(), &[1; 5]));
    let tiny = Signer::rsa("RS256", &RSA_PKCS1_SHA256, KeySize::Rsa2048);
    let small = with(&tiny.jwk, "n", json!(encode([0xc1; 128])));
    let header = with(&tiny.header(), "jwk", small);
    assert_eq!(Proof::check(&tiny.proof(&header, &claims()), &SHOWN), Err(Wrong::Key), "1024 bits");
}

#[test]
fn a_proof_is_for_one_method_one_address_and_five_minutes() {
    let signer = Signer::eddsa();
    let at = |seconds: i64| json!(NOW.seconds() + seconds);
    let good = claims();
    let cases = [
        (without(&good, "jti"), Err(Wrong::Malformed)),
        (with(&good, "jti", json!("")), Err(Wrong::Malformed)),
        (with(&good, "jti", json!("a".repeat(513))), Err(Wrong::Malformed)),
        (with(&good, "jti", json!("a".repeat(512))), Ok(())),
        (with(&good, "jti", json!(1)), Err(Wrong::Malformed)),
        (without(&good, "htm"), Err(Wrong::Malformed)),
        (with(&good, "htm", json!("GET")), Err(Wrong::Method)),
        (with(&good, "htm", json!("post")), Err(Wrong::Method)),
        (without(&good, "htu"), Err(Wrong::Malformed)),
        (without(&good, "iat"), Err(Wrong::Malformed)),
        (with(&good, "iat", json!("1800000000")), Err(Wrong::Malformed)),
        (with(&good, "iat", json!(-1)), Err(Wrong::Malformed)),
        (with(&good, "iat", json!(1e300)), Err(Wrong::Malformed)),
        (with(&good, "iat", at(-300)), Ok(())),
        (with(&good, "iat", at(-301)), Err(Wrong::Time)),
        (with(&good, "iat", at(300)), Ok(())),
        (with(&good, "iat", at(301)), Err(Wrong::Time)),
        (with(&good, "iat", json!(1_800_000_000.25)), Ok(())),
        (with(&good, "exp", at(0)), Err(Wrong::Time)),
        (with(&good, "exp", at(1)), Ok(())),
        (with(&good, "nbf", at(301)), Err(Wrong::Time)),
        (with(&good, "anything", json!({"else": 1})), Ok(())),
    ];
    for (claims, right) in cases {
        let checked = Proof::check(&signer.proof(&signer.header(), &claims), &SHOWN).map(drop);
        assert_eq!(checked, right, "{claims}");
    }
}

#[test]
fn an_address_is_compared_as_both_are_written_and_without_its_query() {
    let signer = Signer::eddsa();
    for (uri, right) in [
        (URI, true),
        ("HTTPS://AUTH.example.com:443/oauth/token", true),
        ("https://auth.example.com/oauth/token?a=1#b", true),
        ("https://auth.example.com/oauth/./x/../token", true),
        ("https://auth.example.com/oauth/%74oken", true),
        ("https://auth.example.com/oauth/token/", false),
        ("https://auth.example.com/oauth/Token", false),
        ("https://auth.example.com/oauth%2Ftoken", false),
        ("https://auth.example.com/oauth%2ftoken", false),
        ("https://auth.example.com/oauth/par", false),
        ("https://auth.example.com:8443/oauth/token", false),
        ("http://auth.example.com/oauth/token", false),
        ("https://auth.example.com.evil.example/oauth/token", false),
        ("https://user@auth.example.com/oauth/token", false),
        ("https://auth.example.com", false),
        ("/oauth/token", false),
        ("https://auth.example.com/oauth/token%", false),
        ("", false),
    ] {
        let proof = signer.proof(&signer.header(), &with(&claims(), "htu", json!(uri)));
        assert_eq!(Proof::check(&proof, &SHOWN).map(drop), if right { Ok(()) } else { Err(Wrong::Uri) }, "{uri}");
    }
    // Both are written the same way, whatever they hold.
    assert!(is_same_address("https://a.example/%c3%a9%41", "https://a.example/%C3%A9A"));
    assert!(!is_same_address("https://a.example/%2", "https://a.example/%20"));
}

#[test]
fn a_proof_for_one_token_is_none_for_another() {
    let signer = Signer::eddsa();
    let of = |token: &str| with(&claims(), "ath", json!(encode(opaque::sha256(token))));
    let check = |claims: &Value, token| {
        Proof::check(&signer.proof(&signer.header(), claims), &Shown { token, ..SHOWN }).map(drop)
    };
    assert_eq!(check(&of("one"), Some("one")), Ok(()));
    assert_eq!(check(&claims(), Some("one")), Ok(()));
    assert_eq!(check(&of("one"), Some("other")), Err(Wrong::Token));
    assert_eq!(check(&of("one"), None), Err(Wrong::Token));
}

#[test]
fn what_is_no_proof_is_refused_whatever_its_length() {
    let signer = Signer::es256();
    let good = signer.proof(&signer.header(), &claims());
    let long = signer.proof(&signer.header(), &with(&claims(), "x", json!("a".repeat(PROOF_BYTES_MAX))));
    for text in ["", ".", "..", "...", "a.b.c", &good[1..], &format!("{good}."), &format!("a.{good}"), &long] {
        assert!(Proof::check(text, &SHOWN).is_err(), "{text}");
    }
    let twice = good.split('.').nth(1).unwrap();
    let signature = good.rsplit('.').next().unwrap();
    assert_eq!(Proof::check(&format!(".{twice}.{signature}"), &SHOWN), Err(Wrong::Malformed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn attack_11_no_changed_proof_proves_anything(at in 0..1_000_usize, sign in "[A-Za-z0-9_.-]") {
        static GOOD: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
            let signer = Signer::eddsa();
            signer.proof(&signer.header(), &claims())
        });
        let at = at % GOOD.len();
        let changed = format!("{}{sign}{}", &GOOD[..at], &GOOD[at + 1..]);
        prop_assume!(changed != *GOOD);
        prop_assert!(Proof::check(&changed, &SHOWN).is_err());
        prop_assert!(Proof::check(&GOOD[..at], &SHOWN).is_err());
    }

    #[test]
    fn nothing_that_is_sent_brings_the_check_down(text in ".{0,200}", header in ".{0,60}", uri in ".{0,60}") {
        let _ = Proof::check(&text, &SHOWN);
        let _ = Proof::check(&format!("{}.{}.x", encode(&header), encode(&text)), &SHOWN);
        prop_assert!(!is_same_address(&uri, "https://auth.example.com/oauth/token%zz"));
    }
}
