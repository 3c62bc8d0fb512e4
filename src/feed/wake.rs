//! Waking the other nodes when something was committed, and being woken. Only for speed: a lost wake-up costs one poll.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use crate::feed::{Feed, store};
use crate::types::switches::{Protection, on};

/// The channel that wakes other nodes.
pub(super) const CHANNEL: &str = "mcpa_feed";
/// Wake-ups are sent at most this often.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(1);
/// How long after a failure it is tried again to hear them.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Feed {
    /// Wakes the other nodes after commits, until `stop`. Errors are only logged.
    pub async fn announce(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.db.told().elsewhere.notified()).await.is_some() {
            let sent = async { store::wake(&mut *self.db.reserved().acquire().await?, CHANNEL, self.node()).await };
            if !on(Protection::WakeUps) {
                continue;
            }
            if let Err(error) = sent.await {
                tracing::debug!(%error, "a wake-up was not sent");
            }
            tokio::time::sleep(ANNOUNCE_INTERVAL).await;
        }
    }

    /// Wakes the follower when another node announces a change. Behind a pooler in transaction mode nothing is ever heard,
    /// and the poll does it alone.
    pub(super) async fn listen(&self) {
        loop {
            if let Err(error) = self.hear().await {
                tracing::debug!(%error, "wake-ups are not heard; the poll goes on");
            }
            tokio::time::sleep(LISTEN_AGAIN_AFTER).await;
        }
    }

    async fn hear(&self) -> sqlx::Result<()> {
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.db.options().clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(CHANNEL).await?;
        loop {
            // This node has told itself already.
            if listener.recv().await?.payload() != self.node().simple().to_string() {
                self.db.told().here.notify_one();
            }
        }
    }
}
