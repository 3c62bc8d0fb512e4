//! Reads the audit's chains and checkpoints, some pages at a time and then from the beginning again. What it finds is told once,
//! and stays a warning until a whole round finds nothing.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::audit::{self, Entry, Reached, Verified};
use crate::jobs::lease::Run;
use crate::signing::{self, Purpose};
use crate::types::caller::Caller;
use crate::webhooks::{self, Event, EventType};

/// Pages of a thousand entries in one run: a tenth of a second of reading, in which no partition can be dropped.
const PAGES_MAX: u32 = 20;
/// Findings that are named where it is told.
const FINDINGS_TOLD_MAX: usize = 5;

/// Where the job goes on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    /// `None`: at the beginning.
    reached: Option<Reached>,
    /// This round has found something.
    found: bool,
    /// Something that was found is told, and no round since was without a finding.
    told: bool,
}

pub(super) async fn run(app: &App, run: &mut Run) -> anyhow::Result<()> {
    // A place of another form is of another release: the round begins anew.
    let place: Place = run.place.take().and_then(|place| serde_json::from_value(place).ok()).unwrap_or_default();
    let mut connection = app.db.reads().acquire().await?;
    let keys: HashMap<String, _> = signing::public_of(&mut connection, Purpose::Checkpoint)
        .await?
        .into_iter()
        .filter_map(|key| Some((key.kid, signing::decoding(&key.jwk)?)))
        .collect();
    let key = |kid: &str| keys.get(kid).cloned();
    let from = place.reached.unwrap_or_default();
    let (verified, reached) = audit::verify_on(&mut connection, &key, from, PAGES_MAX).await?;
    drop(connection);
    run.count("entries", u64::try_from(verified.entries).unwrap_or(0));
    run.count("checkpoints", u64::try_from(verified.checkpoints).unwrap_or(0));
    run.count("findings", u64::try_from(verified.findings.len()).unwrap_or(0));
    verified.findings.iter().for_each(|finding| run.example(finding.to_string()));
    // A round through a large audit is not hurried: the rest is for the next period.
    let found = place.found || !verified.findings.is_empty();
    let over = reached.is_none();
    let told = if over { found } else { place.told || found };
    let next = Place { reached, found: found && !over, told };
    let mut tx = app.db.begin().await?;
    if !verified.findings.is_empty() {
        run.set_warning(&mut tx, Some(&summary(&verified))).await?;
        if !place.told {
            tell(&mut tx, &verified).await?;
        }
    } else if over && !found {
        run.set_warning(&mut tx, None).await?;
    }
    run.set_place(&mut tx, serde_json::to_value(next)?).await?;
    run.finish(&app.db, tx).await?;
    if !run.is_dry() {
        for finding in &verified.findings {
            tracing::error!(%finding, "the audit is not as it was written");
        }
    }
    Ok(())
}

fn summary(verified: &Verified) -> String {
    let first = verified.findings.first().map(ToString::to_string).unwrap_or_default();
    let text = format!("the audit is not as it was written: {first} ({} findings)", verified.findings.len());
    super::status::shown(&text)
}

async fn tell(tx: &mut sqlx::PgConnection, verified: &Verified) -> crate::db::Result<()> {
    let findings: Vec<String> = verified.findings.iter().take(FINDINGS_TOLD_MAX).map(ToString::to_string).collect();
    let entry = Entry::new(&Caller::nobody("system".to_owned()), "audit.broken")
        .on("audit")
        .with("findings", verified.findings.len())
        .with("first", findings.clone());
    audit::append(tx, &entry).await?;
    let event = Event::new(EventType::AuditBroken, None).with("findings", verified.findings.len());
    webhooks::note(tx, &event.with("first", findings)).await
}
