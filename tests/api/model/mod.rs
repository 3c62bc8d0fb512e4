//! The service against a small model of it: random stories, and after each step every secret and every token ever made is
//! shown to every server.
//!
//! `TEST_SEQUENCES` says how many stories are played (24 unless set, each of 40 steps), `TEST_SEED` repeats a run. A story that goes
//! wrong is made shorter before it is shown.

mod book;
mod changes;
mod compare;
mod play;
mod step;

use std::time::Instant;

use crate::support::{Node, Seeded, TestDb};
use play::Stage;
use step::Step;

/// Steps of a story.
const STEPS: usize = 40;
/// Of them the first, which only issue keys.
const OPENING: usize = 3;
/// Stories of one run, unless said: some seconds in a run of all tests. `TEST_SEQUENCES=500` is the long one.
const SEQUENCES: u64 = 24;
/// Replays that making a story shorter may take.
const REPLAYS_MAX: usize = 120;

#[tokio::test(flavor = "multi_thread")]
async fn any_interleaving_of_changes_agrees_with_a_small_model() {
    let seed = Seeded::from_env("TEST_SEED");
    let stories = Seeded::number("TEST_SEQUENCES").unwrap_or(SEQUENCES);
    let stories = usize::try_from(stories).expect("small");
    let began = Instant::now();
    // Most of a story is waiting until something holds everywhere, so several are told at once.
    let told = tokio::join!(
        lane(seed, (0..stories).step_by(4)),
        lane(seed, (1..stories).step_by(4)),
        lane(seed, (2..stories).step_by(4)),
        lane(seed, (3..stories).step_by(4)),
    );
    let compared = told.0 + told.1 + told.2 + told.3;
    println!("{stories} stories of {STEPS} steps, {compared} answers compared, {:?}", began.elapsed());
    assert!(compared >= stories * STEPS, "a story shows something");
}

/// Tells these stories one after another on a node and a database of their own.
async fn lane(seed: u64, numbers: impl Iterator<Item = usize>) -> usize {
    let db = TestDb::new().await;
    let mut node = Some(Node::start(&db).await);
    let mut compared = 0;
    for number in numbers {
        let steps = story(seed.wrapping_add(u64::try_from(number).expect("small")));
        match tell(&db, &mut node, &steps).await {
            Ok(more) => compared += more,
            Err(first) => {
                let (steps, error) = shorter(&db, &mut node, steps, first).await;
                panic!("story {number} of TEST_SEED={seed}: {error}\n{steps:#?}");
            }
        }
    }
    node.take().expect("a node").stop().await;
    compared
}

fn story(seed: u64) -> Vec<Step> {
    let mut random = Seeded::new(seed);
    let step = |number| if number < OPENING { Step::opening(&mut random) } else { Step::random(&mut random) };
    (0..STEPS).map(step).collect()
}

/// Plays a story on a stage of its own: nothing of the stories before it is touched, except that time has moved on.
async fn tell(db: &TestDb, node: &mut Option<Node>, steps: &[Step]) -> Result<usize, String> {
    let mut stage = Stage::new(db, node.take().expect("a node")).await;
    let mut outcome = Ok(());
    for (number, step) in steps.iter().enumerate() {
        outcome = stage.step(step).await.map_err(|error| format!("step {number}, {step:?}: {error}"));
        if outcome.is_err() {
            break;
        }
    }
    let asked = stage.asked;
    *node = Some(stage.node());
    outcome.map(|()| asked)
}

/// Leaves out what the failure does not need: first large pieces, then single steps.
async fn shorter(db: &TestDb, node: &mut Option<Node>, mut steps: Vec<Step>, mut error: String) -> (Vec<Step>, String) {
    let (mut piece, mut replays) = (steps.len() / 2, 0);
    while piece > 0 && replays < REPLAYS_MAX {
        let (mut at, before) = (0, steps.len());
        while at < steps.len() && replays < REPLAYS_MAX {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + piece).min(steps.len()));
            replays += 1;
            match tell(db, node, &fewer).await {
                Err(still) => (steps, error) = (fewer, still),
                Ok(_) => at += piece,
            }
        }
        if steps.len() == before || piece > 1 {
            piece /= 2;
        }
    }
    (steps, error)
}
