//! The running service: what handlers and jobs can reach, and how it is put together.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::audit::Recorder;
use crate::clients::Clients;
use crate::config::Config;
use crate::db::Db;
use crate::failures::{Failures, Strangers};
use crate::feed::{Feed, Follower, Start};
use crate::gate::{Inactive, Live, Position};
use crate::issuers::Issuers;
use crate::leaks::GitHubKeys;
use crate::observations::{ACTIVE, Observations, Owner, Place};
use crate::outbound::{Limits, Outbound};
use crate::providers::Upstream;
use crate::refusal::{Code, Refused};
use crate::revocations::Revoker;
use crate::secrets::{Rehash, Sealing};
use crate::sessions::Writer;
use crate::telemetry::Metrics;
use crate::types::keyring::Keyring;
use crate::upkeep::Upkeep;
use crate::webhooks::{Deliverer, Mailer, Means};

/// Version of this release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long the last writes may take when the service stops.
const LAST_WRITES_MAX: Duration = Duration::from_secs(5);
/// How long a request waits for this node to apply what a token shown to it names.
const CATCH_UP_MAX: Duration = Duration::from_millis(500);

/// Everything a request or a job may use.
pub struct App {
    /// The settings of this node.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// What this node knows.
    pub live: Arc<Live>,
    /// How it knows.
    pub feed: Feed,
    /// Commits revocations.
    pub revoker: Revoker,
    /// Commits rows of issued tokens.
    pub writer: Writer,
    /// Writes audit entries of what changes nothing.
    pub recorder: Recorder,
    /// Counts what was seen.
    pub observations: Observations,
    /// Counts what happened.
    pub metrics: Metrics,
    /// Asks addresses that others name.
    pub outbound: Outbound,
    /// Finds the applications that requests name.
    pub clients: Clients,
    /// Asks identity providers.
    pub upstream: Upstream,
    /// Asks issuers of workload tokens.
    pub issuers: Issuers,
    /// Tells webhooks and owners what happened.
    pub deliverer: Deliverer,
    /// GitHub's keys, for its reports of leaks.
    pub github: GitHubKeys,
    /// Slows those down who guess.
    pub failures: Failures,
    /// Bounds what strangers make us do.
    pub strangers: Strangers,
    /// What this node does by itself.
    pub upkeep: Upkeep,
    /// The node goes: readiness says so, while requests are still taken.
    pub draining: AtomicBool,
    /// Changes that run: a caller who hangs up cancels none of them, and the service waits for them when it stops.
    pub changes: TaskTracker,
}

/// The handlers' state.
pub type AppState = axum::extract::State<Arc<App>>;

/// The service's own tasks.
pub struct Running {
    /// What handlers use.
    pub app: Arc<App>,
    writers: TaskTracker,
    // Guards: a service that is dropped without `stop` leaves no thread behind that keeps its node alive.
    stop_feed: DropGuard,
    stop_recorder: DropGuard,
    follower: std::thread::JoinHandle<()>,
}

/// The secret keys of the settings.
///
/// # Errors
///
/// There is none, or the cryptography library refuses them.
pub fn keyring(config: &Config) -> anyhow::Result<Arc<Keyring>> {
    let keys = config.secret_keys.as_deref().unwrap_or_default();
    let keys: Vec<_> = keys.iter().map(|key| Zeroizing::new(*key.reveal())).collect();
    Ok(Arc::new(Keyring::new(&keys).ok_or_else(|| anyhow::anyhow!("MCPA_SECRET_KEYS holds no key that can be used"))?))
}

/// What owners are told with, if the settings name a mail server.
fn mailer(config: &Config) -> anyhow::Result<Option<Mailer>> {
    let Some(smtp) = &config.smtp else { return Ok(None) };
    let ca = config.outbound.ca.as_deref().map(std::fs::read).transpose()?;
    Ok(Some(Mailer::new(smtp, ca.as_deref(), &config.public_url.to_string())?))
}

impl Running {
    /// Starts the tasks on a migrated database. The service answers once the first round is through.
    ///
    /// # Errors
    ///
    /// No thread can be made for the feed, or the secret keys, the certificates of `MCPA_OUTBOUND_CA` or the
    /// mail server cannot be used.
    pub fn start(config: Config, db: Db, address: &str) -> anyhow::Result<Self> {
        let alone = config.database_url.is_none();
        let outbound = Outbound::new(&config.outbound, Limits::default())?;
        let live = Arc::new(Live::new(&config.public_url.issuer(), keyring(&config)?));
        let providers = Outbound::within(&config.outbound, &config.provider_networks, Limits::default())?;
        let results: Vec<&'static str> = std::iter::once(ACTIVE).chain(Inactive::ALL.map(Inactive::as_str)).collect();
        let metrics = Metrics::new(VERSION, &results);
        let changes = TaskTracker::new();
        let means = Means {
            db: db.clone(),
            live: Arc::clone(&live),
            mailer: mailer(&config)?,
            counts: metrics.delivery_counts(),
            tasks: changes.clone(),
        };
        let networks = &config.provider_networks;
        let deliverer = Deliverer::new(means, |limits| Outbound::within(&config.outbound, networks, limits))?;
        let issuers = Issuers::new(&providers, Arc::clone(&live));
        let upstream = Upstream::new(providers, Arc::clone(&live), config.is_local(), metrics.provider_errors());
        let feed = Feed::new(Arc::clone(&live), db.clone(), alone);
        let (stop_feed, stop_recorder) = (CancellationToken::new(), CancellationToken::new());
        let (recorder, record) = Recorder::new(db.clone(), stop_recorder.clone());
        let (revoker, revoke) = Revoker::new(db.clone());
        let (writer, write) = Writer::new(db.clone());
        let writers = TaskTracker::new();
        writers.spawn(record);
        writers.spawn(revoke);
        writers.spawn(write);
        let (announcing, stop) = (feed.clone(), stop_feed.clone());
        writers.spawn(async move { announcing.announce(stop).await });
        let start = Start { address: address.to_owned(), version: VERSION.to_owned() };
        let follower = Follower::new(feed.clone(), start).spawn(stop_feed.clone())?;
        let app = App {
            config,
            db,
            live,
            feed,
            revoker,
            writer,
            recorder,
            observations: Observations::default(),
            metrics,
            clients: Clients::new(&outbound),
            github: GitHubKeys::new(outbound.clone()),
            outbound,
            upstream,
            issuers,
            deliverer,
            failures: Failures::default(),
            strangers: Strangers::default(),
            upkeep: Upkeep::new(),
            draining: AtomicBool::new(false),
            changes,
        };
        let (stop_feed, stop_recorder) = (stop_feed.drop_guard(), stop_recorder.drop_guard());
        Ok(Self { app: Arc::new(app), writers, stop_feed, stop_recorder, follower })
    }

    /// Stops in order: running changes end, what was counted is written, the node answers nothing more, its row goes.
    pub async fn stop(self) {
        self.app.changes.close();
        let _ = tokio::time::timeout(LAST_WRITES_MAX, self.app.changes.wait()).await;
        let flush = self.app.observations.flush(&self.app.db, self.app.live.now(), true);
        if let Ok(Err(error)) = tokio::time::timeout(LAST_WRITES_MAX, flush).await {
            tracing::warn!(%error, "the last uses could not be written");
        }
        drop(self.stop_feed);
        let follower = self.follower;
        let _ = tokio::task::spawn_blocking(move || follower.join()).await;
        drop(self.stop_recorder);
        let db = self.app.db.clone();
        // The queues end when nothing can be put into them any more.
        drop(self.app);
        self.writers.close();
        let _ = tokio::time::timeout(LAST_WRITES_MAX, self.writers.wait()).await;
        db.close().await;
    }
}

impl App {
    /// For rooms that make secrets: `secret_key` is [`Feed::secret_key`], held by the caller.
    #[must_use]
    pub fn sealing<'a>(&'a self, secret_key: &'a str) -> Sealing<'a> {
        self.feed.sealing(secret_key)
    }

    /// A secret was presented and right: its use is noted, and its digest moves to the newest secret key.
    pub fn used(&self, secret: &str, owner: Owner, version: &crate::gate::Version, at: Place) {
        self.observations.noting().used(owner, version.number, at);
        self.renew(secret, owner, version);
    }

    /// Moves the digest of a secret that was right to the newest secret key, if it is under another.
    pub fn renew(&self, secret: &str, owner: Owner, version: &crate::gate::Version) {
        if !self.feed.is_newest(&version.secret_key) {
            let newest = self.feed.secret_key();
            let digest = self.live.keyring.digest(&newest, secret);
            if let Some(digest) = digest {
                self.observations.rehash(Rehash {
                    owner: owner.as_str().to_owned(),
                    version: version.number,
                    from: version.secret_key.to_string(),
                    to: newest.to_string(),
                    digest: digest.to_vec(),
                });
            }
        }
    }

    /// Writes the first use of the newest version of a secret, which a rotation must not take for one never used.
    ///
    /// # Errors
    ///
    /// The database refuses.
    pub async fn settle_use(&self, owner: Owner, newest: Option<i32>) -> Result<(), Refused> {
        let Some(version) = newest else { return Ok(()) };
        Ok(self.observations.write_first_use(&self.db, owner, version).await?)
    }

    /// Applies the feed up to what a token names.
    ///
    /// # Errors
    ///
    /// This node could not in time.
    pub async fn catch_up(&self, position: Position) -> Result<(), Refused> {
        if self.feed.reaches(position, CATCH_UP_MAX).await {
            return Ok(());
        }
        Err(Refused::new(Code::TemporarilyUnavailable, "This node has not caught up; try again."))
    }
}
