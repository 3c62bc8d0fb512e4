//! Somebody's receiver of webhooks, on this machine: it keeps what it got, and answers as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri, header};
use mcp_authority::http::listen::{Limits, serve};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// How it answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// With this status.
    Status(u16),
    /// Go there instead.
    Redirect(String),
    /// Not at all, until it is told otherwise.
    Hold,
}

/// What it got.
#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("a text")
    }

    /// The message's id.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The event's type.
    pub fn kind(&self) -> String {
        super::text(&self.json(), "type")
    }
}

struct Desk {
    answer: Answer,
    got: Vec<Got>,
}

/// The receiver.
pub struct Receiver {
    address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
    _stop: DropGuard,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    /// On an address that was one before.
    pub async fn start_at(address: &str) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let desk = Arc::new(Mutex::new(Desk { answer: Answer::Status(204), got: Vec::new() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&desk));
        let stop = CancellationToken::new();
        let limits = Limits::with_grace(Duration::from_millis(10));
        TaskTracker::new().spawn(serve(listener, None, router, stop.clone(), limits));
        Self { address, desk, _stop: stop.drop_guard() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.address.port())
    }

    pub fn answers(&self, answer: Answer) {
        self.desk.lock().expect("the desk").answer = answer;
    }

    /// All that came, in the order in which it did.
    pub fn got(&self) -> Vec<Got> {
        self.desk.lock().expect("the desk").got.clone()
    }

    /// What came of this type.
    pub fn of(&self, kind: &str) -> Vec<Got> {
        self.got().into_iter().filter(|got| got.kind() == kind).collect()
    }
}

async fn answer(State(desk): State<Arc<Mutex<Desk>>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let got = Got { path: uri.path().to_owned(), headers, body: body.to_vec() };
    desk.lock().expect("the desk").got.push(got);
    loop {
        let answer = desk.lock().expect("the desk").answer.clone();
        match answer {
            Answer::Status(status) => return StatusCode::from_u16(status).expect("a status").into_response(),
            Answer::Redirect(to) => return (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
            Answer::Hold => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
