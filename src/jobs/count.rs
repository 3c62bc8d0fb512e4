//! What each node does for itself: it writes what it has seen, and counts the keys it knows for its metrics.

use std::collections::HashMap;
use std::sync::Arc;

use crate::app::App;
use crate::gate::{Live, key_state};
use crate::jobs::lease::Run;
use crate::types::environment::Environment;
use crate::types::key_state::KeyState;

/// Writes last uses and counts.
pub(super) async fn flush(app: &App, run: &mut Run) -> anyhow::Result<()> {
    run.count("waiting", app.observations.waiting());
    if !run.is_dry() {
        app.observations.flush(&app.db, app.live.now(), false).await?;
    }
    Ok(())
}

/// Away from the threads that answer: a million keys take a while.
pub(super) async fn run(app: &App, run: &mut Run) -> anyhow::Result<()> {
    let live = Arc::clone(&app.live);
    let counts = tokio::task::spawn_blocking(move || states(&live)).await?;
    for environment in [Environment::Prod, Environment::Dev] {
        for state in KeyState::ALL {
            let number = counts.get(&(environment, state)).copied().unwrap_or(0);
            run.count("keys", number);
            if !run.is_dry() {
                app.metrics.set_keys(environment.as_str(), state.as_str(), number);
            }
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
