//! How the jobs stand: computed anew by whoever asks, from the database's clock and from what this node does for itself.

use std::time::Duration;

use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::app::App;
use crate::db;
use crate::jobs::{Job, shared, store};
use crate::types::clock::{BootInstant, Timestamp};
use crate::types::redacted::without_secrets;

/// A job is late when it is behind its period for longer: what waits for its turn or is tried again is not.
pub const LATE_AFTER_SECONDS: i64 = 60;
/// How long the database may take when metrics are asked for.
const MEASURE_SECONDS_MAX: Duration = Duration::from_secs(1);
/// What is kept of an error; the log has all of it.
const ERROR_CHARS_MAX: usize = 500;

/// A job, and how it stands.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Job)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// How often it runs.
    pub period_seconds: i64,
    /// Each node does it for itself: this is how the node stands that answers.
    pub each_node: bool,
    /// When it last succeeded; absent: never.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<OffsetDateTime>,
    /// When it is due.
    #[serde(with = "time::serde::rfc3339")]
    pub next_run_at: OffsetDateTime,
    /// How long it has been due without success; 0: it is not behind its period.
    pub lag_seconds: i64,
    /// It is behind for longer than a minute.
    pub late: bool,
    /// The node that runs it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_on: Option<String>,
    /// Why the last run failed; absent: it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What it found that somebody must look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Its lateness has been told.
    #[serde(skip)]
    pub(super) told_late: bool,
}

/// All jobs, in their order.
///
/// # Errors
///
/// The database cannot answer.
pub async fn look(app: &App) -> db::Result<Vec<Status>> {
    let mut shared = shared_jobs(&mut *app.db.reads().acquire().await?).await?;
    let mut all = Vec::with_capacity(Job::ALL.len());
    for job in Job::ALL {
        if job.is_each_nodes() {
            all.push(own(app, job));
        } else if let Some(at) = shared.iter().position(|status| status.name == job.name()) {
            all.push(shared.swap_remove(at));
        }
    }
    Ok(all)
}

/// Why the service is degraded, one sentence each: jobs that are late, and what jobs have found.
#[must_use]
pub fn late_of(jobs: &[Status]) -> Vec<String> {
    let late = jobs.iter().filter(|job| job.late);
    let late = late.map(|job| format!("the job {} is late by {} s", job.name, job.lag_seconds));
    let found = jobs.iter().filter_map(|job| Some(format!("the job {} found: {}", job.name, job.warning.as_ref()?)));
    late.chain(found).collect()
}

/// The jobs of one node, as the database knows them.
///
/// # Errors
///
/// The database cannot answer.
pub async fn shared_jobs(connection: &mut PgConnection) -> db::Result<Vec<Status>> {
    let names = shared();
    let periods: Vec<i64> = names.iter().filter_map(|name| name.parse().ok()).map(seconds).collect();
    let rows = store::look(connection, &names, &periods).await?;
    Ok(rows.into_iter().filter_map(|row| Some(of_row(row.name.parse().ok()?, row))).collect())
}

fn of_row(job: Job, row: store::Row) -> Status {
    Status {
        last_success_at: row.last_success_at,
        next_run_at: row.next_run_at,
        lag_seconds: row.lag_seconds,
        late: row.lag_seconds > LATE_AFTER_SECONDS,
        running_on: row.holder.map(|node| node.to_string()),
        last_error: row.last_error,
        warning: row.warning,
        told_late: row.told_late,
        ..Status::new(job)
    }
}

/// A job that this node does for itself. It is behind by the clock of this machine: nobody else can say it.
fn own(app: &App, job: Job) -> Status {
    let (last, began) = (app.upkeep.last(job.name()), app.upkeep.started());
    let since = last.as_ref().and_then(|last| last.success).map_or(began, |(at, _)| at);
    let behind = BootInstant::now().since(since).saturating_sub(job.period());
    let lag_seconds = i64::try_from(behind.as_secs()).unwrap_or(i64::MAX);
    let success = last.as_ref().and_then(|last| last.success).map(|(_, at)| at);
    Status {
        last_success_at: success.map(Timestamp::to_utc),
        next_run_at: success.unwrap_or_else(|| app.live.now()).plus(job.period()).to_utc(),
        lag_seconds,
        late: lag_seconds > LATE_AFTER_SECONDS,
        last_error: last.and_then(|last| last.error),
        ..Status::new(job)
    }
}

impl Status {
    fn new(job: Job) -> Self {
        Self {
            name: job.name().to_owned(),
            description: job.description().to_owned(),
            period_seconds: seconds(job),
            each_node: job.is_each_nodes(),
            last_success_at: None,
            next_run_at: OffsetDateTime::UNIX_EPOCH,
            lag_seconds: 0,
            late: false,
            running_on: None,
            last_error: None,
            warning: None,
            told_late: false,
        }
    }
}

fn seconds(job: Job) -> i64 {
    i64::try_from(job.period().as_secs()).unwrap_or(i64::MAX)
}

/// An error in words that may be kept and shown: short, and without anything as long as a credential.
pub(super) fn shown(error: &str) -> String {
    without_secrets(error).chars().take(ERROR_CHARS_MAX).collect()
}

/// Sets what is read when metrics are asked for. Without the database the figures of the jobs stay as they were: alarms go by
/// the time of the last success.
pub async fn measure(app: &App) {
    let round = app.live.round();
    app.metrics.set_lease_remaining(round.remaining());
    let lag = BootInstant::now().since(round.sent);
    app.metrics.set_feed(u64::try_from(round.position.number).unwrap_or(0), lag);
    app.metrics.set_stream_subscribers(app.feed.subscribers());
    app.metrics.set_audit_queue_depth(app.recorder.waiting());
    let (idle, all) = (app.db.reads().num_idle(), app.db.reads().size());
    app.metrics.set_db_pool_connections("idle", u64::try_from(idle).unwrap_or(0));
    app.metrics.set_db_pool_connections("used", u64::from(all).saturating_sub(u64::try_from(idle).unwrap_or(0)));
    let Ok(Ok(jobs)) = tokio::time::timeout(MEASURE_SECONDS_MAX, look(app)).await else { return };
    for status in jobs {
        let Ok(job) = status.name.parse::<Job>() else { continue };
        app.metrics.set_job_lag(job.name(), status.lag_seconds);
        if let Some(at) = status.last_success_at {
            app.metrics.set_job_success(job.name(), at.unix_timestamp());
        }
        if job == Job::AuditVerify {
            app.metrics.set_audit_broken(status.warning.is_some());
        }
    }
}
