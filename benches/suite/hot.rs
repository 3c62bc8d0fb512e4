//! Introspection beside a bare axum route and a bare hyper route, in rounds: A B A B, and the medians count.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use mcp_authority::types::credential::{Credential, Kind};
use mcp_authority::types::environment::Environment;
use serde::Serialize;
use serde_json::json;

use crate::bare::Bare;
use crate::load::{Bodies, CONNECTIONS, Run, THREADS, Target, run};
use crate::process::{Measured, Node};
use crate::world::{Asker, World};

/// Path of every question, on the service and on the ceilings.
pub(crate) const PATH: &str = "/oauth/introspect";
/// Unseen tokens that are made for each second of a run: more than two cores can verify.
const UNSEEN_A_SECOND: u64 = 60_000;

/// How long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) rounds: usize,
    pub(crate) run: Duration,
}

/// What a credential's rows are called, and what the answer is.
struct Case {
    name: &'static str,
    body: String,
    active: bool,
    /// Run next to a bare axum route in each round, because a goal compares the two.
    paired: bool,
}

/// Medians over the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) per_second: f64,
    pub(crate) cpu_micros: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Of bare axum's, in the same pair.
    pub(crate) throughput_ratio: Option<f64>,
    pub(crate) cpu_ratio: Option<f64>,
    /// More than bare axum's, in the same pair, in microseconds.
    pub(crate) cpu_more: Option<f64>,
    pub(crate) runs: Vec<Run>,
}

/// What is asked about.
struct Stage<'a> {
    world: &'a World<'a>,
    node: &'a Node,
    asker: Asker,
    /// A session token; unseen ones are made like it.
    like: String,
    cases: Vec<Case>,
    axum: Measured,
    hyper: Measured,
}

/// The name of the row whose tokens are never seen before.
pub(crate) const UNSEEN: &str = "session token, unseen";

pub(crate) async fn measure(world: &World<'_>, node: &Node, operator: &str, pace: Pace) -> anyhow::Result<Vec<Row>> {
    let stage = Stage::new(world, node, operator).await?;
    let names = ["bare axum", "bare hyper"].into_iter().chain(stage.cases.iter().map(|case| case.name));
    let mut rows: Vec<(&'static str, Vec<Run>, Vec<Run>)> = names.map(|name| (name, Vec::new(), Vec::new())).collect();
    let mut keep = |name: &str, run: Run, beside: Option<Run>| {
        if let Some((_, runs, besides)) = rows.iter_mut().find(|(known, ..)| *known == name) {
            runs.push(run);
            besides.extend(beside);
        }
    };
    // Code and memory are warm before anything counts.
    for process in [&stage.axum, &stage.hyper, &node.process] {
        run(&world.machine.guard, stage.at(process), stage.first(), Duration::from_secs(1))?;
    }
    for round in 1..=pace.rounds {
        crate::say(&format!("introspection, round {round} of {}", pace.rounds));
        keep("bare hyper", run(&world.machine.guard, stage.at(&stage.hyper), stage.first(), pace.run)?, None);
        for case in &stage.cases {
            let beside = if case.paired {
                let beside = run(&world.machine.guard, stage.at(&stage.axum), stage.first(), pace.run)?;
                keep("bare axum", beside, None);
                Some(beside)
            } else {
                None
            };
            keep(case.name, stage.one(case, pace.run).await?, beside);
        }
    }
    stage.axum.kill()?;
    stage.hyper.kill()?;
    Ok(rows.into_iter().map(|(name, runs, besides)| Row::of(name, runs, &besides)).collect())
}

impl<'a> Stage<'a> {
    async fn new(world: &'a World<'a>, node: &'a Node, operator: &str) -> anyhow::Result<Self> {
        let asker = world.asker(node, operator, "files").await?;
        let agent = world.agent(node, operator).await?;
        let key = world.key(node, operator, &agent, &asker).await?;
        let lost = world.key(node, operator, &agent, &asker).await?;
        let (like, dead) = (world.session(node, &key, &asker).await?, world.session(node, &lost, &asker).await?);
        // It was good, and seen, before it was revoked.
        ensure!(world.ask(node, &asker, &dead).await?.starts_with(b"{\"active\":true"), "a new token is active");
        world.post(node, operator, &format!("/v1/keys/{}/revoke", lost.id), json!({})).await?;
        let unknown = Credential::generate(Kind::Key(Environment::Prod), b"000000000000");
        let case = |name, token: &str, active, paired| Case { name, body: format!("token={token}"), active, paired };
        let cases = vec![
            case("API key", &key.key, true, true),
            case("session token, seen", &like, true, true),
            case(UNSEEN, &like, true, true),
            case("API key, unknown", unknown.reveal(), false, false),
            case("API key, revoked", &lost.key, false, false),
            case("session token, revoked", &dead, false, false),
            case("garbage", &"garbage.".repeat(8), false, false),
        ];
        let reply = world.ask(node, &asker, &key.key).await?;
        ensure!(reply.starts_with(b"{\"active\":true"), "a new key is active");
        let bare = |bare| Measured::bare(&world.machine.guard, bare, &reply);
        let (axum, hyper) = (bare(Bare::Axum)?, bare(Bare::Hyper)?);
        Ok(Self { world, node, asker, like, cases, axum, hyper })
    }

    fn at<'b>(&'b self, process: &'b Measured) -> Target<'b> {
        Target { process, path: PATH, authorization: &self.asker.authorization, connections: CONNECTIONS }
    }

    /// The body that the ceilings get: that of the first case.
    fn first(&self) -> Bodies<'_> {
        Bodies::One(self.cases.first().map_or("", |case| &case.body))
    }

    /// A run of a case. Its answers are counted by the service itself: every one is the right one, or the run is none.
    async fn one(&self, case: &Case, time: Duration) -> anyhow::Result<Run> {
        let target = self.at(&self.node.process);
        let unseen = if case.name == UNSEEN { Some(self.unseen(time).await?) } else { None };
        let bodies = unseen.as_deref().map_or(Bodies::One(&case.body), Bodies::Each);
        let before = self.world.answered(self.node).await?;
        let run = run(&self.world.machine.guard, target, bodies, time)?;
        let after = self.world.answered(self.node).await?;
        let (all, active) = (after.0 - before.0, after.1 - before.1);
        // What was under way when wrk ended is answered, and not counted by it.
        ensure!(
            (run.requests..=run.requests + u64::from(CONNECTIONS)).contains(&all),
            "{}: {} replies, of which {all} are answers",
            case.name,
            run.requests
        );
        ensure!(active == if case.active { all } else { 0 }, "{}: {active} of {all} are active", case.name);
        Ok(run)
    }

    /// Files of new tokens, one for each thread of the load, for one run.
    async fn unseen(&self, time: Duration) -> anyhow::Result<PathBuf> {
        let path = self.world.machine.folder.join("tokens");
        let token = self.world.mint(&self.like).await?;
        let each = UNSEEN_A_SECOND * time.as_secs() / u64::from(THREADS);
        let write = |thread: u32| -> anyhow::Result<()> {
            let mut file = BufWriter::new(File::create(numbered(&path, thread))?);
            for _ in 0..each {
                writeln!(file, "token={}", token()?)?;
            }
            file.flush().context("the tokens")
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=THREADS).map(|thread| scope.spawn(move || write(thread))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("it ended"))?)
        })?;
        Ok(path)
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    path.with_extension(number.to_string())
}

impl Row {
    fn of(name: &'static str, runs: Vec<Run>, besides: &[Run]) -> Self {
        let all = |pick: &dyn Fn(&Run) -> f64| median(runs.iter().map(pick));
        let pairs = |pick: &dyn Fn(&Run, &Run) -> f64| {
            (!besides.is_empty()).then(|| median(runs.iter().zip(besides).map(|(run, beside)| pick(run, beside))))
        };
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a run of seconds are far below 2^52")]
        let micros = |pick: &dyn Fn(&Run) -> u64| all(&|run| pick(run) as f64);
        Self {
            name,
            per_second: all(&|run| run.per_second),
            cpu_micros: all(&|run| run.cpu_micros),
            p50: micros(&|run| run.p50),
            p99: micros(&|run| run.p99),
            p999: micros(&|run| run.p999),
            throughput_ratio: pairs(&|run, beside| run.per_second / beside.per_second),
            cpu_ratio: pairs(&|run, beside| run.cpu_micros / beside.cpu_micros),
            cpu_more: pairs(&|run, beside| run.cpu_micros - beside.cpu_micros),
            runs,
        }
    }
}

/// The middle one; of an even number the upper of the two.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
