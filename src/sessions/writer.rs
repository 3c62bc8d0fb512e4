//! Rows of issued tokens, many in one commit. A token is handed out only after its row is durable.

use std::sync::Arc;

use aws_lc_rs::digest;
use futures_util::future::join_all;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::audit::{self, Entry};
use crate::db::{self, Db};
use crate::refusal::{Code, Refused};
use crate::sessions::{Draft, store};
use crate::types::caller::Caller;

/// Tokens that may wait to be written; past that callers are told to come back.
pub const QUEUE_MAX: usize = 8_192;
const BATCH_MAX: usize = 256;
/// Batches that are written at the same time: while one is committed the next is on its way. More would only be smaller.
/// Each writer has an audit chain of its own, else one would wait until the other's batch is on disk.
const WRITERS: usize = 2;

struct Asked {
    row: store::New,
    reply: oneshot::Sender<Result<(), Refused>>,
}

/// Hands rows to those who commit them.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Asked>,
}

impl Writer {
    /// A writer, and the future that serves it until all its handles are gone. Each batch is one entry of an audit chain.
    pub fn new(db: Db) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, asked) = mpsc::channel(QUEUE_MAX);
        let asked = Arc::new(Mutex::new(asked));
        let writers = (0..WRITERS).map(move |_| serve(db.clone(), Arc::clone(&asked)));
        (Self { queue }, async { drop(join_all(writers).await) })
    }

    /// Writes a token's row. Holds afterwards: it is durable.
    ///
    /// # Errors
    ///
    /// The queue is full, or the database refuses; the token must not be handed out then.
    pub async fn write(&self, draft: &Draft, kid: &str) -> Result<(), Refused> {
        let (reply, answer) = oneshot::channel();
        let row = store::New::of(draft, kid);
        let full = || Refused::new(Code::TemporarilyUnavailable, "Too many tokens wait to be written; try again.");
        self.queue.try_send(Asked { row, reply }).map_err(|_| full())?;
        answer.await.map_err(|_| Refused::new(Code::TemporarilyUnavailable, "The service is stopping."))?
    }
}

async fn serve(db: Db, asked: Arc<Mutex<mpsc::Receiver<Asked>>>) {
    let mut chain = Chain { name: audit::own_chain(), open: false };
    let mut batch = Vec::with_capacity(BATCH_MAX);
    // The lock is held while waiting for the first row of a batch, and never while one is written.
    while asked.lock().await.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let (rows, replies): (Vec<_>, Vec<_>) = batch.drain(..).map(|asked| (asked.row, asked.reply)).unzip();
        let written = chain.commit(&db, &rows).await;
        // After a failure it may be gone, with what the database has lost.
        chain.open = written.is_ok();
        if let Err(error) = &written {
            tracing::error!(%error, rows = rows.len(), "issued tokens could not be written; none of them is handed out");
        }
        for reply in replies {
            let answer = if written.is_ok() {
                Ok(())
            } else {
                Err(Refused::new(Code::TemporarilyUnavailable, "The database cannot answer now."))
            };
            let _ = reply.send(answer);
        }
    }
}

/// The audit chain of one writer.
struct Chain {
    name: String,
    /// It is known to be there.
    open: bool,
}

impl Chain {
    async fn commit(&self, db: &Db, rows: &[store::New]) -> db::Result<()> {
        let mut tx = db.begin().await?;
        store::insert(&mut tx, rows).await?;
        let by = Caller::nobody("system".to_owned());
        let mut entry = Entry::new(&by, "session.issued").with("count", rows.len()).with("rows", fingerprint(rows));
        if let [only] = rows {
            entry = entry.on(&only.id).server(&only.server_id);
            if let (Some(agent), Some(key)) = (&only.agent_id, &only.key_id) {
                entry = entry.agent(agent).key(key);
            }
            for (name, value) in [("user_id", &only.user_id), ("client_id", &only.client_id)] {
                if let Some(value) = value {
                    entry = entry.with(name, value.as_str());
                }
            }
        }
        if !self.open {
            audit::open_chain(&mut tx, &self.name).await?;
        }
        audit::append_to(&mut tx, &self.name, &entry).await?;
        db::commit(tx).await
    }
}

/// SHA-256 over the rows of a batch, each as a line of JSON, so that the audit vouches for them.
fn fingerprint(rows: &[store::New]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for row in rows {
        context.update(serde_json::to_string(row).unwrap_or_default().as_bytes());
        context.update(b"\n");
    }
    context.finish().as_ref().iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    })
}
