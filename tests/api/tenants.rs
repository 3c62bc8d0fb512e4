//! Every route of the description, against things of a project that the operator does not reach.

use std::collections::{BTreeMap, BTreeSet};

use mcp_authority::authorizations;
use mcp_authority::providers::Person;
use mcp_authority::types::caller::Caller;
use mcp_authority::types::id::FlowId;
use mcp_authority::types::permission::Permissions;
use mcp_authority::users;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::actors::text;
use crate::support::description::operations;
use crate::support::{Node, Operator, TestDb};

/// What concerns the whole installation is for operators on all projects; these say so, whatever they are asked about.
const WHOLE: [&str; 32] = [
    "create_project",
    "change_project",
    "delete_project",
    "list_audit_checkpoints",
    "list_providers",
    "add_provider",
    "get_provider",
    "change_provider",
    "delete_provider",
    "list_issuers",
    "add_issuer",
    "get_issuer",
    "change_issuer",
    "delete_issuer",
    "list_users",
    "get_user",
    "change_user",
    "list_nodes",
    "list_jobs",
    "get_job",
    "run_job",
    "get_settings",
    "change_settings",
    "list_webhooks",
    "add_webhook",
    "get_webhook",
    "change_webhook",
    "delete_webhook",
    "rotate_webhook",
    "test_webhook",
    "list_deliveries",
    "resend_delivery",
];

/// One of each in the project `blue`, by its noun, and the second id of its path.
struct Blue {
    ids: BTreeMap<&'static str, String>,
    key: String,
}

impl Blue {
    async fn new(node: &Node, root: &Operator) -> Self {
        root.post(node, "/v1/projects", json!({"name": "blue"})).await.created();
        let resource = json!({"name": "s", "resource": "https://blue.example.com", "project": "blue"});
        let server = root.server_with(node, resource).await;
        let make =
            async |noun: &str, body: Value| text(&root.post(node, &format!("/v1/{noun}"), body).await.created(), "id");
        let agent = make("agents", json!({"name": "a", "project": "blue"})).await;
        let grants = json!([{"server_id": server.id, "permissions": ["*"]}]);
        let role = make("roles", json!({"name": "r", "project": "blue", "grants": grants})).await;
        let metadata =
            json!({"client_name": "c", "grant_types": ["client_credentials"], "project": "blue", "grants": grants});
        let client = make("clients", metadata).await;
        let provider = make("providers", json!({"name": "demo", "kind": "demo"})).await;
        let user = signed_in(node, &provider).await;
        let issuer = make("issuers", json!({"name": "CI", "issuer": "https://ci.example.com"})).await;
        let webhook = json!({"name": "w", "url": "https://hooks.invalid/", "events": ["*"], "project": "blue"});
        let webhook = make("webhooks", webhook).await;
        let body = json!({"agent_id": agent, "environment": "prod", "grants": grants});
        let key = root.key_with(node, body.clone()).await;
        key.session(node, &server).await;
        let session = root.get(node, &format!("/v1/sessions?key_id={}", key.id)).await.ok();
        let revoked = root.key_with(node, body).await;
        let revocation = make("revocations", json!({"kind": "key", "id": revoked.id})).await;
        let operator = make("operators", json!({"name": "o", "scopes": ["keys:read"], "projects": ["blue"]})).await;
        let whom =
            (user.parse().expect("a person"), client.parse().expect("a client"), server.id.parse().expect("a server"));
        let all = Permissions::parse(["*"]).expect("permissions");
        let mut tx = node.app.db.begin().await.expect("a transaction");
        let consent = users::consent(&mut tx, &Caller::machine(), whom, &all).await.expect("agreed");
        node.app.feed.spread(node.app.db.commit(tx).await.expect("committed")).await;
        let flow = FlowId::random().to_string();
        let mut connection = node.app.db.reads().acquire().await.expect("a connection");
        authorizations::open(&mut connection, &flow, &client, Some(&server.id)).await.expect("a flow");
        drop(connection);
        let ids = BTreeMap::from([
            ("flows", flow),
            ("consents", consent.to_string()),
            ("projects", "blue".to_owned()),
            ("servers", server.id),
            ("agents", agent),
            ("roles", role),
            ("clients", client),
            ("providers", provider),
            ("issuers", issuer),
            ("webhooks", webhook),
            ("users", user),
            ("keys", key.id.clone()),
            ("sessions", text(&session["items"][0], "id")),
            ("revocations", revocation),
            ("operators", operator),
        ]);
        Self { ids, key: key.id }
    }

    /// Bodies that would make something of blue's, or reach into it, with what they are refused with.
    fn makings(&self, operation: &str, own: &Own) -> Vec<(Value, u16)> {
        let grants = json!([{"server_id": self.ids["servers"], "permissions": ["tools/list"]}]);
        match operation {
            "create_project" => vec![(json!({"name": "green"}), 403)],
            "add_provider" => vec![(json!({"name": "other", "kind": "demo"}), 403)],
            "add_issuer" => vec![(json!({"name": "x", "issuer": "https://x.example.com"}), 403)],
            "add_webhook" => vec![(json!({"name": "x", "url": "https://hooks.invalid/", "events": ["*"]}), 403)],
            "create_operator" => vec![
                (json!({"name": "x", "scopes": ["keys:read"], "projects": ["blue"]}), 403),
                (json!({"name": "x", "scopes": ["keys:read"]}), 403),
            ],
            "register_server" => {
                vec![(json!({"name": "x", "resource": "https://x.example.com", "project": "blue"}), 422)]
            }
            "create_agent" => vec![(json!({"name": "x", "project": "blue"}), 422)],
            "register_client" => vec![
                (json!({"client_name": "x", "redirect_uris": ["https://x.example"], "project": "blue"}), 422),
                (
                    json!({"client_name": "x", "grant_types": ["client_credentials"], "project": "red", "grants": grants}),
                    422,
                ),
            ],
            "create_role" => vec![
                (json!({"name": "x", "project": "blue"}), 422),
                (json!({"name": "x", "project": "red", "grants": grants}), 422),
            ],
            "issue_key" => vec![
                (json!({"agent_id": self.ids["agents"], "environment": "prod"}), 422),
                (json!({"agent_id": own.agent, "environment": "prod", "grants": grants}), 422),
                (json!({"agent_id": own.agent, "environment": "prod", "roles": [self.ids["roles"]]}), 422),
            ],
            "create_revocation" => ["keys", "agents", "servers", "clients", "projects", "sessions"]
                .into_iter()
                .map(|noun| {
                    let kind = if noun == "sessions" { "token" } else { noun.trim_end_matches('s') };
                    (json!({"kind": kind, "id": self.ids[noun]}), 404)
                })
                .chain([(json!({"kind": "all"}), 403)])
                .collect(),
            other => panic!("{other} makes something: say here what of another project it could reach"),
        }
    }

    /// Everything of blue's as its own operators read it.
    async fn whole(&self, node: &Node, root: &Operator) -> BTreeMap<&'static str, Value> {
        let mut read = BTreeMap::new();
        for (noun, id) in &self.ids {
            let mut thing = root.get(node, &format!("/v1/{noun}/{id}")).await.ok();
            // Written behind, by uses from before.
            thing
                .as_object_mut()
                .unwrap()
                .retain(|name, _| !["last_used_at", "secrets", "failing_since"].contains(&name.as_str()));
            read.insert(*noun, thing);
        }
        read.insert("grants", root.get(node, &format!("/v1/servers/{}/grants", self.ids["servers"])).await.ok());
        read
    }
}

/// Somebody who signs in with a provider.
async fn signed_in(node: &Node, provider: &str) -> String {
    let (app, secret_key) = (&node.app, node.app.feed.secret_key());
    let person = Person {
        subject: "ada".to_owned(),
        username: Some("ada".to_owned()),
        email: None,
        roles: BTreeSet::new(),
        sid: None,
        tokens: None,
    };
    let mut tx = app.db.begin().await.expect("a transaction");
    let provider = provider.parse().expect("a provider");
    let by = Caller::machine();
    let user = users::sign_in(&mut tx, &by, app.sealing(&secret_key), provider, &person).await.expect("signed in");
    app.feed.spread(app.db.commit(tx).await.expect("committed")).await;
    user.id.to_string()
}

struct Own {
    red: Operator,
    agent: String,
    key: String,
}

async fn own(node: &Node, root: &Operator) -> Own {
    root.post(node, "/v1/projects", json!({"name": "red"})).await.created();
    let red = node.operator_with(&["*"], Some(&["red"])).await;
    let agent = text(&red.post(node, "/v1/agents", json!({"name": "a", "project": "red"})).await.created(), "id");
    let key = red.key_with(node, json!({"agent_id": agent, "environment": "prod"})).await.id;
    Own { red, agent, key }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_30_of_another_project_nothing_can_be_read_changed_or_told_from_what_is_not_there() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    let own = own(&node, &root).await;
    let blue = Blue::new(&node, &root).await;
    let before = blue.whole(&node, &root).await;
    for operation in operations().into_iter().filter(|operation| operation.scope.is_some()) {
        let noun = operation.path.split('/').nth(2).unwrap();
        let send = async |path: String, body: &Value| {
            let request = node.request(operation.method.clone(), &path).bearer_auth(&own.red.key);
            node.send(if operation.has_body { request.json(body) } else { request }).await
        };
        let whole = WHOLE.contains(&operation.id.as_str());
        if operation.path.contains('{') {
            let body = match operation.id.as_str() {
                "register_tool" => json!({"name": "x"}),
                "replace_tools" => json!({"tools": []}),
                _ => json!({}),
            };
            // Jobs are nobody's, and the same everywhere.
            let id = blue.ids.get(noun).map_or("expire", String::as_str);
            let reply = send(operation.at(&[id, &blue.key]), &body).await;
            let nothing = send(operation.nowhere(), &body).await;
            assert_eq!(reply.text, nothing.text, "{}: as if it were not there", operation.id);
            reply.refused(if whole { 403 } else { 404 }, if whole { "beyond_own_rights" } else { "not_found" });
        } else if operation.method == Method::GET {
            let reply = send(operation.path.clone(), &Value::Null).await;
            if whole {
                reply.refused(403, "beyond_own_rights");
                continue;
            }
            for id in blue.ids.values() {
                assert!(!reply.text.contains(id.as_str()), "{} shows {id}: {}", operation.id, reply.text);
            }
            reply.ok();
        } else if operation.method == Method::PATCH {
            send(operation.path.clone(), &json!({})).await.refused(403, "beyond_own_rights");
        } else {
            for (body, status) in blue.makings(&operation.id, &own) {
                let reply = send(operation.path.clone(), &body).await;
                assert_eq!(reply.status.as_u16(), status, "{} {body}: {}", operation.id, reply.text);
            }
        }
    }
    assert_eq!(before, blue.whole(&node, &root).await, "nothing of it has changed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_30_filters_by_things_of_another_project_find_nothing() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    let own = own(&node, &root).await;
    let blue = Blue::new(&node, &root).await;
    let ids = &blue.ids;
    for path in [
        "/v1/keys?project=blue".to_owned(),
        format!("/v1/keys?agent_id={}", ids["agents"]),
        format!("/v1/keys?server_id={}", ids["servers"]),
        "/v1/agents?project=blue".to_owned(),
        "/v1/servers?project=blue".to_owned(),
        "/v1/roles?project=blue".to_owned(),
        "/v1/clients?project=blue".to_owned(),
        format!("/v1/sessions?key_id={}", ids["keys"]),
        format!("/v1/sessions?server_id={}", ids["servers"]),
        "/v1/revocations?kind=key".to_owned(),
        format!("/v1/flows?client_id={}", ids["clients"]),
        "/v1/flows?result=open".to_owned(),
        format!("/v1/consents?user_id={}", ids["users"]),
        format!("/v1/consents?server_id={}", ids["servers"]),
        "/v1/audit?project=blue".to_owned(),
        format!("/v1/audit?target={}", ids["keys"]),
    ] {
        assert_eq!(own.red.get(&node, &path).await.ok(), json!({"items": []}), "{path}");
        assert_ne!(root.get(&node, &path).await.ok()["items"], json!([]), "{path}: there is something to hide");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_30_the_body_cannot_name_another_thing_than_the_path() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    let own = own(&node, &root).await;
    let blue = Blue::new(&node, &root).await;
    let path = format!("/v1/keys/{}", own.key);
    for (member, value) in [("id", &blue.ids["keys"]), ("key_id", &blue.ids["keys"]), ("project", &"blue".to_owned())] {
        let refused = own.red.patch(&node, &path, json!({"disabled": true, member: value})).await;
        assert_eq!(crate::support::actors::pointers(&refused.refused(422, "invalid_fields")), [format!("/{member}")]);
        own.red.get(&node, &format!("{path}?{member}={value}")).await.refused(400, "invalid_query");
        own.red.post(&node, &format!("{path}/revoke?{member}={value}"), json!({})).await.refused(400, "invalid_query");
    }
    for key in [&own.key, &blue.ids["keys"]] {
        assert_eq!(root.get(&node, &format!("/v1/keys/{key}")).await.ok()["status"], "active");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_22_a_grant_needs_a_right_in_the_servers_project() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    let own = own(&node, &root).await;
    let blue = Blue::new(&node, &root).await;
    let both = node.operator_with(&["keys:write", "roles:write", "servers:read"], Some(&["red", "blue"])).await;
    let grants = json!([{"server_id": blue.ids["servers"], "permissions": ["*"]}]);
    let path = format!("/v1/keys/{}", own.key);
    let key = json!({"agent_id": own.agent, "environment": "prod", "grants": grants});
    both.post(&node, "/v1/keys", key).await.refused(403, "missing_scope");
    both.patch(&node, &path, json!({"grants": grants})).await.refused(403, "missing_scope");
    let role = json!({"name": "x", "project": "red", "grants": grants});
    both.post(&node, "/v1/roles", role).await.refused(403, "missing_scope");
    let roles = json!({"roles": [blue.ids["roles"]], "direct": false});
    both.patch(&node, &path, roles.clone()).await.refused(403, "beyond_own_rights");
    own.red.patch(&node, &path, json!({"grants": grants})).await.refused(422, "invalid_fields");

    let giver = node.operator_with(&["keys:write", "grants:write"], Some(&["red", "blue"])).await;
    giver.patch(&node, &path, json!({"grants": grants})).await.ok();
    // It stays when its agent's operator, who does not see the server, changes something else, and may be given up.
    own.red.patch(&node, &path, json!({"name": "n"})).await.ok();
    let wider = json!([{"server_id": blue.ids["servers"], "permissions": ["tools/list"]}]);
    own.red.patch(&node, &path, json!({"grants": wider})).await.enforced();
    own.red.patch(&node, &path, json!({"grants": grants})).await.refused(422, "invalid_fields");
    own.red.patch(&node, &path, json!({"grants": []})).await.enforced();
    node.stop().await;
}
