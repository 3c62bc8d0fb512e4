//! The database: reached, of the right release and schema, durable, and of the same time as this machine.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::machine::now;
use super::{Check, Report, records};
use crate::cli::Failure;
use crate::cli::store::connect_options;
use crate::config::Config;
use crate::db::condition::{Condition, clock, condition};
use crate::db::embedded::{Embedded, Role};
use crate::db::{self, Db};

/// How long the database may take to answer at first.
const CONNECT_SECONDS_MAX: Duration = Duration::from_secs(5);
/// The oldest PostgreSQL that we are tested with.
const VERSION_MIN: i32 = 150_000;
const CLOCK_WARNS: time::Duration = time::Duration::seconds(1);
const CLOCK_FAILS: time::Duration = time::Duration::seconds(5);

/// Looks at the database and all that is in it. Returns the ids of the signing keys of session tokens, if it can.
pub(super) async fn look(config: &Config, report: &mut Report) -> Option<Vec<String>> {
    let (options, private) = match reach(config).await {
        Ok(Some(reached)) => reached,
        Ok(None) => {
            report.add(Check::ok("database", "the private PostgreSQL is made at the first start"));
            return None;
        }
        Err(failure) => {
            let fix = "Do what the message says, then look again";
            report.add(Check::failure("database", format!("{:#}", failure.error), fix));
            return None;
        }
    };
    let known = answering(config, options, report).await;
    if let Some(private) = private
        && let Err(error) = private.stop().await
    {
        report.add(Check::failure("database", format!("the private PostgreSQL does not stop: {error}"), "Try again"));
    }
    known
}

/// How to connect; a private PostgreSQL is started unless a service runs it. `None`: there is none yet, and this is not
/// the command that makes one.
async fn reach(config: &Config) -> Result<Option<(PgConnectOptions, Option<Embedded>)>, Failure> {
    if let Some(url) = &config.database_url {
        return Ok(Some((connect_options(url)?, None)));
    }
    if !config.data_dir.join("cluster").exists() {
        return Ok(None);
    }
    let private = Embedded::start(&config.data_dir, Role::Command).await?;
    Ok(Some((private.connect_options(), Some(private))))
}

async fn answering(config: &Config, options: PgConnectOptions, report: &mut Report) -> Option<Vec<String>> {
    // One connection of its own: a pool would hide the reason and only say that time is over.
    let mut connection = match tokio::time::timeout(CONNECT_SECONDS_MAX, options.connect()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return away(&error.to_string(), report),
        Err(_) => return away(&format!("no answer within {} s", CONNECT_SECONDS_MAX.as_secs()), report),
    };
    let db = Db::new(options);
    let known = looked(config, &db, &mut connection, report).await;
    db.close().await;
    let _ = connection.close().await;
    match known {
        Ok(known) => known,
        Err(error) => {
            let fix = "Give the role of MCPA_DATABASE_URL the ownership of the database, and see PostgreSQL's log";
            report.add(Check::failure("database", format!("it answers, but refuses a statement: {error}"), fix));
            None
        }
    }
}

fn away(why: &str, report: &mut Report) -> Option<Vec<String>> {
    let fix = "Start PostgreSQL, or correct MCPA_DATABASE_URL; PostgreSQL's log says why it refuses";
    report.add(Check::failure("database", format!("cannot be reached: {why}"), fix));
    None
}

async fn looked(
    config: &Config,
    db: &Db,
    connection: &mut PgConnection,
    report: &mut Report,
) -> db::Result<Option<Vec<String>>> {
    let condition = condition(connection).await?;
    report.add(version(&condition));
    report.add(durability(&condition));
    report.add(standbys(&condition));
    let current = schema(db.schema().await?);
    let usable = current.fix.is_none();
    report.add(current);
    if !usable {
        return Ok(None);
    }
    let before = now();
    let theirs = clock(connection).await?;
    report.add(clocks(theirs, before, now()));
    records::look(config, connection, report).await
}

fn version(condition: &Condition) -> Check {
    let detail = format!("PostgreSQL {} answers", condition.version);
    if condition.recovering {
        let detail = format!("{detail}, but it is a standby: nothing can be changed on it");
        return Check::failure("database", detail, "Let MCPA_DATABASE_URL name the primary, or promote this one");
    }
    if condition.version_number < VERSION_MIN {
        let detail = format!("{detail}; this release is tested with {} and newer", VERSION_MIN / 10_000);
        return Check::warning("database", detail, "Bring the database to a newer PostgreSQL");
    }
    Check::ok("database", detail)
}

fn durability(condition: &Condition) -> Check {
    const NAME: &str = "durability";
    let off: Vec<&str> = [("fsync", condition.fsync), ("full_page_writes", condition.full_page_writes)]
        .into_iter()
        .filter_map(|(name, on)| (!on).then_some(name))
        .collect();
    if !off.is_empty() {
        let detail =
            format!("{} off: a crash of the machine may lose or damage what was acknowledged", off.join(" and "));
        return Check::failure(NAME, detail, "Switch it on in postgresql.conf and restart PostgreSQL");
    }
    if condition.synchronous_commit == "off" {
        let detail =
            "synchronous_commit is off: changes set it to on for themselves, other writers of this database do not";
        let fix = "Set synchronous_commit = on for the database";
        return Check::warning(NAME, detail, fix);
    }
    Check::ok(
        NAME,
        format!("fsync and full_page_writes are on, synchronous_commit is {}", condition.synchronous_commit),
    )
}

fn standbys(condition: &Condition) -> Check {
    let (count, names) = (condition.standbys, &condition.synchronous_standby_names);
    if count == 0 && names.is_empty() {
        return Check::ok("standbys", "none copies this database");
    }
    if !names.is_empty() {
        return Check::ok(
            "standbys",
            format!("{count} connected, commits wait for {names:?}: acknowledged revocations survive a failover"),
        );
    }
    let detail = format!(
        "{count} connected, but no commit waits for one (synchronous_standby_names is empty): \
         a failover may lose acknowledged revocations"
    );
    let fix = "Set synchronous_standby_names on the primary; after a failover without it run `mcp-authority admin after-restore`";
    Check::warning("standbys", detail, fix)
}

fn schema(theirs: i64) -> Check {
    let ours = db::schema_of_binary();
    if theirs < ours {
        let detail = format!("the database has schema {theirs}, this release needs {ours}");
        return Check::failure("schema", detail, "Run: mcp-authority migrate");
    }
    if theirs > ours {
        let detail = format!("the database has schema {theirs}, this release knows {ours}");
        return Check::failure("schema", detail, "Run the release that made it, or a newer one");
    }
    Check::ok("schema", format!("version {ours}, which is this release's"))
}

/// The database read its clock somewhere between the two readings of ours; only what lies outside of them counts.
fn clocks(theirs: time::OffsetDateTime, before: time::OffsetDateTime, after: time::OffsetDateTime) -> Check {
    let apart = if theirs < before { before - theirs } else { (theirs - after).max(time::Duration::ZERO) };
    let way = if theirs < before { "behind" } else { "ahead of" };
    if apart <= CLOCK_WARNS {
        return Check::ok("clock", "the database's agrees with this machine's");
    }
    let detail = format!("the database's is {:.1} s {way} this machine's", apart.as_seconds_f64());
    let fix = "Set both machines' clocks by NTP; tokens are issued and checked by the database's";
    if apart > CLOCK_FAILS { Check::failure("clock", detail, fix) } else { Check::warning("clock", detail, fix) }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::super::Status;
    use super::*;

    fn sound() -> Condition {
        Condition {
            version: "17.2".to_owned(),
            version_number: 170_002,
            fsync: true,
            full_page_writes: true,
            synchronous_commit: "on".to_owned(),
            recovering: false,
            standbys: 0,
            synchronous_standby_names: String::new(),
        }
    }

    #[test]
    fn an_old_release_and_a_standby_are_found() {
        assert_eq!(version(&sound()).status, Status::Ok);
        assert_eq!(version(&Condition { version_number: 140_011, ..sound() }).status, Status::Warning);
        assert_eq!(version(&Condition { recovering: true, ..sound() }).status, Status::Failure);
    }

    #[test]
    fn what_is_given_up_for_speed_is_found() {
        assert_eq!(durability(&sound()).status, Status::Ok);
        assert_eq!(durability(&Condition { fsync: false, ..sound() }).status, Status::Failure);
        assert_eq!(durability(&Condition { full_page_writes: false, ..sound() }).status, Status::Failure);
        let late = Condition { synchronous_commit: "off".to_owned(), ..sound() };
        assert_eq!(durability(&late).status, Status::Warning);
    }

    #[test]
    fn a_standby_that_no_commit_waits_for_is_found() {
        assert_eq!(standbys(&sound()).status, Status::Ok);
        let copied = Condition { standbys: 1, ..sound() };
        assert_eq!(standbys(&copied).status, Status::Warning);
        assert_eq!(standbys(&Condition { synchronous_standby_names: "*".to_owned(), ..copied }).status, Status::Ok);
    }

    #[test]
    fn clocks_are_compared_both_ways() {
        let (before, after) = (datetime!(2026-11-23 06:00:10 UTC), datetime!(2026-11-23 06:00:12 UTC));
        for (theirs, status) in [
            (datetime!(2026-11-23 06:00:11 UTC), Status::Ok),
            (datetime!(2026-11-23 06:00:09 UTC), Status::Ok),
            (datetime!(2026-11-23 06:00:08 UTC), Status::Warning),
            (datetime!(2026-11-23 06:00:04 UTC), Status::Failure),
            (datetime!(2026-11-23 06:00:17 UTC), Status::Warning),
            (datetime!(2026-11-23 06:00:18 UTC), Status::Failure),
        ] {
            assert_eq!(clocks(theirs, before, after).status, status, "{theirs}");
        }
    }
}
