//! Tells of keys that are due, end soon or have ended. That they end holds at the moment of use, whether this runs or not.

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::jobs::lease::Run;
use crate::keys::notices::{self, Reminders};
use crate::settings;

/// Versions that one transaction looks at. Whoever rotates one of them meanwhile waits for it.
const BATCH: i64 = 200;
/// Keys whose notices one transaction makes, or has looked at anew.
const ANEW_BATCH: i64 = 1_000;
/// Batches of one run; the next run goes on at once.
const BATCHES_MAX: usize = 200;

/// Where the job goes on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    /// The reminders by which the notices stand.
    reminders: Option<Reminders>,
    /// The last key that was looked at anew since they changed; `None`: all were.
    anew_after: Option<String>,
}

pub(super) async fn run(app: &App, run: &mut Run) -> anyhow::Result<()> {
    let reminders = Reminders::of(&settings::get(&mut *app.db.reads().acquire().await?).await?);
    let place: Option<Place> = run.place.take().and_then(|place| serde_json::from_value(place).ok());
    let place = place.filter(|place| place.reminders.as_ref() == Some(&reminders));
    let place = place.unwrap_or_else(|| Place { reminders: Some(reminders.clone()), anew_after: Some(String::new()) });
    look_anew(app, run, place).await?;
    for _ in 0..BATCHES_MAX {
        let mut tx = app.db.begin().await?;
        let (looked, told) = notices::tell(&mut tx, app.upkeep.chain(), &reminders, BATCH).await?;
        run.finish(&app.db, tx).await?;
        for told in told {
            run.count(told.notice.as_str(), 1);
            run.example(format!("{} {} version {}", told.notice.as_str(), told.key_id, told.version));
        }
        if i64::try_from(looked).unwrap_or(BATCH) < BATCH {
            return Ok(());
        }
        if !run.goes_on() {
            break;
        }
    }
    run.report.more = true;
    Ok(())
}

/// After a change of the reminders, and at first: every key is looked at, by id.
async fn look_anew(app: &App, run: &mut Run, mut place: Place) -> anyhow::Result<()> {
    for _ in 0..BATCHES_MAX {
        let Some(after) = place.anew_after.take() else { return Ok(()) };
        let mut tx = app.db.begin().await?;
        let looked = notices::look_anew(&mut tx, &after, ANEW_BATCH).await?;
        if let Some((last, rows)) = looked {
            run.count("looked_at_anew", rows);
            place.anew_after = Some(last);
        }
        run.set_place(&mut tx, serde_json::to_value(&place)?).await?;
        run.finish(&app.db, tx).await?;
        if !run.goes_on() {
            break;
        }
    }
    run.report.more |= place.anew_after.is_some();
    Ok(())
}
