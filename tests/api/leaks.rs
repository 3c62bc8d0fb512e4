//! Reports of leaks: who is believed, what dies, what strangers learn.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Elsewhere, Reply, World, text};

const KEYS: &str = "/meta/public_keys/secret_scanning";

/// A key of GitHub's.
struct GitHub {
    id: &'static str,
    key: KeyPair,
}

impl GitHub {
    fn new(id: &'static str) -> Self {
        Self { id, key: KeyPair::generate().unwrap() }
    }

    fn published(keys: &[&Self]) -> Value {
        let one = |key: &&Self| json!({"key_identifier": key.id, "key": key.key.public_key_pem(), "is_current": true});
        json!({"public_keys": keys.iter().map(one).collect::<Vec<_>>()})
    }

    fn sign(&self, body: &str) -> String {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.key.serialize_der()).unwrap();
        STANDARD.encode(pair.sign(&SystemRandom::new(), body.as_bytes()).unwrap())
    }

    async fn report(&self, world: &World, body: &Value) -> Reply {
        let body = body.to_string();
        sent(world, self.id, &self.sign(&body), &body).await
    }
}

async fn sent(world: &World, id: &str, signature: &str, body: &str) -> Reply {
    let request = world.node.request(Method::POST, "/v1/leaks/github").header("github-public-key-identifier", id);
    world.node.send(request.header("github-public-key-signature", signature).body(body.to_owned())).await
}

fn finding(token: &str) -> Value {
    json!({"token": token, "type": "mcp_authority_key", "url": "https://github.example/x/y/blob/1/.env", "source": "content"})
}

fn labels(reply: Reply) -> Vec<String> {
    reply.ok().as_array().unwrap().iter().map(|label| text(label, "label")).collect()
}

async fn believing_github(elsewhere: &Elsewhere) -> World {
    let world = elsewhere.world().await;
    world.patch("/v1/settings", json!({"leaks": {"github_keys_url": elsewhere.url(KEYS)}})).await.ok();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_github_found_is_dead_when_the_answer_is_there() {
    let elsewhere = Elsewhere::start().await;
    let github = GitHub::new("one");
    elsewhere.put(KEYS, &GitHub::published(&[&github]));
    let world = believing_github(&elsewhere).await;
    let key = world.key(&["tools/call"]).await;
    assert!(world.accepts(&key.key).await);
    let wrong = format!("{}0", &key.key[..key.key.len() - 1]);
    let report = json!([finding(&key.key), finding(&wrong), finding("ghp_x")]);
    let reply = github.report(&world, &report).await;
    let answer = reply.json.clone();
    assert_eq!(labels(reply), ["true_positive", "false_positive", "false_positive"]);
    assert_eq!((&answer[0]["token_raw"], &answer[0]["token_type"]), (&json!(key.key), &json!("mcp_authority_key")));
    assert!(!world.accepts(&key.key).await);
    let audit = world.operator.get(&world.node, "/v1/audit?action=key.leaked").await.ok();
    assert_eq!(audit["items"].as_array().unwrap().len(), 1);
    let entry = audit["items"][0].to_string();
    assert!(entry.contains("github.example") && entry.contains(&key.id) && !entry.contains(&key.key), "{entry}");
    // A replay finds the same and ends nothing twice.
    assert_eq!(labels(github.report(&world, &report).await)[0], "true_positive");
    let revocations = world.operator.get(&world.node, "/v1/revocations?kind=key").await.ok();
    assert_eq!(revocations["items"].as_array().unwrap().len(), 1);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_sign_for_github_learns_nothing_and_ends_nothing() {
    let elsewhere = Elsewhere::start().await;
    let (github, other) = (GitHub::new("one"), GitHub::new("one"));
    elsewhere.put(KEYS, &GitHub::published(&[&github]));
    let off = elsewhere.world().await;
    let unknown = github.report(&off, &json!([finding("x")])).await.refused(401, "unauthenticated");
    assert_eq!(elsewhere.asked(KEYS), 0, "off is off");
    off.node.stop().await;
    let world = believing_github(&elsewhere).await;
    let key = world.key(&["tools/call"]).await;
    let body = json!([finding(&key.key)]).to_string();
    let good = github.sign(&body);
    let changed = body.replace("content", "commit");
    let bad = [
        ("one", other.sign(&body), body.clone()),
        ("one", good.clone(), changed),
        ("two", good.clone(), body.clone()),
        ("", good.clone(), body.clone()),
        ("one", String::new(), body.clone()),
        ("one", "%".to_owned(), body.clone()),
        ("one", STANDARD.encode([0_u8; 64]), body.clone()),
    ];
    for (id, signature, body) in bad {
        let refused = sent(&world, id, &signature, &body).await.refused(401, "unauthenticated");
        assert_eq!(refused["detail"], unknown["detail"]);
    }
    assert!(world.accepts(&key.key).await);
    assert_eq!(labels(sent(&world, "one", &good, &body).await), ["true_positive"]);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_of_githubs_is_fetched_and_unknown_ones_do_not_fetch_without_end() {
    let elsewhere = Elsewhere::start().await;
    let (old, new) = (GitHub::new("old"), GitHub::new("new"));
    elsewhere.put(KEYS, &GitHub::published(&[&old]));
    let world = believing_github(&elsewhere).await;
    labels(old.report(&world, &json!([finding("x")])).await);
    assert_eq!(elsewhere.asked(KEYS), 1);
    // Just fetched: whatever is named, it is not fetched again so soon.
    for _ in 0..5 {
        new.report(&world, &json!([])).await.refused(401, "unauthenticated");
    }
    assert_eq!(elsewhere.asked(KEYS), 1);
    elsewhere.put("/next", &GitHub::published(&[&new]));
    world.patch("/v1/settings", json!({"leaks": {"github_keys_url": elsewhere.url("/next")}})).await.ok();
    labels(new.report(&world, &json!([finding("x")])).await);
    old.report(&world, &json!([])).await.refused(401, "unauthenticated");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_githubs_are_not_asked_for_inside() {
    let world = World::new().await;
    for url in ["https://127.0.0.1:1/keys", "https://169.254.169.254/latest", "https://[::1]/keys", "https://10.0.0.1/"]
    {
        world.patch("/v1/settings", json!({"leaks": {"github_keys_url": url}})).await.ok();
        GitHub::new("one").report(&world, &json!([])).await.refused(503, "temporarily_unavailable");
    }
    for url in ["http://api.github.com/keys", "https://user@github.com/", "x"] {
        let refused = world.patch("/v1/settings", json!({"leaks": {"github_keys_url": url}})).await;
        refused.refused(422, "invalid_fields");
    }
    world.node.stop().await;
}

/// Who searches places of his own.
struct Reporter(Ed25519KeyPair);

impl Reporter {
    fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    fn public(&self) -> String {
        format!("whpk_{}", STANDARD.encode(self.0.public_key().as_ref()))
    }

    async fn report(&self, world: &World, at: i64, body: &Value) -> Reply {
        let body = body.to_string();
        let signature = self.0.sign(format!("msg_1.{at}.{body}").as_bytes());
        let request = world.node.request(Method::POST, "/v1/leaks").header("webhook-id", "msg_1").body(body);
        let request = request.header("webhook-timestamp", at.to_string());
        let signature = format!("v1,AAAA v1a,{}", STANDARD.encode(signature.as_ref()));
        world.node.send(request.header("webhook-signature", signature)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_reporter_is_believed_while_its_signature_is_young() {
    let world = World::new().await;
    let (reporter, stranger) = (Reporter::new(), Reporter::new());
    let named = json!([{"name": "sweep", "public_key": reporter.public()}]);
    world.patch("/v1/settings", json!({"leaks": {"reporters": named, "dev": "tell"}})).await.ok();
    let key = world.key(&["tools/call"]).await;
    let report = json!({"tokens": [key.key, "x"], "source": "a\u{7}paste"});
    stranger.report(&world, world.now(), &report).await.refused(401, "unauthenticated");
    for at in [world.now() - 400, world.now() + 400] {
        reporter.report(&world, at, &report).await.refused(401, "unauthenticated");
    }
    assert!(world.accepts(&key.key).await);
    let answer = reporter.report(&world, world.now(), &report).await.ok();
    assert_eq!(answer, json!({"labels": ["true_positive", "false_positive"]}));
    assert!(!world.accepts(&key.key).await);
    let audit = world.operator.get(&world.node, "/v1/audit?action=key.leaked").await.ok();
    let entry = audit["items"][0].to_string();
    assert!(entry.contains("reporter:sweep") && entry.contains(&key.id) && entry.contains("apaste"), "{entry}");
    reporter.report(&world, world.now(), &json!({"tokens": vec!["x"; 501]})).await.refused(422, "invalid_fields");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_only_tells_lives_on_and_an_operators_key_dies() {
    let world = World::new().await;
    let reporter = Reporter::new();
    let named = json!([{"name": "sweep", "public_key": reporter.public()}]);
    world.patch("/v1/settings", json!({"leaks": {"reporters": named, "prod": "tell"}})).await.ok();
    let key = world.key(&["tools/call"]).await;
    let other = world.node.operator().await;
    let report = json!({"tokens": [key.key, other.key]});
    let answer = reporter.report(&world, world.now(), &report).await.ok();
    assert_eq!(answer, json!({"labels": ["true_positive", "true_positive"]}));
    assert!(world.accepts(&key.key).await);
    other.get(&world.node, "/v1/settings").await.refused(401, "unauthenticated");
    world.node.stop().await;
}
