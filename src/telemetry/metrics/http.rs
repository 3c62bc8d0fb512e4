//! Requests by route: how many, and how long they took. Finding a route's meters takes no lock and no memory.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::quality::RandomState;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::OTHER;

/// More route templates than this are counted together as `other`. The service has about a hundred.
pub(super) const ROUTES_MAX: usize = 256;

/// The status that nearly every answer has.
const OK: u16 = 200;

/// Upper bounds of the classes of durations, in seconds: 10 µs to 10 s.
const DURATION_SECONDS: [f64; 19] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The methods that are counted by name (RFC 9110 §9.3, RFC 5789); a caller can invent more.
const METHODS: [&str; 9] = ["GET", "POST", "DELETE", "PATCH", "PUT", "HEAD", "OPTIONS", "TRACE", "CONNECT"];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Template(Arc<str>);

impl EncodeLabelValue for Template {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: Template,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: Template,
}

#[derive(Debug)]
struct Meter {
    route: Template,
    duration: Histogram,
    /// The method of the first answer of 200, and the counter of those: nearly all are counted without looking for it.
    usual: OnceLock<(&'static str, Counter)>,
}

impl Meter {
    fn usual(&self, method: &str, status: u16) -> Option<&Counter> {
        self.usual.get().filter(|(known, _)| status == OK && *known == method).map(|(_, counter)| counter)
    }
}

#[derive(Debug)]
pub(super) struct Http {
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram>,
    meters: ArcSwap<HashMap<Arc<str>, Arc<Meter>, RandomState>>,
}

impl Http {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let requests = Family::default();
        registry.register("mcpa_http_requests", "Requests answered, by route template", requests.clone());
        let durations: Family<Route, Histogram> = Family::new_with_constructor(|| Histogram::new(DURATION_SECONDS));
        let help = "Time from a request's head to its answer's head, by route template";
        registry.register("mcpa_http_request_duration_seconds", help, durations.clone());
        Self { requests, durations, meters: ArcSwap::default() }
    }

    pub(super) fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER);
        let known = self.meters.load();
        let added;
        let meter = if let Some(meter) = known.get(route) {
            meter
        } else {
            added = self.add(route);
            &added
        };
        meter.duration.observe(took.as_secs_f64());
        if let Some(usual) = meter.usual(method, status) {
            usual.inc();
            return;
        }
        let counter = self.requests.get_or_create_owned(&Request { method, route: meter.route.clone(), status });
        counter.inc();
        if status == OK {
            // Somebody else may have been first.
            let _ = meter.usual.set((method, counter));
        }
    }

    /// The meter of a route that was not there a moment ago, or that of all others when there are too many.
    fn add(&self, route: &str) -> Arc<Meter> {
        let route = if self.meters.load().len() < ROUTES_MAX { route } else { OTHER };
        let route = Template(Arc::from(route));
        let duration = self.durations.get_or_create_owned(&Route { route: route.clone() });
        let meter = Arc::new(Meter { route, duration, usual: OnceLock::new() });
        // Two threads that add the same route get the same histogram from the family; neither count is lost.
        self.meters.rcu(|meters| {
            let mut meters = HashMap::clone(meters);
            meters.entry(Arc::clone(&meter.route.0)).or_insert_with(|| Arc::clone(&meter));
            meters
        });
        meter
    }
}
