//! The lease: how long a node may answer from what it has read.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::types::clock::{BootInstant, Timestamp, wall_clock};
use crate::types::switches::{Protection, on};

/// A place in the change feed. Numbers of different histories do not compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Position {
    /// Counts promotions and restores of the database.
    pub history: i64,
    /// Gapless within the database, in the order of commits.
    pub number: i64,
}

impl Position {
    /// Whether a node here has applied `other`.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.history == other.history && self.number >= other.number
    }

    /// Whether `other` may become true here later: a later history, or a greater number of this one.
    #[must_use]
    pub const fn is_before(self, other: Self) -> bool {
        other.history > self.history || (other.history == self.history && other.number > self.number)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}.{}", self.history, self.number)
    }
}

impl FromStr for Position {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (history, number) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self { history: history.parse()?, number: number.parse()? })
    }
}

/// A node has no current lease: it cannot prove that its memory is current, so it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node cannot prove that it is current")]
pub struct Stale;

/// What one successful round of the follower established.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Just before the round's first statement was sent.
    pub sent: BootInstant,
    /// The wall clock then; only to notice that somebody set it.
    pub wall: Duration,
    /// The database's clock as the round read it, that is at or after `sent`.
    pub database: Timestamp,
    /// How long answers may be given after `sent`.
    pub lease: Duration,
    /// What has been applied and published.
    pub position: Position,
}

impl Round {
    /// Before the first round, and after the follower lost its footing: nothing is answered.
    pub const NONE: Self = Self {
        sent: BootInstant::START,
        wall: Duration::ZERO,
        database: Timestamp::from_micros(0),
        lease: Duration::ZERO,
        position: Position { history: 0, number: 0 },
    };

    /// The instant at which answers must stop.
    #[must_use]
    pub fn ends(&self) -> BootInstant {
        self.sent.plus(self.lease)
    }

    /// Whether an answer may still be given: both clocks are read anew.
    ///
    /// A wall clock that moved by more than a quarter of the lease against the boot-time clock means that one of them
    /// cannot be trusted; the next round finds out.
    #[must_use]
    pub fn holds(&self) -> bool {
        let now = BootInstant::now();
        let elapsed = now.since(self.sent);
        let stepped = wall_clock().abs_diff(self.wall.saturating_add(elapsed));
        let held = now < self.ends() && (stepped <= self.lease / 4 || !on(Protection::WallStep));
        held || (!on(Protection::Lease) && self.position != Position::default())
    }

    /// The database's clock now, as far as boot-time has moved it on.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.database.plus(BootInstant::now().since(self.sent))
    }

    /// How much of the lease is left.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.ends().since(BootInstant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(lease: Duration) -> Round {
        Round { sent: BootInstant::now(), wall: wall_clock(), lease, ..Round::NONE }
    }

    #[test]
    fn guarantee_5_no_answer_is_given_without_a_running_lease() {
        assert!(!Round::NONE.holds());
        assert!(!round(Duration::ZERO).holds());
        assert!(round(Duration::from_hours(1)).holds());
    }

    #[test]
    fn guarantee_5_a_wall_clock_that_steps_ends_the_lease() {
        let hour = Duration::from_hours(1);
        for step in [Duration::from_mins(16), Duration::from_hours(30)] {
            assert!(!Round { wall: wall_clock() + step, ..round(hour) }.holds(), "set back");
            assert!(!Round { wall: wall_clock().saturating_sub(step), ..round(hour) }.holds(), "set forward");
        }
        assert!(Round { wall: wall_clock() + Duration::from_mins(14), ..round(hour) }.holds());
    }

    #[test]
    fn positions_of_another_history_cover_nothing() {
        let at = |history, number| Position { history, number };
        assert!(at(1, 5).covers(at(1, 5)) && !at(1, 4).covers(at(1, 5)));
        assert!(!at(2, 9).covers(at(1, 5)) && !at(1, 9).covers(at(2, 5)));
        assert!(at(1, 9).is_before(at(2, 1)) && !at(2, 1).is_before(at(1, 9)));
        assert_eq!("3.17".parse(), Ok(at(3, 17)));
        assert!("3".parse::<Position>().is_err() && "3.x".parse::<Position>().is_err());
    }
}
