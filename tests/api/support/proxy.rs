//! A way to the database that can be cut, frozen, or broken at the moment of a COMMIT.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use super::TestDb;

/// What becomes of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// It passes.
    Open,
    /// Connections are closed, new ones are refused.
    Cut,
    /// Nothing passes, and nobody is told.
    Frozen,
    /// What the node sends goes nowhere, on every connection of now, for ever: nobody tells it.
    HalfOpen,
    /// Everything takes a while.
    Slow,
    /// What the follower read of the feed comes late.
    LateReads,
    /// A COMMIT of the pools is not passed on; its connection is closed.
    LoseCommits,
    /// A COMMIT of the pools is passed on and done; its connection is closed before the answer is.
    LoseAnswers,
    /// A COMMIT of the pools is passed on and done; the answer is replaced by the last words of a dying backend.
    DieAfterCommit,
}

/// How long each step takes on a slow road.
const SLOW: Duration = Duration::from_millis(15);
/// By how much what was read is late.
const LATE: Duration = Duration::from_millis(800);

/// A proxy between one node and its database.
pub struct Proxy {
    port: u16,
    road: watch::Sender<Road>,
    broken: Arc<AtomicUsize>,
}

impl Proxy {
    #[expect(clippy::disallowed_methods, reason = "it carries until its test ends")]
    pub async fn start(db: &TestDb) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let road = watch::Sender::new(Road::Open);
        let broken = Arc::new(AtomicUsize::new(0));
        let socket = db.options.get_socket().expect("a Unix socket");
        let socket = socket.join(format!(".s.PGSQL.{}", db.options.get_port()));
        let (watched, count) = (road.subscribe(), Arc::clone(&broken));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = UnixStream::connect(&socket).await {
                    tokio::spawn(carry(client, server, watched.clone(), Arc::clone(&count)));
                }
            }
        });
        Self { port, road, broken }
    }

    /// The database as it is reached through this proxy.
    pub fn options(&self, db: &TestDb) -> PgConnectOptions {
        let mut url = db.options.to_url_lossy();
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(Some(self.port)).expect("a port");
        PgConnectOptions::from_str(url.as_str()).expect("options")
    }

    pub fn set(&self, road: Road) {
        self.road.send_replace(road);
    }

    /// How many COMMITs were broken so far.
    pub fn broken(&self) -> usize {
        self.broken.load(Ordering::SeqCst)
    }
}

/// Carries one connection. What the client sends is cut into messages, so that a COMMIT is seen before it is passed on.
async fn carry(
    mut client: TcpStream,
    mut server: UnixStream,
    mut road: watch::Receiver<Road>,
    broken: Arc<AtomicUsize>,
) {
    let (mut sent, mut answered) = (Vec::new(), [0_u8; 16 * 1024]);
    let (mut started, mut follower, mut lost, mut late) = (false, false, false, false);
    let mut statements = 0;
    loop {
        let now = *road.borrow_and_update();
        if now == Road::Cut {
            return;
        }
        lost |= now == Road::HalfOpen;
        tokio::select! {
            changed = road.changed() => if changed.is_err() { return },
            got = client.read_buf(&mut sent), if now != Road::Frozen => {
                if matches!(got, Ok(0) | Err(_)) {
                    return;
                }
                if lost {
                    sent.clear();
                    continue;
                }
                if now == Road::Slow {
                    tokio::time::sleep(SLOW).await;
                }
                while let Some(length) = message(&sent, started) {
                    let whole: Vec<u8> = sent.drain(..length).collect();
                    if !started {
                        started = true;
                        follower = contains(&whole, b"mcp-authority feed");
                    }
                    let breaks = matches!(now, Road::LoseCommits | Road::LoseAnswers | Road::DieAfterCommit);
                    if breaks && !follower && whole.starts_with(b"Q") && contains(&whole, b"COMMIT") {
                        broken.fetch_add(1, Ordering::SeqCst);
                        end(&mut client, &mut server, &whole, now).await;
                        return;
                    }
                    late = reads_the_feed(&whole, &mut statements) && now == Road::LateReads && follower;
                    if server.write_all(&whole).await.is_err() {
                        return;
                    }
                }
            }
            got = server.read(&mut answered), if now != Road::Frozen => {
                let Ok(length @ 1..) = got else {
                    // On a half-open connection the server's farewell is lost too.
                    while lost && !matches!(client.read(&mut answered).await, Ok(0) | Err(_)) {}
                    return;
                };
                if std::mem::take(&mut late) {
                    tokio::time::sleep(LATE).await;
                }
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The length of the first whole message; the very first of a connection has no type.
fn message(bytes: &[u8], started: bool) -> Option<usize> {
    let (prefix, header) = if started { (1, bytes.get(1..5)?) } else { (0, bytes.get(..4)?) };
    let length = prefix + u32::from_be_bytes(header.try_into().ok()?) as usize;
    (bytes.len() >= length).then_some(length)
}

/// Whether this message ends the second statement since a BEGIN or COMMIT, which in a round of the follower reads the feed.
fn reads_the_feed(message: &[u8], statements: &mut u32) -> bool {
    match message.first() {
        Some(b'Q') => *statements = 0,
        Some(b'S') => *statements += 1,
        _ => return false,
    }
    *statements == 2
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

async fn end(client: &mut TcpStream, server: &mut UnixStream, commit: &[u8], road: Road) {
    if road == Road::LoseCommits {
        return;
    }
    let mut answer = [0_u8; 1024];
    let _ = server.write_all(commit).await;
    let _ = server.read(&mut answer).await;
    if road == Road::DieAfterCommit {
        let fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0";
        let length = u32::try_from(fields.len() + 4).expect("short").to_be_bytes();
        let _ = client.write_all(&[b"E".as_slice(), &length, fields].concat()).await;
        let _ = client.shutdown().await;
    }
}
