//! Signing keys: a successor is published before the old one's time is over; retired private halves are wiped. What is sealed,
//! by whatever room, moves to the newest secret key.

use std::collections::HashSet;

use sqlx::PgConnection;

use crate::app::App;
use crate::jobs::lease::Run;
use crate::providers;
use crate::signing::{self, Purpose};
use crate::types::alg::Alg;
use crate::types::caller::Caller;
use crate::webhooks::{self, Event, EventType};

pub(super) async fn run(app: &App, run: &mut Run) -> anyhow::Result<()> {
    // Without a current round it is not known which secret key the other nodes can open.
    anyhow::ensure!(app.live.answer(|_| ()).is_ok(), "this node is not current");
    let secret_key = app.feed.secret_key();
    let sealing = app.sealing(&secret_key);
    let mut tx = app.db.begin().await?;
    if !super::only_one(&mut tx, "signing_keys").await? {
        return Ok(());
    }
    let before = known(&mut tx).await?;
    // In the order in which a starting node takes the locks; the other way round the two would wait for each other.
    let mut wanted = vec![(Purpose::Session, Alg::EdDsa), (Purpose::Checkpoint, Alg::EdDsa)];
    let algs: HashSet<Alg> = app.live.memory().servers.iter().map(|(_, server)| server.alg).collect();
    wanted.extend(algs.into_iter().filter(|alg| *alg != Alg::EdDsa).map(|alg| (Purpose::Session, alg)));
    for (purpose, alg) in wanted {
        if let Some(kid) = signing::ensure(&mut tx, sealing, purpose, alg).await? {
            let event = Event::new(EventType::SigningKeyRotated, None).about(&kid);
            let event = event.by(&Caller::nobody("system".to_owned())).with("alg", alg.as_str());
            webhooks::note(&mut tx, &event.with("purpose", purpose.as_str())).await?;
        }
    }
    signing::tidy(&mut tx, sealing).await?;
    providers::reseal(&mut tx, sealing).await?;
    webhooks::reseal(&mut tx, sealing).await?;
    let made = known(&mut tx).await?.saturating_sub(before);
    run.finish(&app.db, tx).await?;
    run.count("signing_keys_made", u64::try_from(made).unwrap_or(0));
    if run.is_dry() {
        return Ok(());
    }
    let now = app.live.now();
    let signers = app.feed.signers();
    for alg in [Alg::EdDsa, Alg::Es256, Alg::Rs256] {
        if let Some(signer) = signers.current(Purpose::Session, alg, now) {
            app.metrics.set_signing_key_expiry(alg.as_str(), signer.from.plus(signing::SIGNS_FOR).seconds());
        }
    }
    Ok(())
}

/// How many keys are known, also those that sign no more.
async fn known(tx: &mut PgConnection) -> crate::db::Result<usize> {
    let sessions = signing::public_of(tx, Purpose::Session).await?.len();
    Ok(sessions + signing::public_of(tx, Purpose::Checkpoint).await?.len())
}
