//! The metrics of a node, by event: callers say what happened, and this file alone knows the names.
//!
//! No label holds an id, an address or anything else that a caller chooses: label values are words of the program
//! or route templates, so the number of series is bounded. docs/metrics.md lists them all; a test compares the two.

mod deliveries;
mod http;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

pub use deliveries::DeliveryCounts;
use http::Http;

/// The media type of [`Metrics::render`]'s text (`OpenMetrics` 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The label for a value that is not on a closed list.
const OTHER: &str = "other";

/// Upper bounds of the classes of revocation times, in seconds: 100 µs to 5 s.
const ENFORCED_SECONDS: [f64; 15] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

type Seconds = Gauge<f64, AtomicU64>;
type Number = Gauge<u64, AtomicU64>;

/// A gauge that is not shown before it is set: a zero would be taken for a measurement.
#[derive(Clone, Debug, Default)]
struct Measured<G>(Arc<OnceLock<G>>);

impl<G: Default> Measured<G> {
    fn gauge(&self) -> &G {
        self.0.get_or_init(G::default)
    }
}

impl<G: EncodeMetric> EncodeMetric for Measured<G> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.get().map_or(Ok(()), |gauge| gauge.encode(encoder))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.0.get().is_none()
    }
}

macro_rules! labels {
    ($($name:ident { $($label:ident),+ })+) => {
        $(#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name {
            $($label: &'static str,)+
        })+
    };
}

labels! {
    OfResult { result }
    OfGrant { grant }
    OfRefusal { grant, error }
    OfKind { kind }
    OfKeys { environment, state }
    OfAlg { alg }
    OfJob { job }
    OfState { state }
    OfTable { table }
    OfReason { reason }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProvider {
    provider: String,
}

/// Counts what went wrong at identity providers. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct ProviderErrors(Family<OfProvider, Counter>);

impl ProviderErrors {
    /// The provider of this name could not be asked, or its answer did not count.
    pub fn count(&self, provider: &str) {
        self.0.get_or_create(&OfProvider { provider: provider.to_owned() }).inc();
    }
}

/// All metrics of one node. Every method may be called from any thread and never fails.
pub struct Metrics {
    registry: Registry,
    credentials: Credentials,
    feed: Feed,
    audit: Audit,
    upkeep: Upkeep,
    http: Http,
    providers: ProviderErrors,
    deliveries: DeliveryCounts,
}

impl Metrics {
    /// All counters at zero. `results` are the results of introspection that are counted by name; they are searched
    /// from the front, so the most frequent comes first.
    #[must_use]
    pub fn new(version: &str, results: &[&'static str]) -> Self {
        let mut registry = Registry::default();
        let build = Info::new(Build { version: version.to_owned() });
        registry.register("mcpa_build", "The running program", build);
        let help = "Identity providers that could not be asked, or whose answer did not count";
        let providers = ProviderErrors(add(&mut registry, "mcpa_provider_errors", help, Family::default()));
        Self {
            providers,
            deliveries: DeliveryCounts::register(&mut registry),
            credentials: Credentials::register(&mut registry, results),
            feed: Feed::register(&mut registry),
            audit: Audit::register(&mut registry),
            upkeep: Upkeep::register(&mut registry),
            http: Http::register(&mut registry),
            registry,
        }
    }

    /// Everything as `OpenMetrics` 1.0 text, to be sent as [`CONTENT_TYPE`]. What has not happened or was not measured
    /// yet may be absent.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(fault) = text::encode(&mut text, &self.registry) {
            // The text then has no end mark, and every reader of OpenMetrics refuses it.
            tracing::error!(%fault, "metrics could not be written");
        }
        text
    }

    /// A credential was introspected. A result that `new` was not told counts as `other`.
    pub fn introspection(&self, result: &'static str) {
        let known = self.credentials.introspections.iter().find(|(name, _)| *name == result);
        known.map_or(&self.credentials.introspections_other, |(_, counter)| counter).inc();
    }

    /// A session token left the token endpoint.
    pub fn token_issued(&self, grant: &'static str) {
        self.credentials.issued.get_or_create(&OfGrant { grant }).inc();
    }

    /// The token endpoint refused, with this `error` (RFC 6749 §5.2). A grant that is not supported is `other`.
    pub fn token_refused(&self, grant: &'static str, error: &'static str) {
        self.credentials.refused.get_or_create(&OfRefusal { grant, error }).inc();
    }

    /// Something of this kind was revoked through this node.
    pub fn revocation(&self, kind: &'static str) {
        self.credentials.revocations.get_or_create(&OfKind { kind }).inc();
    }

    /// A revocation holds on every live node, this long after its request arrived.
    pub fn revocation_enforced(&self, after: Duration) {
        self.credentials.enforced.observe(after.as_secs_f64());
    }

    /// A caller did not prove who it is. `kind` is the kind of credential that it showed.
    pub fn failed_authentication(&self, kind: &'static str) {
        self.credentials.failed.get_or_create(&OfKind { kind }).inc();
    }

    /// What counts the errors of identity providers.
    #[must_use]
    pub fn provider_errors(&self) -> ProviderErrors {
        self.providers.clone()
    }

    /// What counts what is told to webhooks and by mail.
    #[must_use]
    pub fn delivery_counts(&self) -> DeliveryCounts {
        self.deliveries.clone()
    }

    /// How many keys there are in an environment and a state. A state that is empty now is set to 0, not left out.
    pub fn set_keys(&self, environment: &'static str, state: &'static str, count: u64) {
        self.credentials.keys.get_or_create(&OfKeys { environment, state }).set(count);
    }

    /// The number of the last change that this node applied, and how far behind the database it was then.
    pub fn set_feed(&self, number: u64, lag: Duration) {
        self.feed.number.set(number);
        self.feed.lag.gauge().set(lag.as_secs_f64());
    }

    /// How long this node may go on answering from memory. Zero: it answers nothing.
    pub fn set_lease_remaining(&self, remaining: Duration) {
        self.feed.lease.set(remaining.as_secs_f64());
    }

    /// How many streams of revocations are open.
    pub fn set_stream_subscribers(&self, streams: usize) {
        self.feed.streams.set(u64::try_from(streams).unwrap_or(u64::MAX));
    }

    /// A stream was ended from this side: `slow`, `not_current` or `credential`.
    pub fn stream_cut(&self, reason: &'static str) {
        self.feed.cut.get_or_create(&OfReason { reason }).inc();
    }

    /// An audit entry could not be written.
    pub fn audit_write_failure(&self) {
        self.audit.failures.inc();
    }

    /// How many audit entries wait to be written.
    pub fn set_audit_queue_depth(&self, entries: usize) {
        self.audit.depth.set(u64::try_from(entries).unwrap_or(u64::MAX));
    }

    /// How long ago the last signed checkpoint of the audit log was made.
    pub fn set_audit_checkpoint_age(&self, age: Duration) {
        self.audit.checkpoint.gauge().set(age.as_secs_f64());
    }

    /// When the newest signing key of an algorithm stops being used, in seconds since 1970.
    pub fn set_signing_key_expiry(&self, alg: &'static str, at_seconds: i64) {
        self.upkeep.signing_keys.get_or_create(&OfAlg { alg }).set(at_seconds);
    }

    /// When a job last did what it is for, in seconds since 1970.
    pub fn set_job_success(&self, job: &'static str, at_seconds: i64) {
        self.upkeep.jobs.get_or_create(&OfJob { job }).set(at_seconds);
    }

    /// How long a job has been due without success.
    pub fn set_job_lag(&self, job: &'static str, seconds: i64) {
        self.upkeep.lag.get_or_create(&OfJob { job }).set(seconds);
    }

    /// Whether the audit was found to be other than it was written.
    pub fn set_audit_broken(&self, broken: bool) {
        self.audit.broken.gauge().set(u64::from(broken));
    }

    /// How many rows a table holds that no partition was made for, counted to ten thousand.
    pub fn set_rows_without_partition(&self, table: &'static str, rows: u64) {
        self.upkeep.rest.get_or_create(&OfTable { table }).set(rows);
    }

    /// How many connections of the database pool are in a state (`idle`, `used`).
    pub fn set_db_pool_connections(&self, state: &'static str, count: u64) {
        self.upkeep.pool.get_or_create(&OfState { state }).set(count);
    }

    /// When the certificate that is served ends, in seconds since 1970. Never set without TLS.
    pub fn set_certificate_expiry(&self, at_seconds: i64) {
        self.upkeep.certificate.gauge().set(at_seconds);
    }

    /// A request was answered. `route` is the template that matched (`/v1/keys/{id}`), `None` where none did: never
    /// the path itself. Methods that no standard names count as `other`.
    pub fn http_request(&self, method: &str, route: Option<&str>, status: u16, took: Duration) {
        self.http.answered(method, route.unwrap_or("none"), status, took);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Adds a metric to what is rendered, and keeps a handle on it.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

struct Credentials {
    /// Found once, here: introspection counts without hashing and without a lock.
    introspections: Vec<(&'static str, Counter)>,
    introspections_other: Counter,
    issued: Family<OfGrant, Counter>,
    refused: Family<OfRefusal, Counter>,
    revocations: Family<OfKind, Counter>,
    enforced: Histogram,
    failed: Family<OfKind, Counter>,
    keys: Family<OfKeys, Number>,
}

impl Credentials {
    fn register(to: &mut Registry, results: &[&'static str]) -> Self {
        let help = "Introspected credentials, by what was found; callers are told active or not only";
        let introspections: Family<OfResult, Counter> = add(to, "mcpa_introspections", help, Family::default());
        let counter = |result| introspections.get_or_create_owned(&OfResult { result });
        let help = "Time from a revocation's request until every live node enforces it";
        let enforced = add(to, "mcpa_revocation_enforced_seconds", help, Histogram::new(ENFORCED_SECONDS));
        Self {
            introspections: results.iter().map(|result| (*result, counter(result))).collect(),
            introspections_other: counter(OTHER),
            issued: add(to, "mcpa_tokens_issued", "Session tokens issued", Family::default()),
            refused: add(to, "mcpa_token_requests_refused", "Token requests refused", Family::default()),
            revocations: add(to, "mcpa_revocations", "Revocations through this node", Family::default()),
            enforced,
            failed: add(
                to,
                "mcpa_failed_authentications",
                "Callers that did not prove who they are",
                Family::default(),
            ),
            keys: add(to, "mcpa_keys", "Keys that exist", Family::default()),
        }
    }
}

struct Feed {
    lag: Measured<Seconds>,
    lease: Seconds,
    number: Number,
    streams: Number,
    cut: Family<OfReason, Counter>,
}

impl Feed {
    fn register(to: &mut Registry) -> Self {
        Self {
            lag: add(to, "mcpa_feed_lag_seconds", "How far this node is behind the database", Measured::default()),
            lease: add(to, "mcpa_lease_remaining_seconds", "Time left to answer from memory", Seconds::default()),
            number: add(to, "mcpa_feed_number", "The last change that this node applied", Number::default()),
            streams: add(to, "mcpa_stream_subscribers", "Open streams of revocations", Number::default()),
            cut: add(to, "mcpa_stream_cut_offs", "Streams that this node ended, by reason", Family::default()),
        }
    }
}

struct Audit {
    failures: Counter,
    depth: Number,
    checkpoint: Measured<Seconds>,
    broken: Measured<Number>,
}

impl Audit {
    fn register(to: &mut Registry) -> Self {
        let age = "Time since the last signed checkpoint of the audit log";
        Self {
            failures: add(to, "mcpa_audit_write_failures", "Audit entries not written", Counter::default()),
            depth: add(to, "mcpa_audit_queue_depth", "Audit entries that wait to be written", Number::default()),
            checkpoint: add(to, "mcpa_audit_checkpoint_age_seconds", age, Measured::default()),
            broken: add(to, "mcpa_audit_broken", "1: the audit is not as it was written", Measured::default()),
        }
    }
}

struct Upkeep {
    signing_keys: Family<OfAlg, Gauge>,
    jobs: Family<OfJob, Gauge>,
    lag: Family<OfJob, Gauge>,
    pool: Family<OfState, Number>,
    rest: Family<OfTable, Number>,
    certificate: Measured<Gauge>,
}

impl Upkeep {
    fn register(to: &mut Registry) -> Self {
        let signing_key = "When the newest signing key of an algorithm stops being used";
        let job = "When a job last did what it is for";
        let certificate = "When the certificate that is served ends";
        let rest = "Rows that no partition was made for";
        Self {
            signing_keys: add(to, "mcpa_signing_key_expiry_timestamp_seconds", signing_key, Family::default()),
            jobs: add(to, "mcpa_job_last_success_timestamp_seconds", job, Family::default()),
            lag: add(to, "mcpa_job_lag_seconds", "How long a job has been due without success", Family::default()),
            pool: add(to, "mcpa_db_pool_connections", "Connections of the database pool", Family::default()),
            rest: add(to, "mcpa_rows_without_partition", rest, Family::default()),
            certificate: add(to, "mcpa_certificate_expiry_timestamp_seconds", certificate, Measured::default()),
        }
    }
}
