//! Protections that the fault tests take out one at a time, to show that each is needed. Without the feature `switches`,
//! which only debug builds accept, every one is on, and the compiler removes the question.

#[cfg(not(feature = "switches"))]
use std::time::Duration;

#[cfg(all(feature = "switches", not(debug_assertions)))]
compile_error!("the feature `switches` takes protections out: it is for tests, and no release is built with it");

/// Something that stands between a fault and a wrong answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nothing is answered without a running lease.
    Lease,
    /// The clock is read after the verdict, not before it.
    ClockLast,
    /// A lease counts from before its round was sent, not from its end.
    LeaseFromSent,
    /// A round that did not renew the node's row extends nothing.
    Beat,
    /// A node answers only after a round that began when its row was committed.
    JoinFirst,
    /// A wall clock that moves against the boot-time clock ends the lease.
    WallStep,
    /// A revoking call waits for the other nodes.
    Waiting,
    /// A row is removed only after its node was silent for longer than a lease.
    Silence,
    /// A feed that does not hold the last applied entry, with its mark, is another database's.
    Marks,
    /// The feed is read also when nobody announces a change.
    Poll,
    /// A round that hangs is given up.
    RoundBound,
    /// Revocations have connections of their own.
    Reserved,
    /// A commit is on disk before it is acknowledged, whatever the database is set to.
    Durable,
    /// Not a protection: wake-ups are sent at all. They may be lost without harm.
    WakeUps,
}

/// Whether a protection is in force.
#[cfg(not(feature = "switches"))]
#[must_use]
pub const fn on(_: Protection) -> bool {
    true
}

/// A clock's reading.
#[cfg(not(feature = "switches"))]
pub(crate) const fn moved(read: Duration, _: Clock) -> Duration {
    read
}

/// The clocks that a test may move.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// Counts since the machine started.
    Boot,
    /// What somebody may set.
    Wall,
}

#[cfg(feature = "switches")]
pub use switched::{on, set};

#[cfg(feature = "switches")]
pub(crate) use switched::moved;

#[cfg(feature = "switches")]
mod switched {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::{Clock, Protection};

    const ALL: [Protection; 14] = [
        Protection::Lease,
        Protection::ClockLast,
        Protection::LeaseFromSent,
        Protection::Beat,
        Protection::JoinFirst,
        Protection::WallStep,
        Protection::Waiting,
        Protection::Silence,
        Protection::Marks,
        Protection::Poll,
        Protection::RoundBound,
        Protection::Reserved,
        Protection::Durable,
        Protection::WakeUps,
    ];

    /// One bit for each that is off. A process of its own is told by `TEST_SWITCHES_OFF`, names with commas between.
    static OFF: LazyLock<AtomicU64> = LazyLock::new(|| {
        let names = environment("TEST_SWITCHES_OFF").unwrap_or_default();
        let off = ALL.into_iter().filter(|one| names.split(',').any(|name| name == format!("{one:?}")));
        AtomicU64::new(off.fold(0, |bits, one| bits | bit(one)))
    });

    /// The file that holds by how many milliseconds the boot-time clock and the wall clock are moved.
    static CLOCKS: LazyLock<Option<String>> = LazyLock::new(|| environment("TEST_CLOCKS"));

    #[expect(clippy::disallowed_methods, reason = "not a setting of the service, but of its tests")]
    fn environment(name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    const fn bit(protection: Protection) -> u64 {
        1 << protection as u64
    }

    /// Whether a protection is in force.
    #[must_use]
    pub fn on(protection: Protection) -> bool {
        OFF.load(Ordering::SeqCst) & bit(protection) == 0
    }

    /// Takes a protection out of this process, or puts it back.
    pub fn set(protection: Protection, on: bool) {
        if on {
            OFF.fetch_and(!bit(protection), Ordering::SeqCst);
        } else {
            OFF.fetch_or(bit(protection), Ordering::SeqCst);
        }
    }

    pub(crate) fn moved(read: Duration, clock: Clock) -> Duration {
        let Some(text) = CLOCKS.as_ref().and_then(|path| std::fs::read_to_string(path).ok()) else { return read };
        let mut words = text.split_whitespace().map(|word| word.parse::<i64>().unwrap_or(0));
        let (boot, wall) = (words.next().unwrap_or(0), words.next().unwrap_or(0));
        let by = match clock {
            Clock::Boot => boot,
            Clock::Wall => wall,
        };
        let step = Duration::from_millis(by.unsigned_abs());
        if by < 0 { read.saturating_sub(step) } else { read + step }
    }
}
