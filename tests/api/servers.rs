//! Servers: one for each resource, ever; secrets that overlap; grants that their owners see and withdraw; algorithms.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::actors::{Server, pointers, text};
use crate::support::{Node, Operator, TestDb};

/// Whether its secret opens introspection.
async fn may_ask(node: &Node, server: &Server) -> bool {
    let status = server.ask(node, &[("token", "x")]).await.status;
    assert!(status == 200 || status == 401, "{status}");
    status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_21_a_resource_is_registered_once_in_whatever_way_it_is_written() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    by.post(&node, "/v1/projects", json!({"name": "red"})).await.created();
    let register = async |resource: &str, project: &str| {
        by.post(&node, "/v1/servers", json!({"name": "s", "resource": resource, "project": project})).await
    };
    let made = register("https://Files.example.com/mcp", "default").await.created();
    assert_eq!(made["resource"], "https://Files.example.com/mcp", "as it was written");
    for same in [
        "https://files.example.com/mcp",
        "https://files.example.com/mcp/",
        "HTTPS://FILES.EXAMPLE.COM:443/mcp",
        "https://files.example.com/x/../mcp",
    ] {
        register(same, "default").await.refused(409, "resource_taken");
        register(same, "red").await.refused(409, "resource_taken");
    }
    register("https://files.example.com/MCP", "red").await.created();
    by.delete(&node, &format!("/v1/servers/{}", text(&made, "id"))).await.enforced();
    register("https://files.example.com/mcp", "red").await.refused(409, "resource_taken");
    for wrong in ["", "files", "ftp://h/x", "https://h/x?y", "https://h/x#y", "https://u:p@h/", "https://h /x", "//h/x"]
    {
        let refused = register(wrong, "default").await.refused(422, "invalid_fields");
        assert_eq!(pointers(&refused), ["/resource"], "{wrong}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_secrets_overlap_and_the_old_one_ends() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let old = by.server(&node).await;
    let rotate = async |body: Value| {
        let made = by.post(&node, &format!("/v1/servers/{}/rotate", old.id), body).await.enforced();
        (Server { secret: text(&made, "client_secret"), ..old.clone() }, made)
    };
    let (new, made) = rotate(json!({"grace_seconds": 3_600})).await;
    assert!(made["previous_expires_at"].is_string() && made.get("expires_at").is_none(), "{made}");
    assert!(may_ask(&node, &old).await && may_ask(&node, &new).await);
    let path = format!("/v1/servers/{}/rotate", old.id);
    by.post(&node, &path, json!({})).await.refused(409, "overlap_running");
    node.advance(&db, 3_600).await;
    assert!(!may_ask(&node, &old).await && may_ask(&node, &new).await);
    let (newest, _) = rotate(json!({"grace_seconds": 0})).await;
    assert!(!may_ask(&node, &new).await && may_ask(&node, &newest).await, "ended at once");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_server_is_gone_with_all_that_was_issued_for_it() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let (server, other) = (by.server(&node).await, by.server(&node).await);
    let grants = json!([{"server_id": server.id, "permissions": ["*"]}, {"server_id": other.id, "permissions": ["*"]}]);
    let key = by
        .key_with(
            &node,
            json!({"agent_id": by.agent(&node).await, "environment": "prod", "grants": grants, "direct": true}),
        )
        .await;
    let session = key.session(&node, &server).await;
    let kept = key.session(&node, &other).await;
    by.delete(&node, &format!("/v1/servers/{}", server.id)).await.enforced();
    assert!(!may_ask(&node, &server).await, "it cannot ask any more");
    let refused = key.session_with(&node, &[("resource", &server.resource)]).await;
    refused.refused(400, "invalid_target");
    let own = node.request(Method::POST, "/oauth/introspect").basic_auth(&key.id, Some(&key.key));
    assert_eq!(node.send(own.form(&[("token", &session)])).await.ok(), json!({"active": false}));
    assert!(other.accepts(&node, &kept).await && other.accepts(&node, &key.key).await, "only there");
    by.get(&node, &format!("/v1/servers/{}", server.id)).await.refused(404, "not_found");
    by.delete(&node, &format!("/v1/servers/{}", server.id)).await.refused(404, "not_found");
    assert!(!by.get(&node, "/v1/servers").await.text.contains(&server.id));
    let left = by.get(&node, &format!("/v1/keys/{}", key.id)).await.ok();
    assert_eq!(left["grants"].as_array().unwrap().len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_14_a_server_that_is_switched_off_neither_asks_nor_is_issued_for() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let server = by.server(&node).await;
    let key = by.key(&node, &server, &["*"]).await;
    let session = key.session(&node, &server).await;
    let path = format!("/v1/servers/{}", server.id);
    by.patch(&node, &path, json!({"disabled": true})).await.enforced();
    assert!(!may_ask(&node, &server).await);
    key.session_with(&node, &[("resource", &server.resource)]).await.refused(400, "invalid_target");
    by.patch(&node, &path, json!({"disabled": false})).await.ok();
    assert!(server.accepts(&node, &key.key).await);
    assert!(!server.accepts(&node, &session).await, "tokens from before stay dead");
    by.patch(&node, &path, json!({"resource": "https://x.example.com"})).await.refused(422, "immutable_field");
    by.patch(&node, &path, json!({"environment": "dev"})).await.refused(422, "immutable_field");
    node.stop().await;
}

async fn of_project(root: &Operator, node: &Node, name: &str) -> Operator {
    root.post(node, "/v1/projects", json!({"name": name})).await.created();
    node.operator_with(&["servers:write", "agents:write", "keys:write", "roles:write", "grants:write"], Some(&[name]))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_server_sees_each_grant_on_it_and_withdraws_it() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    let owner = of_project(&root, &node, "red").await;
    let body = json!({"name": "s", "resource": "https://red.example.com", "project": "red"});
    let server = owner.server_with(&node, body).await;
    let agent = json!({"name": "a", "owner": "team@example.com"});
    let agent = text(&root.post(&node, "/v1/agents", agent).await.created(), "id");
    let grants = json!([{"server_id": server.id, "permissions": ["tools/list"]}]);
    let body = json!({"agent_id": agent, "environment": "prod", "name": "their key", "grants": grants});
    let key = root.key_with(&node, body).await;
    let role = text(&root.post(&node, "/v1/roles", json!({"name": "r", "grants": grants})).await.created(), "id");
    let by_role = root.key_with(&node, json!({"agent_id": agent, "environment": "prod", "roles": [role]})).await;
    let session = key.session(&node, &server).await;
    let path = format!("/v1/servers/{}/grants", server.id);

    let listed = owner.get(&node, &path).await.ok();
    let own = json!({"key_id": key.id, "key_name": "their key", "agent_id": agent, "owner": "team@example.com", "permissions": ["tools/list"]});
    let shared = json!({"key_id": by_role.id, "agent_id": agent, "owner": "team@example.com", "role_id": role, "permissions": ["tools/list"]});
    let items = listed["items"].as_array().unwrap();
    assert!(items.len() == 2 && items.contains(&own) && items.contains(&shared), "nothing else of a key: {listed}");
    owner.get(&node, &format!("/v1/keys/{}", key.id)).await.refused(404, "not_found");

    owner.delete(&node, &format!("{path}/{}", key.id)).await.enforced();
    assert!(!server.accepts(&node, &key.key).await && !server.accepts(&node, &session).await);
    owner.delete(&node, &format!("{path}/{}", key.id)).await.refused(404, "not_found");
    owner.delete(&node, &format!("{path}/{}", by_role.id)).await.refused(404, "not_found");
    owner.delete(&node, &format!("{path}/{}", server.id)).await.refused(404, "invalid_id");
    assert_eq!(owner.get(&node, &path).await.ok()["items"], json!([shared]));
    node.stop().await;
}

fn header(token: &str) -> Value {
    let head = token.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_tokens_of_the_algorithm_it_asks_for_and_the_key_set_holds_their_keys() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let mut before = None;
    for alg in ["EdDSA", "ES256", "RS256"] {
        let body = json!({"name": "s", "resource": format!("https://{alg}.example.com"), "token_alg": alg});
        let server = by.server_with(&node, body).await;
        let key = by.key(&node, &server, &["*"]).await;
        node.until("a key of it is known here", async || {
            key.session_with(&node, &[("resource", &server.resource)]).await.status == 200
        })
        .await;
        let session = key.session(&node, &server).await;
        let head = header(&session);
        assert_eq!(head["alg"], alg);
        assert!(server.accepts(&node, &session).await);
        let set = node.send(node.request(Method::GET, "/oauth/jwks")).await.ok();
        let keys = set["keys"].as_array().unwrap();
        let own = keys.iter().find(|key| key["kid"] == head["kid"]).expect("its key is published");
        assert_eq!(own["alg"], alg);
        for member in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(keys.iter().all(|key| key.get(member).is_none()), "attack 32: {member}");
        }
        before = before.or(Some((server, key, session)));
    }
    // Changed later: new tokens are of the new kind, those from before stay good.
    let (server, key, old) = before.unwrap();
    by.patch(&node, &format!("/v1/servers/{}", server.id), json!({"token_alg": "RS256"})).await.ok();
    let new = key.session(&node, &server).await;
    assert_eq!(header(&new)["alg"], "RS256");
    assert!(server.accepts(&node, &new).await && server.accepts(&node, &old).await);
    for wrong in ["none", "HS256", "eddsa", "RS512"] {
        let refused = by.patch(&node, &format!("/v1/servers/{}", server.id), json!({"token_alg": wrong})).await;
        assert_eq!(pointers(&refused.refused(422, "invalid_fields")), ["/token_alg"]);
    }
    node.stop().await;
}
