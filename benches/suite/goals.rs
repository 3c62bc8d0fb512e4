//! The goals, and whether this run reached them.

use crate::hot::Row;
use crate::report::{Figures, Table};
use crate::scale::FEW;

/// Throughput of an answer from memory, of a bare axum route's in the same pair, at least.
const THROUGHPUT_RATIO_MIN: f64 = 0.95;
/// Its processor time, of a bare axum route's, at most.
const CPU_RATIO_MAX: f64 = 1.2;
/// Processor time that an unseen session token may cost beyond a bare axum route, in microseconds.
const UNSEEN_MORE_MICROS_MAX: f64 = 35.0;
const ISSUED_A_SECOND_MIN: f64 = 20_000.0;
const REVOKE_P99_MILLIS_MAX: f64 = 5.0;
/// The number of nodes for which that is meant.
const REVOKE_NODES: usize = 3;
const READY_SECONDS_MAX: f64 = 5.0;
const BYTES_A_KEY_MAX: f64 = 400.0;
/// Less than this is slower; the rest is noise.
const MANY_OF_FEW_MIN: f64 = 0.95;

struct Goal {
    what: String,
    bound: String,
    found: String,
    reached: bool,
}

fn at_least(what: &str, goal: f64, found: f64, digits: usize) -> Goal {
    let number = |value: f64| format!("{value:.digits$}");
    Goal { what: what.to_owned(), bound: format!("≥ {}", number(goal)), found: number(found), reached: found >= goal }
}

fn at_most(what: &str, goal: f64, found: f64, digits: usize) -> Goal {
    let number = |value: f64| format!("{value:.digits$}");
    Goal { what: what.to_owned(), bound: format!("≤ {}", number(goal)), found: number(found), reached: found <= goal }
}

/// Of what was measured.
pub(crate) fn goals(figures: &Figures) -> Table {
    let mut all = Vec::new();
    for row in figures.introspection.iter().flatten() {
        all.extend(introspection(row));
    }
    if let Some(row) = figures.issuing.iter().flatten().next() {
        let what = format!("issuing, {} connections: durable tokens/s", row.connections);
        all.push(at_least(&what, ISSUED_A_SECOND_MIN, row.run.per_second, 0));
    }
    for row in figures.revocation.iter().flatten() {
        if row.nodes == REVOKE_NODES {
            let what = format!("revoking, {REVOKE_NODES} nodes: p99 of the call, ms");
            all.push(at_most(&what, REVOKE_P99_MILLIS_MAX, row.call_p99, 2));
        }
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        all.push(at_most(
            &format!("revoking, {} nodes: \"active\" after the reply", row.nodes),
            0.0,
            row.violations as f64,
            0,
        ));
    }
    if let Some(scale) = &figures.scale {
        for start in scale.starts.iter().filter(|start| start.keys > FEW) {
            let what = format!("start with {} keys, {} revocations: ready, s", start.keys, start.revocations);
            all.push(at_most(&what, READY_SECONDS_MAX, start.ready_seconds, 2));
        }
        all.push(at_most("resident bytes a key", BYTES_A_KEY_MAX, scale.bytes_a_key, 0));
        for pair in &scale.pairs {
            let what = format!("many keys, {} revocations: throughput of that with few", pair.revocations);
            all.push(at_least(&what, MANY_OF_FEW_MIN, pair.throughput_ratio, 2));
        }
    }
    let mut table = Table::new(&["what", "goal", "found", "reached"]);
    for Goal { what, bound, found, reached } in all {
        table.row([what, bound, found, if reached { "yes" } else { "no" }.to_owned()]);
    }
    table
}

fn introspection(row: &Row) -> Vec<Goal> {
    let (Some(throughput), Some(cpu), Some(more)) = (row.throughput_ratio, row.cpu_ratio, row.cpu_more) else {
        return Vec::new();
    };
    let what = |of: &str| format!("{}: {of}", row.name);
    if row.name == crate::hot::UNSEEN {
        return vec![at_most(&what("CPU µs more than bare axum"), UNSEEN_MORE_MICROS_MAX, more, 1)];
    }
    vec![
        at_most(&what("CPU of bare axum's"), CPU_RATIO_MAX, cpu, 2),
        at_least(&what("throughput of bare axum's"), THROUGHPUT_RATIO_MIN, throughput, 2),
    ]
}
