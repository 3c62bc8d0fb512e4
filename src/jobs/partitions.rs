//! Partitions of what grows: made ahead of time, dropped when all in them is over. Each in a transaction of its own that
//! waits for nobody long: what does not succeed now is done by the next run.

use std::time::Duration;

use crate::app::App;
use crate::db::partitions::{self, DROPPED_PER_RUN_MAX, Table};
use crate::feed;
use crate::jobs::lease::Run;
use crate::sessions;
use crate::types::clock::Timestamp;

const NAME: &str = "partitions";
/// Rows of sessions are kept this long after their end, so that lists can show what expired.
const SESSIONS_KEPT: Duration = Duration::from_hours(24);

/// Before when a session must have ended for its row to go.
pub(super) fn sessions_before(app: &App) -> Timestamp {
    Timestamp::from_micros(app.live.now().micros() - i64::try_from(SESSIONS_KEPT.as_micros()).unwrap_or(0))
}

pub(super) async fn run(app: &App, run: &mut Run) -> anyhow::Result<()> {
    let mut failed = None;
    // One table that is held does not keep the others waiting.
    for table in Table::ALL {
        if let Err(error) = ahead(app, run, table).await {
            failed = Some(error);
        }
        if let Err(error) = drop_spent(app, run, table).await {
            failed = Some(error);
        }
        let caught = partitions::caught(&mut *app.db.reads().acquire().await?, table).await?;
        app.metrics.set_rows_without_partition(table.name(), u64::try_from(caught).unwrap_or(0));
    }
    failed.map_or(Ok(()), Err)
}

async fn ahead(app: &App, run: &mut Run, table: Table) -> anyhow::Result<()> {
    let mut tx = partitions::begin(&app.db).await?;
    if !super::only_one(&mut tx, NAME).await? {
        return Ok(());
    }
    let made = partitions::ahead(&mut tx, table).await?;
    run.finish(&app.db, tx).await?;
    run.count("partitions_made", u64::try_from(made).unwrap_or(0));
    if made > 0 && !run.is_dry() {
        tracing::info!(table = table.name(), made, "partitions were made");
    }
    Ok(())
}

async fn drop_spent(app: &App, run: &mut Run, table: Table) -> anyhow::Result<()> {
    for _ in 0..DROPPED_PER_RUN_MAX {
        if !drop_oldest(app, run, table).await? {
            break;
        }
        run.count("partitions_dropped", 1);
        run.example(format!("the oldest of {}", table.name()));
        if !run.goes_on() {
            break;
        }
        tracing::info!(table = table.name(), "what was over was removed");
    }
    Ok(())
}

async fn drop_oldest(app: &App, run: &Run, table: Table) -> anyhow::Result<bool> {
    if table == Table::Audit {
        return super::checkpoint::remove_oldest(app, run).await;
    }
    let mut tx = partitions::begin(&app.db).await?;
    if !super::only_one(&mut tx, NAME).await? {
        return Ok(false);
    }
    let dropped = match table {
        Table::Sessions => sessions::drop_spent(&mut tx, sessions_before(app)).await?,
        Table::Feed => feed::drop_spent(&mut tx).await?,
        Table::Audit => false,
    };
    run.finish(&app.db, tx).await?;
    Ok(dropped)
}
