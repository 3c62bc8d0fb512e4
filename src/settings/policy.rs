//! How keys live: a policy for each environment.

use crate::refusal::Checks;
use crate::types::patch::Patch;

/// A maximum age above this needs a recorded reason.
const AGE_DAYS_WITHOUT_REASON: i32 = 90;
/// The longest age that may be allowed, in days.
const AGE_DAYS_MAX: i32 = 3_650;
/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 500;
/// Reminders of one end.
const REMINDERS_MAX: usize = 8;
/// The shortest overlap that may be the usual one. In it an agent whose answer was lost asks again with its old secret.
const OVERLAP_SECONDS_MIN: i64 = 600;
/// The longest overlap.
const OVERLAP_SECONDS_MAX: i64 = 90 * 86_400;

/// How keys of an environment live.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct KeyPolicy {
    /// Days that a version of a key's secret lives at most.
    pub max_age_days: i32,
    /// So many days before its end a key is due, and its owner is reminded; the longest first.
    pub remind_days: Vec<i32>,
    /// How long the old secret lives on after a rotation, unless said.
    pub overlap_seconds: i64,
    /// Why a maximum above 90 days was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The policies of both environments.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct KeyPolicies {
    /// Production.
    pub prod: KeyPolicy,
    /// Development.
    pub dev: KeyPolicy,
}

/// A change of a policy (RFC 7396).
#[derive(Clone, Debug, Default)]
pub struct PolicyChange {
    /// New longest life.
    pub max_age_days: Option<i32>,
    /// New reminders.
    pub remind_days: Option<Vec<i32>>,
    /// New usual overlap.
    pub overlap_seconds: Option<i64>,
    /// New reason.
    pub reason: Patch<String>,
}

impl PolicyChange {
    /// The policy after this change. Its reminders are sorted.
    pub(super) fn over(self, before: &KeyPolicy) -> KeyPolicy {
        let mut remind_days = self.remind_days.unwrap_or_else(|| before.remind_days.clone());
        remind_days.sort_unstable_by_key(|days| std::cmp::Reverse(*days));
        remind_days.dedup();
        KeyPolicy {
            max_age_days: self.max_age_days.unwrap_or(before.max_age_days),
            remind_days,
            overlap_seconds: self.overlap_seconds.unwrap_or(before.overlap_seconds),
            reason: self.reason.over(before.reason.clone()),
        }
    }
}

impl KeyPolicy {
    /// Says what is out of bounds; `at` is where the policy stands in the body.
    pub(super) fn check(&self, checks: &mut Checks, at: &str) {
        checks.expect(
            (1..=AGE_DAYS_MAX).contains(&self.max_age_days),
            &format!("{at}/max_age_days"),
            "range",
            &format!("1 to {AGE_DAYS_MAX}"),
        );
        let right = |days: &i32| (1..=AGE_DAYS_MAX).contains(days);
        checks.expect(
            self.remind_days.len() <= REMINDERS_MAX && self.remind_days.iter().all(right),
            &format!("{at}/remind_days"),
            "range",
            &format!("at most {REMINDERS_MAX}, each 1 to {AGE_DAYS_MAX}"),
        );
        checks.expect(
            (OVERLAP_SECONDS_MIN..=OVERLAP_SECONDS_MAX).contains(&self.overlap_seconds),
            &format!("{at}/overlap_seconds"),
            "range",
            &format!("{OVERLAP_SECONDS_MIN} to {OVERLAP_SECONDS_MAX}"),
        );
        let reason = self.reason.as_deref();
        let explained = reason.is_some_and(|reason| !reason.trim().is_empty());
        checks.expect(
            self.max_age_days <= AGE_DAYS_WITHOUT_REASON || explained,
            &format!("{at}/reason"),
            "required",
            "a maximum above 90 days needs a reason",
        );
        checks.expect(
            reason.is_none_or(|reason| reason.len() <= REASON_BYTES_MAX),
            &format!("{at}/reason"),
            "length",
            &format!("at most {REASON_BYTES_MAX} bytes"),
        );
    }
}
