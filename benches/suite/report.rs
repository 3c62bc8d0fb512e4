//! What was measured: as a JSON file, and as tables for people, in the terminal and in docs/performance.md.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use mcp_authority::types::clock::{Timestamp, wall_clock};
use serde::Serialize;

use crate::gate::Call;
use crate::goals::goals;
use crate::scale::Scale;
use crate::upkeep::Upkeep;
use crate::{hot, issue, load, revoke};

/// Between these two lines the tables stand in the document.
const BEGIN: &str = "<!-- The figures below are written by `make bench`. -->";
const END: &str = "<!-- The figures above are written by `make bench`. -->";

/// Where it was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) version: String,
    pub(crate) commit: String,
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) postgres: String,
    /// Of one minute, before anything was started here: what others do on the machine is in every figure.
    pub(crate) load_before: String,
}

/// Everything of one run; what was not asked for is not there.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) machine: Machine,
    pub(crate) memory: Option<Vec<Call>>,
    pub(crate) introspection: Option<Vec<hot::Row>>,
    pub(crate) issuing: Option<Vec<issue::Row>>,
    pub(crate) revocation: Option<Vec<revoke::Row>>,
    pub(crate) scale: Option<Scale>,
}

impl Machine {
    pub(crate) fn look(command: String, postgres: String) -> Self {
        let first = |path: &str, prefix: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(prefix)).unwrap_or_default();
            line.trim_start_matches([':', ' ', '\t']).to_owned()
        };
        let kib: u64 = first("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
        let now = Timestamp::from_seconds(wall_clock().as_secs().cast_signed()).to_utc();
        let commit = Command::new("git").args(["describe", "--always", "--dirty"]).output();
        Self {
            date: format!("{} {:02}:{:02} UTC", now.date(), now.hour(), now.minute()),
            command,
            version: mcp_authority::app::VERSION.to_owned(),
            commit: commit.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            processor: first("/proc/cpuinfo", "model name\t"),
            memory_gib: kib.div_ceil(1_024 * 1_024),
            kernel: first("/proc/sys/kernel/osrelease", ""),
            postgres,
            load_before: first("/proc/loadavg", "").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

impl Figures {
    pub(crate) fn tables(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "`{}` on {}, version {} ({}): {} cores ({}), {} GiB, Linux {}, PostgreSQL {}; load average before: {}.\n",
            machine.command,
            machine.date,
            machine.version,
            machine.commit,
            machine.cores,
            machine.processor,
            machine.memory_gib,
            machine.kernel,
            machine.postgres,
            machine.load_before,
        );
        let mut part = |title: &str, table: Option<Table>| {
            if let Some(table) = table {
                let _ = write!(text, "\n### {title}\n\n{}", table.text());
            }
        };
        part("Goals", Some(goals(self)));
        part("Introspection", self.introspection.as_deref().map(introspection));
        part("Issuing", self.issuing.as_deref().map(issuing));
        part("Revocation", self.revocation.as_deref().map(revocation));
        part("Start", self.scale.as_ref().map(starts));
        part("A thousand keys and many", self.scale.as_ref().map(pairs));
        part("The job that tells of keys", self.scale.as_ref().map(|scale| upkeep(&scale.upkeep)));
        part("In memory, one thread, without HTTP", self.memory.as_deref().map(memory));
        text
    }

    /// Writes the JSON file.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        Ok(fs::write(path, serde_json::to_string_pretty(self)? + "\n")?)
    }
}

/// Puts the tables into a document, in the place of those of an earlier run.
pub(crate) fn publish(tables: &str, document: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(document)?;
    let (before, rest) = text.split_once(BEGIN).context("the line before the figures")?;
    let (_, after) = rest.split_once(END).context("the line after the figures")?;
    ensure!(!after.contains(BEGIN), "one place for the figures");
    Ok(fs::write(document, format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))?)
}

/// A table; its columns line up.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { rows: vec![columns.iter().map(ToString::to_string).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0).max(3))
            .collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, width) in widths.iter().enumerate() {
                let cell = cell(row, column);
                // Words to the left, numbers to the right.
                let _ = if column == 0 { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
            }
            text.push_str("|\n");
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width - 1);
                    let _ = if column == 0 { write!(text, "| {dashes}- ") } else { write!(text, "| {dashes}: ") };
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

fn introspection(rows: &[hot::Row]) -> Table {
    let mut table = Table::new(&[
        "asked about",
        "/s",
        "CPU µs",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "/s of axum's",
        "CPU of axum's",
        "CPU µs more",
        "resident MiB",
    ]);
    for row in rows {
        let ratio = |value: Option<f64>| value.map(|value| format!("{value:.2}")).unwrap_or_default();
        table.row([
            row.name.to_owned(),
            whole(row.per_second),
            format!("{:.1}", row.cpu_micros),
            whole(row.p50),
            whole(row.p99),
            whole(row.p999),
            ratio(row.throughput_ratio),
            ratio(row.cpu_ratio),
            row.cpu_more.map(|value| format!("{value:.1}")).unwrap_or_default(),
            row.runs.last().map(|run| mib(run.resident)).unwrap_or_default(),
        ]);
    }
    table
}

fn issuing(rows: &[issue::Row]) -> Table {
    let mut table = Table::new(&[
        "connections",
        "durable tokens/s",
        "CPU µs",
        "PostgreSQL's CPU µs",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
    ]);
    for issue::Row { connections, run, postgres_cpu_micros } in rows {
        let load::Run { per_second, cpu_micros, p50, p99, p999, .. } = run;
        table.row([
            connections.to_string(),
            whole(*per_second),
            format!("{cpu_micros:.1}"),
            format!("{postgres_cpu_micros:.1}"),
            p50.to_string(),
            p99.to_string(),
            p999.to_string(),
        ]);
    }
    table
}

fn revocation(rows: &[revoke::Row]) -> Table {
    let mut table = Table::new(&[
        "nodes",
        "revocations",
        "call p50 ms",
        "call p99 ms",
        "call max ms",
        "refused everywhere p99 ms",
        "questions",
        "question p99 ms",
        "not answered",
        "violations",
        "CPU % of a core",
    ]);
    for row in rows {
        table.row([
            row.nodes.to_string(),
            row.revocations.to_string(),
            format!("{:.2}", row.call_p50),
            format!("{:.2}", row.call_p99),
            format!("{:.2}", row.call_max),
            format!("{:.2}", row.refused_p99),
            row.questions.to_string(),
            format!("{:.2}", row.question_p99),
            row.unanswered.to_string(),
            row.violations.to_string(),
            whole(row.nodes_cpu_percent),
        ]);
    }
    table
}

fn starts(scale: &Scale) -> Table {
    let mut table = Table::new(&["keys", "revocations", "ready s", "resident MiB", "most MiB", "bytes each"]);
    let each = [
        String::new(),
        format!("{:.0} a key", scale.bytes_a_key),
        format!("{:.0} a revocation", scale.bytes_a_revocation),
        String::new(),
    ];
    for (start, each) in scale.starts.iter().zip(each) {
        table.row([
            start.keys.to_string(),
            start.revocations.to_string(),
            format!("{:.2}", start.ready_seconds),
            mib(start.resident),
            mib(start.resident_most),
            each,
        ]);
    }
    table
}

fn pairs(scale: &Scale) -> Table {
    let mut table = Table::new(&["", "/s", "CPU µs", "p99 µs", "/s of few", "CPU of few"]);
    let [few, many] = scale.keys;
    for pair in &scale.pairs {
        let cells = |per_second: f64, cpu: f64, p99: f64| [whole(per_second), format!("{cpu:.1}"), whole(p99)];
        let row = cells(pair.few_per_second, pair.few_cpu_micros, pair.few_p99);
        table.row(std::iter::once(format!("{few} keys")).chain(row));
        let row = cells(pair.many_per_second, pair.many_cpu_micros, pair.many_p99);
        let name = format!("{many} keys, {} revocations", pair.revocations);
        let ratios = [format!("{:.2}", pair.throughput_ratio), format!("{:.2}", pair.cpu_ratio)];
        table.row(std::iter::once(name).chain(row).chain(ratios));
    }
    table
}

fn upkeep(found: &Upkeep) -> Table {
    let mut table = Table::new(&["questions", "/s", "p99 µs", "resident MiB"]);
    let names =
        [format!("while it tells of {} keys, which takes {:.0} s", found.keys, found.seconds), "after it".to_owned()];
    for (name, questions) in names.into_iter().zip([&found.during, &found.after]) {
        table.row([name, whole(questions.per_second), whole(questions.p99), mib(questions.resident)]);
    }
    table
}

fn memory(calls: &[Call]) -> Table {
    let mut table = Table::new(&["call", "ns", "ceiling", "of the ceiling"]);
    for call in calls {
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a short call")]
        let ratio = call.nanos as f64 / call.ceiling_nanos as f64;
        table.row([call.name.to_owned(), call.nanos.to_string(), call.ceiling.to_owned(), format!("{ratio:.2}")]);
    }
    table
}

fn mib(bytes: u64) -> String {
    (bytes / 1_024 / 1_024).to_string()
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}
