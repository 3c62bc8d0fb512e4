//! Removes what is of no more use: secrets that nobody fetched, rows of expired tokens, spent revocations, sign-ins, authorization requests, old outcomes
//! and counts, the feed's tail.

use crate::app::App;
use crate::authorizations;
use crate::clients;
use crate::db;
use crate::idempotency;
use crate::issuers;
use crate::keys;
use crate::observations;
use crate::proofs;
use crate::providers;
use crate::revocations;
use crate::sessions;
use crate::users;

/// Batches of one run.
const BATCHES_MAX: usize = 50;
/// Assertions, proofs, logout tokens and links of one batch.
const TOKENS_MAX: i64 = 1_000;
/// Clients of one batch. Each is an entry of the feed, and nobody else writes that meanwhile.
const CLIENTS_MAX: i64 = 100;

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    let mut tx = app.db.begin().await?;
    if !super::only_one(&mut tx, "expire").await? {
        return Ok(());
    }
    let settled = revocations::settle(&mut tx).await?;
    // Before an entry that ended them may be forgotten.
    people(app).await?;
    idempotency::expire(&mut tx).await?;
    observations::expire(&mut tx).await?;
    crate::feed::prune(&mut tx).await?;
    app.db.commit_change(tx).await?;
    let mut pruned = 0;
    for _ in 0..BATCHES_MAX {
        let mut tx = app.db.begin().await?;
        let removed = revocations::prune(&mut tx).await?;
        db::commit(tx).await?;
        pruned += removed;
        if removed == 0 {
            break;
        }
    }
    tracing::debug!(settled, pruned, "spent entries were removed");
    let before = super::partitions::sessions_before(app);
    for _ in 0..BATCHES_MAX {
        let mut tx = app.db.begin().await?;
        let removed = sessions::expire(&mut tx, before).await? + sessions::refresh::expire(&mut tx).await?;
        db::commit(tx).await?;
        if removed == 0 {
            break;
        }
    }
    claims(app).await?;
    strangers(app).await
}

/// Sign-ins and consents that are over, and requests on their way.
async fn people(app: &App) -> anyhow::Result<()> {
    for _ in 0..BATCHES_MAX {
        let mut tx = app.db.begin().await?;
        let removed = users::expire_logins(&mut tx).await? + users::expire_consents(&mut tx).await?;
        let removed = removed
            + authorizations::expire(&mut tx).await?
            + providers::expire_logout_tokens(&mut tx, TOKENS_MAX).await?;
        app.db.commit_change(tx).await?;
        if removed == 0 {
            break;
        }
    }
    Ok(())
}

/// Secrets in links that nobody opened in time.
async fn claims(app: &App) -> anyhow::Result<()> {
    for _ in 0..BATCHES_MAX {
        let mut tx = app.db.begin().await?;
        let removed = keys::claims::expire(&mut tx, TOKENS_MAX).await?;
        db::commit(tx).await?;
        if removed == 0 {
            break;
        }
    }
    Ok(())
}

/// Assertions and proofs that are over, and clients that registered themselves and that nobody agreed to.
async fn strangers(app: &App) -> anyhow::Result<()> {
    for _ in 0..BATCHES_MAX {
        let mut tx = app.db.begin().await?;
        let removed = clients::expire_assertions(&mut tx, TOKENS_MAX).await?
            + issuers::expire_assertions(&mut tx, TOKENS_MAX).await?
            + proofs::expire(&mut tx, TOKENS_MAX).await?;
        db::commit(tx).await?;
        if removed == 0 {
            break;
        }
    }
    for _ in 0..BATCHES_MAX {
        let mut tx = app.db.begin().await?;
        let removed = clients::sweep(&mut tx, CLIENTS_MAX).await?;
        app.db.commit_change(tx).await?;
        if removed == 0 {
            break;
        }
        tracing::info!(removed, "clients were forgotten that nobody agreed to");
    }
    Ok(())
}
