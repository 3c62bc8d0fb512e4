//! Token exchange (RFC 8693): smaller tokens, who acts for whom, and what kills them.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use crate::support::jwt::{assert_members, claims, with};
use crate::support::{Key, Reply, Seeded, Server, World, exchange, jwt, text};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// An exchange by an authenticated client.
async fn by(world: &World, client: &Key, subject: &str, form: &[(&str, &str)]) -> Reply {
    let mut whole = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", subject),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    whole.extend_from_slice(form);
    let request = world.node.request(Method::POST, "/oauth/token").basic_auth(&client.id, Some(&client.key));
    world.node.send(request.form(&whole)).await
}

fn actor(token: &str) -> [(&str, &str); 2] {
    [("actor_token", token), ("actor_token_type", ACCESS_TOKEN)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_narrows_itself_without_authentication() {
    let world = World::new().await;
    let key = world.key(&["tools/call", "tools/list"]).await;
    let parent = world.session(&key).await;
    world.advance(100).await;
    let reply = exchange(&world.node, &parent, &[("scope", "tools/call:read_*")]).await;
    assert_eq!(reply.headers["cache-control"], "no-store");
    let body = reply.ok();
    assert_members(&body, &["access_token", "issued_token_type", "token_type", "expires_in", "scope"]);
    assert_eq!((&body["issued_token_type"], &body["scope"]), (&json!(ACCESS_TOKEN), &json!("tools/call:read_*")));
    let child = text(&body, "access_token");
    let (before, after) = (claims(&parent), claims(&child));
    for same in ["iss", "sub", "aud", "client_id", "key_id", "agent_id", "environment", "srv", "kv", "exp"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_ne!(after["jti"], before["jti"]);
    let ancestors = after["anc"].to_string();
    assert!(after["act"].is_null() && ancestors.contains(&text(&before, "jti")), "{after}");
    assert!(body["expires_in"].as_i64().expect("an integer") <= 800, "a child never lives longer");
    assert_eq!(world.server.introspect(&world.node, &child).await["permissions"], json!(["tools/call:read_*"]));
    // What the parent lacks is not to be had back.
    exchange(&world.node, &child, &[("scope", "tools/list")]).await.refused(400, "invalid_scope");
    let same = exchange(&world.node, &child, &[("scope", "tools/call tools/list")]).await.ok();
    assert_eq!(same["scope"], "tools/call:read_*");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_can_be_exchanged_some_ten_times_one_from_another() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let mut token = world.session(&key).await;
    for _ in 0..10 {
        token = exchange(&world.node, &token, &[]).await.issued();
        assert!(world.accepts(&token).await);
    }
    for _ in 10..40 {
        let reply = exchange(&world.node, &token, &[]).await;
        if reply.status == 400 {
            assert_eq!(reply.json["error"], "invalid_request");
            world.node.stop().await;
            return;
        }
        token = reply.issued();
    }
    panic!("what a token hangs on grows without bound");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_as_subject_chooses_its_server() {
    let world = World::new().await;
    let other = world.operator.server(&world.node).await;
    let key = world.key_on(&[(&world.server, &["tools/call"]), (&other, &["tools/list"])], json!({})).await;
    let token = exchange(&world.node, &key.key, &[("resource", &other.resource)]).await.issued();
    assert_eq!((&claims(&token)["aud"], &claims(&token)["scope"]), (&json!(other.resource), &json!("tools/list")));
    exchange(&world.node, &key.key, &[]).await.refused(400, "invalid_target");
    exchange(&world.node, &key.key, &[("resource", "https://unknown.example.com")])
        .await
        .refused(400, "invalid_target");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_20_the_audience_stays() {
    let world = World::new().await;
    let (node, other) = (&world.node, world.operator.server(&world.node).await);
    let key = world.key_on(&[(&world.server, &["*"]), (&other, &["*"])], json!({})).await;
    let (here, there) = (key.session(node, &world.server).await, key.session(node, &other).await);
    let mine = world.server.resource.as_str();
    exchange(node, &here, &[("resource", mine)]).await.issued();
    exchange(node, &here, &[("audience", mine)]).await.issued();
    exchange(node, &here, &[("resource", &other.resource)]).await.refused(400, "invalid_target");
    exchange(node, &here, &[("audience", &other.resource)]).await.refused(400, "invalid_target");
    exchange(node, &here, &[("resource", mine), ("resource", &other.resource)]).await.refused(400, "invalid_target");
    exchange(node, &here, &actor(&there)).await.refused(400, "invalid_target");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_20_the_actor_is_who_proved_to_be_and_never_a_parameter() {
    let world = World::new().await;
    let node = &world.node;
    let (key, helper) =
        (world.key(&["tools/call", "tools/list"]).await, world.key(&["tools/call:a*", "prompts/list"]).await);
    let (subject, acting) = (world.session(&key).await, world.session(&helper).await);
    let by_client = by(&world, &helper, &subject, &[]).await.issued();
    let by_key = exchange(node, &subject, &actor(&helper.key)).await.issued();
    let by_token = exchange(node, &subject, &actor(&acting)).await.issued();
    for token in [&by_client, &by_key, &by_token] {
        assert_eq!(claims(token)["act"], json!({"sub": helper.agent}));
        assert_eq!(claims(token)["sub"], key.agent);
        let answer = world.server.introspect(node, token).await;
        assert_eq!(
            (&answer["act"], &answer["permissions"]),
            (&json!({"sub": helper.agent}), &json!(["tools/call:a*"]))
        );
    }
    let of_same_agent = world.key_of(&key.agent, &[(&world.server, &["tools/call"])], json!({})).await;
    let own = by(&world, &of_same_agent, &subject, &[]).await.issued();
    assert!(claims(&own)["act"].is_null(), "the same agent's key only makes it smaller");
    for name in ["act", "actor", "act.sub", "actor_id", "may_act", "sub"] {
        let token = exchange(node, &subject, &[(name, &helper.agent)]).await.issued();
        assert!(claims(&token)["act"].is_null(), "{name}");
        assert_eq!(claims(&token)["sub"], key.agent, "{name}");
    }
    let stranger = world.operator.key(node, &world.operator.server(node).await, &["*"]).await;
    by(&world, &stranger, &subject, &[]).await.refused(400, "invalid_scope");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_20_actors_nest_three_deep_and_no_deeper() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let mut token = world.session(&key).await;
    let mut expected = serde_json::Value::Null;
    let mut actors = Vec::new();
    for _ in 0..3 {
        let next = world.key(&["*"]).await;
        token = by(&world, &next, &token, &[]).await.issued();
        expected =
            if expected.is_null() { json!({"sub": next.agent}) } else { json!({"sub": next.agent, "act": expected}) };
        assert_eq!(world.server.introspect(&world.node, &token).await["act"], expected);
        actors.push(next);
    }
    let fourth = world.key(&["*"]).await;
    by(&world, &fourth, &token, &[]).await.refused(400, "invalid_request");
    exchange(&world.node, &token, &[("scope", "tools/list")]).await.issued();
    // The first of the three still is an ancestor.
    world.revoke(json!({"kind": "key", "id": actors[0].id})).await;
    assert!(!world.accepts(&token).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_12_what_ends_the_actor_ends_the_token() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    for kill in ["revoke", "disable key", "disable agent", "cut off", "rotate", "narrow", "expire"] {
        let subject = world.session(&key).await;
        let helper = world.key_on(&[(&world.server, &["tools/call"])], json!({"expires_in_days": 1})).await;
        let token = by(&world, &helper, &subject, &[]).await.issued();
        assert!(world.accepts(&token).await, "{kill}");
        let path = format!("/v1/keys/{}", helper.id);
        match kill {
            "revoke" => drop(world.revoke(json!({"kind": "key", "id": helper.id})).await),
            "disable key" => drop(world.patch(&path, json!({"disabled": true})).await.enforced()),
            "disable agent" => {
                drop(world.patch(&format!("/v1/agents/{}", helper.agent), json!({"disabled": true})).await.enforced());
            }
            "cut off" => drop(world.revoke(json!({"kind": "agent", "id": helper.agent})).await),
            "rotate" => drop(world.post(&format!("{path}/rotate"), json!({"grace_seconds": 0})).await.enforced()),
            "narrow" => {
                let other = json!([{"server_id": world.server.id, "permissions": ["prompts/list"]}]);
                drop(world.patch(&path, json!({"grants": other})).await.enforced());
            }
            _ => world.advance(86_400).await,
        }
        assert!(!world.accepts(&token).await, "{kill}");
        assert!(kill == "expire" || world.accepts(&subject).await, "{kill}: the subject acts for itself");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_5_a_dead_subject_token_is_invalid_request_and_its_children_are_dead() {
    let world = World::new().await;
    let (node, key) = (&world.node, world.key(&["*"]).await);
    let parent = world.session(&key).await;
    let child = exchange(node, &parent, &[]).await.issued();
    let grandchild = exchange(node, &child, &[("scope", "tools/call")]).await.issued();
    assert!(world.accepts(&grandchild).await);
    world.revoke(json!({"kind": "token", "id": text(&claims(&parent), "jti")})).await;
    for token in [&parent, &child, &grandchild] {
        assert!(!world.accepts(token).await);
        exchange(node, token, &[]).await.refused(400, "invalid_request");
        exchange(node, &world.session(&key).await, &actor(token)).await.refused(400, "invalid_request");
    }
    let expired = world.session(&key).await;
    world.advance(900).await;
    let forged = jwt::sign(node, "at+jwt", &with(&claims(&world.session(&key).await), "iss", "https://other/oauth"));
    let dead_key = world.key(&["*"]).await;
    world.revoke(json!({"kind": "key", "id": dead_key.id})).await;
    for subject in [&expired, &forged, &dead_key.key, "garbage", &world.operator.key, &world.server.secret] {
        exchange(node, subject, &[]).await.refused(400, "invalid_request");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_23_the_subject_and_the_types_must_be_there() {
    let world = World::new().await;
    let (node, key) = (&world.node, world.key(&["*"]).await);
    let token = world.session(&key).await;
    let send = |form: &[(&str, &str)]| {
        let mut whole = vec![("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")];
        whole.extend_from_slice(form);
        node.send(node.request(Method::POST, "/oauth/token").form(&whole))
    };
    let subject = ("subject_token", token.as_str());
    send(&[]).await.refused(400, "invalid_request");
    send(&[("subject_token_type", ACCESS_TOKEN)]).await.refused(400, "invalid_request");
    send(&[subject]).await.refused(400, "invalid_request");
    let saml = ("subject_token_type", "urn:ietf:params:oauth:token-type:saml2");
    send(&[subject, saml]).await.refused(400, "invalid_request");
    let right = ("subject_token_type", JWT);
    send(&[subject, right, ("actor_token", &key.key)]).await.refused(400, "invalid_request");
    send(&[subject, right, ("actor_token_type", JWT)]).await.refused(400, "invalid_request");
    let refresh = ("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token");
    send(&[subject, right, refresh]).await.refused(400, "invalid_request");
    assert_eq!(send(&[subject, right, ("requested_token_type", JWT)]).await.ok()["issued_token_type"], JWT);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_20_address_lists_intersect() {
    let world = World::new().await;
    let list = |of: &str| json!({"allowed_cidrs": ["127.0.0.1/32", of, "192.0.2.1/32"]});
    let key = world.key_on(&[(&world.server, &["*"])], list("198.51.100.1/32")).await;
    let helper = world.key_on(&[(&world.server, &["*"])], list("203.0.113.1/32")).await;
    let token = by(&world, &helper, &world.session(&key).await, &[]).await.issued();
    for (address, good) in [("192.0.2.1", true), ("198.51.100.1", false), ("203.0.113.1", false), ("", false)] {
        let answer = world.server.ask(&world.node, &[("token", &token), ("client_ip", address)]).await.ok();
        assert_eq!(answer["active"], good, "{address}");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_12_a_cut_off_in_time_reaches_the_children_of_what_it_kills() {
    let world = World::new().await;
    let (node, key) = (&world.node, world.key(&["*"]).await);
    let (helper, parent) = (world.key(&["*"]).await, world.session(&key).await);
    let acting = world.session(&helper).await;
    world.advance(60).await;
    let theft = world.time(-30);
    let late = world.session(&key).await;
    let child = exchange(node, &parent, &[]).await.issued();
    let grandchild = exchange(node, &child, &[]).await.issued();
    let acted = exchange(node, &late, &actor(&acting)).await.issued();
    world.revoke(json!({"kind": "agent", "id": helper.agent, "issued_before": theft})).await;
    assert!(!world.accepts(&acted).await, "its actor's token is from before");
    assert!(world.accepts(&grandchild).await && world.accepts(&late).await, "another agent's");
    world.revoke(json!({"kind": "agent", "id": key.agent, "issued_before": theft})).await;
    assert!(world.accepts(&late).await, "issued after the theft");
    for token in [&parent, &child, &grandchild] {
        assert!(!world.accepts(token).await, "it comes from a token of before the theft");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_signing_key_takes_what_was_exchanged_from_its_tokens_with_it() {
    let world = World::new().await;
    let node = &world.node;
    let es256 = json!({"name": "x", "resource": "https://x.example.com/mcp", "token_alg": "ES256"});
    let server: Server = world.operator.server_with(node, es256).await;
    let of_both = world.key_on(&[(&world.server, &["*"]), (&server, &["*"])], json!({})).await;
    let parent = world.session(&of_both).await;
    let stolen = text(&jwt::header(&parent), "kid");
    // From now on the server's tokens are signed by another key; the parent was signed by the stolen one.
    world.patch(&format!("/v1/servers/{}", world.server.id), json!({"token_alg": "ES256"})).await.ok();
    let child = async || exchange(node, &parent, &[]).await.issued();
    node.until("the other algorithm", async || jwt::header(&child().await)["alg"] == "ES256").await;
    let child = child().await;
    assert!(world.accepts(&child).await);
    world.revoke(json!({"kind": "signing_key", "id": stolen})).await;
    assert!(!world.accepts(&parent).await && !world.accepts(&child).await);
    world.node.stop().await;
}

/// What is asked with, and whether one permission allows it, written down once more and plainly.
const CALLS: [&str; 8] = [
    "tools/list",
    "prompts/list",
    "tools/call:a",
    "tools/call:ab",
    "tools/call:abc",
    "tools/call:b",
    "prompts/get:a",
    "tasks/get",
];

fn allowed(permissions: &[&str]) -> BTreeSet<&'static str> {
    let allows = |permission: &str, call: &str| match permission.strip_suffix('*') {
        Some(start) => call.starts_with(start),
        None => call == permission || call.split(':').next() == Some(permission),
    };
    CALLS.into_iter().filter(|call| permissions.iter().any(|permission| allows(permission, call))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_24_what_is_granted_is_held_and_asked_for_and_the_parents() {
    const PERMISSIONS: [&str; 10] = [
        "*",
        "tools/list",
        "tools/call",
        "tools/call:a*",
        "tools/call:ab*",
        "tools/call:ab",
        "tools/call:b",
        "prompts/list",
        "prompts/get",
        "prompts/get:a",
    ];
    let world = World::new().await;
    let mut random = Seeded::new(Seeded::from_env("EXCHANGE_SEED"));
    for _ in 0..40 {
        let (held, acting) = (random.some(&PERMISSIONS), random.some(&PERMISSIONS));
        let (first, second) = (random.some(&PERMISSIONS), random.some(&PERMISSIONS));
        let (key, helper) = (world.key(&held).await, world.key(&acting).await);
        let story = format!("held {held:?}, asked {first:?}, then {second:?}, actor {acting:?}");
        let mut left = allowed(&held);
        let mut token: Option<String> = None;
        for (scope, by_helper) in [(&first, false), (&second, false), (&second, true)] {
            left = left.intersection(&allowed(scope)).copied().collect();
            let scope = scope.join(" ");
            let reply = match (&token, by_helper) {
                (None, _) => key.session_with(&world.node, &[("scope", &scope)]).await,
                (Some(parent), false) => exchange(&world.node, parent, &[("scope", &scope)]).await,
                (Some(parent), true) => {
                    left = left.intersection(&allowed(&acting)).copied().collect();
                    by(&world, &helper, parent, &[("scope", &scope)]).await
                }
            };
            if left.is_empty() {
                // `*` and a bare method may have something in common that no call of the list shows.
                if reply.status == 400 {
                    assert_eq!(reply.json["error"], "invalid_scope", "{story}");
                    break;
                }
            }
            let body = reply.ok();
            let granted = text(&body, "scope");
            let granted: Vec<&str> = granted.split(' ').collect();
            assert_eq!(allowed(&granted), left, "{story}");
            let issued = text(&body, "access_token");
            let answer = world.server.introspect(&world.node, &issued).await;
            assert_eq!(answer["scope"], body["scope"], "{story}");
            token = Some(issued);
        }
    }
    world.node.stop().await;
}
