//! A running listener, raw connections to it, certificates in files.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::routing::{get, post};
use mcp_authority::http::listen::{Limits, Stopped, serve};
use mcp_authority::http::tls::Tls;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Nothing here takes this long unless it hangs.
pub(crate) const BOUND: Duration = Duration::from_secs(20);
pub(crate) const SHORT: Duration = Duration::from_millis(100);
pub(crate) const LONG: Duration = Duration::from_mins(10);

/// What the routes and the test share: who came in, and who may go out.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) entered: Arc<AtomicUsize>,
    pub(crate) leave: Arc<Semaphore>,
}

pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<Stopped>,
    pub(crate) room: Room,
}

impl Listener {
    pub(crate) async fn start(tls: Option<Tls>, limits: Limits) -> Self {
        let room = Room { entered: Arc::default(), leave: Arc::new(Semaphore::new(0)) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new()
            .route("/who", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
            .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
            .route("/wait", get(wait))
            .route("/flood", get(flood))
            .with_state(room.clone());
        let running = spawn(serve(listener, tls, router, stop.clone(), limits));
        Self { address, stop, running, room }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.address)).await.unwrap()
    }

    /// Waits until nobody gets in any more.
    pub(crate) async fn is_closed(&self) {
        let closed = async { while TcpStream::connect(self.address).await.is_ok() {} };
        within(closed).await;
    }

    /// Stops it, if nobody has, and waits for its end.
    pub(crate) async fn stopped(self) -> Stopped {
        self.stop.cancel();
        within(self.running).await.unwrap()
    }

    pub(crate) async fn has_entered(&self, count: usize) {
        until("the request arrives", || self.room.entered.load(Ordering::SeqCst) == count).await;
    }
}

pub(crate) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    TaskTracker::new().spawn(task)
}

/// An endless reply; as long as it is being sent, the room is held.
async fn flood(State(room): State<Room>) -> Body {
    room.entered.fetch_add(1, Ordering::SeqCst);
    let piece = Bytes::from(vec![b'x'; 65_536]);
    let next = move || if room.leave.is_closed() { Bytes::new() } else { piece.clone() };
    Body::from_stream(futures_util::stream::repeat_with(move || Ok::<_, Infallible>(next())))
}

async fn wait(State(room): State<Room>) -> &'static str {
    room.entered.fetch_add(1, Ordering::SeqCst);
    room.leave.acquire().await.unwrap().forget();
    "done"
}

pub(crate) async fn within<T>(task: impl Future<Output = T>) -> T {
    timeout(BOUND, task).await.expect("it took too long")
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(BOUND, poll).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub(crate) async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    send(stream, path).await;
    reply(stream).await
}

pub(crate) async fn send(stream: &mut (impl AsyncWrite + Unpin), path: &str) {
    within(stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes())).await.unwrap();
}

/// Reads one reply with a content length and returns its body.
pub(crate) async fn reply(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("http/1.1 200"), "{head}");
            let length = head.split_once("content-length: ").unwrap().1;
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            if body.len() == length {
                return body.to_owned();
            }
        }
        let read = within(stream.read_buf(&mut bytes)).await.unwrap();
        assert_ne!(read, 0, "closed before the reply: {text}");
    }
}

/// Everything until the other side closes; a reset is an end too.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A certificate for localhost in files, which can be replaced.
pub(crate) struct Certificate {
    folder: tempfile::TempDir,
}

impl Certificate {
    pub(crate) fn new() -> (Self, CertificateDer<'static>) {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        let first = files.renew();
        (files, first)
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    pub(crate) fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.cert(), made.cert.pem()).unwrap();
        std::fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    pub(crate) fn load(&self) -> Tls {
        Tls::load(&self.cert(), &self.key()).unwrap()
    }
}

pub(crate) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

pub(crate) async fn connect_tls(
    listener: &Listener,
    trusted: &[&CertificateDer<'static>],
) -> std::io::Result<TlsStream> {
    let mut roots = rustls::RootCertStore::empty();
    for root in trusted {
        roots.add((*root).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    within(connector.connect(ServerName::try_from("localhost").unwrap(), listener.connect().await)).await
}

pub(crate) fn shown(stream: &TlsStream) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}
