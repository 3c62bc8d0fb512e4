//! What a node keeps in memory: the same however it came there, kept once, and forgotten when it is spent.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcp_authority::gate::{Key, Subject};
use mcp_authority::types::id::KeyId;
use serde_json::json;

use crate::support::actors::text;
use crate::support::world::World;
use crate::support::{Node, TestDb};

/// Everything a node has in memory, in words.
fn memory(node: &Node) -> BTreeMap<String, String> {
    let memory = node.app.live.memory();
    let revoked = memory.revoked.entries().map(|(subject, cutoff)| (format!("{subject:?}"), format!("{cutoff:?}")));
    let all = memory.keys.iter().map(|(id, thing)| (id.to_string(), format!("{thing:?}")));
    let all = all.chain(memory.agents.iter().map(|(id, thing)| (id.to_string(), format!("{thing:?}"))));
    let all = all.chain(memory.servers.iter().map(|(id, thing)| (id.to_string(), format!("{thing:?}"))));
    let all = all.chain(memory.roles.iter().map(|(id, thing)| (id.to_string(), format!("{thing:?}"))));
    let all = all.chain(memory.operators.iter().map(|(id, thing)| (id.to_string(), format!("{thing:?}"))));
    all.chain(memory.resources.iter().map(|(canonical, id)| (format!("{canonical:?}"), id.to_string())))
        .chain(revoked)
        .collect()
}

fn key(node: &Node, id: &str) -> Arc<Key> {
    let id: KeyId = id.parse().expect("an id");
    Arc::clone(node.app.live.memory().keys.get(&id).expect("in memory"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_loads_at_its_start_is_what_the_feed_has_told_the_others() {
    let db = TestDb::new().await;
    let told = Node::start(&db).await;
    let by = told.operator().await;
    let (one, two) = (by.server(&told).await, by.server(&told).await);
    let grants = json!([{"server_id": one.id, "permissions": ["tools/list", "tools/call:a*"]},
                        {"server_id": two.id, "permissions": ["*"]}]);
    let role = text(&by.post(&told, "/v1/roles", json!({"name": "reader", "grants": grants})).await.created(), "id");
    let agent = by.agent(&told).await;
    let body = json!({"agent_id": agent, "environment": "prod", "grants": grants, "roles": [role],
                      "allowed_cidrs": ["10.0.0.0/8", "2001:db8::/32"]});
    let wide = by.key_with(&told, body).await;
    let rotated = by.key(&told, &one, &["tools/list"]).await;
    by.post(&told, &format!("/v1/keys/{}/rotate", rotated.id), json!({})).await.enforced();
    let disabled = by.key(&told, &two, &["tools/list"]).await;
    by.patch(&told, &format!("/v1/keys/{}", disabled.id), json!({"disabled": true})).await.enforced();
    let revoked = by.key(&told, &one, &["tools/list"]).await;
    by.post(&told, &format!("/v1/keys/{}/revoke", revoked.id), json!({})).await.enforced();
    by.post(&told, "/v1/revocations", json!({"kind": "agent", "id": agent})).await.created();
    assert_eq!(key(&told, &wide.id).grants.len(), 2);
    assert_eq!(key(&told, &rotated.id).secrets.versions().len(), 2);

    let loaded = Node::start(&db).await;
    told.until("both have all", async || memory(&told) == memory(&loaded)).await;
    assert!(memory(&told).len() >= 12, "{:?}", memory(&told).keys());
    told.stop().await;
    loaded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_keys_have_in_common_are_in_memory_once() {
    let db = TestDb::new().await;
    let told = Node::start(&db).await;
    let by = told.operator().await;
    let server = by.server(&told).await;
    let (one, other) = (by.key(&told, &server, &["tools/list"]).await, by.key(&told, &server, &["tools/list"]).await);
    let different = by.key(&told, &server, &["tools/call"]).await;
    let loaded = Node::start(&db).await;
    for node in [&told, &loaded] {
        let grants = |id: &str| Arc::clone(&key(node, id).grants);
        assert!(Arc::ptr_eq(&grants(&one.id), &grants(&other.id)));
        assert!(!Arc::ptr_eq(&grants(&one.id), &grants(&different.id)));
    }
    told.stop().await;
    loaded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_14_a_node_forgets_what_has_expired_and_nothing_comes_back_to_life() {
    let world = World::new().await;
    let (key, other) = (world.key(&["tools/call"]).await, world.key(&["tools/call"]).await);
    let token = world.session(&other).await;
    let jti = text(&world.server.introspect(&world.node, &token).await, "jti");
    world.revoke(json!({"kind": "token", "id": jti})).await;
    world.revoke(json!({"kind": "key", "id": key.id})).await;
    let known = |subject: &Subject| world.node.app.live.memory().revoked.whole(subject);
    let token_subject = Subject::Token(jti.parse().expect("an id"));
    let key_subject = Subject::Key(key.id.parse().expect("an id"));
    // Longer than the token could live, and the margin; the key's secret lives on.
    world.advance(3_600).await;
    world.node.until("the token's entry is forgotten", async || !known(&token_subject)).await;
    assert!(known(&key_subject), "its secret would still live");
    assert!(!world.accepts(&token).await && !world.accepts(&key.key).await && world.accepts(&other.key).await);
    // Ninety days and more: the secret ended by itself, and the key's row says that it is revoked.
    world.advance(91 * 86_400).await;
    world.node.until("the key's entry is forgotten", async || !known(&key_subject)).await;
    assert!(!world.accepts(&key.key).await);
    world.node.stop().await;
}
