//! A node's memory, and the one way to answer from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::gate::{Agent, Key, Operator, Position, Revoked, Role, Round, Server, Sharded, Stale, VerifiedTokens};
use crate::types::alg::Alg;
use crate::types::clock::Timestamp;
use crate::types::id::{AgentId, KeyId, OperatorId, RoleId, ServerId};
use crate::types::keyring::Keyring;
use crate::types::resource::Canonical;
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
#[derive(Clone, Copy, Debug)]
pub struct SettingsNow {
    /// The life of a session token.
    pub session_ttl: Duration,
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
    /// API keys.
    pub keys: Sharded<KeyId, Key>,
    /// Agents.
    pub agents: Sharded<AgentId, Agent>,
    /// Servers.
    pub servers: Sharded<ServerId, Server>,
    /// Servers by canonical resource.
    pub resources: Sharded<Canonical, ServerId>,
    /// Roles.
    pub roles: Sharded<RoleId, Role>,
    /// Operators.
    pub operators: Sharded<OperatorId, Operator>,
    /// The revocation list.
    pub revoked: Revoked,
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
    /// The memory.
    pub live: &'a Live,
    /// The database's clock.
    pub now: Timestamp,
    /// What the memory covers, read before the memory itself.
    pub position: Position,
}

impl Live {
    /// An empty memory that answers nothing.
    #[must_use]
    pub fn new(issuer: &str, keyring: Arc<Keyring>) -> Self {
        let settings = SettingsNow { session_ttl: Duration::from_mins(15), longest_lease: Duration::from_mins(1) };
        Self {
            round: ArcSwap::from_pointee(Round::NONE),
            told: AtomicI64::new(0),
            issuer: issuer.into(),
            keyring,
            keys: Sharded::new(),
            agents: Sharded::new(),
            servers: Sharded::new(),
            resources: Sharded::new(),
            roles: Sharded::new(),
            operators: Sharded::new(),
            revoked: Revoked::default(),
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
        let view = View { live: self, now: self.tell(round.now()), position: round.position };
        let held_before = !on(Protection::ClockLast) && round.holds();
        let answered = answer(view);
        if held_before || round.holds() { Ok(answered) } else { Err(Stale) }
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
