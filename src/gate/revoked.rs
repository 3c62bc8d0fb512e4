//! The revocation list in memory: what is dead for good, and cut-offs, of which the latest always wins.

use std::sync::Arc;
use std::time::Duration;

use crate::gate::{Map, Position};
use crate::types::clock::Timestamp;
use crate::types::id::{AgentId, ClientId, ConsentId, KeyId, OperatorId, ProviderId, ServerId, SessionId, UserId};

/// Tokens issued up to this long after an `issued_before` die with it: clocks that stamped `iat` may have been ahead.
const ISSUED_BEFORE_MARGIN: Duration = Duration::from_secs(5);

/// The kinds of [`Subject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the subjects say it")]
pub enum SubjectKind {
    Token,
    Key,
    KeySessions,
    Agent,
    Server,
    Client,
    User,
    Consent,
    Provider,
    Project,
    SigningKey,
    Operator,
    All,
}

/// How many kinds there are.
const KINDS: usize = SubjectKind::All as usize + 1;

/// What an entry of the list is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One session token.
    Token(SessionId),
    /// An API key and everything issued from it.
    Key(KeyId),
    /// What was issued from a key so far.
    KeySessions(KeyId),
    /// What was issued to an agent so far.
    Agent(AgentId),
    /// What was issued for a server so far.
    Server(ServerId),
    /// What was issued to a client so far.
    Client(ClientId),
    /// What was issued for a person so far.
    User(UserId),
    /// What was issued on a person's word to a client so far.
    Consent(ConsentId),
    /// What was issued for those who signed in with a provider so far.
    Provider(ProviderId),
    /// What was issued in a project so far: to its agents and clients, or for its servers.
    Project(Arc<str>),
    /// Everything a signing key ever signed.
    SigningKey(Arc<str>),
    /// An operator's key.
    Operator(OperatorId),
    /// Everything issued so far.
    All,
}

impl Subject {
    /// Of which kind it is.
    #[must_use]
    pub const fn kind(&self) -> SubjectKind {
        match self {
            Self::Token(_) => SubjectKind::Token,
            Self::Key(_) => SubjectKind::Key,
            Self::KeySessions(_) => SubjectKind::KeySessions,
            Self::Agent(_) => SubjectKind::Agent,
            Self::Server(_) => SubjectKind::Server,
            Self::Client(_) => SubjectKind::Client,
            Self::User(_) => SubjectKind::User,
            Self::Consent(_) => SubjectKind::Consent,
            Self::Provider(_) => SubjectKind::Provider,
            Self::Project(_) => SubjectKind::Project,
            Self::SigningKey(_) => SubjectKind::SigningKey,
            Self::Operator(_) => SubjectKind::Operator,
            Self::All => SubjectKind::All,
        }
    }
}

/// What is dead of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cutoff {
    /// The subject itself, for good.
    pub whole: bool,
    /// What names a smaller feed number of this history.
    pub before: Position,
    /// What was issued at or before this time, and a margin.
    pub issued_before: Option<Timestamp>,
}

impl Cutoff {
    /// Whether something issued then, by a node at `position`, is dead.
    #[must_use]
    pub fn kills(&self, position: Position, issued: Timestamp) -> bool {
        self.whole
            || (position.history == self.before.history && position.number < self.before.number)
            || position.history < self.before.history
            || self.issued_before.is_some_and(|at| issued <= at.plus(ISSUED_BEFORE_MARGIN))
    }

    /// Both together: the latest wins, whatever order they are read in.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let before = if self.before.is_before(other.before) { other.before } else { self.before };
        Self { whole: self.whole || other.whole, before, issued_before: self.issued_before.max(other.issued_before) }
    }
}

/// How much longer than needed an entry is remembered, as it is in the database: clocks may differ.
const FORGET_MARGIN: Duration = Duration::from_mins(10);
/// Entries that are forgotten at once, so that what the feed brings never waits long.
const FORGET_MAX: usize = 10_000;

/// What is known of a subject.
#[derive(Clone, Copy, Debug)]
struct Entry {
    cutoff: Cutoff,
    // When everything it kills has expired.
    until: Timestamp,
}

/// The list.
#[derive(Clone, Default)]
pub struct Revoked {
    entries: Map<Subject, Entry>,
    // How many there are of each kind: most kinds have none, and nothing is to be looked for.
    counts: [usize; KINDS],
}

impl Revoked {
    /// Adds an entry; it never takes one away. What it kills has expired by `until`.
    pub fn add(&mut self, subject: Subject, cutoff: Cutoff, until: Timestamp) {
        let entry = match self.entries.get(&subject) {
            Some(known) => Entry { cutoff: known.cutoff.and(cutoff), until: known.until.max(until) },
            None => Entry { cutoff, until },
        };
        let (kind, before) = (subject.kind(), self.entries.len());
        self.entries.insert(subject, entry);
        self.counted(kind, before);
    }

    /// Whether there is an entry of this kind.
    #[must_use]
    pub fn any(&self, kind: SubjectKind) -> bool {
        self.counts.get(kind as usize).is_none_or(|count| *count > 0)
    }

    /// Counts an entry that came or went, if one did.
    fn counted(&mut self, kind: SubjectKind, before: usize) {
        if let Some(count) = self.counts.get_mut(kind as usize) {
            *count = (*count + self.entries.len()).saturating_sub(before);
        }
    }

    /// All entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (&Subject, Cutoff)> {
        self.entries.iter().map(|(subject, entry)| (subject, entry.cutoff))
    }

    /// Whether the subject itself is revoked for good.
    #[must_use]
    pub fn whole(&self, subject: &Subject) -> bool {
        self.any(subject.kind()) && self.entries.get(subject).is_some_and(|entry| entry.cutoff.whole)
    }

    /// Whether what was issued from the subject, then and there, is dead.
    #[must_use]
    pub fn kills(&self, subject: &Subject, position: Position, issued: Timestamp) -> bool {
        self.entries.get(subject).is_some_and(|entry| entry.cutoff.kills(position, issued))
    }

    /// Entries, at most ten thousand, that kill only what has expired long enough ago, by `now`, the database's clock. A
    /// key's entry stays until its row says by itself that it is revoked (`row_says_so`): a rotation that was under way
    /// may have given it a secret that lives longer than the entry knows.
    #[must_use]
    pub fn spent(&self, now: Timestamp, row_says_so: impl Fn(&KeyId) -> bool) -> Vec<Subject> {
        let over = |entry: &Entry| entry.until.plus(FORGET_MARGIN) < now;
        let dead_without = |subject: &Subject| match subject {
            Subject::Key(id) => row_says_so(id),
            _ => true,
        };
        let spent = self.entries.iter().filter(|(subject, entry)| over(entry) && dead_without(subject));
        spent.map(|(subject, _)| subject.clone()).take(FORGET_MAX).collect()
    }

    /// Forgets an entry that is [`Self::spent`].
    pub fn forget(&mut self, spent: &Subject) {
        let before = self.entries.len();
        self.entries.remove(spent);
        self.counted(spent.kind(), before);
    }

    /// Gives back memory that growing took ahead: after a load.
    pub fn shrink(&mut self) {
        self.entries.shrink();
    }

    /// How many subjects are on it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cutoff() -> impl Strategy<Value = Cutoff> {
        (any::<bool>(), 0_i64..3, 0_i64..50, proptest::option::of(0_i64..50)).prop_map(
            |(whole, history, number, seconds)| Cutoff {
                whole,
                before: Position { history, number },
                issued_before: seconds.map(Timestamp::from_seconds),
            },
        )
    }

    proptest! {
        #[test]
        fn attack_6_the_latest_cut_off_wins_in_any_order(a in cutoff(), b in cutoff(), history in 0_i64..3, number in 0_i64..50, at in 0_i64..60) {
            let position = Position { history, number };
            let issued = Timestamp::from_seconds(at);
            let either = a.kills(position, issued) || b.kills(position, issued);
            prop_assert_eq!(a.and(b).kills(position, issued), either);
            prop_assert_eq!(b.and(a).kills(position, issued), either);
        }
    }

    proptest! {
        #[test]
        fn a_kind_is_looked_for_exactly_while_it_has_an_entry(steps in proptest::collection::vec((0_usize..6, any::<bool>()), 0..40)) {
            let [key, other] = [KeyId::random(), KeyId::random()];
            let agent = AgentId::random();
            let subjects = [
                Subject::Key(key), Subject::Key(other), Subject::KeySessions(key), Subject::Agent(agent),
                Subject::Project("p".into()), Subject::All,
            ];
            let mut list = Revoked::default();
            for (which, add) in steps {
                if add {
                    list.add(subjects[which].clone(), Cutoff { whole: true, ..Cutoff::default() }, Timestamp::NEVER);
                } else {
                    list.forget(&subjects[which]);
                }
                for subject in &subjects {
                    let there = list.entries().any(|(known, _)| known.kind() == subject.kind());
                    prop_assert_eq!(list.any(subject.kind()), there);
                    prop_assert_eq!(list.whole(subject), list.entries().any(|(known, _)| known == subject));
                }
            }
            prop_assert!(!list.any(SubjectKind::Token) && !list.any(SubjectKind::Operator));
        }
    }

    #[test]
    fn guarantee_13_a_cut_off_kills_smaller_numbers_and_what_was_issued_before() {
        let cutoff = Cutoff { before: Position { history: 2, number: 10 }, ..Cutoff::default() };
        let issued = Timestamp::from_seconds(100);
        for (history, number, dead) in [(2, 9, true), (2, 10, false), (2, 11, false), (1, 99, true), (3, 1, false)] {
            assert_eq!(cutoff.kills(Position { history, number }, issued), dead, "{history}.{number}");
        }
        let timed = Cutoff { issued_before: Some(issued), ..Cutoff::default() };
        for (seconds, dead) in [(99, true), (105, true), (106, false)] {
            assert_eq!(
                timed.kills(Position { history: 9, number: 9 }, Timestamp::from_seconds(seconds)),
                dead,
                "{seconds}"
            );
        }
    }

    #[test]
    fn guarantee_14_what_is_forgotten_had_expired_ten_minutes_ago_and_a_key_is_dead_without_its_entry() {
        let (at, minute) = (Timestamp::from_seconds(1_000), 60);
        let whole = Cutoff { whole: true, ..Cutoff::default() };
        let (key, token, kept) = (KeyId::random(), SessionId::random(), OperatorId::random());
        let mut list = Revoked::default();
        list.add(Subject::Key(key), whole, at);
        list.add(Subject::Token(token), whole, at);
        list.add(Subject::Operator(kept), whole, Timestamp::NEVER);
        let spent = |list: &Revoked, minutes: i64, flagged: bool| {
            let mut spent = list.spent(Timestamp::from_seconds(1_000 + minutes * minute), |_| flagged);
            spent.sort_by_key(|subject| matches!(subject, Subject::Key(_)));
            spent
        };
        assert_eq!(spent(&list, 10, true), []);
        assert_eq!(spent(&list, 11, false), [Subject::Token(token)]);
        assert_eq!(spent(&list, 11, true), [Subject::Token(token), Subject::Key(key)]);
        list.add(Subject::Token(token), whole, Timestamp::from_seconds(1_000 + 60 * minute));
        assert_eq!(
            spent(&list, 11, true),
            [Subject::Key(key)],
            "two entries of one subject last as long as the longer"
        );
        list.add(Subject::Token(token), whole, Timestamp::NEVER);
        assert_eq!(spent(&list, 1_000, true), [Subject::Key(key)], "one of them for ever");
        list.forget(&Subject::Key(key));
        assert!(!list.whole(&Subject::Key(key)) && list.whole(&Subject::Token(token)) && list.len() == 2);
    }
}
