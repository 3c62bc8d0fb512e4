//! `/oauth/token`, client credentials: what is issued to whom, for which server, with how much, for how long.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::jwt::{assert_members, claims, header};
use crate::support::node::PUBLIC_URL;
use crate::support::{Key, Node, Reply, Server, TestDb, World, text};

async fn ask(world: &World, key: &Key, form: &[(&str, &str)]) -> Reply {
    key.session_with(&world.node, form).await
}

async fn server_at(world: &World, resource: &str) -> Server {
    world.operator.server_with(&world.node, json!({"name": "server", "resource": resource})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_reply_has_these_members_and_no_refresh_token() {
    let world = World::new().await;
    let key = world.key(&["tools/call", "prompts/list"]).await;
    let reply = ask(&world, &key, &[("resource", &world.server.resource)]).await;
    assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store");
    let body = reply.ok();
    assert_members(&body, &["access_token", "token_type", "expires_in", "scope"]);
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(900)));
    assert_eq!(body["scope"], "prompts/list tools/call");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_12_a_token_has_exactly_these_claims() {
    let world = World::new().await;
    let key = world.key(&["tools/call", "prompts/list"]).await;
    let position = world.node.app.live.round().position;
    let token = world.session(&key).await;
    let jws = header(&token);
    assert_members(&jws, &["typ", "alg", "kid"]);
    assert_eq!((&jws["typ"], &jws["alg"]), (&json!("at+jwt"), &json!("EdDSA")));
    let claims = claims(&token);
    let members =
        ["iss", "sub", "aud", "client_id", "jti", "iat", "exp", "scope", "permissions", "agent_id", "environment"];
    let own = ["key_id", "srv", "kv", "pos"];
    assert_members(&claims, &[&members[..], &own[..]].concat());
    assert_eq!(claims["iss"], format!("{PUBLIC_URL}/oauth"));
    assert_eq!((&claims["sub"], &claims["agent_id"]), (&json!(key.agent), &json!(key.agent)));
    assert_eq!((&claims["client_id"], &claims["key_id"]), (&json!(key.id), &json!(key.id)));
    assert_eq!((&claims["aud"], &claims["srv"]), (&json!(world.server.resource), &json!(world.server.id)));
    assert_eq!((&claims["kv"], &claims["environment"]), (&json!(1), &json!("prod")));
    assert_eq!(
        (&claims["permissions"], &claims["scope"]),
        (&json!(["prompts/list", "tools/call"]), &json!("prompts/list tools/call"))
    );
    assert_eq!(claims["exp"].as_i64().expect("exp") - claims["iat"].as_i64().expect("iat"), 900);
    let named: mcp_authority::gate::Position = text(&claims, "pos").parse().expect("a position");
    assert!(named.covers(position), "what the node had published before it began to authorise");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_may_differ_in_a_trailing_slash_and_the_case_of_scheme_and_host() {
    let world = World::new().await;
    let server = server_at(&world, "https://Files.Example.com/Mcp").await;
    let key = world.operator.key(&world.node, &server, &["*"]).await;
    let same = ["https://Files.Example.com/Mcp", "https://files.example.com/Mcp/", "HTTPS://FILES.EXAMPLE.COM/Mcp"];
    for resource in same {
        let token = ask(&world, &key, &[("resource", resource)]).await.issued();
        assert_eq!(claims(&token)["aud"], "https://Files.Example.com/Mcp", "as registered, whatever was asked");
    }
    assert_eq!(claims(&ask(&world, &key, &[]).await.issued())["aud"], "https://Files.Example.com/Mcp");
    let others = [
        "https://files.example.com/mcp",
        "https://files.example.com/Mcp//",
        "https://files.example.com/Mcp?x=1",
        "https://files.example.com:8443/Mcp",
        "https://files.example.com",
        "http://files.example.com/Mcp",
        "https://files.example.com/Mcp#x",
        "https://user@files.example.com/Mcp",
        "nonsense",
    ];
    for resource in others {
        ask(&world, &key, &[("resource", resource)]).await.refused(400, "invalid_target");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_for_this_key_is_invalid_target_whatever_the_reason() {
    let world = World::new().await;
    let (node, operator) = (&world.node, &world.operator);
    let (other, off) = (operator.server(node).await, operator.server(node).await);
    let dev = json!({"name": "dev", "resource": "https://dev.example.com/mcp", "environment": "dev"});
    let dev = operator.server_with(node, dev).await;
    let key = world.key_on(&[(&world.server, &["*"]), (&off, &["*"])], json!({})).await;
    let (mine, others) = (world.server.resource.as_str(), other.resource.as_str());
    operator.patch(node, &format!("/v1/servers/{}", off.id), json!({"disabled": true})).await.enforced();
    let refused: &[&[(&str, &str)]] = &[
        &[("resource", "https://unknown.example.com/mcp")],
        &[("resource", others)],
        &[("resource", &dev.resource)],
        &[("resource", &off.resource)],
        &[("resource", mine), ("resource", others)],
        &[("resource", mine), ("resource", mine)],
        &[],
        &[("resource", "")],
    ];
    let mut replies = Vec::new();
    for form in refused {
        replies.push(ask(&world, &key, form).await.refused(400, "invalid_target"));
    }
    assert!(replies.iter().all(|reply| *reply == replies[0]), "no reply tells which servers exist: {replies:?}");
    ask(&world, &key, &[("resource", mine)]).await.issued();
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scope_narrows_what_is_not_held_is_left_out_and_what_is_unknown_is_refused() {
    let world = World::new().await;
    let scopes = json!([
        {"name": "notes:read", "description": "Read.", "permissions": ["tools/call:read_*", "tools/list"]},
        {"name": "notes:write", "description": "Write.", "permissions": ["tools/call:write_*"]},
    ]);
    let body = json!({"name": "notes", "resource": "https://notes.example.com/mcp", "scopes": scopes});
    let server = world.operator.server_with(&world.node, body).await;
    let key = world.operator.key(&world.node, &server, &["tools/call:read_*", "tools/list", "prompts/get"]).await;
    let narrowed = [
        (None, "prompts/get tools/call:read_* tools/list notes:read"),
        (Some(""), "prompts/get tools/call:read_* tools/list notes:read"),
        (Some("tools/list"), "tools/list"),
        (Some("tools/call"), "tools/call:read_*"),
        (Some("tools/call:read_one tools/list"), "tools/call:read_one tools/list"),
        (Some("notes:read"), "tools/call:read_* tools/list notes:read"),
        (Some("notes:read notes:write"), "tools/call:read_* tools/list notes:read"),
        (Some("notes:write tools/list"), "tools/list"),
        (Some("*"), "prompts/get tools/call:read_* tools/list notes:read"),
        (Some("tools/call:* prompts/get:a"), "prompts/get:a tools/call:read_*"),
    ];
    for (scope, granted) in narrowed {
        let form: Vec<_> = scope.map(|scope| ("scope", scope)).into_iter().collect();
        let body = ask(&world, &key, &form).await.ok();
        assert_eq!(body["scope"], granted, "{scope:?}");
        let token = text(&body, "access_token");
        assert_eq!(claims(&token)["scope"], granted);
        assert_eq!(server.introspect(&world.node, &token).await["scope"], granted);
    }
    let long = "tools/list ".repeat(400);
    let refused = [
        "notes:write",
        "tools/call:write_x",
        "tool/call",
        "unknown",
        "notes:read  tools/list",
        " tools/list",
        "a\"b",
        long.trim_end(),
    ];
    for scope in refused {
        ask(&world, &key, &[("scope", scope)]).await.refused(400, "invalid_scope");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_would_pass_four_kilobytes_is_refused_until_less_is_asked() {
    let world = World::new().await;
    let many: Vec<String> = (0..100).map(|number| format!("tools/call:{number:03}_{}", "x".repeat(60))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let key = world.key(&many).await;
    ask(&world, &key, &[]).await.refused(400, "invalid_scope");
    ask(&world, &key, &[("scope", many[0])]).await.issued();
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_may_not_act_is_401_always_in_the_same_words() {
    let world = World::new().await;
    let (node, operator) = (&world.node, &world.operator);
    let form = [("resource", world.server.resource.as_str())];
    let mut keys = vec![
        ("unknown", Key { id: "key_aaaaaaaaaaaa".to_owned(), ..world.key(&["*"]).await }),
        ("without a secret", Key { key: String::new(), ..world.key(&["*"]).await }),
        ("nonsense", Key { key: "secret".to_owned(), ..world.key(&["*"]).await }),
    ];
    let (one, two) = (world.key(&["*"]).await, world.key(&["*"]).await);
    keys.push(("another key's secret", Key { key: two.key, ..one }));
    let elsewhere = json!({"allowed_cidrs": ["192.0.2.0/24"]});
    keys.push(("not from here", world.key_on(&[(&world.server, &["*"])], elsewhere).await));
    let revoked = world.key(&["*"]).await;
    operator.post(node, &format!("/v1/keys/{}/revoke", revoked.id), json!({})).await.enforced();
    keys.push(("revoked", revoked));
    let off = world.key(&["*"]).await;
    operator.patch(node, &format!("/v1/keys/{}", off.id), json!({"disabled": true})).await.enforced();
    keys.push(("disabled", off));
    let orphan = world.key(&["*"]).await;
    operator.patch(node, &format!("/v1/agents/{}", orphan.agent), json!({"disabled": true})).await.enforced();
    keys.push(("its agent disabled", orphan));
    let rotated = world.key(&["*"]).await;
    operator.post(node, &format!("/v1/keys/{}/rotate", rotated.id), json!({"grace_seconds": 0})).await.enforced();
    keys.push(("superseded", rotated));
    let old = world.key_on(&[(&world.server, &["*"])], json!({"expires_in_days": 1})).await;
    world.advance(86_400).await;
    keys.push(("expired", old));
    keys.push((
        "a server",
        Key { id: world.server.id.clone(), agent: String::new(), key: world.server.secret.clone() },
    ));
    let mut bodies: Vec<Value> = Vec::new();
    for (why, key) in keys {
        let reply = ask(&world, &key, &form).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{why}: {}", reply.text);
        assert!(reply.headers.contains_key(header::WWW_AUTHENTICATE), "{why}");
        assert_eq!(reply.json["error"], "invalid_client", "{why}");
        bodies.push(reply.json);
    }
    let unauthenticated = node.request(Method::POST, "/oauth/token").form(&[("grant_type", "client_credentials")]);
    bodies.push(node.send(unauthenticated).await.refused(401, "invalid_client"));
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_grants_and_other_bodies_are_refused() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let post = |body: &str, kind: &str| {
        let request = world.node.request(Method::POST, "/oauth/token").basic_auth(&key.id, Some(&key.key));
        world.node.send(request.header(header::CONTENT_TYPE, kind).body(body.to_owned()))
    };
    let form = "application/x-www-form-urlencoded";
    post("grant_type=authorization_code&code=x&code_verifier=x", form).await.refused(400, "unauthorized_client");
    post("grant_type=password", form).await.refused(400, "unsupported_grant_type");
    post("grant_type=refresh_token&refresh_token=x", form).await.refused(400, "unauthorized_client");
    post("grant_type=", form).await.refused(400, "invalid_request");
    post("scope=*", form).await.refused(400, "invalid_request");
    post("{\"grant_type\":\"client_credentials\"}", "application/json").await.refused(415, "invalid_request");
    post("grant_type=client_credentials&unknown=1", "application/x-www-form-urlencoded; charset=UTF-8").await.issued();
    let many = (0..65).map(|number| format!("p{number}=1")).collect::<Vec<_>>().join("&");
    post(&format!("grant_type=client_credentials&{many}"), form).await.refused(400, "invalid_request");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_as_long_as_the_setting_says_and_never_longer_than_its_key() {
    let world = World::new().await;
    let short = world.key_on(&[(&world.server, &["*"])], json!({"expires_in_days": 1})).await;
    world.patch("/v1/settings", json!({"session_ttl_seconds": 3600})).await.ok();
    world
        .node
        .until("the setting has spread", async || ask(&world, &short, &[]).await.ok()["expires_in"] == 3600)
        .await;
    world.advance(86_400 - 600).await;
    let body = ask(&world, &short, &[]).await.ok();
    let expires_in = body["expires_in"].as_i64().expect("an integer");
    assert!((1..=600).contains(&expires_in), "{expires_in}");
    let token = text(&body, "access_token");
    let ends = world.server.introspect(&world.node, &short.key).await["exp"].as_i64();
    assert_eq!(claims(&token)["exp"].as_i64(), ends, "its key's end");
    // The overlap of a rotation ends tokens of the old secret with it.
    let key = world.key(&["*"]).await;
    let before = world.session(&key).await;
    world.post(&format!("/v1/keys/{}/rotate", key.id), json!({"grace_seconds": 100})).await.enforced();
    let during = world.session(&key).await;
    let left = claims(&during)["exp"].as_i64().expect("exp") - world.now();
    assert!((1..=100).contains(&left), "{left}");
    assert!(world.accepts(&before).await && world.accepts(&during).await);
    world.advance(100).await;
    assert!(!world.accepts(&before).await && !world.accepts(&during).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_ask_for_another_algorithm() {
    let world = World::new().await;
    for alg in ["ES256", "RS256"] {
        let resource = format!("https://{}.example.com/mcp", alg.to_lowercase());
        let body = json!({"name": alg, "resource": resource, "token_alg": alg});
        let server = world.operator.server_with(&world.node, body).await;
        let key = world.operator.key(&world.node, &server, &["*"]).await;
        let token = key.session(&world.node, &server).await;
        assert_eq!(header(&token)["alg"], alg);
        assert!(server.accepts(&world.node, &token).await);
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_handed_out_before_its_row_is_durable() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["*"]).await;
    let token = key.session(&node, &server).await;
    let jti = text(&claims(&token), "jti");
    assert_eq!(db.count(&format!("select count(*) from sessions where id = '{jti}'")).await, 1);
    db.execute("alter table sessions rename to sessions_away").await;
    let reply = key.session_with(&node, &[]).await;
    reply.refused(503, "temporarily_unavailable");
    node.stop().await;
}
