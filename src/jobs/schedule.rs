//! When jobs run: each node looks for jobs that are due, takes those that nobody holds, and runs its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::audit::{self, Entry};
use crate::db;
use crate::jobs::lease::{Report, Run};
use crate::jobs::store::{self, Claimed};
use crate::jobs::{Job, lateness, shared, status};
use crate::refusal::{Code, Refused};
use crate::types::caller::Caller;

/// How often a node looks for jobs that are due.
const TICK: Duration = Duration::from_millis(500);
/// Jobs of one node at a time, so that they never hold more than a third of its connections.
const AT_ONCE_MAX: usize = 4;
/// How often a job that has not begun looks whether this node is current, and one that waits for another whether it is free.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A job that failed is tried again after its period, and after this at the latest.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);
/// How long [`run_all`] waits for a job that runs already.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Starts all jobs, and the watch over them, until `stop`. They begin as soon as this node is current.
///
/// At `stop`, open streams end too: nothing else would tell them, and the service waits for its requests.
pub fn start(app: &Arc<App>, tasks: &TaskTracker, stop: &CancellationToken) {
    let (feed, stopped) = (app.feed.clone(), stop.clone());
    tasks.spawn(async move {
        stopped.cancelled().await;
        feed.end_subscriptions();
    });
    for job in Job::ALL.into_iter().filter(|job| job.is_each_nodes()) {
        let (app, stop) = (Arc::clone(app), stop.clone());
        tasks.spawn(async move { stop.run_until_cancelled(repeat(&app, job)).await });
    }
    let (own, tracker, stopped) = (Arc::clone(app), tasks.clone(), stop.clone());
    tasks.spawn(async move {
        let stop = stopped.clone();
        stopped.run_until_cancelled(schedule(own, tracker, stop)).await
    });
    watch(app, tasks, stop);
}

/// Starts only what tells that jobs are late: it does not hang on their scheduler.
pub fn watch(app: &Arc<App>, tasks: &TaskTracker, stop: &CancellationToken) {
    let (app, stop) = (Arc::clone(app), stop.clone());
    tasks.spawn(async move { stop.run_until_cancelled(lateness::watch(&app)).await });
}

/// Waits until this node answers: what a job makes before must not be what other nodes cannot read.
async fn current(app: &App) {
    while app.live.answer(|_| ()).is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A job that each node does for itself.
async fn repeat(app: &App, job: Job) {
    current(app).await;
    loop {
        own(app, job).await.ok();
        tokio::time::sleep(job.period()).await;
    }
}

/// Runs this node's own job, and remembers how it went.
async fn own(app: &App, job: Job) -> anyhow::Result<Report> {
    let mut run = Run::own(job);
    let done = run.go(app).await;
    let error = done.as_ref().err().map(|error| failed(job, error));
    app.upkeep.ended(job.name(), app.live.now(), error);
    done.map(|()| run.report)
}

async fn schedule(app: Arc<App>, tasks: TaskTracker, stop: CancellationToken) {
    current(&app).await;
    let (names, places) = (shared(), Arc::new(Semaphore::new(AT_ONCE_MAX)));
    let mut registered = false;
    let mut first = Some(TaskTracker::new());
    loop {
        if !registered {
            registered = store::register(app.db.reads(), &names, app.feed.node()).await.is_ok();
        }
        match due(&app, &names, places.available_permits()).await {
            Ok(claimed) => {
                for (job, claimed) in claimed {
                    let (app, places, stop) = (Arc::clone(&app), Arc::clone(&places), stop.clone());
                    let first = first.as_ref().map(TaskTracker::token);
                    tasks.spawn(async move {
                        let _place = places.acquire_owned().await;
                        run_claimed(&app, job, claimed, &stop).await.ok();
                        drop(first);
                    });
                }
                if let Some(first) = first.take() {
                    let app = Arc::clone(&app);
                    first.close();
                    tasks.spawn(async move {
                        first.wait().await;
                        app.upkeep.begun();
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "jobs that are due cannot be read; they are looked for again"),
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Takes the jobs that are due, at most as many as this node has room for.
async fn due(app: &App, names: &[String], room: usize) -> db::Result<Vec<(Job, Claimed)>> {
    if room == 0 || !store::any_due(app.db.reads(), names).await? {
        return Ok(Vec::new());
    }
    let mut tx = app.db.begin().await?;
    let claimed = store::claim_due(&mut tx, names, app.feed.node(), i64::try_from(room).unwrap_or(1)).await?;
    db::commit(tx).await?;
    Ok(claimed.into_iter().filter_map(|claimed| Some((claimed.name.parse().ok()?, claimed))).collect())
}

/// Runs a job that this node has taken, and gives it back. At `stop` it ends with the batch it is in.
async fn run_claimed(app: &App, job: Job, claimed: Claimed, stop: &CancellationToken) -> anyhow::Result<Report> {
    let mut run = Run::claimed(job, claimed.claim, claimed.place, stop.child_token());
    let done = run.go(app).await;
    let error = done.as_ref().err().map(|error| failed(job, error));
    let wait = match (&done, run.report.more) {
        (Ok(()), true) => Duration::ZERO,
        (Ok(()), false) => job.period(),
        (Err(_), _) => job.period().min(RETRY_AFTER_MAX),
    };
    let wait = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
    // If this fails the lease ends by itself, and the next run goes on from the place.
    if let Err(error) = store::end(app.db.reads(), (job.name(), claimed.claim), error.as_deref(), wait).await {
        tracing::warn!(job = job.name(), %error, "a job could not be given back; it is free when its lease ends");
    }
    done.map(|()| run.report)
}

/// Logs why a job failed, and gives it in words that may be shown.
fn failed(job: Job, error: &anyhow::Error) -> String {
    tracing::warn!(job = job.name(), error = format!("{error:#}"), "a job failed; it is tried again");
    status::shown(&format!("{error:#}"))
}

/// Runs a job now, on this node, due or not. In a dry run everything is taken back, and the report says what would be done
/// first. That somebody asked for it is in the audit. The inner error is why the job failed.
///
/// # Errors
///
/// It runs already, or the database cannot be asked.
pub async fn run_now(
    app: &App,
    by: &Caller,
    job: Job,
    dry: bool,
) -> Result<std::result::Result<Report, String>, Refused> {
    let mut tx = app.db.begin().await?;
    let shared = !job.is_each_nodes();
    let claimed = match (dry, shared) {
        (false, true) => Some(store::claim_one(&mut tx, job.name(), app.feed.node()).await?.ok_or_else(running)?),
        _ => None,
    };
    let place = if dry && shared { store::place(&mut tx, job.name()).await? } else { None };
    audit::append(&mut tx, &Entry::new(by, "job.run").on(job.name()).with("dry_run", dry)).await?;
    app.db.commit_change(tx).await?;
    let done = match claimed {
        Some(claimed) => run_claimed(app, job, claimed, &CancellationToken::new()).await,
        None if dry => {
            let mut run = Run::dry(job, place);
            run.go(app).await.map(|()| run.report)
        }
        None => own(app, job).await,
    };
    Ok(done.map_err(|error| status::shown(&format!("{error:#}"))))
}

fn running() -> Refused {
    Refused::new(Code::JobRunning, "The job runs already; `GET /v1/jobs` says on which node.")
}

/// Runs every job once, now: after the service has started, so that nothing waits for a first period. Waits for those that run
/// already.
///
/// # Errors
///
/// One of them failed.
pub async fn run_all(app: &App) -> anyhow::Result<()> {
    for job in Job::ALL {
        if job.is_each_nodes() {
            own(app, job).await?;
            continue;
        }
        let began = Instant::now();
        let claimed = loop {
            let mut tx = app.db.begin().await?;
            let claimed = store::claim_one(&mut tx, job.name(), app.feed.node()).await?;
            db::commit(tx).await?;
            if claimed.is_some() || began.elapsed() > WAIT_MAX {
                break claimed;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let claimed = claimed.with_context(|| format!("{} does not end elsewhere", job.name()))?;
        run_claimed(app, job, claimed, &CancellationToken::new()).await?;
    }
    Ok(())
}
