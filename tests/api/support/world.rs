//! The usual scene: one node, an operator, a production server.

use serde_json::{Value, json};

use super::{Key, Node, Operator, Server, TestDb};

/// A node with an operator and a server.
pub struct World {
    pub db: TestDb,
    pub node: Node,
    pub operator: Operator,
    pub server: Server,
}

impl World {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With settings of the node beside the usual ones.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let db = TestDb::new().await;
        let node = Node::start_with(&db, settings).await;
        let operator = node.operator().await;
        let server = operator.server(&node).await;
        Self { db, node, operator, server }
    }

    pub async fn post(&self, path: &str, body: Value) -> super::Reply {
        self.operator.post(&self.node, path, body).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> super::Reply {
        self.operator.patch(&self.node, path, body).await
    }

    /// A key of a new agent with these permissions on the server.
    pub async fn key(&self, permissions: &[&str]) -> Key {
        self.operator.key(&self.node, &self.server, permissions).await
    }

    /// A key of a new agent with these grants, and whatever else is said.
    pub async fn key_on(&self, grants: &[(&Server, &[&str])], more: Value) -> Key {
        let agent = self.operator.agent(&self.node).await;
        self.key_of(&agent, grants, more).await
    }

    /// A key of this agent with these grants, and whatever else is said.
    pub async fn key_of(&self, agent: &str, grants: &[(&Server, &[&str])], more: Value) -> Key {
        let grants: Vec<Value> = grants
            .iter()
            .map(|(server, permissions)| json!({"server_id": server.id, "permissions": permissions}))
            .collect();
        let mut body = json!({"agent_id": agent, "environment": "prod", "grants": grants});
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        self.operator.key_with(&self.node, body).await
    }

    /// A session token for the server, with everything that the key has there.
    pub async fn session(&self, key: &Key) -> String {
        key.session(&self.node, &self.server).await
    }

    /// Whether the server takes a credential.
    pub async fn accepts(&self, token: &str) -> bool {
        self.server.accepts(&self.node, token).await
    }

    /// Revokes; when this returns it holds everywhere.
    pub async fn revoke(&self, body: Value) -> Value {
        let receipt = self.post("/v1/revocations", body).await.created();
        assert_eq!(receipt["enforced"]["complete"], true, "{receipt}");
        receipt
    }

    /// Moves the clock on.
    pub async fn advance(&self, seconds: i64) {
        self.node.advance(&self.db, seconds).await;
    }

    /// The database's time, in seconds.
    pub fn now(&self) -> i64 {
        self.node.app.live.now().seconds()
    }

    /// The database's time some seconds away, as the API writes it.
    pub fn time(&self, seconds: i64) -> String {
        let at = mcp_authority::types::clock::Timestamp::from_seconds(self.now() + seconds).to_utc();
        at.format(&time::format_description::well_known::Rfc3339).expect("a time")
    }

    /// How often introspections had this result so far.
    pub fn introspections(&self, result: &str) -> u64 {
        let series = format!("mcpa_introspections_total{{result=\"{result}\"}} ");
        let text = self.node.app.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("no {series}")).parse().expect("a number")
    }
}
