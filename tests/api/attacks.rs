//! Attacks that happened to systems of this kind (design page "Attack cases"), at the doors that exist here.

use mcp_authority::types::credential::{Credential, Kind, looks_like_one};
use mcp_authority::types::environment::Environment;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::jwt::{claims, inactive};
use crate::support::{Node, Reply, World, exchange, text};

#[tokio::test(flavor = "multi_thread")]
async fn attack_4_what_is_revoked_is_refused_at_every_door_of_every_node() {
    let world = World::new().await;
    let second = Node::start(&world.db).await;
    let key = world.key(&["*"]).await;
    let (token, cut) = (world.session(&key).await, world.key(&["*"]).await);
    let of_cut = world.session(&cut).await;
    let operator =
        world.operator.post(&world.node, "/v1/operators", json!({"name": "two", "scopes": ["*"]})).await.created();
    let operator_key = text(&operator, "key");
    let before = [&key.key, &token];
    for node in [&world.node, &second] {
        for credential in before {
            assert!(world.server.accepts(node, credential).await);
        }
    }
    let path = format!("/v1/operators/{}/revoke", text(&operator, "id"));
    world.post(&path, json!({})).await.enforced();
    world.revoke(json!({"kind": "key", "id": key.id})).await;
    world.server.revoke(&world.node, &of_cut).await.expect_status(200);
    for node in [&world.node, &second] {
        for credential in [&key.key, &token, &of_cut] {
            assert!(!world.server.accepts(node, credential).await);
            exchange(node, credential, &[]).await.refused(400, "invalid_request");
        }
        key.session_with(node, &[]).await.refused(401, "invalid_client");
        let own = node.request(Method::GET, "/v1/keys/self").bearer_auth(&key.key);
        node.send(own).await.refused(401, "unauthenticated");
        let asks = node.request(Method::POST, "/oauth/introspect").bearer_auth(&key.key).form(&[("token", &token)]);
        node.send(asks).await.refused(401, "invalid_client");
        let admin = node.request(Method::GET, "/v1/agents").bearer_auth(&operator_key);
        node.send(admin).await.refused(401, "unauthenticated");
        assert!(world.server.accepts(node, &cut.key).await);
    }
    second.stop().await;
    world.node.stop().await;
}

/// One door: how a credential is shown there, and for which kinds it opens.
type Door = (&'static str, fn(&World, &str) -> reqwest::RequestBuilder, fn(&Reply) -> bool, &'static [&'static str]);

const DOORS: [Door; 8] = [
    (
        "asking",
        |world, shown| post(world, "/oauth/introspect").bearer_auth(shown).form(&[("token", "x")]),
        is_ok,
        &["server", "key", "dev"],
    ),
    (
        "asked about",
        |world, shown| post(world, "/oauth/introspect").bearer_auth(&world.server.secret).form(&[("token", shown)]),
        |reply| reply.json["active"] == true,
        &["key", "session"],
    ),
    (
        "as client",
        |world, shown| {
            post(world, "/oauth/token").form(&[("grant_type", "client_credentials"), ("client_secret", shown)])
        },
        is_ok,
        &["key", "dev"],
    ),
    (
        "as bearer client",
        |world, shown| post(world, "/oauth/token").bearer_auth(shown).form(&[("grant_type", "client_credentials")]),
        is_ok,
        &["key", "dev"],
    ),
    (
        "as subject",
        |world, shown| {
            let kind = "urn:ietf:params:oauth:token-type:access_token";
            let grant = "urn:ietf:params:oauth:grant-type:token-exchange";
            post(world, "/oauth/token").form(&[
                ("grant_type", grant),
                ("subject_token", shown),
                ("subject_token_type", kind),
            ])
        },
        is_ok,
        &["key", "dev", "session"],
    ),
    (
        "revoking",
        |world, shown| post(world, "/oauth/revoke").bearer_auth(shown).form(&[("token", "x")]),
        is_ok,
        &["server", "key", "dev"],
    ),
    (
        "administering",
        |world, shown| world.node.request(Method::GET, "/v1/keys").bearer_auth(shown),
        is_ok,
        &["operator"],
    ),
    (
        "its own",
        |world, shown| world.node.request(Method::GET, "/v1/keys/self").bearer_auth(shown),
        is_ok,
        &["key", "dev"],
    ),
];

fn post(world: &World, path: &str) -> reqwest::RequestBuilder {
    world.node.request(Method::POST, path)
}

fn is_ok(reply: &Reply) -> bool {
    reply.status.is_success()
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_10_each_kind_of_credential_opens_only_its_own_doors() {
    let world = World::new().await;
    let dev = json!({"name": "dev", "resource": "https://dev.example.com/mcp", "environment": "dev"});
    let dev = world.operator.server_with(&world.node, dev).await;
    let dev_key = world.key_on(&[(&dev, &["*"])], json!({"environment": "dev"})).await;
    let key = world.key(&["*"]).await;
    let kinds = [
        ("server", world.server.secret.clone()),
        ("operator", world.operator.key.clone()),
        ("key", key.key.clone()),
        ("dev", dev_key.key),
        ("session", world.session(&key).await),
        ("nothing", "mcp_prod_".to_owned()),
        ("an id", key.id),
    ];
    for (door, show, opened, wanted) in DOORS {
        for (kind, credential) in &kinds {
            let reply = world.node.send(show(&world, credential)).await;
            assert_eq!(opened(&reply), wanted.contains(kind), "{kind} at {door}: {} {}", reply.status, reply.text);
            assert!(!reply.status.is_server_error(), "{kind} at {door}: {}", reply.text);
        }
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_22_a_parameter_that_stands_twice_is_refused_at_every_endpoint() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let (token, kind) = (world.session(&key).await, "urn:ietf:params:oauth:token-type:access_token");
    let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    let server = [("client_id", world.server.id.as_str()), ("client_secret", &world.server.secret)];
    let holder = [("client_id", key.id.as_str()), ("client_secret", &key.key)];
    let ask =
        [&server[..], &[("token", &token), ("token_type_hint", "x"), ("client_ip", "192.0.2.1"), ("unknown", "1")]]
            .concat();
    let get = [&holder[..], &[("grant_type", "client_credentials"), ("scope", "*"), ("unknown", "1")]].concat();
    let swap =
        [&holder[..], &[("grant_type", exchange), ("subject_token", &token), ("subject_token_type", kind)]].concat();
    let swap = [&swap[..], &[("actor_token", &key.key), ("actor_token_type", kind), ("scope", "*")]].concat();
    for (path, form) in
        [("/oauth/introspect", &ask), ("/oauth/revoke", &ask), ("/oauth/token", &get), ("/oauth/token", &swap)]
    {
        for index in 0..form.len() {
            let (name, value) = form[index];
            for again in [value, "other", ""] {
                let mut twice = form.clone();
                twice.push((name, again));
                let reply = world.node.send(post(&world, path).form(&twice)).await;
                assert_eq!(reply.status, 400, "{path} {name}={again}: {}", reply.text);
                assert_eq!(reply.json["error"], "invalid_request", "{path} {name}={again}");
            }
        }
    }
    assert!(world.accepts(&token).await, "nothing was revoked by the way");
    let resource = ("resource", world.server.resource.as_str());
    let twice = [&get[..], &[resource, resource]].concat();
    world.node.send(post(&world, "/oauth/token").form(&twice)).await.refused(400, "invalid_target");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_known_unknown_and_wrong_secrets_cost_the_same() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let made = |kind, id: &[u8; 12]| Credential::generate(kind, id).reveal().to_owned();
    let of = |id: &str| *id.as_bytes().last_chunk::<12>().expect("an id");
    let (prod, nobody) = (Kind::Key(Environment::Prod), b"aaaaaaaaaaaa");
    let keyring = &world.node.app.live.keyring;
    let shown = [key.key.clone(), made(prod, &of(&key.id)), made(prod, nobody)];
    for token in &shown {
        let before = keyring.digests_made();
        world.server.introspect(&world.node, token).await;
        assert_eq!(keyring.digests_made() - before, 2, "one for the caller, one for what is asked about");
    }
    let admin = [world.operator.key.clone(), made(Kind::Admin, &of(&world.operator.id)), made(Kind::Admin, nobody)];
    let server = [world.server.secret.clone(), made(Kind::Server, &of(&world.server.id)), made(Kind::Server, nobody)];
    let cases =
        [("/oauth/token", &shown), ("/v1/keys", &admin), ("/oauth/introspect", &server), ("/oauth/revoke", &shown)];
    for (path, secrets) in cases {
        for secret in secrets {
            let method = if path.starts_with("/v1") { Method::GET } else { Method::POST };
            let form = [("grant_type", "client_credentials"), ("token", "x")];
            let before = keyring.digests_made();
            let request = world.node.request(method, path).bearer_auth(secret).form(&form);
            world.node.send(request).await;
            assert_eq!(keyring.digests_made() - before, 1, "{path}");
        }
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_an_introspection_needs_no_connection_to_the_database() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let token = world.session(&key).await;
    let unknown = Credential::generate(Kind::Key(Environment::Prod), b"aaaaaaaaaaaa").reveal().to_owned();
    let wrong = Credential::generate(Kind::Server, b"aaaaaaaaaaaa").reveal().to_owned();
    // From here on every statement of a request would fail; only the follower has a connection of its own.
    world.node.app.db.close().await;
    world.operator.get(&world.node, "/v1/agents").await.expect_status(503);
    key.session_with(&world.node, &[]).await.expect_status(503);
    for _ in 0..50 {
        assert!(world.accepts(&key.key).await && world.accepts(&token).await);
        for garbage in [unknown.as_str(), "garbage", "a.b.c"] {
            assert_eq!(world.server.introspect(&world.node, garbage).await, inactive());
        }
    }
    let stranger = world.node.request(Method::POST, "/oauth/introspect").bearer_auth(&wrong);
    world.node.send(stranger.form(&[("token", &token)])).await.refused(401, "invalid_client");
    world.node.stop().await;
}

fn private_members(value: &Value) -> bool {
    const PRIVATE: [&str; 9] = ["d", "p", "q", "k", "dp", "dq", "qi", "oth", "private"];
    match value {
        Value::Array(items) => items.iter().any(private_members),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| (PRIVATE.contains(&name.as_str()) && value.is_string()) || private_members(value)),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_32_no_reply_holds_a_private_key_or_a_secret_again() {
    let world = World::new().await;
    for alg in ["ES256", "RS256"] {
        let resource = format!("https://{}.example.com/mcp", alg.to_lowercase());
        world.operator.server_with(&world.node, json!({"name": alg, "resource": resource, "token_alg": alg})).await;
    }
    let key = world.key(&["*"]).await;
    let jti = text(&claims(&world.session(&key).await), "jti");
    world.post(&format!("/v1/keys/{}/rotate", key.id), json!({})).await.enforced();
    let keys = world.operator.get(&world.node, "/oauth/jwks").await.ok();
    assert_eq!(keys["keys"].as_array().expect("a list").len(), 3, "one of each algorithm in use, none of the audit's");
    for jwk in keys["keys"].as_array().expect("a list") {
        assert!(jwk["kid"].is_string() && jwk["alg"].is_string() && jwk["use"] == "sig", "{jwk}");
    }
    let revocation = text(&world.revoke(json!({"kind": "token", "id": jti})).await, "id");
    let mut paths: Vec<String> = [
        "/oauth/jwks",
        "/.well-known/oauth-authorization-server/oauth",
        "/v1/projects",
        "/v1/servers",
        "/v1/agents",
        "/v1/keys",
        "/v1/sessions",
        "/v1/revocations",
        "/v1/roles",
        "/v1/audit",
        "/v1/nodes",
        "/v1/operators",
        "/v1/settings",
        "/health/ready",
        "/openapi.json",
        "/docs",
    ]
    .map(str::to_owned)
    .into();
    paths.extend([format!("/v1/keys/{}", key.id), format!("/v1/servers/{}", world.server.id)]);
    paths.extend([format!("/v1/sessions/{jti}"), format!("/v1/revocations/{revocation}")]);
    paths.extend([format!("/v1/operators/{}", world.operator.id), format!("/v1/keys/{}/events", key.id)]);
    for path in paths {
        let reply = world.operator.get(&world.node, &path).await.expect_status(200);
        assert!(!private_members(&reply.json), "{path}: {}", reply.text);
        // The credentials of the examples say of themselves that they are none.
        assert!(!looks_like_one(&reply.text.replace("EXAMPLE", "")), "{path}: {}", reply.text);
        assert!(!reply.text.contains("digest"), "{path}: {}", reply.text);
    }
    world.node.stop().await;
}
