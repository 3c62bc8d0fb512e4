//! Forged tokens: other algorithms, other keys, other headers, and texts with one character changed.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mcp_authority::gate::verify_session;
use mcp_authority::signing::Purpose;
use mcp_authority::types::alg::Alg;
use mcp_authority::types::credential::Presented;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::support::jwt::{assemble, claims, encode, header, sign, with};
use crate::support::{Seeded, World, text};

fn ed25519() -> Ed25519KeyPair {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("the same")
}

fn p256() -> EcdsaKeyPair {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).expect("the same")
}

/// What the published key may look like to somebody who takes it for the secret of an HMAC.
fn public_bytes(jwk: &Value) -> Vec<Vec<u8>> {
    let x = text(jwk, "x");
    let raw = URL_SAFE_NO_PAD.decode(&x).expect("base64url");
    let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    der.extend_from_slice(&raw);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&der));
    vec![
        raw,
        x.into_bytes(),
        der,
        pem.clone().into_bytes(),
        pem.trim_end().as_bytes().to_vec(),
        jwk.to_string().into_bytes(),
        Vec::new(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_12_only_our_key_with_its_own_algorithm_counts() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let good = world.session(&key).await;
    assert!(world.accepts(&good).await);
    let (head, claims) = (header(&good), claims(&good));
    let jwk = world.operator.get(&world.node, "/oauth/jwks").await.ok()["keys"][0].clone();
    let mut forged = Vec::new();
    for none in ["none", "None", "NONE", "nOnE", ""] {
        forged.push((format!("alg {none}"), assemble(&with(&head, "alg", none), &claims, |_| Vec::new())));
    }
    let (signed, _) = good.rsplit_once('.').expect("a signature");
    forged.push(("no signature".to_owned(), format!("{signed}.")));
    for (name, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
    {
        for secret in public_bytes(&jwk) {
            let secret = hmac::Key::new(algorithm, &secret);
            let head = with(&head, "alg", name);
            let token = assemble(&head, &claims, |text| hmac::sign(&secret, text).as_ref().to_vec());
            forged.push((format!("{name} with the public key"), token));
        }
    }
    let (mine, mine_p256) = (ed25519(), p256());
    let mine_signs = |text: &[u8]| mine.sign(text).as_ref().to_vec();
    let x = encode(mine.public_key().as_ref());
    let my_jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": head["kid"], "alg": "EdDSA"});
    let mut without_kid = head.clone();
    without_kid.as_object_mut().expect("an object").remove("kid");
    let heads = [
        ("another's key under our kid", head.clone()),
        ("no kid", without_kid.clone()),
        ("jwk", with(&without_kid, "jwk", my_jwk.clone())),
        ("jwk and our kid", with(&head, "jwk", my_jwk.clone())),
        ("jku", with(&head, "jku", format!("http://{}/oauth/jwks", world.node.address))),
        ("x5u", with(&head, "x5u", "http://127.0.0.1:1/certificate")),
        ("x5c", with(&head, "x5c", json!([STANDARD.encode(b"certificate")]))),
        ("crit", with(&with(&head, "crit", json!(["exp"])), "b64", false)),
        ("a path as kid", with(&head, "kid", "../../../../dev/null")),
        ("SQL as kid", with(&head, "kid", "' or '1'='1")),
        ("an empty kid", with(&head, "kid", "")),
        ("a number as kid", with(&head, "kid", 1)),
    ];
    for (name, head) in heads {
        forged.push((name.to_owned(), assemble(&head, &claims, mine_signs)));
    }
    let es256 = |text: &[u8]| mine_p256.sign(&SystemRandom::new(), text).expect("signed").as_ref().to_vec();
    forged.push(("ES256 under our kid".to_owned(), assemble(&with(&head, "alg", "ES256"), &claims, es256)));
    for typ in ["JWT", "jwt", "at+JWT", "application/at+jwt", "dpop+jwt", "logout+jwt", ""] {
        forged.push((format!("typ {typ}"), sign(&world.node, typ, &claims)));
    }
    let signers = world.node.app.feed.signers();
    let checkpoints = signers.current(Purpose::Checkpoint, Alg::EdDsa, world.node.app.live.now()).expect("a key");
    forged.push(("the audit's key".to_owned(), checkpoints.sign("at+jwt", &claims).expect("signed")));
    for (name, token) in &forged {
        assert!(!world.accepts(token).await, "{name}: {token}");
        crate::support::exchange(&world.node, token, &[]).await.refused(400, "invalid_request");
    }
    assert_eq!(sign(&world.node, "at+jwt", &claims).split('.').count(), 3);
    assert!(world.accepts(&sign(&world.node, "at+jwt", &claims)).await, "the forger's tools do work");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_13_a_signed_token_without_one_of_its_claims_is_inactive() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let good = claims(&world.session(&key).await);
    for member in crate::support::jwt::members(&good) {
        let mut without = good.clone();
        without.as_object_mut().expect("an object").remove(&member);
        assert!(!world.accepts(&sign(&world.node, "at+jwt", &without)).await, "without {member}");
        let null = with(&good, &member, Value::Null);
        assert!(!world.accepts(&sign(&world.node, "at+jwt", &null)).await, "{member}: null");
    }
    let other = world.key(&["*"]).await;
    let wrong = [
        ("aud", json!([world.server.resource])),
        ("aud", json!("https://other.example.com/mcp")),
        ("srv", json!("srv_aaaaaaaaaaaa")),
        ("exp", json!(good["iat"])),
        ("exp", json!("9999999999")),
        ("exp", json!(1e300)),
        ("kv", json!(2)),
        ("kv", json!(0)),
        ("key_id", json!("key_aaaaaaaaaaaa")),
        ("agent_id", json!(other.agent)),
        ("environment", json!("dev")),
        ("permissions", json!([])),
        ("permissions", json!(["tool/call"])),
        ("anc", json!(["ses_00000000000000000000000000000000"])),
        ("anc", json!(["grt_00000000000000000000000000000000:1"])),
        ("anc", json!([format!("{}:1", "key_aaaaaaaaaaaa")])),
        ("pos", json!("0.1")),
        ("pos", json!("1")),
        ("nbf", json!(1)),
    ];
    for (member, value) in wrong {
        let token = sign(&world.node, "at+jwt", &with(&good, member, value.clone()));
        assert!(!world.accepts(&token).await, "{member}: {value}");
    }
    world.node.stop().await;
}

/// One change of a text: a character replaced, left out, put in, the rest cut off, or something appended.
fn changed(text: &str, random: &mut Seeded) -> String {
    const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n";
    let mut bytes = text.as_bytes().to_vec();
    let (at, with) = (random.below(bytes.len()), *random.pick(CHARACTERS));
    match random.below(5) {
        0 | 1 => bytes[at] = if bytes[at] == with { bytes[at] ^ 1 } else { with },
        2 => bytes.insert(at, with),
        3 => bytes.truncate(at),
        _ => bytes.push(with),
    }
    String::from_utf8(bytes).expect("ASCII")
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_11_a_key_or_token_with_one_change_is_inactive() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let token = world.session(&key).await;
    let mut random = Seeded::new(Seeded::from_env("FORGERY_SEED"));
    for _ in 0..250 {
        for credential in [&key.key, &token] {
            let changed = changed(credential, &mut random);
            assert!(changed.is_empty() || !world.accepts(&changed).await, "{credential} -> {changed}");
        }
    }
    for credential in [&key.key, &token] {
        for changed in
            [format!("{credential}\0"), format!("Bearer {credential}"), credential.to_uppercase(), credential.repeat(2)]
        {
            assert!(!world.accepts(&changed).await, "{changed}");
        }
        assert!(world.accepts(credential).await);
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_11_no_change_of_a_text_passes_the_check_of_its_form_or_signature() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let token = world.session(&key).await;
    let live = &world.node.app.live;
    let mut runner = TestRunner::new(Config { cases: 3_000, failure_persistence: None, ..Config::default() });
    let tried = runner.run(&proptest::prelude::any::<u64>(), |seed| {
        let mut random = Seeded::new(seed);
        let (one, other) = (changed(&key.key, &mut random), changed(&token, &mut random));
        // The checksum finds every change of one character; only what was cut or lengthened could pass by chance.
        proptest::prop_assert!(Presented::parse(&one).is_none(), "{}", one);
        let verified = live.answer(|view| verify_session(view, &other).is_ok());
        proptest::prop_assert!(verified != Ok(true), "{}", other);
        Ok(())
    });
    tried.expect("no change passes");
    assert!(live.answer(|view| verify_session(view, &token).is_ok()).expect("current"));
    world.node.stop().await;
}
