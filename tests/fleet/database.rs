//! PostgreSQL itself goes away and comes back.

use std::time::{Duration, Instant};

use mcp_authority::db::Db;
use mcp_authority::db::embedded::Embedded;
use mcp_authority::types::switches::Protection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::fleet::{Fleet, Said, Without, ask, client};
use crate::storm::{pause, withstand};
use crate::support::{Node, TestDb};

/// A PostgreSQL that belongs to one story.
struct Own {
    cluster: Embedded,
    db: TestDb,
    _dir: TempDir,
}

impl Own {
    async fn start(lease_ms: u32) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let cluster = Embedded::start_throwaway(&dir.path().join("data")).await.expect("a PostgreSQL");
        let db = TestDb { options: cluster.connect_options(), name: "own".to_owned() };
        let pool = Db::new(db.options.clone());
        pool.migrate().await.expect("migrated");
        pool.close().await;
        db.execute(&format!("update settings set lease_ms = {lease_ms}, previous_lease_ms = {lease_ms}")).await;
        Self { cluster, db, _dir: dir }
    }

    /// The process that writes what commits did not wait for. The service's role may not ask PostgreSQL for it.
    fn wal_writer(&self) -> u32 {
        let postmaster = self.cluster.postmaster_pid().expect("it runs");
        let children = format!("/proc/{postmaster}/task/{postmaster}/children");
        let children = std::fs::read_to_string(children).expect("its processes");
        let named = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("walwriter"))
        };
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(named).expect("a WAL writer")
    }

    /// Ends it at once, as a crash would.
    async fn crash(&mut self) {
        crash(&mut self.cluster).await;
    }
}

async fn crash(cluster: &mut Embedded) {
    signal(cluster.postmaster_pid().expect("it runs"), Signal::QUIT);
    cluster.exited().await.expect("it is gone");
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a process"), signal).expect("sent");
}

const LEASE_MS: u32 = 5_000;

/// What a node says while its database is away: how long after the crash it still answered, if it ever stopped.
async fn outage(off: &[Protection]) -> Option<Duration> {
    let _without = Without::these(off).await;
    let mut own = Own::start(LEASE_MS).await;
    let node = Node::start(&own.db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/call"]).await;
    let (token, dead) = (key.session(&node, &server).await, key.session(&node, &server).await);
    assert_eq!(server.revoke(&node, &dead).await.status.as_u16(), 200);
    let (client, url) = (client(), node.url(""));
    own.crash().await;
    let crashed = Instant::now();
    assert_eq!(ask(&client, &server, &url, &token).await, Said::Active, "within the lease introspection goes on");
    assert_eq!(ask(&client, &server, &url, &dead).await, Said::Inactive);
    let mut stopped = None;
    while stopped.is_none() && crashed.elapsed() < Duration::from_millis(u64::from(LEASE_MS) * 2) {
        let said = ask(&client, &server, &url, &token).await;
        stopped = (said == Said::Unavailable).then(|| crashed.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if stopped.is_some() {
        for _ in 0..20 {
            assert_eq!(ask(&client, &server, &url, &token).await, Said::Unavailable, "never again before it is back");
            assert_eq!(ask(&client, &server, &url, &dead).await, Said::Unavailable);
        }
    }
    own.cluster.restart().await.expect("it starts again");
    let back = Instant::now();
    node.until("it is current again", async || ask(&client, &server, &url, &token).await == Said::Active).await;
    println!("silent {stopped:?} after the crash, answers {:?} after the database is back", back.elapsed());
    assert_eq!(ask(&client, &server, &url, &dead).await, Said::Inactive, "nothing acknowledged is lost");
    let after = key.session(&node, &server).await;
    assert_eq!(ask(&client, &server, &url, &after).await, Said::Active);
    let listed = operator.get(&node, "/v1/sessions?limit=200").await.ok();
    assert_eq!(listed["items"].as_array().expect("sessions").len(), 3, "{listed}");
    own.cluster.stop().await.expect("stopped");
    stopped
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_3_with_postgresql_gone_a_node_answers_within_its_lease_then_503_and_comes_back_by_itself() {
    let stopped = outage(&[]).await.expect("it stops when its lease is over");
    assert!(stopped <= Duration::from_millis(u64::from(LEASE_MS) * 2));
    assert_eq!(outage(&[Protection::Lease]).await, None, "the test cannot see what it is for");
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_1_while_postgresql_crashes_and_recovers_nothing_revoked_is_active() {
    let without = Without::these(&[]).await;
    let Own { cluster, db, _dir } = Own::start(1_000).await;
    let cluster = Mutex::new(cluster);
    let fleet = Fleet::on(db, without).await;
    withstand("PostgreSQL restarted", &fleet, async |seeded| {
        // Not before all of it is up again, however long that takes here.
        for url in fleet.doors() {
            fleet.until("it is current", async || fleet.ask(&url, &fleet.key.key).await == Said::Active).await;
        }
        pause(seeded, 2_000, 7_000).await;
        let mut cluster = cluster.lock().await;
        crash(&mut cluster).await;
        pause(seeded, 1, 1_500).await;
        cluster.restart().await.expect("it starts again");
    })
    .await;
    drop(fleet);
    cluster.into_inner().stop().await.expect("stopped");
}

/// Revokes, and crashes PostgreSQL and the node at once, on a database that acknowledges before it writes. Whether the
/// revocation was there each time.
async fn survives(off: &[Protection], turns: usize) -> bool {
    let _without = Without::these(off).await;
    let mut own = Own::start(1_000).await;
    own.db.execute("alter database authority set synchronous_commit = off").await;
    for _ in 0..turns {
        let node = Node::start(&own.db).await;
        let operator = node.operator().await;
        let server = operator.server(&node).await;
        let key = operator.key(&node, &server, &["tools/call"]).await;
        // What commits do not write themselves stays in memory: nobody else writes it.
        let writer = own.wal_writer();
        signal(writer, Signal::STOP);
        // Everything so far is written.
        own.db
            .execute("begin; set local synchronous_commit = on; update settings set audit_days = audit_days; commit")
            .await;
        operator.post(&node, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
        signal(own.cluster.postmaster_pid().expect("it runs"), Signal::QUIT);
        signal(writer, Signal::KILL);
        own.cluster.exited().await.expect("it is gone");
        // The node must not be there to write back what it knows.
        drop(node);
        own.cluster.restart().await.expect("it starts again");
        let again = Node::start(&own.db).await;
        if server.accepts(&again, &key.key).await {
            return false;
        }
        again.stop().await;
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_15_what_is_acknowledged_is_on_disk_whatever_the_database_is_set_to() {
    assert!(survives(&[], 3).await);
    assert!(!survives(&[Protection::Durable], 12).await, "the test cannot see what it is for");
}
