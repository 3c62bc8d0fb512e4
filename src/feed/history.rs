//! When the database is not the one that was followed: a promoted standby, a restored backup, a pruned feed.

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;

use crate::audit::{self, Entry};
use crate::db;
use crate::feed::follow::Lost;
use crate::feed::load::Loaded;
use crate::feed::store;
use crate::gate::{Live, Subject};
use crate::revocations::{self, Kind};
use crate::settings;
use crate::types::caller::Caller;
use crate::types::id::RevocationId;

/// Writes back the revocations that this node had applied and the database lacks, and opens a new history if the database
/// went back behind what this node had applied. The caller then loads everything anew.
pub(super) async fn recover(connection: &mut PgConnection, live: &Live, applied: Loaded) -> Result<(), Lost> {
    let mut tx = connection.begin().await?;
    if settings::installation(&mut tx).await? != applied.installation {
        return Err(Lost::Dead("the database belongs to another installation".to_owned()));
    }
    let head = store::lock_head(&mut tx).await?;
    let found = store::mark_at(&mut tx, applied.position.number).await?;
    let pruned = found.is_none() && applied.position.number < store::oldest(&mut tx).await?;
    let same = pruned || found == Some(applied.mark);
    let memory = live.memory();
    for (subject, cutoff) in memory.revoked.entries() {
        let (kind, target) = name(subject);
        if cutoff.whole {
            restore(&mut tx, kind, &target, None).await?;
        }
        if let Some(at) = cutoff.issued_before {
            restore(&mut tx, kind, &target, Some(at.to_utc())).await?;
        }
    }
    // Another node may have opened it already; one is enough.
    if !same && head.history <= applied.position.history {
        let history = open_after(&mut tx, applied.position.history).await?;
        tracing::error!(
            history,
            "the database lost changes that were acknowledged: a new history begins, all session tokens are void"
        );
    }
    tx.commit().await?;
    Ok(())
}

async fn restore(tx: &mut PgConnection, kind: Kind, target: &str, before: Option<OffsetDateTime>) -> db::Result<()> {
    let id = RevocationId::random();
    if revocations::restore(tx, id.as_str(), kind.as_str(), target, before).await? {
        let entry = Entry::new(&Caller::nobody("system".to_owned()), "revocation.written_back");
        audit::append(tx, &entry.on(target).with("kind", kind.as_str()).with("revocation", id.as_str())).await?;
    }
    Ok(())
}

fn name(subject: &Subject) -> (Kind, String) {
    match subject {
        Subject::Token(id) => (Kind::Token, id.to_string()),
        Subject::Key(id) => (Kind::Key, id.to_string()),
        Subject::KeySessions(id) => (Kind::KeySessions, id.to_string()),
        Subject::Agent(id) => (Kind::Agent, id.to_string()),
        Subject::Server(id) => (Kind::Server, id.to_string()),
        Subject::Client(id) => (Kind::Client, id.to_string()),
        Subject::User(id) => (Kind::User, id.to_string()),
        Subject::Consent(id) => (Kind::Grant, id.to_string()),
        Subject::Provider(id) => (Kind::Provider, id.to_string()),
        Subject::Project(name) => (Kind::Project, name.to_string()),
        Subject::SigningKey(kid) => (Kind::SigningKey, kid.to_string()),
        Subject::Operator(id) => (Kind::Operator, id.to_string()),
        Subject::All => (Kind::All, "all".to_owned()),
    }
}

/// Opens a new history: every session token from before is void, every acknowledgement too.
///
/// # Errors
///
/// The database refuses.
pub async fn open_history(tx: &mut PgConnection) -> db::Result<i64> {
    let before = store::lock_head(tx).await?.history;
    open_after(tx, before).await
}

async fn open_after(tx: &mut PgConnection, before: i64) -> db::Result<i64> {
    let history = before + 1;
    store::open(tx, history).await?;
    let entry = Entry::new(&Caller::nobody("system".to_owned()), "feed.history_opened");
    audit::append(tx, &entry.on("feed").with("history", history)).await?;
    Ok(history)
}
