//! Those who want to be told: each has a bounded queue behind the follower, and is dropped when it does not keep up.
//!
//! The follower puts notices in after the memory, and before the round that lets answers be given from it. So whoever
//! reads the lease first and empties its queue then has all that the lease covers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use crate::db;
use crate::feed::notice::{Narrowing, Notice, What, notice};
use crate::feed::{Feed, Shared, store};
use crate::gate::{Position, View};
use crate::revocations::{self, Named};
use crate::types::id::ServerId;

/// Rounds with notices that wait for the slowest subscriber. They are kept once, whoever waits for them.
pub const ROUNDS_WAITING_MAX: usize = 512;
/// Subscribers of one node.
pub const SUBSCRIBERS_MAX: usize = 1_024;
/// Subscribers of one server on one node: more are replicas than a server has, or connections that were forgotten.
pub const SUBSCRIBERS_OF_SERVER_MAX: usize = 64;
/// Entries that are told again to one who comes back. Asking again about everything is cheaper than more of them.
pub const TOLD_AGAIN_MAX: i64 = 2_000;
/// How far back the feed is searched for them.
pub const SEARCHED_MAX: i64 = 100_000;

/// What the follower tells.
#[derive(Clone, Debug)]
enum Step {
    /// One round's notices, in the feed's order.
    Notices(Arc<[Notice]>),
    /// Everything was loaded anew, up to here: what was in between is not known.
    Loaded(Position),
}

/// The follower's end, and who listens.
pub(super) struct Subscribers {
    steps: broadcast::Sender<Step>,
    seats: Mutex<HashMap<ServerId, usize>>,
    ending: CancellationToken,
}

impl Default for Subscribers {
    fn default() -> Self {
        Self {
            steps: broadcast::Sender::new(ROUNDS_WAITING_MAX),
            seats: Mutex::default(),
            ending: CancellationToken::new(),
        }
    }
}

impl Subscribers {
    /// Tells what a round took away. Never waits; who is too slow finds out by itself.
    pub(super) fn tell(&self, notices: Vec<Notice>) {
        if !notices.is_empty() {
            let _ = self.steps.send(Step::Notices(notices.into()));
        }
    }

    pub(super) fn loaded(&self, position: Position) {
        let _ = self.steps.send(Step::Loaded(position));
    }
}

/// Why nobody more is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The node has as many subscribers as it may have.
    #[error("this node has {SUBSCRIBERS_MAX} streams open")]
    Node,
    /// The server has.
    #[error("this server has {SUBSCRIBERS_OF_SERVER_MAX} streams open on this node")]
    Server,
    /// The node stops.
    #[error("this node is stopping")]
    Ending,
}

/// Why a subscription is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It was read too slowly, and has missed something.
    Slow,
    /// The node stops.
    Ending,
}

/// What a subscriber is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// Something was taken away.
    Notice(What, Notice),
    /// What came before is not known: everything must be asked again.
    Reset,
}

/// One subscriber's end. It counts against the limits until it is dropped.
pub struct Subscription {
    server: ServerId,
    steps: broadcast::Receiver<Step>,
    told: VecDeque<(Position, Told)>,
    // Everything up to here has been taken out, or does not concern this server.
    at: Position,
    // What comes from the queue and is older was told already.
    from: Position,
    shared: Arc<Shared>,
}

impl Subscription {
    /// Begins: nothing that the queue holds up to `here` counts. `missed` is told first to one who comes back from `at`.
    pub fn begin(&mut self, at: Position, here: Position, missed: &[Notice]) {
        (self.at, self.from) = (at, here);
        self.take(missed.iter());
    }

    /// The next thing to tell, and its place.
    pub fn pop(&mut self) -> Option<(Position, Told)> {
        let (position, told) = self.told.pop_front()?;
        self.at = position;
        Some((position, told))
    }

    /// Up to where everything has been told.
    #[must_use]
    pub const fn at(&self) -> Position {
        self.at
    }

    /// The server that is told.
    #[must_use]
    pub const fn server(&self) -> ServerId {
        self.server
    }

    /// Takes out of the queue what is there, until something is to be told. True when the queue was found empty.
    ///
    /// # Errors
    ///
    /// It is over.
    pub fn drain(&mut self) -> Result<bool, Over> {
        while self.told.is_empty() {
            match self.steps.try_recv() {
                Ok(step) => self.step(&step),
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Lagged(_)) => return Err(Over::Slow),
                Err(TryRecvError::Closed) => return Err(Over::Ending),
            }
        }
        Ok(false)
    }

    /// Waits for the queue.
    ///
    /// # Errors
    ///
    /// It is over.
    pub async fn wait(&mut self) -> Result<(), Over> {
        let step = match self.shared.subscribers.ending.run_until_cancelled(self.steps.recv()).await {
            Some(Ok(step)) => step,
            Some(Err(RecvError::Lagged(_))) => return Err(Over::Slow),
            Some(Err(RecvError::Closed)) | None => return Err(Over::Ending),
        };
        self.step(&step);
        Ok(())
    }

    /// All that a round up to `position` covers has been taken out: the next one who comes back need not hear of it.
    pub fn covers(&mut self, position: Position) {
        if self.told.is_empty() && self.at.is_before(position) {
            self.at = position;
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Notices(notices) => {
                let from = self.from;
                self.take(notices.iter().filter(|notice| from.is_before(notice.position)));
            }
            Step::Loaded(position) => {
                self.from = *position;
                self.told.push_back((*position, Told::Reset));
            }
        }
    }

    fn take<'a>(&mut self, notices: impl Iterator<Item = &'a Notice>) {
        let server = self.server;
        let mine = notices.filter_map(|notice| Some((notice, notice.tells(server)?)));
        self.told.extend(mine.map(|(notice, what)| (notice.position, Told::Notice(what, notice.clone()))));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut seats = self.shared.subscribers.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = seats.get_mut(&self.server) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&self.server);
            }
        }
    }
}

impl Feed {
    /// Takes a seat among the subscribers: from now on the queue holds what is told. [`Subscription::begin`] comes next.
    ///
    /// # Errors
    ///
    /// There is no seat left.
    pub fn subscribe(&self, server: ServerId) -> Result<Subscription, Full> {
        let subscribers = &self.shared.subscribers;
        if subscribers.ending.is_cancelled() {
            return Err(Full::Ending);
        }
        let mut seats = subscribers.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if seats.values().sum::<usize>() >= SUBSCRIBERS_MAX {
            return Err(Full::Node);
        }
        let taken = seats.entry(server).or_default();
        if *taken >= SUBSCRIBERS_OF_SERVER_MAX {
            return Err(Full::Server);
        }
        *taken += 1;
        drop(seats);
        Ok(Subscription {
            server,
            steps: subscribers.steps.subscribe(),
            told: VecDeque::new(),
            at: Position::default(),
            from: Position::default(),
            shared: Arc::clone(&self.shared),
        })
    }

    /// How many are told.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.shared.subscribers.seats.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Ends all subscriptions: the node stops.
    pub fn end_subscriptions(&self) {
        self.shared.subscribers.ending.cancel();
    }

    /// What was told after `at` and up to `here`, both of one history, from the tables. `None`: it is no longer kept, or
    /// too much.
    ///
    /// # Errors
    ///
    /// The database cannot answer.
    pub async fn missed(&self, at: Position, here: Position) -> db::Result<Option<Vec<Notice>>> {
        if here.number - at.number > SEARCHED_MAX {
            return Ok(None);
        }
        let mut connection = self.db.reads().acquire().await?;
        if store::mark_at(&mut connection, at.number).await?.is_none() {
            return Ok(None);
        }
        let entries = store::narrowing(&mut connection, (at.number, here.number), TOLD_AGAIN_MAX + 1).await?;
        if i64::try_from(entries.len()).is_ok_and(|count| count > TOLD_AGAIN_MAX) {
            return Ok(None);
        }
        let revoked = entries.iter().filter(|entry| entry.kind == store::REVOCATION);
        let ids: Vec<String> = revoked.map(|entry| entry.target.clone()).collect();
        let rows = revocations::load_some(&mut connection, &ids).await?;
        let memory = &self.live.memory();
        let view = View { live: &self.live, memory, now: self.live.now(), position: here };
        Ok(Some(notices(view, &entries, &rows)))
    }
}

/// The notices of entries; `rows`: those of the revocation list that they name.
pub(super) fn notices(view: View<'_>, entries: &[Narrowing], rows: &[Named]) -> Vec<Notice> {
    let rows: HashMap<&str, &Named> = rows.iter().map(|row| (row.id.as_str(), row)).collect();
    entries.iter().filter_map(|entry| notice(view, entry, rows.get(entry.target.as_str()).copied())).collect()
}
