//! Sends what is in the outbox. Each receiver has a line of its own on a node, so that a slow one holds up nobody else; what
//! a line takes is taken in the database, so that several nodes may send at once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use rand::RngExt;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::audit::{self, Entry};
use crate::db::{self, Db};
use crate::gate::Live;
use crate::outbound::{self, Outbound};
use crate::refusal::Refused;
use crate::telemetry::DeliveryCounts;
use crate::types::caller::Caller;
use crate::types::clock::Timestamp;
use crate::types::id::WebhookId;
use crate::webhooks::mail::Mailer;
use crate::webhooks::outbox::store::{Attempt, Ended, claim, due, settle};
use crate::webhooks::signature::{self, Signer};
use crate::webhooks::{Event, EventType, WEBHOOKS_MAX, Webhook, note, store};

/// How long after each attempt the next one is, and how many there are: one more than these.
const WAITS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];
/// A wait is longer by up to this part of it, so that what failed together is not tried together.
const JITTER: f64 = 0.2;
/// Attempts under way to one receiver, from one node.
const AT_ONCE: i64 = 4;
/// From the first byte to the receiver's status.
const ATTEMPT_MAX: Duration = Duration::from_secs(15);
/// For how long an attempt belongs to the node that began it. Longer than one can take, so that none is begun twice by two
/// nodes that live.
const LEASE_SECONDS: i64 = 60;
/// A webhook that nothing came through to for so long is switched off.
const FAILING_SECONDS_MAX: i64 = 5 * 86_400;

/// How the client for webhooks is bounded: all lines together, each with what it may have under way.
#[must_use]
fn limits() -> outbound::Limits {
    let at_once = WEBHOOKS_MAX * usize::try_from(AT_ONCE).unwrap_or(1);
    outbound::Limits {
        connect: Duration::from_secs(5),
        total: ATTEMPT_MAX,
        wait: ATTEMPT_MAX,
        at_once,
        at_once_per_host: at_once,
        crowd: at_once,
    }
}

/// What sending needs.
pub struct Means {
    /// The outbox.
    pub db: Db,
    /// The secret keys, and what time it is.
    pub live: Arc<Live>,
    /// What owners are told with; `None`: no mail is sent from here.
    pub mailer: Option<Mailer>,
    /// What is counted.
    pub counts: DeliveryCounts,
    /// Where attempts run: the service waits for them when it stops, and begins none once it is closed.
    pub tasks: TaskTracker,
}

/// Sends. Clones share its lines.
#[derive(Clone)]
pub struct Deliverer(Arc<Inner>);

struct Inner {
    means: Means,
    outbound: Outbound,
    lines: Mutex<HashSet<String>>,
}

/// The line to one receiver, while it is open.
struct Line {
    inner: Arc<Inner>,
    told: String,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.inner.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.told);
    }
}

/// How an attempt ended.
enum Outcome {
    Through(u16),
    Failed {
        status: Option<u16>,
        error: &'static str,
    },
    /// The receiver wants no more.
    Gone(u16),
}

impl Deliverer {
    /// What sends. `build` makes its client with these limits.
    ///
    /// # Errors
    ///
    /// As `build`.
    pub fn new<E>(means: Means, build: impl FnOnce(outbound::Limits) -> Result<Outbound, E>) -> Result<Self, E> {
        let outbound = build(limits())?;
        Ok(Self(Arc::new(Inner { means, outbound, lines: Mutex::default() })))
    }

    /// The client that deliveries are sent with.
    #[must_use]
    pub fn outbound(&self) -> &Outbound {
        &self.0.outbound
    }

    /// Opens a line to everybody for whom something is due and who has none from here. Does not wait for them. Gives for
    /// whom something is due.
    ///
    /// # Errors
    ///
    /// The database cannot answer.
    pub async fn turn(&self) -> db::Result<Vec<String>> {
        let Means { db, mailer, tasks, .. } = &self.0.means;
        if mailer.is_some() {
            store::mailer_seen(&mut *db.reads().acquire().await?).await?;
        }
        let due = self.due().await?;
        for told in &due {
            let free = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).insert(told.clone());
            if free {
                // Dropped without having run, it is closed too.
                let line = Line { inner: Arc::clone(&self.0), told: told.clone() };
                if !tasks.is_closed() {
                    tasks.spawn(line.run());
                }
            }
        }
        Ok(due)
    }

    /// For whom something is due: webhooks by their ids, and `mail`.
    ///
    /// # Errors
    ///
    /// The database cannot answer.
    pub async fn due(&self) -> db::Result<Vec<String>> {
        let Means { db, mailer, .. } = &self.0.means;
        due(&mut *db.reads().acquire().await?, mailer.is_some()).await
    }
}

impl Line {
    /// Sends until nothing is due.
    async fn run(self) {
        loop {
            match self.batch().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(told = self.told, %error, "deliveries could not be taken or noted; they are tried again");
                    return;
                }
            }
        }
    }

    /// One batch; whether there may be more.
    async fn batch(&self) -> Result<bool, Refused> {
        let Means { db, live, tasks, .. } = &self.inner.means;
        if tasks.is_closed() {
            return Ok(false);
        }
        let mut connection = db.reads().acquire().await?;
        let to = match self.told.parse::<WebhookId>() {
            Ok(id) => match store::find(&mut connection, id).await? {
                Some(webhook) => Some(Arc::new(Receiver::open(&mut connection, live, id, webhook).await?)),
                None => return Ok(false),
            },
            Err(_) => None,
        };
        let attempts = claim(&mut connection, &self.told, LEASE_SECONDS, AT_ONCE).await?;
        drop(connection);
        let more = !attempts.is_empty();
        let mut under_way = JoinSet::new();
        for attempt in attempts {
            under_way.spawn(Arc::clone(&self.inner).one(to.clone(), attempt));
        }
        while let Some(ended) = under_way.join_next().await {
            match ended {
                Ok(ended) => ended?,
                // Its lease ends, and it is tried again.
                Err(error) => tracing::error!(told = self.told, %error, "a delivery was broken off"),
            }
        }
        Ok(more)
    }
}

/// A webhook with its keys opened.
struct Receiver {
    id: WebhookId,
    webhook: Webhook,
    signers: Vec<Signer>,
}

impl Receiver {
    /// Without a key that this node can open there are no signers, and nothing is sent.
    async fn open(
        connection: &mut sqlx::PgConnection,
        live: &Live,
        id: WebhookId,
        webhook: Webhook,
    ) -> db::Result<Self> {
        let mut signers = Vec::new();
        for key in store::keys(connection, id).await? {
            match Signer::open(&live.keyring, webhook.signature, &key) {
                Ok(signer) => signers.push(signer),
                Err(error) => tracing::error!(webhook = webhook.id, %error, "a webhook's key cannot be opened"),
            }
        }
        Ok(Self { id, webhook, signers })
    }
}

impl Inner {
    /// One attempt, from the request to the note of how it ended.
    async fn one(self: Arc<Self>, to: Option<Arc<Receiver>>, attempt: Attempt) -> Result<(), Refused> {
        let outcome = match (&to, &attempt.mail_to, &self.means.mailer) {
            (Some(receiver), ..) => self.post(receiver, &attempt).await,
            (None, Some(owner), Some(mailer)) => mail(mailer, owner, &attempt).await,
            _ => Outcome::Failed { status: None, error: "no_mailer" },
        };
        let ended = ended(&attempt, &outcome);
        self.means.counts.count(to.is_none(), if ended.status == "pending" { "failed" } else { ended.status });
        let mut tx = self.means.db.begin().await?;
        settle(&mut tx, &ended).await?;
        if let Some(receiver) = &to {
            match outcome {
                Outcome::Through(_) => store::came_through(&mut tx, receiver.id).await?,
                Outcome::Failed { .. } => self.failed(&mut tx, receiver, false).await?,
                Outcome::Gone(_) => self.failed(&mut tx, receiver, true).await?,
            }
        }
        Ok(self.means.db.commit_change(tx).await.map(drop)?)
    }

    /// Sends it (Standard Webhooks): the signature is over the id, the time of this attempt and the body.
    async fn post(&self, to: &Receiver, attempt: &Attempt) -> Outcome {
        let failed = |error| Outcome::Failed { status: None, error };
        if to.signers.is_empty() {
            return failed("no_key");
        }
        let at: Timestamp = self.means.live.now();
        let request = Request::post(to.webhook.url.as_str())
            .header("content-type", "application/json")
            .header("webhook-id", &attempt.event_id)
            .header("webhook-timestamp", at.seconds())
            .header("webhook-signature", signature::header(&to.signers, &attempt.event_id, at, &attempt.body))
            .body(attempt.body.clone().into_bytes());
        let Ok(request) = request else { return failed("address_refused") };
        match self.outbound.post(request).await {
            Ok(status @ 200..=299) => Outcome::Through(status),
            Ok(410) => Outcome::Gone(410),
            Ok(status) => Outcome::Failed { status: Some(status), error: "status" },
            Err(error) => failed(error.as_str()),
        }
    }

    /// Notes that it failed; a receiver that is gone, or fails for days, is told nothing more, and the others of that.
    async fn failed(&self, tx: &mut sqlx::PgConnection, to: &Receiver, gone: bool) -> db::Result<()> {
        let Some(why) = store::failed(tx, to.id, gone, FAILING_SECONDS_MAX).await? else { return Ok(()) };
        let Webhook { id, name, project, .. } = &to.webhook;
        tracing::warn!(webhook = id, reason = why, "nothing more is delivered to a webhook");
        let by = Caller::nobody("system".to_owned());
        let event = Event::new(EventType::WebhookDisabled, project.as_deref()).about(id).by(&by);
        note(tx, &event.with("name", name.as_str()).with("reason", why.as_str())).await?;
        audit::append(tx, &Entry::new(&by, "webhook.disabled").on(id).with("reason", why)).await?;
        Ok(())
    }
}

async fn mail(mailer: &Mailer, owner: &str, attempt: &Attempt) -> Outcome {
    match mailer.send(owner, &attempt.event_id, &attempt.body).await {
        Ok(()) => Outcome::Through(250),
        Err(error) => Outcome::Failed { status: error.status, error: error.word },
    }
}

/// What is noted of an attempt.
fn ended<'a>(attempt: &'a Attempt, outcome: &Outcome) -> Ended<'a> {
    let (status, last_status, last_error) = match *outcome {
        Outcome::Through(status) => ("delivered", Some(status), None),
        Outcome::Gone(status) => ("dead", Some(status), Some("gone")),
        Outcome::Failed { status, error } if wait(attempt.attempts).is_some() => ("pending", status, Some(error)),
        Outcome::Failed { status, error } => ("dead", status, Some(error)),
    };
    let wait = wait(attempt.attempts).unwrap_or_default().as_secs_f64();
    let wait_seconds = wait * (1.0 + JITTER * rand::rng().random::<f64>());
    let last_status = last_status.map(i32::from);
    Ended { id: &attempt.id, attempts: attempt.attempts, status, last_status, last_error, wait_seconds }
}

/// How long after this attempt the next one is; `None`: it was the last.
fn wait(attempts: i32) -> Option<Duration> {
    usize::try_from(attempts - 1).ok().and_then(|before| WAITS.get(before)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_go_on_for_three_days_and_end() {
        assert_eq!(wait(1), Some(Duration::from_secs(5)));
        assert_eq!(wait(9), Some(Duration::from_hours(24)));
        assert_eq!(wait(10), None, "ten attempts");
        let all: Duration = WAITS.iter().sum();
        assert!(all > Duration::from_hours(72) && all < Duration::from_hours(24 * 5));
        assert!(u64::try_from(LEASE_SECONDS).unwrap() > (ATTEMPT_MAX * 2).as_secs() + 10, "waiting, sending, noting");
    }

    #[test]
    fn mail_is_no_webhooks_id() {
        assert!(crate::webhooks::outbox::store::MAIL.parse::<WebhookId>().is_err());
    }
}
