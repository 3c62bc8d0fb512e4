//! What must be true of a key, said without the service: its secrets, their ends, and what each request may do.

use mcp_authority::types::clock::Timestamp;

use super::notices::Version;

pub const DAY: i64 = 86_400_000_000;
pub const SECOND: i64 = 1_000_000;
/// How long the secret before the newest may ask again.
const LOST_ANSWER: i64 = 600 * SECOND;
/// The policy's overlap. No whole days, so that no day begins at an end.
pub const OVERLAP: i64 = 2 * DAY + DAY / 2;

/// A secret of a key.
#[derive(Clone, Debug)]
pub struct Secret {
    pub version: i32,
    pub text: String,
    pub created: i64,
    /// When it ends by itself.
    pub own_end: i64,
    /// When it ends.
    pub end: i64,
    pub used: bool,
}

/// A key, its secrets oldest first. Those that are dead for good are kept for a while, to be asked about.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub days: i64,
    pub self_rotation: bool,
    pub disabled: bool,
    pub revoked: bool,
    pub secrets: Vec<Secret>,
    pub dead: Vec<String>,
    /// What is known of each version by those who are told of its end.
    pub versions: Vec<Version>,
    /// The greatest number that a version ever had.
    pub last: i32,
}

/// What a request for a rotation must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    Refused(&'static str),
}

impl Key {
    pub fn newest(&self) -> &Secret {
        self.secrets.last().expect("one at least")
    }

    /// The one before the newest, while it works.
    pub fn older(&self, now: i64) -> Option<&Secret> {
        let older = self.secrets.len().checked_sub(2).map(|at| &self.secrets[at]);
        older.filter(|older| now < older.end)
    }

    /// Whether a secret works.
    pub fn works(&self, text: &str, now: i64) -> bool {
        let live = self.secrets.iter().any(|secret| secret.text == text && now < secret.end);
        live && !self.disabled && !self.revoked
    }

    /// Whether an end is so near that nobody can say on which side of it a question falls.
    pub fn is_near_an_end(&self, now: i64) -> bool {
        self.secrets.iter().any(|secret| (secret.end - now).abs() < 120 * SECOND)
    }

    pub fn status(&self, now: i64) -> &'static str {
        let newest = self.newest();
        let due =
            [14, 7, 1].iter().any(|days| newest.created < newest.end - days * DAY && newest.end - days * DAY <= now);
        match () {
            () if self.revoked => "revoked",
            () if self.disabled => "disabled",
            () if newest.end <= now => "expired",
            () if due => "due",
            () if self.older(now).is_some() => "overlap",
            () => "active",
        }
    }

    /// What becomes of an operator's rotation.
    pub fn rotation(&self, now: i64, grace: i64) -> Fate {
        let overlap = self.older(now).is_some() && now < self.newest().end;
        match () {
            () if self.revoked => Fate::Refused("key_revoked"),
            () if grace > 0 && overlap && self.newest().used => Fate::Refused("overlap_running"),
            () => Fate::Done,
        }
    }

    /// What becomes of a rotation by a secret of the key, which works.
    pub fn own_rotation(&self, now: i64, version: i32) -> Fate {
        let newest = self.newest();
        let lost = !newest.used && now - newest.created < LOST_ANSWER;
        match () {
            () if newest.version != version && !lost => Fate::Refused("not_newest"),
            () if !self.self_rotation => Fate::Refused("self_rotation_off"),
            () => self.rotation(now, OVERLAP),
        }
    }

    /// A rotation was done.
    pub fn rotated(&mut self, now: i64, grace: i64, made: Secret) {
        assert_eq!(made.version, self.last + 1, "{}: a number is given once", self.id);
        let replaced = grace > 0 && self.older(now).is_some() && now < self.newest().end;
        let before = self.newest().version;
        if replaced {
            let gone = self.secrets.pop().expect("the newest");
            self.dead.push(gone.text);
            self.follow(Some(gone.version));
        } else if grace == 0 {
            self.secrets.iter_mut().for_each(|secret| secret.end = secret.end.min(now));
        } else if let Some(newest) = self.secrets.last_mut() {
            newest.end = newest.end.min(now + grace);
        }
        self.follow(None);
        self.forget_versions(before, now);
        self.last = made.version;
        self.secrets.push(made);
        self.forget();
        self.follow(None);
    }

    /// A rotation was taken back.
    pub fn cancelled(&mut self) {
        let gone = self.secrets.pop().expect("the newest");
        self.dead.push(gone.text.clone());
        if let Some(newest) = self.secrets.last_mut() {
            newest.end = newest.own_end;
        }
        self.follow(Some(gone.version));
        self.told_nothing();
        self.forget();
    }

    /// The overlap was ended.
    pub fn finished(&mut self, now: i64) {
        let older = self.secrets.len() - 2;
        self.secrets[older].end = now;
        self.follow(None);
    }

    fn forget(&mut self) {
        while self.secrets.len() > 2 {
            self.dead.push(self.secrets.remove(0).text);
        }
        while self.dead.len() > 4 {
            self.dead.remove(0);
        }
    }

    /// Every secret that is known, and whether it must work.
    pub fn expected(&self, now: Timestamp) -> Vec<(String, bool)> {
        let texts = self.secrets.iter().map(|secret| &secret.text).chain(&self.dead);
        texts.map(|text| (text.clone(), self.works(text, now.micros()))).collect()
    }
}
