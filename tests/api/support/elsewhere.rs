//! Somebody else's web server: documents over TLS on this machine, with a certificate of the test's own authority.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use mcp_authority::http::listen::{Limits, serve};
use mcp_authority::http::tls::Tls;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::World;

/// A page: its status, its headers, its body.
#[derive(Clone)]
struct Page {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

#[derive(Default)]
struct Pages {
    pages: HashMap<String, Page>,
    asked: HashMap<String, usize>,
}

/// The server.
pub struct Elsewhere {
    address: SocketAddr,
    pages: Arc<Mutex<Pages>>,
    files: TempDir,
    _stop: DropGuard,
}

impl Elsewhere {
    pub async fn start() -> Self {
        let files = tempfile::tempdir().expect("a directory");
        certify(&files);
        let tls = Tls::load(&files.path().join("cert.pem"), &files.path().join("key.pem")).expect("a certificate");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let pages = Arc::new(Mutex::new(Pages::default()));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&pages));
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(serve(
            listener,
            Some(tls),
            router,
            stop.clone(),
            Limits::with_grace(Duration::from_millis(10)),
        ));
        Self { address, pages, files, _stop: stop.drop_guard() }
    }

    /// What a node needs to trust this server, and to ask this machine at all.
    pub fn settings(&self) -> Vec<(String, String)> {
        let ca = self.files.path().join("ca.pem").display().to_string();
        vec![("MCPA_OUTBOUND_CA".to_owned(), ca), ("MCPA_OUTBOUND_LOOPBACK".to_owned(), "true".to_owned())]
    }

    /// The usual scene, with a node that may ask this server.
    pub async fn world(&self) -> World {
        let settings = self.settings();
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        World::with(&settings).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// Puts a JSON document there, good for as long as our own bounds allow.
    pub fn put(&self, path: &str, document: &Value) {
        self.put_with(path, document, "max-age=86400");
    }

    /// The same with a `Cache-Control` of its own.
    pub fn put_with(&self, path: &str, document: &Value, control: &str) {
        let headers = vec![("content-type", "application/json".to_owned()), ("cache-control", control.to_owned())];
        self.set(path, Page { status: StatusCode::OK, headers, body: document.to_string().into_bytes() });
    }

    /// Answers with a status and a `Location`.
    pub fn put_status(&self, path: &str, status: u16, location: &str) {
        let status = StatusCode::from_u16(status).expect("a status");
        let headers = vec![("content-type", "application/json".to_owned()), ("location", location.to_owned())];
        self.set(path, Page { status, headers, body: b"{}".to_vec() });
    }

    fn set(&self, path: &str, page: Page) {
        self.pages.lock().expect("pages").pages.insert(path.to_owned(), page);
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.pages.lock().expect("pages").asked.get(path).copied().unwrap_or(0)
    }
}

async fn answer(State(pages): State<Arc<Mutex<Pages>>>, uri: Uri) -> Response {
    let mut pages = pages.lock().expect("pages");
    *pages.asked.entry(uri.path().to_owned()).or_default() += 1;
    let Some(page) = pages.pages.get(uri.path()).cloned() else { return StatusCode::NOT_FOUND.into_response() };
    let mut response = (page.status, page.body).into_response();
    for (name, value) in page.headers {
        response.headers_mut().insert(name, value.parse().expect("a header"));
    }
    response
}

fn certify(files: &TempDir) {
    let write = |name: &str, text: String| std::fs::write(files.path().join(name), text).expect("written");
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", ca.self_signed(&ca_key).expect("signed").pem());
    let key = KeyPair::generate().expect("a key");
    let names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
    let cert = CertificateParams::new(names).expect("names").signed_by(&key, &Issuer::new(ca, ca_key)).expect("signed");
    write("cert.pem", cert.pem());
    write("key.pem", key.serialize_pem());
}
