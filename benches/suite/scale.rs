//! A million keys and a hundred thousand revocations in one node: how soon it is ready, what they weigh, and whether
//! questions take longer than with a thousand keys.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rand::RngExt;
use serde::Serialize;

use crate::hot::{PATH, Pace, median};
use crate::load::{Bodies, CONNECTIONS, Run, THREADS, Target, run};
use crate::process::{Guard, Node};
use crate::seed;
use crate::upkeep::{self, Upkeep};
use crate::world::{Asker, Machine, World};

/// Keys of the database that the big one is compared with.
pub(crate) const FEW: usize = 1_000;
/// More questions than a node answers in a second.
const QUESTIONS_A_SECOND: u64 = 150_000;
/// What was needed only while loading is given back by then.
const SETTLES_IN: Duration = Duration::from_secs(2);

/// Starts of a node. Memory in bytes, that of the last one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Start {
    pub(crate) keys: usize,
    pub(crate) revocations: usize,
    /// From the start of the process until it said that it was ready; the median.
    pub(crate) ready_seconds: f64,
    pub(crate) resident: u64,
    pub(crate) resident_most: u64,
}

/// Medians of pairs: a thousand keys, many keys.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Pair {
    pub(crate) revocations: usize,
    pub(crate) few_per_second: f64,
    pub(crate) few_cpu_micros: f64,
    pub(crate) many_per_second: f64,
    pub(crate) many_cpu_micros: f64,
    pub(crate) throughput_ratio: f64,
    pub(crate) cpu_ratio: f64,
    pub(crate) few_p99: f64,
    pub(crate) many_p99: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Scale {
    /// Of the two that are compared.
    pub(crate) keys: [usize; 2],
    pub(crate) starts: Vec<Start>,
    pub(crate) bytes_a_key: f64,
    pub(crate) bytes_a_revocation: f64,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) upkeep: Upkeep,
}

/// How many there are of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) keys: usize,
    pub(crate) revocations: usize,
}

/// A database with its server, and questions about all its keys.
pub(crate) struct Filled<'a> {
    pub(crate) world: World<'a>,
    asker: Asker,
    questions: PathBuf,
}

pub(crate) async fn measure(machine: &Machine, size: Size, pace: Pace) -> anyhow::Result<Scale> {
    crate::say(&format!("{} keys are written", size.keys));
    let few = Filled::new(machine, "few", FEW, pace).await?;
    let many = Filled::new(machine, "many", size.keys, pace).await?;
    let few_node = few.world.node().await?;
    let mut starts = vec![start(&few_node, FEW, 0).await?];
    let with_keys = begin(&many, (size.keys, 0), pace, &mut starts).await?;
    let mut pairs = vec![compare((&few, &few_node), (&many, &with_keys), 0, pace)?];
    with_keys.stop().await?;
    // Beside few keys, so that the revocations do not fit into what loading the keys has left free.
    let revoked = Filled::new(machine, "revoked", FEW, pace).await?;
    seed::revocations(&revoked.world, size.revocations).await?;
    begin(&revoked, (FEW, size.revocations), pace, &mut starts).await?.stop().await?;
    seed::revocations(&many.world, size.revocations).await?;
    let with_both = begin(&many, (size.keys, size.revocations), pace, &mut starts).await?;
    pairs.push(compare((&few, &few_node), (&many, &with_both), size.revocations, pace)?);
    with_both.stop().await?;
    few_node.stop().await?;
    let upkeep = upkeep::measure(&many, size.keys, pace).await?;
    for filled in [few, many, revoked] {
        filled.world.db.close().await;
    }
    // What a start holds beyond that with few keys and nothing revoked, shared among what it has more.
    let little = starts.first().map_or(0.0, |start| float(start.resident));
    let each = |number: usize, count: usize| {
        starts.get(number).map_or(f64::NAN, |start| (float(start.resident) - little) / float(count as u64))
    };
    let (bytes_a_key, bytes_a_revocation) = (each(1, size.keys - FEW), each(2, size.revocations));
    Ok(Scale { keys: [FEW, size.keys], starts, bytes_a_key, bytes_a_revocation, pairs, upkeep })
}

/// Starts a node as often as there are rounds; the last goes on.
async fn begin(
    on: &Filled<'_>,
    (keys, revocations): (usize, usize),
    pace: Pace,
    starts: &mut Vec<Start>,
) -> anyhow::Result<Node> {
    let mut ready = Vec::new();
    for _ in 1..pace.rounds {
        let node = on.world.node().await?;
        ready.push(node.ready_after.as_secs_f64());
        node.stop().await?;
    }
    let node = on.world.node().await?;
    let last = start(&node, keys, revocations).await?;
    let ready_seconds = median(ready.into_iter().chain([last.ready_seconds]));
    crate::say(&format!("{keys} keys, {revocations} revocations: ready in {ready_seconds:.2} s"));
    starts.push(Start { ready_seconds, ..last });
    Ok(node)
}

impl<'a> Filled<'a> {
    async fn new(machine: &'a Machine, name: &str, keys: usize, pace: Pace) -> anyhow::Result<Self> {
        let world = machine.world(name).await?;
        let node = world.node().await?;
        let operator = world.operator(&node).await?;
        let asker = world.asker(&node, &operator, "files").await?;
        node.stop().await?;
        let shown = seed::keys(&world, &asker.id, keys).await?;
        let questions = machine.folder.join(name);
        let each = QUESTIONS_A_SECOND * pace.run.as_secs() / u64::from(THREADS);
        for thread in 1..=THREADS {
            write(&questions.with_extension(thread.to_string()), &shown, each)?;
        }
        Ok(Self { world, asker, questions })
    }

    pub(crate) fn run(&self, guard: &Guard, node: &Node, time: Duration) -> anyhow::Result<Run> {
        let target = Target {
            process: &node.process,
            path: PATH,
            authorization: &self.asker.authorization,
            connections: CONNECTIONS,
        };
        run(guard, target, Bodies::Each(&self.questions), time)
    }
}

/// Questions about keys drawn at random.
fn write(path: &Path, keys: &[String], count: u64) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut random = rand::rng();
    for _ in 0..count {
        let key = keys.get(random.random_range(0..keys.len())).context("a key")?;
        writeln!(file, "token={key}")?;
    }
    Ok(file.flush()?)
}

async fn start(node: &Node, keys: usize, revocations: usize) -> anyhow::Result<Start> {
    tokio::time::sleep(SETTLES_IN).await;
    Ok(Start {
        keys,
        revocations,
        ready_seconds: node.ready_after.as_secs_f64(),
        resident: node.process.memory("VmRSS")?,
        resident_most: node.process.memory("VmHWM")?,
    })
}

fn compare(
    few: (&Filled<'_>, &Node),
    many: (&Filled<'_>, &Node),
    revocations: usize,
    pace: Pace,
) -> anyhow::Result<Pair> {
    let guard = &few.0.world.machine.guard;
    let mut pairs = Vec::new();
    for (filled, node) in [few, many] {
        filled.run(guard, node, Duration::from_secs(1))?;
    }
    for round in 1..=pace.rounds {
        crate::say(&format!("few keys, many keys; round {round} of {}", pace.rounds));
        pairs.push((few.0.run(guard, few.1, pace.run)?, many.0.run(guard, many.1, pace.run)?));
    }
    let of = |pick: &dyn Fn(&(Run, Run)) -> f64| median(pairs.iter().map(pick));
    Ok(Pair {
        revocations,
        few_per_second: of(&|pair| pair.0.per_second),
        few_cpu_micros: of(&|pair| pair.0.cpu_micros),
        many_per_second: of(&|pair| pair.1.per_second),
        many_cpu_micros: of(&|pair| pair.1.cpu_micros),
        throughput_ratio: of(&|pair| pair.1.per_second / pair.0.per_second),
        cpu_ratio: of(&|pair| pair.1.cpu_micros / pair.0.cpu_micros),
        few_p99: of(&|pair| float(pair.0.p99)),
        many_p99: of(&|pair| float(pair.1.p99)),
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}
