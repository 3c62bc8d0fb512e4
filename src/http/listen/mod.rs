//! The frame of every door: accepts connections, bounds what each may take, and lets them finish when the service stops.
//!
//! HTTP/1.1 and HTTP/2 on one address, with or without TLS. Once accepted, nobody is waited for without a limit:
//! not for the TLS handshake, a request's head, its body, the reading of a reply, or the next request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures_util::FutureExt;
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::http::tls::Tls;

mod bell;
mod connection;
mod patrol;
mod timed_body;

pub use timed_body::TimedBody;

/// Connections open at once. Beyond it none is accepted: they queue in the kernel's bounded backlog.
const CONNECTIONS_MAX: usize = 8_192;
/// The TLS handshake is done within this, or the connection is cut.
const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// A request's head may take this long (see [`Limits::header_read`]).
const HEADER_READ: Duration = Duration::from_secs(10);
/// A request's body may take this long; our bodies are small.
const BODY_READ: Duration = Duration::from_secs(30);
/// A connection without requests is closed after this. Longer than the usual 60 s of proxies, so that they close
/// first and never send a request into a closing connection.
const IDLE: Duration = Duration::from_secs(75);
/// A reply may stand still this long. Longer than any handler runs, and streams say something every second.
const STALLED: Duration = Duration::from_mins(5);
/// Bytes of a request's head, and of what is read ahead from one connection.
const HEADER_BYTES_MAX: u32 = 32 * 1024;
/// Header lines of an HTTP/1.1 request.
const HEADERS_MAX: usize = 100;
/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 128;
/// What runs when the service is told to stop may take this long.
const GRACE: Duration = Duration::from_secs(30);

/// The first pause after the system refused to give us a connection, for want of files or memory.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
/// The longest such pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// How long a task that was cut may take to notice. Only one that never yields needs longer, and it is left behind.
const CUT_NOTICED: Duration = Duration::from_secs(1);

/// What one listener and each of its connections may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once; more are not accepted until one ends.
    pub connections_max: usize,
    /// Longest TLS handshake.
    pub tls_handshake: Duration,
    /// Longest wait for the head of a connection's first request. A later head on HTTP/1.1 is cut when it has
    /// been on its way for between once and twice this long; on HTTP/2, `idle` bounds it.
    pub header_read: Duration,
    /// Longest wait for a whole request body, counted from the first wait for it.
    pub body_read: Duration,
    /// A connection without a request is closed after this long, at most one `header_read` later.
    pub idle: Duration,
    /// A connection is cut when nothing of its replies has moved for this long (at most one `header_read` longer)
    /// and no request has come: its reader is gone or does not read. No handler may be silent for longer.
    pub stalled: Duration,
    /// Largest head of a request in bytes; at least 8,192 on HTTP/1.1.
    pub header_bytes_max: u32,
    /// Most header lines of an HTTP/1.1 request.
    pub headers_max: usize,
    /// Most requests at once on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// How long requests may go on after the shutdown was asked for.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            tls_handshake: TLS_HANDSHAKE,
            header_read: HEADER_READ,
            body_read: BODY_READ,
            idle: IDLE,
            stalled: STALLED,
            header_bytes_max: HEADER_BYTES_MAX,
            headers_max: HEADERS_MAX,
            http2_streams_max: HTTP2_STREAMS_MAX,
            grace: GRACE,
        }
    }
}

impl Limits {
    /// The defaults with this time for running requests after the shutdown was asked for.
    #[must_use]
    pub fn with_grace(grace: Duration) -> Self {
        Self { grace, ..Self::default() }
    }
}

/// How a listener came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were cut because their requests outlived the grace.
    pub cut: usize,
}

/// What answers requests: an `axum::Router`, or anything that stands before one.
pub trait Answers: Clone + Send + Sync + 'static {
    /// Answers a request that came from `peer`.
    fn answer(&self, peer: SocketAddr, request: Request<TimedBody>) -> impl Future<Output = Response<Body>> + Send;
}

/// Requests carry the other end of their connection as `axum::extract::ConnectInfo<SocketAddr>`.
impl Answers for Router {
    fn answer(&self, peer: SocketAddr, request: Request<TimedBody>) -> impl Future<Output = Response<Body>> + Send {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        // The router is always ready.
        self.clone().call(request).map(|answered| match answered {
            Ok(response) => response,
            Err(never) => match never {},
        })
    }
}

/// Serves until `shutdown` is cancelled; then accepts no more, lets requests finish for at most `limits.grace`,
/// and cuts what is left. Returns when all of it is over. Dropping the future cuts everything at once.
///
/// With `tls`, each new connection sees the certificate that is current when it is accepted.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    service: impl Answers,
    shutdown: CancellationToken,
    limits: Limits,
) -> Stopped {
    let streams = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = open.join_next() => continue,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some(Accepted { stream, peer, slot }) = accepted else { break };
        let connection = connection::Connection {
            peer,
            service: service.clone(),
            limits,
            // A child of its own: connections that share one token would contend for its lock at every request.
            stop: shutdown.child_token(),
            streams: streams.clone(),
        };
        let certificate = tls.as_ref().map(Tls::current);
        open.spawn(async move {
            connection.run(stream, certificate).await;
            drop(slot);
        });
    }
    drop(listener);
    drain(open, streams, limits.grace).await
}

struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    slot: OwnedSemaphorePermit,
}

/// The next connection, once there is a slot for it. `None` would mean that the slots are closed; they never are.
/// Dropping the future loses nothing: a connection leaves the backlog only together with the return.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<Accepted> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    let mut pause = Duration::ZERO;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Some(Accepted { stream, peer, slot }),
            Err(error) => {
                pause = back_off(&error, pause);
                if !pause.is_zero() {
                    tracing::error!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// How long to wait after a failed accept: not at all when only that one connection failed, else longer each time.
fn back_off(error: &io::Error, last: Duration) -> Duration {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
        return Duration::ZERO;
    }
    last.saturating_mul(2).clamp(BACK_OFF_MIN, BACK_OFF_MAX)
}

async fn drain(mut open: JoinSet<()>, streams: TaskTracker, grace: Duration) -> Stopped {
    let all_ended = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(grace, all_ended).await;
    open.abort_all();
    let mut cut = 0;
    let notice = async {
        while let Some(ended) = open.join_next().await {
            cut += usize::from(ended.is_err_and(|error| error.is_cancelled()));
        }
        streams.close();
        streams.wait().await;
    };
    let unnoticed = tokio::time::timeout(CUT_NOTICED, notice).await.is_err();
    // Tasks that did not notice in time are still in the set; they were cut too.
    let cut = cut + open.len();
    if cut > 0 || unnoticed {
        tracing::warn!(cut, "connections were cut because their requests outlived the shutdown");
    }
    Stopped { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_files_backs_off_longer_each_time_and_within_bounds() {
        let no_files = io::Error::from_raw_os_error(24);
        let mut pause = Duration::ZERO;
        let pauses = std::iter::repeat_with(|| {
            pause = back_off(&no_files, pause);
            pause.as_millis()
        });
        assert_eq!(pauses.take(9).collect::<Vec<_>>(), [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    }

    #[test]
    fn a_connection_that_failed_by_itself_delays_no_other() {
        for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::Interrupted] {
            assert_eq!(back_off(&io::Error::from(kind), BACK_OFF_MAX), Duration::ZERO);
        }
    }
}
