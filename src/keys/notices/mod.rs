//! What is told of a key while it comes to its end: that it is due, reminders, that an old secret or the key itself has ended.
//! Owns `key_notices`. That it ends holds in every node's memory; nothing here makes it so.
//!
//! A notice stands at a distance from the end of a version of the secret. Each version remembers the nearest one told, in the
//! transaction that told it: none is told twice, and one that was missed while no job ran is told late, or with the next.

mod step;
mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::audit::{self, Entry};
use crate::db;
use crate::settings::Settings;
use crate::types::caller::Caller;
use crate::types::environment::Environment;
use crate::webhooks::{self, Event};

pub use step::Notice;

/// When reminders are due, in days before the end, for each environment.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reminders {
    prod: Vec<i32>,
    dev: Vec<i32>,
}

impl Reminders {
    /// As the policies say.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let days = |environment| settings.policy(environment).remind_days.clone();
        Self { prod: days(Environment::Prod), dev: days(Environment::Dev) }
    }

    fn days(&self, environment: &str) -> &[i32] {
        match Environment::parse(environment) {
            Some(Environment::Dev) => &self.dev,
            _ => &self.prod,
        }
    }
}

/// A notice that was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// What.
    pub notice: Notice,
    /// Of which key.
    pub key_id: String,
    /// Of which version of its secret.
    pub version: i32,
}

/// Has the versions of at most `limit` keys after `after` looked at anew: those that have no notices yet, and all after a change of
/// the reminders. Gives the last key, and how many versions; `None`: there are no more.
///
/// # Errors
///
/// The database refuses.
pub async fn look_anew(tx: &mut PgConnection, after: &str, limit: i64) -> db::Result<Option<(String, u64)>> {
    let Some(last) = store::last_of_next(tx, after, limit).await? else { return Ok(None) };
    let rows = store::look_anew(tx, after, &last).await?;
    Ok(Some((last, rows)))
}

/// A rotation of a key was taken back: what was told of its overlap's end counts no more, and the reminders begin anew.
///
/// # Errors
///
/// The database refuses.
pub async fn told_nothing(tx: &mut PgConnection, key: &str) -> db::Result<()> {
    store::told_nothing(tx, key).await
}

/// Looks at up to `limit` versions that there may be something to tell of, and tells it: an entry of the audit in `chain` and an
/// event each, in this transaction. Gives how many it looked at too; fewer than `limit`: that was all.
///
/// # Errors
///
/// The database refuses.
pub async fn tell(
    tx: &mut PgConnection,
    chain: &str,
    reminders: &Reminders,
    limit: i64,
) -> db::Result<(usize, Vec<Told>)> {
    let due = store::due(tx, limit).await?;
    let (mut next, mut told) = (store::Next::default(), Vec::new());
    for row in &due {
        let step = step::of(row, reminders.days(&row.environment));
        next.add(row, &step);
        if let Some(notice) = step.notice {
            if told.is_empty() {
                audit::open_chain(tx, chain).await?;
            }
            audit::append_to(tx, chain, &entry(row, notice)).await?;
            webhooks::note(tx, &event(row, notice)).await?;
            told.push(Told { notice, key_id: row.key_id.clone(), version: row.version });
        }
    }
    store::set_next(tx, &next).await?;
    Ok((due.len(), told))
}

fn entry(row: &store::Due, notice: Notice) -> Entry {
    let mut entry = Entry::new(&Caller::nobody("system".to_owned()), notice.as_str())
        .on(&row.key_id)
        .project(&row.project)
        .agent(&row.agent_id)
        .key(&row.key_id)
        .with("version", row.version)
        .with("ends_at", text(row.expires_at))
        .with("old_secret", row.is_old());
    if let Some(used) = row.last_used_at {
        entry = entry.with("last_used_at", text(used));
    }
    entry
}

fn event(row: &store::Due, notice: Notice) -> Event {
    let event = Event::new(notice.event(), Some(&row.project))
        .key(&row.key_id)
        .agent(&row.agent_id)
        .with("version", row.version)
        .with("ends_at", text(row.expires_at))
        .with("seconds_left", (row.expires_at - row.now).whole_seconds().max(0))
        .with("old_secret", row.is_old());
    // Of an old secret this says whether somebody still uses it.
    match row.last_used_at {
        Some(used) => event.with("last_used_at", text(used)).with("still_used", used > row.newest_at),
        None => event.with("still_used", false),
    }
}

fn text(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
