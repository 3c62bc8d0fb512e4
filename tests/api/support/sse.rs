//! A server's end of the stream of revocations: opens it, reads its events one by one.

use std::time::Duration;

use mcp_authority::gate::Position;
use reqwest::Method;
use serde_json::Value;

use super::{Node, Server};

/// Nothing that must come takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: Value,
}

impl Event {
    /// Its place in the feed.
    pub fn position(&self) -> Position {
        self.id.parse().expect("a place")
    }
}

/// An open stream.
pub struct Stream {
    response: reqwest::Response,
    rest: Vec<u8>,
    /// Every byte that came.
    pub text: String,
    /// The id of the last event that was read.
    pub last: String,
}

impl Stream {
    /// Opens one, from where `last` says, and reads its first event.
    pub async fn open(node: &Node, server: &Server, last: Option<&str>) -> Self {
        let mut stream = Self::unread(node, server, last).await;
        let opened = stream.next().await.expect("an event");
        assert_eq!(opened.name, "open");
        assert!(opened.data["stream_id"].as_str().is_some_and(|id| id.starts_with("str_")), "{opened:?}");
        stream
    }

    /// Opens one and reads nothing. A node that cannot prove that it is current is asked again.
    pub async fn unread(node: &Node, server: &Server, last: Option<&str>) -> Self {
        let mut opened = None;
        node.until("the stream is open", async || {
            let request =
                node.request(Method::GET, "/v1/revocations/stream").basic_auth(&server.id, Some(&server.secret));
            let request = if let Some(last) = last { request.header("last-event-id", last) } else { request };
            let response = request.send().await.expect("an answer");
            assert!([200, 503].contains(&response.status().as_u16()), "{}", response.status());
            opened = (response.status() == 200).then_some(response);
            opened.is_some()
        })
        .await;
        let response = opened.expect("opened");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { response, rest: Vec::new(), text: String::new(), last: String::new() }
    }

    /// The next event; `None` when the stream has come to its end.
    pub async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an event in time")
    }

    /// The next event, if it comes within this time.
    pub async fn next_within(&mut self, longest: Duration) -> Option<Event> {
        tokio::time::timeout(longest, self.read()).await.ok().flatten()
    }

    /// The next event that says more than that the node is current.
    pub async fn news(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.name != "alive" {
                return event;
            }
        }
    }

    /// Everything that was told up to this place.
    pub async fn up_to(&mut self, position: Position) -> Vec<Event> {
        let mut told = Vec::new();
        loop {
            let event = self.next().await.expect("the stream goes on");
            let alive = event.name == "alive";
            if alive && event.position().covers(position) {
                return told;
            }
            told.extend((!alive).then_some(event));
        }
    }

    /// Reads to the end, which must be a clean one.
    pub async fn ends(&mut self) -> Vec<Event> {
        let mut told = Vec::new();
        while let Some(event) = self.next().await {
            told.push(event);
        }
        told
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.rest.drain(..end + 2).collect();
                let event = parse(std::str::from_utf8(&block).expect("UTF-8"));
                self.last.clone_from(&event.id);
                return Some(event);
            }
            let Some(more) = self.response.chunk().await.expect("not cut off") else {
                assert!(self.rest.is_empty(), "half an event");
                return None;
            };
            self.text.push_str(&String::from_utf8_lossy(&more));
            self.rest.extend_from_slice(&more);
        }
    }
}

/// Each event has each field once.
fn parse(block: &str) -> Event {
    let field = |name: &str| {
        let mut found = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let value = found.next().unwrap_or_else(|| panic!("no {name}: {block:?}"));
        assert_eq!(found.next(), None, "{name} twice: {block:?}");
        value.trim_start().to_owned()
    };
    assert_eq!(block.trim_end().lines().count(), 3, "{block:?}");
    let data = serde_json::from_str(&field("data")).expect("JSON");
    Event { name: field("event"), id: field("id"), data }
}
