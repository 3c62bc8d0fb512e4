//! A company whose provider vouches for its people by identity assertions, and a client that it lets in.

use reqwest::Method;
use serde_json::{Value, json};

use super::node::PUBLIC_URL;
use super::platform::{JWT_BEARER, over, refusals};
use super::{Elsewhere, Node, Reply, Signing, World, text};

/// What an identity assertion says that it is.
pub const TYPE: &str = "oauth-id-jag+jwt";

/// A company with a provider, a person there, and a client that the company lets in.
pub struct Company {
    pub elsewhere: Elsewhere,
    pub world: World,
    pub key: Signing,
    pub issuer: String,
    /// The provider's path in the API.
    pub path: String,
    pub client: String,
    pub secret: String,
}

impl Company {
    /// Everybody in the company has these permissions.
    pub async fn new(permissions: &[&str]) -> Self {
        let elsewhere = Elsewhere::start().await;
        let world = elsewhere.world().await;
        let (key, issuer) = (Signing::new("ES256", "k1"), elsewhere.url(""));
        elsewhere.put("/keys", &Signing::set(&[&key]));
        let configuration = json!({"issuer": issuer, "authorization_endpoint": elsewhere.url("/authorize"),
            "token_endpoint": elsewhere.url("/token"), "jwks_uri": elsewhere.url("/keys"), "response_types_supported": ["code"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]});
        elsewhere.put("/.well-known/openid-configuration", &configuration);
        let role = role(&world, "everybody", permissions).await;
        let body = json!({"name": "company", "kind": "openid", "settings": {"issuer": issuer, "client_id": "authority"},
            "rules": [{"claim": "sub", "role_id": role}], "enterprise_managed": true});
        let path = format!("/v1/providers/{}", text(&world.post("/v1/providers", body).await.created(), "id"));
        let body = json!({"client_name": "Assistant", "redirect_uris": ["https://assistant.example.com/callback"],
            "grant_types": ["authorization_code", JWT_BEARER], "token_endpoint_auth_method": "client_secret_post"});
        let made = world.post("/v1/clients", body).await.created();
        let (client, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
        Self { elsewhere, world, key, issuer, path, client, secret }
    }

    pub fn node(&self) -> &Node {
        &self.world.node
    }

    /// Good claims; each call has another `jti`.
    pub fn claims(&self) -> Value {
        let now = self.world.now();
        json!({"iss": self.issuer, "sub": "U019488227", "aud": format!("{PUBLIC_URL}/oauth"), "client_id": self.client,
            "jti": uuid::Uuid::new_v4().to_string(), "iat": now, "exp": now + 300, "resource": self.world.server.resource})
    }

    pub fn jag(&self, changes: &Value) -> String {
        self.signed(&json!({}), &over(self.claims(), changes))
    }

    pub fn signed(&self, header: &Value, claims: &Value) -> String {
        self.key.jwt(&over(json!({"alg": "ES256", "kid": "k1", "typ": TYPE}), header), claims)
    }

    /// Shows an assertion as the client, with nothing but that.
    pub async fn shows(&self, jag: &str, more: &[(&str, &str)]) -> Reply {
        self.shows_to(self.node(), jag, more).await
    }

    pub async fn shows_to(&self, node: &Node, jag: &str, more: &[(&str, &str)]) -> Reply {
        let mut form = vec![
            ("grant_type", JWT_BEARER),
            ("assertion", jag),
            ("client_id", &self.client),
            ("client_secret", &self.secret),
        ];
        form.extend_from_slice(more);
        node.send(node.request(Method::POST, "/oauth/token").form(&form)).await
    }

    pub async fn session(&self, changes: &Value) -> String {
        self.shows(&self.jag(changes), &[]).await.issued()
    }

    /// It gets nothing, and the audit says why; the client learns only that.
    pub async fn refuses(&self, jag: &str, cause: &str) {
        let before = refusals(&self.world, cause).await;
        let reply = self.shows(jag, &[]).await;
        assert_eq!(reply.headers["cache-control"], "no-store");
        let body = reply.refused(400, "invalid_grant");
        assert_eq!(body["error_description"], "the code or token is not good, or not for this client", "{cause}");
        self.node().until(cause, async || refusals(&self.world, cause).await > before).await;
    }

    /// The one person of this subject, as operators read it.
    pub async fn person(&self) -> Value {
        let people = self.world.operator.get(self.node(), "/v1/users").await.ok();
        assert_eq!(people["items"].as_array().expect("a list").len(), 1, "{people}");
        people["items"][0].clone()
    }

    /// A moment later, so that what is said from now on is said after what was done.
    pub async fn later(&self) {
        self.world.advance(2).await;
    }
}

/// A role that gives these permissions on the world's server.
pub async fn role(world: &World, name: &str, permissions: &[&str]) -> String {
    let grants = json!([{"server_id": world.server.id, "permissions": permissions}]);
    text(&world.post("/v1/roles", json!({"name": name, "grants": grants})).await.created(), "id")
}
