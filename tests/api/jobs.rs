//! Jobs: one node runs each, another goes on where one dies, and one that does not run is seen by everybody.

use mcp_authority::jobs::{self, Job, Watch};
use serde_json::{Value, json};

use crate::support::{Node, Operator, Reply, TestDb};

/// The jobs of one node at a time.
const SHARED: [&str; 6] = ["audit_checkpoint", "audit_verify", "signing_keys", "partitions", "expire", "keys"];
const DAY: i64 = 86_400;

async fn ready(node: &Node) -> Reply {
    node.send(node.request(reqwest::Method::GET, "/health/ready")).await
}

async fn job(node: &Node, by: &Operator, name: &str) -> Value {
    by.get(node, &format!("/v1/jobs/{name}")).await.ok()
}

async fn run(node: &Node, by: &Operator, name: &str, body: Value) -> Reply {
    by.post(node, &format!("/v1/jobs/{name}/run"), body).await
}

async fn runs(db: &TestDb, name: &str) -> i64 {
    db.count(&format!("select coalesce(max(run), 0) from jobs where name = '{name}'")).await
}

/// Waits until no job is due or runs.
async fn rest(node: &Node, db: &TestDb) {
    let busy = "select count(*) from jobs where next_run_at <= authority_now() or holder is not null";
    node.until("no job is due or runs", async || db.count(busy).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_ready_has_run_its_jobs_and_says_when() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    node.until("it is ready", async || ready(&node).await.status == 200).await;
    let state = ready(&node).await.json;
    assert_eq!((&state["status"], &state["jobs"]), (&json!("ready"), &json!("ok")), "{state}");
    let listed = by.get(&node, "/v1/jobs").await.ok();
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), Job::ALL.len());
    for item in items {
        let name = item["name"].as_str().unwrap();
        assert_eq!(item["each_node"], !SHARED.contains(&name), "{item}");
        assert_eq!((&item["late"], &item["lag_seconds"]), (&json!(false), &json!(0)), "{item}");
        assert!(item["period_seconds"].as_i64().unwrap() >= 1 && item["next_run_at"].is_string(), "{item}");
        node.until("each has run", async || job(&node, &by, name).await["last_success_at"].is_string()).await;
    }
    by.get(&node, "/v1/jobs/nothing").await.refused(404, "invalid_id");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_nodes_runs_a_job_once_in_its_period() {
    let db = TestDb::new().await;
    let nodes = [Node::start(&db).await, Node::start(&db).await, Node::start(&db).await];
    for periods in 1..=3 {
        rest(&nodes[0], &db).await;
        assert_eq!(runs(&db, "keys").await, periods);
        if periods < 3 {
            nodes[0].advance(&db, 60).await;
        }
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_dead_node_held_is_free_when_its_lease_ends() {
    let db = TestDb::new().await;
    let node = Node::start_without_jobs(&db).await;
    let by = node.operator().await;
    let dead = "11111111-1111-4111-8111-111111111111";
    db.execute(&format!(
        "insert into jobs (name, run, holder, started_at, lease_until)
         values ('expire', 7, '{dead}', authority_now(), authority_now() + interval '30 seconds')"
    ))
    .await;
    assert_eq!(job(&node, &by, "expire").await["running_on"], dead);
    run(&node, &by, "expire", json!({})).await.refused(409, "job_running");
    node.advance(&db, 31).await;
    assert!(job(&node, &by, "expire").await["running_on"].is_null());
    let done = run(&node, &by, "expire", json!({})).await.ok();
    assert_eq!((&done["succeeded"], &done["dry_run"]), (&json!(true), &json!(false)), "{done}");
    assert_eq!(runs(&db, "expire").await, 8, "whoever still holds the seventh has lost it");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing_and_says_what_would_be_done() {
    let db = TestDb::new().await;
    let node = Node::start_without_jobs(&db).await;
    let by = node.operator().await;
    db.execute("insert into proofs (digest, expires_at) select sha256(n::text::bytea), authority_now() - interval '1 hour' from generate_series(1, 7) n").await;
    let dry = run(&node, &by, "expire", json!({"dry_run": true})).await.ok();
    assert_eq!((&dry["succeeded"], &dry["dry_run"]), (&json!(true), &json!(true)), "{dry}");
    assert_eq!(dry["counts"]["assertions_and_proofs"], 7, "{dry}");
    assert_eq!(db.count("select count(*) from proofs").await, 7);
    assert_eq!(db.count("select count(*) from jobs").await, 0, "it did not run");
    for name in SHARED {
        let dry = run(&node, &by, name, json!({"dry_run": true})).await.ok();
        assert_eq!(dry["succeeded"], true, "{dry}");
    }
    assert_eq!(db.count("select count(*) from audit_checkpoints").await, 0);
    assert_eq!(db.count("select count(*) from jobs").await, 0);
    let done = run(&node, &by, "expire", json!({})).await.ok();
    assert_eq!(done["counts"]["assertions_and_proofs"], 7, "{done}");
    assert_eq!(db.count("select count(*) from proofs").await, 0);
    let asked =
        "select count(*) from audit_log where action = 'job.run' and target = 'expire' and body ->> 'dry_run' =";
    assert_eq!(db.count(&format!("{asked} 'true'")).await, 2);
    assert_eq!(db.count(&format!("{asked} 'false'")).await, 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_never_started_is_seen_everywhere_and_told_once() {
    let db = TestDb::new().await;
    let node = Node::start_without_jobs(&db).await;
    let other = Node::start_without_jobs(&db).await;
    let by = node.operator().await;
    node.advance(&db, DAY).await;
    node.until("the first jobs are not waited for any longer", async || ready(&node).await.status == 200).await;
    let state = ready(&node).await;
    assert_eq!(state.json["status"], "degraded", "it answers all the same: {}", state.text);
    let reasons = state.json["degraded"].to_string();
    for name in SHARED {
        assert!(reasons.contains(&format!("the job {name} is late by 86")), "{reasons}");
        let item = job(&other, &by, name).await;
        assert!(item["late"] == true && item["last_success_at"].is_null(), "{item}");
        assert!(item["lag_seconds"].as_i64().unwrap() > DAY - 120, "{item}");
    }
    jobs::measure(&other.app).await;
    let metrics = other.app.metrics.render();
    assert!(metrics.contains("mcpa_job_lag_seconds{job=\"keys\"} 86"), "{metrics}");
    assert!(!metrics.contains("mcpa_job_last_success_timestamp_seconds{job=\"keys\"}"), "it never succeeded");
    let told =
        async |action: &str| db.count(&format!("select count(*) from audit_log where action = '{action}'")).await;
    db.execute("insert into webhooks (id, name, url, events, signature) values ('whk_00000000000000000000000000000000', 'w', 'https://w.example.com', '{*}', 'v1a')").await;
    let sent = async |kind: &str| db.count(&format!("select count(*) from deliveries where type = '{kind}'")).await;
    let mut watches = [Watch::default(), Watch::default()];
    watches[0].look(&node.app).await.expect("looked");
    assert_eq!(told("job.late").await, 0, "once may be an accident");
    for _ in 0..2 {
        watches[0].look(&node.app).await.expect("looked");
        watches[1].look(&other.app).await.expect("looked");
    }
    assert_eq!(told("job.late").await, 6, "each once, whoever looks");
    jobs::run_all(&node.app).await.expect("they run");
    watches[1].look(&other.app).await.expect("looked");
    watches[0].look(&node.app).await.expect("looked");
    assert_eq!((told("job.late").await, told("job.recovered").await), (6, 6));
    assert_eq!((sent("job.late").await, sent("job.recovered").await), (6, 6));
    node.until("both say so", async || {
        ready(&node).await.json["status"] == "ready" && ready(&other).await.json["status"] == "ready"
    })
    .await;
    jobs::measure(&other.app).await;
    assert!(other.app.metrics.render().contains("mcpa_job_last_success_timestamp_seconds{job=\"keys\"}"));
    node.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_says_why_without_secrets_and_recovers() {
    let db = TestDb::new().await;
    let node = Node::start_without_jobs(&db).await;
    let by = node.operator().await;
    run(&node, &by, "expire", json!({})).await.ok();
    let secret = "q".repeat(64);
    db.execute("insert into proofs (digest, expires_at) values (sha256('a'), authority_now() - interval '1 hour')")
        .await;
    db.execute(&format!(
        "create function no() returns trigger language plpgsql as $$ begin raise exception 'no room for {secret} here'; end $$;
         create trigger no before delete on proofs for each row execute function no();"
    ))
    .await;
    let failed = run(&node, &by, "expire", json!({})).await.ok();
    assert_eq!(failed["succeeded"], false);
    let status = job(&node, &by, "expire").await;
    for error in [&failed["error"], &status["last_error"]] {
        let error = error.as_str().unwrap();
        assert!(error.contains("no room for … here") && !error.contains(&secret), "{error}");
    }
    assert!(status["last_success_at"].is_string() && status["running_on"].is_null(), "{status}");
    db.execute("drop trigger no on proofs").await;
    assert_eq!(run(&node, &by, "expire", json!({})).await.ok()["counts"]["assertions_and_proofs"], 1);
    assert!(job(&node, &by, "expire").await["last_error"].is_null());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_gives_its_jobs_back() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    node.stop().await;
    assert_eq!(db.count("select count(*) from jobs where holder is not null").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_audit_is_found_told_once_and_seen_until_it_is_whole_again() {
    let db = TestDb::new().await;
    let node = Node::start_without_jobs(&db).await;
    let by = node.operator().await;
    for _ in 0..3 {
        by.agent(&node).await;
    }
    jobs::run_all(&node.app).await.expect("they run");
    let verify = async || run(&node, &by, "audit_verify", json!({})).await.ok();
    assert!(verify().await["counts"]["findings"].is_null());
    let tamper = |from: &str, to: &str| {
        format!(
            "update audit_entries set body = replace(body::text, '{from}', '{to}')::json where chain = 'changes' and position = 2"
        )
    };
    db.execute(&tamper("\"actor\":", "\"actor\" :")).await;
    for _ in 0..3 {
        let found = verify().await;
        assert_eq!(found["counts"]["findings"], 1, "{found}");
        assert!(found["examples"][0].as_str().unwrap().starts_with("changed: entry 2 of changes"), "{found}");
    }
    let told = "select count(*) from audit_log where action = 'audit.broken'";
    assert_eq!(db.count(told).await, 1, "once, not at every round");
    node.until("it is ready", async || ready(&node).await.status == 200).await;
    let state = ready(&node).await.json;
    assert_eq!(state["status"], "degraded");
    assert!(state["degraded"][0].as_str().unwrap().contains("the audit is not as it was written"), "{state}");
    jobs::measure(&node.app).await;
    assert!(node.app.metrics.render().contains("mcpa_audit_broken 1"));
    db.execute(&tamper("\"actor\" :", "\"actor\":")).await;
    assert!(verify().await["counts"]["findings"].is_null());
    assert!(job(&node, &by, "audit_verify").await["warning"].is_null());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_audit_is_verified_piece_by_piece() {
    let db = TestDb::new().await;
    let node = Node::start_without_jobs(&db).await;
    let by = node.operator().await;
    db.execute("insert into audit_log (chain, body) select 'changes', json_build_object('id', 'evt_' || md5(n::text), 'actor', 'a', 'action', 'b', 'result', 'done') from generate_series(1, 45000) n").await;
    let verify =
        async || run(&node, &by, "audit_verify", json!({})).await.ok()["counts"]["entries"].as_i64().unwrap_or(0);
    assert_eq!((verify().await, verify().await), (20_000, 20_000), "no run reads more");
    db.execute("update audit_entries set body = '{\"id\": \"evt_x\"}' where chain = 'changes' and position = 44000")
        .await;
    assert!(verify().await > 5_000, "it goes on where the last run ended");
    assert!(job(&node, &by, "audit_verify").await["warning"].as_str().unwrap().contains("entry 44000"));
    node.stop().await;
}
