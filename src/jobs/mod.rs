//! What happens without being asked: each job with its period. A job that only one node should do takes a lock in the
//! database for the time of its transaction; the others skip that turn.

mod checkpoint;
mod expire;
mod partitions;
mod signing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::gate::Live;
use crate::gate::key_state;
use crate::types::environment::Environment;
use crate::types::key_state::KeyState;

pub use checkpoint::sign as sign_checkpoint;

/// How often a job that has not begun looks whether this node is current.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A job.
#[derive(Clone, Copy)]
enum Job {
    /// Writes last uses and counts.
    Observations,
    /// Signs where the audit's chains stand.
    Checkpoint,
    /// Makes, publishes and retires signing keys.
    Signing,
    /// Makes and drops the partitions of what grows.
    Partitions,
    /// Removes what is of no more use.
    Expire,
    /// Counts keys for metrics.
    Count,
}

impl Job {
    const ALL: [Self; 6] =
        [Self::Observations, Self::Checkpoint, Self::Signing, Self::Partitions, Self::Expire, Self::Count];

    const fn name(self) -> &'static str {
        match self {
            Self::Observations => "observations",
            Self::Checkpoint => checkpoint::NAME,
            Self::Signing => "signing_keys",
            Self::Partitions => "partitions",
            Self::Expire => "expire",
            Self::Count => "count",
        }
    }

    const fn period(self) -> Duration {
        match self {
            Self::Observations => Duration::from_secs(1),
            Self::Checkpoint => Duration::from_secs(10),
            Self::Signing | Self::Partitions | Self::Count => Duration::from_mins(1),
            Self::Expire => Duration::from_secs(30),
        }
    }

    async fn run(self, app: &App) -> anyhow::Result<()> {
        match self {
            Self::Observations => Ok(app.observations.flush(&app.db, app.live.now(), false).await?),
            Self::Checkpoint => checkpoint::run(app).await,
            Self::Signing => signing::run(app).await,
            Self::Partitions => partitions::run(app).await,
            Self::Expire => expire::run(app).await,
            Self::Count => count(app).await,
        }
    }
}

/// Starts all jobs. Each runs as soon as this node is current, then on its period, until `stop`.
///
/// At `stop`, open streams end too: nothing else would tell them, and the service waits for its requests.
pub fn start(app: &Arc<App>, tasks: &TaskTracker, stop: &CancellationToken) {
    let (feed, stopped) = (app.feed.clone(), stop.clone());
    tasks.spawn(async move {
        stopped.cancelled().await;
        feed.end_subscriptions();
    });
    for job in Job::ALL {
        let (app, stop) = (Arc::clone(app), stop.clone());
        tasks.spawn(async move {
            if stop.run_until_cancelled(current(&app)).await.is_none() {
                return;
            }
            loop {
                match job.run(&app).await {
                    Ok(()) => app.metrics.set_job_success(job.name(), app.live.now().seconds()),
                    Err(error) => tracing::warn!(job = job.name(), %error, "a job failed; it is tried again"),
                }
                if stop.run_until_cancelled(tokio::time::sleep(job.period())).await.is_none() {
                    return;
                }
            }
        });
    }
}

/// Waits until this node answers: what a job makes before must not be what other nodes cannot read.
async fn current(app: &App) {
    while app.live.answer(|_| ()).is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Runs every job once, now: after the service has started, so that nothing waits for a first period.
///
/// # Errors
///
/// One of them failed.
pub async fn run_all(app: &App) -> anyhow::Result<()> {
    for job in Job::ALL {
        job.run(app).await?;
    }
    Ok(())
}

/// Whether this transaction may do a job that only one node should do now.
async fn only_one(tx: &mut sqlx::PgConnection, job: &str) -> crate::db::Result<bool> {
    crate::db::try_lock(tx, &format!("job {job}")).await
}

/// Sets what is read from memory when metrics are asked for.
pub fn measure(app: &App) {
    let round = app.live.round();
    app.metrics.set_lease_remaining(round.remaining());
    let lag = crate::types::clock::BootInstant::now().since(round.sent);
    app.metrics.set_feed(u64::try_from(round.position.number).unwrap_or(0), lag);
    app.metrics.set_stream_subscribers(app.feed.subscribers());
    app.metrics.set_audit_queue_depth(app.recorder.waiting());
    let (idle, all) = (app.db.reads().num_idle(), app.db.reads().size());
    app.metrics.set_db_pool_connections("idle", u64::try_from(idle).unwrap_or(0));
    app.metrics.set_db_pool_connections("used", u64::from(all).saturating_sub(u64::try_from(idle).unwrap_or(0)));
}

/// Away from the threads that answer: a million keys take a while.
async fn count(app: &App) -> anyhow::Result<()> {
    let live = Arc::clone(&app.live);
    let counts = tokio::task::spawn_blocking(move || states(&live)).await?;
    for environment in [Environment::Prod, Environment::Dev] {
        for state in KeyState::ALL {
            let number = counts.get(&(environment, state)).copied().unwrap_or(0);
            app.metrics.set_keys(environment.as_str(), state.as_str(), number);
        }
    }
    Ok(())
}

/// How many keys there are of each environment and state.
fn states(live: &Live) -> HashMap<(Environment, KeyState), u64> {
    let (now, memory, settings) = (live.now(), live.memory(), live.settings.load());
    let mut counts = HashMap::new();
    for (_, key) in memory.keys.iter() {
        let state = key_state(&memory, &settings, key, now);
        *counts.entry((key.environment, state)).or_default() += 1;
    }
    counts
}
