//! The one function that waits until a change holds on every node.
//!
//! A node that has not applied the change cannot renew its lease without reading it, so when the longest lease since the
//! commit is over, no node answers from memory that lacks it. By then, or as soon as all have acknowledged, the wait ends.

use std::time::Duration;

use uuid::Uuid;

use crate::db::Done;
use crate::feed::Feed;
use crate::feed::follow::longest_wait;
use crate::feed::store;
use crate::gate::Position;
use crate::nodes::{self, Seen};
use crate::settings::{self, LEASE_MAX};
use crate::types::clock::BootInstant;
use crate::types::switches::{Protection, on};

/// A call is answered after this long at the latest; the change is then enforced by the end of the lease, and a 202 says so.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a call that only adds rights waits for the other nodes.
pub const STANDBY_WAIT_MAX: Duration = Duration::from_millis(250);
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
        self.changed();
        // A lease that was lengthened a moment ago may not be known here yet: the one that counts is read after the commit.
        let mut lease_over = longest_wait(LEASE_MAX);
        // Rows tell nothing while this node has not watched them for a whole lease: an acknowledgement may be missing.
        let connected = BootInstant::now().since(**self.shared.connected.load());
        let mut seen: Option<Vec<Uuid>> = None;
        let mut receipt = Receipt::new(done);
        let mut pause = LOOK_AGAIN_FIRST;
        loop {
            let elapsed = BootInstant::now().since(done.committed);
            if let Ok((rows, longest_lease)) = self.rows().await {
                lease_over = seen.as_ref().map_or_else(|| longest_wait(longest_lease), |_| lease_over);
                let first = seen.get_or_insert_with(|| rows.iter().map(|row| row.id).collect());
                receipt.look(first, &self.own(rows), elapsed);
            }
            let rows_count = connected >= lease_over || self.shared.alone;
            let all = rows_count && seen.is_some() && receipt.pending() == 0;
            if all || elapsed >= lease_over || !on(Protection::Waiting) {
                receipt.close(true, elapsed);
                break;
            }
            if elapsed >= longest {
                receipt.close(false, elapsed);
                break;
            }
            let _ = self.reaches_or_pause(done.position, pause).await;
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
        receipt.survives_failover = self.standby_is_synchronous().await;
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

    /// In new statements, on the primary: the nodes, and the longest lease that any of them may be under.
    async fn rows(&self) -> crate::db::Result<(Vec<Seen>, Duration)> {
        let mut connection = self.db.reserved().acquire().await?;
        let lease = settings::longest_lease(&mut connection).await?;
        Ok((nodes::others(&mut connection).await?, lease))
    }

    async fn standby_is_synchronous(&self) -> bool {
        let asked = async {
            let mut connection = self.db.reserved().acquire().await?;
            store::standby_is_synchronous(&mut connection).await
        };
        // Unknown is no.
        asked.await.unwrap_or(false)
    }

    /// How a change that the database holds stands now, for those who ask again later.
    ///
    /// # Errors
    ///
    /// The database cannot answer.
    pub async fn standing(&self, position: Position) -> crate::db::Result<Enforced> {
        let rows = self.own(self.rows().await?.0);
        let current = self.db.position().await?;
        // Who is in the history of now has loaded the whole database after it began, with everything of the ones before.
        let asked = if position.history < current.history { Position { number: 0, ..current } } else { position };
        let mut receipt = Receipt::new(Done { position: asked, committed: BootInstant::now() });
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        receipt.look(&ids, &rows, Duration::ZERO);
        let complete = receipt.pending() == 0;
        receipt.close(complete, Duration::ZERO);
        receipt.position = position;
        receipt.survives_failover = self.standby_is_synchronous().await;
        Ok(receipt.into_enforced())
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
