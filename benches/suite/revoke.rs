//! Revoking under load: how long the call takes, and whether any node answers "active" after it has returned.
//!
//! The load is open: questions and revocations start when their time has come, whatever is still under way. Half of the
//! questions are about what is being revoked or was revoked a moment ago; they go to all nodes in turn.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::{Client, RequestBuilder};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::TaskTracker;

use crate::process::Node;
use crate::world::{Asker, World};

pub(crate) const NODES: [usize; 3] = [1, 3, 5];
pub(crate) const QUESTIONS_A_SECOND: u32 = 2_000;
pub(crate) const REVOCATIONS_A_SECOND: u32 = 20;
/// Credentials that stay good, for the other half of the questions.
const LASTING: usize = 64;
/// How many of the newest revocations the questions are about.
const RECENT: usize = 8;
/// Credentials are made by so many callers at once.
const MAKERS: usize = 16;

/// Longer than the default lease and its margin (docs/consistency.md).
const JOINED: Duration = Duration::from_millis(2_500);

/// With so many nodes. Latencies in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) nodes: usize,
    pub(crate) revocations: usize,
    /// From sending the call until its reply was read.
    pub(crate) call_p50: f64,
    pub(crate) call_p99: f64,
    pub(crate) call_max: f64,
    /// From sending the call until every node, asked after the reply was read, had said "not active".
    pub(crate) refused_p50: f64,
    pub(crate) refused_p99: f64,
    pub(crate) questions: usize,
    /// Of questions, from the moment at which they were due.
    pub(crate) question_p50: f64,
    pub(crate) question_p99: f64,
    /// Questions that no node answered, because it could not prove that it was current.
    pub(crate) unanswered: usize,
    /// Sent after the reply was read, and answered "active". There may be none.
    pub(crate) violations: usize,
    /// Processor time of all nodes together, in percent of one core.
    pub(crate) nodes_cpu_percent: f64,
}

/// Something that can be revoked.
struct Credential {
    token: String,
    /// What the call says.
    body: Value,
    /// The reply of the call was read.
    dead: AtomicBool,
}

/// What the load shares.
struct Stage {
    client: Client,
    nodes: Vec<String>,
    asker: Asker,
    operator: String,
    lasting: Vec<String>,
    doomed: Vec<Credential>,
    /// How many of the doomed were begun to be revoked.
    begun: AtomicUsize,
    unanswered: AtomicUsize,
    violations: AtomicUsize,
    calls: Mutex<Vec<Duration>>,
    refused: Mutex<Vec<Duration>>,
    questions: Mutex<Vec<Duration>>,
    failed: Mutex<Option<anyhow::Error>>,
}

pub(crate) async fn measure(
    world: &World<'_>,
    first: Node,
    operator: &str,
    time: Duration,
) -> anyhow::Result<Vec<Row>> {
    world.machine.settle().await?;
    let (mut nodes, mut rows) = (vec![first], Vec::new());
    for wanted in NODES {
        while nodes.len() < wanted {
            nodes.push(world.node().await?);
        }
        // A node that has just joined waits a whole lease at each revocation: it has not watched the others for long enough.
        sleep(JOINED).await;
        crate::say(&format!("revocations, {wanted} nodes"));
        rows.push(with(world, &nodes, operator, time).await?);
    }
    for node in nodes {
        node.stop().await?;
    }
    Ok(rows)
}

async fn with(world: &World<'_>, nodes: &[Node], operator: &str, time: Duration) -> anyhow::Result<Row> {
    let stage = Arc::new(Stage::new(world, nodes, operator, time).await?);
    let cpu = || nodes.iter().map(|node| node.process.cpu()).sum::<anyhow::Result<Duration>>();
    let before = cpu()?;
    let tasks = TaskTracker::new();
    let (began, mut question, mut revocation) = (Instant::now(), 0, 0);
    while began.elapsed() < time {
        let asked = Duration::from_secs(1) / QUESTIONS_A_SECOND * question;
        let revoked = Duration::from_secs(1) / REVOCATIONS_A_SECOND * revocation;
        let due = began + asked.min(revoked);
        sleep_until(due).await;
        let stage = Arc::clone(&stage);
        if asked <= revoked {
            tasks.spawn(async move { stage.note(stage.question(question as usize, due).await) });
            question += 1;
        } else {
            tasks.spawn(async move { stage.note(stage.revoke(revocation as usize).await) });
            revocation += 1;
        }
    }
    let lasted = began.elapsed();
    tasks.close();
    tasks.wait().await;
    let cpu = cpu()?.saturating_sub(before);
    let stage = Arc::into_inner(stage).context("all tasks have ended")?;
    stage.row(cpu.as_secs_f64() / lasted.as_secs_f64() * 100.0)
}

impl Stage {
    async fn new(world: &World<'_>, nodes: &[Node], operator: &str, time: Duration) -> anyhow::Result<Self> {
        let first = nodes.first().context("a node")?;
        let asker = world.asker(first, operator, &format!("mail{}", nodes.len())).await?;
        let agent = world.agent(first, operator).await?;
        let doomed = usize::try_from(time.as_secs())? * REVOCATIONS_A_SECOND as usize + 1;
        let make = async |number: usize| -> anyhow::Result<Credential> {
            let key = world.key(first, operator, &agent, &asker).await?;
            // Keys and session tokens in turn.
            let (token, body) = if number.is_multiple_of(2) {
                (key.key, json!({"kind": "key", "id": key.id}))
            } else {
                let token = world.session(first, &key, &asker).await?;
                let id = crate::world::claims(&token)?.jti;
                (token, json!({"kind": "token", "id": id}))
            };
            Ok(Credential { token, body, dead: AtomicBool::new(false) })
        };
        let mut credentials = Vec::with_capacity(doomed + LASTING);
        for from in (0..doomed + LASTING).step_by(MAKERS) {
            let batch = (from..(from + MAKERS).min(doomed + LASTING)).map(&make);
            credentials.extend(futures_util::future::try_join_all(batch).await?);
        }
        let lasting = credentials.split_off(doomed).into_iter().map(|credential| credential.token).collect();
        Ok(Self {
            client: world.machine.client.clone(),
            nodes: nodes.iter().map(|node| node.process.url("")).collect(),
            asker,
            operator: operator.to_owned(),
            lasting,
            doomed: credentials,
            begun: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            violations: AtomicUsize::new(0),
            calls: Mutex::default(),
            refused: Mutex::default(),
            questions: Mutex::default(),
            failed: Mutex::default(),
        })
    }

    /// A question of the load.
    async fn question(&self, number: usize, due: Instant) -> anyhow::Result<()> {
        let begun = self.begun.load(Ordering::SeqCst);
        // The one that comes next is among them: questions about it are under way when it is revoked.
        let recent = number
            .is_multiple_of(2)
            .then(|| self.doomed.get((begun + 1).saturating_sub(number / 2 % RECENT + 1)))
            .flatten();
        if let Some(credential) = recent {
            self.ask(number, credential).await?;
        } else {
            let token = self.lasting.get(number / 2 % LASTING).context("a token")?;
            let active = self.active(number, token).await?;
            ensure!(active != Some(false), "a good credential was refused");
        }
        keep(&self.questions, due.elapsed());
        Ok(())
    }

    /// Asks about something that is or will be revoked. True when it was refused.
    async fn ask(&self, node: usize, credential: &Credential) -> anyhow::Result<bool> {
        let dead = credential.dead.load(Ordering::SeqCst);
        let active = self.active(node, &credential.token).await?;
        if dead && active == Some(true) {
            self.violations.fetch_add(1, Ordering::SeqCst);
        }
        Ok(active == Some(false))
    }

    /// What a node says; nothing when it cannot prove that it is current.
    async fn active(&self, node: usize, token: &str) -> anyhow::Result<Option<bool>> {
        let request = self.at(node, "/oauth/introspect")?.header("Authorization", &self.asker.authorization);
        let reply = request.form(&[("token", token)]).send().await?;
        if reply.status().as_u16() == 503 {
            self.unanswered.fetch_add(1, Ordering::SeqCst);
            return Ok(None);
        }
        let body = reply.error_for_status()?.bytes().await?;
        Ok(Some(body.starts_with(b"{\"active\":true")))
    }

    async fn revoke(&self, number: usize) -> anyhow::Result<()> {
        let credential = self.doomed.get(number).context("something to revoke")?;
        self.begun.store(number, Ordering::SeqCst);
        let began = Instant::now();
        let request = self.at(number, "/v1/revocations")?.bearer_auth(&self.operator).json(&credential.body);
        let reply: Value = request.send().await?.error_for_status()?.json().await?;
        let took = began.elapsed();
        let complete = reply.pointer("/enforced/complete").and_then(Value::as_bool);
        ensure!(complete == Some(true), "a revocation was not enforced everywhere: {reply}");
        credential.dead.store(true, Ordering::SeqCst);
        keep(&self.calls, took);
        let probes = (0..self.nodes.len()).map(|node| self.ask(node, credential));
        let refused = futures_util::future::try_join_all(probes).await?;
        if refused.into_iter().all(|refused| refused) {
            keep(&self.refused, began.elapsed());
        }
        Ok(())
    }

    fn at(&self, node: usize, path: &str) -> anyhow::Result<RequestBuilder> {
        let node = self.nodes.get(node % self.nodes.len()).context("a node")?;
        Ok(self.client.post(format!("{node}{path}")))
    }

    fn note(&self, done: anyhow::Result<()>) {
        if let Err(error) = done {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    fn row(self, nodes_cpu_percent: f64) -> anyhow::Result<Row> {
        if let Some(error) = self.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let (calls, refused, questions) = (sorted(self.calls), sorted(self.refused), sorted(self.questions));
        Ok(Row {
            nodes: self.nodes.len(),
            revocations: calls.len(),
            call_p50: quantile(&calls, 0.5),
            call_p99: quantile(&calls, 0.99),
            call_max: quantile(&calls, 1.0),
            refused_p50: quantile(&refused, 0.5),
            refused_p99: quantile(&refused, 0.99),
            questions: questions.len(),
            question_p50: quantile(&questions, 0.5),
            question_p99: quantile(&questions, 0.99),
            unanswered: self.unanswered.into_inner(),
            violations: self.violations.into_inner(),
            nodes_cpu_percent,
        })
    }
}

fn keep(list: &Mutex<Vec<Duration>>, value: Duration) {
    list.lock().unwrap_or_else(PoisonError::into_inner).push(value);
}

fn sorted(list: Mutex<Vec<Duration>>) -> Vec<Duration> {
    let mut list = list.into_inner().unwrap_or_else(PoisonError::into_inner);
    list.sort_unstable();
    list
}

/// The value that this share of all does not exceed, in milliseconds.
fn quantile(sorted: &[Duration], share: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into a list of some thousand"
    )]
    let index = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(index).map_or(f64::NAN, |value| value.as_secs_f64() * 1e3)
}
