//! Removes what is of no more use: secrets that nobody fetched, rows of expired tokens, spent revocations, sign-ins, authorization requests, old outcomes
//! and counts, the feed's tail.

use crate::app::App;
use crate::authorizations;
use crate::clients;
use crate::idempotency;
use crate::issuers;
use crate::jobs::lease::Run;
use crate::keys;
use crate::observations;
use crate::proofs;
use crate::providers;
use crate::revocations;
use crate::sessions;
use crate::users;
use crate::webhooks;

/// Assertions, proofs, logout tokens and links of one batch.
const TOKENS_MAX: i64 = 1_000;
/// Clients of one batch. Each is an entry of the feed, and nobody else writes that meanwhile.
const CLIENTS_MAX: i64 = 100;
/// Deliveries of one batch.
const DELIVERIES_MAX: i64 = 1_000;

pub(super) async fn run(app: &App, run: &mut Run) -> anyhow::Result<()> {
    let db = &app.db;
    run.batches(db, "revocations_settled", async |tx| revocations::settle(tx).await).await?;
    // Before an entry that ended them may be forgotten.
    run.batches(db, "sign_ins", async |tx| {
        Ok(users::expire_logins(tx).await?
            + users::expire_consents(tx).await?
            + authorizations::expire(tx).await?
            + providers::expire_logout_tokens(tx, TOKENS_MAX).await?)
    })
    .await?;
    run.batches(db, "outcomes", async |tx| {
        Ok(idempotency::expire(tx).await? + observations::expire(tx).await? + crate::feed::prune(tx).await?)
    })
    .await?;
    run.batches(db, "revocations", async |tx| revocations::prune(tx).await).await?;
    let before = super::partitions::sessions_before(app);
    run.batches(db, "tokens", async move |tx| {
        Ok(sessions::expire(tx, before).await? + sessions::refresh::expire(tx).await?)
    })
    .await?;
    run.batches(db, "claims", async |tx| keys::claims::expire(tx, TOKENS_MAX).await).await?;
    run.batches(db, "assertions_and_proofs", async |tx| {
        Ok(clients::expire_assertions(tx, TOKENS_MAX).await?
            + issuers::expire_assertions(tx, TOKENS_MAX).await?
            + proofs::expire(tx, TOKENS_MAX).await?)
    })
    .await?;
    run.batches(db, "deliveries", async |tx| webhooks::expire(tx, DELIVERIES_MAX).await).await?;
    // Clients that registered themselves and that nobody agreed to.
    let forgotten = run.batches(db, "clients", async |tx| clients::sweep(tx, CLIENTS_MAX).await).await?;
    if forgotten > 0 && !run.is_dry() {
        tracing::info!(forgotten, "clients were forgotten that nobody agreed to");
    }
    Ok(())
}
