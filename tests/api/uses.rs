//! What is seen of credentials: when and where each secret was last used, and why one was refused.

use serde_json::{Value, json};

use crate::support::{Node, TestDb};

const QUESTIONS: usize = 10_000;
const AT_ONCE: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_introspections_of_one_key_cause_at_most_two_writes() {
    let db = TestDb::new().await;
    db.execute(
        "create table written (owner text);
         create function count_write() returns trigger language plpgsql as
             $$ begin insert into written values (new.owner); return new; end $$;
         create trigger count_write after insert or update on secret_uses for each row execute function count_write();",
    )
    .await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/list"]).await;
    let began = node.app.live.now().seconds();
    for _ in 0..QUESTIONS / AT_ONCE {
        let asked = futures_util::future::join_all((0..AT_ONCE).map(|_| server.accepts(&node, &key.key))).await;
        assert!(asked.into_iter().all(|active| active));
    }
    let took = node.app.live.now().seconds() - began;
    let path = format!("/v1/keys/{}", key.id);
    node.until("the use is seen", async || {
        operator.get(&node, &path).await.ok()["secrets"][0].get("last_used_at").is_some()
    })
    .await;
    let id = key.id.clone();
    node.stop().await;
    let writes = db.count(&format!("select count(*) from written where owner = '{id}'")).await;
    // The first use at once, then one a minute, and the last one when the node stops.
    let allowed = 2 + took / 60;
    assert!((1..=allowed).contains(&writes), "{writes} writes in {took} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_of_a_secret_tells_its_own_last_use() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/list"]).await;
    let path = format!("/v1/keys/{}", key.id);
    assert!(operator.get(&node, &path).await.ok().get("last_used_at").is_none(), "never used");
    server.ask(&node, &[("token", &key.key), ("client_ip", "192.0.2.9")]).await.ok();
    operator.post(&node, &format!("{path}/rotate"), json!({})).await.ok();
    let read = async || operator.get(&node, &path).await.ok();
    node.until("the use is written", async || read().await["secrets"][1].get("last_used_at").is_some()).await;
    let now = read().await;
    assert_eq!(now["secrets"][1]["version"], 1);
    assert_eq!(now["secrets"][1]["last_used_server_id"], server.id);
    assert_eq!(now["secrets"][1]["last_used_ip"], "192.0.2.9");
    assert_eq!(now["last_used_at"], now["secrets"][1]["last_used_at"]);
    assert!(now["secrets"][0].get("last_used_at").is_none(), "the new one was not used");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_use_is_kept_too() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let path = format!("/v1/operators/{}", operator.id);
    node.until("the use is written", async || operator.get(&node, &path).await.ok().get("last_used_at").is_some())
        .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_key_tell_why_it_was_refused_where_introspection_does_not() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let (server, other) = (operator.server(&node).await, operator.server(&node).await);
    let agent = operator.agent(&node).await;
    let grants = json!([{"server_id": server.id, "permissions": ["*"]}]);
    let body = json!({"agent_id": agent, "environment": "prod", "grants": grants, "direct": false});
    let key = operator.key_with(&node, body).await;
    let session = key.session(&node, &server).await;
    assert!(!server.accepts(&node, &key.key).await && !server.accepts(&node, &key.key).await);
    let from = [("token", key.key.as_str()), ("client_ip", "192.0.2.1")];
    assert_eq!(other.ask(&node, &from).await.ok(), json!({"active": false}));
    assert!(!other.accepts(&node, &session).await);
    operator.patch(&node, &format!("/v1/keys/{}", key.id), json!({"disabled": true})).await.enforced();
    assert!(!server.accepts(&node, &key.key).await);
    key.session_with(&node, &[]).await.refused(401, "invalid_client");
    operator.post(&node, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
    assert!(!server.accepts(&node, &key.key).await);

    let path = format!("/v1/keys/{}/events", key.id);
    let wanted = [
        (server.id.as_str(), "exchange_required", 2),
        (other.id.as_str(), "wrong_server", 1),
        (server.id.as_str(), "key_disabled", 1),
        (server.id.as_str(), "revoked", 1),
        ("", "key_disabled", 1),
    ];
    let total = |items: &[Value], server: &str, cause: &str| -> i64 {
        let same = items.iter().filter(|item| item["server_id"] == server && item["cause"] == cause);
        same.map(|item| item["count"].as_i64().unwrap()).sum()
    };
    node.until("all refusals are listed", async || {
        let listed = operator.get(&node, &path).await.ok();
        let items = listed["items"].as_array().unwrap();
        wanted.iter().all(|(server, cause, count)| total(items, server, cause) >= *count)
    })
    .await;
    let listed = operator.get(&node, &path).await.ok();
    let items = listed["items"].as_array().unwrap();
    assert_eq!(total(items, &server.id, "exchange_required"), 2);
    assert!(items.iter().any(|item| item["server_id"] == other.id && item["client_ip"] == "192.0.2.1"), "{listed}");
    assert!(items.iter().all(|item| item["cause"] != "active"));
    let stranger = operator.key(&node, &server, &["*"]).await;
    let listed = operator.get(&node, &format!("/v1/keys/{}/events", stranger.id)).await.ok();
    assert_eq!(listed, json!({"items": []}), "of this key only");
    node.stop().await;
}
