//! The stream of revocations: who may read it, what it says, to whom, and how to come back to it.

use axum::body::Body;
use mcp_authority::feed::{ROUNDS_WAITING_MAX, SUBSCRIBERS_OF_SERVER_MAX, TOLD_AGAIN_MAX};
use mcp_authority::gate::Position;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::actors::text;
use crate::support::{Event, Node, Operator, Reply, Server, Stream, TestDb, exchange};

/// The place in the feed of a change, by its receipt.
pub fn position(receipt: &Value) -> Position {
    let place = receipt["enforced"]["position"].as_str().unwrap_or_else(|| panic!("no receipt: {receipt}"));
    place.parse().expect("a place")
}

fn told(events: &[Event]) -> Vec<(&str, Value)> {
    events.iter().map(|event| (event.name.as_str(), event.data.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_what_it_is_called_and_each_second_that_it_is_current() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let server = node.operator().await.server(&node).await;
    let mut stream = Stream::unread(&node, &server, None).await;
    let opened = stream.next().await.expect("an event");
    assert_eq!(opened.name, "open");
    assert_eq!(opened.data.as_object().expect("an object").len(), 1);
    let began = std::time::Instant::now();
    for _ in 0..3 {
        let alive = stream.next().await.expect("an event");
        assert_eq!((alive.name.as_str(), &alive.data), ("alive", &json!({})));
        assert!(alive.position().covers(opened.position()));
    }
    // Two seconds lie between the first and the third; a slow machine only makes it more.
    assert!(began.elapsed().as_millis() >= 1_900, "it does not chatter: {:?}", began.elapsed());
    let mut second = Stream::unread(&node, &server, None).await;
    assert_ne!(second.next().await.expect("an event").data["stream_id"], opened.data["stream_id"]);
    assert_eq!(node.app.feed.subscribers(), 2);
    drop((stream, second));
    node.until("both are gone", async || node.app.feed.subscribers() == 0).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_2_only_a_server_with_its_own_secret_may_listen() {
    let db = TestDb::new().await;
    let node = Node::start_with(&db, &[("MCPA_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let operator = node.operator().await;
    let (server, other) = (operator.server(&node).await, operator.server(&node).await);
    let key = operator.key(&node, &server, &["*"]).await;
    let session = key.session(&node, &server).await;
    let ask = || node.request(Method::GET, "/v1/revocations/stream").header("x-forwarded-for", uuid_address());
    let refused = async |request: reqwest::RequestBuilder| {
        let reply = node.send(request).await;
        assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"mcp-authority\"");
        reply.refused(401, "unauthenticated");
    };
    refused(ask()).await;
    refused(ask().header("last-event-id", "nonsense").query(&[("nonsense", "1")])).await;
    for wrong in [&operator.key, &key.key, &session, &"mcp_server_x".to_owned()] {
        refused(ask().bearer_auth(wrong)).await;
        refused(ask().basic_auth(&server.id, Some(wrong))).await;
    }
    refused(ask().basic_auth(&server.id, Some(&other.secret))).await;
    refused(ask().basic_auth(&other.id, Some(&server.secret))).await;
    refused(ask().basic_auth(&server.id, Some(&server.secret)).bearer_auth(&server.secret)).await;
    let response = ask().bearer_auth(&server.secret).send().await.expect("an answer");
    assert_eq!(response.status().as_u16(), 200, "as at introspection: also as Bearer");
    node.send(node.request(Method::POST, "/v1/revocations/stream").basic_auth(&server.id, Some(&server.secret)))
        .await
        .refused(405, "method_not_allowed");
    drop(response);
    node.stop().await;
}

/// An address that no other request of the test has, so that the guard against guessing stays out of it.
fn uuid_address() -> String {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    format!("10.{}.{}.{}", bytes[0], bytes[1], bytes[2])
}

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

    assert_eq!(scene.patch(&path, json!({"allowed_cidrs": ["192.0.2.0/24"]})).await, [changed.clone()]);
    operator.patch(&scene.one, &path, json!({"allowed_cidrs": null})).await.ok();
    let fewer = json!({"grants": [{"server_id": server.id, "permissions": ["tools/list"]}], "direct": false});
    let events = scene.patch(&path, fewer).await;
    assert!(!events.is_empty() && events.iter().all(|told| *told == changed), "{events:?}");
    let rotated = scene.post(&format!("{path}/rotate"), json!({"grace_seconds": 60})).await;
    assert_eq!(rotated, [changed.clone()], "the old version ends sooner than it said");
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

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_from_a_place_that_is_not_known_asks_everything_again() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let begin = Stream::open(&node, &server, None).await.last;
    for _ in 0..3 {
        operator.agent(&node).await;
    }
    let head = node.app.live.round().position;
    let reset = async |last: &str| {
        let mut stream = Stream::open(&node, &server, Some(last)).await;
        assert!(stream.last.parse::<Position>().expect("a place").covers(head), "{last}: it begins now");
        let event = stream.next().await.expect("an event");
        assert_eq!((event.name.as_str(), &event.id), ("reset", &stream.last), "{last}");
        assert_eq!(stream.next().await.expect("an event").name, "alive");
    };
    let number = head.number;
    for last in ["", "nonsense", "1", "1.x", "99.1", "0.1", "-1.-1", &format!("{}.{}", head.history, number + 1_000)] {
        reset(last).await;
    }
    // Not yet pruned, and told again: nothing of it is this server's.
    let mut stream = Stream::open(&node, &server, Some(&begin)).await;
    assert_eq!(stream.next().await.expect("an event").name, "alive");
    db.execute(&format!("delete from feed where number < {number}")).await;
    reset(&begin).await;
    let one = format!("{}.{number}", head.history);
    assert_eq!(Stream::open(&node, &server, Some(&one)).await.next().await.expect("an event").name, "alive");
    let many = format!("select feed_draw('revocation', 'rev_' || n) from generate_series(1, {}) n", TOLD_AGAIN_MAX + 1);
    db.execute(&many).await;
    let drawn = number + TOLD_AGAIN_MAX + 1;
    node.until("it has read them", async || node.app.live.round().position.number >= drawn).await;
    reset(&one).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_changes_under_an_open_stream_is_told() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let server = node.operator().await.server(&node).await;
    let mut stream = Stream::open(&node, &server, None).await;
    let mut connection = db.connection().await;
    let history = mcp_authority::feed::open_history(&mut connection).await.expect("a new history");
    let event = stream.news().await;
    assert_eq!((event.name.as_str(), event.position().history), ("reset", history));
    assert_eq!(stream.next().await.expect("an event").position().history, history);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_30_a_server_is_told_nothing_of_what_is_another_s() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let root = node.operator().await;
    root.post(&node, "/v1/projects", json!({"name": "blue"})).await.created();
    let mine = root.server(&node).await;
    let blue = json!({"name": "s", "resource": "https://blue.example.com", "project": "blue"});
    let blue = root.server_with(&node, blue).await;
    let (mut own, mut theirs) = (Stream::open(&node, &mine, None).await, Stream::open(&node, &blue, None).await);
    let grants = json!([{"server_id": blue.id, "permissions": ["*"]}]);
    let role = json!({"name": "r", "project": "blue", "grants": grants});
    let role = text(&root.post(&node, "/v1/roles", role).await.created(), "id");
    let keys = [
        root.key(&node, &blue, &["*"]).await,
        root.key(&node, &blue, &["*"]).await,
        root.key(&node, &blue, &["*"]).await,
    ];
    let session = keys[0].session(&node, &blue).await;
    let jti = text(&blue.introspect(&node, &session).await, "jti");
    let nobody = root.key_with(&node, json!({"agent_id": keys[0].agent, "environment": "prod"})).await;
    let post = async |path: &str, body: Value| {
        let reply = root.post(&node, path, body).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.text);
    };
    post("/v1/revocations", json!({"kind": "token", "id": jti})).await;
    post("/v1/revocations", json!({"kind": "server", "id": blue.id})).await;
    post("/v1/revocations", json!({"kind": "agent", "id": keys[0].agent})).await;
    post(&format!("/v1/keys/{}/rotate", keys[1].id), json!({"grace_seconds": 0})).await;
    post(&format!("/v1/keys/{}/revoke", keys[1].id), json!({})).await;
    post(&format!("/v1/keys/{}/revoke", nobody.id), json!({})).await;
    post(&format!("/v1/servers/{}/rotate", blue.id), json!({"grace_seconds": 60})).await;
    root.patch(&node, &format!("/v1/roles/{role}"), json!({"grants": []})).await.ok();
    root.patch(&node, &format!("/v1/keys/{}", keys[2].id), json!({"grants": []})).await.ok();
    root.patch(&node, &format!("/v1/agents/{}", keys[2].agent), json!({"disabled": true})).await.ok();
    let last = root.patch(&node, &format!("/v1/keys/{}", keys[0].id), json!({"disabled": true})).await.ok();
    assert_eq!(told(&own.up_to(position(&last)).await), []);
    assert!(theirs.up_to(position(&last)).await.len() > 8, "blue was told all of it");
    // Agents of a project may hold keys anywhere: others are told to ask again, and not about what.
    let receipt = root.post(&node, "/v1/revocations", json!({"kind": "project", "id": "blue"})).await.created();
    let everything = json!({"kind": "all", "id": "all"});
    assert_eq!(told(&own.up_to(position(&receipt)).await), [("changed", everything.clone())]);
    assert_eq!(told(&theirs.up_to(position(&receipt)).await), [("revoked", everything)]);
    let strangers =
        [&blue.id, &role, &keys[0].id, &keys[1].id, &keys[2].id, &nobody.id, &keys[0].agent, &keys[2].agent, &jti];
    for id in strangers {
        assert!(!own.text.contains(id.as_str()) && !own.text.contains("blue"), "it was told {id}");
    }
    // What is told again to who comes back is held back just the same.
    let opened = own.text.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    let mut again = Stream::open(&node, &mine, Some(&opened)).await;
    assert_eq!(again.up_to(position(&receipt)).await.len(), 1);
    for id in strangers {
        assert!(!again.text.contains(id.as_str()), "it was told {id}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_a_bounded_number_of_streams_at_a_node() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let (server, other) = (operator.server(&node).await, operator.server(&node).await);
    let mut streams = Vec::new();
    for _ in 0..SUBSCRIBERS_OF_SERVER_MAX {
        streams.push(Stream::unread(&node, &server, None).await);
    }
    let ask = || node.request(Method::GET, "/v1/revocations/stream").basic_auth(&server.id, Some(&server.secret));
    let reply = node.send(ask()).await;
    assert!(reply.headers.contains_key("retry-after"));
    reply.refused(429, "too_many_streams");
    // Others are not concerned, and a place that is left is free.
    drop(Stream::open(&node, &other, None).await);
    streams.pop();
    node.until("there is a place again", async || {
        let response = ask().send().await.expect("an answer");
        response.status().as_u16() == 200
    })
    .await;
    drop(streams);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_keep_up_is_cut_off_and_told_where_to_come_back() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/call"]).await;
    // Asked without a connection between, so that nothing is buffered for the one who does not read.
    let basic = reqwest_basic(&server);
    let request = http::Request::get("/v1/revocations/stream").header("authorization", basic).body(Body::empty());
    let router = mcp_authority::http::router(&node.app);
    let response = tower::ServiceExt::oneshot(router, request.expect("a request")).await.expect("an answer");
    assert_eq!(response.status().as_u16(), 200);
    let path = format!("/v1/keys/{}", key.id);
    let mut place = Position::default();
    for round in 0..=ROUNDS_WAITING_MAX {
        let cidrs = json!({"allowed_cidrs": [format!("192.0.2.{}/32", round % 250)]});
        let receipt = operator.patch(&node, &path, cidrs).await;
        place = position(&receipt.json);
    }
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("it has an end");
    let text = String::from_utf8_lossy(&bytes);
    let blocks: Vec<&str> = text.trim_end().split("\n\n").collect();
    assert_eq!(blocks.len(), 2, "{text}");
    assert!(blocks[0].contains("event: open") && blocks[1].contains("event: resume"), "{text}");
    let last = blocks[1].lines().find_map(|line| line.strip_prefix("id: ")).expect("where to come back");
    let mut again = Stream::open(&node, &server, Some(last)).await;
    assert_eq!(again.up_to(place).await.len(), ROUNDS_WAITING_MAX + 1, "nothing is lost");
    node.stop().await;
}

fn reqwest_basic(server: &Server) -> String {
    use base64::Engine;
    let pair = format!("{}:{}", server.id, server.secret);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}
