//! What is to be told of one version of a key's secret now, and when to look again.

use time::{Duration, OffsetDateTime};

use crate::keys::notices::store::Due;
use crate::webhooks::EventType;

const DAY: i64 = 86_400;
/// Nobody is reminded of a key that is switched off; whether it still is, is looked at this often.
const OFF_LOOK_EVERY: Duration = Duration::days(1);

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The newest secret ends within the longest reminder: it is to be rotated.
    Due,
    /// It ends soon and was not rotated; or an old secret ends soon and is still used.
    Reminder,
    /// An old secret has ended.
    Retired,
    /// The newest secret has ended, and the key with it.
    Expired,
}

impl Notice {
    /// The event that tells it.
    #[must_use]
    pub const fn event(self) -> EventType {
        match self {
            Self::Due => EventType::KeyDue,
            Self::Reminder => EventType::KeyReminder,
            Self::Retired => EventType::KeyRetired,
            Self::Expired => EventType::KeyExpired,
        }
    }

    /// Its name in the audit and in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.event().as_str()
    }
}

/// What is done about a version now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) notice: Option<Notice>,
    /// The nearest distance told of, in seconds before the end.
    pub(super) told: Option<i64>,
    /// When to look again; `None`: never, unless the version gets another end.
    pub(super) next: Option<OffsetDateTime>,
}

pub(super) fn of(row: &Due, remind_days: &[i32]) -> Step {
    if row.revoked {
        return Step { notice: None, told: row.told_seconds, next: None };
    }
    let left = (row.expires_at - row.now).whole_seconds();
    if row.expires_at <= row.now {
        let notice = if row.is_old() { Notice::Retired } else { Notice::Expired };
        return Step { notice: (row.told_seconds != Some(0)).then_some(notice), told: Some(0), next: None };
    }
    let distances = distances(row, remind_days);
    // The nearest to the end is the last; those before it that were missed are not told any more.
    let reached = distances.iter().copied().filter(|distance| left <= *distance).min();
    let ahead = distances.iter().copied().filter(|distance| left > *distance).max().unwrap_or(0);
    let next = row.expires_at - Duration::seconds(ahead);
    if row.off {
        return Step { notice: None, told: row.told_seconds, next: Some(next.min(row.now + OFF_LOOK_EVERY)) };
    }
    let new = reached.filter(|distance| row.told_seconds.is_none_or(|told| *distance < told));
    let notice = match (new, row.is_old()) {
        (None, _) => None,
        (Some(_), false) if row.told_seconds.is_none() => Some(Notice::Due),
        (Some(_), false) => Some(Notice::Reminder),
        // What nobody uses any more may end in silence.
        (Some(_), true) => row.last_used_at.is_some_and(|used| used > row.newest_at).then_some(Notice::Reminder),
    };
    Step { notice, told: new.or(row.told_seconds), next: Some(next) }
}

/// How many seconds before its end something is told of a version: only what it lives to see, from when it was made, or from when
/// it was replaced. An overlap too short for any reminder has one when half of it is over.
fn distances(row: &Due, remind_days: &[i32]) -> Vec<i64> {
    let since = if row.is_old() { row.newest_at } else { row.created_at };
    let span = (row.expires_at - since).whole_seconds();
    let days = remind_days.iter().map(|days| i64::from(*days) * DAY);
    let mut distances: Vec<i64> = days.filter(|distance| *distance > 0 && *distance < span).collect();
    if distances.is_empty() && row.is_old() && span > 1 {
        distances.push(span / 2);
    }
    distances
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const MADE: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);
    const REMIND: [i32; 3] = [14, 7, 1];

    fn newest(days: i64) -> Due {
        Due {
            key_id: "key_000000000000".to_owned(),
            version: 1,
            told_seconds: None,
            created_at: MADE,
            expires_at: MADE + Duration::days(days),
            environment: "prod".to_owned(),
            agent_id: "agt_1".to_owned(),
            project: "default".to_owned(),
            off: false,
            revoked: false,
            newest: 1,
            newest_at: MADE,
            last_used_at: None,
            now: MADE,
        }
    }

    /// Replaced by version 2 on the tenth day, with an overlap of so many seconds.
    fn old(overlap: i64) -> Due {
        let at = MADE + Duration::days(10);
        Due { newest: 2, newest_at: at, now: at, expires_at: at + Duration::seconds(overlap), ..newest(90) }
    }

    /// Looks whenever it was asked to, and says what was told how long before the end.
    fn story(mut row: Due, used: impl Fn(OffsetDateTime) -> Option<OffsetDateTime>) -> Vec<(Notice, Duration)> {
        let mut told = Vec::new();
        loop {
            row.last_used_at = used(row.now);
            let step = of(&row, &REMIND);
            told.extend(step.notice.map(|notice| (notice, row.expires_at - row.now)));
            row.told_seconds = step.told;
            let Some(next) = step.next else { return told };
            assert!(next > row.now, "time goes on");
            row.now = next;
        }
    }

    #[test]
    fn a_key_is_due_then_reminded_of_then_expired_each_once() {
        let told = story(newest(90), |_| None);
        let days = Duration::days;
        let (due, again) = ((Notice::Due, days(14)), Notice::Reminder);
        assert_eq!(told, [due, (again, days(7)), (again, days(1)), (Notice::Expired, days(0))]);
    }

    #[test]
    fn a_short_life_has_only_the_reminders_it_lives_to_see() {
        assert_eq!(story(newest(7), |_| None), [(Notice::Due, Duration::days(1)), (Notice::Expired, Duration::ZERO)]);
        assert_eq!(story(newest(1), |_| None), [(Notice::Expired, Duration::ZERO)]);
    }

    #[test]
    fn what_was_missed_is_told_once_and_not_twice() {
        let late = Due { now: MADE + Duration::days(84), ..newest(90) };
        let told = story(late, |_| None);
        assert_eq!(told.len(), 3, "the reminder of fourteen days is not told beside that of seven: {told:?}");
        let much_later = Due { now: MADE + Duration::days(400), ..newest(90) };
        assert_eq!(story(much_later, |_| None).len(), 1);
    }

    #[test]
    fn an_old_secret_is_reminded_of_only_while_it_is_used() {
        let day = 86_400;
        assert_eq!(story(old(day), |_| None), [(Notice::Retired, Duration::ZERO)]);
        assert_eq!(story(old(day), |_| Some(MADE)), [(Notice::Retired, Duration::ZERO)], "used before, not since");
        let half = (Notice::Reminder, Duration::hours(12));
        assert_eq!(
            story(old(day), Some),
            [half, (Notice::Retired, Duration::ZERO)][1..],
            "not used after the rotation itself"
        );
        let used = |now: OffsetDateTime| Some(now + Duration::seconds(1));
        assert_eq!(story(old(day), used), [half, (Notice::Retired, Duration::ZERO)]);
        assert_eq!(story(old(30 * day), used).len(), 4, "a long overlap has all reminders");
        assert_eq!(story(old(0), used), [(Notice::Retired, Duration::ZERO)]);
    }

    #[test]
    fn nobody_is_reminded_of_what_is_switched_off_until_it_is_on_again() {
        let off = Due { off: true, now: MADE + Duration::days(80), ..newest(90) };
        let step = of(&off, &REMIND);
        assert_eq!((step.notice, step.told, step.next), (None, None, Some(off.now + Duration::days(1))));
        assert_eq!(of(&Due { off: false, ..off }, &REMIND).notice, Some(Notice::Due));
    }
}
