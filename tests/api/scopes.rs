//! Every route of the description, against who may use it: scope by scope. A new route is part of it by itself.

use std::collections::BTreeMap;

use mcp_authority::operators;
use reqwest::Method;

use crate::support::description::{Operation, operations};
use crate::support::{Node, Operator, Reply, TestDb};

/// Sends something that no handler would read without complaint.
async fn knock(node: &Node, operation: &Operation, by: Option<&Operator>, body: &str) -> Reply {
    let request = node.request(operation.method.clone(), &operation.nowhere());
    let request = if operation.has_body {
        request.header("content-type", "application/json").body(body.to_owned())
    } else {
        request
    };
    node.send(if let Some(by) = by { request.bearer_auth(&by.key) } else { request }).await
}

/// The operations that operators use, each with its scope.
fn closed() -> Vec<(Operation, String)> {
    let all = operations().into_iter();
    all.filter_map(|operation| operation.scope.clone().map(|scope| (operation, scope))).collect()
}

#[test]
fn every_route_of_v1_names_the_scope_it_needs() {
    let known = operators::scopes();
    for operation in operations() {
        // A key's holder and a server need no scope: they are told of what is theirs. Who reports a leak signs.
        let own = ["/v1/keys/self", "/v1/leaks"].iter().any(|start| operation.path.starts_with(start))
            || operation.path == "/v1/revocations/stream";
        match &operation.scope {
            None => assert!(own, "{} {}: no x-scope", operation.method, operation.path),
            Some(scope) => {
                assert!(!own, "{}: a key's holder needs no scope", operation.path);
                assert!(known.contains(scope), "{scope} is no scope that an operator can have");
                let reads = operation.method == Method::GET;
                assert_eq!(reads, scope.ends_with(":read"), "{}: {scope}", operation.id);
            }
        }
    }
}

#[test]
fn every_scope_is_needed_by_some_route() {
    let needed: Vec<String> = closed().into_iter().map(|(_, scope)| scope).collect();
    // Nothing of these is changed by a route yet; the scopes exist because each noun has both.
    let unused = ["audit:write", "nodes:write"];
    for scope in operators::scopes().iter().filter(|scope| *scope != "*") {
        assert_eq!(needed.contains(scope), !unused.contains(&scope.as_str()), "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_22_each_route_is_closed_to_who_has_every_scope_but_the_one_it_needs() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let mut without: BTreeMap<String, Operator> = BTreeMap::new();
    for (operation, scope) in closed() {
        if !without.contains_key(&scope) {
            let writing = scope.replace(":read", ":write");
            let held = operators::scopes();
            let held: Vec<&str> = held.iter().map(String::as_str).collect();
            let held: Vec<&str> =
                held.into_iter().filter(|held| *held != "*" && *held != scope && *held != writing).collect();
            without.insert(scope.clone(), node.operator_with(&held, None).await);
        }
        // The body is no JSON: who may not enter is told so before anything is read.
        let reply = knock(&node, &operation, without.get(&scope), "{\"").await;
        let refused = reply.refused(403, "missing_scope");
        assert!(refused["detail"].as_str().unwrap().contains(&scope), "{}: it says which", operation.id);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_is_open_to_who_has_only_the_scope_it_needs() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let mut only: BTreeMap<String, Operator> = BTreeMap::new();
    for (operation, scope) in closed() {
        for scope in [scope.clone(), scope.replace(":read", ":write")] {
            if !only.contains_key(&scope) {
                only.insert(scope.clone(), node.operator_with(&[&scope], None).await);
            }
            let reply = knock(&node, &operation, only.get(&scope), "{}").await;
            let code = reply.json["code"].as_str().unwrap_or_default();
            assert!(
                !matches!(reply.status.as_u16(), 401 | 403 | 500..),
                "{} with {scope}: {}",
                operation.id,
                reply.text
            );
            assert!(
                reply.status.is_success() || ["not_found", "invalid_fields"].contains(&code),
                "{}: {}",
                operation.id,
                reply.text
            );
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_2_without_a_credential_nothing_of_a_request_is_looked_at() {
    let db = TestDb::new().await;
    let node = Node::start_with(&db, &[("MCPA_TRUSTED_PROXIES", "127.0.0.1")]).await;
    for (index, (operation, _)) in closed().into_iter().enumerate() {
        // Each from its own address, so that the guard against guessing stays out of it.
        let from = format!("192.0.2.{index}");
        let garbage =
            format!("{}?limit=x&nonsense=1", operation.path.replace("{id}", "nonsense").replace("{key_id}", "%20"));
        for (path, body) in [(operation.nowhere(), "{}"), (garbage, "{\"")] {
            let request = node.request(operation.method.clone(), &path).header("x-forwarded-for", &from);
            let request = request.header("content-type", "text/nonsense").header("idempotency-key", "a b").body(body);
            let reply = node.send(request).await;
            assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"mcp-authority\"", "{}", operation.id);
            reply.refused(401, "unauthenticated");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_10_only_an_operators_key_opens_the_administration() {
    let db = TestDb::new().await;
    let node = Node::start_with(&db, &[("MCPA_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let root = node.operator().await;
    let server = root.server(&node).await;
    let key = root.key(&node, &server, &["*"]).await;
    let session = key.session(&node, &server).await;
    for (index, (operation, _)) in closed().into_iter().enumerate() {
        let from = format!("192.0.2.{index}");
        for wrong in [&key.key, &session, &server.secret] {
            let request = node.request(operation.method.clone(), &operation.nowhere()).bearer_auth(wrong);
            node.send(request.header("x-forwarded-for", &from)).await.refused(401, "unauthenticated");
        }
    }
    for path in ["/v1/keys/self", "/v1/keys/self/rotate", "/v1/keys/self/revoke"] {
        let method = if path.ends_with("self") { Method::GET } else { Method::POST };
        for wrong in [&root.key, &session, &server.secret] {
            node.send(node.request(method.clone(), path).bearer_auth(wrong)).await.refused(401, "unauthenticated");
        }
    }
    assert!(server.accepts(&node, &key.key).await);
    node.stop().await;
}
