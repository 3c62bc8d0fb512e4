//! A node's memory, and the one way to answer from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use crate::gate::{Memory, Position, Round, Stale, VerifiedTokens};
use crate::types::alg::Alg;
use crate::types::clock::Timestamp;
use crate::types::keyring::Keyring;
use crate::types::switches::{Protection, on};

/// The public half of a key that signs session tokens.
pub struct SessionVerifier {
    /// Its id in token headers.
    pub kid: Arc<str>,
    /// The only algorithm it is used with.
    pub alg: Alg,
    /// What checks signatures.
    pub key: jsonwebtoken::DecodingKey,
    /// As published (RFC 7517).
    pub jwk: serde_json::Value,
}

/// The settings that are equal on all nodes.
#[derive(Clone, Debug)]
pub struct SettingsNow {
    /// The life of a session token.
    pub session_ttl: Duration,
    /// Applications may register themselves.
    pub dynamic_registration: bool,
    /// Proofs of possession must hold a nonce of ours.
    pub dpop_nonce_required: bool,
    /// So many days before its end a key is due: of production, of development.
    pub remind_days: [Arc<[i32]>; 2],
    /// The longest lease that any node may still be under.
    pub longest_lease: Duration,
}

/// Everything this node knows. One task writes (`feed/`), all requests read.
pub struct Live {
    round: ArcSwap<Round>,
    // The database's clock as last told to anybody, so that it never goes backwards.
    told: AtomicI64,
    /// The issuer of our tokens.
    pub issuer: Arc<str>,
    /// The secret keys.
    pub keyring: Arc<Keyring>,
    memory: ArcSwap<Memory>,
    /// Keys whose signatures count.
    pub verifiers: ArcSwap<Vec<SessionVerifier>>,
    /// Session tokens whose signature was checked before.
    pub verified: VerifiedTokens,
    /// Settings.
    pub settings: ArcSwap<SettingsNow>,
}

/// The memory as one request may use it. Nothing of it outlives the request.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The node.
    pub live: &'a Live,
    /// Its memory, as it was at one instant.
    pub memory: &'a Memory,
    /// The database's clock.
    pub now: Timestamp,
    /// What the memory covers, read before the memory itself.
    pub position: Position,
}

impl Live {
    /// An empty memory that answers nothing.
    #[must_use]
    pub fn new(issuer: &str, keyring: Arc<Keyring>) -> Self {
        let settings = SettingsNow {
            session_ttl: Duration::from_mins(15),
            dynamic_registration: false,
            dpop_nonce_required: true,
            remind_days: [[].into(), [].into()],
            longest_lease: Duration::from_mins(1),
        };
        Self {
            round: ArcSwap::from_pointee(Round::NONE),
            told: AtomicI64::new(0),
            issuer: issuer.into(),
            keyring,
            memory: ArcSwap::default(),
            verifiers: ArcSwap::default(),
            verified: VerifiedTokens::default(),
            settings: ArcSwap::from_pointee(settings),
        }
    }

    /// Answers from memory. The order is what makes it right: the lease's end is loaded first, the memory after it, and
    /// the clock is read last and compared with that end.
    ///
    /// # Errors
    ///
    /// [`Stale`] when the lease is over or was over before the answer was ready; the answer is then dropped.
    pub fn answer<T>(&self, answer: impl FnOnce(View<'_>) -> T) -> Result<T, Stale> {
        let round = self.round();
        let memory = self.memory();
        let view = View { live: self, memory: &memory, now: self.tell(round.now()), position: round.position };
        let held_before = !on(Protection::ClockLast) && round.holds();
        let answered = answer(view);
        if held_before || round.holds() { Ok(answered) } else { Err(Stale) }
    }

    /// The memory as it is now, for reading what needs no lease. Answers go through [`Live::answer`].
    #[must_use]
    pub fn memory(&self) -> Guard<Arc<Memory>> {
        self.memory.load()
    }

    /// Changes the memory: who reads sees all of the change or nothing of it. For the one task that applies the feed: of two
    /// changes at the same time one would be lost.
    pub fn change<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = Memory::clone(&self.memory());
        let changed = change(&mut memory);
        self.memory.store(Arc::new(memory));
        changed
    }

    /// The last round. For the lease itself, readiness and metrics; answers go through [`Live::answer`].
    #[must_use]
    pub fn round(&self) -> Round {
        **self.round.load()
    }

    /// The database's clock, as near as this node knows it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.tell(self.round().now())
    }

    /// Publishes a round, after everything it read has been put in place.
    pub fn publish(&self, round: Round) {
        self.round.store(Arc::new(round));
    }

    /// Ends the lease at once: nothing is answered until the next round.
    pub fn stop_answering(&self) {
        let stopped = Round { lease: Duration::ZERO, ..self.round() };
        self.publish(stopped);
    }

    fn tell(&self, now: Timestamp) -> Timestamp {
        let before = self.told.fetch_max(now.micros(), Ordering::Relaxed);
        Timestamp::from_micros(now.micros().max(before))
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::gate::Role;
    use crate::types::clock::{BootInstant, wall_clock};
    use crate::types::id::RoleId;

    fn live() -> Live {
        let live =
            Live::new("https://auth.example.com/oauth", Arc::new(Keyring::new(&[Zeroizing::new([1; 32])]).unwrap()));
        let lease = Duration::from_hours(1);
        live.publish(Round { sent: BootInstant::now(), wall: wall_clock(), lease, ..Round::NONE });
        live
    }

    fn put(live: &Live, roles: &[RoleId]) {
        live.change(|memory| {
            for role in roles {
                memory.roles.insert(*role, Arc::new(Role { grants: Vec::new() }));
            }
        });
    }

    #[test]
    fn guarantee_4_one_answer_sees_one_state_also_when_the_memory_changes_under_it() {
        let (live, one, other) = (live(), RoleId::random(), RoleId::random());
        let seen = live.answer(|view| {
            let first = view.memory.roles.get(&one).is_some();
            put(&live, &[one, other]);
            (first, view.memory.roles.get(&other).is_some())
        });
        assert_eq!(seen.unwrap(), (false, false), "as it was when the answer began");
        let seen = live.answer(|view| (view.memory.roles.get(&one).is_some(), view.memory.roles.get(&other).is_some()));
        assert_eq!(seen.unwrap(), (true, true));
    }

    #[test]
    fn guarantee_4_nobody_sees_half_of_a_change() {
        let (live, roles) = (live(), [RoleId::random(), RoleId::random()]);
        live.change(|memory| {
            for role in roles {
                memory.roles.insert(role, Arc::new(Role { grants: Vec::new() }));
                assert_eq!(live.memory().roles.len(), 0, "nothing shows before all is there");
            }
        });
        assert_eq!(live.memory().roles.len(), 2);
    }
}
