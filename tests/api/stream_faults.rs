//! The stream when something is wrong: a node that is not current, one that stops, a server that is one no longer.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::json;

use crate::stream::{basic_credentials, position};
use crate::support::{Node, Proxy, Road, Server, Stream, TestDb};

/// Longer than the time between two signs of life.
const SILENCE: Duration = Duration::from_millis(1_500);

/// A stream without a connection: nothing of it is made before it is asked for.
async fn unbuffered(node: &Node, server: &Server) -> Body {
    let request = http::Request::get("/v1/revocations/stream").header("authorization", basic_credentials(server));
    let request = request.body(Body::empty()).expect("a request");
    let service = mcp_authority::http::router(&node.app);
    let response = tower::ServiceExt::oneshot(service, request).await.expect("an answer");
    assert_eq!(response.status().as_u16(), 200);
    let mut body = response.into_body();
    assert!(piece(&mut body).await.contains("event: open"));
    body
}

async fn piece(body: &mut Body) -> String {
    let frame = body.frame().await.expect("it goes on").expect("a frame");
    String::from_utf8(frame.into_data().expect("data").to_vec()).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_1_an_alive_that_is_due_waits_for_what_was_told_before_it() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let keys = [operator.key(&node, &server, &["*"]).await, operator.key(&node, &server, &["*"]).await];
    let mut body = unbuffered(&node, &server).await;
    for key in keys {
        assert!(piece(&mut body).await.contains("event: alive"));
        // Nobody reads; by then the next one is overdue.
        tokio::time::sleep(SILENCE).await;
        operator.post(&node, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
        let first = piece(&mut body).await;
        assert!(first.contains("event: revoked") && first.contains(&key.id), "{first}");
    }
    drop(body);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_3_an_alive_that_is_due_is_not_said_when_the_lease_is_over() {
    let db = TestDb::new().await;
    let one = Node::start(&db).await;
    let proxy = Proxy::start(&db).await;
    let two = Node::start_at(&db, proxy.options(&db), &[]).await;
    let server = one.operator().await.server(&one).await;
    two.until("node two knows the server", async || server.ask(&two, &[("token", "x")]).await.status == 200).await;
    let mut body = unbuffered(&two, &server).await;
    assert!(piece(&mut body).await.contains("event: alive"));
    proxy.set(Road::Frozen);
    two.until("its lease is over", async || two.app.live.answer(|_| ()).is_err()).await;
    tokio::time::sleep(SILENCE).await;
    let said = tokio::time::timeout(SILENCE, piece(&mut body)).await;
    assert!(said.is_err(), "{said:?}");
    proxy.set(Road::Open);
    assert!(piece(&mut body).await.contains("event: alive"));
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_3_a_node_that_is_not_current_is_silent_and_tells_what_it_missed_before_it_is_alive() {
    let db = TestDb::new().await;
    let one = Node::start(&db).await;
    let proxy = Proxy::start(&db).await;
    let two = Node::start_at(&db, proxy.options(&db), &[]).await;
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let key = operator.key(&one, &server, &["tools/call"]).await;
    two.until("node two knows the key", async || server.ask(&two, &[("token", &key.key)]).await.json["active"] == true)
        .await;
    for road in [Road::Frozen, Road::Cut] {
        let key = operator.key(&one, &server, &["tools/call"]).await;
        let mut stream = Stream::open(&two, &server, None).await;
        proxy.set(road);
        two.until("its lease is over", async || two.app.live.answer(|_| ()).is_err()).await;
        let receipt = operator.post(&one, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
        let place = position(&receipt);
        // What it had said before may still be on its way; then there is silence.
        while let Some(event) = stream.next_within(SILENCE).await {
            assert_eq!(event.name, "alive");
            assert!(!event.position().covers(place), "it cannot know");
        }
        proxy.set(Road::Open);
        let event = stream.next().await.expect("the stream goes on");
        assert_eq!((event.name.as_str(), event.position()), ("revoked", place), "{road:?}");
        assert!(stream.next().await.expect("the stream goes on").position().covers(place));
        two.until("it answers again", async || server.ask(&two, &[("token", "x")]).await.status == 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_node_that_stays_behind_ends() {
    let db = TestDb::new().await;
    let one = Node::start(&db).await;
    let proxy = Proxy::start(&db).await;
    let two = Node::start_at(&db, proxy.options(&db), &[]).await;
    let server = one.operator().await.server(&one).await;
    two.until("node two knows the server", async || server.ask(&two, &[("token", "x")]).await.status == 200).await;
    let mut stream = Stream::open(&two, &server, None).await;
    proxy.set(Road::Cut);
    assert!(stream.ends().await.iter().all(|event| event.name == "alive"));
    proxy.set(Road::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_ends_its_streams_itself() {
    let db = TestDb::new().await;
    let (one, two) = (Node::start(&db).await, Node::start(&db).await);
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    two.until("node two knows the server", async || server.ask(&two, &[("token", "x")]).await.status == 200).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(Stream::open(&two, &server, None).await);
    }
    let key = operator.key(&one, &server, &["tools/call"]).await;
    let reading = async {
        for stream in &mut streams {
            // One that had to be cut would not have a clean end.
            stream.ends().await;
        }
    };
    tokio::join!(two.stop(), reading);
    let receipt = operator.post(&one, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
    let mut again = Stream::open(&one, &server, Some(&streams[0].last)).await;
    assert_eq!(again.up_to(position(&receipt)).await.len(), 1, "it went on elsewhere");
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_one_no_longer_is_told_nothing_more() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    for way in ["rotated", "expired", "disabled", "deleted"] {
        let server = operator.server(&node).await;
        let key = operator.key(&node, &server, &["tools/call"]).await;
        let mut stream = Stream::open(&node, &server, None).await;
        let path = format!("/v1/servers/{}", server.id);
        match way {
            "rotated" => {
                drop(operator.post(&node, &format!("{path}/rotate"), json!({"grace_seconds": 0})).await.enforced());
            }
            "expired" => {
                operator.post(&node, &format!("{path}/rotate"), json!({"grace_seconds": 600})).await.ok();
                node.advance(&db, 601).await;
            }
            "disabled" => drop(operator.patch(&node, &path, json!({"disabled": true})).await.enforced()),
            _ => drop(operator.delete(&node, &path).await.enforced()),
        }
        operator.post(&node, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
        let told = stream.ends().await;
        assert!(told.iter().all(|event| event.name == "alive"), "{way}: {told:?}");
        assert!(!stream.text.contains(&key.id), "{way}");
    }
    node.stop().await;
}
