//! `/oauth/revoke` and `/v1/keys/self/revoke`: who may end what.

use reqwest::Method;
use serde_json::json;

use crate::support::jwt::claims;
use crate::support::{Key, Node, Reply, World, exchange, text};

async fn by_key(node: &Node, key: &Key, token: &str) -> Reply {
    let request = node.request(Method::POST, "/oauth/revoke").basic_auth(&key.id, Some(&key.key));
    node.send(request.form(&[("token", token), ("token_type_hint", "refresh_token")])).await
}

async fn by_itself(node: &Node, credential: &str) -> Reply {
    node.send(node.request(Method::POST, "/v1/keys/self/revoke").bearer_auth(credential)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_21_a_server_ends_its_own_tokens_and_nothing_else() {
    let world = World::new().await;
    let (node, other) = (&world.node, world.operator.server(&world.node).await);
    let key = world.key_on(&[(&world.server, &["*"]), (&other, &["*"])], json!({})).await;
    let direct = world.key(&["*"]).await;
    let (mine, theirs) = (key.session(node, &world.server).await, key.session(node, &other).await);
    let child = exchange(node, &mine, &[]).await.issued();
    world.server.revoke(node, &theirs).await.refused(400, "invalid_request");
    assert!(other.accepts(node, &theirs).await);
    for not_a_session in [&direct.key, &key.key, &world.operator.key, &world.server.secret] {
        world.server.revoke(node, not_a_session).await.refused(400, "unsupported_token_type");
    }
    assert!(world.accepts(&direct.key).await);
    let reply = world.server.revoke(node, &mine).await.expect_status(200);
    assert_eq!((reply.text.as_str(), &reply.headers["cache-control"]), ("", &"no-store".parse().expect("a header")));
    assert!(!world.accepts(&mine).await && !world.accepts(&child).await);
    assert!(other.accepts(node, &theirs).await);
    // Once more, and what is no token at all: 200 (RFC 7009 §2.2).
    for gone in [mine.as_str(), "garbage", "a.b.c"] {
        world.server.revoke(node, gone).await.expect_status(200);
    }
    let status = world.operator.get(node, &format!("/v1/sessions/{}", text(&claims(&mine), "jti"))).await.ok();
    assert_eq!(status["status"], "revoked");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_21_a_holder_ends_its_own_sessions_and_the_key_itself() {
    let world = World::new().await;
    let (node, key, other) = (&world.node, world.key(&["*"]).await, world.key(&["*"]).await);
    let sibling = world.key_of(&key.agent, &[(&world.server, &["*"])], json!({})).await;
    let (mine, kept, foreign) = (world.session(&key).await, world.session(&key).await, world.session(&other).await);
    by_key(node, &key, &foreign).await.refused(400, "invalid_request");
    by_key(node, &key, &other.key).await.refused(400, "unsupported_token_type");
    by_key(node, &key, &sibling.key).await.refused(400, "unsupported_token_type");
    assert!(world.accepts(&foreign).await && world.accepts(&other.key).await && world.accepts(&sibling.key).await);
    by_key(node, &key, &mine).await.expect_status(200);
    assert!(!world.accepts(&mine).await && world.accepts(&kept).await);
    by_key(node, &key, &key.key).await.expect_status(200);
    assert!(!world.accepts(&kept).await && !world.accepts(&key.key).await);
    by_key(node, &key, &key.key).await.refused(401, "invalid_client");
    let nobody = node.request(Method::POST, "/oauth/revoke").form(&[("token", &foreign)]);
    node.send(nobody).await.refused(401, "invalid_client");
    assert!(world.accepts(&foreign).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_finds_a_key_can_end_it_from_wherever_and_in_whatever_state() {
    let world = World::new().await;
    let node = &world.node;
    let elsewhere = json!({"allowed_cidrs": ["192.0.2.0/24"]});
    let listed = world.key_on(&[(&world.server, &["*"])], elsewhere).await;
    let ask = [("token", listed.key.as_str()), ("client_ip", "192.0.2.1")];
    assert_eq!(world.server.ask(node, &ask).await.ok()["active"], true);
    listed.session_with(node, &[]).await.refused(401, "invalid_client");
    let receipt = by_itself(node, &listed.key).await.enforced();
    assert_eq!(receipt["id"], listed.id);
    assert_eq!(world.server.ask(node, &ask).await.ok()["active"], false);
    by_itself(node, &listed.key).await.enforced();
    // Switched off, and found: it must not come back when it is switched on.
    let off = world.key(&["*"]).await;
    world.patch(&format!("/v1/keys/{}", off.id), json!({"disabled": true})).await.enforced();
    by_itself(node, &off.key).await.enforced();
    world.patch(&format!("/v1/keys/{}", off.id), json!({"disabled": false})).await;
    assert!(!world.accepts(&off.key).await);
    // The older secret of a rotated key names the same key.
    let rotated = world.key(&["*"]).await;
    let newer = world.post(&format!("/v1/keys/{}/rotate", rotated.id), json!({})).await.enforced();
    by_itself(node, &rotated.key).await.enforced();
    assert!(!world.accepts(&text(&newer, "key")).await);
    let unknown = "mcp_prod_aaaaaaaaaaaa";
    for wrong in
        [world.operator.key.as_str(), &world.server.secret, unknown, "", &world.session(&world.key(&["*"]).await).await]
    {
        by_itself(node, wrong).await.refused(401, "unauthenticated");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_reads_when_its_key_must_be_renewed() {
    let world = World::new().await;
    let node = &world.node;
    let key = world.key(&["tools/call"]).await;
    let own = async |key: &str| node.send(node.request(Method::GET, "/v1/keys/self").bearer_auth(key)).await;
    let before = own(&key.key).await.ok();
    assert_eq!((&before["id"], &before["is_newest"], &before["direct"]), (&json!(key.id), &json!(true), &json!(true)));
    world.post(&format!("/v1/keys/{}/rotate", key.id), json!({})).await.enforced();
    assert_eq!(own(&key.key).await.ok()["is_newest"], false);
    own(&world.operator.key).await.refused(401, "unauthenticated");
    world.node.stop().await;
}
