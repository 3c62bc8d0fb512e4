//! Entries of what changed nothing – refusals, sign-ins –, written behind in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::audit::{Entry, store};
use crate::db::{self, Db};

/// Entries that may wait to be written. Past that nothing more is done that would have to be recorded.
pub const QUEUE_ENTRIES_MAX: usize = 8_192;
const BATCH_ENTRIES_MAX: usize = 256;
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// The name of a chain that nobody else writes: one for each who records on his own, because a chain's head is locked
/// until its entry is on disk. It is opened before its first entry.
pub(crate) fn own_chain() -> String {
    format!("node:{}", uuid::Uuid::new_v4().simple())
}

/// This start of the node, as the audit knows it.
#[derive(Clone, Debug)]
pub struct Recorder {
    chain: Arc<str>,
    queue: mpsc::Sender<Entry>,
    writing: Arc<AtomicBool>,
}

impl Recorder {
    /// A recorder with a chain of its own, and the task that writes until `stop`, then what is left, then ends.
    pub fn new(db: Db, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, entries) = mpsc::channel(QUEUE_ENTRIES_MAX);
        let chain: Arc<str> = own_chain().into();
        let recorder = Self { chain, queue, writing: Arc::new(AtomicBool::new(true)) };
        let writer = Writer { db, chain: Arc::clone(&recorder.chain), writing: Arc::clone(&recorder.writing) };
        (recorder, writer.run(entries, stop))
    }

    /// Whether more can be recorded: there is room, and the last batch was written.
    #[must_use]
    pub fn can_record(&self) -> bool {
        self.writing.load(Ordering::Relaxed) && self.queue.capacity() > 0
    }

    /// Hands an entry over. False when the queue is full: the entry is lost, which is logged and counted by the caller.
    #[must_use]
    pub fn record(&self, entry: Entry) -> bool {
        self.queue.try_send(entry).is_ok()
    }

    /// How many entries wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        QUEUE_ENTRIES_MAX - self.queue.capacity()
    }
}

struct Writer {
    db: Db,
    chain: Arc<str>,
    writing: Arc<AtomicBool>,
}

impl Writer {
    async fn run(self, mut entries: mpsc::Receiver<Entry>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_ENTRIES_MAX);
        loop {
            tokio::select! {
                biased;
                received = entries.recv_many(&mut batch, BATCH_ENTRIES_MAX) => if received == 0 { return },
                () = stop.cancelled() => {
                    entries.close();
                    if entries.is_empty() { return }
                    continue;
                }
            }
            while let Err(error) = self.write(&mut batch).await {
                self.writing.store(false, Ordering::Relaxed);
                tracing::error!(%error, entries = batch.len(), "the audit cannot be written; changes are refused until it can");
                if stop.is_cancelled() {
                    return;
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
            self.writing.store(true, Ordering::Relaxed);
            batch.clear();
        }
    }

    /// What an attempt has written whose answer was lost is taken from the batch.
    async fn write(&self, batch: &mut Vec<Entry>) -> db::Result<()> {
        let mut tx = self.db.begin().await?;
        store::lock_recorder(&mut tx, &self.chain).await?;
        if !self.writing.load(Ordering::Relaxed) {
            let ids: Vec<String> = batch.iter().map(|entry| entry.id().to_owned()).collect();
            let written = store::written(&mut tx, &ids).await?;
            batch.retain(|entry| !written.iter().any(|id| id == entry.id()));
        }
        let bodies: Vec<String> = batch.iter().map(Entry::to_body).collect();
        store::open_chain(&mut tx, &self.chain).await?;
        store::insert(&mut tx, &self.chain, &bodies).await?;
        db::commit(tx).await
    }
}

/// Makes sure that a node's chain exists before a batch of issued tokens is written to it.
pub(crate) async fn open_chain(tx: &mut sqlx::PgConnection, chain: &str) -> db::Result<()> {
    store::open_chain(tx, chain).await
}
