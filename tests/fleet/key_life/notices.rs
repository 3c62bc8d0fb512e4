//! What must be told of a key while its secrets come to their end, said without the service: each notice once, late if no job ran
//! when it was due, and of several that were missed the one nearest to the end.

use std::collections::BTreeMap;

use super::model::{DAY, Key, SECOND};

/// What is told, as the audit names it.
pub type Told = BTreeMap<(String, i32), &'static str>;

/// A version of a secret, for as long as the service remembers it.
#[derive(Clone, Debug)]
pub struct Version {
    pub number: i32,
    created: i64,
    end: i64,
    /// The nearest distance to its end that something was told at.
    told: Option<i64>,
    /// It was used after the next one was made.
    pub used_when_old: bool,
    /// A process was shown it after the next one was made, and may have written that, or been killed before.
    pub shown_when_old: bool,
}

impl Key {
    /// Follows the secrets: new ones have come, some have another end, and those that were taken back are gone.
    pub fn follow(&mut self, gone: Option<i32>) {
        self.versions.retain(|version| Some(version.number) != gone);
        for secret in &self.secrets {
            if let Some(version) = self.versions.iter_mut().find(|version| version.number == secret.version) {
                version.end = secret.end;
                continue;
            }
            for older in &mut self.versions {
                (older.used_when_old, older.shown_when_old) = (false, false);
            }
            self.versions.push(Version {
                number: secret.version,
                created: secret.created,
                end: secret.end,
                told: None,
                used_when_old: false,
                shown_when_old: false,
            });
        }
    }

    /// With a rotation the service forgets what ended before the last two.
    pub fn forget_versions(&mut self, newest: i32, now: i64) {
        self.versions.retain(|version| version.number >= newest - 1 || version.end > now);
    }

    /// After a rotation was taken back the reminders begin anew.
    pub fn told_nothing(&mut self) {
        for version in self.versions.iter_mut().filter(|version| version.told.is_some_and(|told| told > 0)) {
            version.told = None;
        }
    }

    /// What a job that looks now has to tell, and what it then remembers.
    fn due(&self, at: usize, now: i64) -> (Option<&'static str>, Option<i64>) {
        let version = &self.versions[at];
        // Nothing is told of what is further away than the first reminder.
        if version.end - now > 14 * DAY {
            return (None, version.told);
        }
        let next = self.versions.iter().filter(|other| other.number > version.number).max_by_key(|other| other.number);
        if self.revoked {
            return (None, version.told);
        }
        if version.end <= now {
            let notice = if next.is_some() { "key.retired" } else { "key.expired" };
            return ((version.told != Some(0)).then_some(notice), Some(0));
        }
        if self.disabled {
            return (None, version.told);
        }
        let span = version.end - next.map_or(version.created, |next| next.created);
        let mut distances: Vec<i64> =
            [14, 7, 1].map(|days| days * DAY).into_iter().filter(|days| *days < span).collect();
        if distances.is_empty() && next.is_some() && span > SECOND {
            distances.push(span / 2);
        }
        let reached = distances.into_iter().filter(|distance| version.end - now <= *distance).min();
        let Some(reached) = reached.filter(|reached| version.told.is_none_or(|told| *reached < told)) else {
            return (None, version.told);
        };
        let notice = match (next.is_some(), version.told) {
            (false, None) => Some("key.due"),
            (false, Some(_)) => Some("key.reminder"),
            (true, _) => version.used_when_old.then_some("key.reminder"),
        };
        (notice, Some(reached))
    }

    /// Everything that is to be told now.
    pub fn owed(&self, now: i64) -> Told {
        let owed = (0..self.versions.len()).filter_map(|at| {
            let notice = self.due(at, now).0?;
            Some(((self.id.clone(), self.versions[at].number), notice))
        });
        owed.collect()
    }

    /// All its secrets are shown to a process.
    pub fn shown(&mut self, now: i64) {
        let old = self.older(now).map(|old| old.version);
        self.versions
            .iter_mut()
            .filter(|version| Some(version.number) == old)
            .for_each(|old| old.shown_when_old = true);
    }

    /// Whether it may be told that a version is still used although nobody has to know.
    pub fn may_be_used(&self, number: i32) -> bool {
        self.versions.iter().any(|version| version.number == number && version.shown_when_old)
    }

    /// A job looked at all its versions, or at this one.
    pub fn looked_at(&mut self, now: i64, only: Option<i32>) {
        for at in 0..self.versions.len() {
            if only.is_none_or(|only| only == self.versions[at].number) {
                self.versions[at].told = self.due(at, now).1;
            }
        }
    }
}
