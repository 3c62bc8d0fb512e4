//! Token introspection (RFC 7662): what a credential is worth to the one who asks.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use crate::gate::session::{check_session, verify_session};
use crate::gate::{
    Holder, Inactive, Key, Position, Server, Verified, Version, View, authenticate_key, effective_permissions,
};
use crate::types::credential::{Kind, Presented};
use crate::types::id::KeyId;
use crate::types::permission::Permissions;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Asker<'a> {
    /// A server, about what it was shown.
    Server(&'a Server),
    /// The holder of a key, about that key and its tokens.
    Holder(KeyId),
    /// An OAuth client, by its `client_id`, about its own tokens.
    Client(&'a str),
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The credential.
    pub token: &'a str,
    /// Who asks.
    pub asker: Asker<'a>,
    /// From where the credential came, if the asker knows.
    pub address: Option<IpAddr>,
}

/// An active credential.
#[derive(Debug)]
pub enum Active<'a> {
    /// An API key.
    Key {
        /// The key.
        key: &'a Key,
        /// The version of its secret that was presented.
        version: &'a Version,
        /// What it may do on the asking server; of all servers together when its holder asks.
        permissions: Cow<'a, Permissions>,
    },
    /// A session token.
    Session {
        /// What it says.
        token: Arc<Verified>,
        /// What is left of its permissions now.
        permissions: Cow<'a, Permissions>,
        /// The server it is for.
        server: &'a Server,
        /// What the person is called whom it stands for.
        username: Option<&'a str>,
    },
}

/// The answer.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// It is good.
    Active(Active<'a>),
    /// It is not, and whose it is as far as that was proved.
    Inactive(Inactive, Option<KeyId>),
    /// It is ours, and names a state that this node has not reached: apply the feed and ask again.
    Ahead(Position),
}

/// What the credential is worth. A denial is a value; nothing here fails.
#[must_use]
pub fn introspect<'a>(view: View<'a>, question: Question<'a>) -> Verdict<'a> {
    let answer = match Presented::parse(question.token) {
        Some(presented) => key(view, question, &presented),
        None => session(view, question),
    };
    match answer {
        Ok(active) => Verdict::Active(active),
        Err(Refusal::Inactive(cause, key)) => Verdict::Inactive(cause, key),
        Err(Refusal::Ahead(position)) => Verdict::Ahead(position),
    }
}

enum Refusal {
    Inactive(Inactive, Option<KeyId>),
    Ahead(Position),
}

impl From<(Inactive, Option<KeyId>)> for Refusal {
    fn from((cause, key): (Inactive, Option<KeyId>)) -> Self {
        Self::Inactive(cause, key)
    }
}

fn key<'a>(view: View<'a>, question: Question<'a>, presented: &Presented<'_>) -> Result<Active<'a>, Refusal> {
    if !matches!(presented.kind(), Kind::Key(_)) {
        return Err((Inactive::WrongType, None).into());
    }
    let caller = authenticate_key(view, presented, question.address)?;
    let id = caller.key.id;
    let refused = |cause| Refusal::Inactive(cause, Some(id));
    let permissions = match question.asker {
        Asker::Holder(holder) if holder != id => return Err(refused(Inactive::WrongServer)),
        Asker::Holder(_) => Cow::Owned(everything(view, caller.key)),
        Asker::Client(_) => return Err(refused(Inactive::WrongServer)),
        Asker::Server(server) => {
            if caller.key.environment != server.environment {
                return Err(refused(Inactive::WrongEnvironment));
            }
            let held = effective_permissions(view, caller.key, server.id);
            if held.is_empty() {
                return Err(refused(Inactive::WrongServer));
            }
            if !caller.key.direct {
                return Err(refused(Inactive::ExchangeRequired));
            }
            held
        }
    };
    Ok(Active::Key { key: caller.key, version: caller.version, permissions })
}

fn session<'a>(view: View<'a>, question: Question<'a>) -> Result<Active<'a>, Refusal> {
    let token = verify_session(view, question.token).map_err(|cause| (cause, None))?;
    let claims = &token.claims;
    let key = token.holder.key();
    let own = || view.memory.servers.get(&claims.srv).ok_or((Inactive::Unknown, key));
    let server = match question.asker {
        Asker::Server(server) => server,
        Asker::Holder(holder) if key == Some(holder) => own()?,
        // An exchanged token keeps the key that it comes from, and a key's id is no client's.
        Asker::Client(client) if key.is_none() && *claims.client_id == *client => own()?,
        Asker::Holder(_) | Asker::Client(_) => return Err((Inactive::WrongServer, key).into()),
    };
    match check_session(view, &token, server, question.address) {
        Ok(permissions) => {
            let username = username(view, &token.holder);
            Ok(Active::Session { permissions, token, server, username })
        }
        Err(Inactive::NotYet) => Err(Refusal::Ahead(token.position)),
        Err(cause) => Err((cause, key).into()),
    }
}

fn username<'a>(view: View<'a>, holder: &Holder) -> Option<&'a str> {
    let Holder::Consent(id) = holder else { return None };
    view.memory.users.get(&view.memory.consents.get(id)?.user)?.username.as_deref()
}

fn everything(view: View<'_>, key: &Key) -> Permissions {
    let roles: Vec<_> = key.roles.iter().filter_map(|role| view.memory.roles.get(role)).collect();
    let grants = key.grants.iter().chain(roles.iter().flat_map(|role| &role.grants));
    grants.fold(Permissions::default(), |all, grant| all.union(&grant.permissions))
}
