//! Session tokens whose signature was checked before, so that showing one again costs no signature check.
//!
//! What is remembered is what never changes: that we signed this text, and what it says. Whether it is still good is
//! decided anew each time it is shown ([`crate::gate::check_session`]): nothing here can outlive a revocation, a deadline
//! or a disablement, so an entry that is put in late does no harm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use foldhash::quality::RandomState;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use crate::gate::{Ancestor, Claims, Holder, Inactive, Position};
use crate::types::clock::Timestamp;
use crate::types::id::SessionId;

/// Bytes that remembered tokens may take; some thirty thousand tokens. What is shown least makes room.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What a typical token takes, to make the table for as many entries as there will be.
const BYTES_TYPICAL: u64 = 2 * 1024;
/// What an entry takes beside its texts: the claims' own size, the digest, the table's slot.
const BYTES_FIXED: usize = size_of::<Verified>() + 96;

/// A session token whose form, type, algorithm, signature and issuer are right.
#[derive(Debug)]
pub struct Verified {
    /// What it says.
    pub claims: Claims,
    /// The key that signed it.
    pub kid: Arc<str>,
    /// What its issuer had published before it authorised: its claim `pos`.
    pub position: Position,
    /// On whose rights it rests.
    pub holder: Holder,
    /// Its claim `anc`, without the holder.
    pub(super) ancestors: Vec<Ancestor>,
    shown: AtomicBool,
    /// When the oldest token that it comes from was issued: exchanging it again makes nothing younger.
    pub(super) issued: Timestamp,
}

impl Verified {
    /// # Errors
    ///
    /// It hangs on something that we do not understand, which is then dead.
    pub(super) fn new(claims: Claims, kid: Arc<str>) -> Result<Self, Inactive> {
        let position = claims.pos.parse().map_err(|_| Inactive::Malformed)?;
        let mut ancestors = claims.anc.iter().map(|ancestor| ancestor.parse()).collect::<Result<Vec<Ancestor>, _>>()?;
        let holder = Holder::of(&claims, &mut ancestors)?;
        let issued = ancestors.iter().fold(claims.iat, |oldest, ancestor| match ancestor {
            Ancestor::Token(_, issued) => oldest.min(*issued),
            _ => oldest,
        });
        let shown = AtomicBool::new(false);
        Ok(Self { claims, kid, position, holder, ancestors, shown, issued: Timestamp::from_seconds(issued) })
    }

    /// Its id, once, if it rests on what a person allowed: then it may have come with a refresh token, which is not
    /// answered a second time after this one was shown.
    #[must_use]
    pub fn first_shown(&self) -> Option<SessionId> {
        let of_person = matches!(self.holder, Holder::Consent(_));
        // Looked at before it is set: what all threads read is written once.
        let first = of_person && !self.shown.load(Ordering::Relaxed) && !self.shown.swap(true, Ordering::Relaxed);
        first.then_some(self.claims.jti)
    }

    fn bytes(&self) -> usize {
        let claims = &self.claims;
        let texts = [&claims.iss, &claims.sub, &claims.aud, &claims.client_id, &claims.scope, &claims.pos];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        let permissions: usize = claims.permissions.iter().map(|permission| permission.as_str().len() + 48).sum();
        let ancestors: usize = claims.anc.iter().map(|ancestor| 2 * ancestor.len() + 80).sum();
        let actors = claims.act.as_ref().map_or(0, |act| act.depth() * 96);
        BYTES_FIXED + texts + permissions + ancestors + actors
    }
}

/// What a token is found by: memory holds no token, only what one says.
type Digest = [u8; 32];

#[derive(Clone)]
struct Bytes;

impl Weighter<Digest, Arc<Verified>> for Bytes {
    fn weight(&self, _: &Digest, token: &Arc<Verified>) -> u64 {
        u64::try_from(token.bytes()).unwrap_or(u64::MAX)
    }
}

/// The tokens remembered, bounded in bytes.
pub struct VerifiedTokens(Cache<Digest, Arc<Verified>, Bytes, RandomState>);

impl Default for VerifiedTokens {
    fn default() -> Self {
        let typical = usize::try_from(BYTES_MAX / BYTES_TYPICAL).unwrap_or(usize::MAX);
        Self(Cache::with(typical, BYTES_MAX, Bytes, RandomState::default(), DefaultLifecycle::default()))
    }
}

impl VerifiedTokens {
    /// What the token says, if it was verified before; else what `verify` finds, remembered if it is right.
    pub(super) fn get_or_verify(
        &self,
        token: &str,
        verify: impl FnOnce() -> Result<Verified, Inactive>,
    ) -> Result<Arc<Verified>, Inactive> {
        let digest = digest(&SHA256, token.as_bytes());
        let Ok(digest) = Digest::try_from(digest.as_ref()) else { return verify().map(Arc::new) };
        if let Some(known) = self.0.get(&digest) {
            return Ok(known);
        }
        let verified = Arc::new(verify()?);
        self.0.insert(digest, Arc::clone(&verified));
        Ok(verified)
    }

    /// Bytes that the remembered tokens take, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.weight()
    }

    /// How many tokens are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::environment::Environment;
    use crate::types::id::{AgentId, KeyId, ServerId, SessionId};
    use crate::types::permission::Permissions;

    fn token(anc: Vec<String>) -> Claims {
        let (agent, key) = (AgentId::random(), KeyId::random());
        Claims {
            iss: "https://auth.example.com/oauth".to_owned(),
            sub: agent.to_string(),
            aud: "https://files.example.com/mcp".to_owned(),
            client_id: key.to_string(),
            jti: SessionId::random(),
            iat: 1_000,
            exp: 2_000,
            scope: "tools/list".to_owned(),
            permissions: Permissions::parse(["tools/list"]).unwrap(),
            agent_id: Some(agent),
            environment: Environment::Prod,
            key_id: Some(key),
            act: None,
            cnf: None,
            srv: ServerId::random(),
            kv: Some(1),
            anc,
            pos: "1.7".to_owned(),
        }
    }

    fn verified() -> Verified {
        Verified::new(token(Vec::new()), "kid".into()).unwrap()
    }

    #[test]
    fn a_token_is_verified_once_and_another_text_is_another_token() {
        let tokens = VerifiedTokens::default();
        let first = tokens.get_or_verify("a.b.c", || Ok(verified())).unwrap();
        let again = tokens.get_or_verify("a.b.c", || panic!("it is known")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(tokens.get_or_verify("a.b.d", || Err(Inactive::BadSignature)).unwrap_err(), Inactive::BadSignature);
    }

    #[test]
    fn what_is_not_right_is_not_remembered() {
        let tokens = VerifiedTokens::default();
        for _ in 0..3 {
            let mut asked = false;
            let _ = tokens.get_or_verify("a.b.c", || {
                asked = true;
                Err(Inactive::BadSignature)
            });
            assert!(asked && tokens.is_empty());
        }
    }

    #[test]
    fn the_memory_of_tokens_is_bounded_in_bytes() {
        let tokens = VerifiedTokens::default();
        let count = 3 * BYTES_MAX / u64::try_from(verified().bytes()).unwrap();
        for number in 0..count {
            tokens.get_or_verify(&number.to_string(), || Ok(verified())).unwrap();
        }
        assert!(tokens.bytes() <= BYTES_MAX, "{} bytes", tokens.bytes());
        assert!(tokens.len() > 1_000);
    }

    #[test]
    fn a_token_is_as_old_as_the_oldest_it_comes_from_and_what_is_not_understood_is_dead() {
        let parent = Ancestor::Token(SessionId::random(), 400).to_claim();
        let child = Verified::new(token(vec![parent, "kid:x".to_owned()]), "kid".into()).unwrap();
        assert_eq!(child.issued.seconds(), 400);
        assert_eq!(Verified::new(token(vec!["what".to_owned()]), "kid".into()).unwrap_err(), Inactive::Unknown);
        let elsewhere = Claims { pos: "nowhere".to_owned(), ..token(Vec::new()) };
        assert_eq!(Verified::new(elsewhere, "kid".into()).unwrap_err(), Inactive::Malformed);
    }
}
