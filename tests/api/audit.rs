//! The audit: nothing changes unrecorded, and nothing is changed while it cannot be recorded.

use std::collections::BTreeSet;

use mcp_authority::http;
use mcp_authority::types::id::UserId;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor;

use crate::audit_verify::verified;
use crate::support::actors::text;
use crate::support::{Key, Node, Operator, Reply, TestDb};

/// Every operation of the API that changes something: its id, method and path.
fn changes() -> Vec<(String, Method, String)> {
    let api: Value = serde_json::from_str(&http::openapi().to_json().expect("text")).expect("JSON");
    let mut found = Vec::new();
    for (path, methods) in api["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let method: Method = method.to_uppercase().parse().expect("a method");
            if method != Method::GET && !operation["operationId"].is_null() {
                found.push((text(operation, "operationId"), method, path.clone()));
            }
        }
    }
    found
}

/// Steps of a person's way to a code, each a step of the flow's trace. What the way ends with – a sign-in, a consent, a refusal –
/// is told by the stories of the authorization endpoint.
const ON_THE_WAY: [&str; 6] = [
    "authorize_by_form",
    "give_consent",
    "sign_in_as_demo",
    "push_authorization_request",
    "authorize_device",
    "enter_device_code",
];
/// What people do on pages; their stories look into the audit.
const BY_PEOPLE: [&str; 3] = ["own_session", "take_back_grant", "open_claim"];
/// Sent by who signs a report of leaks, which leaks.rs tells of.
const SIGNED: [&str; 2] = ["report_leaks", "report_github_leaks"];

/// Sends a request under a name of its own, which the audit repeats.
async fn named(node: &Node, name: &str, by: &str, (method, path): (Method, &str), body: Value) -> Reply {
    let request = node.request(method, path).bearer_auth(by).header("x-request-id", name);
    node.send(if body.is_null() { request } else { request.json(&body) }).await
}

async fn entries(db: &TestDb, name: &str, result: &str) -> i64 {
    let sql = "select count(*) from audit_entries where position is not null and hash is not null";
    db.count(&format!("{sql} and body ->> 'request_id' = '{name}' and result = '{result}'")).await
}

struct Story<'a> {
    db: &'a TestDb,
    node: &'a Node,
    operator: Operator,
    told: BTreeSet<String>,
}

impl Story<'_> {
    /// Does one operation, which must succeed and be in the chain of changes when the reply is there.
    async fn done(&mut self, operation: &str, method: Method, path: &str, body: Value) -> Value {
        let reply = named(self.node, operation, &self.operator.key, (method, path), body).await;
        assert!(reply.status.is_success(), "{operation}: {}", reply.text);
        self.recorded(operation).await;
        reply.json
    }

    async fn recorded(&mut self, operation: &str) {
        let sql = format!(
            "select count(*) from audit_entries where chain = 'changes' and position is not null
             and result = 'done' and body ->> 'request_id' = '{operation}' and actor <> '' and action <> ''"
        );
        assert!(self.db.count(&sql).await > 0, "{operation} left no entry");
        self.told.insert(operation.to_owned());
    }
}

async fn clients_and_people(s: &mut Story<'_>) {
    let body = json!({"client_name": "c", "redirect_uris": ["https://c.example.com/callback"]});
    let made = s.done("register_client", Method::POST, "/v1/clients", body).await;
    let path = format!("/v1/clients/{}", text(&made, "client_id"));
    s.done("change_client", Method::PATCH, &path, json!({"client_name": "d"})).await;
    s.done("rotate_client", Method::POST, &format!("{path}/rotate"), json!({})).await;
    s.done("delete_client", Method::DELETE, &path, Value::Null).await;
    let body = json!({"name": "demo", "title": "Demo", "kind": "demo"});
    let made = s.done("add_provider", Method::POST, "/v1/providers", body).await;
    let (provider, user) = (text(&made, "id"), UserId::random());
    let path = format!("/v1/providers/{provider}");
    s.done("change_provider", Method::PATCH, &path, json!({"title": "D"})).await;
    s.db.execute(&format!("insert into users (id, provider_id, subject) values ('{user}', '{provider}', 's')")).await;
    s.done("change_user", Method::PATCH, &format!("/v1/users/{user}"), json!({"disabled": true})).await;
    s.done("delete_provider", Method::DELETE, &path, Value::Null).await;
    let body = json!({"name": "CI", "issuer": "https://ci.example.com"});
    let path = format!("/v1/issuers/{}", text(&s.done("add_issuer", Method::POST, "/v1/issuers", body).await, "id"));
    s.done("change_issuer", Method::PATCH, &path, json!({"name": "Builds"})).await;
    s.done("delete_issuer", Method::DELETE, &path, Value::Null).await;
    s.done("run_job", Method::POST, "/v1/jobs/count/run", json!({})).await;
    let body = json!({"name": "w", "url": "https://hooks.invalid/", "events": ["key.issued"]});
    let path = format!("/v1/webhooks/{}", text(&s.done("add_webhook", Method::POST, "/v1/webhooks", body).await, "id"));
    s.done("change_webhook", Method::PATCH, &path, json!({"name": "x"})).await;
    s.done("rotate_webhook", Method::POST, &format!("{path}/rotate"), json!({})).await;
    let told = text(&s.done("test_webhook", Method::POST, &format!("{path}/test"), Value::Null).await, "id");
    let again = format!("{path}/deliveries/{told}/resend");
    s.done("resend_delivery", Method::POST, &again, Value::Null).await;
    s.done("delete_webhook", Method::DELETE, &path, Value::Null).await;
    let body = json!({"redirect_uris": ["http://127.0.0.1/callback"], "token_endpoint_auth_method": "none"});
    let register = s.node.request(Method::POST, "/oauth/register").header("x-request-id", "register").json(&body);
    assert_eq!(s.node.send(register).await.status.as_u16(), 201);
    s.recorded("register").await;
}

async fn projects_operators_and_servers(s: &mut Story<'_>) {
    s.done("create_project", Method::POST, "/v1/projects", json!({"name": "team"})).await;
    s.done("change_project", Method::PATCH, "/v1/projects/team", json!({"hosts": ["example.com"]})).await;
    s.done("delete_project", Method::DELETE, "/v1/projects/team", Value::Null).await;
    let made = s.done("create_operator", Method::POST, "/v1/operators", json!({"name": "o", "scopes": ["*"]})).await;
    let path = format!("/v1/operators/{}", text(&made, "id"));
    s.done("change_operator", Method::PATCH, &path, json!({"name": "p"})).await;
    s.done("rotate_operator", Method::POST, &format!("{path}/rotate"), json!({})).await;
    s.done("revoke_operator", Method::POST, &format!("{path}/revoke"), json!({})).await;
    let body = json!({"name": "s", "resource": "https://audit.example.com/mcp"});
    let made = s.done("register_server", Method::POST, "/v1/servers", body).await;
    let path = format!("/v1/servers/{}", text(&made, "id"));
    s.done("change_server", Method::PATCH, &path, json!({"name": "t"})).await;
    s.done("rotate_server", Method::POST, &format!("{path}/rotate"), json!({})).await;
    let tools = format!("{path}/tools");
    let tool = text(&s.done("register_tool", Method::POST, &tools, json!({"name": "t"})).await, "id");
    s.done("change_tool", Method::PATCH, &format!("{tools}/{tool}"), json!({"price_micros": 1})).await;
    s.done("remove_tool", Method::DELETE, &format!("{tools}/{tool}"), Value::Null).await;
    s.done("replace_tools", Method::PUT, &tools, json!({"tools": []})).await;
    s.done("delete_server", Method::DELETE, &path, Value::Null).await;
}

/// What the holder of a key does to it.
async fn by_its_holder(s: &mut Story<'_>, holder: &Key) {
    s.operator.patch(s.node, &format!("/v1/keys/{}", holder.id), json!({"self_rotation": true})).await.ok();
    let own = (Method::POST, "/v1/keys/self/rotate");
    named(s.node, "rotate_own_key", &holder.key, own, json!({})).await.enforced();
    s.recorded("rotate_own_key").await;
    let own = (Method::POST, "/v1/keys/self/revoke");
    named(s.node, "revoke_own_key", &holder.key, own, Value::Null).await.enforced();
    s.recorded("revoke_own_key").await;
}

/// What is done to a key.
async fn of_a_key(s: &mut Story<'_>, key: &str) {
    s.done("change_key", Method::PATCH, &format!("/v1/keys/{key}"), json!({"name": "k"})).await;
    s.done("rotate_key", Method::POST, &format!("/v1/keys/{key}/rotate"), json!({})).await;
    s.done("cancel_rotation", Method::POST, &format!("/v1/keys/{key}/rotation/cancel"), json!({})).await;
    s.done("rotate_key", Method::POST, &format!("/v1/keys/{key}/rotate"), json!({"grace_seconds": 60})).await;
    s.done("finish_rotation", Method::POST, &format!("/v1/keys/{key}/rotation/finish"), json!({})).await;
    s.done("create_claim", Method::POST, &format!("/v1/keys/{key}/claims"), json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_28_every_changing_route_leaves_a_chained_entry_when_it_succeeds() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let mut story = Story { db: &db, node: &node, operator: operator.clone(), told: BTreeSet::new() };
    let s = &mut story;
    projects_operators_and_servers(s).await;
    let made = s.done("create_agent", Method::POST, "/v1/agents", json!({"name": "a"})).await;
    let agent = text(&made, "id");
    s.done("change_agent", Method::PATCH, &format!("/v1/agents/{agent}"), json!({"name": "b"})).await;
    let grants = json!([{"server_id": server.id, "permissions": ["tools/call"]}]);
    let made = s.done("create_role", Method::POST, "/v1/roles", json!({"name": "r", "grants": grants})).await;
    let path = format!("/v1/roles/{}", text(&made, "id"));
    s.done("change_role", Method::PATCH, &path, json!({"name": "q"})).await;
    s.done("delete_role", Method::DELETE, &path, Value::Null).await;
    let body = json!({"agent_id": agent, "environment": "prod", "grants": grants});
    let made = s.done("issue_key", Method::POST, "/v1/keys", body.clone()).await;
    let key = text(&made, "id");
    of_a_key(s, &key).await;
    s.done("withdraw_grant", Method::DELETE, &format!("/v1/servers/{}/grants/{key}", server.id), Value::Null).await;
    s.done("revoke_key", Method::POST, &format!("/v1/keys/{key}/revoke"), json!({})).await;
    let holder = operator.key_with(&node, body).await;
    let session = holder.session(&node, &server).await;
    let id = text(&server.introspect(&node, &session).await, "jti");
    s.done("revoke_session", Method::POST, &format!("/v1/sessions/{id}/revoke"), json!({})).await;
    clients_and_people(s).await;
    s.done("create_revocation", Method::POST, "/v1/revocations", json!({"kind": "all"})).await;
    s.done("change_settings", Method::PATCH, "/v1/settings", json!({"audit_days": 300})).await;
    // The holder of a key, and the OAuth endpoints.
    let session = holder.session(&node, &server).await;
    let issued = "select count(*) from audit_entries where chain like 'node:%' and action = 'session.issued'";
    assert_eq!(db.count(issued).await, 2, "issuing is recorded in this start's chain");
    s.told.insert("token".to_owned());
    let request = node.request(Method::POST, "/oauth/revoke").basic_auth(&server.id, Some(&server.secret));
    let reply = node.send(request.header("x-request-id", "revoke").form(&[("token", &session)])).await;
    assert_eq!(reply.status.as_u16(), 200);
    s.recorded("revoke").await;
    by_its_holder(s, &holder).await;
    s.done("delete_agent", Method::DELETE, &format!("/v1/agents/{agent}"), Value::Null).await;
    // Introspections are counted, not recorded.
    s.told.insert("introspect".to_owned());
    // Needs a provider that signs: providers.rs tells of it.
    s.told.insert("backchannel_logout".to_owned());
    s.told.extend(ON_THE_WAY.iter().chain(&BY_PEOPLE).chain(&SIGNED).map(ToString::to_string));
    let all: BTreeSet<String> = changes().into_iter().map(|(operation, ..)| operation).collect();
    let missing: Vec<_> = all.symmetric_difference(&s.told).collect();
    assert!(missing.is_empty(), "this story must tell of every changing operation: {missing:?}");
}

/// A route's path with ids of what does not exist.
fn of_nothing(path: &str) -> String {
    let path = path
        .replace("/v1/projects/{name}", "/v1/projects/none")
        .replace("/v1/jobs/{name}", "/v1/jobs/count")
        .replace("{key_id}", "key_000000000000")
        .replace("{tool_id}", "tool_00000000000000000000000000000000")
        .replace("{delivery_id}", "dlv_00000000000000000000000000000000")
        .replace("/v1/projects/{id}", "/v1/projects/none")
        .replace("/v1/operators/{id}", "/v1/operators/opr_000000000000")
        .replace("/v1/servers/{id}", "/v1/servers/srv_000000000000")
        .replace("/v1/keys/{id}", "/v1/keys/key_000000000000")
        .replace("{id}", "none_00000000000000000000000000000000");
    assert!(!path.contains('{'), "{path}");
    path
}

/// What a report that nobody signed is named in the audit.
async fn unsigned(node: &Node, operation: &str, method: Method, path: &str) -> String {
    let name = format!("{operation}-unsigned");
    let request = node.request(method, path).header("x-request-id", &name);
    node.send(request.json(&json!({"tokens": []}))).await.refused(401, "unauthenticated");
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_28_every_changing_route_leaves_a_chained_entry_when_it_refuses() {
    let db = TestDb::new().await;
    // Each node lets one address fail only so often, and there are more routes than that.
    let nodes = [Node::start(&db).await, Node::start(&db).await];
    let [node, _] = &nodes;
    let operator = node.operator().await;
    let weak = node.operator_with(&["audit:read"], None).await;
    let mut names = Vec::new();
    let changes = changes()
        .into_iter()
        .filter(|(operation, ..)| !ON_THE_WAY.iter().chain(&BY_PEOPLE).any(|known| known == operation));
    for ((operation, method, path), node) in changes.zip(nodes.iter().cycle()) {
        if operation == "register" {
            // Who registers has no credential; what is refused is recorded all the same.
            let name = "register-wrong".to_owned();
            let request = node.request(method, &path).header("x-request-id", &name);
            assert_eq!(node.send(request.json(&json!({"redirect_uris": ["http://x"]}))).await.status.as_u16(), 400);
            names.push(name);
            continue;
        }
        if operation == "backchannel_logout" {
            let name = "backchannel_logout-wrong".to_owned();
            let path = path.replace("{provider}", "none");
            let request = node.request(method, &path).header("x-request-id", &name);
            assert_eq!(node.send(request.form(&[("logout_token", "x.y.z")])).await.status.as_u16(), 400);
            names.push(name);
            continue;
        }
        if path.starts_with("/v1/leaks") {
            names.push(unsigned(node, &operation, method, &path).await);
            continue;
        }
        if path.starts_with("/oauth") {
            let name = format!("{operation}-wrong-secret");
            let request =
                node.request(method, &path).header("x-request-id", &name).basic_auth("srv_000000000000", Some("x"));
            let reply = node.send(request.form(&[("token", "x"), ("grant_type", "client_credentials")])).await;
            assert_eq!(reply.status.as_u16(), 401, "{operation}");
            names.push(name);
            continue;
        }
        let path = of_nothing(&path);
        let body = if method == Method::DELETE { Value::Null } else { json!({"no_such_field": 1}) };
        for (why, by) in [("asked-wrong", &operator.key), ("scope", &weak.key), ("nobody", &"x".to_owned())] {
            let name = format!("{operation}-{why}");
            let reply = named(node, &name, by, (method.clone(), &path), body.clone()).await;
            assert!(reply.status.is_client_error(), "{name}: {} {}", reply.status, reply.text);
            names.push(name);
        }
    }
    assert!(names.len() > 60, "{}", names.len());
    for name in names {
        node.until(&name, async || entries(&db, &name, "refused").await == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_23_while_the_audit_cannot_be_written_nothing_is_changed() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/call"]).await;
    let state =
        "select (select count(*) from agents) + (select count(*) from revocations) + (select count(*) from sessions)";
    let before = db.count(state).await;
    let mut locker = db.connection().await;
    for away in [true, false] {
        if away {
            db.execute("alter table audit_log rename to audit_log_away").await;
        } else {
            locker.execute("begin; lock table audit_log in access exclusive mode").await.expect("locked");
        }
        let agent = operator.post(&node, "/v1/agents", json!({"name": "a"})).await;
        assert_eq!(agent.status.as_u16(), 503, "{}", agent.text);
        let revoke = operator.post(&node, &format!("/v1/keys/{}/revoke", key.id), json!({})).await;
        assert_eq!(revoke.status.as_u16(), 503, "{}", revoke.text);
        let token = key.session_with(&node, &[("resource", &server.resource)]).await;
        assert_eq!(token.status.as_u16(), 503, "{}", token.text);
        // What was refused cannot be recorded either; from then on nothing is even tried.
        operator.patch(&node, "/v1/settings", json!({"lease_ms": 1})).await;
        node.until("readiness says so", async || {
            node.send(node.request(Method::GET, "/health/ready")).await.json["audit"] == "failing"
        })
        .await;
        operator.post(&node, "/v1/agents", json!({"name": "a"})).await.refused(503, "audit_unavailable");
        assert!(server.accepts(&node, &key.key).await, "answers from memory go on");
        if away {
            db.execute("alter table audit_log_away rename to audit_log").await;
        } else {
            locker.execute("rollback").await.expect("unlocked");
        }
        assert_eq!(db.count(state).await, before);
        node.until("it is ready again", async || {
            node.send(node.request(Method::GET, "/health/ready")).await.status == 200
        })
        .await;
    }
    operator.post(&node, "/v1/agents", json!({"name": "a"})).await.created();
    operator.post(&node, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
    assert!(verified(&db, &[]).await.findings.is_empty());
}
