//! What operators see of a running node: its log lines and its metrics.
//!
//! Every metric's name stands in `metrics/`; docs/metrics.md says what each means and what to alarm on.

mod logs;
mod metrics;

pub use logs::{LogsError, init};
pub use metrics::{CONTENT_TYPE, DeliveryCounts, Metrics, ProviderErrors};
