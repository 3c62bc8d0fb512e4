//! A platform that vouches for its workloads by signed tokens, and a client that one of them acts as.

use reqwest::Method;
use serde_json::{Value, json};

use super::node::PUBLIC_URL;
use super::{Elsewhere, Node, Reply, Signing, World, text};

/// The grant that takes such tokens.
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// A workload that may.
pub const SUBJECT: &str = "repo:acme/notes:ref:refs/heads/main";

/// A platform that vouches for workloads, and a client that one of them acts as.
pub struct Platform {
    pub elsewhere: Elsewhere,
    pub world: World,
    pub key: Signing,
    pub issuer: String,
    /// Its path in the API.
    pub path: String,
    pub client: String,
}

/// A client without any credential, for workloads alone.
pub async fn client(world: &World, permissions: &[&str]) -> String {
    let grants = json!([{"server_id": world.server.id, "permissions": permissions}]);
    let body = json!({"client_name": "Job", "grant_types": [JWT_BEARER], "token_endpoint_auth_method": "none", "grants": grants});
    text(&world.post("/v1/clients", body).await.created(), "id")
}

impl Platform {
    pub async fn new() -> Self {
        let elsewhere = Elsewhere::start().await;
        let world = elsewhere.world().await;
        let key = Signing::new("ES256", "k1");
        let issuer = elsewhere.url("");
        // As platforms publish it: nobody signs in there.
        elsewhere.put(
            "/.well-known/openid-configuration",
            &json!({"issuer": issuer, "jwks_uri": elsewhere.url("/jwks"), "id_token_signing_alg_values_supported": ["ES256"]}),
        );
        elsewhere.put("/jwks", &Signing::set(&[&key]));
        let client = client(&world, &["tools/call", "tools/list"]).await;
        let rules = json!([{"claims": {"sub": "repo:acme/notes:*"}, "client_id": client}]);
        let made = world.post("/v1/issuers", json!({"name": "CI", "issuer": issuer, "rules": rules})).await.created();
        let path = format!("/v1/issuers/{}", text(&made, "id"));
        Self { elsewhere, world, key, issuer, path, client }
    }

    pub fn node(&self) -> &Node {
        &self.world.node
    }

    /// Good claims; each call has another `jti`.
    pub fn claims(&self) -> Value {
        let now = self.world.now();
        let jti = uuid::Uuid::new_v4().to_string();
        json!({"iss": self.issuer, "sub": SUBJECT, "aud": format!("{PUBLIC_URL}/oauth"), "iat": now, "exp": now + 300, "jti": jti})
    }

    pub fn token(&self, changes: &Value) -> String {
        self.key.jwt(&json!({"alg": "ES256", "kid": "k1", "typ": "JWT"}), &over(self.claims(), changes))
    }

    pub async fn shows(&self, token: &str, more: &[(&str, &str)]) -> Reply {
        shows(self.node(), token, more).await
    }

    /// A session token for a workload with these claims.
    pub async fn session(&self, changes: &Value) -> String {
        self.shows(&self.token(changes), &[]).await.issued()
    }

    /// It gets nothing, and the audit says why; the workload learns only that.
    pub async fn refuses(&self, token: &str, more: &[(&str, &str)], cause: &str) {
        let before = refusals(&self.world, cause).await;
        let reply = self.shows(token, more).await;
        assert_eq!(reply.headers["cache-control"], "no-store");
        let body = reply.refused(400, "invalid_grant");
        assert_eq!(body["error_description"], "the code or token is not good, or not for this client", "{cause}");
        self.node().until(cause, async || refusals(&self.world, cause).await > before).await;
    }
}

/// Shows an assertion, without any other word of who it is.
pub async fn shows(node: &Node, token: &str, more: &[(&str, &str)]) -> Reply {
    let mut form = vec![("grant_type", JWT_BEARER), ("assertion", token)];
    form.extend_from_slice(more);
    node.send(node.request(Method::POST, "/oauth/token").form(&form)).await
}

/// How many refusals for this cause the audit has.
pub async fn refusals(world: &World, cause: &str) -> i64 {
    let sql =
        format!("select count(*) from audit_entries where action = 'session.refused' and body ->> 'cause' = '{cause}'");
    world.db.count(&sql).await
}

/// The audit has one.
pub async fn recorded(world: &World, cause: &str) {
    world.node.until(cause, async || refusals(world, cause).await > 0).await;
}

/// `changes` over `right`; null takes a member away.
pub fn over(mut right: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            right.as_object_mut().expect("an object").remove(name);
        } else {
            right[name] = value.clone();
        }
    }
    right
}
