//! What the stream tells of each change, and that nothing of it is lost on the way to another node.

use mcp_authority::gate::Position;
use serde_json::{Value, json};

use crate::stream::{position, told};
use crate::support::actors::text;
use crate::support::{Node, Operator, Reply, Server, Stream, TestDb, exchange};

/// A server that listens at another node than the one where things are changed.
struct Scene {
    one: Node,
    two: Node,
    operator: Operator,
    server: Server,
    stream: Stream,
}

impl Scene {
    async fn new(db: &TestDb) -> Self {
        let (one, two) = (Node::start(db).await, Node::start(db).await);
        let operator = one.operator().await;
        let server = operator.server(&one).await;
        two.until("node two knows the server", async || server.ask(&two, &[("token", "x")]).await.status == 200).await;
        let stream = Stream::open(&two, &server, None).await;
        Self { one, two, operator, server, stream }
    }

    /// What is told of a change, up to its place; the last event's id is that place or an earlier one of the same change.
    async fn tells(&mut self, reply: Reply) -> Vec<(String, Value)> {
        let receipt = reply.json.clone();
        assert!(reply.status.is_success(), "{}", reply.text);
        let events = self.stream.up_to(position(&receipt)).await;
        events.into_iter().map(|event| (event.name, event.data)).collect()
    }

    async fn patch(&mut self, path: &str, body: Value) -> Vec<(String, Value)> {
        let reply = self.operator.patch(&self.one, path, body).await;
        self.tells(reply).await
    }

    async fn post(&mut self, path: &str, body: Value) -> Vec<(String, Value)> {
        let reply = self.operator.post(&self.one, path, body).await;
        self.tells(reply).await
    }
}

fn event(name: &str, data: Value) -> (String, Value) {
    (name.to_owned(), data)
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_8_each_narrowing_of_a_key_is_told_in_the_words_of_introspection() {
    let db = TestDb::new().await;
    let mut scene = Scene::new(&db).await;
    let (server, operator) = (scene.server.clone(), scene.operator.clone());
    let key = operator.key(&scene.one, &server, &["tools/call", "tools/list"]).await;
    let path = format!("/v1/keys/{}", key.id);
    let token = key.session(&scene.one, &server).await;
    let known = server.introspect(&scene.one, &token).await;
    assert_eq!(
        (&known["key_id"], &known["client_id"], &known["sub"]),
        (&json!(key.id), &json!(key.id), &json!(key.agent))
    );
    let data = json!({"kind": "key", "id": known["key_id"], "agent_id": known["agent_id"]});
    let (changed, revoked) = (event("changed", data.clone()), event("revoked", data.clone()));

    assert_eq!(scene.patch(&path, json!({"allowed_cidrs": ["192.0.2.0/24"]})).await, std::slice::from_ref(&changed));
    operator.patch(&scene.one, &path, json!({"allowed_cidrs": null})).await.ok();
    let fewer = json!({"grants": [{"server_id": server.id, "permissions": ["tools/list"]}], "direct": false});
    let events = scene.patch(&path, fewer).await;
    assert!(!events.is_empty() && events.iter().all(|told| *told == changed), "{events:?}");
    let rotated = scene.post(&format!("{path}/rotate"), json!({"grace_seconds": 60})).await;
    assert_eq!(rotated, std::slice::from_ref(&changed), "the old version ends sooner than it said");
    let events = scene.patch(&path, json!({"disabled": true})).await;
    assert!(!events.is_empty() && events.iter().all(|told| *told == revoked), "{events:?}");
    operator.patch(&scene.one, &path, json!({"disabled": false})).await.ok();
    assert_eq!(scene.patch(&path, json!({"grants": []})).await.last(), Some(&revoked), "nothing is left of it here");

    let key = operator.key(&scene.one, &server, &["tools/call"]).await;
    let path = format!("/v1/keys/{}", key.id);
    let data = json!({"kind": "key", "id": key.id, "agent_id": key.agent});
    let rotated = scene.post(&format!("{path}/rotate"), json!({"grace_seconds": 0})).await;
    assert_eq!(rotated, [event("revoked", data.clone())], "without an overlap, all that is held of it is dead");
    assert_eq!(scene.post(&format!("{path}/revoke"), json!({})).await, [event("revoked", data)]);
    let key = operator.key(&scene.one, &server, &["tools/call"]).await;
    let withdrawn = operator.delete(&scene.one, &format!("/v1/servers/{}/grants/{}", server.id, key.id)).await;
    let data = json!({"kind": "key", "id": key.id, "agent_id": key.agent});
    assert_eq!(scene.tells(withdrawn).await, [event("revoked", data)]);

    // What only adds, or changes nothing that a server sees, is not told.
    let key = operator.key(&scene.one, &server, &["tools/list"]).await;
    let more =
        json!({"name": "other", "grants": [{"server_id": server.id, "permissions": ["tools/list", "tools/call"]}]});
    operator.patch(&scene.one, &format!("/v1/keys/{}", key.id), more).await.ok();
    let reply = operator.post(&scene.one, &format!("/v1/keys/{}/revoke", key.id), json!({})).await;
    assert_eq!(scene.tells(reply).await.len(), 1, "only its revocation");
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_8_each_kind_of_revocation_is_told_in_the_words_of_introspection() {
    let db = TestDb::new().await;
    let mut scene = Scene::new(&db).await;
    let (server, operator) = (scene.server.clone(), scene.operator.clone());
    let key = operator.key(&scene.one, &server, &["tools/call"]).await;
    let token = key.session(&scene.one, &server).await;
    let child = exchange(&scene.one, &token, &[]).await.issued();
    let known = server.introspect(&scene.one, &token).await;
    let revoked = |data: Value| vec![event("revoked", data)];

    // The child names neither its parent nor that it has one: it is found by the key that both have.
    let events = scene.post("/v1/revocations", json!({"kind": "token", "id": known["jti"]})).await;
    assert_eq!(events, revoked(json!({"kind": "token", "id": known["jti"], "key_id": key.id, "agent_id": key.agent})));
    assert_eq!(server.introspect(&scene.two, &child).await, json!({"active": false}));

    let body = json!({"kind": "agent", "id": key.agent, "issued_before": "2026-01-02T03:04:05Z"});
    let data = json!({"kind": "agent", "id": key.agent, "issued_before": "2026-01-02T03:04:05Z"});
    assert_eq!(scene.post("/v1/revocations", body).await, revoked(data));
    let agent = format!("/v1/agents/{}", key.agent);
    let data = json!({"kind": "agent", "id": key.agent});
    assert_eq!(scene.patch(&agent, json!({"disabled": true})).await, revoked(data.clone()));
    let deleted = operator.delete(&scene.one, &agent).await;
    assert_eq!(scene.tells(deleted).await, revoked(data));

    let everything = json!({"kind": "all", "id": "all"});
    for body in [
        json!({"kind": "server", "id": server.id}),
        json!({"kind": "project", "id": "default"}),
        json!({"kind": "all"}),
    ] {
        assert_eq!(scene.post("/v1/revocations", body).await, revoked(everything.clone()));
    }
    let key = operator.key(&scene.one, &server, &["tools/call"]).await;
    let token = key.session(&scene.one, &server).await;
    let kid = crate::support::jwt::header(&token)["kid"].clone();
    let events = scene.post("/v1/revocations", json!({"kind": "signing_key", "id": kid})).await;
    assert_eq!(events, [event("changed", everything.clone())]);

    // A role's holders are not listed: the server asks about all that it holds.
    let grants = json!([{"server_id": server.id, "permissions": ["tools/call"]}]);
    let role = text(
        &scene.operator.post(&scene.one, "/v1/roles", json!({"name": "r", "grants": grants})).await.created(),
        "id",
    );
    let with_role = json!({"agent_id": key.agent, "environment": "prod", "roles": [role], "direct": false});
    let held = operator.key_with(&scene.one, with_role).await;
    let events = scene.patch(&format!("/v1/keys/{}", held.id), json!({"roles": []})).await;
    assert_eq!(events, revoked(json!({"kind": "key", "id": held.id, "agent_id": key.agent})));
    operator.patch(&scene.one, &format!("/v1/keys/{}", held.id), json!({"roles": [role]})).await.ok();
    let events = scene.patch(&format!("/v1/roles/{role}"), json!({"grants": []})).await;
    assert_eq!(events, [event("changed", everything.clone())]);
    let scopes = json!([{"name": "read", "description": "Read", "permissions": ["tools/list"]}]);
    let events = scene.patch(&format!("/v1/servers/{}", server.id), json!({"scopes": scopes})).await;
    assert_eq!(events, [event("changed", everything)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_1_no_node_is_alive_past_a_revocation_before_it_has_told_it() {
    let db = TestDb::new().await;
    let (one, two) = (Node::start(&db).await, Node::start(&db).await);
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    two.until("node two knows the server", async || server.ask(&two, &[("token", "x")]).await.status == 200).await;
    let mut streams = [Stream::open(&one, &server, None).await, Stream::open(&two, &server, None).await];
    for _ in 0..30 {
        let key = operator.key(&one, &server, &["tools/call"]).await;
        let receipt = operator.post(&one, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
        let place = position(&receipt);
        // Whoever connects now begins after it.
        let late = Stream::open(&two, &server, None).await;
        assert!(late.last.parse::<Position>().expect("a place").covers(place));
        for stream in &mut streams {
            loop {
                let event = stream.next().await.expect("the stream goes on");
                let alive = event.name == "alive";
                assert!(!alive || !event.position().covers(place), "alive past what it has not told");
                if !alive {
                    assert_eq!((event.position(), &event.data["id"]), (place, &json!(key.id)));
                    break;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_out_of_order_for_who_comes_back_to_another_node() {
    let db = TestDb::new().await;
    let mut scene = Scene::new(&db).await;
    let (server, operator) = (scene.server.clone(), scene.operator.clone());
    let mut keys = Vec::new();
    for _ in 0..6 {
        keys.push(operator.key(&scene.one, &server, &["tools/call", "tools/list"]).await);
    }
    let token = keys[0].session(&scene.one, &server).await;
    let jti = server.introspect(&scene.one, &token).await["jti"].clone();
    let one = &scene.one;
    let path = |index: usize| format!("/v1/keys/{}", keys[index].id);
    let fewer = json!({"grants": [{"server_id": server.id, "permissions": ["tools/list"]}]});
    operator.post(one, "/v1/revocations", json!({"kind": "token", "id": jti})).await.created();
    operator.post(one, &format!("{}/revoke", path(1)), json!({})).await.enforced();
    operator.patch(one, &path(2), fewer).await.ok();
    // Its grant is gone from the tables: the feed alone still knows whom it concerns.
    operator.delete(one, &format!("/v1/servers/{}/grants/{}", server.id, keys[3].id)).await.enforced();
    operator.patch(one, &path(4), json!({"grants": []})).await.ok();
    let last = operator.patch(one, &format!("/v1/agents/{}", keys[5].agent), json!({"disabled": true})).await.ok();
    let live = scene.stream.up_to(position(&last)).await;
    assert_eq!(live.len(), 6, "{live:?}");
    assert!(live.windows(2).all(|pair| pair[0].position().is_before(pair[1].position())), "in the feed's order");

    // A node that was not there when it happened tells it from each place on just the same.
    let three = Node::start(&db).await;
    let opened = &scene.stream.text.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    let mut from = vec![opened.clone()];
    from.extend(live.iter().map(|event| event.id.clone()));
    for (index, place) in from.iter().enumerate() {
        for node in [one, &three] {
            let mut again = Stream::open(node, &server, Some(place)).await;
            assert_eq!(&again.last, place, "it opens where it was left");
            let missed = again.up_to(position(&last)).await;
            assert_eq!(told(&missed), told(&live[index..]));
            assert!(missed.iter().zip(&live[index..]).all(|(missed, live)| missed.id == live.id));
        }
    }
    // And goes on with what happens then.
    let mut again = Stream::open(&three, &server, from.last().map(String::as_str)).await;
    operator.post(one, &format!("{}/revoke", path(0)), json!({})).await.enforced();
    let news = again.news().await;
    assert_eq!((news.name.as_str(), &news.data["id"]), ("revoked", &json!(keys[0].id)));
}
