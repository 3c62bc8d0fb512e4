//! The change feed: its order, what a lost wake-up costs, what a lost COMMIT or a lost history may do.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::support::{Node, Proxy, Road, TestDb};

async fn open(db: &TestDb, agent: u32) -> PgConnection {
    let mut connection = db.connection().await;
    let insert = format!("insert into agents (id, name, project) values ('agt_{agent:032x}', 'a', 'default')");
    let sql = format!("set lock_timeout = '5s'; begin; {insert}");
    connection.execute(AssertSqlSafe(sql)).await.expect("an agent");
    connection
}

async fn feed(db: &TestDb) -> BTreeMap<i64, String> {
    let mut connection = db.connection().await;
    let rows = connection.fetch_all("select number, target from feed order by number").await.expect("the feed");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_9_numbers_are_gapless_and_in_the_order_of_commits_not_of_beginnings() {
    let db = TestDb::new().await;
    let before = db.count("select number from feed_head").await;
    let mut open_ones = Vec::new();
    for agent in 0..12 {
        open_ones.push((agent, open(&db, agent).await));
    }
    // The last to begin commits first; every third is rolled back.
    let mut committed = Vec::new();
    for (agent, mut connection) in open_ones.into_iter().rev() {
        if agent % 3 == 0 {
            connection.execute("rollback").await.expect("rolled back");
        } else {
            connection.execute("commit").await.expect("committed");
            committed.push(format!("agt_{agent:032x}"));
        }
        connection.close().await.expect("closed");
    }
    let entries: Vec<_> = feed(&db).await.into_iter().filter(|(number, _)| *number > before).collect();
    let expected: Vec<_> = (before + 1..).zip(committed).collect();
    assert_eq!(entries, expected);
    assert_eq!(db.count("select number from feed_head").await, before + 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_9_what_commits_at_the_same_time_leaves_no_gap_and_a_reader_never_sees_a_later_number_first() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let before = db.count("select number from feed_head").await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_u32 {
        let options = db.options.clone();
        writers.spawn(async move {
            let mut connection = sqlx::ConnectOptions::connect(&options).await.expect("connected");
            for turn in 0..25 {
                let id = writer * 100 + turn;
                let end = if turn % 5 == 4 { "rollback" } else { "commit" };
                let sql = format!(
                    "begin; insert into agents (id, name, project) values ('agt_{id:032x}', 'a', 'default'); {end}"
                );
                connection.execute(AssertSqlSafe(sql)).await.expect("done");
            }
        });
    }
    let mut reader = db.connection().await;
    let mut seen = before;
    while seen < before + 160 {
        let row = reader
            .fetch_one("select max(number), count(*), min(number) from feed")
            .await
            .expect("one statement, one snapshot");
        let (newest, count, oldest): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(newest - oldest + 1, count, "a number is missing below {newest}");
        assert!(newest >= seen);
        seen = newest;
    }
    while writers.join_next().await.is_some() {}
    node.until("the node has all", async || node.app.live.memory().agents.len() == 160).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_9_a_transaction_that_stays_open_holds_up_no_revocation() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/call"]).await;
    let _open = open(&db, 1).await;
    // It also holds the key's row, which a revocation does not need.
    let mut holder = db.connection().await;
    let sql = format!("begin; update keys set name = 'held' where id = '{}'", key.id);
    holder.execute(AssertSqlSafe(sql)).await.expect("held");
    let receipt = operator.post(&node, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
    assert_eq!(receipt["enforced"]["nodes"][0]["state"], "acknowledged", "{receipt}");
    assert!(!server.accepts(&node, &key.key).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_10_a_lost_wake_up_costs_a_poll_and_no_entry() {
    let db = TestDb::new().await;
    let (one, two) = (Node::start(&db).await, Node::start(&db).await);
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    for _ in 0..5 {
        let key = operator.key(&one, &server, &["tools/call"]).await;
        let listeners = "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and query ilike 'listen%'";
        db.count(listeners).await;
        let receipt = operator.post(&one, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
        let nodes = receipt["enforced"]["nodes"].as_array().expect("nodes").clone();
        assert!(nodes.len() == 2 && nodes.iter().all(|node| node["state"] == "acknowledged"), "{receipt}");
        assert!(!server.accepts(&two, &key.key).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_7_a_database_that_lost_a_revocation_gets_it_back_and_all_session_tokens_are_void() {
    let db = TestDb::new().await;
    let proxy = Proxy::start(&db).await;
    let one = Node::start_at(&db, proxy.options(&db), &[]).await;
    let two = Node::start_at(&db, proxy.options(&db), &[]).await;
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let dead = operator.key(&one, &server, &["tools/call"]).await;
    let alive = operator.key(&one, &server, &["tools/call"]).await;
    let token = alive.session(&one, &server).await;
    let early = json!({"kind": "agent", "id": operator.agent(&one).await});
    let early = operator.post(&one, "/v1/revocations", early).await.created();
    // A replica that lags: what happens from here on it never gets.
    proxy.set(Road::Cut);
    let replica = db.copy().await;
    proxy.set(Road::Open);
    for node in [&one, &two] {
        node.until("it is back", async || server.ask(node, &[("token", &token)]).await.json["active"] == true).await;
    }
    operator.post(&one, &format!("/v1/keys/{}/revoke", dead.id), json!({})).await.enforced();
    let lost = operator.key(&one, &server, &["tools/call"]).await;
    assert!(server.accepts(&one, &lost.key).await);
    // It is promoted.
    proxy.set(Road::Cut);
    db.become_copy(replica).await;
    assert_eq!(db.count("select count(*) from revocations").await, 1, "the promoted database lacks it");
    proxy.set(Road::Open);
    for node in [&one, &two] {
        let mut answers = Vec::new();
        node.until("it answers again", async || {
            let reply = server.ask(node, &[("token", &dead.key)]).await;
            assert_ne!(reply.json["active"], true, "never again active");
            answers.push(reply.status.as_u16());
            reply.status == 200 && node.app.live.round().position.history == 2
        })
        .await;
        assert!(!server.accepts(node, &token).await, "a token of the lost history is void");
        assert!(!server.accepts(node, &lost.key).await, "what the database lost is unknown");
        assert!(server.accepts(node, &alive.key).await, "a key that it kept works");
        let fresh = alive.session(node, &server).await;
        assert!(server.accepts(&one, &fresh).await && server.accepts(&two, &fresh).await);
    }
    // Who is in the new history has loaded what the database kept of the old one.
    let path = format!("/v1/revocations/{}", early["id"].as_str().expect("an id"));
    // The promoted database still holds the rows of nodes as they were called before; they are watched until a lease is over.
    let mut receipt = Value::Null;
    one.until("the receipt is complete", async || {
        receipt = operator.get(&one, &path).await.ok();
        receipt["enforced"]["complete"] == true
    })
    .await;
    assert_eq!(receipt["enforced"]["position"], early["enforced"]["position"], "{receipt}");
    let written_back = format!("select count(*) from revocations where kind = 'key' and target = '{}'", dead.id);
    assert_eq!(db.count(&written_back).await, 1);
    assert_eq!(db.count("select history from feed_head").await, 2, "one new history, however many nodes");
    assert_eq!(db.count("select count(*) from audit_entries where action = 'feed.history_opened'").await, 1);
    // A node that never knew the lost history finds the revocation in the database.
    let third = Node::start(&db).await;
    assert!(!server.accepts(&third, &dead.key).await && server.accepts(&third, &alive.key).await);
    let receipt = operator.post(&one, &format!("/v1/keys/{}/revoke", alive.id), json!({})).await.enforced();
    assert!(!server.accepts(&third, &alive.key).await, "{receipt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_7_another_installations_database_ends_the_node_for_good_and_is_left_alone() {
    let db = TestDb::new().await;
    let proxy = Proxy::start(&db).await;
    let node = Node::start_at(&db, proxy.options(&db), &[]).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/call"]).await;
    let other = TestDb::new().await;
    other.execute("update settings set installation = gen_random_uuid()").await;
    operator.post(&node, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
    proxy.set(Road::Cut);
    db.become_copy(other).await;
    proxy.set(Road::Open);
    node.until("it is dead", async || {
        let ready = node.send(node.request(reqwest::Method::GET, "/health/ready")).await;
        ready.json["feed"] == "dead"
    })
    .await;
    server.ask(&node, &[("token", &key.key)]).await.refused(503, "temporarily_unavailable");
    assert_eq!(db.count("select count(*) from revocations").await, 0, "nothing is written into a stranger's database");
    node.until("its row there is gone", async || db.count("select count(*) from nodes").await == 0).await;
    let sequence = "select coalesce(sum(n_tup_ins), 0)::bigint from pg_stat_user_tables where relname = 'nodes'";
    let inserted = db.count(sequence).await;
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(db.count("select count(*) from nodes").await, 0, "it does not come back");
    assert!(db.count(sequence).await <= inserted + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_15_a_connection_lost_during_commit_is_an_unknown_outcome_never_success() {
    let db = TestDb::new().await;
    let proxy = Proxy::start(&db).await;
    let node = Node::start_at(&db, proxy.options(&db), &[]).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let holder = operator.key(&node, &server, &["tools/call"]).await;
    for (road, done) in [(Road::LoseCommits, 0), (Road::LoseAnswers, 1), (Road::DieAfterCommit, 1)] {
        let key = operator.key(&node, &server, &["tools/call"]).await;
        let name = format!("{road:?}");
        let broken = proxy.broken();
        proxy.set(road);
        let reply = operator.post(&node, "/v1/agents", json!({"name": name})).await;
        assert!(reply.headers.contains_key("retry-after"), "{road:?}");
        reply.refused(503, "outcome_unknown");
        assert_eq!(db.count(&format!("select count(*) from agents where name = '{name}'")).await, done, "{road:?}");
        mended(&node, &proxy).await;
        proxy.set(road);
        let revoke = format!("/v1/keys/{}/revoke", key.id);
        operator.post(&node, &revoke, json!({})).await.refused(503, "outcome_unknown");
        let revoked = format!("select count(*) from revocations where target = '{}'", key.id);
        assert_eq!(db.count(&revoked).await, done, "{road:?}");
        mended(&node, &proxy).await;
        proxy.set(road);
        // A token whose row may be lost is not handed out.
        let token = holder.session_with(&node, &[("resource", &server.resource)]).await;
        assert_eq!(token.status.as_u16(), 503, "{road:?} {}", token.text);
        mended(&node, &proxy).await;
        assert!(proxy.broken() >= broken + 3);
        operator.post(&node, "/v1/agents", json!({"name": "goes on"})).await.created();
        operator.post(&node, &revoke, json!({})).await.enforced();
        assert!(!server.accepts(&node, &key.key).await);
    }
}

/// What was refused meanwhile is recorded at last, once: the audit is not stuck on an entry that is there already.
async fn mended(node: &Node, proxy: &Proxy) {
    proxy.set(Road::Open);
    node.until("the audit is written", async || {
        let ready = node.send(node.request(reqwest::Method::GET, "/health/ready")).await;
        ready.status == 200 && node.app.recorder.waiting() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_10_revocations_that_are_committed_together_do_not_fail_together() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    // The feed's lock holds the batch before, so that the next ones gather behind it.
    let mut keys = Vec::new();
    for _ in 0..12 {
        keys.push(operator.key(&node, &server, &["tools/call"]).await);
    }
    let mut holder = db.connection().await;
    holder.execute("begin; select 1 from feed_head for update").await.expect("held");
    let revoking = keys.iter().enumerate().map(|(index, key)| {
        let reason = if index % 4 == 1 { "no \u{0} text" } else { "a text" };
        let body = json!({"kind": "key", "id": key.id, "reason": reason});
        operator.post(&node, "/v1/revocations", body)
    });
    let release = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        holder.execute("commit").await.expect("released");
    };
    let (replies, ()) = tokio::join!(futures_util::future::join_all(revoking), release);
    for (index, reply) in replies.into_iter().enumerate() {
        let expected = if index % 4 == 1 { 422 } else { 201 };
        assert_eq!(reply.status.as_u16(), expected, "{index} {}", reply.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_11_a_revocation_waits_for_nobody_who_holds_the_key_or_its_table() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    for lock in ["select 1 from keys for update", "lock table keys in share mode"] {
        let key = operator.key(&node, &server, &["tools/call"]).await;
        let mut holder = db.connection().await;
        holder.execute(AssertSqlSafe(format!("begin; {lock}"))).await.expect("held");
        let revoked = operator.post(&node, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.ok();
        assert_eq!((&revoked["status"], &revoked["enforced"]["complete"]), (&json!("revoked"), &json!(true)), "{lock}");
        assert!(!server.accepts(&node, &key.key).await, "{lock}");
        holder.execute("commit").await.expect("released");
        let marked = format!("select count(*) from keys where id = '{}' and revoked_at is not null", key.id);
        assert_eq!(db.count(&marked).await, 0, "{lock}: it was held");
        // What a job does within a minute; nodes hear of it.
        assert_eq!(mcp_authority::revocations::settle(&mut db.connection().await).await.expect("settled"), 1, "{lock}");
        assert_eq!(db.count(&marked).await, 1, "{lock}");
        let id = key.id.parse().expect("an id");
        node.until("the node knows the key's own word", async || {
            node.app.live.memory().keys.get(&id).is_some_and(|key| key.revoked)
        })
        .await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_6_a_lease_that_was_shortened_counts_at_its_old_length_for_two_minutes() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let longest = async || node.app.live.settings.load().longest_lease.as_millis();
    for lease in [3_000, 1_000] {
        operator.patch(&node, "/v1/settings", json!({"lease_ms": lease})).await.ok();
        node.until("the longest lease is noticed", async || longest().await == 3_000).await;
    }
    node.advance(&db, 30).await;
    node.until("a round is through", async || node.app.live.round().lease.as_millis() == 1_000).await;
    assert_eq!(longest().await, 3_000);
    node.advance(&db, 100).await;
    node.until("nobody can be under it any more", async || longest().await == 1_000).await;
}
