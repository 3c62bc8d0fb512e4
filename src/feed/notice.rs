//! Entries of the feed into what servers that hold connections are told. Pure: memory and the rows that entries name.
//!
//! One entry makes at most one notice, so that its place in the feed is the notice's id. An entry is read with the state
//! that is known now, which may be later than the entry. That loses nothing: whatever has taken a key away from a server
//! since then is an entry of its own, and names the server.

use std::collections::BTreeSet;

use serde::Serialize;
use time::OffsetDateTime;

use crate::gate::{Key, Position, View, check_key, effective_permissions, servers_of};
use crate::revocations::{Kind, Named};
use crate::types::id::{KeyId, ServerId};

/// What a server has to do about what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It no longer works: close it.
    Revoked,
    /// It may do less, or some of it no longer works: ask again.
    Changed,
}

impl What {
    /// The event's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Changed => "changed",
        }
    }
}

/// What a notice is about, in the words of introspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// A session token: `jti`.
    Token,
    /// A key and what was issued from it: `key_id` and `client_id`.
    Key,
    /// An agent: `agent_id` and `sub`.
    Agent,
    /// Everything that the server holds.
    All,
}

/// An entry of the feed that takes something away.
#[derive(Clone, Debug)]
pub(super) struct Narrowing {
    pub(super) position: Position,
    pub(super) kind: String,
    pub(super) target: String,
    /// From which servers; empty: from those that it concerns now.
    pub(super) servers: Vec<String>,
}

/// What servers are told of one entry. Serialised, it is the event's data.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = RevocationEvent)]
pub struct Notice {
    /// Where the entry stands.
    #[serde(skip)]
    pub position: Position,
    /// What it is about.
    kind: About,
    /// Which one, as introspection called it; `all` for everything.
    id: String,
    /// The key of a token: what else hangs on that token has the same key, or names its agent in `act`.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    /// The agent of a token or a key: what was delegated to it names it in `act`.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<String>,
    /// Only what was issued up to then, and five seconds.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    issued_before: Option<OffsetDateTime>,
    #[serde(skip)]
    to: Audience,
}

/// Who is told what.
#[derive(Clone, Debug, Default)]
struct Audience {
    named: Vec<(ServerId, What)>,
    others: Option<What>,
}

impl Notice {
    /// What this server is told, if it is told at all: of what cannot touch its credentials it learns nothing.
    #[must_use]
    pub fn tells(&self, server: ServerId) -> Option<What> {
        let named = self.to.named.iter().find(|(named, _)| *named == server);
        named.map_or(self.to.others, |(_, what)| Some(*what))
    }

    fn of(entry: &Narrowing, kind: About, to: Audience) -> Self {
        let id = if kind == About::All { "all".to_owned() } else { entry.target.clone() };
        Self { position: entry.position, kind, id, key_id: None, agent_id: None, issued_before: None, to }
    }
}

/// What servers are told of an entry; `row`: the entry of the revocation list that it names, if it names one.
pub(super) fn notice(view: View<'_>, entry: &Narrowing, row: Option<&Named>) -> Option<Notice> {
    match (entry.kind.as_str(), entry.target.parse::<KeyId>()) {
        ("revocation", _) => revoked(view, entry, row?),
        ("key" | "grant", Ok(id)) => Some(of_key(view, entry, id, |key, server| at(view, key, server))),
        ("secret", Ok(id)) => Some(of_key(view, entry, id, |key, server| {
            // Without an overlap, whatever a server holds of the key is of a version that has ended.
            let overlap = key.secrets.0.iter().filter(|version| view.now < version.expires).count() > 1;
            if overlap { at(view, key, server) } else { What::Revoked }
        })),
        ("grant" | "server", Err(_)) => {
            Some(Notice::of(entry, About::All, each(servers(&entry.servers), |_| What::Changed)))
        }
        _ => None,
    }
}

/// What is left of a key at a server.
fn at(view: View<'_>, key: &Key, server: ServerId) -> What {
    let works = check_key(view, key).is_ok() && !effective_permissions(view, key, server).is_empty();
    if works { What::Changed } else { What::Revoked }
}

/// A change of a key itself: `what` is what is left of it at a server.
fn of_key(view: View<'_>, entry: &Narrowing, id: KeyId, what: impl Fn(&Key, ServerId) -> What) -> Notice {
    let named = servers(&entry.servers);
    // A key that memory has dropped was revoked and has ended since.
    let Some(key) = view.live.keys.get(&id) else {
        return Notice::of(entry, About::Key, each(named, |_| What::Revoked));
    };
    let concerned = if named.is_empty() { servers_of(view, &key) } else { named };
    let agent_id = Some(key.agent.to_string());
    Notice { agent_id, ..Notice::of(entry, About::Key, each(concerned, |server| what(&key, server))) }
}

fn revoked(view: View<'_>, entry: &Narrowing, row: &Named) -> Option<Notice> {
    let named = servers(&row.servers);
    let to_all = |what| Audience { named: Vec::new(), others: Some(what) };
    let (about, to) = match Kind::parse(&row.kind)? {
        Kind::Token => (About::Token, each(named, |_| What::Revoked)),
        Kind::Key => (About::Key, each(named, |_| What::Revoked)),
        Kind::KeySessions => {
            // What was issued from it is dead; the key itself may have been switched on again.
            let key = row.target.parse().ok().and_then(|id| view.live.keys.get(&id));
            (About::Key, each(named, |server| key.as_ref().map_or(What::Revoked, |key| at(view, key, server))))
        }
        Kind::Agent => (About::Agent, each(named, |_| What::Revoked)),
        Kind::Server => (About::All, each(servers(std::slice::from_ref(&row.target)), |_| What::Revoked)),
        Kind::Project => {
            let own = view.live.servers.entries().filter(|(_, server)| *server.project == *row.target);
            // Its agents may hold keys on any other server; which ones would take a walk over all keys to find out.
            (About::All, Audience { others: Some(What::Changed), ..each(own.map(|(id, _)| id), |_| What::Revoked) })
        }
        // Introspection does not say which key signed a token.
        Kind::SigningKey => (About::All, to_all(What::Changed)),
        Kind::All => (About::All, to_all(What::Revoked)),
        Kind::Operator => return None,
    };
    let key_id = row.key_id.clone().filter(|_| about == About::Token);
    let agent_id = row.agent_id.clone().filter(|_| matches!(about, About::Token | About::Key));
    let notice = Notice::of(entry, about, to);
    let id = if about == About::All { notice.id.clone() } else { row.target.clone() };
    Some(Notice { id, key_id, agent_id, issued_before: row.issued_before, ..notice })
}

fn servers(ids: &[String]) -> BTreeSet<ServerId> {
    ids.iter().filter_map(|id| id.parse().ok()).collect()
}

fn each(servers: impl IntoIterator<Item = ServerId>, what: impl Fn(ServerId) -> What) -> Audience {
    Audience { named: servers.into_iter().map(|server| (server, what(server))).collect(), others: None }
}
