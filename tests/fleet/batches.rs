//! Revocations among themselves: their connections, their locks, their commits.

use std::time::Duration;

use futures_util::future::join_all;
use mcp_authority::types::switches::Protection;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};

use crate::fleet::Without;
use crate::support::{Node, TestDb};

/// More connections than the general pool has are wanted at once, and none is given back.
async fn revoked_without_general_connections(off: &[Protection]) -> bool {
    let _without = Without::these(off).await;
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let keys =
        [operator.key(&node, &server, &["tools/call"]).await, operator.key(&node, &server, &["tools/call"]).await];
    let token = keys[0].session(&node, &server).await;
    let mut held = Vec::new();
    while let Ok(connection) = tokio::time::timeout(Duration::from_secs(2), node.app.db.reads().acquire()).await {
        held.push(connection.expect("a connection"));
    }
    assert!(held.len() > 1 && node.app.db.reads().try_acquire().is_none(), "exhausted");
    // By each route.
    let mut statuses = Vec::new();
    statuses.push(server.revoke(&node, &token).await.status.as_u16());
    let path = format!("/v1/keys/{}/revoke", keys[0].id);
    statuses.push(operator.post(&node, &path, json!({})).await.status.as_u16());
    let agent = json!({"kind": "agent", "id": keys[1].agent});
    statuses.push(operator.post(&node, "/v1/revocations", agent).await.status.as_u16());
    // The follower goes on: the lease that holds now is a later one.
    let before = node.app.live.round().ends();
    node.until("the lease is renewed", async || node.app.live.round().ends() > before).await;
    let done = statuses == [200, 200, 201];
    assert!(done || statuses.contains(&503), "{statuses:?}");
    drop(held);
    if done {
        assert!(!server.accepts(&node, &keys[0].key).await && !server.accepts(&node, &token).await);
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_17_with_every_general_connection_taken_revocations_go_through_and_the_lease_is_renewed() {
    assert!(revoked_without_general_connections(&[]).await);
    assert!(!revoked_without_general_connections(&[Protection::Reserved]).await, "the test cannot see what it is for");
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_11_a_revocation_waits_for_no_row_that_somebody_holds() {
    let _without = Without::these(&[]).await;
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/call"]).await;
    let token = key.session(&node, &server).await;
    let mut hold = db.connection().await;
    let lock = format!(
        "begin; select 1 from keys where id = '{}' for update; select 1 from agents where id = '{}' for update;
         select 1 from sessions for update; select 1 from secrets where owner = '{}' for update",
        key.id, key.agent, key.id
    );
    hold.execute(AssertSqlSafe(lock)).await.expect("held");
    assert_eq!(server.revoke(&node, &token).await.status.as_u16(), 200);
    operator.post(&node, "/v1/revocations", json!({"kind": "agent", "id": key.agent})).await.created();
    let receipt = operator.post(&node, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
    assert!(!server.accepts(&node, &key.key).await, "{receipt}");
    let marked = format!("select count(*) from keys where id = '{}' and revoked_at is not null", key.id);
    assert_eq!(db.count(&marked).await, 0, "the row is still held");
    hold.execute("rollback").await.expect("given back");
    mcp_authority::jobs::run_all(&node.app).await.expect("the jobs run");
    assert_eq!(db.count(&marked).await, 1, "and is marked when it is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_10_revocations_that_wait_are_committed_together() {
    let _without = Without::these(&[]).await;
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/call"]).await;
    let tokens = join_all((0..100).map(|_| key.session(&node, &server))).await;
    // The first batch stands at the head of the feed; what comes meanwhile waits.
    let mut hold = db.connection().await;
    hold.execute("begin; select 1 from feed_head for update").await.expect("held");
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let revoking = join_all(tokens.iter().map(|token| server.revoke(&node, token)));
    let releasing = async {
        node.until("the first batch stands", async || db.count(waiting).await > 0).await;
        // Within the two seconds that a change waits for a lock; that all of them arrive meanwhile is likely, not needed.
        tokio::time::sleep(Duration::from_millis(700)).await;
        hold.execute("rollback").await.expect("given back");
    };
    let (replies, ()) = tokio::join!(revoking, releasing);
    assert!(replies.iter().all(|reply| reply.status.as_u16() == 200));
    assert_eq!(db.count("select count(*) from revocations").await, 100);
    let commits = db.count("select count(distinct xmin::text) from revocations").await;
    assert!(commits <= 50, "{commits} commits for 100 revocations");
    for token in tokens.iter().take(10) {
        assert!(!server.accepts(&node, token).await);
    }
}
