//! What each list can be narrowed by.

use serde_json::{Value, json};

use crate::support::actors::text;
use crate::support::{Node, Operator, TestDb};

async fn found(by: &Operator, node: &Node, path: &str) -> Vec<String> {
    let listed = by.get(node, path).await.ok();
    let items = listed["items"].as_array().unwrap();
    items.iter().map(|item| text(item, "id")).collect()
}

async fn make(by: &Operator, node: &Node, noun: &str, body: Value) -> String {
    text(&by.post(node, &format!("/v1/{noun}"), body).await.created(), "id")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_by_what_they_are() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    by.post(&node, "/v1/projects", json!({"name": "red"})).await.created();
    let agent = by.agent(&node).await;
    let red = make(&by, &node, "agents", json!({"name": "red", "project": "red"})).await;
    let server = by.server(&node).await;
    let grants = json!([{"server_id": server.id, "permissions": ["*"]}]);
    let role = make(&by, &node, "roles", json!({"name": "r", "grants": grants})).await;
    let key = async |more: Value| {
        let mut body = json!({"agent_id": agent, "environment": "prod"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        by.key_with(&node, body).await
    };
    let plain = key(json!({"name": "Alpha key"})).await;
    let dev = key(json!({"environment": "dev"})).await.id;
    let of_red = key(json!({"agent_id": red})).await.id;
    let granted = key(json!({"grants": grants})).await;
    let by_role = key(json!({"roles": [role]})).await.id;
    let short = key(json!({"expires_in_days": 1})).await.id;
    let off = key(json!({})).await.id;
    by.patch(&node, &format!("/v1/keys/{off}"), json!({"disabled": true})).await.ok();
    let dead = key(json!({})).await.id;
    by.post(&node, &format!("/v1/keys/{dead}/revoke"), json!({})).await.enforced();
    let turning = key(json!({})).await.id;
    by.post(&node, &format!("/v1/keys/{turning}/rotate"), json!({"grace_seconds": 7_776_000})).await.ok();
    let expired = key(json!({})).await.id;
    by.post(&node, &format!("/v1/keys/{expired}/rotate"), json!({"grace_seconds": 0})).await.ok();
    db.execute(&format!("update secrets set expires_at = authority_now() where owner = '{expired}'")).await;
    assert!(server.accepts(&node, &granted.key).await);
    let path = format!("/v1/keys/{}", granted.id);
    node.until("the use is written", async || by.get(&node, &path).await.ok().get("last_used_at").is_some()).await;

    let list = async |query: &str| found(&by, &node, &format!("/v1/keys?{query}")).await;
    assert_eq!(list("q=alpha").await, std::slice::from_ref(&plain.id), "in any case");
    assert!(list("q=%25").await.is_empty(), "no pattern");
    assert_eq!(list("environment=dev").await, [dev]);
    assert_eq!(list("project=red").await, std::slice::from_ref(&of_red));
    assert_eq!(list(&format!("agent_id={red}")).await, [of_red]);
    assert_eq!(list(&format!("server_id={}", server.id)).await, [by_role, granted.id.clone()], "also by a role");
    assert_eq!(list("status=disabled").await, [off]);
    assert_eq!(list("status=revoked").await, [dead]);
    assert_eq!(list("status=overlap").await, [turning]);
    assert_eq!(list("status=expired").await, std::slice::from_ref(&expired));
    assert_eq!(list("status=active").await.len(), 6);
    assert!(list("status=active&environment=prod&q=alpha").await == [plain.id], "all of them together");
    let soon = "select to_char((authority_now() + interval '2 days') at time zone 'utc', 'YYYYMMDD')::bigint";
    let soon = db.count(soon).await;
    let soon = format!("{}-{:02}-{:02}T00:00:00Z", soon / 10_000, soon / 100 % 100, soon % 100);
    assert_eq!(list(&format!("expires_before={soon}")).await, [expired, short]);
    assert!(!list(&format!("last_used_before={soon}")).await.is_empty());
    let unused = list("last_used_before=2020-01-01T00:00:00Z").await;
    assert!(unused.len() == 9 && !unused.contains(&granted.id), "never used counts as long ago");
    for wrong in
        ["status=asleep", "environment=test", "agent_id=key_1", "server_id=x", "expires_before=tomorrow", "status="]
    {
        by.get(&node, &format!("/v1/keys?{wrong}")).await.refused(400, "invalid_query");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_agents_and_roles_are_found_by_what_they_are() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    by.post(&node, "/v1/projects", json!({"name": "red"})).await.created();
    let server = |name: &str, more: Value| {
        let mut body = json!({"name": name, "resource": format!("https://{name}.example.com")});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let first = make(&by, &node, "servers", server("first", json!({}))).await;
    let red = make(&by, &node, "servers", server("second", json!({"project": "red"}))).await;
    let dev = make(&by, &node, "servers", server("third", json!({"environment": "dev"}))).await;
    by.patch(&node, &format!("/v1/servers/{first}"), json!({"disabled": true})).await.enforced();
    let list = async |path: &str| found(&by, &node, path).await;
    assert_eq!(list("/v1/servers?project=red").await, std::slice::from_ref(&red));
    assert_eq!(list("/v1/servers?environment=dev").await, std::slice::from_ref(&dev));
    assert_eq!(list("/v1/servers?status=disabled").await, std::slice::from_ref(&first));
    assert_eq!(list("/v1/servers?status=active").await, [dev, red]);
    assert_eq!(list("/v1/servers?q=FIR").await, [first]);

    let a = make(&by, &node, "agents", json!({"name": "Anna", "project": "red"})).await;
    let b = make(&by, &node, "agents", json!({"name": "Bert"})).await;
    by.patch(&node, &format!("/v1/agents/{b}"), json!({"disabled": true})).await.enforced();
    assert_eq!(list("/v1/agents?project=red").await, std::slice::from_ref(&a));
    assert_eq!(list("/v1/agents?status=disabled").await, std::slice::from_ref(&b));
    assert_eq!(list("/v1/agents?status=active").await, [a]);
    assert_eq!(list("/v1/agents?q=ber").await, [b]);

    let own = make(&by, &node, "roles", json!({"name": "x", "project": "red"})).await;
    make(&by, &node, "roles", json!({"name": "x"})).await;
    assert_eq!(list("/v1/roles?project=red").await, [own]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_revocations_are_found_by_what_they_hang_on() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let (a, b) = (by.server(&node).await, by.server(&node).await);
    let (one, two) = (by.key(&node, &a, &["*"]).await, by.key(&node, &b, &["*"]).await);
    let jti = async |token: &str| -> String { text(&a.introspect(&node, token).await, "jti") };
    let dead = jti(&one.session(&node, &a).await).await;
    let live = jti(&one.session(&node, &a).await).await;
    two.session(&node, &b).await;
    by.post(&node, &format!("/v1/sessions/{dead}/revoke"), json!({})).await.enforced();
    let list = async |path: &str| found(&by, &node, path).await;
    for path in [format!("key_id={}", one.id), format!("agent_id={}", one.agent), format!("server_id={}", a.id)] {
        assert_eq!(list(&format!("/v1/sessions?{path}")).await, [live.clone(), dead.clone()], "{path}");
    }
    assert_eq!(list("/v1/sessions?status=revoked").await, std::slice::from_ref(&dead));
    assert_eq!(list("/v1/sessions?status=active").await.len(), 2);
    assert!(list("/v1/sessions?status=expired").await.is_empty());
    assert!(list("/v1/sessions?issued_after=2100-01-01T00:00:00Z").await.is_empty());
    assert_eq!(list("/v1/sessions?issued_after=2020-01-01T00:00:00Z").await.len(), 3);
    node.advance(&db, 900).await;
    assert_eq!(list("/v1/sessions?status=expired").await.len() + list("/v1/sessions?status=revoked").await.len(), 3);

    by.post(&node, "/v1/revocations", json!({"kind": "agent", "id": two.agent})).await.created();
    assert_eq!(list("/v1/revocations?kind=agent").await.len(), 1);
    assert_eq!(list(&format!("/v1/revocations?id={dead}")).await, list("/v1/revocations?kind=token").await);
    by.get(&node, "/v1/revocations?kind=nonsense").await.refused(400, "invalid_query");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_found_by_who_did_what_to_what() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let other = node.operator().await;
    let server = by.server(&node).await;
    let key = by.key(&node, &server, &["*"]).await;
    other.agent(&node).await;
    by.post(&node, "/v1/agents", json!({"name": ""})).await.refused(422, "invalid_fields");
    let list = async |query: &str| found(&by, &node, &format!("/v1/audit?{query}")).await;
    node.until("the refusal is written", async || list("result=refused").await.len() == 1).await;
    assert_eq!(list(&format!("actor={}", other.id)).await.len(), 1);
    assert_eq!(list("action=key.issued").await, list(&format!("target={}", key.id)).await);
    assert_eq!(list(&format!("key_id={}", key.id)).await.len(), 1);
    assert_eq!(list(&format!("agent_id={}", key.agent)).await.len(), 2);
    assert_eq!(list(&format!("server_id={}", server.id)).await.len(), 1);
    assert_eq!(list("project=default").await.len(), 4);
    assert_eq!(list("result=refused&action=key.issued").await.len(), 0);
    assert!(list("until=2020-01-01T00:00:00Z").await.is_empty());
    assert!(list("since=2100-01-01T00:00:00Z").await.is_empty());
    assert_eq!(list("since=2020-01-01T00:00:00Z").await, list("until=2100-01-01T00:00:00%2B02:00").await);
    node.stop().await;
}
