//! The state of a key, and when one is due.

use crate::types::clock::Timestamp;

const DAY_MICROS: i64 = 86_400_000_000;

/// The state of a key. Only `revoked` is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = KeyStatus)]
pub enum KeyState {
    /// It works.
    Active,
    /// It works, and must be rotated soon: the first reminder's day has come.
    Due,
    /// It works, and the secret before it too.
    Overlap,
    /// Its time is over.
    Expired,
    /// Switched off.
    Disabled,
    /// For good.
    Revoked,
}

impl KeyState {
    /// Every state.
    pub const ALL: [Self; 6] = [Self::Active, Self::Due, Self::Overlap, Self::Expired, Self::Disabled, Self::Revoked];

    /// Its name on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Due => "due",
            Self::Overlap => "overlap",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
        }
    }
}

/// Whether a secret made at `created` that ends at `expires` is due: the day of a reminder has come. A reminder from before the
/// secret was made is none, so that what lives for a week is not due from its first day. The lists say the same in SQL.
#[must_use]
pub fn is_due(created: Timestamp, expires: Timestamp, remind_days: &[i32], now: Timestamp) -> bool {
    remind_days.iter().any(|days| {
        let at = expires.micros().saturating_sub(i64::from(*days).saturating_mul(DAY_MICROS));
        created.micros() < at && at <= now.micros()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_due_from_the_first_reminder_that_it_lived_to_see() {
        let day = |days: i64| Timestamp::from_micros(days * DAY_MICROS);
        let due = |life: i64, at: i64| is_due(day(100), day(100 + life), &[14, 7, 1], day(100 + at));
        assert!(!due(90, 0) && !due(90, 75) && due(90, 76) && due(90, 89));
        assert!(!due(14, 0) && !due(14, 6) && due(14, 7), "no reminder at its birth");
        assert!(!due(1, 0) && !due(1, 1), "nor one for what lives a day");
        assert!(!is_due(day(0), day(90), &[], day(89)));
    }
}
