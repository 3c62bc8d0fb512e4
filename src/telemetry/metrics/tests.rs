//! The names as they are written, bounded labels, and that docs/metrics.md says the same.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use super::Metrics;
use super::http::ROUTES_MAX;

/// Read when the test runs, not when the service is built: the page is no part of it.
fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).expect("the page")
}

const RESULTS: [&str; 2] = ["active", "unknown"];

/// Every name that is written, with its type and labels.
const METRICS: [(&str, &str, &str); 28] = [
    ("mcpa_audit_broken", "gauge", ""),
    ("mcpa_audit_checkpoint_age_seconds", "gauge", ""),
    ("mcpa_audit_queue_depth", "gauge", ""),
    ("mcpa_audit_write_failures_total", "counter", ""),
    ("mcpa_build_info", "info", "version"),
    ("mcpa_certificate_expiry_timestamp_seconds", "gauge", ""),
    ("mcpa_db_pool_connections", "gauge", "state"),
    ("mcpa_failed_authentications_total", "counter", "kind"),
    ("mcpa_feed_lag_seconds", "gauge", ""),
    ("mcpa_feed_number", "gauge", ""),
    ("mcpa_http_request_duration_seconds", "histogram", "route"),
    ("mcpa_http_requests_total", "counter", "method,route,status"),
    ("mcpa_introspections_total", "counter", "result"),
    ("mcpa_job_lag_seconds", "gauge", "job"),
    ("mcpa_job_last_success_timestamp_seconds", "gauge", "job"),
    ("mcpa_keys", "gauge", "environment,state"),
    ("mcpa_lease_remaining_seconds", "gauge", ""),
    ("mcpa_mails_total", "counter", "result"),
    ("mcpa_provider_errors_total", "counter", "provider"),
    ("mcpa_revocation_enforced_seconds", "histogram", ""),
    ("mcpa_revocations_total", "counter", "kind"),
    ("mcpa_rows_without_partition", "gauge", "table"),
    ("mcpa_signing_key_expiry_timestamp_seconds", "gauge", "alg"),
    ("mcpa_stream_cut_offs_total", "counter", "reason"),
    ("mcpa_stream_subscribers", "gauge", ""),
    ("mcpa_token_requests_refused_total", "counter", "error,grant"),
    ("mcpa_tokens_issued_total", "counter", "grant"),
    ("mcpa_webhook_deliveries_total", "counter", "result"),
];

fn fresh() -> Metrics {
    Metrics::new("1.2.3", &RESULTS)
}

/// Everything happened once.
fn used() -> Metrics {
    let metrics = fresh();
    metrics.introspection("active");
    metrics.token_issued("client_credentials");
    metrics.token_refused("client_credentials", "invalid_scope");
    metrics.revocation("key");
    metrics.revocation_enforced(Duration::from_millis(3));
    metrics.failed_authentication("operator_key");
    metrics.provider_errors().count("company");
    metrics.delivery_counts().count(false, "delivered");
    metrics.delivery_counts().count(true, "failed");
    metrics.set_keys("prod", "active", 12);
    metrics.set_feed(77, Duration::from_millis(5));
    metrics.set_lease_remaining(Duration::from_millis(2500));
    metrics.set_stream_subscribers(3);
    metrics.stream_cut("slow");
    metrics.audit_write_failure();
    metrics.set_audit_queue_depth(4);
    metrics.set_audit_checkpoint_age(Duration::from_mins(1));
    metrics.set_signing_key_expiry("EdDSA", 1_800_000_000);
    metrics.set_job_success("rotate_signing", 1_790_000_000);
    metrics.set_job_lag("rotate_signing", 3);
    metrics.set_audit_broken(false);
    metrics.set_db_pool_connections("idle", 3);
    metrics.set_rows_without_partition("sessions", 0);
    metrics.set_certificate_expiry(1_800_000_001);
    metrics.http_request("GET", Some("/v1/keys/{id}"), 200, Duration::from_micros(40));
    metrics
}

/// The value of a series, by its full text.
fn value(text: &str, series: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
}

/// Names as the text declares them, with the suffix that `OpenMetrics` gives their samples.
fn declared(text: &str) -> Vec<(String, String)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let suffixed = types.map(|(name, kind)| match kind {
        "counter" => (format!("{name}_total"), kind.to_owned()),
        "info" => (format!("{name}_info"), kind.to_owned()),
        _ => (name.to_owned(), kind.to_owned()),
    });
    suffixed.collect()
}

/// The label names that a metric's samples carry, sorted; `le` is the histogram's own.
fn labels(text: &str, name: &str) -> String {
    let samples = text.lines().filter(|line| line.starts_with(name));
    let pairs =
        samples.filter_map(|line| line.split_once('{')?.1.rsplit_once('}')).flat_map(|(set, _)| set.split("\","));
    let names: BTreeSet<&str> =
        pairs.filter_map(|pair| Some(pair.split_once('=')?.0)).filter(|name| *name != "le").collect();
    Vec::from_iter(names).join(",")
}

#[test]
fn every_metric_is_declared_once_with_its_type_help_and_labels() {
    let text = used().render();
    let mut found = declared(&text);
    found.sort();
    let wanted: Vec<_> = METRICS.iter().map(|(name, kind, _)| ((*name).to_owned(), (*kind).to_owned())).collect();
    assert_eq!(found, wanted);
    assert_eq!(text.lines().filter(|line| line.starts_with("# HELP mcpa_")).count(), METRICS.len());
    for (name, _, wanted) in METRICS {
        assert_eq!(labels(&text, name), wanted, "{name}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_page_lists_exactly_these_metrics_and_labels() {
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>();
    let text = page();
    let rows = text.lines().filter(|line| line.starts_with("| `mcpa_")).map(cells);
    let sorted = |cell: &str| {
        let names: BTreeSet<&str> = cell.split(',').map(str::trim).collect();
        Vec::from_iter(names).join(",").replace('–', "")
    };
    let page: BTreeMap<String, String> = rows.map(|row| (row[0].clone(), sorted(&row[1]))).collect();
    let code: BTreeMap<_, _> =
        METRICS.iter().map(|(name, _, labels)| ((*name).to_owned(), (*labels).to_owned())).collect();
    assert_eq!(page, code);
}

#[test]
fn events_count_and_measurements_are_shown_as_given() {
    let metrics = used();
    metrics.introspection("active");
    let text = metrics.render();
    let wanted = [
        ("mcpa_build_info{version=\"1.2.3\"}", "1"),
        ("mcpa_introspections_total{result=\"active\"}", "2"),
        ("mcpa_introspections_total{result=\"unknown\"}", "0"),
        ("mcpa_tokens_issued_total{grant=\"client_credentials\"}", "1"),
        ("mcpa_token_requests_refused_total{grant=\"client_credentials\",error=\"invalid_scope\"}", "1"),
        ("mcpa_revocation_enforced_seconds_bucket{le=\"0.0025\"}", "0"),
        ("mcpa_revocation_enforced_seconds_bucket{le=\"0.005\"}", "1"),
        ("mcpa_revocation_enforced_seconds_count", "1"),
        ("mcpa_keys{environment=\"prod\",state=\"active\"}", "12"),
        ("mcpa_feed_number", "77"),
        ("mcpa_feed_lag_seconds", "0.005"),
        ("mcpa_lease_remaining_seconds", "2.5"),
        ("mcpa_audit_queue_depth", "4"),
        ("mcpa_certificate_expiry_timestamp_seconds", "1800000001"),
        ("mcpa_http_requests_total{method=\"GET\",route=\"/v1/keys/{id}\",status=\"200\"}", "1"),
        ("mcpa_http_request_duration_seconds_count{route=\"/v1/keys/{id}\"}", "1"),
    ];
    for (series, number) in wanted {
        assert_eq!(value(&text, series).as_deref(), Some(number), "{series}\n{text}");
    }
}

#[test]
fn what_was_not_measured_is_absent_rather_than_zero() {
    let text = fresh().render();
    for name in
        ["mcpa_feed_lag_seconds", "mcpa_audit_checkpoint_age_seconds", "mcpa_certificate_expiry_timestamp_seconds"]
    {
        assert!(!text.contains(name), "{text}");
    }
    assert_eq!(value(&text, "mcpa_lease_remaining_seconds").as_deref(), Some("0.0"));
}

#[test]
fn words_that_nobody_announced_are_counted_as_other() {
    let metrics = fresh();
    metrics.introspection("never heard of");
    metrics.http_request("BREW\"\n", None, 418, Duration::ZERO);
    let text = metrics.render();
    assert_eq!(value(&text, "mcpa_introspections_total{result=\"other\"}").as_deref(), Some("1"));
    let series = "mcpa_http_requests_total{method=\"other\",route=\"none\",status=\"418\"}";
    assert_eq!(value(&text, series).as_deref(), Some("1"), "{text}");
}

#[test]
fn the_number_of_routes_is_bounded() {
    let metrics = fresh();
    for number in 0..ROUTES_MAX + 50 {
        metrics.http_request("GET", Some(&format!("/{number}")), 200, Duration::ZERO);
    }
    let text = metrics.render();
    let series = "mcpa_http_requests_total{method=\"GET\",route=\"other\",status=\"200\"}";
    let routes = text.lines().filter(|line| line.starts_with("mcpa_http_request_duration_seconds_count")).count();
    assert_eq!((routes, value(&text, series).as_deref()), (ROUTES_MAX + 1, Some("50")));
}

#[test]
fn no_request_is_lost_when_threads_meet_on_a_new_route() {
    let metrics = fresh();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..500).for_each(|_| metrics.http_request("POST", Some("/a"), 200, Duration::ZERO)));
        }
    });
    let text = metrics.render();
    assert_eq!(value(&text, "mcpa_http_request_duration_seconds_count{route=\"/a\"}").as_deref(), Some("4000"));
    let series = "mcpa_http_requests_total{method=\"POST\",route=\"/a\",status=\"200\"}";
    assert_eq!(value(&text, series).as_deref(), Some("4000"));
}
