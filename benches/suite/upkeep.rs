//! The job that tells of keys, over all keys of a node at once: what questions cost meanwhile, how long it takes, and what it
//! needs of memory.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;

use crate::hot::{Pace, median};
use crate::load::Run;
use crate::scale::{Filled, float};
use crate::seed;

/// Whoever is not through by then never will be.
const THROUGH_MAX: Duration = Duration::from_mins(20);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Medians of rounds in the job's first minute, and of as many after it. Its last part runs without load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Upkeep {
    pub(crate) keys: usize,
    /// From the start of the node until the last key was told of.
    pub(crate) seconds: f64,
    pub(crate) during: Questions,
    pub(crate) after: Questions,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Questions {
    pub(crate) per_second: f64,
    pub(crate) p99: f64,
    /// Of the node, in bytes, the most of all rounds.
    pub(crate) resident: u64,
}

impl Questions {
    fn of(runs: &[Run]) -> Self {
        Self {
            per_second: median(runs.iter().map(|run| run.per_second)),
            p99: median(runs.iter().map(|run| float(run.p99))),
            resident: runs.iter().map(|run| run.resident).max().unwrap_or(0),
        }
    }
}

/// All keys end in ten days: each is looked at, and each is told of.
pub(crate) async fn measure(many: &Filled<'_>, keys: usize, pace: Pace) -> anyhow::Result<Upkeep> {
    crate::say(&format!("{keys} keys are due; the job tells of each"));
    seed::ends_soon(&many.world).await?;
    let guard = &many.world.machine.guard;
    let node = many.world.node().await?;
    let began = Instant::now();
    let mut during = Vec::new();
    for _ in 0..pace.rounds {
        during.push(many.run(guard, &node, pace.run)?);
        ensure!(seed::told(&many.world).await? < keys, "the job was through before it could be seen");
    }
    while seed::told(&many.world).await? < keys {
        ensure!(began.elapsed() < THROUGH_MAX, "the job is not through");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut after = Vec::new();
    for _ in 0..pace.rounds {
        after.push(many.run(guard, &node, pace.run)?);
    }
    node.stop().await?;
    Ok(Upkeep { keys, seconds, during: Questions::of(&during), after: Questions::of(&after) })
}
