//! What is in the database: secret keys that something needs, signing keys, the audit and its checkpoints.

use std::collections::{BTreeSet, HashMap};

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::{Check, Report};
use crate::audit;
use crate::cli::store::{SECRET_KEYS_FILE, read_secret_keys};
use crate::config::Config;
use crate::db;
use crate::db::condition::clock;
use crate::jobs::{self, Status as Job};
use crate::nodes::{self, Node};
use crate::secrets::{self, InUse};
use crate::servers;
use crate::signing::{self, PUBLISHED_BEFORE, Purpose, SIGNS_FOR};
use crate::types::alg::Alg;
use crate::types::keyring::Keyring;

/// A node whose last beat is older does not run.
const BEAT_SECONDS_MAX: i64 = 10;
/// Jobs look every minute at the longest; later than this is late.
const JOB_LATE_AFTER: Duration = Duration::minutes(3);

pub(super) async fn look(
    config: &Config,
    connection: &mut PgConnection,
    report: &mut Report,
) -> db::Result<Option<Vec<String>>> {
    let now = clock(connection).await?;
    let mut running = nodes::list(connection).await?;
    running.retain(|node| now - node.beat_at <= Duration::seconds(BEAT_SECONDS_MAX));
    match keyring(config) {
        Ok(keyring) => {
            let in_use = secrets::secret_keys_in_use(connection).await?;
            let whole = secret_keys(&keyring, &in_use, &running, report);
            // Without its secret key a signing key cannot be opened, which has just been said.
            if whole {
                report.add(signing_keys(connection, &keyring, now, !running.is_empty()).await?);
            }
        }
        Err(error) => {
            let fix = "Put secret.keys back from a backup: without it no secret in the database can be checked";
            report.add(Check::failure("secret_keys", format!("{error:#}"), fix));
        }
    }
    report.add(checkpoints(audit::uncovered_since(connection).await?, now, !running.is_empty()));
    report.add(chains(connection).await?);
    report.add(late_jobs(&jobs::shared_jobs(connection).await?, !running.is_empty()));
    let published = signing::public_of(connection, Purpose::Session).await?;
    Ok(Some(published.into_iter().map(|key| key.kid).collect()))
}

/// The keys of the settings, or of the private database's file. Makes none.
fn keyring(config: &Config) -> anyhow::Result<Keyring> {
    let from_file;
    let keys = if let Some(keys) = &config.secret_keys {
        keys
    } else {
        from_file = read_secret_keys(&config.data_dir.join(SECRET_KEYS_FILE))
            .map_err(|error| error.context(format!("{SECRET_KEYS_FILE} cannot be read")))?;
        &from_file
    };
    let keys: Vec<_> = keys.iter().map(|key| Zeroizing::new(*key.reveal())).collect();
    Keyring::new(&keys).ok_or_else(|| anyhow::anyhow!("no secret key can be used"))
}

/// Whether every secret key that something needs is there.
fn secret_keys(keyring: &Keyring, in_use: &[InUse], running: &[Node], report: &mut Report) -> bool {
    const NAME: &str = "secret_keys";
    let missing: Vec<&InUse> = in_use.iter().filter(|needed| !keyring.knows(&needed.id)).collect();
    for InUse { id, rows, .. } in &missing {
        let detail = format!("{id} is not among MCPA_SECRET_KEYS, and {rows} rows need it");
        report.add(Check::failure(NAME, detail, "Put that key back at the end of the list"));
    }
    let ids = keyring.ids();
    let unknown: BTreeSet<String> = running
        .iter()
        .flat_map(|node| ids.iter().filter(|id| !node.secret_keys.contains(*id)).map(|id| (id, &node.address)))
        .map(|(id, address)| format!("the node at {address} does not know {id}"))
        .collect();
    for detail in &unknown {
        let fix = "Start every node with the same MCPA_SECRET_KEYS; until then an older key goes on sealing";
        report.add(Check::warning(NAME, detail.clone(), fix));
    }
    for (place, id) in ids.iter().enumerate() {
        let needed = in_use.iter().find(|needed| needed.id == *id);
        let detail = match (place, needed) {
            (0, needed) => {
                format!("{id} is the newest and seals; {} rows need it", needed.map_or(0, |needed| needed.rows))
            }
            (_, Some(needed)) => format!("{id} is older; {}", still_needed(needed)),
            (_, None) if unknown.is_empty() => {
                format!("{id} is older, and no row needs it: it may go from MCPA_SECRET_KEYS")
            }
            (_, None) => format!("{id} is older, and no row needs it: it may go once all nodes know the newest"),
        };
        report.add(Check::ok(NAME, detail));
    }
    missing.is_empty()
}

/// When an old secret key may go.
fn still_needed(needed: &InUse) -> String {
    use std::fmt::Write;
    let InUse { rows, endless, until, .. } = needed;
    let mut text = format!("{rows} rows still need it, and move to the newest when they are used");
    if *endless > 0 {
        let _ = write!(text, "; rotate the {endless} secrets of servers among them that are not");
    }
    if let Some(until) = until {
        let _ = write!(text, "; the last of the others ends on {}", until.date());
    }
    text + "; then it may go"
}

/// One that signs now for each purpose and algorithm that is used, none of them overdue.
async fn signing_keys(
    connection: &mut PgConnection,
    keyring: &Keyring,
    now: OffsetDateTime,
    runs: bool,
) -> db::Result<Check> {
    const NAME: &str = "signing_keys";
    let mut wanted = vec![(Purpose::Session, Alg::EdDsa), (Purpose::Checkpoint, Alg::EdDsa)];
    let asked: BTreeSet<String> = servers::load_all(connection).await?.into_iter().map(|row| row.token_alg).collect();
    let others = asked.iter().filter_map(|alg| Alg::parse(alg)).filter(|alg| *alg != Alg::EdDsa);
    wanted.extend(others.map(|alg| (Purpose::Session, alg)));
    let loaded = match signing::load(connection, keyring).await {
        Ok(loaded) => loaded,
        Err(signing::LoadError::Database(error)) => return Err(error),
        Err(error) => {
            let fix = "Put the row back from a backup, or delete it: the service makes a new key, and what the old one signed is refused";
            return Ok(Check::failure(NAME, error.to_string(), fix));
        }
    };
    let (mut missing, mut late) = (Vec::new(), Vec::new());
    for (purpose, alg) in &wanted {
        let name = format!("{} for {}", alg.as_str(), purpose.as_str());
        match loaded.signers.current(*purpose, *alg, now.into()) {
            None => missing.push(name),
            Some(signer) => {
                let due = signer.from.plus(SIGNS_FOR).plus(PUBLISHED_BEFORE).to_utc();
                if now - due > JOB_LATE_AFTER {
                    late.push(format!("{name} since {}", due.date()));
                }
            }
        }
    }
    let fix = "See the service's log for the job `signing_keys`";
    Ok(if !missing.is_empty() && runs {
        Check::failure(NAME, format!("none signs: {}", missing.join(", ")), fix)
    } else if !missing.is_empty() {
        let detail = format!("none signs: {}", missing.join(", "));
        Check::warning(NAME, detail, "Start the service: it makes them")
    } else if !late.is_empty() {
        let fix = if runs { fix } else { "Start the service: it replaces them" };
        Check::warning(NAME, format!("due to be replaced: {}", late.join(", ")), fix)
    } else {
        Check::ok(NAME, format!("{} sign, and all can be opened", wanted.len()))
    })
}

/// While a node runs, the job signs every ten seconds where the chains stand.
fn checkpoints(uncovered_since: Option<OffsetDateTime>, now: OffsetDateTime, runs: bool) -> Check {
    const NAME: &str = "audit_checkpoint";
    let Some(since) = uncovered_since else { return Check::ok(NAME, "covers every entry") };
    let waits = now - since;
    if waits <= JOB_LATE_AFTER {
        return Check::ok(NAME, format!("the oldest entry that none covers is {} s old", waits.whole_seconds().max(0)));
    }
    let detail = format!("late: none covers what was written since {}", since.replace_nanosecond(0).unwrap_or(since));
    if runs {
        Check::failure(NAME, detail, "See the service's log for the job `audit_checkpoint`")
    } else {
        Check::warning(NAME, detail, "Start the service: it signs the next one within ten seconds")
    }
}

async fn chains(connection: &mut PgConnection) -> db::Result<Check> {
    let keys: HashMap<String, _> = signing::public_of(connection, Purpose::Checkpoint)
        .await?
        .into_iter()
        .filter_map(|key| Some((key.kid, signing::decoding(&key.jwk)?)))
        .collect();
    let verified = audit::verify_recent(connection, &|kid: &str| keys.get(kid).cloned()).await?;
    let read = format!(
        "the last {} entries of {} chains and {} checkpoints",
        verified.entries, verified.chains, verified.checkpoints
    );
    let Some(first) = verified.findings.first() else {
        return Ok(Check::ok("audit_chain", format!("{read} are as they were written")));
    };
    let others = match verified.findings.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let fix = "Somebody changed the database past the service: keep a copy, then run `mcp-authority audit verify` for all of it";
    Ok(Check::failure("audit_chain", format!("{first}{others} (of {read})"), fix))
}

/// Whoever looks finds it: the nodes that run may be the ones whose jobs do not.
fn late_jobs(all: &[Job], runs: bool) -> Check {
    const NAME: &str = "jobs";
    let wrong = jobs::late_of(all);
    let Some(first) = wrong.first() else {
        return Check::ok(NAME, format!("none of {} is late", all.len()));
    };
    let errors = all.iter().filter(|job| job.late).filter_map(|job| job.last_error.as_deref());
    let errors: BTreeSet<&str> = errors.collect();
    let mut detail = match wrong.len() - 1 {
        0 => first.clone(),
        more => format!("{first}, and {more} more"),
    };
    for error in errors {
        detail = format!("{detail}; {error}");
    }
    if !runs && all.iter().all(|job| job.warning.is_none()) {
        return Check::warning(NAME, detail, "Start the service: it runs them");
    }
    let fix =
        "See `GET /v1/jobs` and the service's log for that job; if the log says nothing of jobs, restart the node";
    Check::failure(NAME, detail, fix)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::super::Status;
    use super::*;

    #[test]
    fn a_checkpoint_is_late_only_after_minutes_and_worse_while_a_node_runs() {
        let now = datetime!(2026-11-23 06:10 UTC);
        let late = datetime!(2026-11-23 06:06:59 UTC);
        assert_eq!(checkpoints(None, now, true).status, Status::Ok);
        assert_eq!(checkpoints(Some(datetime!(2026-11-23 06:07 UTC)), now, true).status, Status::Ok);
        assert_eq!(checkpoints(Some(late), now, true).status, Status::Failure);
        assert_eq!(checkpoints(Some(late), now, false).status, Status::Warning);
    }

    #[test]
    fn it_is_said_when_an_old_secret_key_may_go() {
        let until = Some(datetime!(2027-01-02 03:04 UTC));
        let text = still_needed(&InUse { id: "a".to_owned(), rows: 5, endless: 2, until });
        assert!(text.contains("5 rows still need it") && text.contains("rotate the 2") && text.contains("2027-01-02"));
        let text = still_needed(&InUse { id: "a".to_owned(), rows: 1, endless: 0, until: None });
        assert!(!text.contains("rotate") && !text.contains("ends on") && text.ends_with("then it may go"));
    }
}
