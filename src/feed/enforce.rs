//! The one function that waits until a change holds on every node.
//!
//! A node that has not applied the change cannot renew its lease without reading it, so when the longest lease since the
//! commit is over, no node answers from memory that lacks it. By then, or as soon as all have acknowledged, the wait ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use uuid::Uuid;

use crate::db::{Db, Done};
use crate::feed::follow::longest_wait;
use crate::feed::wake::CHANNEL;
use crate::feed::{Feed, store};
use crate::gate::Position;
use crate::nodes::{self, Census, Seen};
use crate::settings::LEASE_MAX;
use crate::types::clock::BootInstant;
use crate::types::switches::{Protection, on};

/// A call is answered after this long at the latest; the change is then enforced by the end of the lease, and a 202 says so.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a call that only adds rights waits for the other nodes.
pub const STANDBY_WAIT_MAX: Duration = Duration::from_millis(250);
/// How long a command waits for the nodes that run beside it.
const COMMAND_WAIT_MAX: Duration = Duration::from_secs(5);
/// A node usually says within this time that it has a change. So long a call looks often, and then less often.
const LOOK_OFTEN: Duration = Duration::from_millis(10);
const LOOK_AGAIN_FIRST: Duration = Duration::from_millis(1);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(8);

/// What became of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It said that it has applied the change.
    Acknowledged,
    /// Its row is gone: it had stopped answering.
    Gone,
    /// It said nothing until its lease was over.
    WaitedOut,
    /// It has said nothing yet.
    Pending,
}

/// A node, as the waiting call saw it.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct NodeState {
    /// Its id.
    pub id: String,
    /// What became of it.
    pub state: State,
    /// How long after the commit that was known.
    pub after_ms: u64,
}

/// The receipt of a change that takes something away. What a server has cached, or verifies by itself, is outside of it.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Enforced {
    /// No node answers from memory that lacks the change.
    pub complete: bool,
    /// The change's place in the feed: `<history>.<number>`.
    pub position: String,
    /// Whether the database holds the change on a standby too, before it is acknowledged.
    pub survives_failover: bool,
    /// The nodes that were there when the change was committed.
    pub nodes: Vec<NodeState>,
}

impl Feed {
    /// Waits until the change holds on every node, or ten seconds.
    pub async fn enforced(&self, done: Done) -> Enforced {
        self.wait(done, WAIT_MAX).await
    }

    /// Waits until every node has the change, but not longer than a moment: for what only adds rights.
    pub async fn spread(&self, done: Done) {
        self.wait(done, STANDBY_WAIT_MAX).await;
    }

    async fn wait(&self, done: Done, longest: Duration) -> Enforced {
        // A lease that was lengthened a moment ago may not be known here yet: the one that counts is read after the commit.
        let mut lease_over = longest_wait(LEASE_MAX);
        let mut first: Option<Vec<Uuid>> = None;
        let (mut rows, mut ours) = (Vec::new(), false);
        let mut receipt = Receipt::new(done);
        loop {
            let elapsed = BootInstant::now().since(done.committed);
            // What this node has applied is known without asking.
            let ask = first.is_none() || receipt.waits_for_others(self.node());
            let (node, beat) = (self.node(), self.shared.beat.load(Ordering::Relaxed));
            if ask && let Ok(census) = self.census().await {
                // A database without this node's last beat is another one, that may lack nodes too.
                ours = census.nodes.iter().any(|row| row.id == node && row.beat >= beat);
                if first.is_none() {
                    lease_over = longest_wait(census.longest_lease);
                    first = Some(census.nodes.iter().map(|row| row.id).collect());
                }
                receipt.survives_failover = census.synchronous_standby;
                rows = census.nodes;
            }
            if let Some(first) = &first {
                rows = self.own(rows);
                receipt.look(first, &rows, elapsed);
            }
            // Rows tell nothing while this node has not watched them for a whole lease: an acknowledgement may be missing.
            let connected = BootInstant::now().since(**self.shared.connected.load());
            let rows_count = ours && connected >= lease_over || self.shared.alone;
            let all = rows_count && first.is_some() && receipt.pending() == 0;
            if all || elapsed >= lease_over || !on(Protection::Waiting) {
                receipt.close(true, elapsed);
                break;
            }
            if elapsed >= longest {
                receipt.close(false, elapsed);
                break;
            }
            let pause = if elapsed < LOOK_OFTEN { LOOK_AGAIN_FIRST } else { LOOK_AGAIN_MAX };
            let _ = self.reaches_or_pause(done.position, pause).await;
        }
        receipt.into_enforced()
    }

    /// What this node has applied is known here before its row says so.
    fn own(&self, mut rows: Vec<Seen>) -> Vec<Seen> {
        let (id, applied) = (self.node(), *self.shared.applied.borrow());
        for row in rows.iter_mut().filter(|row| row.id == id) {
            row.applied = applied;
        }
        rows
    }

    async fn reaches_or_pause(&self, position: Position, pause: Duration) -> bool {
        if self.shared.applied.borrow().covers(position) {
            tokio::time::sleep(pause).await;
            return true;
        }
        self.reaches(position, pause).await
    }

    /// In a new statement, on the primary.
    async fn census(&self) -> crate::db::Result<Census> {
        nodes::census(&mut *self.db.reserved().acquire().await?).await
    }

    /// How a change that the database holds stands now, for those who ask again later.
    ///
    /// # Errors
    ///
    /// The database cannot answer.
    pub async fn standing(&self, position: Position) -> crate::db::Result<Enforced> {
        let census = self.census().await?;
        let rows = self.own(census.nodes);
        let current = self.db.position().await?;
        // Who is in the history of now has loaded the whole database after it began, with everything of the ones before.
        let asked = if position.history < current.history { Position { number: 0, ..current } } else { position };
        let mut receipt = Receipt::new(Done { position: asked, committed: BootInstant::now() });
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        receipt.look(&ids, &rows, Duration::ZERO);
        let complete = receipt.pending() == 0;
        receipt.close(complete, Duration::ZERO);
        receipt.position = position;
        receipt.survives_failover = census.synchronous_standby;
        Ok(receipt.into_enforced())
    }
}

/// For a command that runs beside the service: wakes the nodes, and waits until each has what was committed, at most five
/// seconds. Says whether all have it; a node that fell silent has not until its row is gone.
///
/// # Errors
///
/// The database cannot answer.
pub async fn spread_from_outside(db: &Db, done: Done) -> crate::db::Result<bool> {
    let mut connection = db.reserved().acquire().await?;
    store::wake(&mut connection, CHANNEL, Uuid::nil()).await?;
    loop {
        let census = nodes::census(&mut connection).await?;
        if census.nodes.iter().all(|node| node.applied.covers(done.position)) {
            return Ok(true);
        }
        if BootInstant::now().since(done.committed) >= COMMAND_WAIT_MAX {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_AGAIN_MAX).await;
    }
}

struct Receipt {
    position: Position,
    complete: bool,
    survives_failover: bool,
    nodes: Vec<(Uuid, State, Duration)>,
}

impl Receipt {
    const fn new(done: Done) -> Self {
        Self { position: done.position, complete: false, survives_failover: false, nodes: Vec::new() }
    }

    fn look(&mut self, first: &[Uuid], rows: &[Seen], elapsed: Duration) {
        for id in first {
            if !self.nodes.iter().any(|(known, ..)| known == id) {
                self.nodes.push((*id, State::Pending, elapsed));
            }
        }
        for (id, state, at) in self.nodes.iter_mut().filter(|(_, state, _)| *state == State::Pending) {
            let row = rows.iter().find(|row| row.id == *id);
            let now = match row {
                None => State::Gone,
                Some(row) if row.applied.covers(self.position) => State::Acknowledged,
                Some(_) => State::Pending,
            };
            (*state, *at) = (now, elapsed);
        }
    }

    fn waits_for_others(&self, own: Uuid) -> bool {
        self.nodes.iter().any(|(id, state, _)| *state == State::Pending && *id != own)
    }

    fn pending(&self) -> usize {
        self.nodes.iter().filter(|(_, state, _)| *state == State::Pending).count()
    }

    fn close(&mut self, complete: bool, elapsed: Duration) {
        self.complete = complete;
        if complete {
            for (_, state, at) in self.nodes.iter_mut().filter(|(_, state, _)| *state == State::Pending) {
                (*state, *at) = (State::WaitedOut, elapsed);
            }
        }
    }

    fn into_enforced(self) -> Enforced {
        let node = |(id, state, at): (Uuid, State, Duration)| NodeState {
            id: id.simple().to_string(),
            state,
            after_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        };
        Enforced {
            complete: self.complete,
            position: self.position.to_string(),
            survives_failover: self.survives_failover,
            nodes: self.nodes.into_iter().map(node).collect(),
        }
    }
}
