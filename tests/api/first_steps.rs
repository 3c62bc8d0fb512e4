//! The main job: issue, exchange, introspect, revoke.

use crate::support::{Node, TestDb};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_its_session_token_are_active_until_the_key_is_revoked() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/call"]).await;
    let session = key.session(&node, &server).await;
    assert!(server.accepts(&node, &key.key).await);
    assert!(server.accepts(&node, &session).await);

    operator.post(&node, &format!("/v1/keys/{}/revoke", key.id), serde_json::json!({})).await.enforced();

    assert!(!server.accepts(&node, &key.key).await);
    assert!(!server.accepts(&node, &session).await);
    node.stop().await;
}
