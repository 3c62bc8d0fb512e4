//! Requests that are malformed, or that can be read in two ways.

use reqwest::{Method, header};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Key, Node, World};

#[tokio::test(flavor = "multi_thread")]
async fn attack_31_malformed_requests_are_refused_and_nothing_panics() {
    let world = World::new().await;
    let node = &world.node;
    let headers = [
        "",
        "Bearer",
        "Bearer ",
        "Basic",
        "Basic :",
        "Basic ====",
        "Basic \u{fc}",
        "Bearer a b c",
        "bearer\tx",
        "Negotiate x",
        "Basic Og==",
        "Basic /////w==",
    ];
    for value in headers {
        for (method, path) in
            [(Method::POST, "/oauth/introspect"), (Method::POST, "/oauth/token"), (Method::GET, "/v1/keys")]
        {
            let value = header::HeaderValue::from_bytes(value.as_bytes()).expect("bytes");
            let form = [("grant_type", "client_credentials"), ("token", "x")];
            let reply = node.send(node.request(method, path).header(header::AUTHORIZATION, value).form(&form)).await;
            assert!([400, 401].contains(&reply.status.as_u16()), "{path}: {} {}", reply.status, reply.text);
        }
    }
    let key: Key = world.key(&["*"]).await;
    let huge = "tools/list ".repeat(100_000);
    for refused in
        [key.session_with(node, &[("scope", &huge)]).await, world.server.ask(node, &[("token", &huge)]).await]
    {
        // The connection ends with its unread body; a client that is not told would send its next request into it.
        assert_eq!(refused.expect_status(413).headers[header::CONNECTION], "close");
    }
    let deep = "[".repeat(20_000) + &"]".repeat(20_000);
    let request = node.request(Method::POST, "/v1/agents").bearer_auth(&world.operator.key);
    let reply = node.send(request.header(header::CONTENT_TYPE, "application/json").body(deep.clone())).await;
    assert!(reply.status.is_client_error(), "{}", reply.text);
    let deep_token = crate::support::jwt::encode(format!("{{\"typ\":{deep}}}").as_bytes());
    assert!(!world.accepts(&format!("{}.{deep_token}.{}", &deep_token[..1_000], "x")).await);
    for query in [
        "limit=0",
        "limit=-1",
        "limit=99999999999999999999",
        "limit=x",
        "cursor=x",
        "cursor=%00",
        "unknown=1",
        "limit=1&limit=2",
    ] {
        let reply = world.operator.get(node, &format!("/v1/keys?{query}")).await;
        assert!([400, 422].contains(&reply.status.as_u16()), "{query}: {} {}", reply.status, reply.text);
    }
    assert!(world.accepts(&key.key).await, "and the service goes on");
    world.node.stop().await;
}

/// Sends a request line as it stands: clients would tidy the path.
async fn raw(node: &Node, path: &str, more: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(node.address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("a reply");
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_that_is_read_in_two_ways_gets_around_authentication() {
    let world = World::new().await;
    let paths = [
        "/oauth/jwks/../../v1/keys",
        "/health/live/..%2f..%2fv1/keys",
        "//v1/keys",
        "/v1//keys",
        "/v1/./keys",
        "/V1/keys",
        "/v1/keys/",
        "/v1/keys;x",
        "/v1/keys%00",
        "/%76%31/keys",
        "/v1/keys/self/../",
        "http://x/v1/keys",
        "/docs/../v1/keys",
    ];
    for path in paths {
        let reply = raw(&world.node, path, "").await;
        let status = reply.split(' ').nth(1).expect("a status");
        assert!(["400", "401", "404"].contains(&status), "{path}: {reply}");
    }
    let key = world.key(&["*"]).await;
    for path in
        [format!("/oauth/jwks?access_token={}", key.key), format!("/oauth/jwks?x={}", key.key), format!("/{}", key.key)]
    {
        let reply = raw(&world.node, &path, "").await;
        assert!(reply.starts_with("HTTP/1.1 400") && reply.contains("secret_in_query"), "{reply}");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_and_scope_names_are_never_compared_without_their_case() {
    let world = World::new().await;
    let agent = world.operator.agent(&world.node).await;
    for permission in ["Tools/call", "TOOLS/CALL:a", "tools/Call"] {
        let grants = json!([{"server_id": world.server.id, "permissions": [permission]}]);
        let body = json!({"agent_id": agent, "environment": "prod", "grants": grants});
        world.post("/v1/keys", body).await.refused(422, "invalid_fields");
    }
    let key = world.key(&["tools/call:read"]).await;
    key.session_with(&world.node, &[("scope", "tools/call:READ")]).await.refused(400, "invalid_scope");
    key.session_with(&world.node, &[("scope", "Tools/Call:read")]).await.refused(400, "invalid_scope");
    key.session_with(&world.node, &[("scope", "tools/call:read")]).await.issued();
    world.node.stop().await;
}
