//! Clocks that somebody moves.

use std::time::Duration;

use futures_util::future::join_all;
use mcp_authority::types::switches::Protection;
use rustix::process::Signal;

use crate::fleet::{Fleet, Said};
use crate::storm::{pause, withstand};
use crate::support::Road;

/// Longer than a revoking call waits for a silent node.
const PAUSED: Duration = Duration::from_millis(1_800);

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_5_a_wall_clock_that_is_set_lengthens_no_lease() {
    let fleet = Fleet::start(&[]).await;
    let doors = fleet.doors();
    withstand("wall clock set", &fleet, async |seeded| {
        let hour = 3_600_000;
        let by = *seeded.pick(&[hour, -hour, 400, -400, 0]);
        fleet.process.clocks(0, by);
        pause(seeded, 50, 600).await;
    })
    .await;
    // The next round starts from the clock as it is then: the node is not lost.
    fleet.until("it goes on", async || fleet.ask(&doors[2], &fleet.key.key).await == Said::Active).await;
}

/// A guest system is paused, and its boot-time clock does not know. The node's process goes on with questions in its
/// sockets, about a credential that was revoked meanwhile, and cannot reach its database yet.
async fn paused(off: &[Protection]) -> Vec<Said> {
    let fleet = Fleet::start(off).await;
    let doors = fleet.doors();
    let credential = fleet.credential(true).await;
    fleet.until("it knows the key", async || fleet.ask(&doors[2], credential.text()).await == Said::Active).await;
    fleet.process.signal(Signal::STOP);
    fleet.proxy.set(Road::Frozen);
    assert!(fleet.revoke(&doors[0], &credential).await);
    tokio::time::sleep(PAUSED).await;
    let asking = join_all((0..20).map(|_| fleet.ask(&doors[2], credential.text())));
    let going_on = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // All of the pause and more is missing from the boot-time clock, and the wall clock was put right.
        fleet.process.clocks(-60_000, 0);
        fleet.process.signal(Signal::CONT);
    };
    let (said, ()) = tokio::join!(asking, going_on);
    fleet.process.clocks(0, 0);
    fleet.proxy.set(Road::Open);
    fleet.until("it is current again", async || fleet.ask(&doors[2], credential.text()).await == Said::Inactive).await;
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_5_a_boot_time_clock_that_missed_a_pause_is_found_out_by_the_wall_clock() {
    let said = paused(&[]).await;
    assert!(said.iter().all(|said| *said == Said::Unavailable), "{said:?}");
    let said = paused(&[Protection::WallStep]).await;
    assert!(said.contains(&Said::Active), "the test cannot see what it is for: {said:?}");
}
