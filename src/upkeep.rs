//! What a node remembers of what it does by itself: when it began, how its own jobs went, and under which name it records.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::audit;
use crate::types::clock::{BootInstant, Timestamp};

/// How a job went that each node does for itself.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// When it last succeeded, by the clock of leases and by the database's.
    pub success: Option<(BootInstant, Timestamp)>,
    /// Why the last run failed, in words that may be shown.
    pub error: Option<String>,
}

/// What a node does by itself.
#[derive(Debug)]
pub struct Upkeep {
    started: BootInstant,
    begun: AtomicBool,
    own: Mutex<HashMap<&'static str, Own>>,
    chain: String,
}

impl Upkeep {
    pub(crate) fn new() -> Self {
        Self {
            started: BootInstant::now(),
            begun: AtomicBool::new(false),
            own: Mutex::default(),
            chain: audit::own_chain(),
        }
    }

    /// When the node started.
    #[must_use]
    pub const fn started(&self) -> BootInstant {
        self.started
    }

    /// The jobs that were due when the node started have ended.
    pub fn begun(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether the jobs that were due when the node started have ended.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// One of the node's own jobs has ended.
    pub fn ended(&self, job: &'static str, now: Timestamp, error: Option<String>) {
        let mut all = self.lock();
        let own = all.entry(job).or_default();
        if error.is_none() {
            own.success = Some((BootInstant::now(), now));
        }
        own.error = error;
    }

    /// How one of the node's own jobs went. `None`: it never ran.
    #[must_use]
    pub fn last(&self, job: &str) -> Option<Own> {
        self.lock().get(job).cloned()
    }

    /// The chain of audit entries that this node's jobs write. It must be opened before the first.
    #[must_use]
    pub fn chain(&self) -> &str {
        &self.chain
    }

    // A thread that panicked has written either all of an entry or nothing.
    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, Own>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
