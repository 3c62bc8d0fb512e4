//! One run of a job: under which claim, what it did, and how its transactions end.
//!
//! A job of one node is claimed for a short while, and the claim is prolonged while it runs: a node that dies loses it. Every
//! transaction of the run proves the claim as its last statement, so nobody finishes what another has gone on with.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::db::{self, Db, Tx};
use crate::jobs::{Job, store};

/// How long a job stays with a node that says nothing, by the database's clock.
pub(super) const LEASE_SECONDS: i64 = 30;
/// How often a node says that it still runs the job.
const RENEW_EVERY: Duration = Duration::from_secs(8);
/// Batches of one step in one run. What is left is done by the next run.
const BATCHES_MAX: usize = 50;
/// Things that a report names; the counts are of all.
const EXAMPLES_MAX: usize = 20;

/// A number that only the last who took the job has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) run: i64,
}

/// The job was taken by another node, or the lease has ended.
#[derive(Debug, thiserror::Error)]
#[error("another node has gone on with it")]
pub(super) struct Lost;

/// What a run did; of a dry run, what it would do first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = JobReport)]
pub struct Report {
    /// How many of what. What is not there did not happen.
    pub counts: BTreeMap<String, u64>,
    /// Some of the things it was about, at most twenty.
    pub examples: Vec<String>,
    /// There is more to do than one run does.
    pub more: bool,
}

/// How a run ends its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Under a claim.
    Claimed(Claim),
    /// Each node for itself.
    Own,
    /// Everything is taken back.
    Dry,
}

/// One run of a job.
#[derive(Debug)]
pub(super) struct Run {
    job: Job,
    mode: Mode,
    /// The node stops, or the job is another's.
    stop: CancellationToken,
    /// Where the last run got to.
    pub(super) place: Option<Value>,
    pub(super) report: Report,
}

impl Run {
    pub(super) fn claimed(job: Job, claim: Claim, place: Option<Value>, stop: CancellationToken) -> Self {
        Self { job, mode: Mode::Claimed(claim), stop, place, report: Report::default() }
    }

    pub(super) fn own(job: Job) -> Self {
        Self { job, mode: Mode::Own, stop: CancellationToken::new(), place: None, report: Report::default() }
    }

    /// Changes nothing; goes on from where the last run got to.
    pub(super) fn dry(job: Job, place: Option<Value>) -> Self {
        Self { mode: Mode::Dry, place, ..Self::own(job) }
    }

    pub(super) fn is_dry(&self) -> bool {
        self.mode == Mode::Dry
    }

    /// Whether another batch may be begun. A dry run does one, which it takes back.
    pub(super) fn goes_on(&self) -> bool {
        !self.is_dry() && !self.stop.is_cancelled()
    }

    /// So many more of these.
    pub(super) fn count(&mut self, what: &str, number: u64) {
        if number > 0 {
            *self.report.counts.entry(what.to_owned()).or_default() += number;
        }
    }

    pub(super) fn example(&mut self, what: String) {
        if self.report.examples.len() < EXAMPLES_MAX {
            self.report.examples.push(what);
        }
    }

    /// Notes in this transaction where the job goes on.
    pub(super) async fn set_place(&mut self, tx: &mut PgConnection, place: Value) -> db::Result<()> {
        if let Mode::Claimed(claim) = self.mode {
            store::set_place(tx, self.job.name(), claim, &place).await?;
        }
        self.place = Some(place);
        Ok(())
    }

    /// Notes in this transaction what somebody must look at.
    pub(super) async fn set_warning(&self, tx: &mut PgConnection, warning: Option<&str>) -> db::Result<()> {
        match self.mode {
            Mode::Claimed(claim) => store::set_warning(tx, self.job.name(), claim, warning).await,
            Mode::Own | Mode::Dry => Ok(()),
        }
    }

    /// Ends a transaction: what it did holds, if the job is still this node's. In a dry run it is taken back.
    pub(super) async fn finish(&self, db: &Db, mut tx: Tx) -> anyhow::Result<()> {
        match self.mode {
            Mode::Dry => tx.rollback().await?,
            Mode::Own => {
                db.commit_change(tx).await?;
            }
            Mode::Claimed(claim) => {
                if !store::renew(&mut tx, self.job.name(), claim).await? {
                    return Err(Lost.into());
                }
                db.commit_change(tx).await?;
            }
        }
        Ok(())
    }

    /// Repeats a step, each time in a transaction of its own, until it finds nothing more to do. A dry run does it once and
    /// takes it back.
    pub(super) async fn batches(
        &mut self,
        db: &Db,
        what: &str,
        step: impl AsyncFn(&mut PgConnection) -> db::Result<u64>,
    ) -> anyhow::Result<u64> {
        let (mut all, mut through) = (0, false);
        for _ in 0..BATCHES_MAX {
            let mut tx = db.begin().await?;
            let done = step(&mut tx).await?;
            self.finish(db, tx).await?;
            all += done;
            through = done == 0;
            if done == 0 || !self.goes_on() {
                break;
            }
        }
        self.report.more |= !through;
        self.count(what, all);
        Ok(all)
    }

    /// Does the job, and keeps the claim meanwhile.
    pub(super) async fn go(&mut self, app: &App) -> anyhow::Result<()> {
        let (job, mode) = (self.job, self.mode);
        let Mode::Claimed(claim) = mode else { return job.run(app, self).await };
        let stop = self.stop.clone();
        let keeping = keep(app, job, claim, stop);
        let mut working = job.run(app, self);
        // A statement that may be committing is not cut off: the work ends with its batch, which proves the claim.
        tokio::select! {
            done = &mut working => done,
            () = keeping => working.await,
        }
    }
}

/// Prolongs the lease until it is lost, and says so then. A database that does not answer is asked again: without it nobody else takes the job,
/// and no transaction of this run ends well either.
async fn keep(app: &App, job: Job, claim: Claim, stop: CancellationToken) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let renewed = async { store::renew(&mut *app.db.reads().acquire().await?, job.name(), claim).await }.await;
        if let Ok(false) = renewed {
            stop.cancel();
            return;
        }
    }
}
