//! Webhooks: who is told what, signed how, and what becomes of it.

use std::collections::BTreeSet;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mcp_authority::webhooks::EventType;
use serde_json::{Value, json};

use crate::support::{Got, Node, Receiver, TestDb, World, text};

/// What lets a node of a test tell receivers on this machine.
pub(crate) const LOOPBACK: [(&str, &str); 1] = [("MCPA_OUTBOUND_LOOPBACK", "true")];

/// A receiver that was told of, and the webhook's reply.
pub(crate) async fn told(world: &World, receiver: &Receiver, more: Value) -> Value {
    let mut body = json!({"name": "w", "url": receiver.url("/hook"), "events": ["*"]});
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    world.post("/v1/webhooks", body).await.created()
}

/// Waits for the first of this type.
pub(crate) async fn first(world: &World, receiver: &Receiver, kind: &str) -> Got {
    world.node.until(kind, async || !receiver.of(kind).is_empty()).await;
    receiver.of(kind).remove(0)
}

/// Whether one of the signatures is this public key's, over exactly what the standard says.
fn verifies(got: &Got, public_key: &str) -> bool {
    let bytes = STANDARD.decode(public_key.strip_prefix("whpk_").expect("a public key")).expect("base64");
    let key = UnparsedPublicKey::new(&ED25519, bytes);
    let content = [got.id().as_bytes(), b".", got.header("webhook-timestamp").as_bytes(), b".", &got.body].concat();
    got.header("webhook-signature").split(' ').filter_map(|one| one.strip_prefix("v1a,")).any(|one| {
        let signature = STANDARD.decode(one).expect("base64");
        key.verify(&content, &signature).is_ok()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_carries_exactly_the_signature_of_the_standard() {
    let world = World::with(&LOOPBACK).await;
    let (shared, public) = (Receiver::start().await, Receiver::start().await);
    let made = told(&world, &shared, json!({"signature": "v1"})).await;
    let secret = text(&made, "secret");
    assert!(secret.starts_with("whsec_") && made.get("public_keys").is_none(), "{made}");
    let other = told(&world, &public, json!({})).await;
    assert_eq!((&other["signature"], other.get("secret")), (&json!("v1a"), None), "no secret is shown: {other}");
    let key = world.key(&["*"]).await;
    let got = first(&world, &shared, "key.issued").await;
    let theirs = standardwebhooks::Webhook::new(&secret).expect("a secret of the standard's form");
    theirs.verify(&got.body, &got.headers).expect("the standard's own library takes it");
    let mut forged = got.body.clone();
    forged.push(b' ');
    assert!(theirs.verify(&forged, &got.headers).is_err());
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.path, "/hook");
    let body = got.json();
    assert_eq!(body["data"]["key_id"], key.id, "{body}");
    assert_eq!(body["data"]["agent_id"], key.agent, "{body}");
    assert_eq!(body["data"]["project"], "default", "{body}");
    assert!(body["data"]["expires_at"].is_string() && body["timestamp"].is_string(), "{body}");
    let signed = first(&world, &public, "key.issued").await;
    assert!(verifies(&signed, other["public_keys"][0].as_str().expect("a key")));
    assert_eq!(signed.id(), got.id(), "one event has one id, whoever is told");
    // The secret is shown once, and stands in no table.
    let read = world.operator.get(&world.node, &format!("/v1/webhooks/{}", text(&made, "id"))).await.ok();
    assert!(read.get("secret").is_none(), "{read}");
    let bits = STANDARD.decode(&secret["whsec_".len()..]).expect("base64");
    let bits = STANDARD.encode(bits);
    let clear = format!("select count(*) from webhook_keys where position(decode('{bits}', 'base64') in sealed) > 0");
    assert_eq!(world.db.count(&clear).await, 0);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_key_is_rotated_both_sign_and_afterwards_the_new_one_alone() {
    let world = World::with(&LOOPBACK).await;
    let receiver = Receiver::start().await;
    let made = told(&world, &receiver, json!({"events": ["key.issued"]})).await;
    let (path, old) = (format!("/v1/webhooks/{}", text(&made, "id")), made["public_keys"][0].clone());
    let rotated = world.post(&format!("{path}/rotate"), json!({"grace_seconds": 3_600})).await.created();
    let new = rotated["public_keys"][0].clone();
    assert_eq!(rotated["public_keys"], json!([new, old]), "both are told, the newest first");
    let signed = async |count: usize| {
        world.key(&["*"]).await;
        world.node.until("it arrived", async || receiver.got().len() >= count).await;
        let got = receiver.got().remove(count - 1);
        let by = |key: &Value| verifies(&got, key.as_str().expect("a key"));
        (got.header("webhook-signature").split(' ').count(), by(&new), by(&old))
    };
    assert_eq!(signed(1).await, (2, true, true));
    world.advance(3_601).await;
    assert_eq!(signed(2).await, (1, true, false));
    world.post(&format!("{path}/rotate"), json!({"grace_seconds": 604_801})).await.refused(422, "invalid_fields");
    let at_once = world.post(&format!("{path}/rotate"), json!({"grace_seconds": 0})).await.created();
    assert_eq!(at_once["public_keys"].as_array().expect("keys").len(), 1);
    assert_eq!(signed(3).await, (1, false, false), "neither of the two signs any more");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_a_project_never_learns_of_another_or_of_the_whole() {
    let world = World::with(&LOOPBACK).await;
    for project in ["red", "blue"] {
        world.post("/v1/projects", json!({"name": project})).await.created();
    }
    let (red, all, few) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    told(&world, &red, json!({"project": "red"})).await;
    told(&world, &all, json!({})).await;
    told(&world, &few, json!({"events": ["key.revoked"]})).await;
    let mut keys = Vec::new();
    for project in ["blue", "red"] {
        let agent = text(&world.post("/v1/agents", json!({"name": "a", "project": project})).await.created(), "id");
        keys.push(world.key_of(&agent, &[], json!({})).await);
    }
    world.node.operator().await;
    for key in &keys {
        world.post(&format!("/v1/keys/{}/revoke", key.id), json!({"reason": "lost"})).await.enforced();
    }
    let all_of = |receiver: &Receiver| -> BTreeSet<(String, String)> {
        let got = receiver.got().into_iter();
        got.map(|got| (got.kind(), got.json()["data"]["id"].as_str().unwrap_or_default().to_owned())).collect()
    };
    let expected = |key: &str| -> Vec<(String, String)> {
        ["key.issued", "revocation.created", "key.revoked"].map(|kind| (kind.to_owned(), key.to_owned())).into()
    };
    world.node.until("all is told", async || all_of(&all).len() >= 7).await;
    assert!(all_of(&all).iter().any(|(kind, _)| kind == "operator.created"));
    for key in &keys {
        assert!(expected(&key.id).iter().all(|told| all_of(&all).contains(told)), "{:?}", all_of(&all));
    }
    world.node.until("the few are told", async || few.got().len() == 2).await;
    assert!(few.got().iter().all(|got| got.kind() == "key.revoked" && got.json()["data"]["reason"] == "lost"));
    // Nothing waits any more: what the project's own webhook has now is all that it gets.
    world
        .node
        .until("the outbox is empty", async || {
            world.db.count("select count(*) from deliveries where status = 'pending'").await == 0
        })
        .await;
    assert_eq!(all_of(&red), expected(&keys[1].id).into_iter().collect());
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_asked_nothing_is_kept_and_what_was_not_done_is_not_told() {
    let world = World::with(&LOOPBACK).await;
    let rows = async || world.db.count("select count(*) from deliveries").await;
    world.key(&["*"]).await;
    let receiver = Receiver::start().await;
    let made = told(&world, &receiver, json!({"events": ["operator.revoked", "revocation.created"]})).await;
    world.key(&["*"]).await;
    assert_eq!(rows().await, 0);
    // The entry is made, the event is noted, and then the change is refused: nothing of it is left.
    let last = format!("/v1/operators/{}/revoke", world.operator.id);
    world.post(&last, json!({})).await.refused(409, "last_operator");
    assert_eq!(rows().await, 0);
    let path = format!("/v1/webhooks/{}", text(&made, "id"));
    assert_eq!(world.patch(&path, json!({"disabled": true})).await.ok()["disabled"], true);
    let key = world.key(&["*"]).await;
    world.post(&format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
    assert_eq!(rows().await, 0, "a webhook that is switched off collects nothing");
    world.post(&format!("{path}/test"), json!({})).await.refused(409, "in_use");
    world.patch(&path, json!({"disabled": false})).await.ok();
    let test = world.post(&format!("{path}/test"), json!({})).await.expect_status(202).json;
    assert_eq!((&test["type"], &test["status"]), (&json!("webhook.test"), &json!("pending")));
    first(&world, &receiver, "webhook.test").await;
    assert_eq!(receiver.got().len(), 1);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_event_is_in_the_description_and_on_the_page() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/webhooks.md")).expect("the page");
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/authority.json")).expect("it");
    let description: Value = serde_json::from_str(&text).expect("JSON");
    let schema = &description["components"]["schemas"]["EventType"]["enum"];
    let known: Vec<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(schema, &json!(known));
    for kind in known {
        assert!(page.contains(&format!("| `{kind}` |")), "docs/webhooks.md says nothing of {kind}");
        assert!(description["webhooks"][kind].is_object(), "the description says nothing of {kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_tell_of_each_event_once_and_of_none_twice() {
    const KEYS: usize = 30;
    let db = TestDb::new().await;
    let first_node = Node::start_with(&db, &LOOPBACK).await;
    let second = Node::start_with(&db, &LOOPBACK).await;
    let operator = first_node.operator().await;
    let receiver = Receiver::start().await;
    let body = json!({"name": "w", "url": receiver.url("/"), "events": ["key.issued"]});
    operator.post(&first_node, "/v1/webhooks", body).await.created();
    let agent = operator.agent(&first_node).await;
    let mut issued = BTreeSet::new();
    for index in 0..KEYS {
        let node = if index % 2 == 0 { &first_node } else { &second };
        node.until("it knows the operator", async || operator.get(node, "/v1/keys").await.status == 200).await;
        issued.insert(operator.key_with(node, json!({"agent_id": agent, "environment": "prod"})).await.id);
    }
    first_node.until("all are told", async || receiver.got().len() >= KEYS).await;
    let pending = "select count(*) from deliveries where status <> 'delivered'";
    first_node.until("all is noted", async || db.count(pending).await == 0).await;
    let got: Vec<String> = receiver.got().iter().map(|got| text(&got.json()["data"], "key_id")).collect();
    assert_eq!(got.len(), KEYS, "nobody is told twice while all goes well");
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), issued);
    first_node.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_moves_to_the_newest_secret_key_and_signs_as_before() {
    let world = World::with(&LOOPBACK).await;
    let receiver = Receiver::start().await;
    let made = told(&world, &receiver, json!({"events": ["webhook.test"]})).await;
    let path = format!("/v1/webhooks/{}", text(&made, "id"));
    let World { db, node, operator, .. } = world;
    node.stop().await;
    let newest = STANDARD.encode([7_u8; 32]);
    let keys = format!("{newest},{}", crate::support::node::SECRET_KEY);
    let node = Node::start_with(&db, &[LOOPBACK[0], ("MCPA_SECRET_KEYS", &keys)]).await;
    let ids = node.app.live.keyring.ids();
    let under = format!(
        "select count(*) from (select secret_key from webhook_keys union all
           select secret_key from signing_keys where private is not null) sealed where secret_key <> '{}'",
        ids[0]
    );
    // Which secret key all nodes have is known some time after the start; the job runs again each minute.
    node.until("all is sealed anew", async || {
        operator.post(&node, "/v1/jobs/signing_keys/run", json!({})).await;
        db.count(&under).await == 0
    })
    .await;
    node.stop().await;
    let node = Node::start_with(&db, &[LOOPBACK[0], ("MCPA_SECRET_KEYS", &newest)]).await;
    let operator = node.operator().await;
    operator.post(&node, &format!("{path}/test"), json!({})).await.expect_status(202);
    node.until("it arrives", async || !receiver.got().is_empty()).await;
    assert!(verifies(&receiver.got()[0], made["public_keys"][0].as_str().expect("a key")));
    node.stop().await;
}
