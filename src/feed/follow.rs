//! The follower: its own thread, its own runtime, its own connection. It applies the feed in order and renews the lease.
//!
//! A round is one transaction: the node's row is renewed first, then the feed is read from the last applied number on,
//! inclusive, put in place, and acknowledged. Only when the COMMIT succeeded may answers be given until the instant before the
//! round was sent plus the lease.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db;
use crate::feed::apply::Batch;
use crate::feed::load::{self, Loaded};
use crate::feed::pools::Pools;
use crate::feed::store;
use crate::feed::{Feed, KINDS, POLL_INTERVAL, history};
use crate::gate::{Position, Round};
use crate::nodes::{self, Beat};
use crate::types::clock::{BootInstant, Timestamp, wall_clock};
use crate::types::switches::{Protection, on};

/// Feed entries read in one round. A round that reads as many does not renew the lease: there is more.
const ENTRIES_MAX: i64 = 2_000;
const RECONNECT_AFTER: Duration = Duration::from_millis(200);
/// How often the revocation list is looked through for what it may forget.
const FORGET_INTERVAL: Duration = Duration::from_mins(1);
const ROUND_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Statements of a round name rows by their ids; to plan them anew each time would cost more than to run them. A plan that was
/// made while a table was empty must find rows by their index too when it has grown.
const BEGIN: &str = "begin isolation level read committed; set local lock_timeout = '2s'; \
    set local idle_in_transaction_session_timeout = '5s'; set local statement_timeout = '5s'; set local synchronous_commit = on; \
    set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off";

/// What a node tells of itself.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where it listens.
    pub address: String,
    /// Its release.
    pub version: String,
}

/// Keeps one node current until it is stopped.
pub struct Follower {
    feed: Feed,
    start: Start,
    // What has been applied, and the mark of that entry.
    applied: Option<Loaded>,
    node: Uuid,
    beat: i64,
    // When each other node was last seen to beat, by our own clock.
    seen: HashMap<Uuid, (i64, BootInstant)>,
    pools: Pools,
    // When, by the database's clock, the revocation list was last looked through for what it may forget.
    forgot: Timestamp,
}

/// Why a round did not renew the lease.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The database, or the connection to it.
    #[error(transparent)]
    Load(#[from] load::Error),
    /// The node's row is not as it was left, or the database is a standby.
    #[error("this node was removed, or the database is not the primary")]
    Removed,
    /// The feed does not go on where it was left.
    #[error("the database's history changed")]
    History,
    /// Nothing helps but another release or another database.
    #[error("{0}")]
    Dead(String),
    /// It took too long.
    #[error("a round took too long")]
    Slow,
}

impl Lost {
    /// The database cannot be reached, and nothing says that it is another one: what was leased may still be answered.
    fn is_outage(&self) -> bool {
        match self {
            Self::Slow => true,
            Self::Load(load::Error::Database(error)) => error.is_outage(),
            _ => false,
        }
    }
}

impl From<sqlx::Error> for Lost {
    fn from(error: sqlx::Error) -> Self {
        Self::Load(error.into())
    }
}

impl From<db::Error> for Lost {
    fn from(error: db::Error) -> Self {
        Self::Load(error.into())
    }
}

impl Follower {
    /// A follower for this node's end of the feed.
    #[must_use]
    pub fn new(feed: Feed, start: Start) -> Self {
        Self {
            feed,
            start,
            applied: None,
            node: Uuid::nil(),
            beat: 0,
            seen: HashMap::new(),
            pools: Pools::default(),
            forgot: Timestamp::default(),
        }
    }

    /// Runs on a thread of its own until `stop`; then the node answers nothing more, and its row is removed.
    ///
    /// # Errors
    ///
    /// No thread or runtime can be made.
    pub fn spawn(self, stop: CancellationToken) -> std::io::Result<std::thread::JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("feed".to_owned()).spawn(move || runtime.block_on(self.run(stop)))
    }

    async fn run(mut self, stop: CancellationToken) {
        let feed = self.feed.clone();
        let listening = stop.clone();
        let listen = async { listening.run_until_cancelled(feed.listen()).await };
        let follow = async {
            while !stop.is_cancelled() {
                let Err(lost) = self.connected(&stop).await else { break };
                if lost.is_outage() {
                    tracing::warn!(reason = %lost, node = %self.node.simple(), "the database is away: this node answers until its lease is over");
                } else {
                    self.feed.live.stop_answering();
                    tracing::warn!(reason = %lost, node = %self.node.simple(), "this node stopped answering until it is current again");
                }
                let dead = match lost {
                    Lost::Dead(_) => true,
                    Lost::History => self.history_changed().await,
                    _ => false,
                };
                if dead {
                    self.feed.shared.dead.store(true, Ordering::Relaxed);
                    stop.cancelled().await;
                    break;
                }
                let _ = stop.run_until_cancelled(tokio::time::sleep(RECONNECT_AFTER)).await;
            }
        };
        tokio::join!(follow, listen);
    }

    /// Connects, joins under a new id, and makes rounds until `stop` or until something is lost.
    async fn connected(&mut self, stop: &CancellationToken) -> Result<(), Lost> {
        let mut connection = connect(self.feed.db.options()).await?;
        if !self.node.is_nil() {
            // Nobody waits for a node without a row: what is left of its lease ends before the row goes.
            self.feed.live.stop_answering();
            nodes::remove(&mut connection, self.node).await?;
        }
        self.feed.shared.connected.store(Arc::new(BootInstant::now()));
        if self.applied.is_none() {
            let loaded = load::load(&mut connection, &self.feed.live, &self.feed.shared, &mut self.pools).await?;
            self.applied = Some(loaded);
            self.feed.shared.subscribers.loaded(loaded.position);
            if !on(Protection::JoinFirst) {
                self.extend(loaded.position);
            }
        }
        self.join(&mut connection).await?;
        loop {
            let more =
                tokio::time::timeout(bound(Protection::RoundBound, ROUND_SECONDS_MAX), self.round(&mut connection))
                    .await
                    .map_err(|_| Lost::Slow)??;
            if stop.is_cancelled() {
                break;
            }
            if !more {
                let woken = self.feed.db.told().here.notified();
                let _ =
                    stop.run_until_cancelled(tokio::time::timeout(bound(Protection::Poll, POLL_INTERVAL), woken)).await;
            }
        }
        self.feed.live.stop_answering();
        nodes::remove(&mut connection, self.node).await?;
        let _ = connection.close().await;
        Ok(())
    }

    async fn join(&mut self, connection: &mut PgConnection) -> Result<(), Lost> {
        (self.node, self.beat) = (Uuid::new_v4(), 0);
        let secret_keys = self.feed.live.keyring.ids();
        let row = nodes::Row {
            id: self.node,
            position: self.applied.map(|applied| applied.position).unwrap_or_default(),
            version: &self.start.version,
            address: &self.start.address,
            secret_keys: &secret_keys,
            feed_kinds: &KINDS.map(str::to_owned),
        };
        if self.feed.shared.alone {
            nodes::remove_all(connection).await?;
        }
        self.feed.shared.beat.store(0, Ordering::Relaxed);
        nodes::insert(connection, &row).await?;
        self.feed.shared.node.store(Arc::new(self.node));
        Ok(())
    }

    /// One round. Says whether there is more to read.
    async fn round(&mut self, connection: &mut PgConnection) -> Result<bool, Lost> {
        let applied = self.applied.ok_or(Lost::History)?;
        let (sent, wall) = (BootInstant::now(), wall_clock());
        let mut tx = connection.begin_with(if on(Protection::Durable) { BEGIN } else { "begin" }).await?;
        let beat = nodes::beat(&mut tx, self.node, self.beat, applied.position).await?;
        if beat.is_none() && !on(Protection::Beat) {
            self.extend(applied.position);
            return Ok(false);
        }
        let beat = beat.ok_or(Lost::Removed)?;
        if beat.recovering {
            return Err(Lost::Removed);
        }
        let (batch, last, count) = entries(&mut tx, applied, &beat).await?;
        let read = batch.read(&mut tx).await?;
        read.read_small(&mut tx, &self.feed.live, &self.feed.shared).await?;
        let others = nodes::others(&mut tx).await?;
        // Before anything can be answered: what is made from here on must be readable on every node.
        self.choose_secret_key(&others);
        // What was read is committed, whatever becomes of this round: it counts at once, and the row says so with the beat that
        // proves it. Only the lease waits for the COMMIT.
        let notices = read.publish(&self.feed.live, &mut self.pools, last.position);
        // Before the round is published: whoever then finds its queue empty has all that the lease covers.
        self.feed.shared.subscribers.tell(notices);
        self.applied = Some(last);
        if last.position != applied.position
            && !nodes::acknowledge(&mut tx, self.node, self.beat + 1, last.position).await?
        {
            return Err(Lost::Removed);
        }
        tx.commit().await?;
        self.beat += 1;
        self.feed.shared.beat.store(self.beat, Ordering::Relaxed);
        self.note_leases(&beat);
        let whole = count < ENTRIES_MAX;
        let before = self.feed.live.round();
        let lease = Duration::from_millis(u64::try_from(beat.lease_ms).unwrap_or(0));
        let (sent, wall) =
            if on(Protection::LeaseFromSent) { (sent, wall) } else { (BootInstant::now(), wall_clock()) };
        let round = Round { sent, wall, database: beat.now.into(), lease, position: last.position };
        self.feed.live.publish(if whole { round } else { Round { position: last.position, ..before } });
        // Who waits for a place then finds it in the round.
        self.feed.shared.applied.send_replace(last.position);
        self.watch(connection, &others, &beat).await?;
        self.forget();
        Ok(!whole)
    }

    /// What must never be done, and only a test does: a lease that no round has renewed.
    fn extend(&self, position: Position) {
        let (sent, wall) = (BootInstant::now(), wall_clock());
        let settings = self.feed.live.settings.load();
        let database = self.feed.live.round().database;
        self.feed.live.publish(Round { sent, wall, database, lease: settings.longest_lease, position });
    }

    fn note_leases(&self, beat: &Beat) {
        let live = &self.feed.live;
        let longest_lease = Duration::from_millis(u64::try_from(beat.longest_lease_ms).unwrap_or(60_000));
        let settings = live.settings.load();
        if settings.longest_lease != longest_lease {
            let settings = crate::gate::SettingsNow::clone(&settings);
            live.settings.store(Arc::new(crate::gate::SettingsNow { longest_lease, ..settings }));
        }
    }

    /// Forgets, now and then, revocations of what has expired.
    fn forget(&mut self) {
        let live = &self.feed.live;
        let now = live.now();
        if now < self.forgot.plus(FORGET_INTERVAL) {
            return;
        }
        self.forgot = now;
        let memory = live.memory();
        let spent = memory.revoked.spent(now, |id| memory.keys.get(id).is_some_and(|key| key.revoked));
        if !spent.is_empty() {
            live.change(|memory| spent.iter().for_each(|subject| memory.revoked.forget(subject)));
        }
    }

    /// Removes the rows of nodes that did not beat for longer than any lease.
    async fn watch(&mut self, connection: &mut PgConnection, others: &[nodes::Seen], beat: &Beat) -> Result<(), Lost> {
        let now = BootInstant::now();
        let silence = longest_wait(Duration::from_millis(u64::try_from(beat.longest_lease_ms).unwrap_or(60_000)));
        // A test shows what a row that goes too early does.
        let silence = if on(Protection::Silence) { silence } else { silence / 4 };
        self.seen.retain(|id, _| others.iter().any(|other| other.id == *id));
        for other in others.iter().filter(|other| other.id != self.node) {
            let (beat, since) = self.seen.entry(other.id).or_insert((other.beat, now));
            if *beat != other.beat {
                (*beat, *since) = (other.beat, now);
            } else if now.since(*since) > silence {
                nodes::remove_silent(connection, other.id, other.beat).await?;
                tracing::info!(node = %other.id.simple(), "removed a node that fell silent");
            }
        }
        Ok(())
    }

    /// The newest secret key that all nodes announce.
    fn choose_secret_key(&self, others: &[nodes::Seen]) {
        let known = |id: &String| others.iter().all(|other| other.secret_keys.contains(id));
        let newest = self.feed.live.keyring.ids().into_iter().find(known);
        if let Some(newest) = newest.filter(|newest| **newest != **self.feed.shared.secret_key.load()) {
            self.feed.shared.secret_key.store(Arc::new(newest));
        }
    }

    /// Makes the memory and the database one again, then starts from a full load. True when nothing can.
    async fn history_changed(&mut self) -> bool {
        let Some(applied) = self.applied else { return false };
        let recovered = async {
            let mut connection = connect(self.feed.db.options()).await?;
            // The row was made before it was seen whose database this is.
            nodes::remove(&mut connection, self.node).await?;
            history::recover(&mut connection, &self.feed.live, applied).await
        };
        match recovered.await {
            Ok(()) => self.applied = None,
            Err(error) => {
                tracing::warn!(%error, "the database's history could not be settled");
                return matches!(error, Lost::Dead(_));
            }
        }
        false
    }
}

/// Longer than this no node answers from memory that lacks a committed change.
pub(super) fn longest_wait(lease: Duration) -> Duration {
    lease + lease / 10 + Duration::from_millis(50)
}

/// Reads the feed from the last applied entry on, which must be there with its mark.
async fn entries(tx: &mut PgConnection, applied: Loaded, beat: &Beat) -> Result<(Batch, Loaded, i64), Lost> {
    if beat.head.history != applied.position.history {
        return Err(Lost::History);
    }
    let rows = store::entries_from(tx, applied.position.number, ENTRIES_MAX).await?;
    let mut rows = rows.into_iter();
    let first = rows.next().ok_or(Lost::History)?;
    if (first.number != applied.position.number || first.mark != applied.mark) && on(Protection::Marks) {
        return Err(Lost::History);
    }
    let (mut batch, mut last, mut count) = (Batch::default(), applied, 1);
    for row in rows {
        if row.number != last.position.number + 1 {
            return Err(Lost::History);
        }
        last = Loaded { position: Position { history: row.history, number: row.number }, mark: row.mark, ..last };
        let kind = row.kind.clone();
        if !batch.add(row) {
            return Err(Lost::Dead(format!(
                "the feed holds an entry of kind `{kind}`, which this release does not understand"
            )));
        }
        count += 1;
    }
    Ok((batch, last, count))
}

/// How long something may take; without its protection, for ever.
fn bound(protection: Protection, longest: Duration) -> Duration {
    if on(protection) { longest } else { Duration::MAX }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Lost> {
    let options = options.clone().application_name("mcp-authority feed").disable_statement_logging();
    let connecting = options.connect();
    Ok(tokio::time::timeout(Duration::from_secs(5), connecting).await.map_err(|_| Lost::Slow)??)
}
