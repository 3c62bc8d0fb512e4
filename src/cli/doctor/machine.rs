//! What lies on this machine: the settings, the data directory, the certificate.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use time::{Duration, OffsetDateTime};

use super::{Check, Report};
use crate::cli::store::SECRET_KEYS_FILE;
use crate::config::{Config, TlsFiles};
use crate::http::certificate;
use crate::http::tls::Tls;
use crate::types::clock::{Timestamp, wall_clock};

/// A certificate that ends sooner is due.
const CERTIFICATE_DAYS_MIN: i64 = 14;
/// What the service and its private PostgreSQL keep for their owner alone, where it is there.
const PRIVATE_FILES: [&str; 4] = [SECRET_KEYS_FILE, "operator.key", "postgres.password", "postgres.superuser.password"];

pub(super) fn settings(config: &Config) -> Check {
    let database = if config.database_url.is_some() {
        "the database of MCPA_DATABASE_URL".to_owned()
    } else {
        format!("a private PostgreSQL in {}", config.data_dir.display())
    };
    let scheme = match (&config.tls, config.behind_tls_proxy) {
        (Some(_), _) => "TLS",
        (None, true) => "plain HTTP behind a proxy that speaks TLS",
        (None, false) => "plain HTTP",
    };
    Check::ok("settings", format!("{} on {} ({scheme}), {database}", config.public_url, config.listen))
}

/// The wall clock of this machine, as a point in time.
pub(super) fn now() -> OffsetDateTime {
    let micros = i64::try_from(wall_clock().as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(micros).to_utc()
}

/// Whether what hangs on the data directory can be looked at.
pub(super) fn data_directory(config: &Config, report: &mut Report) -> bool {
    let private = config.database_url.is_none();
    let path = &config.data_dir;
    if !path.exists() {
        if private {
            report.add(Check::ok("data_directory", format!("{} is made at the first start", path.display())));
        }
        return true;
    }
    let ours = rustix::process::geteuid().as_raw();
    let mut open: Vec<PathBuf> = PRIVATE_FILES.iter().map(|file| path.join(file)).collect();
    open.push(path.clone());
    open.retain(|path| too_open(path));
    let owner = std::fs::metadata(path).map(|meta| meta.uid());
    match owner {
        Err(error) => {
            let fix = "Run this as the user that the service runs as, or set MCPA_DATA_DIR to another directory";
            report.add(Check::failure(
                "data_directory",
                format!("{} cannot be looked at: {error}", path.display()),
                fix,
            ));
            !private
        }
        Ok(owner) if owner != ours => {
            let detail = format!("{} belongs to user {owner}, this process is user {ours}", path.display());
            report.add(Check::failure("data_directory", detail, "Run this as the user that the service runs as"));
            !private
        }
        Ok(_) if !open.is_empty() => {
            let named = |how: &dyn Fn(&Path) -> String, between| {
                open.iter().map(|path| how(path)).collect::<Vec<_>>().join(between)
            };
            let paths = named(&|path| path.display().to_string(), ", ");
            let detail = format!("open to other users, although keys and passwords lie there: {paths}");
            let fix = format!("Run: chmod go= {}", named(&quoted, " "));
            report.add(Check::failure("data_directory", detail, fix));
            !private
        }
        Ok(_) => {
            report.add(Check::ok("data_directory", format!("{} is closed to other users", path.display())));
            true
        }
    }
}

/// Whether anybody but its owner has a right on it.
fn too_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o077 != 0)
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

pub(super) fn certificate(files: &TlsFiles) -> Check {
    if let Err(error) = Tls::load(&files.cert, &files.key) {
        let fix = "Put a certificate chain (the service's own first) and the key that belongs to it in place";
        return Check::failure("certificate", error.to_string(), fix);
    }
    if let Some(end) = certificate::first_end(&files.cert) {
        return lasting(end, now(), &files.cert);
    }
    let detail = format!("no end of validity can be read in {}", files.cert.display());
    Check::failure("certificate", detail, "Put a certificate chain in PEM form in place")
}

fn lasting(end: OffsetDateTime, now: OffsetDateTime, file: &Path) -> Check {
    let fix = "Put a new certificate in place; the running service takes it over by itself";
    let (date, file) = (end.date(), file.display());
    if end <= now {
        return Check::failure("certificate", format!("{file} ended on {date}"), fix);
    }
    let days = (end - now).whole_days();
    if end - now < Duration::days(CERTIFICATE_DAYS_MIN) {
        return Check::warning("certificate", format!("{file} ends on {date}, in {days} days"), fix);
    }
    Check::ok("certificate", format!("{file} is good until {date}, for {days} days"))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::super::Status;
    use super::*;

    #[test]
    fn a_certificate_is_due_two_weeks_before_its_end() {
        let now = datetime!(2026-11-23 06:00 UTC);
        for (end, status) in [
            (datetime!(2026-12-08 06:00 UTC), Status::Ok),
            (datetime!(2026-12-07 05:59 UTC), Status::Warning),
            (datetime!(2026-11-23 06:01 UTC), Status::Warning),
            (now, Status::Failure),
        ] {
            assert_eq!(lasting(end, now, Path::new("tls.crt")).status, status, "{end}");
        }
    }
}
