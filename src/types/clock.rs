//! Time: points on the database's clock, and the boot-time clock that leases are measured with.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use time::OffsetDateTime;

use crate::types::switches::{Clock, moved};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// A point in time on the database's clock, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// After everything.
    pub const NEVER: Self = Self(i64::MAX);

    /// From microseconds since 1970.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds since 1970.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down: a `NumericDate` (RFC 7519 §2).
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// This long later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The same point as a calendar date and time in UTC.
    #[must_use]
    pub fn to_utc(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(at: OffsetDateTime) -> Self {
        let micros = at.unix_timestamp_nanos().div_euclid(1_000);
        Self(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// A reading of the clock that also counts while the machine sleeps. Only differences mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// Before every reading; a lease that ends here is over.
    pub const START: Self = Self(Duration::ZERO);

    /// Reads the clock anew. `Instant` has no place in leases: on Linux it stops while the machine is suspended.
    #[must_use]
    pub fn now() -> Self {
        // On macOS CLOCK_MONOTONIC goes on while the machine sleeps, and there is no BOOTTIME.
        #[cfg(target_os = "linux")]
        let id = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = ClockId::Monotonic;
        Self(moved(duration(clock_gettime(id)), Clock::Boot))
    }

    /// This long later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// How long after `earlier`; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Reads the wall clock, only to notice when somebody sets it.
#[must_use]
pub fn wall_clock() -> Duration {
    moved(duration(clock_gettime(ClockId::Realtime)), Clock::Wall)
}

fn duration(read: Timespec) -> Duration {
    Duration::new(u64::try_from(read.tv_sec).unwrap_or(0), u32::try_from(read.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_the_same_point_on_the_calendar() {
        let at = time::macros::datetime!(2026-11-23 04:50:33.123456 UTC);
        assert_eq!(Timestamp::from(at).to_utc(), at);
        assert_eq!(Timestamp::from(at).seconds(), at.unix_timestamp());
        assert_eq!(Timestamp::from_micros(-1).seconds(), -1);
    }
}
