//! Tells webhooks and owners what happened. Each node does: what one sends it takes in the database.

use crate::app::App;
use crate::jobs::lease::Run;

pub(super) async fn run(app: &App, run: &mut Run) -> anyhow::Result<()> {
    let due = if run.is_dry() { app.deliverer.due().await? } else { app.deliverer.turn().await? };
    run.count("receivers", u64::try_from(due.len()).unwrap_or(0));
    Ok(())
}
