//! One connection: handshake, protocol, requests, end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, interval_at, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bell::Belled;
use super::patrol::{Flight, Order, Patrol, Pulse, Tracked, Watched};
use super::timed_body::TimedBody;
use super::{Answers, Limits};

/// The HTTP library takes no smaller buffer.
const HTTP1_BUFFER_MIN: usize = 8_192;
/// The HTTP library has room for so many header lines at hand; for any other number it makes room anew for each request.
const HTTP1_HEADERS_AT_HAND: usize = 100;
/// What a caller may send ahead on one HTTP/2 request; with the streams' limit, this bounds a connection's memory.
const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;
/// What a caller may send ahead on one HTTP/2 connection.
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of replies that wait for a slow HTTP/2 reader.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;
/// A silent HTTP/2 peer is asked this often whether it still lives.
const HTTP2_PING_EVERY: Duration = Duration::from_secs(20);
/// A peer that does not answer that within this is gone.
const HTTP2_PONG_WITHIN: Duration = Duration::from_secs(10);
/// When the service stops, a connection on which nothing ever arrived has this long to say something: the first
/// request may be on its way.
const UNTOUCHED_GRACE: Duration = Duration::from_millis(500);

/// One accepted connection and what it may take.
pub(super) struct Connection<S> {
    pub(super) peer: SocketAddr,
    pub(super) service: S,
    pub(super) limits: Limits,
    pub(super) stop: CancellationToken,
    /// Holds the tasks of HTTP/2 requests.
    pub(super) streams: TaskTracker,
}

impl<S: Answers> Connection<S> {
    /// Serves the connection until it ends, is told to stop, or exceeds a limit.
    pub(super) async fn run(self, stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
        // Replies are written whole: waiting for more to send would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(peer = %self.peer, %error, "connection was gone before it began");
            return;
        }
        let Some(tls) = tls else { return self.speak(stream).await };
        let handshake = timeout(self.limits.tls_handshake, TlsAcceptor::from(tls).accept(stream));
        let stop = self.stop.clone();
        match stop.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => self.speak(stream).await,
            Some(Ok(Err(error))) => tracing::debug!(peer = %self.peer, %error, "TLS handshake failed"),
            Some(Err(_)) => tracing::debug!(peer = %self.peer, "TLS handshake took too long"),
            None => {}
        }
    }

    async fn speak<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, io: Io) {
        let Self { peer, service, limits, stop, streams } = self;
        let pulse = Arc::new(Pulse::default());
        // However this connection ends, its HTTP/2 requests end with it.
        let cut = CancellationToken::new();
        let _cut = cut.clone().drop_guard();
        let io = TokioIo::new(Watched { io, pulse: Arc::clone(&pulse) });
        let protocol = protocol(Streams { tracker: streams, cut }, limits);
        let counted = Arc::clone(&pulse);
        // Requests share what belongs to their connection: what all connections share is counted by all cores at once.
        let service = Arc::new(service);
        let requests = service_fn(move |request: Request<Incoming>| {
            let flight = Flight::begin(&counted, request.version());
            let request = request.map(|body| TimedBody::new(body, limits.body_read));
            let service = Arc::clone(&service);
            async move {
                let response = service.answer(peer, request).await;
                Ok::<_, std::convert::Infallible>(response.map(|body| Tracked::new(body, flight)))
            }
        });
        let talk = std::pin::pin!(protocol.serve_connection(io, requests));
        let mut talk = Belled::new(talk);

        let round = limits.header_read.max(Duration::from_millis(1));
        let mut patrol = Patrol::new(round, limits.idle, limits.stalled);
        let mut rounds = interval_at(Instant::now() + round, round);
        let mut stopping = false;
        loop {
            let call = {
                let call = std::pin::pin!(called(&stop, stopping, &mut rounds));
                tokio::select! {
                    biased;
                    ended = &mut talk => {
                        if let Err(error) = ended {
                            tracing::debug!(%peer, %error, "connection ended");
                        }
                        return;
                    }
                    call = Belled::new(call) => call,
                }
            };
            let seen = pulse.seen();
            let order = match call {
                Call::Stop => {
                    stopping = true;
                    rounds.reset_after(UNTOUCHED_GRACE);
                    Order::Close
                }
                Call::Round if stopping && seen.untouched() => Order::Cut,
                Call::Round => patrol.look(seen),
            };
            match order {
                Order::Stay => {}
                Order::Close => talk.get_mut().as_mut().graceful_shutdown(),
                Order::Cut => {
                    tracing::debug!(%peer, "connection cut: waited for in vain");
                    return;
                }
            }
        }
    }
}

/// What a connection is looked at for beside its talk.
enum Call {
    Stop,
    Round,
}

async fn called(stop: &CancellationToken, stopping: bool, rounds: &mut Interval) -> Call {
    tokio::select! {
        biased;
        () = stop.cancelled(), if !stopping => Call::Stop,
        _ = rounds.tick() => Call::Round,
    }
}

fn protocol(streams: Streams, limits: Limits) -> auto::Builder<Streams> {
    let mut protocol = auto::Builder::new(streams);
    let head_bytes = usize::try_from(limits.header_bytes_max).unwrap_or(usize::MAX);
    protocol
        .http1()
        // The patrol does this, for the reasons it gives.
        .header_read_timeout(None)
        // A caller that goes away is noticed when it is written to. To look for that sooner, the library would read on, and
        // make a buffer for it, while each answer is made.
        .half_close(true)
        // Replies are small: joining head and body costs less than telling the kernel of two pieces.
        .writev(false)
        .max_buf_size(head_bytes.max(HTTP1_BUFFER_MIN));
    if limits.headers_max != HTTP1_HEADERS_AT_HAND {
        protocol.http1().max_headers(limits.headers_max);
    }
    protocol
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        .max_header_list_size(limits.header_bytes_max)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .keep_alive_interval(HTTP2_PING_EVERY)
        .keep_alive_timeout(HTTP2_PONG_WITHIN);
    protocol
}

/// Runs the requests of one HTTP/2 connection, as tasks that the shutdown waits for and that die with it.
#[derive(Clone)]
struct Streams {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move { cut.run_until_cancelled(task).await });
    }
}
