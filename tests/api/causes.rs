//! Why a credential is inactive: one closed list, counted and kept for operators, never told to those who ask.

use std::collections::BTreeSet;

use mcp_authority::gate::Inactive;
use mcp_authority::types::credential::{Credential, Kind};
use mcp_authority::types::environment::Environment;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::jwt::{self, inactive};
use crate::support::people::Person;
use crate::support::{Key, Node, Server, World, text};

/// A world, and the causes that were seen in it so far.
struct Causes {
    world: World,
    seen: BTreeSet<&'static str>,
}

impl Causes {
    async fn new() -> Self {
        Self { world: World::new().await, seen: BTreeSet::new() }
    }

    /// The credential is inactive for this cause, which only the metric tells.
    async fn is(&mut self, cause: Inactive, server: &Server, form: &[(&str, &str)]) {
        let before = self.world.introspections(cause.as_str());
        let answer = server.ask(&self.world.node, form).await.ok();
        assert_eq!(answer, inactive(), "{}", cause.as_str());
        assert_eq!(self.world.introspections(cause.as_str()), before + 1, "{}", cause.as_str());
        self.seen.insert(cause.as_str());
    }

    async fn of(&mut self, cause: Inactive, token: &str) {
        let server = self.world.server.clone();
        self.is(cause, &server, &[("token", token)]).await;
    }

    /// The key's events name the cause, and the server that asked.
    async fn event(&self, key: &Key, cause: Inactive) {
        let World { node, operator, .. } = &self.world;
        let path = format!("/v1/keys/{}/events", key.id);
        let kept = async || {
            let events = operator.get(node, &path).await.ok();
            let found = |event: &Value| event["cause"] == cause.as_str() && event["server_id"] == self.world.server.id;
            events["items"].as_array().expect("a list").iter().any(found)
        };
        node.until(cause.as_str(), kept).await;
    }
}

fn of_id(kind: Kind, id: &str) -> String {
    let id = id.as_bytes().last_chunk::<12>().expect("an id");
    Credential::generate(kind, id).reveal().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cause_is_counted_under_its_name_and_told_to_nobody_who_asks() {
    let mut causes = Causes::new().await;
    forms(&mut causes).await;
    states(&mut causes).await;
    places(&mut causes).await;
    people(&mut causes).await;
    let all: BTreeSet<&str> = Inactive::ALL.map(Inactive::as_str).into();
    let missing: Vec<_> = all.difference(&causes.seen).collect();
    assert!(missing.is_empty(), "{missing:?}");
    causes.world.node.stop().await;
}

/// What is wrong with the text itself.
async fn forms(causes: &mut Causes) {
    use Inactive::{BadSignature, Malformed, NotYet, Unknown, WrongIssuer, WrongSecret, WrongType};
    let prod = Kind::Key(Environment::Prod);
    let key = causes.world.key(&["tools/call"]).await;
    let token = causes.world.session(&key).await;
    let claims = jwt::claims(&token);
    for garbage in ["garbage", "a.b.c", &key.key[..key.key.len() - 1], &format!("{}=", key.key)] {
        causes.of(Malformed, garbage).await;
    }
    causes.of(Unknown, &of_id(prod, "aaaaaaaaaaaa")).await;
    causes.of(WrongSecret, &of_id(prod, &key.id)).await;
    causes.event(&key, WrongSecret).await;
    let (server_secret, operator_key) = (causes.world.server.secret.clone(), causes.world.operator.key.clone());
    causes.of(WrongType, &server_secret).await;
    causes.of(WrongType, &operator_key).await;
    let (signed, _) = token.rsplit_once('.').expect("a signature");
    causes.of(BadSignature, &format!("{signed}.{}", jwt::encode([7_u8; 64]))).await;
    let of_another_type = jwt::sign(&causes.world.node, "JWT", &claims);
    causes.of(WrongType, &of_another_type).await;
    let of_another_key = jwt::with(&jwt::header(&token), "kid", "nobody's");
    causes.of(Unknown, &jwt::assemble(&of_another_key, &claims, |_| vec![7; 64])).await;
    let of_another_issuer = jwt::sign(&causes.world.node, "at+jwt", &jwt::with(&claims, "iss", "https://other/oauth"));
    causes.of(WrongIssuer, &of_another_issuer).await;
    // A state that never comes: not an answer, but no "active" either.
    let before = causes.world.introspections(NotYet.as_str());
    let ahead = jwt::sign(&causes.world.node, "at+jwt", &jwt::with(&claims, "pos", "1.999999999"));
    let reply = causes.world.server.ask(&causes.world.node, &[("token", &ahead)]).await;
    reply.refused(503, "temporarily_unavailable");
    assert_eq!(causes.world.introspections(NotYet.as_str()), before + 1);
    causes.seen.insert(NotYet.as_str());
}

/// What became of it, or of what it hangs on.
async fn people(causes: &mut Causes) {
    use Inactive::{ClientDisabled, ProviderDisabled, UserDisabled};
    let person = Person::new(&causes.world, &["tools/call"]).await;
    let (client, user) = (format!("/v1/clients/{}", person.client), format!("/v1/users/{}", person.user));
    let provider = format!("/v1/providers/{}", person.provider);
    for (path, cause) in [(client, ClientDisabled), (user, UserDisabled), (provider, ProviderDisabled)] {
        let tokens = person.tokens(&causes.world).await;
        causes.world.patch(&path, json!({"disabled": true})).await.enforced();
        causes.of(cause, &tokens.access).await;
        causes.world.patch(&path, json!({"disabled": false})).await.ok();
        // Attack 14: what was issued before does not come back to life.
        causes.of(Inactive::Revoked, &tokens.access).await;
        person.refresh(&causes.world.node, &tokens.refresh, &[]).await.refused(400, "invalid_grant");
    }
}

async fn states(causes: &mut Causes) {
    use Inactive::{AgentDisabled, Expired, KeyDisabled, NothingLeft, Revoked, ServerDisabled, Superseded};
    let key = causes.world.key(&["tools/call", "tools/list"]).await;
    let path = format!("/v1/keys/{}", key.id);
    let token = causes.world.session(&key).await;
    let narrower = json!({"grants": [{"server_id": causes.world.server.id, "permissions": ["prompts/list"]}]});
    causes.world.patch(&path, narrower).await.enforced();
    causes.of(NothingLeft, &token).await;
    causes.event(&key, NothingLeft).await;
    causes.world.patch(&path, json!({"disabled": true})).await.enforced();
    causes.of(KeyDisabled, &key.key).await;
    causes.event(&key, KeyDisabled).await;
    causes.world.patch(&path, json!({"disabled": false})).await.ok();
    causes.of(Revoked, &token).await;
    let agent = format!("/v1/agents/{}", key.agent);
    causes.world.patch(&agent, json!({"disabled": true})).await.enforced();
    causes.of(AgentDisabled, &key.key).await;
    causes.event(&key, AgentDisabled).await;
    causes.world.patch(&agent, json!({"disabled": false})).await.ok();
    let newer = causes.world.post(&format!("{path}/rotate"), json!({"grace_seconds": 0})).await.enforced();
    causes.of(Superseded, &key.key).await;
    causes.event(&key, Superseded).await;
    let newer = text(&newer, "key");
    causes.world.post(&format!("{path}/revoke"), json!({})).await.enforced();
    causes.of(Revoked, &newer).await;
    causes.event(&key, Revoked).await;
    // A disabled server cannot ask; the holder can.
    let node = &causes.world.node;
    let other = causes.world.operator.server(node).await;
    let key = causes.world.operator.key(node, &other, &["*"]).await;
    let token = key.session(node, &other).await;
    causes.world.patch(&format!("/v1/servers/{}", other.id), json!({"disabled": true})).await.enforced();
    let before = causes.world.introspections(ServerDisabled.as_str());
    let request = node.request(Method::POST, "/oauth/introspect").basic_auth(&key.id, Some(&key.key));
    assert_eq!(node.send(request.form(&[("token", &token)])).await.ok(), inactive());
    assert_eq!(causes.world.introspections(ServerDisabled.as_str()), before + 1);
    causes.seen.insert(ServerDisabled.as_str());
    let key = causes.world.key_on(&[(&causes.world.server, &["*"])], json!({"expires_in_days": 1})).await;
    let token = causes.world.session(&key).await;
    causes.world.advance(900).await;
    causes.of(Expired, &token).await;
    causes.world.advance(86_400 - 900).await;
    causes.of(Expired, &key.key).await;
    causes.event(&key, Expired).await;
}

/// What it is for, and from where it comes.
async fn places(causes: &mut Causes) {
    use Inactive::{AddressRefused, AddressUnknown, ExchangeRequired, WrongEnvironment, WrongServer};
    let node = &causes.world.node;
    let dev = json!({"name": "dev", "resource": "https://dev.example.com/mcp", "environment": "dev"});
    let dev = causes.world.operator.server_with(node, dev).await;
    let key = causes.world.key(&["*"]).await;
    let of_dev = causes.world.key_on(&[(&dev, &["*"])], json!({"environment": "dev"})).await;
    let two = causes
        .world
        .key_on(&[(&causes.world.server, &["*"]), (&causes.world.operator.server(node).await, &["*"])], json!({}))
        .await;
    let listed = json!({"allowed_cidrs": ["127.0.0.1/32", "192.0.2.0/24"]});
    let listed = causes.world.key_on(&[(&causes.world.server, &["*"])], listed).await;
    let (token, listed_token) = (causes.world.session(&key).await, causes.world.session(&listed).await);
    let other = causes.world.operator.server(node).await;
    causes.is(WrongServer, &other, &[("token", &key.key)]).await;
    causes.is(WrongServer, &other, &[("token", &token)]).await;
    causes.is(WrongEnvironment, &dev, &[("token", &key.key)]).await;
    causes.of(WrongEnvironment, &of_dev.key).await;
    causes.event(&of_dev, WrongEnvironment).await;
    causes.of(ExchangeRequired, &two.key).await;
    causes.event(&two, ExchangeRequired).await;
    let server = causes.world.server.clone();
    for credential in [&listed.key, &listed_token] {
        causes.of(AddressUnknown, credential).await;
        let from = |address: &'static str| [("token", credential.as_str()), ("client_ip", address)];
        causes.is(AddressUnknown, &server, &from("not an address")).await;
        causes.is(AddressRefused, &server, &from("198.51.100.1")).await;
        for address in ["192.0.2.7", "::ffff:192.0.2.7"] {
            assert_eq!(server.ask(&causes.world.node, &from(address)).await.ok()["active"], true, "{address}");
        }
    }
    causes.event(&listed, AddressRefused).await;
    causes.event(&listed, AddressUnknown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_authority_on_the_same_database_names_another_issuer() {
    let world = World::new().await;
    let other = Node::start_with(&world.db, &[("MCPA_PUBLIC_URL", "http://127.0.0.1:9999")]).await;
    let key = world.key(&["*"]).await;
    let head = world.node.app.live.round().position;
    other.until("the other node knows the key", async || other.app.live.round().position.covers(head)).await;
    let foreign = key.session(&other, &world.server).await;
    assert!(world.server.accepts(&other, &foreign).await);
    assert!(!world.accepts(&foreign).await);
    assert_eq!(world.introspections("wrong_issuer"), 1);
    other.stop().await;
    world.node.stop().await;
}
