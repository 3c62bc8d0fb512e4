//! Signing keys: a successor is published before the old one's time is over; retired private halves are wiped. What is sealed,
//! by whatever room, moves to the newest secret key.

use std::collections::HashSet;

use crate::app::App;
use crate::providers;
use crate::signing::{self, Purpose};
use crate::types::alg::Alg;

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    // Before the first round it is not known which secret key the other nodes can open.
    if app.live.answer(|_| ()).is_err() {
        return Ok(());
    }
    let secret_key = app.feed.secret_key();
    let sealing = app.sealing(&secret_key);
    let mut tx = app.db.begin().await?;
    if !super::only_one(&mut tx, "signing_keys").await? {
        return Ok(());
    }
    // In the order in which a starting node takes the locks; the other way round the two would wait for each other.
    signing::ensure(&mut tx, sealing, Purpose::Session, Alg::EdDsa).await?;
    signing::ensure(&mut tx, sealing, Purpose::Checkpoint, Alg::EdDsa).await?;
    let algs: HashSet<Alg> = app.live.memory().servers.iter().map(|(_, server)| server.alg).collect();
    for alg in algs.into_iter().filter(|alg| *alg != Alg::EdDsa) {
        signing::ensure(&mut tx, sealing, Purpose::Session, alg).await?;
    }
    signing::tidy(&mut tx, sealing).await?;
    providers::reseal(&mut tx, sealing).await?;
    app.db.commit_change(tx).await?;
    let now = app.live.now();
    let signers = app.feed.signers();
    for alg in [Alg::EdDsa, Alg::Es256, Alg::Rs256] {
        if let Some(signer) = signers.current(Purpose::Session, alg, now) {
            app.metrics.set_signing_key_expiry(alg.as_str(), signer.from.plus(signing::SIGNS_FOR).seconds());
        }
    }
    Ok(())
}
