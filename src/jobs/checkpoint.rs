//! Every ten seconds the audit's chains get a signed checkpoint, if they moved. Each is also written to the log, which is
//! kept outside of the database.

use crate::app::App;
use crate::audit::{self, Checkpoint};
use crate::signing::Purpose;
use crate::types::alg::Alg;
use crate::types::clock::Timestamp;

/// `typ` of a checkpoint's JWS.
const TYP: &str = "mcpa-checkpoint";

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    let mut tx = app.db.begin().await?;
    if !super::only_one(&mut tx, "audit_checkpoint").await? {
        return Ok(());
    }
    // The first round may not be through yet; the next turn is soon.
    if app.live.answer(|_| ()).is_err() {
        return Ok(());
    }
    let signed = sign(app, &mut tx).await?;
    crate::db::commit(tx).await?;
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
    let signers = app.feed.signers();
    let now: Timestamp = app.live.now();
    let signer = signers
        .current(Purpose::Checkpoint, Alg::EdDsa, now)
        .ok_or_else(|| anyhow::anyhow!("there is no key for checkpoints yet"))?;
    let sign = |checkpoint: &Checkpoint| signer.sign(TYP, checkpoint).ok();
    Ok(audit::checkpoint(tx, &audit::Signer { kid: &signer.kid, sign: &sign }, now.to_utc()).await?)
}
