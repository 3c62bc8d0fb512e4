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
use crate::types::id::{KeyId, ServerId, UserId};

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
    /// An OAuth client: `client_id`.
    Client,
    /// A person: `sub`.
    User,
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
            let overlap = key.secrets.versions().iter().filter(|version| view.now < version.expires).count() > 1;
            if overlap { at(view, key, server) } else { What::Revoked }
        })),
        // What a person may still do where: who holds something of a person asks again.
        ("user" | "consent", _) => Some(of_people(view, entry)),
        ("grant" | "server", Err(_)) => {
            Some(Notice::of(entry, About::All, each(servers(&entry.servers), |_| What::Changed)))
        }
        _ => None,
    }
}

/// A change of what a person may do, or allowed.
fn of_people(view: View<'_>, entry: &Narrowing) -> Notice {
    let consent = entry.target.parse().ok().and_then(|id| view.memory.consents.get(&id));
    let user = consent.map(|consent| consent.user.to_string());
    // A consent that is gone no longer says whose it was.
    let known = user.or_else(|| entry.target.parse::<UserId>().ok().map(|id| id.to_string()));
    let kind = if known.is_some() { About::User } else { About::All };
    let notice = Notice::of(entry, kind, each(servers(&entry.servers), |_| What::Changed));
    let id = known.unwrap_or_else(|| notice.id.clone());
    Notice { id, ..notice }
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
    let Some(key) = view.memory.keys.get(&id) else {
        return Notice::of(entry, About::Key, each(named, |_| What::Revoked));
    };
    let concerned = if named.is_empty() { servers_of(view, key) } else { named };
    let agent_id = Some(key.agent.to_string());
    Notice { agent_id, ..Notice::of(entry, About::Key, each(concerned, |server| what(key, server))) }
}

fn revoked(view: View<'_>, entry: &Narrowing, row: &Named) -> Option<Notice> {
    let named = servers(&row.servers);
    let to_all = |what| Audience { named: Vec::new(), others: Some(what) };
    let (about, to) = match Kind::parse(&row.kind)? {
        // Introspection names no family: the person's tokens are asked about again.
        Kind::Token if row.user_id.is_some() => (About::User, each(named, |_| What::Changed)),
        Kind::Token => (About::Token, each(named, |_| What::Revoked)),
        Kind::Key => (About::Key, each(named, |_| What::Revoked)),
        Kind::KeySessions => {
            // What was issued from it is dead; the key itself may have been switched on again.
            let key = row.target.parse().ok().and_then(|id| view.memory.keys.get(&id));
            (About::Key, each(named, |server| key.map_or(What::Revoked, |key| at(view, key, server))))
        }
        Kind::Agent => (About::Agent, each(named, |_| What::Revoked)),
        Kind::Client => (About::Client, each(named, |_| What::Revoked)),
        Kind::User => (About::User, each(named, |_| What::Revoked)),
        // The person may have allowed other clients too, on the same server.
        Kind::Grant => (About::User, each(named, |_| What::Changed)),
        // Introspection does not say with whom a person signed in.
        Kind::Provider => (About::All, each(named, |_| What::Changed)),
        Kind::Server => (About::All, each(servers(std::slice::from_ref(&row.target)), |_| What::Revoked)),
        Kind::Project => {
            let own = view.memory.servers.iter().filter(|(_, server)| *server.project == *row.target);
            // Its agents may hold keys on any other server; which ones would take a walk over all keys to find out.
            (About::All, Audience { others: Some(What::Changed), ..each(own.map(|(id, _)| *id), |_| What::Revoked) })
        }
        // Introspection does not say which key signed a token.
        Kind::SigningKey => (About::All, to_all(What::Changed)),
        Kind::All => (About::All, to_all(What::Revoked)),
        Kind::Operator => return None,
    };
    let key_id = row.key_id.clone().filter(|_| about == About::Token);
    let agent_id = row.agent_id.clone().filter(|_| matches!(about, About::Token | About::Key));
    let notice = Notice::of(entry, about, to);
    let id = if about == About::All { notice.id.clone() } else { row.subject.clone() };
    Some(Notice { id, key_id, agent_id, issued_before: row.issued_before, ..notice })
}

fn servers(ids: &[String]) -> BTreeSet<ServerId> {
    ids.iter().filter_map(|id| id.parse().ok()).collect()
}

fn each(servers: impl IntoIterator<Item = ServerId>, what: impl Fn(ServerId) -> What) -> Audience {
    Audience { named: servers.into_iter().map(|server| (server, what(server))).collect(), others: None }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zeroize::Zeroizing;

    use super::*;
    use crate::gate::{Agent, Cutoff, Grant, Live, Role, SecretKeyId, Secrets, Server, Subject, Version};
    use crate::types::alg::Alg;
    use crate::types::clock::Timestamp;
    use crate::types::environment::Environment;
    use crate::types::id::{AgentId, RoleId};
    use crate::types::keyring::Keyring;
    use crate::types::permission::Permissions;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    struct Scene {
        live: Live,
        agent: AgentId,
        key: KeyId,
        /// The key's own grant is here.
        own: ServerId,
        /// Its role's grant is here.
        by_role: ServerId,
        /// It has nothing here.
        other: ServerId,
    }

    impl Scene {
        fn new() -> Self {
            let keyring = Keyring::new(&[Zeroizing::new([1; 32])]).unwrap();
            let scene = Self {
                live: Live::new("https://auth.example.com/oauth", Arc::new(keyring)),
                agent: AgentId::random(),
                key: KeyId::random(),
                own: ServerId::random(),
                by_role: ServerId::random(),
                other: ServerId::random(),
            };
            scene.live.change(|memory| {
                memory.agents.insert(scene.agent, Arc::new(Agent { project: "red".into(), disabled: false }));
                for (id, project) in [(scene.own, "red"), (scene.by_role, "red"), (scene.other, "blue")] {
                    memory.servers.insert(id, Arc::new(server(id, project)));
                }
            });
            scene.put_key(1, false);
            scene
        }

        /// The key with so many living versions of its secret.
        fn put_key(&self, versions: i32, disabled: bool) {
            let role = RoleId::random();
            let grant = |server| vec![Grant { server, permissions: Permissions::parse(&["tools/list"]).unwrap() }];
            let version = |number| Version {
                number,
                secret_key: SecretKeyId::of("01234567"),
                digest: [0; 32],
                created: Timestamp::from_seconds(1),
                expires: Timestamp::from_seconds(if number > 0 { 2_000 } else { 1_000 }),
            };
            let key = Key {
                id: self.key,
                agent: self.agent,
                environment: Environment::Prod,
                direct: false,
                disabled,
                revoked: false,
                allowed: None,
                grants: grant(self.own).into(),
                roles: [role].into(),
                secrets: (0..=versions).map(version).collect(),
            };
            self.live.change(|memory| {
                memory.roles.insert(role, Arc::new(Role { grants: grant(self.by_role) }));
                memory.keys.insert(self.key, Arc::new(key));
            });
        }

        /// What the three servers are told.
        fn told(&self, kind: &str, target: &str, servers: &[ServerId]) -> [Option<What>; 3] {
            let servers = servers.iter().map(ToString::to_string).collect();
            let entry = Narrowing { position: Position::default(), kind: kind.into(), target: target.into(), servers };
            self.tells(self.notice(&entry, None).as_ref())
        }

        fn told_of(&self, kind: Kind, target: &str, servers: &[ServerId]) -> [Option<What>; 3] {
            let row = Named {
                id: "rev_1".to_owned(),
                kind: kind.as_str().to_owned(),
                target: target.to_owned(),
                subject: target.to_owned(),
                issued_before: None,
                prune_at: None,
                history: 1,
                number: 1,
                servers: servers.iter().map(ToString::to_string).collect(),
                user_id: None,
                key_id: None,
                agent_id: None,
                marked: false,
            };
            let (kind, target) = ("revocation".to_owned(), "rev_1".to_owned());
            let entry = Narrowing { position: Position::default(), kind, target, servers: Vec::new() };
            self.tells(self.notice(&entry, Some(&row)).as_ref())
        }

        fn tells(&self, notice: Option<&Notice>) -> [Option<What>; 3] {
            [self.own, self.by_role, self.other].map(|server| notice.and_then(|notice| notice.tells(server)))
        }

        fn notice(&self, entry: &Narrowing, row: Option<&Named>) -> Option<Notice> {
            let memory = &self.live.memory();
            notice(View { live: &self.live, memory, now: NOW, position: Position::default() }, entry, row)
        }
    }

    fn server(id: ServerId, project: &str) -> Server {
        Server {
            id,
            project: project.into(),
            resource: "https://a.example.com".into(),
            environment: Environment::Prod,
            scopes: Vec::new(),
            alg: Alg::EdDsa,
            disabled: false,
            secrets: Secrets::default(),
            tools: Arc::default(),
        }
    }

    const REVOKED: Option<What> = Some(What::Revoked);
    const CHANGED: Option<What> = Some(What::Changed);

    #[test]
    fn a_key_s_change_is_told_where_it_has_grants_of_its_own_or_by_a_role() {
        let scene = Scene::new();
        let key = scene.key.to_string();
        assert_eq!(scene.told("key", &key, &[]), [CHANGED, CHANGED, None]);
        scene.put_key(1, true);
        assert_eq!(scene.told("key", &key, &[]), [REVOKED, REVOKED, None]);
        assert_eq!(scene.told("key", KeyId::random().as_str(), &[]), [None; 3], "a key that memory has dropped");
    }

    #[test]
    fn a_grant_that_is_gone_is_told_to_the_server_that_the_entry_names() {
        let scene = Scene::new();
        let key = scene.key.to_string();
        assert_eq!(scene.told("grant", &key, &[scene.other]), [None, None, REVOKED]);
        assert_eq!(scene.told("grant", &key, &[scene.own]), [CHANGED, None, None], "something is left");
        assert_eq!(scene.told("key", &key, &[scene.by_role, scene.other]), [None, CHANGED, REVOKED], "a role less");
        assert_eq!(scene.told("grant", RoleId::random().as_str(), &[scene.by_role]), [None, CHANGED, None]);
    }

    #[test]
    fn a_rotation_without_an_overlap_leaves_nothing_of_what_is_held() {
        let scene = Scene::new();
        let key = scene.key.to_string();
        assert_eq!(scene.told("secret", &key, &[]), [REVOKED, REVOKED, None]);
        scene.put_key(2, false);
        assert_eq!(scene.told("secret", &key, &[]), [CHANGED, CHANGED, None]);
        assert_eq!(scene.told("secret", scene.own.as_str(), &[]), [None; 3], "a server's own secret");
    }

    #[test]
    fn each_kind_of_revocation_reaches_those_it_concerns() {
        let scene = Scene::new();
        let (key, own) = (scene.key.to_string(), scene.own.to_string());
        for kind in [Kind::Token, Kind::Key, Kind::Agent] {
            assert_eq!(scene.told_of(kind, "x", &[scene.own]), [REVOKED, None, None], "{kind:?}");
        }
        assert_eq!(scene.told_of(Kind::KeySessions, &key, &[scene.own]), [CHANGED, None, None], "it is on again");
        let whole = Cutoff { whole: true, ..Cutoff::default() };
        scene.live.change(|memory| memory.revoked.add(Subject::Key(scene.key), whole, Timestamp::NEVER));
        assert_eq!(scene.told_of(Kind::KeySessions, &key, &[scene.own]), [REVOKED, None, None]);
        assert_eq!(scene.told_of(Kind::Server, &own, &[]), [REVOKED, None, None]);
        assert_eq!(scene.told_of(Kind::Project, "red", &[]), [REVOKED, REVOKED, CHANGED]);
        assert_eq!(scene.told_of(Kind::SigningKey, "kid", &[]), [CHANGED; 3]);
        assert_eq!(scene.told_of(Kind::All, "all", &[]), [REVOKED; 3]);
        assert_eq!(scene.told_of(Kind::Operator, "opr_000000000000", &[]), [None; 3]);
        let kinds = ["settings", "agent", "role", "operator", "signing_key", "start", "history"];
        assert!(kinds.iter().all(|kind| scene.told(kind, "x", &[scene.own]) == [None; 3]));
    }
}
