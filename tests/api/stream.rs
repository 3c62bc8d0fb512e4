//! The stream of revocations: who may read it, what it says, to whom, and how to come back to it.

use axum::body::Body;
use mcp_authority::feed::{ROUNDS_WAITING_MAX, SUBSCRIBERS_OF_SERVER_MAX, TOLD_AGAIN_MAX};
use mcp_authority::gate::Position;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::actors::text;
use crate::support::{Event, Node, Server, Stream, TestDb};

/// The place in the feed of a change, by its receipt.
pub fn position(receipt: &Value) -> Position {
    let place = receipt["enforced"]["position"].as_str().unwrap_or_else(|| panic!("no receipt: {receipt}"));
    place.parse().expect("a place")
}

/// What events say, without their ids.
pub fn told(events: &[Event]) -> Vec<(&str, Value)> {
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
    let basic = basic_credentials(&server);
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

/// As a header says them.
pub fn basic_credentials(server: &Server) -> String {
    use base64::Engine;
    let pair = format!("{}:{}", server.id, server.secret);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}
