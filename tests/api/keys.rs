//! Keys: issue, change, switch off and on, revoke.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::actors::{Key, Server, pointers, text};
use crate::support::{Node, Operator, TestDb};

fn grant(server: &Server, permissions: &[&str]) -> Value {
    json!({"server_id": server.id, "permissions": permissions})
}

fn days(from: &Value, to: &Value) -> i64 {
    let read = |value: &Value| OffsetDateTime::parse(value.as_str().unwrap(), &Rfc3339).unwrap();
    (read(to) - read(from)).whole_days()
}

async fn issue(operator: &Operator, node: &Node, more: Value) -> crate::support::Reply {
    let mut body = json!({"agent_id": operator.agent(node).await, "environment": "prod"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    operator.post(node, "/v1/keys", body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_lives_ninety_days_unless_said_and_its_secret_is_shown_once() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let reply = issue(&operator, &node, json!({})).await;
    assert_eq!(reply.headers["cache-control"], "no-store");
    let place = reply.headers["location"].to_str().unwrap().to_owned();
    let made = reply.created();
    assert_eq!(place, format!("/v1/keys/{}", text(&made, "id")));
    let secret = text(&made, "key");
    assert!(secret.starts_with(&format!("mcp_prod_{}", text(&made, "id").strip_prefix("key_").unwrap())), "one id");
    assert_eq!(secret.len(), "mcp_prod_".len() + 61);
    assert!(secret[..secret.len() - 6].ends_with(&text(&made, "hint")), "the last characters before the checksum");
    assert_eq!(days(&made["created_at"], &made["expires_at"]), 90);

    let read = operator.get(&node, &place).await;
    assert!(!read.text.contains(&secret[21..]), "never again");
    assert!(!operator.get(&node, "/v1/keys").await.text.contains(&secret[21..]));
    let read = read.ok();
    assert_eq!(read["status"], "active");
    assert_eq!(read["secrets"][0]["version"], 1);
    assert!(read.get("name").is_none(), "replies hold no null");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_policy_allows_is_refused() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    for wrong in [json!(91), json!(0), json!(-1), json!(5_000_000_000_i64), json!("90"), json!(1.5)] {
        let refused = issue(&operator, &node, json!({"expires_in_days": wrong})).await.refused(422, "invalid_fields");
        assert_eq!(pointers(&refused), ["/expires_in_days"], "{wrong}");
    }
    operator.patch(&node, "/v1/settings", json!({"key_policies": {"prod": {"max_age_days": 7}}})).await.ok();
    issue(&operator, &node, json!({"expires_in_days": 8})).await.refused(422, "invalid_fields");
    let made = issue(&operator, &node, json!({})).await.created();
    assert_eq!(days(&made["created_at"], &made["expires_at"]), 7);
    let dev = issue(&operator, &node, json!({"environment": "dev"})).await.created();
    assert_eq!(days(&dev["created_at"], &dev["expires_at"]), 90, "each environment has its own");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_19_a_key_is_direct_only_while_all_it_has_is_on_one_server() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let (a, b) = (operator.server(&node).await, operator.server(&node).await);
    let role = json!({"name": "reader", "grants": [grant(&a, &["tools/list"])]});
    let role = text(&operator.post(&node, "/v1/roles", role).await.created(), "id");
    let (one, two) = (json!([grant(&a, &["tools/list"])]), json!([grant(&a, &["*"]), grant(&b, &["*"])]));
    for (more, direct) in [
        (json!({}), true),
        (json!({"grants": one}), true),
        (json!({"grants": one, "direct": false}), false),
        (json!({"grants": two}), false),
        (json!({"grants": two, "direct": true}), true),
        (json!({"roles": [role]}), false),
        (json!({"grants": one, "roles": [role]}), false),
    ] {
        let made = issue(&operator, &node, more.clone()).await.created();
        assert_eq!(made["direct"], direct, "{more}");
    }
    let refused = issue(&operator, &node, json!({"roles": [role], "direct": true})).await;
    assert_eq!(pointers(&refused.refused(422, "invalid_fields")), ["/direct"]);

    let key = operator
        .key_with(&node, json!({"agent_id": operator.agent(&node).await, "environment": "prod", "grants": two}))
        .await;
    assert!(!a.accepts(&node, &key.key).await, "good at the token endpoint only");
    assert!(a.accepts(&node, &key.session(&node, &a).await).await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_19_a_direct_key_gets_a_second_server_only_if_that_is_said() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let (a, b) = (operator.server(&node).await, operator.server(&node).await);
    let role = text(&operator.post(&node, "/v1/roles", json!({"name": "nothing"})).await.created(), "id");
    let two = json!([grant(&a, &["*"]), grant(&b, &["*"])]);
    let key = operator.key(&node, &a, &["*"]).await;
    let path = format!("/v1/keys/{}", key.id);
    operator.patch(&node, &path, json!({"grants": two})).await.refused(422, "direct_undecided");
    operator.patch(&node, &path, json!({"roles": [role]})).await.refused(422, "direct_undecided");
    let refused = operator.patch(&node, &path, json!({"roles": [role], "direct": true})).await;
    assert_eq!(pointers(&refused.refused(422, "invalid_fields")), ["/direct"]);
    assert!(!b.accepts(&node, &key.key).await, "a refused change changes nothing");
    operator.patch(&node, &path, json!({"grants": two, "direct": true})).await.ok();
    assert!(b.accepts(&node, &key.key).await && a.accepts(&node, &key.key).await);
    operator.patch(&node, &path, json!({"direct": false, "roles": [role]})).await.enforced();
    assert!(!a.accepts(&node, &key.key).await && !b.accepts(&node, &key.key).await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowed_key_is_narrow_at_once_and_so_are_its_tokens() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/call:search_*", "tools/list"]).await;
    let session = key.session(&node, &server).await;
    let path = format!("/v1/keys/{}", key.id);
    operator.patch(&node, &path, json!({"grants": [grant(&server, &["tools/call:search_x"])]})).await.enforced();
    for token in [&key.key, &session] {
        let answer = server.introspect(&node, token).await;
        assert_eq!(answer["permissions"], json!(["tools/call:search_x"]), "{answer}");
    }
    operator.patch(&node, &path, json!({"grants": []})).await.enforced();
    assert!(!server.accepts(&node, &key.key).await && !server.accepts(&node, &session).await);

    operator.patch(&node, &path, json!({"grants": [grant(&server, &["*"])]})).await.ok();
    let answer = server.introspect(&node, &key.key).await;
    assert_eq!(answer["permissions"], json!(["*"]));
    let wider = server.introspect(&node, &session).await;
    assert!(
        !wider["scope"].as_str().unwrap_or_default().split(' ').any(|scope| scope == "*"),
        "never more than it was issued with"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_set_by_a_change_count_at_once() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["*"]).await;
    let session = key.session(&node, &server).await;
    let path = format!("/v1/keys/{}", key.id);
    operator.patch(&node, &path, json!({"allowed_cidrs": ["192.0.2.0/24"]})).await.enforced();
    for token in [&key.key, &session] {
        assert!(!server.accepts(&node, token).await, "an unknown address");
        let asked = async |ip| server.ask(&node, &[("token", token), ("client_ip", ip)]).await;
        assert_eq!(asked("192.0.2.7").await.ok()["active"], true);
        assert_eq!(asked("198.51.100.7").await.ok(), json!({"active": false}));
    }
    key.session_with(&node, &[("resource", &server.resource)]).await.refused(401, "invalid_client");
    operator.patch(&node, &path, json!({"allowed_cidrs": null})).await.ok();
    assert!(server.accepts(&node, &key.key).await);
    for wrong in [json!([]), json!(["192.0.2.0/33"]), json!(["nowhere"])] {
        operator.patch(&node, &path, json!({"allowed_cidrs": wrong})).await.refused(422, "invalid_fields");
    }
    node.stop().await;
}

/// What must hold for whatever is switched off and on again.
async fn switched(node: &Node, operator: &Operator, (server, key): (&Server, &Key), path: &str) {
    let session = key.session(node, server).await;
    operator.patch(node, path, json!({"disabled": true})).await.enforced();
    assert!(!server.accepts(node, &key.key).await, "{path}");
    assert!(!server.accepts(node, &session).await, "{path}");
    key.session_with(node, &[("resource", &server.resource)]).await.refused(401, "invalid_client");

    operator.patch(node, path, json!({"disabled": false})).await.ok();
    assert!(server.accepts(node, &key.key).await, "{path}: a state, not a revocation");
    assert!(!server.accepts(node, &session).await, "{path}: tokens from before stay dead");
    assert!(server.accepts(node, &key.session(node, server).await).await, "{path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_14_what_is_switched_off_does_nothing_and_its_tokens_stay_dead_when_it_is_back() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["*"]).await;
    switched(&node, &operator, (&server, &key), &format!("/v1/keys/{}", key.id)).await;
    switched(&node, &operator, (&server, &key), &format!("/v1/agents/{}", key.agent)).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_8_a_second_revoke_answers_with_the_first_ones_position() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["*"]).await;
    let path = format!("/v1/keys/{}/revoke", key.id);
    let first = operator.post(&node, &path, json!({"reason": "leaked"})).await.enforced();
    assert_eq!(first["status"], "revoked");
    operator.agent(&node).await;
    let second = operator.post(&node, &path, json!({})).await.enforced();
    assert_eq!(first["enforced"]["position"], second["enforced"]["position"]);
    let body = json!({"kind": "key", "id": key.id});
    let third = operator.post(&node, "/v1/revocations", body).await.created();
    assert_eq!(first["enforced"]["position"], third["enforced"]["position"], "by whatever route");
    assert_eq!(third["reason"], "leaked");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_is_final() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["*"]).await;
    let path = format!("/v1/keys/{}", key.id);
    operator.post(&node, &format!("{path}/revoke"), json!({})).await.enforced();
    operator.post(&node, &format!("{path}/rotate"), json!({})).await.refused(409, "key_revoked");
    operator.post(&node, &format!("{path}/rotate"), json!({"grace_seconds": 0})).await.refused(409, "key_revoked");
    for disabled in [true, false] {
        operator.patch(&node, &path, json!({"disabled": disabled})).await;
        assert!(!server.accepts(&node, &key.key).await);
    }
    assert_eq!(operator.get(&node, &path).await.ok()["status"], "revoked");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_was_made_for_never_changes() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let (prod, other) = (operator.server(&node).await, operator.agent(&node).await);
    let key = operator.key(&node, &prod, &["*"]).await;
    let path = format!("/v1/keys/{}", key.id);
    operator.patch(&node, &path, json!({"environment": "dev"})).await.refused(422, "immutable_field");
    operator.patch(&node, &path, json!({"agent_id": other})).await.refused(422, "immutable_field");
    let dev = json!({"name": "dev", "resource": "https://dev.example.com", "environment": "dev"});
    let dev = operator.server_with(&node, dev).await;
    let refused = operator.patch(&node, &path, json!({"grants": [grant(&dev, &["*"])]})).await;
    assert_eq!(pointers(&refused.refused(422, "invalid_fields")), ["/grants/0/server_id"]);
    let refused = issue(&operator, &node, json!({"grants": [grant(&dev, &["*"])]})).await;
    assert_eq!(pointers(&refused.refused(422, "invalid_fields")), ["/grants/0/server_id"]);
    node.stop().await;
}
