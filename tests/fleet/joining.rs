//! Nodes that are killed and nodes that start, while revocations go on.

use std::cell::RefCell;

use mcp_authority::types::switches::Protection;
use serde_json::json;
use sqlx::Executor;

use crate::fleet::{Fleet, Said, Without, ask, client};
use crate::process::Process;
use crate::storm::{pause, withstand};
use crate::support::{Node, TestDb};

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_6_while_nodes_are_killed_and_started_again_nothing_revoked_is_active() {
    let mut fleet = Fleet::start(&[]).await;
    // A fourth node comes and goes; the three of the fleet are asked, and it is asked too before it is killed.
    let options = fleet.options();
    let fourth = RefCell::new(Some(Process::start(&options, &[])));
    let kept = fleet.credential(false).await;
    fleet.revoke_somewhere(0, &kept).await;
    withstand("killed and started", &fleet, async |seeded| {
        let mut process = fourth.take().expect("it runs");
        process.ready(&fleet.client).await;
        for _ in 0..20 {
            assert_ne!(fleet.ask(&process.url, kept.text()).await, Said::Active, "it joined with what was revoked");
            pause(seeded, 1, 10).await;
        }
        process.kill();
        fourth.replace(Some(process.again()));
    })
    .await;
    fleet.process.kill();
    let credential = fleet.credential(false).await;
    fleet.revoke_somewhere(0, &credential).await;
    let doors = fleet.doors();
    assert_eq!(fleet.ask(&doors[2], credential.text()).await, Said::Nothing);
    assert_eq!(fleet.ask(&doors[0], credential.text()).await, Said::Inactive);
}

/// Nobody who comes in gets its row before the test says so.
const DOOR: &str = "
    create function wait_at_the_door() returns trigger language plpgsql as $$
    begin perform pg_advisory_xact_lock(4711); return new; end $$;
    create trigger door before insert on nodes for each row execute function wait_at_the_door();";

/// A node has loaded its memory, and does not have its row yet: calls do not wait for it. What it says about a key that is
/// revoked at that moment, and what it says once it is in.
async fn joins(off: &[Protection]) -> (Said, Said) {
    let _without = Without::these(off).await;
    let db = TestDb::new().await;
    let first = Node::start(&db).await;
    let operator = first.operator().await;
    let server = operator.server(&first).await;
    let key = operator.key(&first, &server, &["tools/call"]).await;
    let client = client();
    db.execute(DOOR).await;
    let mut door = db.connection().await;
    door.execute("begin; select pg_advisory_xact_lock(4711)").await.expect("shut");
    let newcomer = Process::start(&db.options, off);
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'";
    first.until("it stands at the door", async || db.count(waiting).await > 0).await;
    operator.post(&first, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
    let (mut early, mut late) = (Said::Nothing, Said::Nothing);
    first
        .until("it listens", async || {
            early = ask(&client, &server, &newcomer.url, &key.key).await;
            early != Said::Nothing
        })
        .await;
    door.execute("rollback").await.expect("open");
    first
        .until("it is in", async || {
            late = ask(&client, &server, &newcomer.url, &key.key).await;
            matches!(late, Said::Inactive)
        })
        .await;
    (early, late)
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_2_a_node_that_joins_answers_only_after_a_round_that_began_when_its_row_was_there() {
    assert_eq!(joins(&[]).await, (Said::Unavailable, Said::Inactive));
    assert_eq!(joins(&[Protection::JoinFirst]).await.0, Said::Active, "the test cannot see what it is for");
}
