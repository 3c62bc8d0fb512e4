//! The service that the simulation plays with.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use mcp_authority::gate::{Asker, Question, Verdict, introspect};
use mcp_authority::keys;
use mcp_authority::keys::notices::{self, Notice, Reminders};
use mcp_authority::settings;
use mcp_authority::types::caller::Caller;
use mcp_authority::types::id::ServerId;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::model::{DAY, Key, OVERLAP, SECOND};
use super::notices::Told;
use super::plays::{Event, Tally, any, happen, put};
use crate::fleet::{Said, Without, ask, client};
use crate::process::Process;
use crate::support::{Node, Seeded, Server, TestDb};

/// Changes under way at once.
const AT_ONCE: usize = 8;
/// Keys that are asked about each day beside those that changed.
const LOOKED_AT: usize = 40;
/// The same of a process: each is a request.
const ASKED: usize = 10;
/// Versions that one batch of the job looks at.
const TOLD_AT_ONCE: usize = 10;
/// One key of so many renews itself.
const RENEWING: usize = 10;
/// Days in which nothing else happens to a key, on average.
const QUIET_DAYS: usize = 500;
/// A node has applied a change, and a process has seen the time, within this.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Simulation {
    pub seeded: Seeded,
    db: TestDb,
    clock: PgConnection,
    days: i64,
    node: Node,
    processes: Vec<Process>,
    server: Server,
    server_id: ServerId,
    keys: Vec<Key>,
    /// Where each key stands in `keys`.
    places: HashMap<String, usize>,
    changed: Vec<usize>,
    tally: Tally,
    _off: Without,
}

impl Simulation {
    pub async fn start(seed: u64, count: usize, processes: usize) -> Self {
        let off = Without::these(&[]).await;
        let db = TestDb::new().await;
        let node = Node::start_without_jobs(&db).await;
        let operator = node.operator().await;
        let server = operator.server(&node).await;
        let agent = operator.agent(&node).await;
        let server_id = server.id.parse().expect("an id");
        let mut seeded = Seeded::new(seed);
        let policy = json!({"key_policies": {"prod": {"overlap_seconds": OVERLAP / SECOND}}});
        operator.patch(&node, "/v1/settings", policy).await.enforced();
        let plans: Vec<(i64, bool)> =
            (0..count).map(|_| (*seeded.pick(&[30, 60, 90]), seeded.below(RENEWING) == 0)).collect();
        let made = put(&db, &node, (&agent, &server.id), &plans).await;
        let clock = db.connection().await;
        let children = (0..processes).map(|_| Process::start(&db.options, &[])).collect();
        let mut simulation = Self {
            seeded,
            db,
            clock,
            days: 0,
            node,
            processes: children,
            server,
            server_id,
            places: made.iter().enumerate().map(|(at, key)| (key.id.clone(), at)).collect(),
            keys: made,
            changed: (0..count).collect(),
            tally: Tally::default(),
            _off: off,
        };
        simulation.processes_are_ready().await;
        simulation.takes_the_job().await;
        simulation.caught_up().await;
        simulation
    }

    /// The job is the simulation's to run: no process finds it due, and none is at it.
    async fn takes_the_job(&self) {
        let taken = "with taken as (update jobs set next_run_at = '3000-01-01' where name = 'keys' and lease_until is null returning name)
                     select count(*) from taken";
        self.node.until("nobody runs the job", async || self.db.count(taken).await == 1).await;
    }

    async fn processes_are_ready(&mut self) {
        let client = client();
        for process in &mut self.processes {
            process.ready(&client).await;
        }
    }

    /// This node has applied all that was committed.
    async fn caught_up(&self) {
        let position = self.node.app.db.position().await.expect("the head");
        assert!(self.node.app.feed.reaches(position, PATIENCE).await, "the node follows");
    }

    /// A day passes.
    pub async fn next_day(&mut self) {
        self.days += 1;
        let before = self.node.app.live.now();
        let body = format!(
            "create or replace function authority_now() returns timestamptz language sql stable parallel safe \
             as $$ select statement_timestamp() + interval '{} days' $$",
            self.days
        );
        self.clock.execute(AssertSqlSafe(body)).await.expect("the clock moves");
        let node = &self.node;
        node.until("the node sees the day", async || {
            node.app.db.told().here.notify_one();
            node.app.live.now().micros() >= before.micros() + DAY
        })
        .await;
    }

    fn now(&self) -> i64 {
        self.node.app.live.now().micros()
    }

    /// What happens to some keys today. Each is changed once, so that the model knows the order.
    pub async fn live_a_day(&mut self) {
        let now = self.now();
        let mut today: Vec<(usize, Event)> = Vec::new();
        for at in 0..self.keys.len() {
            let (seeded, key) = (&mut self.seeded, &self.keys[at]);
            let renews = key.status(now) == "due" && key.older(now).is_none() && seeded.below(3) == 0;
            // An agent renews what is due, if it is one that does; else something happens to a key now and then.
            let event = if renews && key.self_rotation {
                Event::Renew { lose: seeded.below(10) == 0, old: false }
            } else if key.older(now).is_some() && seeded.below(8) == 0 {
                *seeded.pick(&[Event::Cancel, Event::Finish, Event::UseOld])
            } else if seeded.below(QUIET_DAYS) == 0 {
                any(seeded)
            } else {
                continue;
            };
            if !key.is_near_an_end(now) {
                today.push((at, event));
            }
        }
        self.changed = today.iter().map(|(at, _)| *at).collect();
        let keys: Vec<(usize, Event, Key)> =
            today.into_iter().map(|(at, event)| (at, event, self.keys[at].clone())).collect();
        let app = &self.node.app;
        let changes = keys.into_iter().map(async |(at, event, key)| (at, happen(app, key, event).await));
        let after: Vec<(usize, (Key, Tally))> = stream::iter(changes).buffer_unordered(AT_ONCE).collect().await;
        for (at, (key, met)) in after {
            self.keys[at] = key;
            self.add(&met);
        }
        self.caught_up().await;
    }

    fn add(&mut self, met: &Tally) {
        self.tally.rotated += met.rotated;
        self.tally.by_itself += met.by_itself;
        self.tally.asked_again += met.asked_again;
        self.tally.taken_back += met.taken_back;
        self.tally.finished += met.finished;
        self.tally.refused += met.refused;
        self.tally.revived += met.revived;
    }

    /// The job looks at what is due: whole, by two nodes at once, killed after a batch and taken up again, killed within the first, or
    /// not at all.
    pub async fn tell(&mut self) {
        let how = self.seeded.below(10);
        let (before, whole) = (self.now(), how > 1);
        let told = match how {
            0 => Vec::new(),
            1 => {
                self.told_in_a_batch(false).await;
                Vec::new()
            }
            2 => {
                let (_, told) = self.told_in_a_batch(true).await;
                self.told_in_a_batch(false).await;
                told.into_iter().chain(self.told_by_one().await).collect()
            }
            3 => {
                let (one, other) = tokio::join!(self.told_by_one(), self.told_by_one());
                one.into_iter().chain(other).collect()
            }
            _ => self.told_by_one().await,
        };
        let mut owed: Told = self.keys.iter().flat_map(|key| key.owed(before)).collect();
        for told in told {
            let notice = owed.remove(&(told.key_id.clone(), told.version));
            let key = &mut self.keys[self.places[&told.key_id]];
            let optional = told.notice == Notice::Reminder && key.may_be_used(told.version);
            let right = notice == Some(told.notice.as_str()) || notice.is_none() && optional;
            assert!(right, "day {}: {told:?}, not {notice:?}, of {key:?}", self.days);
            key.looked_at(before, Some(told.version));
            self.tally.told += 1;
        }
        if whole {
            let of = owed.keys().next().map(|(id, _)| &self.keys[self.places[id]]);
            assert!(owed.is_empty(), "day {} ({how}): nobody was told of {owed:?}, of {of:?}", self.days);
            self.keys.iter_mut().for_each(|key| key.looked_at(before, None));
        } else {
            self.tally.late += u64::try_from(owed.len()).expect("few");
        }
    }

    async fn told_by_one(&self) -> Vec<notices::Told> {
        let mut all = Vec::new();
        loop {
            let (looked, told) = self.told_in_a_batch(true).await;
            all.extend(told);
            if looked < TOLD_AT_ONCE {
                return all;
            }
        }
    }

    async fn told_in_a_batch(&self, commits: bool) -> (usize, Vec<notices::Told>) {
        let app = &self.node.app;
        let reminders = {
            let mut connection = app.db.reads().acquire().await.expect("a connection");
            Reminders::of(&settings::get(&mut connection).await.expect("the settings"))
        };
        let mut tx = app.db.begin().await.expect("a transaction");
        let limit = i64::try_from(TOLD_AT_ONCE).expect("small");
        let told = notices::tell(&mut tx, app.upkeep.chain(), &reminders, limit).await.expect("told");
        if commits {
            let _nothing_to_enforce = app.db.commit(tx).await.expect("committed");
        } else {
            tx.rollback().await.expect("rolled back");
        }
        told
    }

    /// The keys that changed, and some others.
    fn some(&mut self, others: usize) -> Vec<usize> {
        let all = self.keys.len();
        let others: Vec<usize> = (0..others).map(|_| self.seeded.below(all)).collect();
        self.changed.iter().copied().chain(others).collect()
    }

    /// The node says of each secret what the model says.
    pub fn look_at_the_node(&mut self) {
        for at in self.some(LOOKED_AT) {
            self.look(at);
        }
    }

    fn look(&mut self, at: usize) {
        let (key, app, server) = (&self.keys[at], &self.node.app, self.server_id);
        let now = app.live.now();
        if key.is_near_an_end(now.micros()) {
            return;
        }
        for (text, works) in key.expected(now) {
            let active = app.live.answer(|view| {
                let server = view.memory.servers.get(&server).expect("it is registered");
                let question = Question { token: &text, asker: Asker::Server(server), address: None };
                matches!(introspect(view, question), Verdict::Active(_))
            });
            // A machine that is busy may keep the node from renewing its lease; then it says nothing.
            let Ok(active) = active else { continue };
            self.tally.answers += 1;
            assert_eq!(active, works, "day {}: {key:?}", self.days);
        }
    }

    /// The processes come to say the same; each may be killed, or have its clock set, before.
    pub async fn look_at_the_processes(&mut self) {
        for at in 0..self.processes.len() {
            match self.seeded.below(3) {
                0 => {
                    let mut process = self.processes.remove(at);
                    process.kill();
                    self.processes.insert(at, process.again());
                    self.tally.restarts += 1;
                }
                1 => {
                    let minutes = i64::try_from(self.seeded.below(9)).expect("small") - 4;
                    self.processes[at].clocks(0, minutes * 60_000);
                }
                _ => {}
            }
        }
        self.processes_are_ready().await;
        let client = client();
        for at in self.some(ASKED) {
            let now = self.node.app.live.now();
            if self.keys[at].is_near_an_end(now.micros()) {
                continue;
            }
            self.keys[at].shown(now.micros());
            let key = &self.keys[at];
            for (text, works) in key.expected(now) {
                for process in &self.processes {
                    let said = if works { Said::Active } else { Said::Inactive };
                    let node = &self.node;
                    node.until("the process says what the model says", async || {
                        ask(&client, &self.server, &process.url, &text).await == said
                    })
                    .await;
                    self.tally.answers += 1;
                }
            }
        }
    }

    /// The node goes and comes: what it knows it reads anew.
    pub async fn restart_the_node(&mut self) {
        let fresh = Node::start_without_jobs(&self.db).await;
        std::mem::replace(&mut self.node, fresh).stop().await;
        self.tally.restarts += 1;
        self.caught_up().await;
    }

    /// Every key, in the database and on the node.
    pub async fn compare_all(&mut self) {
        let mut connection = self.db.connection().await;
        for at in 0..self.keys.len() {
            self.look(at);
            let key = &self.keys[at];
            let now = self.now();
            if key.is_near_an_end(now) {
                continue;
            }
            let read = keys::get(&mut connection, &Caller::machine(), &key.id).await.expect("it is there");
            assert_eq!(read.status, key.status(now), "{key:?}");
            let versions: Vec<i32> = read.secrets.iter().map(|secret| secret.version).collect();
            assert_eq!(versions.first(), Some(&key.newest().version), "{key:?}");
            if let Some(older) = key.older(now) {
                assert!(versions.contains(&older.version), "{key:?}");
            }
        }
    }

    pub async fn finish(self) -> Tally {
        self.node.stop().await;
        self.tally
    }
}
