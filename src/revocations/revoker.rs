//! Revocations that arrive together are committed together: one disk write for up to 256 of them.

use tokio::sync::{mpsc, oneshot};

use crate::db::{self, Db, Done};
use crate::gate::Position;
use crate::refusal::{Code, Refused};
use crate::revocations::{Kind, New, add, store};
use crate::types::caller::Caller;
use crate::types::clock::BootInstant;

/// Revocations that may wait for the next batch; past that callers are told to come back.
pub const QUEUE_MAX: usize = 4_096;
const BATCH_MAX: usize = 256;

/// A revocation that is committed, or was before.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// Its entry.
    pub id: String,
    /// Its own place in the feed, and when it was seen committed.
    pub done: Done,
}

struct Asked {
    by: Caller,
    new: New,
    reply: oneshot::Sender<Result<Revoked, Refused>>,
}

/// Hands revocations to the one task that commits them.
#[derive(Clone)]
pub struct Revoker {
    queue: mpsc::Sender<Asked>,
}

impl Revoker {
    /// A revoker, and the task that serves it until all its handles are gone.
    pub fn new(db: Db) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, asked) = mpsc::channel(QUEUE_MAX);
        (Self { queue }, serve(db, asked))
    }

    /// Revokes. Holds afterwards: the entry is durable; it is not enforced yet.
    ///
    /// # Errors
    ///
    /// The queue is full, a time lies in the future, or the database refuses.
    pub async fn revoke(&self, by: &Caller, new: New) -> Result<Revoked, Refused> {
        let (reply, answer) = oneshot::channel();
        let full = || Refused::new(Code::TemporarilyUnavailable, "Too many revocations wait; try again.");
        self.queue.try_send(Asked { by: by.clone(), new, reply }).map_err(|_| full())?;
        answer.await.map_err(|_| {
            Refused::new(Code::OutcomeUnknown, "The service is stopping; read whether the change is there.")
        })?
    }
}

async fn serve(db: Db, mut asked: mpsc::Receiver<Asked>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while asked.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut waiting = Vec::with_capacity(batch.len());
        match commit(&db, &mut batch, &mut waiting).await {
            Ok((places, committed)) => {
                for (id, reply) in waiting {
                    let place = places.iter().find(|place| place.id == id);
                    let position = place.map(|place| Position { history: place.history, number: place.number });
                    let revoked = position.map(|position| Revoked { id, done: Done { position, committed } });
                    let _ =
                        reply
                            .send(revoked.ok_or_else(|| {
                                Refused::new(Code::OutcomeUnknown, "Read whether the change is there.")
                            }));
                }
            }
            Err(error) => {
                tracing::error!(%error, "a batch of revocations failed");
                let unknown = matches!(error, db::Error::OutcomeUnknown(_));
                let code = if unknown { Code::OutcomeUnknown } else { Code::TemporarilyUnavailable };
                for (_, reply) in waiting {
                    let _ =
                        reply.send(Err(Refused::new(code, "The database cannot answer now. Revoking again is safe.")));
                }
            }
        }
        batch.clear();
    }
}

type Waiting = Vec<(String, oneshot::Sender<Result<Revoked, Refused>>)>;

async fn commit(
    db: &Db,
    batch: &mut Vec<Asked>,
    waiting: &mut Waiting,
) -> db::Result<(Vec<store::Place>, BootInstant)> {
    let begun = db.begin_reserved().await;
    let mut tx = match begun {
        Ok(tx) => tx,
        Err(error) => {
            waiting.extend(batch.drain(..).map(|asked| (String::new(), asked.reply)));
            return Err(error);
        }
    };
    let mut keys = Vec::new();
    let mut failed = None;
    for asked in batch.drain(..) {
        if failed.is_some() {
            waiting.push((String::new(), asked.reply));
            continue;
        }
        match add(&mut tx, &asked.by, &asked.new).await {
            Ok((id, _)) => {
                if asked.new.kind == Kind::Key {
                    keys.push(asked.new.target);
                }
                waiting.push((id, asked.reply));
            }
            Err(Refused { cause: Some(cause), .. }) => {
                failed = Some(cause);
                waiting.push((String::new(), asked.reply));
            }
            // Refused for what it asks: the others go on.
            Err(refused) => drop(asked.reply.send(Err(refused))),
        }
    }
    if let Some(cause) = failed {
        return Err(cause);
    }
    store::mark(&mut tx, &keys).await?;
    let committed = db.commit_change(tx).await?;
    let ids: Vec<String> = waiting.iter().map(|(id, _)| id.clone()).collect();
    // From here on the entries are there: whatever fails now, "not done" would be wrong.
    let mut connection = db.reserved().acquire().await.map_err(db::Error::OutcomeUnknown)?;
    let places = store::places(&mut connection, &ids).await.map_err(db::Error::after_commit)?;
    Ok((places, committed))
}
