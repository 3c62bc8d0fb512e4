//! `GET /v1/revocations/stream`: tells a server that holds connections which of them must end. Server-sent events.
//!
//! Its word is `alive`: "you have been told everything that this node may answer from". So it is said only after the
//! lease was read and the queue found empty, and only while that lease runs; a node that lost it is silent.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior};

use crate::app::{App, AppState};
use crate::feed::{Full, Notice, Over, SUBSCRIBERS_OF_SERVER_MAX, Subscription, Told};
use crate::gate::{Position, Server};
use crate::http::oauth::calling_server;
use crate::http::problem::{Problem, Refusals};
use crate::refusal::{Code, Refused};

/// How often a node says that it is current. A server that hears nothing for twice as long takes it for gone.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// A stream on which nothing can be said for this many times `ALIVE_EVERY` ends: its server is better off at another node.
const SILENT_MAX: u32 = 5;
/// How long a node waits to reach the place from which a server comes back.
const CATCH_UP_MAX: Duration = Duration::from_millis(500);
/// When a server that has too many streams may try again.
const RETRY_SECONDS: u64 = 5;

/// The id of the last event that was read (WHATWG HTML, 9.2).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells nginx to pass on each event at once.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// The data of `open`.
#[derive(Serialize)]
struct Opened {
    stream_id: String,
}

/// The data of events that say all by their name.
#[derive(Serialize)]
struct Nothing {}

/// Tells a server, as long as the connection holds, what of its credentials dies or may do less.
///
/// Events: `open` (`{"stream_id"}`) first; `revoked` and `changed`, whose data is a `RevocationEvent`: close what it is
/// about, or ask again about it; `alive` each second, after everything that the node may answer from; `reset`: what came
/// before is not known, ask again about everything; `resume`: the stream was read too slowly and ends, come back with
/// this event's id. Each carries an id, `<history>.<number>`, to come back with in `Last-Event-ID`, to any node. A server
/// that hears nothing for two seconds ends what it holds.
#[utoipa::path(get, path = "/v1/revocations/stream", operation_id = "stream_revocations", tag = "revocations",
    security(("client" = [])),
    params(("Last-Event-ID" = Option<String>, Header, description = "Where to go on: the id of the last event that was read.")),
    responses((status = 200, description = "The events; it does not end by itself.", body = Notice, content_type = "text/event-stream"),
              Refusals))]
pub async fn get(State(app): AppState, request: Request) -> Result<Response, Problem> {
    let (server, version) = calling_server(&app, request.headers(), request.extensions())?;
    let mut subscription = app.feed.subscribe(server.id).map_err(full)?;
    let reset = begin(&app, &mut subscription, last_event_id(request.headers())).await?;
    let mut ticks = tokio::time::interval(ALIVE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let opened = Opened { stream_id: format!("str_{}", uuid::Uuid::new_v4().simple()) };
    let first = event("open", subscription.at(), &opened);
    let reset = reset.then(|| event("reset", subscription.at(), &Nothing {}));
    let told = Stream { app, server, version, subscription, ticks, due: false, silent: 0, over: false };
    let begun = stream::iter([first].into_iter().chain(reset));
    let events = stream::StreamExt::chain(begun, stream::unfold(told, Stream::step));
    let events = Sse::new(stream::StreamExt::map(events, Ok::<_, Infallible>));
    Ok(([UNBUFFERED, (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], events).into_response())
}

fn full(full: Full) -> Problem {
    match full {
        Full::Node | Full::Ending => {
            Refused::new(Code::TemporarilyUnavailable, "This node takes no more streams now.").into()
        }
        Full::Server => {
            let detail = format!("Your server has {SUBSCRIBERS_OF_SERVER_MAX} streams open on this node.");
            Problem { retry_after: Some(RETRY_SECONDS), ..Refused::new(Code::TooManyStreams, detail).into() }
        }
    }
}

/// The place that the caller names; `Err` when it names none of ours.
fn last_event_id(headers: &HeaderMap) -> Option<Result<Position, ()>> {
    let named = headers.get(LAST_EVENT_ID)?;
    Some(named.to_str().ok().and_then(|named| named.parse().ok()).ok_or(()))
}

/// Where the stream begins, and what was missed since the place that the caller names. True: that is not known any more.
async fn begin(
    app: &App,
    subscription: &mut Subscription,
    last: Option<Result<Position, ()>>,
) -> Result<bool, Problem> {
    // The seat was taken before: what is applied from here on is in the queue.
    let here = || app.live.answer(|view| view.position);
    let now = here()?;
    let after = match last {
        None => None,
        Some(Err(())) => return Ok(begin_anew(subscription, now)),
        Some(Ok(at)) if at.history != now.history => return Ok(begin_anew(subscription, now)),
        Some(Ok(at)) => Some(at),
    };
    let Some(at) = after else {
        subscription.begin(now, now, &[]);
        return Ok(false);
    };
    // Another node may have told it more than this one knows yet.
    app.feed.reaches(at, CATCH_UP_MAX).await;
    let now = here()?;
    if !now.covers(at) {
        return Ok(begin_anew(subscription, now));
    }
    let missed = if at == now { Some(Vec::new()) } else { app.feed.missed(at, now).await? };
    match missed {
        Some(missed) => subscription.begin(at, now, &missed),
        None => return Ok(begin_anew(subscription, now)),
    }
    Ok(false)
}

fn begin_anew(subscription: &mut Subscription, now: Position) -> bool {
    subscription.begin(now, now, &[]);
    true
}

/// One open stream. It is asked for the next event whenever its reader can take one, and holds nothing back.
struct Stream {
    app: Arc<App>,
    server: Arc<Server>,
    // The version of the server's secret that opened it.
    version: i32,
    subscription: Subscription,
    ticks: Interval,
    // It is time to say `alive`.
    due: bool,
    silent: u32,
    over: bool,
}

impl Stream {
    async fn step(mut self) -> Option<(Event, Self)> {
        let event = self.next().await?;
        Some((event, self))
    }

    /// The next event, once there is one. `None`: the stream ends.
    async fn next(&mut self) -> Option<Event> {
        while !self.over {
            if !self.may_listen() {
                self.app.metrics.stream_cut("credential");
                return None;
            }
            if let Some((position, told)) = self.subscription.pop() {
                return Some(match told {
                    Told::Notice(what, notice) => event(what.as_str(), position, &notice),
                    Told::Reset => event("reset", position, &Nothing {}),
                });
            }
            if self.due {
                match self.alive() {
                    Ok(Some(alive)) => return Some(alive),
                    Ok(None) => {}
                    Err(over) => return self.end(over),
                }
                continue;
            }
            let ready = tokio::select! {
                biased;
                _ = self.ticks.tick() => {
                    self.due = true;
                    Ok(())
                }
                ready = self.subscription.wait() => ready,
            };
            if let Err(over) = ready {
                return self.end(over);
            }
        }
        None
    }

    /// `alive`, if this node is current now and everything has been told that it may answer from.
    fn alive(&mut self) -> Result<Option<Event>, Over> {
        let subscription = &mut self.subscription;
        // The lease is read first, the queue after it, the clock last.
        let proved = self.app.live.answer(|view| {
            let empty = subscription.drain()?;
            if empty {
                subscription.covers(view.position);
            }
            Ok(empty)
        });
        match proved {
            // Something came meanwhile; it goes first.
            Ok(Ok(false)) => Ok(None),
            Ok(Ok(true)) => {
                (self.due, self.silent) = (false, 0);
                Ok(Some(event("alive", self.subscription.at(), &Nothing {})))
            }
            Ok(Err(over)) => Err(over),
            Err(_) => {
                self.due = false;
                self.silent += 1;
                self.over = self.silent >= SILENT_MAX;
                if self.over {
                    self.app.metrics.stream_cut("not_current");
                }
                Ok(None)
            }
        }
    }

    /// The last event: where to come back to.
    fn end(&mut self, over: Over) -> Option<Event> {
        self.over = true;
        if over == Over::Slow {
            self.app.metrics.stream_cut("slow");
            return Some(event("resume", self.subscription.at(), &Nothing {}));
        }
        None
    }

    /// Whether the server still is one, and the secret that it showed still works.
    fn may_listen(&self) -> bool {
        let memory = self.app.live.memory();
        let known = memory.servers.get(&self.server.id).filter(|server| !server.disabled);
        known.is_some_and(|server| server.secrets.live(self.version, self.app.live.now()).is_some())
    }
}

fn event(name: &str, at: Position, data: &impl Serialize) -> Event {
    let event = Event::default().event(name).id(at.to_string());
    // It cannot fail: each data is a plain structure.
    event.clone().json_data(data).unwrap_or(event)
}
