//! Operators: nobody gives away, changes or ends more than he has himself, and somebody always has everything.

use serde_json::{Value, json};

use crate::support::actors::{pointers, text};
use crate::support::{Node, Operator, TestDb};

async fn create(by: &Operator, node: &Node, body: Value) -> Operator {
    let made = by.post(node, "/v1/operators", body).await.created();
    Operator { id: text(&made, "id"), key: text(&made, "key") }
}

async fn works(node: &Node, operator: &Operator) -> bool {
    let status = operator.get(node, "/v1/agents").await.status;
    assert!(status == 200 || status == 401, "{status}");
    status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_made_with_bounds_and_its_key_is_shown_once() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    let good = json!({"name": "n", "scopes": ["agents:read"]});
    for (name, wrong, pointer) in [
        ("expires_in_days", json!(91), "/expires_in_days"),
        ("expires_in_days", json!(0), "/expires_in_days"),
        ("scopes", json!([]), "/scopes"),
        ("scopes", json!(["agents:read", "agents:*"]), "/scopes/1"),
        ("scopes", json!(["grants:read"]), "/scopes/0"),
        ("projects", json!([]), "/projects"),
        ("projects", json!(["nowhere"]), "/projects"),
        ("allowed_cidrs", json!(["x"]), "/allowed_cidrs/0"),
        ("name", json!(""), "/name"),
        ("password", json!("x"), "/password"),
    ] {
        let mut body = good.clone();
        body[name] = wrong.clone();
        let refused = root.post(&node, "/v1/operators", body).await.refused(422, "invalid_fields");
        assert_eq!(pointers(&refused), [pointer], "{name} {wrong}");
    }
    let made = create(&root, &node, good).await;
    assert!(made.key.starts_with("mcp_admin_"));
    assert!(works(&node, &made).await, "at once, on the node that made it");
    let read = root.get(&node, &format!("/v1/operators/{}", made.id)).await;
    assert!(!read.text.contains(&made.key[22..]));
    assert_eq!(read.ok()["expires_in_days"], 90);
    node.advance(&db, 90 * 86_400 + 1).await;
    assert!(!works(&node, &made).await, "ninety days are over");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_22_nobody_makes_or_changes_an_operator_beyond_his_own_rights() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    for name in ["red", "blue"] {
        root.post(&node, "/v1/projects", json!({"name": name})).await.created();
    }
    let own = json!({"name": "red", "scopes": ["operators:write", "keys:write"], "projects": ["red"]});
    let red = create(&root, &node, own).await;
    let new = |scopes: Value, projects: Value| json!({"name": "n", "scopes": scopes, "projects": projects});
    for beyond in [
        new(json!(["agents:read"]), json!(["red"])),
        new(json!(["*"]), json!(["red"])),
        new(json!(["keys:read"]), json!(["red", "blue"])),
        new(json!(["keys:read"]), Value::Null),
    ] {
        red.post(&node, "/v1/operators", beyond.clone()).await.refused(403, "beyond_own_rights");
    }
    let less = create(&red, &node, new(json!(["keys:read"]), json!(["red"]))).await;
    let path = |operator: &Operator| format!("/v1/operators/{}", operator.id);
    for change in [
        json!({"scopes": ["agents:write"]}),
        json!({"scopes": ["*"]}),
        json!({"projects": null}),
        json!({"projects": ["blue"]}),
    ] {
        for target in [&less, &red] {
            red.patch(&node, &path(target), change.clone()).await.refused(403, "beyond_own_rights");
        }
    }
    // Somebody with more rights in the same project is seen, and left alone.
    let more = create(&root, &node, new(json!(["agents:write"]), json!(["red"]))).await;
    assert_eq!(red.get(&node, &path(&more)).await.status, 200);
    for disabled in [true, false] {
        red.patch(&node, &path(&more), json!({"disabled": disabled})).await.refused(403, "beyond_own_rights");
    }
    for action in ["rotate", "revoke"] {
        let path = format!("{}/{action}", path(&more));
        red.post(&node, &path, json!({})).await.refused(403, "beyond_own_rights");
    }
    // Who is elsewhere, or everywhere, does not exist for him.
    let blue = create(&root, &node, new(json!(["keys:read"]), json!(["blue"]))).await;
    for unseen in [&root, &blue] {
        red.get(&node, &path(unseen)).await.refused(404, "not_found");
        red.patch(&node, &path(unseen), json!({"disabled": true})).await.refused(404, "not_found");
        red.post(&node, &format!("{}/rotate", path(unseen)), json!({})).await.refused(404, "not_found");
        red.post(&node, &format!("{}/revoke", path(unseen)), json!({})).await.refused(404, "not_found");
    }
    let listed = red.get(&node, "/v1/operators").await;
    assert!(!listed.text.contains(&root.id) && !listed.text.contains(&blue.id) && listed.text.contains(&more.id));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_rotation_has_an_overlap_that_ends() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    let old = create(&root, &node, json!({"name": "n", "scopes": ["agents:read"]})).await;
    let path = format!("/v1/operators/{}/rotate", old.id);
    let rotate = async |body: Value| {
        let made = root.post(&node, &path, body).await.enforced();
        Operator { id: text(&made, "id"), key: text(&made, "key") }
    };
    let new = rotate(json!({"grace_seconds": 3_600})).await;
    assert_eq!(new.id, old.id);
    assert!(works(&node, &old).await && works(&node, &new).await);
    root.post(&node, &path, json!({})).await.refused(409, "overlap_running");
    node.advance(&db, 3_600).await;
    assert!(!works(&node, &old).await && works(&node, &new).await);
    let newest = rotate(json!({"grace_seconds": 0})).await;
    assert!(!works(&node, &new).await && works(&node, &newest).await, "ended at once");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_operator_is_out_at_once_and_for_good() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    let operator = create(&root, &node, json!({"name": "n", "scopes": ["agents:read"]})).await;
    let path = format!("/v1/operators/{}", operator.id);
    let first = root.post(&node, &format!("{path}/revoke"), json!({})).await.enforced();
    assert_eq!(first["status"], "revoked");
    assert!(!works(&node, &operator).await);
    root.post(&node, &format!("{path}/rotate"), json!({})).await.refused(409, "key_revoked");
    root.patch(&node, &path, json!({"disabled": false})).await;
    assert!(!works(&node, &operator).await);
    let second = root.post(&node, &format!("{path}/revoke"), json!({})).await.enforced();
    assert_eq!(first["enforced"]["position"], second["enforced"]["position"], "the same receipt");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowed_operator_is_narrow_at_its_next_request() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    root.post(&node, "/v1/projects", json!({"name": "red"})).await.created();
    let agent = root.agent(&node).await;
    let operator = create(&root, &node, json!({"name": "n", "scopes": ["agents:write"]})).await;
    let path = format!("/v1/operators/{}", operator.id);
    let read = format!("/v1/agents/{agent}");
    operator.get(&node, &read).await.ok();
    root.patch(&node, &path, json!({"projects": ["red"]})).await.enforced();
    operator.get(&node, &read).await.refused(404, "not_found");
    root.patch(&node, &path, json!({"scopes": ["agents:read"], "projects": null})).await.enforced();
    operator.get(&node, &read).await.ok();
    operator.post(&node, "/v1/agents", json!({"name": "x"})).await.refused(403, "missing_scope");
    root.patch(&node, &path, json!({"allowed_cidrs": ["192.0.2.0/24"]})).await.enforced();
    operator.get(&node, &read).await.refused(401, "unauthenticated");
    root.patch(&node, &path, json!({"allowed_cidrs": ["127.0.0.1"]})).await.enforced();
    operator.get(&node, &read).await.ok();
    root.patch(&node, &path, json!({"disabled": true})).await.enforced();
    operator.get(&node, &read).await.refused(401, "unauthenticated");
    root.patch(&node, &path, json!({"disabled": false})).await.enforced();
    operator.get(&node, &read).await.ok();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_operator_with_everything_stays() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    let path = format!("/v1/operators/{}", root.id);
    root.post(&node, &format!("{path}/revoke"), json!({})).await.refused(409, "last_operator");
    for change in [json!({"disabled": true}), json!({"scopes": ["keys:write"]}), json!({"projects": ["default"]})] {
        root.patch(&node, &path, change).await.refused(409, "last_operator");
    }
    assert!(works(&node, &root).await);
    let second = create(&root, &node, json!({"name": "second", "scopes": ["*"]})).await;
    // At the same time each tries to end the other: one of them is left.
    let ends = |by: &Operator, other: &Operator| {
        let (by, path) = (by.clone(), format!("/v1/operators/{}/revoke", other.id));
        let node = &node;
        async move { by.post(node, &path, json!({})).await.status.as_u16() }
    };
    let (one, other) = tokio::join!(ends(&root, &second), ends(&second, &root));
    assert!([one, other].contains(&200), "{one} {other}");
    assert_ne!(works(&node, &root).await, works(&node, &second).await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_can_be_changed_while_no_operator_has_everything() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    let admin = create(&root, &node, json!({"name": "a", "scopes": ["operators:write", "agents:read"]})).await;
    let other = create(&root, &node, json!({"name": "o", "scopes": ["agents:read"]})).await;
    db.execute(&format!("update secrets set expires_at = authority_now() where owner = '{}'", root.id)).await;
    node.until("its time is over", async || !works(&node, &root).await).await;
    let path = format!("/v1/operators/{}", other.id);
    admin.patch(&node, &path, json!({"name": "renamed"})).await.ok();
    admin.post(&node, &format!("{path}/revoke"), json!({})).await.enforced();
    assert!(!works(&node, &other).await);
    node.stop().await;
}
