//! An HTTPS server with a certificate of a test's own authority, a listener that counts, names that are made up.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use mcp_authority::config::OutboundSettings;
use mcp_authority::http::listen::{Limits as Listening, serve};
use mcp_authority::http::tls::Tls;
use mcp_authority::outbound::{Limits, Outbound};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use url::Url;

/// Nothing here takes this long unless it hangs.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
/// The name under which the server is certified, which resolves to this machine in tests that say so.
pub(crate) const HOST: &str = "client.example";

/// The service's limits without its times: no test depends on how fast the machine is.
pub(crate) fn patient() -> Limits {
    let hour = Duration::from_hours(1);
    Limits { connect: hour, total: hour, wait: hour, ..Limits::default() }
}

pub(crate) async fn within<T>(task: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, task).await.expect("it took too long")
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(BOUND, poll).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// One reply of the server.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// The body comes a byte at a time, for ever.
    pub(crate) drips: bool,
}

impl Reply {
    pub(crate) fn json(body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status: 200, headers, body: body.into(), drips: false }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::json("canary") }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    fn response(&self, length: bool) -> Response {
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(*name, value);
        }
        let pieces = futures_util::stream::iter(self.body.chunks(97).map(Bytes::copy_from_slice).collect::<Vec<_>>());
        let body = if self.drips {
            let drip = futures_util::stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
            });
            Body::from_stream(drip)
        } else if length {
            Body::from(self.body.clone())
        } else {
            // Without a length, so that only counting finds out.
            Body::from_stream(futures_util::StreamExt::map(pieces, Ok::<_, Infallible>))
        };
        response.body(body).unwrap()
    }
}

/// What the routes and the test share.
pub(crate) struct Room {
    pub(crate) reply: Mutex<Reply>,
    /// Requests that came, those of other paths too.
    pub(crate) asked: AtomicUsize,
    /// The heads of the requests.
    pub(crate) heads: Mutex<Vec<http::HeaderMap>>,
    /// `/wait` answers when there is a permit.
    pub(crate) leave: Semaphore,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) room: Arc<Room>,
    files: TempDir,
    _stop: DropGuard,
}

impl Server {
    /// A server on this machine for [`HOST`] and the loopback addresses.
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await.unwrap()
    }

    pub(crate) async fn start_at(address: &str) -> std::io::Result<Self> {
        let files = tempfile::tempdir().unwrap();
        certify(&files);
        let tls = Tls::load(&files.path().join("cert.pem"), &files.path().join("key.pem")).unwrap();
        let listener = tokio::net::TcpListener::bind(address).await?;
        let address = listener.local_addr().unwrap();
        let room = Arc::new(Room {
            reply: Mutex::new(Reply::json("{}")),
            asked: AtomicUsize::new(0),
            heads: Mutex::default(),
            leave: Semaphore::new(0),
        });
        let router = Router::new().route("/{*path}", get(answer)).with_state(Arc::clone(&room));
        let stop = CancellationToken::new();
        let limits = Listening { grace: Duration::from_millis(10), ..Listening::default() };
        TaskTracker::new().spawn(serve(listener, Some(tls), router, stop.clone(), limits));
        Ok(Self { address, room, files, _stop: stop.drop_guard() })
    }

    pub(crate) fn replies(&self, reply: Reply) {
        *self.room.reply.lock().unwrap() = reply;
    }

    pub(crate) fn asked(&self) -> usize {
        self.room.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        format!("https://{HOST}:{}{path}", self.address.port()).parse().unwrap()
    }

    /// Settings of a developer: this machine may be asked, and the test's own authority is trusted.
    pub(crate) fn settings(&self) -> OutboundSettings {
        OutboundSettings { loopback: true, ca: Some(self.ca()) }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    pub(crate) fn outbound(&self, limits: Limits) -> Outbound {
        Outbound::with_names(&self.settings(), limits, Names::always(&["127.0.0.1"])).unwrap()
    }
}

async fn answer(State(room): State<Arc<Room>>, Path(path): Path<String>, headers: http::HeaderMap) -> Response {
    room.asked.fetch_add(1, Ordering::SeqCst);
    room.heads.lock().unwrap().push(headers);
    if path.starts_with("wait") {
        room.leave.acquire().await.unwrap().forget();
    }
    let reply = room.reply.lock().unwrap().clone();
    reply.response(path.ends_with("length"))
}

fn certify(files: &TempDir) {
    let write = |name: &str, text: String| std::fs::write(files.path().join(name), text).unwrap();
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", ca.self_signed(&ca_key).unwrap().pem());
    let key = KeyPair::generate().unwrap();
    let names = [HOST, "localhost", "127.0.0.1", "127.0.0.2", "::1"].map(str::to_owned).to_vec();
    let cert = CertificateParams::new(names).unwrap().signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    write("cert.pem", cert.pem());
    write("key.pem", key.serialize_pem());
}

/// Names that resolve to one answer after the other; the last one stays.
pub(crate) struct Names {
    answers: Vec<Vec<IpAddr>>,
    pub(crate) asked: AtomicUsize,
}

impl Names {
    pub(crate) fn always(addresses: &[&str]) -> Arc<Self> {
        Self::then(&[addresses])
    }

    pub(crate) fn then(answers: &[&[&str]]) -> Arc<Self> {
        let answers = answers.iter().map(|one| one.iter().map(|text| text.parse().unwrap()).collect()).collect();
        Arc::new(Self { answers, asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Names {
    fn resolve(&self, _: Name) -> Resolving {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers[asked.min(self.answers.len() - 1)].clone();
        Box::pin(async move { Ok(Box::new(answer.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs) })
    }
}

/// Names that nobody ever answers for.
pub(crate) struct Silence;

impl Resolve for Silence {
    fn resolve(&self, _: Name) -> Resolving {
        Box::pin(std::future::pending())
    }
}

/// Takes connections on every address of this machine and counts them.
pub(crate) struct Trap(TcpListener);

impl Trap {
    pub(crate) fn set() -> Self {
        let listener = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Connections since the last look. One that was made is here already: the system made it, not we.
    pub(crate) fn caught(&self) -> usize {
        let mut caught = 0;
        loop {
            match self.0.accept() {
                Ok(_) => caught += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return caught,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
