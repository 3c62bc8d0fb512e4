//! Everything a credential hangs on, being checked: each time one is shown, also one that was good a moment ago.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::gate::principals::check_key;
use crate::gate::things::check_address;
use crate::gate::{Client, Consent, Grant, Holder, Inactive, Key, Position, Server, Subject, SubjectKind, View};
use crate::types::clock::Timestamp;
use crate::types::id::{ClientId, ConsentId, KeyId, RoleId, ServerId, UserId};
use crate::types::permission::Permissions;

/// What a token, or what may become one, hangs on.
pub(super) struct Lineage<'a> {
    pub(super) view: View<'a>,
    pub(super) position: Position,
    pub(super) issued: Timestamp,
    pub(super) address: Option<IpAddr>,
}

impl<'a> Lineage<'a> {
    pub(super) fn not_revoked(&self, kind: SubjectKind, subject: impl FnOnce() -> Subject) -> Result<(), Inactive> {
        let revoked = &self.view.memory.revoked;
        let dead = revoked.any(kind) && revoked.kills(&subject(), self.position, self.issued);
        if dead { Err(Inactive::Revoked) } else { Ok(()) }
    }

    /// What every credential hangs on, and the server it is for.
    pub(super) fn server(&self, server: &Server) -> Result<(), Inactive> {
        self.not_revoked(SubjectKind::All, || Subject::All)?;
        self.not_revoked(SubjectKind::Server, || Subject::Server(server.id))?;
        self.project(&server.project)
    }

    fn project(&self, name: &Arc<str>) -> Result<(), Inactive> {
        self.not_revoked(SubjectKind::Project, || Subject::Project(Arc::clone(name)))
    }

    /// What a holder may do at a server now, and that everything it hangs on still stands.
    pub(super) fn holder(&self, holder: &Holder, server: &Server) -> Result<Cow<'a, Permissions>, Inactive> {
        match holder {
            Holder::Key { id, agent, version } => {
                let key = self.key(*id, *version)?;
                if key.agent != *agent {
                    return Err(Inactive::Unknown);
                }
                Ok(effective_permissions(self.view, key, server.id))
            }
            Holder::Consent(id) => self.consent(*id, server),
            Holder::Client(id) => Ok(own_permissions(self.view, &self.client(*id)?.grants, &[], server.id)),
        }
    }

    /// The key exists, works, its version lives, its agent works, and none of them was cut off after this token was issued.
    pub(super) fn key(&self, id: KeyId, version: i32) -> Result<&'a Key, Inactive> {
        let key = self.view.memory.keys.get(&id).ok_or(Inactive::Unknown)?;
        let agent = check_key(self.view, key)?;
        key.secrets.live(version, self.view.now).ok_or(Inactive::Superseded)?;
        self.not_revoked(SubjectKind::KeySessions, || Subject::KeySessions(id))?;
        self.not_revoked(SubjectKind::Agent, || Subject::Agent(key.agent))?;
        self.project(&agent.project)?;
        check_address(key.allowed.as_deref(), self.address)?;
        Ok(key)
    }

    /// What is left of what a person allowed: never more than the person has by now.
    pub(super) fn consent(&self, id: ConsentId, server: &Server) -> Result<Cow<'a, Permissions>, Inactive> {
        let consent: &'a Consent = self.view.memory.consents.get(&id).ok_or(Inactive::Unknown)?;
        if consent.server != server.id {
            return Err(Inactive::WrongServer);
        }
        self.not_revoked(SubjectKind::Consent, || Subject::Consent(id))?;
        self.client(consent.client)?;
        let roles = self.user(consent.user)?;
        let held = own_permissions(self.view, &[], roles, server.id);
        Ok(narrowed(Cow::Borrowed(&consent.permissions), &held))
    }

    /// The client works.
    fn client(&self, id: ClientId) -> Result<&'a Client, Inactive> {
        let client: &'a Client = self.view.memory.clients.get(&id).ok_or(Inactive::Unknown)?;
        if client.disabled {
            return Err(Inactive::ClientDisabled);
        }
        self.not_revoked(SubjectKind::Client, || Subject::Client(id))?;
        self.project(&client.project)?;
        Ok(client)
    }

    /// The person may be here. Its roles.
    fn user(&self, id: UserId) -> Result<&'a [RoleId], Inactive> {
        let user = self.view.memory.users.get(&id).ok_or(Inactive::Unknown)?;
        if user.disabled {
            return Err(Inactive::UserDisabled);
        }
        let provider = self.view.memory.providers.get(&user.provider).ok_or(Inactive::Unknown)?;
        if provider.disabled {
            return Err(Inactive::ProviderDisabled);
        }
        self.not_revoked(SubjectKind::User, || Subject::User(id))?;
        self.not_revoked(SubjectKind::Provider, || Subject::Provider(user.provider))?;
        Ok(&user.roles)
    }
}

/// What of `held` is in `granted` too. Most tokens have all that their holder has, and nothing is to be made.
pub(super) fn narrowed<'a>(held: Cow<'a, Permissions>, granted: &Permissions) -> Cow<'a, Permissions> {
    if *held == *granted { held } else { Cow::Owned(held.intersect(granted)) }
}

/// What a holder that is no token – a code, a refresh token, a client that authenticated – may do now at a server, for what
/// began at `position` and `issued`.
///
/// # Errors
///
/// Why it may do nothing.
pub fn check_holder<'a>(
    view: View<'a>,
    holder: &Holder,
    server: &Server,
    (position, issued): (Position, Timestamp),
) -> Result<Cow<'a, Permissions>, Inactive> {
    if server.disabled {
        return Err(Inactive::ServerDisabled);
    }
    if view.position.is_before(position) {
        return Err(Inactive::NotYet);
    }
    if position.history != view.position.history {
        return Err(Inactive::Revoked);
    }
    let lineage = Lineage { view, position, issued, address: None };
    lineage.server(server)?;
    let left = lineage.holder(holder, server)?;
    if left.is_empty() { Err(Inactive::NothingLeft) } else { Ok(left) }
}

/// What a key may do on a server now, by its own grants and its roles'.
#[must_use]
pub fn effective_permissions<'a>(view: View<'a>, key: &'a Key, server: ServerId) -> Cow<'a, Permissions> {
    own_permissions(view, &key.grants, &key.roles, server)
}

/// What grants and roles give on a server now.
#[must_use]
pub fn own_permissions<'a>(
    view: View<'a>,
    grants: &'a [Grant],
    roles: &[RoleId],
    server: ServerId,
) -> Cow<'a, Permissions> {
    let mut held: Option<Cow<'a, Permissions>> = None;
    let mut add = |grants: &'a [Grant]| {
        for grant in grants.iter().filter(|grant| grant.server == server) {
            // Most have one grant on a server, and nothing is to be put together.
            held = Some(match held.take() {
                None => Cow::Borrowed(&grant.permissions),
                Some(held) => Cow::Owned(held.union(&grant.permissions)),
            });
        }
    };
    add(grants);
    for role in roles.iter().filter_map(|role| view.memory.roles.get(role)) {
        add(&role.grants);
    }
    held.unwrap_or_default()
}

/// The servers on which a key may do anything now.
#[must_use]
pub(crate) fn servers_of(view: View<'_>, key: &Key) -> BTreeSet<ServerId> {
    let roles = key.roles.iter().filter_map(|role| view.memory.roles.get(role));
    let of_roles = roles.flat_map(|role| role.grants.iter().map(|grant| grant.server).collect::<Vec<_>>());
    key.grants.iter().map(|grant| grant.server).chain(of_roles).collect()
}
