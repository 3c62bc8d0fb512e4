//! A person who has agreed to something, without the pages that lead there: those have stories of their own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcp_authority::authorizations::{self, NewCode};
use mcp_authority::types::caller::Caller;
use mcp_authority::types::id::{ClientId, ConsentId, FlowId, ProviderId, UserId};
use mcp_authority::types::opaque;
use mcp_authority::types::permission::Permissions;
use mcp_authority::users;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Node, Reply, Server, World};

/// Where codes are sent.
pub const REDIRECT_URI: &str = "http://127.0.0.1/callback";

/// A person, and a public client that it agreed to.
pub struct Person {
    pub provider: ProviderId,
    pub user: UserId,
    pub client: ClientId,
    pub consent: ConsentId,
    pub role: String,
    server: String,
    permissions: Permissions,
}

/// A code, and what it was asked for with.
#[derive(Clone, Debug)]
pub struct Code {
    pub code: String,
    pub verifier: String,
}

impl Person {
    /// A person with a role that gives these permissions on the world's server, who agreed to all of them.
    pub async fn new(world: &World, permissions: &[&str]) -> Self {
        Self::at(world, &world.server, permissions).await
    }

    pub async fn at(world: &World, server: &Server, permissions: &[&str]) -> Self {
        let grants = json!([{"server_id": server.id, "permissions": permissions}]);
        let (provider, user) = (ProviderId::random(), UserId::random());
        let role = world.post("/v1/roles", json!({"name": user.as_str(), "grants": grants})).await.created();
        let role = super::text(&role, "id");
        let name = &provider.as_str()[20..];
        world
            .db
            .execute(&format!(
                "insert into providers (id, name, title, kind) values ('{provider}', '{name}', 'Company', 'demo');
                 insert into users (id, provider_id, subject, username) values ('{user}', '{provider}', 's', 'ada');
                 insert into user_roles (user_id, role_id) values ('{user}', '{role}')"
            ))
            .await;
        let client = public_client(world, json!(["authorization_code", "refresh_token"])).await;
        let permissions = Permissions::parse(permissions).expect("permissions");
        let (server, consent) = (server.id.clone(), ConsentId::random());
        let mut person = Self { provider, user, client, consent, role, server, permissions };
        person.agree(world).await;
        person
    }

    /// Agrees, as it does on the consent page.
    pub async fn agree(&mut self, world: &World) {
        self.consent = self.agrees_to(world, self.client).await;
    }

    pub async fn agrees_to(&self, world: &World, client: ClientId) -> ConsentId {
        let app = &world.node.app;
        let mut tx = app.db.begin().await.expect("a transaction");
        let whom = (self.user, client, self.server.parse().expect("a server"));
        let consent = users::consent(&mut tx, &Caller::machine(), whom, &self.permissions).await.expect("agreed");
        app.feed.spread(app.db.commit(tx).await.expect("committed")).await;
        consent
    }

    /// A code of the person's client.
    pub async fn code(&self, world: &World) -> Code {
        self.code_for(world, self.client, self.consent).await
    }

    pub async fn code_for(&self, world: &World, client: ClientId, consent: ConsentId) -> Code {
        let (verifier, flow) = (opaque::random().reveal().to_owned(), FlowId::random());
        let challenge = URL_SAFE_NO_PAD.encode(opaque::sha256(&verifier));
        let mut tx = world.node.app.db.begin().await.expect("a transaction");
        let new = NewCode {
            flow_id: flow.as_str(),
            consent_id: consent,
            user_id: self.user,
            client_id: client,
            server_id: self.server.parse().expect("a server"),
            permissions: &self.permissions,
            redirect_uri: REDIRECT_URI,
            code_challenge: &challenge,
            jkt: None,
            offline: false,
            position: world.node.app.live.round().position,
        };
        let code = authorizations::issue_code(&mut tx, &new).await.expect("a code").reveal().to_owned();
        mcp_authority::db::commit(tx).await.expect("committed");
        Code { code, verifier }
    }

    /// Redeems a code.
    pub async fn redeem(&self, node: &Node, code: &Code, more: &[(&str, &str)]) -> Reply {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", self.client.as_str()),
            ("code", &code.code),
            ("code_verifier", &code.verifier),
        ];
        // What is said anew replaces what was said.
        form.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        form.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        node.send(node.request(Method::POST, "/oauth/token").form(&form)).await
    }

    /// Tokens, by a new code.
    pub async fn tokens(&self, world: &World) -> Tokens {
        Tokens::of(&self.redeem(&world.node, &self.code(world).await, &[]).await.ok())
    }

    pub async fn refresh(&self, node: &Node, token: &str, more: &[(&str, &str)]) -> Reply {
        let mut form =
            vec![("grant_type", "refresh_token"), ("client_id", self.client.as_str()), ("refresh_token", token)];
        form.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        form.extend_from_slice(more);
        node.send(node.request(Method::POST, "/oauth/token").form(&form)).await
    }
}

/// A public client with these grant types.
pub async fn public_client(world: &World, grant_types: Value) -> ClientId {
    let id = ClientId::random();
    let metadata = json!({"client_name": "Editor", "redirect_uris": [REDIRECT_URI], "grant_types": grant_types,
                          "token_endpoint_auth_method": "none"});
    world
        .db
        .execute(&format!(
            "insert into clients (id, kind, client_id, name, metadata) values ('{id}', 'dynamic', '{id}', 'Editor', '{metadata}')"
        ))
        .await;
    let known = async || world.node.app.live.memory().clients.get(&id).is_some();
    world.node.until("the node knows the client", known).await;
    id
}

/// What a person's client got.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

impl Tokens {
    pub fn of(reply: &Value) -> Self {
        Self { access: super::text(reply, "access_token"), refresh: super::text(reply, "refresh_token") }
    }
}
