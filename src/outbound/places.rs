//! How many may do something at once for one key – a host, a URL – and how many may be there at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places by key. Keys that nobody uses or waits for take no memory.
pub(super) struct Places {
    each: usize,
    crowd: Arc<Semaphore>,
    by_key: Arc<ByKey>,
}

type ByKey = Mutex<HashMap<String, Arc<Semaphore>>>;

impl Places {
    /// `each` at once for one key, `crowd_max` at most over all keys, those that wait included.
    pub(super) fn new(each: usize, crowd_max: usize) -> Self {
        Self { each, crowd: Arc::new(Semaphore::new(crowd_max)), by_key: Arc::default() }
    }

    /// Waits for a place, in the order of asking; `None` at once when the crowd is full. The caller bounds the wait.
    pub(super) async fn take(&self, key: &str) -> Option<Place> {
        let crowd = Arc::clone(&self.crowd).try_acquire_owned().ok()?;
        let semaphore = self.of(key);
        let mut place = Place {
            permit: None,
            semaphore: Some(Arc::clone(&semaphore)),
            key: key.to_owned(),
            by_key: Arc::clone(&self.by_key),
            _crowd: crowd,
        };
        // It is made before the wait: who gives up waiting tidies up too.
        place.permit = Some(semaphore.acquire_owned().await.ok()?);
        Some(place)
    }

    fn of(&self, key: &str) -> Arc<Semaphore> {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(by_key.entry(key.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

/// A place that is taken or waited for; given back when dropped.
pub(super) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    semaphore: Option<Arc<Semaphore>>,
    key: String,
    by_key: Arc<ByKey>,
    _crowd: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.permit.take();
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        self.semaphore.take();
        // Only the map holds it: nobody has it, and nobody can come by it while the map is locked.
        if by_key.get(&self.key).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            by_key.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_key_has_so_many_places_and_the_next_waits() {
        let places = Places::new(2, 10);
        let first = places.take("a").await.unwrap();
        let _second = places.take("a").await.unwrap();
        let mut third = pin!(places.take("a"));
        assert!(poll(third.as_mut()).is_pending());
        assert!(places.take("b").await.is_some());
        drop(first);
        assert!(third.await.is_some());
    }

    #[tokio::test]
    async fn those_that_wait_count_and_nothing_is_left_behind() {
        let places = Places::new(1, 3);
        let first = places.take("a").await.unwrap();
        {
            let mut waiting = pin!(places.take("a"));
            assert!(poll(waiting.as_mut()).is_pending());
            let _third = places.take("b").await.unwrap();
            assert!(places.take("c").await.is_none());
        }
        assert_eq!(places.by_key.lock().unwrap().len(), 1);
        drop(first);
        assert!(places.by_key.lock().unwrap().is_empty());
        assert!(places.take("c").await.is_some());
    }
}
