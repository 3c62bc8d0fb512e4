//! What goes wrong between a node and its database, and with a node's process.

use mcp_authority::types::switches::Protection;
use rustix::process::Signal;

use crate::fleet::{Fleet, Said};
use crate::storm::{pause, succumb, withstand};
use crate::support::{Road, Seeded};

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_1_without_any_fault_no_node_answers_active_after_a_revocation() {
    let fleet = Fleet::start(&[]).await;
    withstand("none", &fleet, async |seeded| pause(seeded, 10, 20).await).await;
    drop(fleet);
    let fleet = Fleet::start(&[Protection::Waiting]).await;
    succumb("none", &fleet, async |seeded| pause(seeded, 10, 20).await).await;
}

/// The road to the database is bad for a while, then good for a while.
async fn road(fleet: &Fleet, seeded: &mut Seeded, road: Road, (from, to): (usize, usize)) {
    fleet.proxy.set(road);
    pause(seeded, from, to).await;
    fleet.proxy.set(Road::Open);
    pause(seeded, 100, 600).await;
}

async fn on_a_bad_road(name: &str, bad: Road, long: (usize, usize), protection: Protection) {
    let fleet = Fleet::start(&[]).await;
    withstand(name, &fleet, async |seeded| road(&fleet, seeded, bad, long).await).await;
    drop(fleet);
    let fleet = Fleet::start(&[protection]).await;
    succumb(name, &fleet, async |seeded| road(&fleet, seeded, bad, long).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_3_connections_that_are_cut_end_the_lease() {
    on_a_bad_road("connections cut", Road::Cut, (50, 1_800), Protection::Lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_3_connections_that_hang_end_the_lease() {
    on_a_bad_road("connections hang", Road::Frozen, (50, 1_800), Protection::Lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_3_a_node_whose_row_was_removed_while_it_hung_extends_nothing_with_the_next_round() {
    on_a_bad_road("hangs until its row is removed", Road::Frozen, (1_500, 2_200), Protection::Beat).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_6_a_row_is_not_removed_while_its_node_may_still_answer() {
    on_a_bad_road("hangs within the lease", Road::Frozen, (300, 700), Protection::Silence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_3_a_lease_counts_from_before_its_round_was_sent_however_late_the_answer_is() {
    on_a_bad_road("answers late", Road::LateReads, (1_000, 3_000), Protection::LeaseFromSent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_1_on_a_slow_road_a_revocation_waits_for_it() {
    on_a_bad_road("slow", Road::Slow, (500, 2_000), Protection::Waiting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_a_half_open_connection_gives_it_up_and_comes_back() {
    for (off, comes_back) in [(&[][..], true), (&[Protection::RoundBound][..], false)] {
        let fleet = Fleet::start(off).await;
        let doors = fleet.doors();
        // What the node says is lost from here on, and nobody tells it.
        fleet.proxy.set(Road::HalfOpen);
        fleet.until("it stops", async || fleet.ask(&doors[1], &fleet.key.key).await == Said::Unavailable).await;
        let credential = fleet.credential(false).await;
        fleet.revoke_somewhere(0, &credential).await;
        assert_ne!(fleet.ask(&doors[1], credential.text()).await, Said::Active);
        fleet.proxy.set(Road::Open);
        let mut answered = false;
        // A round is given up after ten seconds.
        for _ in 0..150 {
            answered = fleet.ask(&doors[1], &fleet.key.key).await == Said::Active;
            if answered {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(answered, comes_back, "{off:?}");
        assert_ne!(fleet.ask(&doors[1], credential.text()).await, Said::Active);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_5_a_process_that_is_stopped_and_resumed_does_not_answer_from_the_past() {
    // Longer than any call waits: the others have given it up when it goes on, with requests in its sockets.
    let stopped = async |fleet: &Fleet, seeded: &mut Seeded| {
        fleet.process.signal(Signal::STOP);
        pause(seeded, 100, 2_200).await;
        fleet.process.signal(Signal::CONT);
        pause(seeded, 100, 500).await;
    };
    let fleet = Fleet::start(&[]).await;
    withstand("stopped and resumed", &fleet, async |seeded| stopped(&fleet, seeded).await).await;
    drop(fleet);
    let fleet = Fleet::start(&[Protection::Lease]).await;
    succumb("stopped and resumed", &fleet, async |seeded| stopped(&fleet, seeded).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_10_no_wake_up_is_needed_for_a_revocation_to_hold() {
    let quiet = async |seeded: &mut Seeded| pause(seeded, 10, 20).await;
    let fleet = Fleet::start(&[Protection::WakeUps]).await;
    withstand("wake-ups suppressed", &fleet, quiet).await;
    drop(fleet);
    // Without the poll the others hear nothing: they stop answering, which is safe, and useless.
    let mut fleet = Fleet::start(&[Protection::WakeUps]).await;
    fleet.also_without(Protection::Poll);
    let doors = fleet.doors();
    fleet.until("they fall silent", async || fleet.ask(&doors[1], &fleet.key.key).await == Said::Unavailable).await;
    for _ in 0..20 {
        assert_eq!(fleet.ask(&doors[1], &fleet.key.key).await, Said::Unavailable);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
