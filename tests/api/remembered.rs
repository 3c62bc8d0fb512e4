//! Session tokens that were verified before: being remembered keeps nothing alive.

use serde_json::json;

use crate::support::jwt::{claims, header};
use crate::support::{Key, World, text};

/// A token that the node has seen and remembers.
async fn seen(world: &World, key: &Key) -> String {
    let token = world.session(key).await;
    let before = world.node.app.live.verified.len();
    assert!(world.accepts(&token).await);
    assert_eq!(world.node.app.live.verified.len(), before + 1, "it is remembered");
    assert!(world.accepts(&token).await);
    assert_eq!(world.node.app.live.verified.len(), before + 1, "once");
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_34_a_remembered_token_ends_with_its_own_deadline() {
    let world = World::new().await;
    let key = world.key(&["tools/list"]).await;
    let token = seen(&world, &key).await;
    let left = claims(&token)["exp"].as_i64().expect("exp") - world.now();
    world.advance(left).await;
    assert!(!world.accepts(&token).await);
    assert!(world.introspections("expired") >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_34_a_remembered_token_of_an_old_secret_ends_with_the_overlap() {
    let world = World::new().await;
    let key = world.key(&["tools/list"]).await;
    let token = seen(&world, &key).await;
    world.post(&format!("/v1/keys/{}/rotate", key.id), json!({"grace_seconds": 60})).await.ok();
    assert!(world.accepts(&token).await, "the overlap runs");
    world.advance(61).await;
    assert!(!world.accepts(&token).await, "nothing was told to forget it; the deadline holds at the moment of use");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_34_a_remembered_token_is_worth_what_it_hangs_on_is_worth_now() {
    let world = World::new().await;
    let key = world.key(&["tools/list", "tools/call"]).await;
    let token = seen(&world, &key).await;
    let grants = json!([{"server_id": world.server.id, "permissions": ["tools/call:read_*"]}]);
    world.patch(&format!("/v1/keys/{}", key.id), json!({"grants": grants})).await.enforced();
    let answer = world.server.introspect(&world.node, &token).await;
    assert_eq!(answer["permissions"], json!(["tools/call:read_*"]));
    world.patch(&format!("/v1/agents/{}", key.agent), json!({"disabled": true})).await.enforced();
    assert!(!world.accepts(&token).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_34_a_token_is_dead_whether_it_was_remembered_before_or_after_its_revocation() {
    let world = World::new().await;
    let key = world.key(&["tools/list"]).await;
    let (before, after) = (seen(&world, &key).await, world.session(&key).await);
    for token in [&before, &after] {
        world.revoke(json!({"kind": "token", "id": text(&claims(token), "jti")})).await;
        for _ in 0..2 {
            assert!(!world.accepts(token).await);
        }
    }
    let signed = seen(&world, &key).await;
    world.revoke(json!({"kind": "signing_key", "id": text(&header(&signed), "kid")})).await;
    assert!(!world.accepts(&signed).await);
}
