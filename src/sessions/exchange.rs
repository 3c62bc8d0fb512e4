//! Token exchange (RFC 8693): a smaller token from a key or a token, for the same server, with who acts for whom.

use std::borrow::Cow;
use std::sync::Arc;

use crate::gate::{
    Actor, Ancestor, Holder, Inactive, KeyCaller, Server, Verified, View, authenticate_key, check_session,
    effective_permissions, verify_session,
};
use crate::sessions::authorise::{Draft, Parts, Refusal, Wish, draft, named, narrow, target};
use crate::sessions::bearer::Bearer;
use crate::types::clock::Timestamp;
use crate::types::credential::Presented;
use crate::types::permission::Permissions;

/// How many actors a token may name, one within the other.
pub const ACTORS_MAX: usize = 3;
/// What a token may hang on beside its own key: some ten exchanges, one after another. Past that it is not made smaller
/// any more.
pub const ANCESTORS_MAX: usize = 32;

/// An exchange that is asked for.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// Whose rights: an API key or a session token.
    pub subject_token: &'a str,
    /// Who acts, by its own API key or session token.
    pub actor_token: Option<&'a str>,
    /// The client, when the request was authenticated.
    pub client: Option<&'a KeyCaller>,
    /// Target, scope and address.
    pub wish: &'a Wish,
}

/// The smaller token. Without an actor it is just smaller: a child process can narrow its own token.
///
/// # Errors
///
/// See [`Refusal`]; a subject or actor token that is not good for any reason is `invalid_request` (RFC 8693 §2.2.2).
pub fn exchange(view: View<'_>, asked: &Exchange<'_>) -> Result<Draft, Refusal> {
    let subject = Subject::of(view, asked)?;
    let actor = actor(view, asked, &subject)?;
    let mut held = subject.held;
    let mut ends = subject.ends;
    let mut ancestors = subject.ancestors;
    let mut act = subject.act;
    if let Some(actor) = actor {
        held = held.intersect(&actor.held);
        ends = ends.min(actor.ends);
        ancestors.extend(actor.ancestors);
        act = Some(Actor { sub: actor.agent, act: act.map(Box::new) });
        if act.as_ref().map_or(0, Actor::depth) > ACTORS_MAX {
            return Err(Refusal::InvalidRequest(format!("a token names at most {ACTORS_MAX} actors")));
        }
    }
    if held.is_empty() {
        return Err(Refusal::InvalidScope(
            "the actor and the subject hold nothing in common on this server".to_owned(),
        ));
    }
    let granted = narrow(&held, asked.wish.scope.as_deref(), &subject.server)?;
    ancestors.sort_unstable();
    ancestors.dedup();
    if ancestors.len() > ANCESTORS_MAX {
        return Err(Refusal::InvalidRequest("the token was exchanged too often, one from another".to_owned()));
    }
    let parts =
        Parts { bearer: &subject.bearer, server: &subject.server, granted, ends, act, ancestors, wish: asked.wish };
    draft(view, parts)
}

/// Whose rights are passed on.
struct Subject {
    bearer: Bearer,
    server: Arc<Server>,
    held: Permissions,
    ends: Timestamp,
    act: Option<Actor>,
    ancestors: Vec<String>,
}

impl Subject {
    fn of(view: View<'_>, asked: &Exchange<'_>) -> Result<Self, Refusal> {
        match Presented::parse(asked.subject_token) {
            Some(presented) => Self::key(view, &presented, asked.wish),
            None => Self::session(view, asked),
        }
    }

    fn key(view: View<'_>, presented: &Presented<'_>, wish: &Wish) -> Result<Self, Refusal> {
        let caller = authenticate_key(view, presented, wish.address).map_err(|_| not_good("subject_token"))?;
        let caller = KeyCaller::from(caller);
        let server = target(view, &caller.key, &wish.resources)?;
        let held = effective_permissions(view, &caller.key, server.id).into_owned();
        if held.is_empty() || server.environment != caller.key.environment || server.disabled {
            return Err(Refusal::InvalidTarget);
        }
        let ends = caller.version.expires;
        Ok(Self { bearer: Bearer::Key(caller), server, held, ends, act: None, ancestors: Vec::new() })
    }

    fn session(view: View<'_>, asked: &Exchange<'_>) -> Result<Self, Refusal> {
        let good = good_session(view, asked.subject_token, asked.wish, "subject_token")?;
        let Good { token, server, held, ancestors } = good;
        let claims = &token.claims;
        let bearer = Bearer::of(view, &token.holder).ok_or_else(|| not_good("subject_token"))?;
        // The audience stays: the resource may only repeat it.
        if !asked.wish.resources.is_empty() && named(view, &asked.wish.resources)?.id != server.id {
            return Err(Refusal::InvalidTarget);
        }
        Ok(Self { bearer, server, held, ends: Timestamp::from_seconds(claims.exp), act: claims.act.clone(), ancestors })
    }
}

/// Who acts, and what that costs.
struct Acting {
    agent: String,
    held: Permissions,
    ends: Timestamp,
    ancestors: Vec<String>,
}

/// The actor is whoever proved to be: the holder of the actor token, else the authenticated client; never a parameter.
fn actor(view: View<'_>, asked: &Exchange<'_>, subject: &Subject) -> Result<Option<Acting>, Refusal> {
    let acting = match asked.actor_token {
        Some(token) => match Presented::parse(token) {
            Some(presented) => {
                let caller =
                    authenticate_key(view, &presented, asked.wish.address).map_err(|_| not_good("actor_token"))?;
                Acting::by_key(view, &caller.into(), &subject.server)
            }
            None => Acting::by_session(view, token, asked.wish, subject)?,
        },
        None => match asked.client {
            Some(client) if Some(client.key.agent) != subject.bearer.agent() => {
                Acting::by_key(view, client, &subject.server)
            }
            // The same agent's key, or nobody: nothing but a smaller token.
            _ => return Ok(None),
        },
    };
    Ok(Some(acting))
}

impl Acting {
    fn by_key(view: View<'_>, caller: &KeyCaller, server: &Server) -> Self {
        let right = caller.key.environment == server.environment;
        let held = if right { effective_permissions(view, &caller.key, server.id) } else { Cow::default() };
        Self {
            agent: caller.key.agent.to_string(),
            held: held.into_owned(),
            ends: caller.version.expires,
            ancestors: vec![Ancestor::Key(caller.key.id, caller.version.number).to_claim()],
        }
    }

    fn by_session(view: View<'_>, token: &str, wish: &Wish, subject: &Subject) -> Result<Self, Refusal> {
        let Good { token, server, held, mut ancestors } = good_session(view, token, wish, "actor_token")?;
        let claims = &token.claims;
        // Only agents act for others.
        let Holder::Key { id, version, .. } = token.holder else { return Err(not_good("actor_token")) };
        if server.id != subject.server.id {
            return Err(Refusal::InvalidTarget);
        }
        ancestors.push(Ancestor::Key(id, version).to_claim());
        Ok(Self { agent: claims.sub.clone(), held, ends: Timestamp::from_seconds(claims.exp), ancestors })
    }
}

/// A session token that is good now at the server it names.
struct Good {
    token: Arc<Verified>,
    server: Arc<Server>,
    held: Permissions,
    /// What hangs on it hangs on these: the token, what signed it, and its own ancestors.
    ancestors: Vec<String>,
}

/// One that is bound to a key is shown by whoever proves to have that key, and what is made of it is bound to the same: `wish` has
/// only one. So nothing is unbound on the way.
fn good_session(view: View<'_>, token: &str, wish: &Wish, which: &str) -> Result<Good, Refusal> {
    let token = verify_session(view, token).map_err(|_| not_good(which))?;
    let claims = &token.claims;
    let server = Arc::clone(view.memory.servers.get(&claims.srv).ok_or_else(|| not_good(which))?);
    if claims.cnf.is_some_and(|cnf| wish.key != Some(cnf.jkt)) {
        return Err(Refusal::InvalidRequest(format!("{which} is bound to a key: a DPoP proof of that key is needed")));
    }
    match check_session(view, &token, &server, wish.address) {
        Ok(held) => {
            let mut ancestors = claims.anc.clone();
            ancestors.push(Ancestor::Token(claims.jti, claims.iat).to_claim());
            ancestors.push(Ancestor::SigningKey(Arc::clone(&token.kid)).to_claim());
            Ok(Good { token, server, held: held.into_owned(), ancestors })
        }
        Err(Inactive::NotYet) => Err(Refusal::Ahead(token.position)),
        Err(_) => Err(not_good(which)),
    }
}

fn not_good(which: &str) -> Refusal {
    Refusal::InvalidRequest(format!("{which} is not valid"))
}
