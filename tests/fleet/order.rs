//! The order of the feed, its marks, and the order of one answer.

use std::time::Duration;

use mcp_authority::db::Done;
use mcp_authority::gate::Position;
use mcp_authority::types::clock::BootInstant;
use mcp_authority::types::id::RevocationId;
use mcp_authority::types::switches::Protection;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor, Row};

use crate::fleet::Without;
use crate::support::cluster::LEASE;
use crate::support::{Node, Proxy, Road, TestDb};

/// Numbers that are drawn when a row is written, from a sequence, without a lock: the usual way, and the wrong one.
const NUMBERS_AT_ONCE: &str = "
    create sequence naive;
    select setval('naive', (select number from feed_head));
    create or replace function feed_draw(kind text, target text, out drawn_history bigint, out drawn_number bigint)
        language plpgsql as $$
    begin
        drawn_number := nextval('naive');
        select history into drawn_history from feed_head;
        insert into feed (number, history, kind, target) values (drawn_number, drawn_history, kind, target);
    end $$;
    create function naive_head() returns trigger language plpgsql as $$
    begin
        -- Only so that the head moves: it is no lock, and it says nothing of what is still open.
        if pg_try_advisory_xact_lock(1) then
            update feed_head set number = greatest(number, new.number);
        end if;
        return null;
    end $$;
    drop trigger feed_revocations on revocations;
    create trigger feed_revocations after insert on revocations for each row execute function revocation_note();
    create constraint trigger naive_head after insert on feed deferrable initially deferred
        for each row execute function naive_head();";

/// One revocation is prepared early and committed late; another one overtakes it. Whether the first one is still active on
/// the other node once its call could have returned.
async fn overtaken(sql: &str) -> bool {
    let _without = Without::these(&[]).await;
    let db = TestDb::new().await;
    let (one, two) = (Node::start(&db).await, Node::start(&db).await);
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let slow = operator.key(&one, &server, &["tools/call"]).await;
    let fast = operator.key(&one, &server, &["tools/call"]).await;
    two.until("it knows both", async || server.accepts(&two, &slow.key).await && server.accepts(&two, &fast.key).await)
        .await;
    if !sql.is_empty() {
        db.execute(sql).await;
    }
    let id = RevocationId::random().to_string();
    let mut early = db.connection().await;
    let insert = format!(
        "begin; insert into revocations (id, kind, target, actor) values ('{id}', 'key', '{}', 'test')",
        slow.id
    );
    early.execute(AssertSqlSafe(insert)).await.expect("prepared");
    operator.post(&one, &format!("/v1/keys/{}/revoke", fast.id), json!({})).await.enforced();
    assert!(!server.accepts(&two, &fast.key).await);
    early.execute("commit").await.expect("committed");
    let committed = BootInstant::now();
    let place = format!("select history, number from revocations where id = '{id}'");
    let place = early.fetch_one(AssertSqlSafe(place)).await.expect("its place");
    let position = Position { history: place.get(0), number: place.get(1) };
    // What a revoking call does after its commit.
    let receipt = one.app.feed.enforced(Done { position, committed }).await;
    assert!(receipt.complete);
    server.accepts(&two, &slow.key).await
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_9_a_revocation_that_was_prepared_earlier_and_committed_later_is_not_overtaken() {
    assert!(!overtaken("").await);
    assert!(overtaken(NUMBERS_AT_ONCE).await, "the test cannot see what it is for");
}

/// A promoted database lost a revocation, and has gone on to higher numbers. Whether the key is alive again on a node that
/// starts afterwards.
async fn promoted(off: &[Protection]) -> bool {
    let _without = Without::these(off).await;
    let db = TestDb::new().await;
    let proxy = Proxy::start(&db).await;
    let one = Node::start_at(&db, proxy.options(&db), &[]).await;
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let key = operator.key(&one, &server, &["tools/call"]).await;
    proxy.set(Road::Cut);
    let replica = db.copy().await;
    proxy.set(Road::Open);
    one.until("it is back", async || one.app.live.answer(|_| ()).is_ok()).await;
    operator.post(&one, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
    // The call does not wait for a node that is just joining and answers nothing: what only the database knew would be lost.
    let head = db.count("select number from feed_head").await;
    one.until("it has the revocation", async || one.app.live.round().position.number >= head).await;
    proxy.set(Road::Cut);
    for _ in 0..20 {
        replica.execute("select feed_draw('agent', 'agt_none')").await;
    }
    db.become_copy(replica).await;
    proxy.set(Road::Open);
    one.until("it is back", async || one.app.live.answer(|_| ()).is_ok()).await;
    let head = db.count("select number from feed_head").await;
    one.until("it has read on", async || one.app.live.round().position.number >= head).await;
    let other = Node::start(&db).await;
    server.accepts(&other, &key.key).await
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_7_a_promoted_database_that_went_on_is_known_by_its_marks() {
    assert!(!promoted(&[]).await);
    assert!(promoted(&[Protection::Marks]).await, "the test cannot see what it is for");
}

/// Whether an answer is given though the lease ended while it was made.
async fn answered_late(off: &[Protection]) -> bool {
    let _without = Without::these(off).await;
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let live = std::sync::Arc::clone(&node.app.live);
    let slow = move || live.answer(|_| std::thread::sleep(LEASE + Duration::from_millis(100))).is_ok();
    tokio::task::spawn_blocking(slow).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_4_the_clock_is_read_after_the_verdict() {
    assert!(!answered_late(&[]).await);
    assert!(answered_late(&[Protection::ClockLast]).await, "the test cannot see what it is for");
}
