//! `Idempotency-Key` and `If-Match`: a repeated request does nothing twice, a stale one nothing at all.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::actors::text;
use crate::support::{Node, Operator, Reply, TestDb};

async fn post(by: &Operator, node: &Node, key: &str, (path, body): (&str, Value)) -> Reply {
    let request = node.request(Method::POST, path).bearer_auth(&by.key).header("idempotency-key", key);
    node.send(request.json(&body)).await
}

fn replayed(reply: &Reply) -> bool {
    reply.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_create_gets_the_first_outcome_without_the_secret() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let agent = by.agent(&node).await;
    let server = by.server(&node).await;
    for (path, body, secret) in [
        ("/v1/keys", json!({"agent_id": agent, "environment": "prod"}), "key"),
        ("/v1/servers", json!({"name": "s", "resource": "https://s.example.com"}), "client_secret"),
        ("/v1/operators", json!({"name": "o", "scopes": ["keys:read"]}), "key"),
        (&format!("/v1/servers/{}/rotate", server.id), json!({"grace_seconds": 0}), "client_secret"),
        ("/v1/agents", json!({"name": "a"}), ""),
    ] {
        let first = post(&by, &node, "once", (path, body.clone())).await;
        assert!(!replayed(&first) && first.status.is_success(), "{}", first.text);
        let second = post(&by, &node, "once", (path, body.clone())).await;
        assert!(replayed(&second), "{path}");
        assert_eq!(first.status, second.status, "{path}");
        assert_eq!(second.headers["cache-control"], "no-store");
        let mut wanted = first.json.clone();
        if let Some(shown) = first.json.get(secret) {
            wanted.as_object_mut().unwrap().remove(secret);
            wanted["secret_already_shown"] = json!(true);
            assert!(!second.text.contains(&shown.as_str().unwrap()[24..]), "{path}: shown once");
        }
        assert_eq!(wanted, second.json, "{path}");
        let quoted = post(&by, &node, "\"once\"", (path, body)).await;
        assert!(replayed(&quoted), "a structured string is the same key");
    }
    let kept = db.count("select count(*) from idempotency_keys where body ~ 'mcp_(prod|dev|admin|server)_'").await;
    assert_eq!(kept, 0, "no secret is kept");
    assert_eq!(by.get(&node, "/v1/keys").await.ok()["items"].as_array().unwrap().len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_one_request_of_one_operator_on_one_route_for_a_day() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let (by, other) = (node.operator().await, node.operator().await);
    let body = |name: &str| json!({"name": name});
    let first = post(&by, &node, "k", ("/v1/agents", body("a"))).await;
    let id = text(&first.created(), "id");
    post(&by, &node, "k", ("/v1/agents", body("b"))).await.refused(422, "idempotency_key_reused");
    assert!(!replayed(&post(&other, &node, "k", ("/v1/agents", body("a"))).await), "another operator");
    assert!(!replayed(&post(&by, &node, "k", ("/v1/projects", body("a"))).await), "another route");
    assert!(!replayed(&post(&by, &node, "K", ("/v1/agents", body("a"))).await), "another key");
    node.advance(&db, 86_400 - 600).await;
    assert_eq!(text(&post(&by, &node, "k", ("/v1/agents", body("a"))).await.created(), "id"), id);
    node.advance(&db, 601).await;
    let again = post(&by, &node, "k", ("/v1/agents", body("b"))).await;
    assert!(!replayed(&again));
    assert_ne!(text(&again.created(), "id"), id);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_the_same_time_one_is_done() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    for round in 0..5 {
        let key = format!("race-{round}");
        let sent = (0..8).map(|_| post(&by, &node, &key, ("/v1/agents", json!({"name": "a"}))));
        let replies = futures_util::future::join_all(sent).await;
        let done: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 201 && !replayed(reply)).collect();
        assert_eq!(done.len(), 1);
        for reply in &replies {
            match reply.status.as_u16() {
                201 => assert_eq!(reply.json, done[0].json),
                _ => assert_eq!(reply.json["code"], "idempotency_key_running", "{}", reply.text),
            }
        }
        let agents = by.get(&node, "/v1/agents").await.ok();
        assert_eq!(agents["items"].as_array().unwrap().len(), round + 1);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_uses_no_key_up() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    post(&by, &node, "k", ("/v1/agents", json!({"name": ""}))).await.refused(422, "invalid_fields");
    post(&by, &node, "k", ("/v1/agents", json!({"name": "a"}))).await.created();
    for wrong in ["", " ", "\"\"", "a b", "a\"b", &"a".repeat(256)] {
        let refused = post(&by, &node, wrong, ("/v1/agents", json!({"name": "a"}))).await;
        assert_eq!(refused.refused(422, "invalid_fields")["errors"][0]["pointer"], "Idempotency-Key", "{wrong:?}");
    }
    post(&by, &node, &"a".repeat(255), ("/v1/agents", json!({"name": "a"}))).await.created();
    let twice = node.request(Method::POST, "/v1/agents").bearer_auth(&by.key).header("idempotency-key", "x");
    node.send(twice.header("idempotency-key", "y").json(&json!({"name": "a"}))).await.refused(422, "invalid_fields");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_on_condition_is_refused_once_the_thing_has_changed() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let server = by.server(&node).await;
    let key = by.key(&node, &server, &["*"]).await;
    let role = text(&by.post(&node, "/v1/roles", json!({"name": "r"})).await.created(), "id");
    by.post(&node, "/v1/projects", json!({"name": "red"})).await.created();
    for (path, one, two) in [
        (format!("/v1/keys/{}", key.id), json!({"name": "one"}), json!({"name": "two"})),
        (format!("/v1/agents/{}", key.agent), json!({"name": "one"}), json!({"name": "two"})),
        (format!("/v1/servers/{}", server.id), json!({"name": "one"}), json!({"name": "two"})),
        (format!("/v1/roles/{role}"), json!({"name": "one"}), json!({"name": "two"})),
        (format!("/v1/operators/{}", by.id), json!({"name": "one"}), json!({"name": "two"})),
        ("/v1/projects/red".to_owned(), json!({"hosts": ["one"]}), json!({"hosts": ["two"]})),
        ("/v1/settings".to_owned(), json!({"audit_days": 401}), json!({"audit_days": 402})),
    ] {
        let tag = |reply: &Reply| reply.headers["etag"].to_str().unwrap().to_owned();
        let change = async |tag: &str, body: &Value| {
            let request = node.request(Method::PATCH, &path).bearer_auth(&by.key).header("if-match", tag);
            node.send(request.json(body)).await
        };
        let first = tag(&by.get(&node, &path).await);
        assert!(first.starts_with('"') && first.ends_with('"'), "strong: {first}");
        let changed = change(&first, &one).await;
        assert!(changed.status.is_success(), "{path}: {}", changed.text);
        assert_eq!(tag(&changed), tag(&by.get(&node, &path).await), "{path}: the reply has the new tag");
        assert_ne!(first, tag(&changed), "{path}");
        change(&first, &two).await.refused(412, "precondition_failed");
        change("\"nonsense\"", &two).await.refused(412, "precondition_failed");
        change("", &two).await.refused(412, "precondition_failed");
        let now = by.get(&node, &path).await;
        assert_eq!(tag(&now), tag(&changed), "{path}: nothing was changed");
        assert!(change(&format!("\"x\", {}", tag(&now)), &two).await.status.is_success(), "{path}: one of several");
        assert!(change("*", &one).await.status.is_success(), "{path}: whatever it is");
    }
    node.stop().await;
}
