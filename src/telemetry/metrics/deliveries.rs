//! What is told to webhooks and by mail.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{OfResult, add};

/// Counts attempts to tell somebody something. Clones count together.
#[derive(Clone, Debug)]
pub struct DeliveryCounts {
    webhooks: Family<OfResult, Counter>,
    mails: Family<OfResult, Counter>,
}

impl DeliveryCounts {
    pub(super) fn register(to: &mut Registry) -> Self {
        Self {
            webhooks: add(to, "mcpa_webhook_deliveries", "Attempts to deliver to webhooks", Family::default()),
            mails: add(to, "mcpa_mails", "Attempts to send mail", Family::default()),
        }
    }

    /// An attempt ended: `delivered`, `failed` (it is tried again) or `dead`.
    pub fn count(&self, by_mail: bool, result: &'static str) {
        let family = if by_mail { &self.mails } else { &self.webhooks };
        family.get_or_create(&OfResult { result }).inc();
    }
}
