//! Two futures in one task, each looked at only when it was woken itself.
//!
//! A task has one waker: whatever wakes it, everything in it is looked at. A connection's own business – shall it stop, is it
//! waited for in vain – has nothing to say at nearly every request, and asking costs locks. And the HTTP library wakes itself
//! once in each request with a body, to hand the body over; that need not go through the scheduler.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Looks at one future in a row before others of the runtime have their turn.
const LOOKS_MAX: usize = 8;

/// Nobody looks at the future, and nobody woke it since somebody last did.
const ASLEEP: u8 = 0;
/// It was woken.
const RUNG: u8 = 1;
/// Somebody looks at it.
const WATCHED: u8 = 2;

/// What wakes one future of a task.
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Who looks at the future looks again before he leaves.
        if self.state.fetch_or(RUNG, Ordering::AcqRel) == ASLEEP {
            self.task.wake();
        }
    }
}

/// A future with a bell of its own. It lives in one task at a time.
pub(super) struct Belled<F> {
    future: F,
    bell: Arc<Bell>,
    waker: Waker,
}

impl<F: Future + Unpin> Belled<F> {
    /// Rings at first: a future that nobody has looked at yet wakes nobody.
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { state: AtomicU8::new(RUNG), task: AtomicWaker::new() });
        Self { future, waker: Waker::from(Arc::clone(&bell)), bell }
    }

    /// The future itself, to change something about it; it is looked at anew afterwards.
    pub(super) fn get_mut(&mut self) -> &mut F {
        self.waker.wake_by_ref();
        &mut self.future
    }
}

impl<F: Future + Unpin> Future for Belled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        // First, so that no ring between here and the end is lost.
        this.bell.task.register(cx.waker());
        if this.bell.state.load(Ordering::Acquire) == ASLEEP {
            return Poll::Pending;
        }
        for _ in 0..LOOKS_MAX {
            // Taken, not overwritten: who rang before this need not have woken the task, and what he changed is seen from here on.
            this.bell.state.swap(WATCHED, Ordering::AcqRel);
            if let Poll::Ready(output) = Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker)) {
                return Poll::Ready(output);
            }
            let asleep = this.bell.state.compare_exchange(WATCHED, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
            if asleep.is_ok() {
                return Poll::Pending;
            }
        }
        // It wakes itself again and again: the others have their turn first.
        this.bell.state.store(RUNG, Ordering::Release);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    type Look = Box<dyn FnMut(&mut Context<'_>) -> Poll<()> + Send>;

    /// A future that does this at each look, in a task that counts how often it is woken.
    fn belled(look: Look) -> (Belled<impl Future<Output = ()> + Unpin>, Arc<Task>, Waker) {
        let task = Arc::new(Task::default());
        (Belled::new(poll_fn(look)), Arc::clone(&task), Waker::from(task))
    }

    #[test]
    fn a_future_is_looked_at_only_when_it_was_woken_itself() {
        let (looks, kept) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
        let (counted, keep) = (Arc::clone(&looks), Arc::clone(&kept));
        let (mut future, task, waker) = belled(Box::new(move |cx| {
            *keep.lock().unwrap() = Some(cx.waker().clone());
            counted.fetch_add(1, Ordering::SeqCst);
            Poll::Pending
        }));
        let mut cx = Context::from_waker(&waker);
        for _ in 0..3 {
            assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        }
        assert_eq!(looks.load(Ordering::SeqCst), 1, "the task woke up for something else");
        kept.lock().unwrap().as_ref().unwrap().wake_by_ref();
        assert_eq!(task.0.load(Ordering::SeqCst), 1, "its own ring wakes the task");
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        assert_eq!(looks.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_future_that_wakes_itself_is_looked_at_again_at_once_and_not_for_ever() {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let (mut future, task, waker) = belled(Box::new(move |cx| {
            cx.waker().wake_by_ref();
            if counted.fetch_add(1, Ordering::SeqCst) < 20 { Poll::Pending } else { Poll::Ready(()) }
        }));
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        assert_eq!((looks.load(Ordering::SeqCst), task.0.load(Ordering::SeqCst)), (LOOKS_MAX, 1));
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut future).poll(&mut cx).is_ready());
    }

    #[test]
    fn what_is_changed_about_a_future_is_looked_at() {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let (mut future, task, waker) = belled(Box::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Poll::Pending
        }));
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        future.get_mut();
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        assert_eq!(looks.load(Ordering::SeqCst), 2);
    }
}
