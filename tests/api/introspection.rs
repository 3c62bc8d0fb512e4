//! Introspection (RFC 7662): who may ask, and what exactly is answered.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::jwt::{assert_members, claims, inactive};
use crate::support::node::PUBLIC_URL;
use crate::support::{Key, Node, Reply, Server, World, text};

const KEY_MEMBERS: [&str; 14] = [
    "active",
    "iss",
    "sub",
    "agent_id",
    "client_id",
    "key_id",
    "aud",
    "scope",
    "permissions",
    "environment",
    "token_type",
    "iat",
    "exp",
    "jti",
];

/// A server with two scopes of its own: one that the keys below cover and one that they do not.
async fn scoped(world: &World) -> Server {
    let scopes = json!([
        {"name": "notes:read", "description": "Read notes.", "permissions": ["tools/call:read_*"]},
        {"name": "notes:write", "description": "Write notes.", "permissions": ["tools/call:write_*"]},
    ]);
    let resource = "https://Notes.example.com/mcp";
    world.operator.server_with(&world.node, json!({"name": "notes", "resource": resource, "scopes": scopes})).await
}

async fn holder_asks(node: &Node, key: &Key, token: &str) -> Value {
    let request = node.request(Method::POST, "/oauth/introspect").basic_auth(&key.id, Some(&key.key));
    node.send(request.form(&[("token", token)])).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_is_described_by_exactly_these_members() {
    let world = World::new().await;
    let server = scoped(&world).await;
    let key = world.operator.key(&world.node, &server, &["tools/list", "tools/call:read_*"]).await;
    let reply = server.ask(&world.node, &[("token", &key.key)]).await;
    assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store");
    let answer = reply.ok();
    assert_members(&answer, &KEY_MEMBERS[..13]);
    assert_eq!(answer["active"], true);
    assert_eq!(answer["iss"], format!("{PUBLIC_URL}/oauth"));
    assert_eq!((&answer["sub"], &answer["agent_id"]), (&json!(key.agent), &json!(key.agent)));
    assert_eq!((&answer["client_id"], &answer["key_id"]), (&json!(key.id), &json!(key.id)));
    assert_eq!(answer["aud"], server.resource, "one string, as registered");
    assert_eq!(answer["permissions"], json!(["tools/call:read_*", "tools/list"]));
    assert_eq!(answer["scope"], "tools/call:read_* tools/list notes:read");
    assert_eq!((&answer["environment"], &answer["token_type"]), (&json!("prod"), &json!("Bearer")));
    let (made, ends) = (answer["iat"].as_i64().expect("an integer"), answer["exp"].as_i64().expect("an integer"));
    assert_eq!(ends - made, 90 * 86_400);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_token_is_described_by_exactly_these_members() {
    let world = World::new().await;
    let server = scoped(&world).await;
    let key = world.operator.key(&world.node, &server, &["tools/call:read_*"]).await;
    let token = key.session(&world.node, &server).await;
    let answer = server.introspect(&world.node, &token).await;
    assert_members(&answer, &KEY_MEMBERS);
    let claims = claims(&token);
    for member in KEY_MEMBERS.iter().filter(|member| !["active", "token_type"].contains(member)) {
        assert_eq!(answer[member], claims[member], "{member}");
    }
    assert!(text(&answer, "jti").starts_with("ses_"));
    assert!(answer["exp"].is_i64() && answer["iat"].is_i64());
    assert_eq!(answer["scope"], "tools/call:read_* notes:read");
    assert_eq!(answer["token_type"], "Bearer");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_holds_now_is_shown_not_what_held_when_a_token_was_issued() {
    let world = World::new().await;
    let server = scoped(&world).await;
    let key = world.operator.key(&world.node, &server, &["tools/call:read_*", "tools/list"]).await;
    let token = key.session(&world.node, &server).await;
    let narrowed = json!({"grants": [{"server_id": server.id, "permissions": ["tools/call:read_one"]}]});
    world.patch(&format!("/v1/keys/{}", key.id), narrowed).await.enforced();
    for credential in [&token, &key.key] {
        let answer = server.introspect(&world.node, credential).await;
        assert_eq!(
            (&answer["permissions"], &answer["scope"]),
            (&json!(["tools/call:read_one"]), &json!("tools/call:read_one"))
        );
    }
    // Wider again: the key has it, the token never has more than it was issued with.
    let wider = json!({"grants": [{"server_id": server.id, "permissions": ["*"]}]});
    world.patch(&format!("/v1/keys/{}", key.id), wider).await.ok();
    assert_eq!(server.introspect(&world.node, &key.key).await["permissions"], json!(["*"]));
    assert_eq!(server.introspect(&world.node, &token).await["permissions"], json!(["tools/call:read_*", "tools/list"]));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_a_key_may_ask_about_that_key_and_its_tokens_only() {
    let world = World::new().await;
    let (server, node) = (&world.server, &world.node);
    let (key, other) = (world.key(&["tools/call"]).await, world.key(&["tools/call"]).await);
    let (token, foreign) = (world.session(&key).await, world.session(&other).await);
    let answer = holder_asks(node, &key, &key.key).await;
    let without_audience: Vec<&str> = KEY_MEMBERS[..13].iter().copied().filter(|member| *member != "aud").collect();
    assert_members(&answer, &without_audience);
    assert_eq!(answer["key_id"], key.id);
    let answer = holder_asks(node, &key, &token).await;
    assert_members(&answer, &KEY_MEMBERS);
    assert_eq!(answer["aud"], server.resource);
    for not_its_own in [&other.key, &foreign, &server.secret, &world.operator.key] {
        assert_eq!(holder_asks(node, &key, not_its_own).await, inactive());
    }
    // A key that is not direct is no secret from its holder.
    let second = world.operator.server(node).await;
    let wide = world.key_on(&[(server, &["tools/call"]), (&second, &["tools/list"])], json!({})).await;
    let answer = holder_asks(node, &wide, &wide.key).await;
    assert_eq!(answer["permissions"], json!(["tools/call", "tools/list"]), "of all servers together");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_authenticates_by_basic_raw_or_form_encoded_in_the_body_or_as_bearer() {
    let world = World::new().await;
    let (server, node) = (&world.server, &world.node);
    let key = world.key(&["tools/call"]).await;
    let token = [("token", key.key.as_str())];
    let ask = || node.request(Method::POST, "/oauth/introspect");
    let encoded = |text: &str| text.replace('_', "%5F").replace('m', "%6d");
    let body = [("token", key.key.as_str()), ("client_id", &server.id), ("client_secret", &server.secret)];
    let raw = format!("basic {}", STANDARD.encode(format!("{}:{}", server.id, server.secret)));
    let ways = [
        ("basic, raw", ask().basic_auth(&server.id, Some(&server.secret)).form(&token)),
        ("basic, form-encoded", ask().basic_auth(encoded(&server.id), Some(encoded(&server.secret))).form(&token)),
        ("basic in lower case", ask().header(header::AUTHORIZATION, raw).form(&token)),
        ("body", ask().form(&body)),
        ("body without client_id", ask().form(&[body[0], body[2]])),
        ("bearer", ask().bearer_auth(&server.secret).form(&token)),
    ];
    for (way, request) in ways {
        let reply = node.send(request).await;
        assert_eq!((reply.status, &reply.json["active"]), (StatusCode::OK, &json!(true)), "{way}: {}", reply.text);
    }
    let twice = ask().basic_auth(&server.id, Some(&server.secret)).form(&body);
    node.send(twice).await.refused(400, "invalid_request");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_parameters_and_a_wrong_hint_change_nothing() {
    let world = World::new().await;
    let key = world.key(&["tools/call"]).await;
    let token = world.session(&key).await;
    for credential in [&key.key, &token] {
        let plain = world.server.introspect(&world.node, credential).await;
        assert_eq!(plain["active"], true);
        for hint in ["access_token", "refresh_token", "api_key", "nonsense", ""] {
            let form = [("token", credential.as_str()), ("token_type_hint", hint), ("resource", "x"), ("verbose", "1")];
            assert_eq!(world.server.ask(&world.node, &form).await.ok(), plain, "{hint}");
        }
    }
    world.server.ask(&world.node, &[]).await.refused(400, "invalid_request");
    world.server.ask(&world.node, &[("token", "")]).await.refused(400, "invalid_request");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_1_what_is_for_one_server_is_inactive_at_another() {
    let world = World::new().await;
    let other = world.operator.server(&world.node).await;
    let key = world.key(&["*"]).await;
    let token = world.session(&key).await;
    // A key with rights on both: its token for one is still nothing at the other.
    let both = world.key_on(&[(&world.server, &["*"]), (&other, &["*"])], json!({})).await;
    let token_of_both = both.session(&world.node, &world.server).await;
    assert!(world.accepts(&token_of_both).await && world.accepts(&token).await);
    for credential in [&key.key, &token, &token_of_both, &both.key] {
        assert_eq!(other.introspect(&world.node, credential).await, inactive());
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_2_nobody_asks_without_a_secret_that_works() {
    let world = World::new().await;
    let (server, node) = (&world.server, &world.node);
    let (key, other) = (world.key(&["*"]).await, world.operator.server(node).await);
    let ask = || node.request(Method::POST, "/oauth/introspect");
    let token = ("token", key.key.as_str());
    let wrong = "mcp_server_".to_owned() + &"0".repeat(61);
    let requests = [
        ("nothing", ask().form(&[token])),
        ("an id alone", ask().form(&[token, ("client_id", &server.id)])),
        ("an empty secret", ask().form(&[token, ("client_id", &server.id), ("client_secret", "")])),
        ("an empty Basic secret", ask().basic_auth(&server.id, Some("")).form(&[token])),
        ("no Basic secret", ask().basic_auth(&server.id, None::<&str>).form(&[token])),
        ("no form of a secret", ask().basic_auth(&server.id, Some("secret")).form(&[token])),
        ("a wrong checksum", ask().basic_auth(&server.id, Some(&wrong)).form(&[token])),
        ("another server's secret", ask().basic_auth(&server.id, Some(&other.secret)).form(&[token])),
        ("another server's id", ask().basic_auth(&other.id, Some(&server.secret)).form(&[token])),
        ("an operator's key", ask().bearer_auth(&world.operator.key).form(&[token])),
        ("a session token", ask().bearer_auth(world.session(&key).await).form(&[token])),
        ("another scheme", ask().header(header::AUTHORIZATION, format!("Token {}", server.secret)).form(&[token])),
        ("no base64", ask().header(header::AUTHORIZATION, "Basic !").form(&[token])),
    ];
    for (what, request) in requests {
        let reply = node.send(request).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{what}: {}", reply.text);
        assert_eq!(reply.json["error"], "invalid_client", "{what}");
        assert!(reply.headers.contains_key(header::WWW_AUTHENTICATE), "{what}");
    }
    world.node.stop().await;
}

fn comparable(reply: &Reply) -> (StatusCode, Vec<(String, String)>, String) {
    let own = ["date", "x-request-id"];
    let mut headers: Vec<_> = reply
        .headers
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
        .collect();
    headers.sort();
    (reply.status, headers, reply.text.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_3_the_unauthenticated_learn_nothing_about_a_token() {
    let world = World::new().await;
    let (server, node) = (&world.server, &world.node);
    let key = world.key(&["*"]).await;
    let (good, revoked) = (world.session(&key).await, world.session(&key).await);
    server.revoke(node, &revoked).await.expect_status(200);
    let digests = |node: &Node| node.app.live.keyring.digests_made();
    let mut seen = Vec::new();
    for token in [key.key.as_str(), &good, &revoked, "garbage", "a.b.c", ""] {
        for secret in [None, Some("wrong"), Some(world.operator.key.as_str())] {
            let request = node.request(Method::POST, "/oauth/introspect").basic_auth(&server.id, secret);
            let before = digests(node);
            let reply = node.send(request.form(&[("token", token), ("token_type_hint", "x")])).await;
            assert_eq!(digests(node), before, "nothing about the token is computed");
            seen.push(comparable(&reply));
        }
    }
    assert_eq!(seen[0].0, StatusCode::UNAUTHORIZED);
    assert!(seen.iter().all(|reply| *reply == seen[0]), "{seen:#?}");
    world.node.stop().await;
}
