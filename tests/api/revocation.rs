//! Revoked means revoked: what each kind kills, and what it leaves.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::jwt::{claims, header};
use crate::support::{Node, Server, World, exchange, text};

/// Credentials by what they hang on, at two servers of two projects.
struct Scene {
    world: World,
    other: Server,
    credentials: BTreeMap<&'static str, (Server, String)>,
    agent: String,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new().await;
        world.post("/v1/projects", json!({"name": "files", "hosts": ["*.files.example.com"]})).await.created();
        let other = json!({"name": "other", "resource": "https://a.files.example.com/mcp", "project": "files"});
        let other = world.operator.server_with(&world.node, other).await;
        let key = world.key_on(&[(&world.server, &["*"])], json!({})).await;
        let second = world.key_of(&key.agent, &[(&other, &["*"])], json!({})).await;
        let foreign = world.key(&["*"]).await;
        let token = world.session(&key).await;
        let child = exchange(&world.node, &token, &[]).await.issued();
        let mut credentials = BTreeMap::new();
        let here = || world.server.clone();
        credentials.insert("sibling", (here(), world.session(&key).await));
        credentials.insert("foreign token", (here(), world.session(&foreign).await));
        credentials.insert("second token", (other.clone(), second.session(&world.node, &other).await));
        credentials.insert("key", (here(), key.key));
        credentials.insert("second key", (other.clone(), second.key));
        credentials.insert("foreign key", (here(), foreign.key));
        credentials.insert("token", (here(), token));
        credentials.insert("child", (here(), child));
        Self { agent: key.agent, other, credentials, world }
    }

    async fn living(&self, node: &Node) -> Vec<&'static str> {
        let mut living = Vec::new();
        for (name, (server, credential)) in &self.credentials {
            if server.accepts(node, credential).await {
                living.push(*name);
            }
        }
        living
    }

    fn token(&self) -> &str {
        &self.credentials["token"].1
    }

    /// Revokes, and asserts that exactly these died; that what is issued now is good; and that a restart changes nothing.
    async fn kills(self, body: Value, dead: &[&str]) {
        let before = self.living(&self.world.node).await;
        assert_eq!(before.len(), self.credentials.len());
        self.world.revoke(body.clone()).await;
        let expected: Vec<&str> = before.into_iter().filter(|name| !dead.contains(name)).collect();
        assert_eq!(self.living(&self.world.node).await, expected, "{body}");
        let Self { world, credentials, agent, other } = self;
        let key = world.key_of(&agent, &[(&world.server, &["*"])], json!({})).await;
        let fresh = world.session(&key).await;
        assert!(world.accepts(&fresh).await && world.accepts(&key.key).await, "{body}: issued later");
        let World { node, db, operator, server } = world;
        node.stop().await;
        let node = Node::start(&db).await;
        let world = World { db, node, operator, server };
        let scene = Self { world, other, credentials, agent };
        assert_eq!(scene.living(&scene.world.node).await, expected, "{body}: after a restart");
        assert!(scene.world.accepts(&fresh).await, "{body}: issued later, after a restart");
        scene.world.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_what_was_exchanged_from_it() {
    let scene = Scene::new().await;
    let jti = text(&claims(scene.token()), "jti");
    scene.kills(json!({"kind": "token", "id": jti, "reason": "test"}), &["token", "child"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_good_and_what_was_issued_from_it() {
    let scene = Scene::new().await;
    let id = text(&claims(scene.token()), "key_id");
    scene.kills(json!({"kind": "key", "id": id}), &["key", "token", "sibling", "child"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_issued_to_an_agent_so_far_and_not_its_keys() {
    let scene = Scene::new().await;
    let body = json!({"kind": "agent", "id": scene.agent});
    scene.kills(body, &["token", "sibling", "child", "second token"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_issued_for_a_server_so_far() {
    let scene = Scene::new().await;
    let body = json!({"kind": "server", "id": scene.other.id});
    scene.kills(body, &["second token"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_issued_for_the_servers_of_a_project_so_far() {
    Scene::new().await.kills(json!({"kind": "project", "id": "files"}), &["second token"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_issued_to_the_agents_of_a_project_so_far() {
    let tokens = ["token", "sibling", "child", "second token", "foreign token"];
    Scene::new().await.kills(json!({"kind": "project", "id": "default"}), &tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_issued_so_far() {
    let tokens = ["token", "sibling", "child", "second token", "foreign token"];
    Scene::new().await.kills(json!({"kind": "all"}), &tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_a_signing_key_signed_while_issuing_goes_on() {
    let scene = Scene::new().await;
    let kid = text(&header(scene.token()), "kid");
    let keys = scene.world.operator.get(&scene.world.node, "/oauth/jwks").await.ok();
    assert_eq!(keys["keys"][0]["kid"], kid);
    let tokens = ["token", "sibling", "child", "second token", "foreign token"];
    scene.kills(json!({"kind": "signing_key", "id": kid}), &tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_8_revoking_twice_is_the_first_receipt() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let token = world.session(&key).await;
    let jti = text(&claims(&token), "jti");
    for (kind, id) in [("token", jti), ("key", key.id), ("signing_key", text(&header(&token), "kid"))] {
        let first = world.revoke(json!({"kind": kind, "id": id})).await;
        let second = world.revoke(json!({"kind": kind, "id": id, "reason": "again"})).await;
        assert_eq!((&first["id"], &first["sequence"]), (&second["id"], &second["sequence"]), "{kind}");
        let read = world.operator.get(&world.node, &format!("/v1/revocations/{}", text(&first, "id"))).await.ok();
        assert_eq!(read["sequence"], first["sequence"]);
    }
    // A cut-off is a new one each time.
    let first = world.revoke(json!({"kind": "all"})).await;
    assert_ne!(first["id"], world.revoke(json!({"kind": "all"})).await["id"]);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_revoked_so_is_refused() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let token = world.session(&key).await;
    let (jti, kid) = (text(&claims(&token), "jti"), text(&header(&token), "kid"));
    let (past, future) = (world.time(-60), world.time(60));
    let cases = [
        (json!({"kind": "token", "id": jti, "issued_before": past}), 422, "invalid_fields"),
        (json!({"kind": "key", "id": key.id, "issued_before": past}), 422, "invalid_fields"),
        (json!({"kind": "signing_key", "id": kid, "issued_before": past}), 422, "invalid_fields"),
        (json!({"kind": "agent", "id": key.agent, "issued_before": future}), 422, "invalid_fields"),
        (json!({"kind": "all", "issued_before": future}), 422, "invalid_fields"),
        (json!({"kind": "agent"}), 422, "invalid_fields"),
        (json!({"kind": "all", "id": "some"}), 422, "invalid_fields"),
        (json!({"kind": "operator", "id": world.operator.id}), 422, "invalid_fields"),
        (json!({"kind": "key_sessions", "id": key.id}), 422, "invalid_fields"),
        (json!({"kind": "agent", "id": key.agent, "unknown": 1}), 422, "invalid_fields"),
        (json!({"kind": "agent", "id": key.agent, "reason": "x".repeat(501)}), 422, "invalid_fields"),
        (json!({"kind": "agent", "id": "agt_00000000000000000000000000000000"}), 404, "not_found"),
        (json!({"kind": "key", "id": "key_aaaaaaaaaaaa"}), 404, "not_found"),
        (json!({"kind": "token", "id": "ses_00000000000000000000000000000000"}), 404, "not_found"),
        (json!({"kind": "signing_key", "id": "nobody's"}), 404, "not_found"),
        (json!({"kind": "project", "id": "nobody's"}), 404, "not_found"),
    ];
    for (body, status, code) in cases {
        let reply = world.post("/v1/revocations", body.clone()).await;
        assert_eq!((reply.status.as_u16(), &reply.json["code"]), (status, &json!(code)), "{body}: {}", reply.text);
    }
    assert!(world.accepts(&token).await && world.accepts(&key.key).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_13_issued_before_kills_what_was_issued_then_and_five_seconds_after() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let at = |token: &str| claims(token)["iat"].as_i64().expect("iat");
    let first = world.session(&key).await;
    world.advance(60).await;
    let second = world.session(&key).await;
    let before = |seconds: i64| {
        let time = mcp_authority::types::clock::Timestamp::from_seconds(seconds).to_utc();
        time.format(&time::format_description::well_known::Rfc3339).expect("a time")
    };
    let agent = |time: String| json!({"kind": "agent", "id": key.agent, "issued_before": time});
    world.revoke(agent(before(at(&first) - 6))).await;
    assert!(world.accepts(&first).await, "issued six seconds after T");
    world.revoke(agent(before(at(&first) - 5))).await;
    assert!(!world.accepts(&first).await, "issued five seconds after T");
    assert!(world.accepts(&second).await);
    world.revoke(agent(before(at(&second)))).await;
    assert!(!world.accepts(&second).await);
    assert!(world.accepts(&key.key).await, "keys are not cut off");
    world.node.stop().await;
}

/// Attack 6: of cut-offs at different levels the latest wins, in whatever order they were made.
#[tokio::test(flavor = "multi_thread")]
async fn attack_6_the_latest_cut_off_wins_whatever_its_level() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let cut = |level: &str, time: &str| {
        let id = match level {
            "agent" => json!(key.agent),
            "server" => json!(world.server.id),
            "project" => json!("default"),
            _ => json!("all"),
        };
        json!({"kind": level, "id": id, "issued_before": time})
    };
    let levels = ["agent", "server", "project", "all"];
    for (late, early) in levels.iter().flat_map(|late| levels.map(|early| (*late, early))) {
        for late_first in [true, false] {
            let token = world.session(&key).await;
            world.advance(30).await;
            let (t_late, t_early) = (world.time(-20), world.time(-60));
            let mut cuts = vec![cut(late, &t_late), cut(early, &t_early)];
            if !late_first {
                cuts.reverse();
            }
            for body in cuts {
                world.revoke(body).await;
            }
            assert!(!world.accepts(&token).await, "{late} late, {early} early, {late_first}");
        }
        let token = world.session(&key).await;
        assert!(world.accepts(&token).await, "issued after both");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_disabled_works_no_more_and_its_tokens_do_not_come_back() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let things = [
        format!("/v1/keys/{}", key.id),
        format!("/v1/agents/{}", key.agent),
        format!("/v1/servers/{}", world.server.id),
    ];
    for thing in things {
        let is_server = thing.contains("servers");
        let token = world.session(&key).await;
        let child = exchange(&world.node, &token, &[]).await.issued();
        world.patch(&thing, json!({"disabled": true})).await.enforced();
        if is_server {
            let form = [("token", key.key.as_str())];
            world.server.ask(&world.node, &form).await.refused(401, "invalid_client");
            key.session_with(&world.node, &[]).await.refused(400, "invalid_target");
        } else {
            assert!(!world.accepts(&key.key).await && !world.accepts(&token).await, "{thing}");
            key.session_with(&world.node, &[]).await.refused(401, "invalid_client");
        }
        exchange(&world.node, &token, &[]).await.refused(400, "invalid_request");
        world.patch(&thing, json!({"disabled": false})).await.ok();
        assert!(world.accepts(&key.key).await, "{thing}: keys work again");
        assert!(!world.accepts(&token).await && !world.accepts(&child).await, "{thing}: tokens stay dead");
        let fresh = world.session(&key).await;
        assert!(world.accepts(&fresh).await);
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_8_a_restart_brings_nothing_back() {
    let world = World::new().await;
    let (node, operator) = (&world.node, &world.operator);
    let (rotated, revoked, off) = (world.key(&["*"]).await, world.key(&["*"]).await, world.key(&["*"]).await);
    let live = world.key(&["*"]).await;
    let tokens = [world.session(&rotated).await, world.session(&revoked).await, world.session(&off).await];
    let living = world.session(&live).await;
    operator.post(node, &format!("/v1/keys/{}/rotate", rotated.id), json!({"grace_seconds": 0})).await.enforced();
    operator.post(node, &format!("/v1/keys/{}/revoke", revoked.id), json!({})).await.enforced();
    operator.patch(node, &format!("/v1/keys/{}", off.id), json!({"disabled": true})).await.enforced();
    operator.patch(node, &format!("/v1/keys/{}", off.id), json!({"disabled": false})).await.ok();
    let mut dead: Vec<&str> = tokens.iter().map(String::as_str).collect();
    dead.extend([rotated.key.as_str(), revoked.key.as_str()]);
    let World { node, db, server, .. } = world;
    let mut node = node;
    for round in 0..3 {
        for credential in &dead {
            assert!(!server.accepts(&node, credential).await, "{round}");
            exchange(&node, credential, &[]).await.refused(400, "invalid_request");
        }
        for credential in [&live.key, &living, &off.key] {
            assert!(server.accepts(&node, credential).await, "{round}");
        }
        node.stop().await;
        node = Node::start(&db).await;
    }
    node.stop().await;
}
