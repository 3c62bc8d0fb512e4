//! Roles, which count for all their keys at once; and projects, which bound what may be registered.

use serde_json::{Value, json};

use crate::support::actors::{pointers, text};
use crate::support::{Node, TestDb};

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_role_counts_at_once_for_its_keys_and_their_tokens() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let server = by.server(&node).await;
    let grants = |permissions: Value| json!([{"server_id": server.id, "permissions": permissions}]);
    let role = json!({"name": "reader", "grants": grants(json!(["tools/list", "tools/call:a"]))});
    let role = text(&by.post(&node, "/v1/roles", role).await.created(), "id");
    let body = json!({"agent_id": by.agent(&node).await, "environment": "prod", "roles": [role, role]});
    let key = by.key_with(&node, body).await;
    let session = key.session(&node, &server).await;
    let held = async || server.introspect(&node, &session).await["permissions"].clone();
    assert_eq!(held().await, json!(["tools/call:a", "tools/list"]));
    let path = format!("/v1/roles/{role}");
    by.patch(&node, &path, json!({"grants": grants(json!(["tools/list"]))})).await.enforced();
    assert_eq!(held().await, json!(["tools/list"]));
    by.patch(&node, &path, json!({"grants": []})).await.enforced();
    assert!(!server.accepts(&node, &session).await);
    key.session_with(&node, &[("resource", &server.resource)]).await.refused(400, "invalid_target");
    by.patch(&node, &path, json!({"grants": grants(json!(["*"]))})).await.ok();
    let fresh = key.session(&node, &server).await;
    assert!(server.accepts(&node, &fresh).await);

    by.delete(&node, &path).await.refused(409, "in_use");
    by.patch(&node, &format!("/v1/keys/{}", key.id), json!({"roles": []})).await.enforced();
    assert!(!server.accepts(&node, &fresh).await, "taken from the key");
    by.delete(&node, &path).await.enforced();
    by.get(&node, &path).await.refused(404, "not_found");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roles_name_is_its_own_in_its_project() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    by.post(&node, "/v1/projects", json!({"name": "red"})).await.created();
    by.post(&node, "/v1/roles", json!({"name": "a"})).await.created();
    by.post(&node, "/v1/roles", json!({"name": "a"})).await.refused(409, "name_taken");
    by.post(&node, "/v1/roles", json!({"name": "a", "project": "red"})).await.created();
    let other = text(&by.post(&node, "/v1/roles", json!({"name": "b"})).await.created(), "id");
    by.patch(&node, &format!("/v1/roles/{other}"), json!({"name": "a"})).await.refused(409, "name_taken");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_grants_are_named_by_their_place() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let server = by.server(&node).await;
    let grant = |id: &str, permissions: Value| json!({"server_id": id, "permissions": permissions});
    let good = grant(&server.id, json!(["tools/list"]));
    for (grants, pointer) in [
        (json!([grant("srv_000000000000", json!(["*"]))]), "/grants/0/server_id"),
        (json!([good, good]), "/grants/1/server_id"),
        (json!([good, grant(&server.id, json!([]))]), "/grants/1/permissions"),
        (json!([grant(&server.id, json!(["tool/call"]))]), "/grants/0/permissions"),
        (json!([grant(&server.id, json!(["tools/*"]))]), "/grants/0/permissions"),
        (json!([grant(&server.id, json!([1]))]), "/grants/0/permissions"),
        (json!([{"server_id": server.id}]), "/grants/0"),
        (json!([{"server_id": server.id, "permissions": ["*"], "x": 1}]), "/grants/0/x"),
        (json!([[server.id, ["*"]]]), "/grants/0"),
    ] {
        let agent = by.agent(&node).await;
        for (path, body) in [
            ("/v1/roles", json!({"name": "r", "grants": grants})),
            ("/v1/keys", json!({"agent_id": agent, "environment": "prod", "grants": grants})),
        ] {
            let refused = by.post(&node, path, body).await.refused(422, "invalid_fields");
            assert!(pointers(&refused)[0].starts_with(pointer), "{grants}: {refused}");
        }
    }
    let many: Vec<String> = (0..201).map(|index| format!("tools/call:{index}")).collect();
    let body = json!({"name": "r", "grants": [grant(&server.id, json!(many))]});
    by.post(&node, "/v1/roles", body).await.refused(422, "invalid_fields");
    let body = json!({"name": "r", "grants": [grant(&server.id, json!([format!("tools/call:{}", "a".repeat(512))]))]});
    by.post(&node, "/v1/roles", body).await.refused(422, "invalid_fields");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_21_a_projects_hosts_bound_what_is_registered_in_it() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let hosts = json!({"name": "red", "hosts": ["*.files.example.com", "one.example.com"]});
    by.post(&node, "/v1/projects", hosts).await.created();
    let register = async |host: &str| {
        let body =
            json!({"name": "s", "resource": format!("https://{host}/{}", uuid::Uuid::new_v4()), "project": "red"});
        by.post(&node, "/v1/servers", body).await
    };
    for good in ["a.files.example.com", "a.b.files.example.com", "ONE.example.com", "one.example.com:8443"] {
        register(good).await.created();
    }
    for wrong in [
        "files.example.com",
        "two.example.com",
        "evilfiles.example.com",
        "one.example.com.evil.net",
        "a.files.example.com.",
    ] {
        register(wrong).await.refused(422, "host_not_allowed");
    }
    by.patch(&node, "/v1/projects/red", json!({"hosts": null})).await.ok();
    register("two.example.com").await.created();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_stays_while_things_belong_to_it() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    by.delete(&node, "/v1/projects/default").await.refused(409, "default_project");
    let made = by.post(&node, "/v1/projects", json!({"name": "red"})).await.created();
    by.post(&node, "/v1/projects", json!({"name": "red"})).await.refused(409, "name_taken");
    by.post(&node, "/v1/agents", json!({"name": "a", "project": "red"})).await.created();
    by.delete(&node, &format!("/v1/projects/{}", text(&made, "id"))).await.refused(409, "in_use");
    by.post(&node, "/v1/projects", json!({"name": "blue"})).await.created();
    by.delete(&node, "/v1/projects/blue").await.enforced();
    by.get(&node, "/v1/projects/blue").await.refused(404, "not_found");
    for wrong in ["", "Red", "-red", "red-", "a_b", "a/b", "ä", &"a".repeat(64)] {
        let refused = by.post(&node, "/v1/projects", json!({"name": wrong})).await.refused(422, "invalid_fields");
        assert_eq!(pointers(&refused), ["/name"], "{wrong}");
    }
    node.stop().await;
}
