//! What a node has seen before tells nothing about what holds now.

use futures_util::future::join_all;
use serde_json::json;

use crate::fleet::Without;
use crate::support::jwt::header;
use crate::support::{World, text};

#[tokio::test(flavor = "multi_thread")]
async fn attack_34_a_fill_that_runs_beside_a_revocation_leaves_nothing_active_behind() {
    let _without = Without::these(&[]).await;
    let world = World::new().await;
    let key = world.key(&["tools/call"]).await;
    for round in 0..25 {
        let token = world.session(&key).await;
        // Never shown before: some of these are the first, some come while it dies, some after it.
        let asking = join_all((0..12).map(|_| world.accepts(&token)));
        let (_, revoked) = tokio::join!(asking, world.server.revoke(&world.node, &token));
        assert_eq!(revoked.status.as_u16(), 200);
        let after = join_all((0..4).map(|_| world.accepts(&token))).await;
        assert!(!after.contains(&true), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_34_what_was_seen_before_outlives_no_deadline_no_rotation_and_no_key() {
    let _without = Without::these(&[]).await;
    let world = World::new().await;
    let key = world.key(&["tools/call", "tools/list"]).await;
    let rotated = format!("/v1/keys/{}/rotate", key.id);
    assert!(world.accepts(&key.key).await);
    let newer = text(&world.post(&rotated, json!({"grace_seconds": 600})).await.ok(), "key");
    let (old, token) = (key.key.clone(), world.session(&key).await);
    for _ in 0..3 {
        assert!(world.accepts(&old).await && world.accepts(&newer).await && world.accepts(&token).await);
    }
    // The overlap ends, then the token's own life.
    world.advance(601).await;
    assert!(!world.accepts(&old).await && world.accepts(&newer).await);
    world.advance(300).await;
    assert!(!world.accepts(&token).await);
    // What the key may do shrinks under a token that was seen.
    let key = crate::support::Key { key: newer, ..key };
    let token = world.session(&key).await;
    assert!(world.accepts(&token).await);
    let fewer = json!({"grants": [{"server_id": world.server.id, "permissions": ["tools/list"]}]});
    world.patch(&format!("/v1/keys/{}", key.id), fewer).await.ok();
    let answer = world.server.introspect(&world.node, &token).await;
    assert_eq!(answer["permissions"], json!(["tools/list"]), "{answer}");
    // The key that signed it was stolen.
    world.revoke(json!({"kind": "signing_key", "id": header(&token)["kid"]})).await;
    assert!(!world.accepts(&token).await);
    let fresh = world.session(&key).await;
    assert!(world.accepts(&fresh).await);
}
