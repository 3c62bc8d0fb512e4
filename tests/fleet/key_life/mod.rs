//! Two years in the life of many keys: a day a step, on a node without any job and on processes that are killed at random and whose
//! clocks are off. Keys are rotated, rotate themselves, lose answers, are taken back, finished, switched off and revoked; a model
//! says what must work. No secret works past its end, none ends before its overlap does, none is lost. The job that tells of them runs on
//! most days, is killed on some and runs twice at once on others: each notice is told once.
//!
//! `TEST_KEYS` is how many keys (2,000 unless set), `TEST_PROCESSES` how many processes beside the node (1), `TEST_SEED` repeats a run.

mod model;
mod notices;
mod plays;
mod world;

use std::time::Instant;

use crate::support::Seeded;
use world::Simulation;

const KEYS: u64 = 2_000;
const DAYS: usize = 730;
/// Days between two looks at the processes, which see the moved clock only with their next round.
const PROCESSES_EVERY: usize = 25;

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_19_in_two_years_no_key_lives_too_long_or_dies_too_early_and_no_secret_is_lost() {
    let seed = Seeded::from_env("TEST_SEED");
    let keys = usize::try_from(Seeded::number("TEST_KEYS").unwrap_or(KEYS)).expect("small");
    let processes = usize::try_from(Seeded::number("TEST_PROCESSES").unwrap_or(1)).expect("small");
    let began = Instant::now();
    let mut simulation = Simulation::start(seed, keys, processes).await;
    println!("{keys} keys are there after {:?}", began.elapsed());
    for day in 1..=DAYS {
        simulation.next_day().await;
        simulation.live_a_day().await;
        simulation.look_at_the_node();
        simulation.tell().await;
        if day % PROCESSES_EVERY == 0 {
            simulation.look_at_the_processes().await;
        }
        if simulation.seeded.below(DAYS / 3) == 0 {
            simulation.restart_the_node().await;
        }
    }
    simulation.compare_all().await;
    let tally = simulation.finish().await;
    println!("{keys} keys, {DAYS} days, seed {seed}: {tally:?} in {:?}", began.elapsed());
    tally.report(keys, processes, seed, began.elapsed());
    assert!(tally.covers(), "the run did not meet everything it is for: {tally:?}");
}
