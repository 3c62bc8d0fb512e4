//! Documents by their URL: fetched once for all who ask at the same time, kept as long as they are good.
//!
//! A failure is kept for a short time, so that nobody makes us ask a dead host again and again, and never stands in
//! the place of a document. A document that was good serves on for a bounded time while its host cannot be heard; an
//! answer that it is gone or has become something else ends it at once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::timeout;
use url::Url;

use crate::types::clock::BootInstant;

use super::places::Places;
use super::{Error, Outbound};

/// How long a failure is believed without asking again.
pub const FAILED_FOR: Duration = Duration::from_secs(30);
/// Failures remembered. They are kept apart: no flood of bad URLs makes room by throwing out good documents.
const FAILURES_MAX: usize = 4_096;
/// Documents being fetched or waited for; one more is refused at once.
const FLIGHTS_MAX: usize = 1_024;
/// A document is not fetched anew sooner than this after it was, whoever says that it has changed.
pub const RENEWED_AFTER: Duration = Duration::from_secs(10);
/// How long to wait for somebody else's fetch of the same document: longer than one takes.
const FLIGHT_WAIT_MAX: Duration = Duration::from_secs(10);

/// What kind of document it is.
#[derive(Debug)]
pub struct Shape<T, E> {
    /// Bytes of one document at most.
    pub bytes_max: usize,
    /// Documents kept at most. Together they take at most this times `bytes_max`, as they were sent.
    pub count_max: usize,
    /// Reads one; the URL is that which it was fetched from.
    pub read: fn(&Url, &[u8]) -> Result<T, E>,
}

/// Why there is no document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// None was received.
    Fetch(Error),
    /// It is not what it should be.
    Invalid(E),
}

impl<E> Failure<E> {
    fn is_passing(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_passing())
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(error) => error.fmt(to),
            Self::Invalid(error) => error.fmt(to),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for Failure<E> {}

/// The documents of one kind.
pub struct Documents<T, E> {
    outbound: Outbound,
    shape: Shape<T, E>,
    good: Cache<String, Arc<Good<T>>, Bytes>,
    failed: Cache<String, Failed<E>>,
    flights: Places,
}

struct Good<T> {
    document: Arc<T>,
    bytes: usize,
    fetched: BootInstant,
    fresh_until: BootInstant,
    stale_until: BootInstant,
}

#[derive(Clone)]
struct Failed<E> {
    failure: Failure<E>,
    until: BootInstant,
}

/// Each document weighs at least this part of the whole, which bounds their number as well as their bytes.
#[derive(Clone)]
struct Bytes {
    least: usize,
}

impl<T> Weighter<String, Arc<Good<T>>> for Bytes {
    fn weight(&self, url: &String, good: &Arc<Good<T>>) -> u64 {
        u64::try_from((good.bytes + url.len()).max(self.least)).unwrap_or(u64::MAX)
    }
}

impl<T, E: Clone> Documents<T, E> {
    /// None is there yet.
    #[must_use]
    pub fn new(outbound: Outbound, shape: Shape<T, E>) -> Self {
        let bytes = u64::try_from(shape.bytes_max.saturating_mul(shape.count_max)).unwrap_or(u64::MAX);
        let good = Cache::with_weighter(shape.count_max, bytes, Bytes { least: shape.bytes_max });
        let (failed, flights) = (Cache::new(FAILURES_MAX), Places::new(1, FLIGHTS_MAX));
        Self { outbound, shape, good, failed, flights }
    }

    /// The document at this URL.
    ///
    /// # Errors
    ///
    /// It cannot be had or is not what it should be, and none from before may stand for it.
    pub async fn get(&self, url: &Url, now: BootInstant) -> Result<Arc<T>, Failure<E>> {
        let fresh = |good: &Good<T>| now < good.fresh_until;
        self.get_if(url, now, fresh).await
    }

    /// The document at this URL, fetched anew although it is fresh: something was met that it should know and does not, such
    /// as a key. Whatever is met, and whoever makes us meet it, it is fetched once in [`RENEWED_AFTER`] at most.
    ///
    /// # Errors
    ///
    /// As [`Documents::get`].
    pub async fn renew(&self, url: &Url, now: BootInstant) -> Result<Arc<T>, Failure<E>> {
        let young = |good: &Good<T>| now < good.fresh_until && now < good.fetched.plus(RENEWED_AFTER);
        self.get_if(url, now, young).await
    }

    async fn get_if(
        &self,
        url: &Url,
        now: BootInstant,
        good_enough: impl Fn(&Good<T>) -> bool,
    ) -> Result<Arc<T>, Failure<E>> {
        let key = url.as_str();
        if let Some(known) = self.known(key, now, &good_enough) {
            return known;
        }
        let busy = Failure::Fetch(Error::Busy);
        let flight = timeout(FLIGHT_WAIT_MAX, self.flights.take(key)).await.ok().flatten();
        let Some(_flight) = flight else { return self.or_stale(key, now, busy) };
        // Whoever had the flight before us left what it found.
        if let Some(known) = self.known(key, now, &good_enough) {
            return known;
        }
        match self.fetch(url, now).await {
            Ok(good) => {
                self.failed.remove(key);
                let document = Arc::clone(&good.document);
                self.good.insert(key.to_owned(), Arc::new(good));
                Ok(document)
            }
            Err(failure) => {
                if !failure.is_passing() {
                    self.good.remove(key);
                }
                // That we are busy says nothing of the document.
                if !matches!(failure, Failure::Fetch(Error::Busy)) {
                    let failed = Failed { failure: failure.clone(), until: now.plus(FAILED_FOR) };
                    self.failed.insert(key.to_owned(), failed);
                }
                self.or_stale(key, now, failure)
            }
        }
    }

    /// Whether [`Documents::get`] would answer without asking anybody.
    #[must_use]
    pub fn is_known(&self, url: &Url, now: BootInstant) -> bool {
        self.known(url.as_str(), now, |good| now < good.fresh_until).is_some()
    }

    /// How many documents are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.good.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.good.is_empty()
    }

    /// What can be said without asking.
    fn known(
        &self,
        key: &str,
        now: BootInstant,
        good_enough: impl Fn(&Good<T>) -> bool,
    ) -> Option<Result<Arc<T>, Failure<E>>> {
        if let Some(good) = self.good.get(key)
            && good_enough(&good)
        {
            return Some(Ok(Arc::clone(&good.document)));
        }
        let failed = self.failed.get(key).filter(|failed| now < failed.until)?;
        Some(self.or_stale(key, now, failed.failure))
    }

    /// A document from before in the place of a failure that will pass.
    fn or_stale(&self, key: &str, now: BootInstant, failure: Failure<E>) -> Result<Arc<T>, Failure<E>> {
        let stale = self.good.get(key).filter(|good| failure.is_passing() && now < good.stale_until);
        stale.map(|good| Arc::clone(&good.document)).ok_or(failure)
    }

    async fn fetch(&self, url: &Url, now: BootInstant) -> Result<Good<T>, Failure<E>> {
        let reply = self.outbound.get_json(url, self.shape.bytes_max).await.map_err(Failure::Fetch)?;
        let document = (self.shape.read)(url, &reply.bytes).map_err(Failure::Invalid)?;
        let fresh_until = now.plus(reply.keep.fresh);
        let stale_until = fresh_until.plus(reply.keep.stale);
        let document = Arc::new(document);
        Ok(Good { document, bytes: reply.bytes.len(), fetched: now, fresh_until, stale_until })
    }
}
