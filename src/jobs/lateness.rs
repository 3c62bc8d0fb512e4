//! Tells once that a job is late, and once that it is no longer: in the audit and to webhooks. Each node watches, also one whose
//! scheduler does not run; the first to see it tells.

use std::collections::HashSet;
use std::time::Duration;

use crate::app::App;
use crate::audit::{self, Entry};
use crate::db;
use crate::jobs::status::{Status, shared_jobs};
use crate::jobs::store;
use crate::types::caller::Caller;
use crate::webhooks::{self, Event, EventType};

/// How often a node looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a node saw when it last looked.
#[derive(Debug, Default)]
pub struct Watch {
    late: HashSet<String>,
}

pub(super) async fn watch(app: &App) {
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Err(error) = watch.look(app).await {
            tracing::debug!(%error, "whether jobs are late cannot be said now");
        }
    }
}

impl Watch {
    /// Looks, and tells what changed. A job must be late twice in a row: after an outage of the database, or when a service that
    /// was down starts, all jobs are behind for a moment.
    ///
    /// # Errors
    ///
    /// The database cannot be asked; it is told later.
    pub async fn look(&mut self, app: &App) -> db::Result<()> {
        let jobs = shared_jobs(&mut *app.db.reads().acquire().await?).await?;
        for job in &jobs {
            let seen_before = self.late.contains(&job.name);
            if (job.late && seen_before && !job.told_late) || (!job.late && job.told_late) {
                tell(app, job).await?;
            }
        }
        self.late = jobs.into_iter().filter(|job| job.late).map(|job| job.name).collect();
        Ok(())
    }
}

async fn tell(app: &App, job: &Status) -> db::Result<()> {
    let mut tx = app.db.begin().await?;
    if !store::set_late(&mut tx, &job.name, job.late).await? {
        return Ok(());
    }
    let action = if job.late { "job.late" } else { "job.recovered" };
    let entry =
        Entry::new(&Caller::nobody("system".to_owned()), action).on(&job.name).with("lag_seconds", job.lag_seconds);
    audit::append(&mut tx, &entry).await?;
    let kind = if job.late { EventType::JobLate } else { EventType::JobRecovered };
    let event = Event::new(kind, None).about(&job.name).with("lag_seconds", job.lag_seconds);
    webhooks::note(&mut tx, &event).await?;
    app.db.commit_change(tx).await?;
    if job.late {
        tracing::error!(job = job.name, lag_seconds = job.lag_seconds, "a job is late");
    } else {
        tracing::info!(job = job.name, "a job that was late has succeeded");
    }
    Ok(())
}
