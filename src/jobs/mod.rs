//! What happens without being asked: each job with its period. Most are done by one node at a time, which holds a lease; some
//! by each node for itself. Owns `jobs`.
//!
//! A job goes on where the one before it got to, in bounded batches, and may be killed at any point. Whether one is late is
//! found by whoever looks ([`look`]), never by the scheduler, which may not run at all.

mod audit_verify;
mod checkpoint;
mod count;
mod deliveries;
mod expire;
mod keys;
mod lease;
mod lateness;
mod partitions;
mod schedule;
mod signing;
mod status;
mod store;

use std::str::FromStr;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::app::App;
use crate::jobs::lease::Run;

pub use checkpoint::sign as sign_checkpoint;
pub use lateness::Watch;
pub use lease::Report;
pub use schedule::{run_all, run_now, start, watch};
pub use status::{LATE_AFTER_SECONDS, Status, late_of, look, measure, shared_jobs};

/// A job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Writes last uses and counts.
    Observations,
    /// Signs where the audit's chains stand.
    Checkpoint,
    /// Verifies the audit's chains.
    AuditVerify,
    /// Makes, publishes and retires signing keys.
    Signing,
    /// Makes and drops the partitions of what grows.
    Partitions,
    /// Removes what is of no more use.
    Expire,
    /// Tells of keys that end.
    Keys,
    /// Tells webhooks and owners what happened. Every node does: what each sends, it takes in the database.
    Deliveries,
    /// Counts keys for metrics.
    Count,
}

impl Job {
    /// Every job.
    pub const ALL: [Self; 9] = [
        Self::Observations,
        Self::Checkpoint,
        Self::AuditVerify,
        Self::Signing,
        Self::Partitions,
        Self::Expire,
        Self::Keys,
        Self::Deliveries,
        Self::Count,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observations => "observations",
            Self::Checkpoint => checkpoint::NAME,
            Self::AuditVerify => "audit_verify",
            Self::Signing => "signing_keys",
            Self::Partitions => "partitions",
            Self::Expire => "expire",
            Self::Keys => "keys",
            Self::Deliveries => "deliveries",
            Self::Count => "count",
        }
    }

    /// What it is for.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Observations => "Writes last uses and counts.",
            Self::Checkpoint => "Signs where the audit's chains stand.",
            Self::AuditVerify => "Reads the audit's chains, some entries at a time, and finds what was changed.",
            Self::Signing => "Makes, publishes and retires signing keys.",
            Self::Partitions => "Makes and drops the partitions of what grows.",
            Self::Expire => "Removes what is of no more use.",
            Self::Keys => "Tells of keys that are due, end soon or have ended.",
            Self::Deliveries => "Tells webhooks and owners what happened.",
            Self::Count => "Counts keys for metrics.",
        }
    }

    /// How often it runs.
    #[must_use]
    pub const fn period(self) -> Duration {
        match self {
            Self::Observations | Self::Deliveries => Duration::from_secs(1),
            Self::Checkpoint => Duration::from_secs(10),
            Self::Signing | Self::Partitions | Self::Keys | Self::AuditVerify | Self::Count => Duration::from_mins(1),
            Self::Expire => Duration::from_secs(30),
        }
    }

    /// Each node does it for itself: it is about what this node has in memory, or sends.
    #[must_use]
    pub const fn is_each_nodes(self) -> bool {
        matches!(self, Self::Observations | Self::Deliveries | Self::Count)
    }

    fn run<'a>(self, app: &'a App, run: &'a mut Run) -> BoxFuture<'a, anyhow::Result<()>> {
        match self {
            Self::Observations => Box::pin(count::flush(app, run)),
            Self::Checkpoint => Box::pin(checkpoint::run(app, run)),
            Self::AuditVerify => Box::pin(audit_verify::run(app, run)),
            Self::Signing => Box::pin(signing::run(app, run)),
            Self::Partitions => Box::pin(partitions::run(app, run)),
            Self::Expire => Box::pin(expire::run(app, run)),
            Self::Keys => Box::pin(keys::run(app, run)),
            Self::Deliveries => Box::pin(deliveries::run(app, run)),
            Self::Count => Box::pin(count::run(app, run)),
        }
    }
}

impl FromStr for Job {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|job| job.name() == name).ok_or("there is no such job")
    }
}

/// The names of the jobs of one node, for statements.
fn shared() -> Vec<String> {
    Job::ALL.into_iter().filter(|job| !job.is_each_nodes()).map(|job| job.name().to_owned()).collect()
}

/// Whether this transaction may do what only one may do at a time, also beside nodes of a release that knows no leases.
async fn only_one(tx: &mut sqlx::PgConnection, job: &str) -> crate::db::Result<bool> {
    crate::db::try_lock(tx, &format!("job {job}")).await
}
