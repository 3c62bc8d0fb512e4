//! Every ten seconds the audit's chains get a signed checkpoint, if they moved. Each is also written to the log, which is
//! kept outside of the database.

use time::OffsetDateTime;

use crate::app::App;
use crate::audit::{self, Checkpoint};
use crate::db::partitions;
use crate::jobs::lease::Run;
use crate::signing::Purpose;
use crate::types::alg::Alg;
use crate::types::clock::Timestamp;

/// The job, and the lock under which checkpoints are numbered.
pub(super) const NAME: &str = "audit_checkpoint";
/// `typ` of a checkpoint's JWS.
const TYP: &str = "mcpa-checkpoint";

pub(super) async fn run(app: &App, run: &mut Run) -> anyhow::Result<()> {
    let mut tx = app.db.begin().await?;
    if !super::only_one(&mut tx, NAME).await? {
        return Ok(());
    }
    let signed = sign(app, &mut tx).await?;
    run.finish(&app.db, tx).await?;
    run.count("checkpoints", u64::from(signed.is_some()));
    if run.is_dry() {
        return Ok(());
    }
    if let Some(jws) = signed {
        tracing::info!(target: "audit_checkpoint", jws, "keep this line elsewhere: `audit verify --checkpoint` takes it");
    }
    app.metrics.set_audit_checkpoint_age(std::time::Duration::ZERO);
    Ok(())
}

/// Makes the next checkpoint within a transaction, if a chain moved.
///
/// # Errors
///
/// The database refuses, or there is no key.
pub async fn sign(app: &App, tx: &mut sqlx::PgConnection) -> anyhow::Result<Option<String>> {
    with_signer(app, async |signer, now| audit::checkpoint(tx, signer, now).await).await
}

/// Removes the oldest entries of the audit whose time is over. None are, or a checkpoint is being written: false.
pub(super) async fn remove_oldest(app: &App, run: &Run) -> anyhow::Result<bool> {
    let mut tx = partitions::begin(&app.db).await?;
    if !super::only_one(&mut tx, NAME).await? {
        return Ok(false);
    }
    let signed = with_signer(app, async |signer, now| audit::remove_oldest(&mut tx, signer, now).await).await?;
    let Some(jws) = signed else { return Ok(false) };
    run.finish(&app.db, tx).await?;
    if !run.is_dry() {
        tracing::info!(target: "audit_checkpoint", jws, "entries were removed whose time was over; keep this line like the others");
    }
    Ok(true)
}

async fn with_signer(
    app: &App,
    make: impl AsyncFnOnce(&audit::Signer<'_>, OffsetDateTime) -> crate::db::Result<Option<String>>,
) -> anyhow::Result<Option<String>> {
    let signers = app.feed.signers();
    let now: Timestamp = app.live.now();
    let signer = signers
        .current(Purpose::Checkpoint, Alg::EdDsa, now)
        .ok_or_else(|| anyhow::anyhow!("there is no key for checkpoints yet"))?;
    let sign = |checkpoint: &Checkpoint| signer.sign(TYP, checkpoint).ok();
    Ok(make(&audit::Signer { kid: &signer.kid, sign: &sign }, now.to_utc()).await?)
}
