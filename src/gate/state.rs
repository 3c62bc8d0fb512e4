//! The state of a key, as metrics and its holder see it. Checks do not read it: they ask for each thing by itself.

use crate::gate::{Key, Memory, SettingsNow, Subject};
use crate::types::clock::Timestamp;
use crate::types::environment::Environment;
use crate::types::key_state::{KeyState, is_due};

/// The state of a key now. One that is due and in an overlap is due: that is what somebody must act upon.
#[must_use]
pub fn key_state(memory: &Memory, settings: &SettingsNow, key: &Key, now: Timestamp) -> KeyState {
    if key.revoked || memory.revoked.whole(&Subject::Key(key.id)) {
        return KeyState::Revoked;
    }
    if key.disabled {
        return KeyState::Disabled;
    }
    let mut versions = key.secrets.versions().iter();
    let Some(newest) = versions.next().filter(|newest| now < newest.expires) else { return KeyState::Expired };
    let [prod, dev] = &settings.remind_days;
    let remind_days = if key.environment == Environment::Prod { prod } else { dev };
    if is_due(newest.created, newest.expires, remind_days, now) {
        return KeyState::Due;
    }
    if versions.any(|older| now < older.expires) { KeyState::Overlap } else { KeyState::Active }
}
