//! The feed carries changes from PostgreSQL into each node's memory, in the order of commits, and knows who has them.
//!
//! `follow` keeps this node current and renews its lease; `enforced` is the one function that waits until a change holds
//! on every node.

mod apply;
mod enforce;
mod follow;
mod history;
mod load;
mod notice;
mod people;
mod pools;
mod store;
mod subscribe;
mod translate;
mod wake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use uuid::Uuid;

use crate::db::Db;
use crate::feed::subscribe::Subscribers;
use crate::gate::{Live, Position};
use crate::secrets::Sealing;
use crate::signing::Signers;
use crate::types::clock::BootInstant;

pub use enforce::{Enforced, NodeState, STANDBY_WAIT_MAX, spread_from_outside};
pub use follow::{Follower, Start};
pub use history::open_history;
pub use notice::{About, Notice, What};
pub use store::{drop_spent, prune};
pub use subscribe::{
    Full, Over, ROUNDS_WAITING_MAX, SEARCHED_MAX, SUBSCRIBERS_MAX, SUBSCRIBERS_OF_SERVER_MAX, Subscription,
    TOLD_AGAIN_MAX, Told,
};
pub(crate) use translate::version as version_of;

/// How long a lost wake-up costs.
pub const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The kinds of feed entries that this release understands. An entry of another kind ends a node's lease for good.
pub const KINDS: [&str; 16] = [
    "start",
    "history",
    "settings",
    "secret",
    "signing_key",
    "operator",
    "server",
    "agent",
    "grant",
    "role",
    "key",
    "revocation",
    "provider",
    "client",
    "user",
    "consent",
];

/// This node's end of the feed.
#[derive(Clone)]
pub struct Feed {
    /// The memory it keeps.
    pub live: Arc<Live>,
    db: Db,
    shared: Arc<Shared>,
}

/// What the follower's thread shares with everybody else.
struct Shared {
    applied: watch::Sender<Position>,
    node: ArcSwap<Uuid>,
    connected: ArcSwap<BootInstant>,
    // The last one that the database is known to have.
    beat: AtomicI64,
    signers: ArcSwap<Signers>,
    secret_key: ArcSwap<String>,
    dead: AtomicBool,
    subscribers: Subscribers,
    // No other node can be on this database: its lock says so.
    alone: bool,
}

impl Feed {
    /// The feed's end for a memory. Nothing moves until a [`Follower`] runs. `alone`: the database is this process's own.
    #[must_use]
    pub fn new(live: Arc<Live>, db: Db, alone: bool) -> Self {
        let newest = live.keyring.ids().into_iter().next().unwrap_or_default();
        let shared = Shared {
            applied: watch::Sender::new(Position::default()),
            node: ArcSwap::from_pointee(Uuid::nil()),
            connected: ArcSwap::from_pointee(BootInstant::START),
            beat: AtomicI64::new(0),
            signers: ArcSwap::from_pointee(Signers::default()),
            secret_key: ArcSwap::from_pointee(newest),
            dead: AtomicBool::new(false),
            subscribers: Subscribers::default(),
            alone,
        };
        Self { live, db, shared: Arc::new(shared) }
    }

    /// Waits until this node has applied `position`, at most `longest`. False when it has not by then.
    pub async fn reaches(&self, position: Position, longest: Duration) -> bool {
        self.db.told().here.notify_one();
        let mut applied = self.shared.applied.subscribe();
        let covered = applied.wait_for(|applied| applied.covers(position));
        tokio::time::timeout(longest, covered).await.is_ok_and(|reached| reached.is_ok())
    }

    /// The keys that sign now.
    #[must_use]
    pub fn signers(&self) -> Arc<Signers> {
        self.shared.signers.load_full()
    }

    /// The id of the secret key that new digests and sealed values are made under: the newest that all nodes announce.
    #[must_use]
    pub fn secret_key(&self) -> Arc<String> {
        self.shared.secret_key.load_full()
    }

    /// Whether [`Self::secret_key`] is this one.
    #[must_use]
    pub fn is_newest(&self, secret_key: &str) -> bool {
        **self.shared.secret_key.load() == *secret_key
    }

    /// For rooms that make secrets.
    #[must_use]
    pub fn sealing<'a>(&'a self, secret_key: &'a str) -> Sealing<'a> {
        Sealing { keyring: &self.live.keyring, secret_key }
    }

    /// This node's id since its last (re)start.
    #[must_use]
    pub fn node(&self) -> Uuid {
        **self.shared.node.load()
    }

    /// The node will answer nothing more until it is replaced: the feed holds what this release does not understand, or
    /// the database is another installation's.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.shared.dead.load(Ordering::Relaxed)
    }
}
