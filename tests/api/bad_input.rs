//! Bad input: each is refused with what is wrong and where, by every route of the description; nothing fails here.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::actors::pointers;
use crate::support::description::{Operation, operations};
use crate::support::{Node, Operator, Reply, TestDb};

const BODY_MAX: usize = 256 * 1024;

fn with_body() -> Vec<Operation> {
    let all: Vec<_> =
        operations().into_iter().filter(|operation| operation.scope.is_some() && operation.has_body).collect();
    assert!(all.len() > 15);
    all
}

async fn send(node: &Node, by: &Operator, operation: &Operation, (kind, body): (&str, Vec<u8>)) -> Reply {
    let request = node.request(operation.method.clone(), &operation.nowhere()).bearer_auth(&by.key);
    node.send(request.header("content-type", kind).body(body)).await
}

async fn json_body(node: &Node, by: &Operator, operation: &Operation, body: &[u8]) -> Reply {
    send(node, by, operation, ("application/json", body.to_vec())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_31_what_is_no_json_object_is_refused_by_every_route() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for operation in with_body() {
        for body in [
            b"{".as_slice(),
            b"[]",
            b"null",
            b"\"x\"",
            b"1",
            b"{}{}",
            b"{\"name\":\"\xff\"}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":NaN}",
            b"{'a':1}",
            b"\0",
            deep.as_bytes(),
        ] {
            json_body(&node, &by, &operation, body).await.refused(400, "invalid_json");
        }
        let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(BODY_MAX));
        json_body(&node, &by, &operation, huge.as_bytes()).await.refused(413, "body_too_large");
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json", ""] {
            send(&node, &by, &operation, (kind, b"{}".to_vec())).await.refused(415, "unsupported_media_type");
        }
        let charset = send(&node, &by, &operation, ("Application/JSON; charset=utf-8", b"{\"\":1}".to_vec())).await;
        charset.refused(422, "invalid_fields");
    }
    by.get(&node, "/v1/keys").await.ok();
    node.stop().await;
}

/// What is looked into once the rest is known: the stories of providers and of tools tell how.
fn is_looked_into_later(operation: &str, member: &str) -> bool {
    matches!(
        (operation, member),
        ("add_provider" | "change_provider", "settings") | ("register_tool" | "change_tool", "input_schema")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_every_body_is_named_when_it_is_wrong() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    for operation in with_body() {
        assert!(!operation.members.is_empty(), "{}: its body is described", operation.id);
        for member in operation.members.iter().filter(|member| !is_looked_into_later(&operation.id, member)) {
            for wrong in [json!({"x": []}), json!([[[{}]]]), json!({"\0": "\0"})] {
                let body = json!({member: wrong}).to_string();
                let refused = json_body(&node, &by, &operation, body.as_bytes()).await.refused(422, "invalid_fields");
                let place = format!("/{member}");
                assert!(pointers(&refused)[0].starts_with(&place), "{} {body}: {refused}", operation.id);
            }
            let nul = json!({member: "a\0b"}).to_string();
            let refused = json_body(&node, &by, &operation, nul.as_bytes()).await.refused(422, "invalid_fields");
            assert_eq!(pointers(&refused), [format!("/{member}")], "{}", operation.id);
            let doubled = format!("{{\"{member}\":null,\"{member}\":null}}");
            let refused = json_body(&node, &by, &operation, doubled.as_bytes()).await.refused(422, "invalid_fields");
            assert_eq!(pointers(&refused), [format!("/{member}")], "{} {doubled}", operation.id);
        }
        for unknown in ["unknown", "Name", "a/b~c", "", "__proto__"] {
            let refused = json_body(&node, &by, &operation, json!({unknown: 1}).to_string().as_bytes()).await;
            let refused = refused.refused(422, "invalid_fields");
            assert_eq!(
                pointers(&refused),
                [format!("/{}", unknown.replace('~', "~0").replace('/', "~1"))],
                "{}",
                operation.id
            );
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_kind_is_no_id() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let long = "a".repeat(5_000);
    let wrong = [
        "x",
        "usr_000000000000",
        "key_00000000000%00",
        "%FF",
        "key_000000000000%2f",
        "..%2fkeys",
        "key_%C3%A9",
        &long,
        "'%20or%201=1",
        "{id}",
    ];
    for operation in operations().into_iter().filter(|operation| operation.path.contains('{')) {
        for wrong in wrong {
            for path in [operation.at(&[wrong, "key_000000000000"]), operation.at(&[wrong, wrong])] {
                let request = node.request(operation.method.clone(), &path).bearer_auth(&by.key);
                let reply = node.send(if operation.has_body { request.json(&json!({})) } else { request }).await;
                let code = reply.json["code"].as_str().unwrap_or_default().to_owned();
                // Projects go by their names, which look like anything.
                let name = operation.path.starts_with("/v1/projects") && code == "not_found";
                reply.refused(404, if name { "not_found" } else { "invalid_id" });
            }
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_a_route_does_not_know_is_refused_not_ignored() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    for operation in operations().into_iter().filter(|operation| operation.scope.is_some()) {
        for query in ["unknown=1", "dry_run", "=", "%00=1"] {
            let path = format!("{}?{query}", operation.nowhere());
            let request = node.request(operation.method.clone(), &path).bearer_auth(&by.key);
            let reply = node.send(if operation.has_body { request.json(&json!({})) } else { request }).await;
            assert!(
                reply.status == 400 && reply.json["code"] == "invalid_query",
                "{} {path}: {}",
                operation.method,
                reply.text
            );
        }
        for name in &operation.query {
            let path = format!("{}?{name}=1&{name}=1", operation.nowhere());
            by.get(&node, &path).await.refused(400, "invalid_query");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_27_a_secret_in_the_url_is_refused_everywhere() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let server = by.server(&node).await;
    let key = by.key(&node, &server, &["*"]).await;
    let paths = [
        format!("/v1/keys?q={}", key.key),
        format!("/v1/agents?q={}", by.key),
        format!("/v1/keys/{}", key.key),
        format!("/nowhere/{}", server.secret),
        "/oauth/introspect?token=abc".to_owned(),
        "/v1/keys?access_token=abc".to_owned(),
        "/v1/keys?limit=1&client_secret".to_owned(),
        "/v1/keys?%61ccess_token=abc".to_owned(),
    ];
    for path in paths {
        for method in [Method::GET, Method::POST] {
            let reply = node.send(node.request(method, &path).bearer_auth(&by.key)).await;
            assert!(!reply.text.contains(&key.key) && !reply.text.contains(&by.key), "{}", reply.text);
            reply.refused(400, "secret_in_query");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_31_a_malformed_authorization_is_no_credential() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let with = |values: &[Vec<u8>]| {
        let mut request = node.request(Method::GET, "/v1/keys");
        for value in values {
            request = request.header("authorization", reqwest::header::HeaderValue::from_bytes(value).unwrap());
        }
        node.send(request)
    };
    let good = format!("Bearer {}", by.key).into_bytes();
    let cases: Vec<Vec<Vec<u8>>> = vec![
        vec![b"".to_vec()],
        vec![b"Bearer".to_vec()],
        vec![b"Bearer ".to_vec()],
        vec![b"Bearer\t".to_vec()],
        vec![by.key.clone().into_bytes()],
        vec![format!("Basic {}", by.key).into_bytes()],
        vec![format!("Bearer  {} x", by.key).into_bytes()],
        vec![format!("Bearer {},", by.key).into_bytes()],
        vec![[good.as_slice(), b"\xff"].concat()],
        vec![b"Bearer \xff\xfe".to_vec()],
        vec![format!("Bearer {}", "x".repeat(10_000)).into_bytes()],
        vec![good.clone(), good.clone()],
        vec![good.clone(), b"Bearer x".to_vec()],
        vec![format!("Bearer {}", by.key.replace("mcp_admin_", "mcp_prod_")).into_bytes()],
        vec![format!("Bearer {}0", by.key).into_bytes()],
        vec![format!("Bearer {}", &by.key[..by.key.len() - 1]).into_bytes()],
    ];
    for case in cases {
        with(&case).await.refused(401, "unauthenticated");
    }
    with(std::slice::from_ref(&good)).await.ok();
    node.stop().await;
}

/// Sends bytes as they are, and reads until the connection ends.
async fn raw(node: &Node, bytes: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
    // The node may answer and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8_lossy(&reply).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_31_a_megabyte_where_a_word_belongs_ends_in_a_refusal() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let server = by.server(&node).await;
    let key = by.key(&node, &server, &["*"]).await;
    let long = "a".repeat(1 << 20);
    let reply = key.session_with(&node, &[("resource", &server.resource), ("scope", &long)]).await;
    assert!((400..500).contains(&reply.status.as_u16()), "{}", reply.text);
    let reply = server.ask(&node, &[("token", &long)]).await;
    assert!(reply.status.as_u16() < 500, "{}", reply.text);
    let body = json!({"name": "r", "grants": [{"server_id": server.id, "permissions": [long]}]});
    by.post(&node, "/v1/roles", body).await.refused(413, "body_too_large");
    for head in [format!("Authorization: Bearer {long}"), format!("X-Long: {long}"), "X: y\r\n".repeat(2_000)] {
        let reply =
            raw(&node, format!("GET /v1/keys HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{head}\r\n\r\n").as_bytes())
                .await;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{reply}");
    }
    let path =
        raw(&node, format!("GET /v1/keys?q={long} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes()).await;
    assert!(path.is_empty() || path.starts_with("HTTP/1.1 4"), "{path}");
    assert!(server.accepts(&node, &key.key).await, "still alive");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_31_a_body_without_a_length_is_bounded_too() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let head = format!(
        "POST /v1/agents HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        by.key
    );
    let chunk = format!("{:x}\r\n{}\r\n", 65_536, " ".repeat(65_536)).repeat(8);
    let reply = raw(&node, format!("{head}{chunk}0\r\n\r\n").as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 413") || reply.is_empty(), "{reply}");
    let broken = raw(&node, format!("{head}zz\r\n").as_bytes()).await;
    assert!(broken.starts_with("HTTP/1.1 4") || broken.is_empty(), "{broken}");
    assert_eq!(by.get(&node, "/v1/agents").await.ok(), json!({"items": []}));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_31_times_at_the_edge_of_the_calendar_fail_nothing() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    for time in [
        "9999-12-31T23:59:59-23:59",
        "0000-01-01T00:00:00%2B23:59",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:60Z",
        "2026-02-30T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
    ] {
        for path in [
            "/v1/audit?since=",
            "/v1/audit?until=",
            "/v1/keys?expires_before=",
            "/v1/keys?last_used_before=",
            "/v1/sessions?issued_after=",
        ] {
            let reply = by.get(&node, &format!("{path}{time}")).await;
            assert!(reply.status == 200 || reply.json["code"] == "invalid_query", "{path}{time}: {}", reply.text);
        }
        let body = json!({"kind": "all", "issued_before": time.replace("%2B", "+")});
        let reply = by.post(&node, "/v1/revocations", body).await;
        assert!(reply.status == 201 || reply.json["code"] == "invalid_fields", "{time}: {}", reply.text);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_beyond_every_bound_are_wrong_fields() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let members = ["lease_ms", "session_ttl_seconds", "audit_days"];
    for member in members {
        for number in ["0", "-1", "2147483647", "2147483648", "-9223372036854775809", "1e400", "0.5", "\"5\"", "true"] {
            let body = format!("{{\"{member}\":{number}}}");
            let request = node.request(Method::PATCH, "/v1/settings").bearer_auth(&by.key);
            let reply = node.send(request.header("content-type", "application/json").body(body.clone())).await;
            if number == "1e400" {
                reply.refused(400, "invalid_json");
            } else {
                assert_eq!(pointers(&reply.refused(422, "invalid_fields")), [format!("/{member}")], "{body}");
            }
        }
    }
    let unknown = by.patch(&node, "/v1/settings", json!({"key_policies": {"prod": {"max_age": 1}}})).await;
    assert_eq!(pointers(&unknown.refused(422, "invalid_fields")), ["/key_policies/prod/max_age"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_and_methods_are_problems_as_well() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    for path in ["/", "/v1", "/v1/", "/v1/keys/", "/v1/nothing", "/V1/keys", "/v1//keys", "/v1/keys/x/y/z"] {
        by.get(&node, path).await.refused(404, "route_not_found");
    }
    for (method, path) in
        [(Method::DELETE, "/v1/keys"), (Method::PUT, "/v1/keys/key_000000000000"), (Method::PATCH, "/health/live")]
    {
        let reply = node.send(node.request(method, path).bearer_auth(&by.key)).await;
        assert!(reply.headers.contains_key("allow"), "{path}");
        let problem: Value = reply.refused(405, "method_not_allowed");
        assert_eq!(problem["status"], 405);
    }
    node.stop().await;
}
