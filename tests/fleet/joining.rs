//! Nodes that are killed and nodes that start, while revocations go on.

use std::cell::RefCell;

use mcp_authority::types::switches::Protection;

use crate::fleet::{Fleet, Said, Without, ask, client};
use crate::process::Process;
use crate::storm::{pause, withstand};
use crate::support::{Node, Proxy, Road, TestDb};

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

/// Starts nodes on a slow road while tokens are revoked one after another. Counts answers "active" about dead ones.
async fn joins(off: &[Protection]) -> usize {
    let _without = Without::these(off).await;
    let db = TestDb::new().await;
    let first = Node::start(&db).await;
    let operator = first.operator().await;
    let server = operator.server(&first).await;
    let key = operator.key(&first, &server, &["tools/call"]).await;
    let client = client();
    let mut wrong = 0;
    for _ in 0..4 {
        // The node loads its memory, and cannot yet say that it is there: calls do not wait for it.
        let proxy = Proxy::start(&db).await;
        proxy.set(Road::Slow);
        let victim = operator.key(&first, &server, &["tools/call"]).await;
        let joining = Node::start_at(&db, proxy.options(&db), &[]);
        let revoking = async {
            let rows = "select count(*) from pg_stat_activity where datname = current_database()
                 and application_name = 'mcp-authority feed' and query ilike '%from revocations%'";
            // The moment at which the newcomer has read the revocations.
            first.until("it has loaded", async || db.count(rows).await > 0).await;
            operator.post(&first, &format!("/v1/keys/{}/revoke", victim.id), serde_json::json!({})).await.enforced();
        };
        let (second, ()) = tokio::join!(joining, revoking);
        for _ in 0..3 {
            wrong += usize::from(ask(&client, &server, &second.url(""), &victim.key).await == Said::Active);
        }
        assert_eq!(ask(&client, &server, &first.url(""), &key.key).await, Said::Active);
        second.stop().await;
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_2_a_node_that_joins_answers_only_after_a_round_that_began_when_its_row_was_there() {
    assert_eq!(joins(&[]).await, 0);
    assert!(joins(&[Protection::JoinFirst]).await > 0, "the test cannot see what it is for");
}
