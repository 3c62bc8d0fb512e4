//! Tells a connection that is waited for in vain from one that is at work or merely resting.
//!
//! The HTTP library's own time-out for heads also runs while a connection rests between two requests, does not run
//! before the protocol is known, and does not exist for HTTP/2. So one look a round at a few counters replaces it;
//! a request costs no timer and no look at a clock.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What happens on one connection, as counters. They order nothing else, so relaxed access is enough.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Requests begun, pieces of replies taken, requests ended.
    moves: AtomicU64,
    in_flight: AtomicUsize,
    /// Bytes came while no request was in flight: on HTTP/1.1, the next head has begun.
    begun: AtomicBool,
    http2: AtomicBool,
}

/// The counters at one look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    moves: u64,
    in_flight: usize,
    begun: bool,
    http2: bool,
}

impl Pulse {
    pub(super) fn seen(&self) -> Seen {
        Seen {
            moves: self.moves.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            begun: self.begun.load(Ordering::Relaxed),
            http2: self.http2.load(Ordering::Relaxed),
        }
    }
}

impl Seen {
    /// Nothing has ever arrived.
    pub(super) fn untouched(self) -> bool {
        self.moves == 0 && !self.begun
    }
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Leave it alone.
    Stay,
    /// It has rested too long: close it the polite way.
    Close,
    /// A head does not come to its end, a reply is not read, or the polite way led nowhere: drop it.
    Cut,
}

/// Looks at one connection, once a round. A round is as long as a head may take.
#[derive(Debug)]
pub(super) struct Patrol {
    last: Seen,
    quiet_rounds: u64,
    idle_rounds_max: u64,
    stalled_rounds_max: u64,
}

impl Patrol {
    pub(super) fn new(round: Duration, idle: Duration, stalled: Duration) -> Self {
        let rounds = |limit: Duration| {
            let rounds = limit.as_nanos().div_ceil(round.as_nanos().max(1)).max(1);
            u64::try_from(rounds).unwrap_or(u64::MAX)
        };
        Self {
            last: Seen::default(),
            quiet_rounds: 0,
            idle_rounds_max: rounds(idle),
            stalled_rounds_max: rounds(stalled),
        }
    }

    /// The order for a connection that looks like this one round after the last look, or after it was opened.
    pub(super) fn look(&mut self, now: Seen) -> Order {
        let last = std::mem::replace(&mut self.last, now);
        if now.moves != last.moves {
            self.quiet_rounds = 0;
            return Order::Stay;
        }
        self.quiet_rounds = self.quiet_rounds.saturating_add(1);
        if now.in_flight > 0 {
            return if self.quiet_rounds < self.stalled_rounds_max { Order::Stay } else { Order::Cut };
        }
        // Between requests HTTP/2 has pings and settings, which are no head; there only the rest is bounded.
        let head_hangs = now.moves == 0 || (now.begun && last.begun && !now.http2);
        if head_hangs || self.quiet_rounds > self.idle_rounds_max {
            Order::Cut
        } else if self.quiet_rounds == self.idle_rounds_max {
            Order::Close
        } else {
            Order::Stay
        }
    }
}

/// One request in flight, from its head's arrival to the end of its reply's body; dropping it ends the flight.
#[derive(Debug)]
pub(super) struct Flight(Arc<Pulse>);

impl Flight {
    pub(super) fn begin(pulse: &Arc<Pulse>, version: http::Version) -> Self {
        pulse.in_flight.fetch_add(1, Ordering::Relaxed);
        pulse.moves.fetch_add(1, Ordering::Relaxed);
        pulse.begun.store(false, Ordering::Relaxed);
        if version == http::Version::HTTP_2 {
            pulse.http2.store(true, Ordering::Relaxed);
        }
        Self(Arc::clone(pulse))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.moves.fetch_add(1, Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A reply's body that keeps its request in flight until it has been sent.
pub(super) struct Tracked {
    body: Body,
    flight: Flight,
}

impl Tracked {
    pub(super) fn new(body: Body, flight: Flight) -> Self {
        Self { body, flight }
    }
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            self.flight.0.moves.fetch_add(1, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection's bytes; notes when some arrive that belong to no request in flight.
pub(super) struct Watched<Io> {
    pub(super) io: Io,
    pub(super) pulse: Arc<Pulse>,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before && self.pulse.in_flight.load(Ordering::Relaxed) == 0 {
            self.pulse.begun.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of one time unit, closed after three quiet ones, cut after nine in which a reply stands still.
    fn orders(looks: &[Seen]) -> Vec<Order> {
        let mut patrol = Patrol::new(Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9));
        looks.iter().map(|seen| patrol.look(*seen)).collect()
    }

    const SILENT: Seen = Seen { moves: 0, in_flight: 0, begun: false, http2: false };
    const SERVED: Seen = Seen { moves: 1, ..SILENT };
    const BUSY: Seen = Seen { in_flight: 1, ..SERVED };
    const HEAD: Seen = Seen { begun: true, ..SERVED };
    const PINGED: Seen = Seen { http2: true, ..HEAD };

    #[test]
    fn a_connection_without_a_first_request_is_cut_after_one_round() {
        assert_eq!(orders(&[SILENT]), [Order::Cut]);
        assert_eq!(orders(&[Seen { begun: true, ..SILENT }]), [Order::Cut]);
    }

    #[test]
    fn a_reply_that_moves_is_never_disturbed_and_one_that_stands_still_is_cut() {
        let moving: Vec<_> = (1..50).map(|moves| Seen { moves, ..BUSY }).collect();
        assert_eq!(orders(&moving), [Order::Stay; 49]);
        let standing = orders(&[BUSY; 10]);
        assert_eq!(standing.iter().position(|order| *order == Order::Cut), Some(9));
    }

    #[test]
    fn a_resting_connection_is_closed_in_the_end_and_cut_if_it_will_not_close() {
        assert_eq!(
            orders(&[SERVED, SERVED, SERVED, SERVED, SERVED]),
            [Order::Stay, Order::Stay, Order::Stay, Order::Close, Order::Cut]
        );
    }

    #[test]
    fn a_request_between_two_looks_starts_the_count_again() {
        let second = Seen { moves: 2, ..SERVED };
        assert_eq!(orders(&[SERVED, SERVED, SERVED, second, second]), [Order::Stay; 5]);
    }

    #[test]
    fn a_later_head_that_hangs_is_cut_within_two_rounds() {
        assert_eq!(orders(&[SERVED, HEAD, HEAD]), [Order::Stay, Order::Stay, Order::Cut]);
        let next = Seen { moves: 2, ..HEAD };
        assert_eq!(orders(&[HEAD, next, next]), [Order::Stay, Order::Stay, Order::Cut]);
    }

    #[test]
    fn pings_of_http2_are_no_head_and_do_not_keep_a_connection_open() {
        assert_eq!(
            orders(&[PINGED, PINGED, PINGED, PINGED, PINGED]),
            [Order::Stay, Order::Stay, Order::Stay, Order::Close, Order::Cut]
        );
    }

    #[test]
    fn a_flight_ends_when_it_is_dropped() {
        let pulse = Arc::new(Pulse::default());
        let flight = Flight::begin(&pulse, http::Version::HTTP_2);
        assert_eq!(pulse.seen(), Seen { moves: 1, in_flight: 1, begun: false, http2: true });
        drop(flight);
        assert_eq!(pulse.seen(), Seen { moves: 2, in_flight: 0, begun: false, http2: true });
    }
}
