//! `doctor`: says what is configured, reachable and wrong, each with its mend. Changes nothing.
//!
//! Every check is one line. What hangs on something that is wrong itself is left out, so that one mistake never shows
//! as two. [`machine`] looks at files, [`database`] and [`records`] at what the database says, [`service`] at the
//! service as its callers see it.

mod database;
mod machine;
mod records;
mod service;

use std::io::Write;

use serde::Serialize;

use crate::cli::Failure;
use crate::config::Config;

/// How a check ended. The worst of all is the report's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Failure,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), fix: None }
    }

    fn warning(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Warning, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn failure(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Failure, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// All that was looked at, in this order.
#[derive(Debug, Default)]
struct Report {
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Document<'a> {
    checks: &'a [Check],
    status: Status,
}

impl Report {
    fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    fn status(&self) -> Status {
        self.checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok)
    }

    fn print(&self, json: bool) -> Result<(), Failure> {
        let mut out = std::io::stdout();
        if json {
            let document = Document { checks: &self.checks, status: self.status() };
            writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
            return Ok(());
        }
        for Check { name, status, detail, fix } in &self.checks {
            writeln!(out, "{:<8} {name}: {}", status.as_str(), on_one_line(detail))?;
            if let Some(fix) = fix {
                writeln!(out, "         → {}", on_one_line(fix))?;
            }
        }
        Ok(())
    }
}

/// Errors of other programs may have many lines.
fn on_one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

pub(super) async fn run(json: bool) -> Result<(), Failure> {
    let mut report = Report::default();
    match Config::load() {
        Ok(config) => look(&config, &mut report).await,
        Err(mistakes) => {
            for mistake in mistakes.iter() {
                let detail = format!("{}: {}", mistake.setting.escape_debug(), mistake.wrong);
                report.add(Check::failure("settings", detail, mistake.mend.clone()));
            }
        }
    }
    report.print(json)?;
    let failed = report.checks.iter().filter(|check| check.status == Status::Failure).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::new(7, anyhow::anyhow!("{failed} of {} checks failed", report.checks.len())))
}

async fn look(config: &Config, report: &mut Report) {
    report.add(machine::settings(config));
    let usable = machine::data_directory(config, report);
    if let Some(files) = &config.tls {
        report.add(machine::certificate(files));
    }
    // A private database in a directory that cannot be used would only fail again.
    let known = if usable { database::look(config, report).await } else { None };
    service::look(config, known.as_deref(), report).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_is_the_reports() {
        let mut report = Report::default();
        assert_eq!(report.status(), Status::Ok);
        for (check, status) in [
            (Check::ok("a", ""), Status::Ok),
            (Check::warning("b", "", ""), Status::Warning),
            (Check::failure("c", "", ""), Status::Failure),
            (Check::ok("d", ""), Status::Failure),
        ] {
            report.add(check);
            assert_eq!(report.status(), status);
        }
    }

    #[test]
    fn many_lines_become_one() {
        assert_eq!(on_one_line("first\n\n  second\n"), "first; second");
    }
}
