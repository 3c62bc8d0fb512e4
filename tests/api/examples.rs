//! The examples in the description of the API are calls that the service answers so: each is sent, and its reply compared.

use std::path::Path;

use reqwest::Method;
use serde_json::Value;

use crate::support::{Node, Operator, TestDb, text};

struct Player {
    node: Node,
    operator: Operator,
    examples: Value,
    /// What stands for what in the examples.
    real: Vec<(String, String)>,
}

impl Player {
    fn request(&self, operation: &str) -> Value {
        let request = self.examples[operation]["request"].to_string();
        let real = self.real.iter().fold(request, |request, (example, real)| request.replace(example, real));
        serde_json::from_str(&real).expect("JSON")
    }

    /// From here on, what the example's reply shows stands for what the real one does.
    fn learn(&mut self, operation: &str, reply: &Value, members: &[&str]) {
        for member in members {
            let example = text(&self.examples[operation]["reply"], member);
            self.real.push((example, text(reply, member)));
        }
    }

    fn compare(&self, operation: &str, status: u16, reply: &Value) {
        let example = &self.examples[operation];
        assert_eq!(example["status"], status, "{operation}: {reply}");
        like(operation, &example["reply"], reply);
    }

    async fn post(&self, operation: &str, path: &str) -> Value {
        let reply = self.operator.post(&self.node, path, self.request(operation)).await;
        self.compare(operation, reply.status.as_u16(), &reply.json);
        reply.json
    }

    async fn form(&self, operation: &str, id: &str, secret: &str) -> Value {
        let path = format!("/oauth/{operation}");
        let request = self.node.request(Method::POST, &path).basic_auth(id, Some(secret));
        let reply = self.node.send(request.form(&self.request(operation))).await;
        self.compare(operation, reply.status.as_u16(), &reply.json);
        reply.json
    }
}

/// The same members, and values of the same kinds.
fn like(place: &str, example: &Value, real: &Value) {
    assert_eq!(std::mem::discriminant(example), std::mem::discriminant(real), "{place}: {example} and {real}");
    match (example, real) {
        (Value::Object(example), Value::Object(real)) => {
            assert_eq!(example.keys().collect::<Vec<_>>(), real.keys().collect::<Vec<_>>(), "{place}");
            example.iter().for_each(|(name, value)| like(&format!("{place}/{name}"), value, &real[name]));
        }
        (Value::Array(example), Value::Array(real)) => {
            assert_eq!(example.len(), real.len(), "{place}");
            example.iter().zip(real).for_each(|(example, real)| like(place, example, real));
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_description_is_a_call_that_is_answered_so() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/examples.json");
    let examples = serde_json::from_str(&std::fs::read_to_string(path).expect("the examples")).expect("JSON");
    let mut player = Player { node, operator, examples, real: Vec::new() };
    let server = player.post("register_server", "/v1/servers").await;
    player.learn("register_server", &server, &["id", "client_secret"]);
    let agent = player.post("create_agent", "/v1/agents").await;
    player.learn("create_agent", &agent, &["id"]);
    let key = player.post("issue_key", "/v1/keys").await;
    player.learn("issue_key", &key, &["id", "key"]);
    let (key_id, secret) = (text(&key, "id"), text(&key, "key"));
    let token = player.form("token", &key_id, &secret).await;
    player.learn("token", &token, &["access_token"]);
    player.form("introspect", &text(&server, "id"), &text(&server, "client_secret")).await;
    player.post("rotate_key", &format!("/v1/keys/{key_id}/rotate")).await;
    player.form("revoke", &key_id, &secret).await;
    player.post("revoke_key", &format!("/v1/keys/{key_id}/revoke")).await;
    player.post("create_revocation", "/v1/revocations").await;
    assert_eq!(player.examples.as_object().map(serde_json::Map::len), Some(9), "each was played");
    player.node.stop().await;
}
