//! Who talks to a node: an operator, a server that asks, the holder of a key.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Node, Reply};

/// How long a node that is not current is asked again.
const ASKED_AGAIN_MAX: std::time::Duration = std::time::Duration::from_secs(20);

/// An operator with its key.
#[derive(Clone, Debug)]
pub struct Operator {
    pub id: String,
    pub key: String,
}

/// A registered server with its client secret.
#[derive(Clone, Debug)]
pub struct Server {
    pub id: String,
    pub secret: String,
    pub resource: String,
}

/// An issued key.
#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "as in the reply")]
pub struct Key {
    pub id: String,
    pub agent: String,
    pub key: String,
}

impl Operator {
    pub async fn get(&self, node: &Node, path: &str) -> Reply {
        node.send(node.request(Method::GET, path).bearer_auth(&self.key)).await
    }

    pub async fn post(&self, node: &Node, path: &str, body: Value) -> Reply {
        node.send(node.request(Method::POST, path).bearer_auth(&self.key).json(&body)).await
    }

    /// Makes something that the story needs. A node that a busy machine kept from renewing its short lease is asked again:
    /// it has done nothing then.
    async fn make(&self, node: &Node, path: &str, body: Value) -> Value {
        let began = std::time::Instant::now();
        let mut reply = self.post(node, path, body.clone()).await;
        while reply.is_stale() && began.elapsed() < ASKED_AGAIN_MAX {
            reply = self.post(node, path, body.clone()).await;
        }
        reply.created()
    }

    pub async fn patch(&self, node: &Node, path: &str, body: Value) -> Reply {
        node.send(node.request(Method::PATCH, path).bearer_auth(&self.key).json(&body)).await
    }

    pub async fn delete(&self, node: &Node, path: &str) -> Reply {
        node.send(node.request(Method::DELETE, path).bearer_auth(&self.key)).await
    }

    /// Registers a production server at a resource of its own.
    pub async fn server(&self, node: &Node) -> Server {
        let name = uuid::Uuid::new_v4().simple().to_string();
        self.server_with(node, json!({"name": "server", "resource": format!("https://{name}.example.com/mcp")})).await
    }

    pub async fn server_with(&self, node: &Node, body: Value) -> Server {
        let made = self.make(node, "/v1/servers", body).await;
        Server { id: text(&made, "id"), secret: text(&made, "client_secret"), resource: text(&made, "resource") }
    }

    pub async fn agent(&self, node: &Node) -> String {
        text(&self.make(node, "/v1/agents", json!({"name": "agent"})).await, "id")
    }

    /// Issues a production key of a new agent with these permissions on one server.
    pub async fn key(&self, node: &Node, server: &Server, permissions: &[&str]) -> Key {
        let agent = self.agent(node).await;
        let grants = json!([{"server_id": server.id, "permissions": permissions}]);
        self.key_with(node, json!({"agent_id": agent, "environment": "prod", "grants": grants})).await
    }

    pub async fn key_with(&self, node: &Node, body: Value) -> Key {
        let made = self.make(node, "/v1/keys", body).await;
        Key { id: text(&made, "id"), agent: text(&made, "agent_id"), key: text(&made, "key") }
    }
}

impl Server {
    /// Asks about a credential; the reply must be an answer.
    pub async fn introspect(&self, node: &Node, token: &str) -> Value {
        let mut reply = self.ask(node, &[("token", token)]).await;
        // A node that a busy machine kept from renewing its short lease says so; it never guesses.
        let began = std::time::Instant::now();
        while reply.is_stale() && began.elapsed() < ASKED_AGAIN_MAX {
            reply = self.ask(node, &[("token", token)]).await;
        }
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json
    }

    /// Whether a credential is active.
    pub async fn accepts(&self, node: &Node, token: &str) -> bool {
        let answer = self.introspect(node, token).await;
        let active = answer["active"] == true;
        assert!(active || answer == json!({"active": false}), "an inactive credential has no other member: {answer}");
        active
    }

    pub async fn ask(&self, node: &Node, form: &[(&str, &str)]) -> Reply {
        node.send(node.request(Method::POST, "/oauth/introspect").basic_auth(&self.id, Some(&self.secret)).form(form))
            .await
    }

    pub async fn revoke(&self, node: &Node, token: &str) -> Reply {
        let request = node.request(Method::POST, "/oauth/revoke").basic_auth(&self.id, Some(&self.secret));
        node.send(request.form(&[("token", token)])).await
    }
}

impl Key {
    /// A session token for a server, with everything that the key has there.
    pub async fn session(&self, node: &Node, server: &Server) -> String {
        let form = [("resource", server.resource.as_str())];
        let began = std::time::Instant::now();
        let mut reply = self.session_with(node, &form).await;
        while reply.is_stale() && began.elapsed() < ASKED_AGAIN_MAX {
            reply = self.session_with(node, &form).await;
        }
        reply.issued()
    }

    pub async fn session_with(&self, node: &Node, form: &[(&str, &str)]) -> Reply {
        let mut whole = vec![("grant_type", "client_credentials")];
        whole.extend_from_slice(form);
        node.send(node.request(Method::POST, "/oauth/token").basic_auth(&self.id, Some(&self.key)).form(&whole)).await
    }
}

/// Exchanges a token without authenticating (RFC 8693); more parameters may be given.
pub async fn exchange(node: &Node, subject_token: &str, form: &[(&str, &str)]) -> Reply {
    let mut whole = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", subject_token),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
    ];
    whole.extend_from_slice(form);
    node.send(node.request(Method::POST, "/oauth/token").form(&whole)).await
}

impl Reply {
    /// The node could not prove that it is current, and did nothing.
    fn is_stale(&self) -> bool {
        let says = self.text.contains("cannot prove that it is current");
        self.status == StatusCode::SERVICE_UNAVAILABLE && (says || self.json["error"] == "temporarily_unavailable")
    }

    /// The body of a 201.
    pub fn created(self) -> Value {
        assert_eq!(self.status, StatusCode::CREATED, "{}", self.text);
        self.json
    }

    /// The body of a 200.
    pub fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json
    }

    /// The body of a 200 whose change holds on every node.
    pub fn enforced(self) -> Value {
        let body = self.ok();
        assert_eq!(body["enforced"]["complete"], true, "{body}");
        body
    }

    /// The access token of a token reply.
    pub fn issued(self) -> String {
        text(&self.ok(), "access_token")
    }

    /// A reply with this status, whatever its body.
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// A refusal with this status and code: a problem's `code`, or OAuth's `error`.
    pub fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        let found = self.json["code"].as_str().or_else(|| self.json["error"].as_str());
        assert_eq!(found, Some(code), "{}", self.text);
        self.json
    }
}

/// A member that must be a text.
pub fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}")).to_owned()
}

/// The places that a refusal names.
pub fn pointers(refused: &Value) -> Vec<&str> {
    let errors = refused["errors"].as_array().unwrap_or_else(|| panic!("no errors in {refused}"));
    errors.iter().filter_map(|error| error["pointer"].as_str()).collect()
}
