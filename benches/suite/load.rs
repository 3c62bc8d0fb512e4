//! One run of wrk against a process, and what it cost that process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::process::{Guard, Measured};

/// Connections of a run, unless it says otherwise.
pub(crate) const CONNECTIONS: u32 = 64;
/// Threads of wrk. The load has as many cores as the service, and shares them with it.
pub(crate) const THREADS: u32 = 2;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/suite/load.lua");

/// What is sent.
#[derive(Clone, Copy)]
pub(crate) enum Bodies<'a> {
    /// The same again and again.
    One(&'a str),
    /// Each once: the path of files with one a line, `.1` for the first thread and so on.
    Each(&'a Path),
}

/// What wrk saw.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Seen {
    requests: u64,
    micros: u64,
    broken: u64,
    refused: u64,
    p50: u64,
    p99: u64,
    p999: u64,
}

/// What a run showed. Processor time of the process that answers for each request, and latencies, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) cpu_micros: f64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    /// Memory that the process has resident afterwards, in bytes.
    pub(crate) resident: u64,
}

/// Where and as whom.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) process: &'a Measured,
    pub(crate) path: &'a str,
    pub(crate) authorization: &'a str,
    /// Each with one request at a time.
    pub(crate) connections: u32,
}

/// Loads a process for that long. A run in which a single request failed is no run.
pub(crate) fn run(guard: &Guard, target: Target<'_>, bodies: Bodies<'_>, time: Duration) -> anyhow::Result<Run> {
    let mut wrk: Command = guard.command("wrk");
    wrk.args(["--latency", "-s", SCRIPT])
        .args(["-c", &target.connections.to_string(), "-t", &THREADS.to_string()])
        .args(["-d", &format!("{}s", time.as_secs()), &target.process.url(target.path)])
        .env("AUTHORIZATION", target.authorization)
        .stdin(Stdio::null());
    match bodies {
        Bodies::One(body) => wrk.env("BODY", body),
        Bodies::Each(path) => wrk.env("BODIES", path),
    };
    let before = target.process.cpu()?;
    let output = wrk.output().context("wrk cannot be run")?;
    let cpu = target.process.cpu()?.saturating_sub(before);
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().rev().find(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("{said}{}", String::from_utf8_lossy(&output.stderr)))?;
    let seen: Seen = serde_json::from_str(line)?;
    ensure!(seen.broken == 0 && seen.refused == 0 && seen.requests > 0, "requests failed: {seen:?}");
    #[expect(clippy::cast_precision_loss, reason = "counts of a run of seconds are far below 2^52")]
    let (requests, seconds) = (seen.requests as f64, seen.micros as f64 / 1e6);
    Ok(Run {
        requests: seen.requests,
        per_second: requests / seconds,
        cpu_micros: cpu.as_secs_f64() * 1e6 / requests,
        p50: seen.p50,
        p99: seen.p99,
        p999: seen.p999,
        resident: target.process.memory("VmRSS")?,
    })
}
