//! A set of permissions: sorted, without members that another member covers.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de;

use super::GRANT_PERMISSIONS_MAX;
use super::call::Needed;
use super::grammar::InvalidPermission;
use super::grammar::Permission;

/// What somebody may do on one server.
///
/// The members are sorted by their wire form and minimal: none covers another. Two sets that allow
/// the same are therefore equal. Cloning is cheap.
///
/// [`Permissions::parse`] and deserialising take at most [`GRANT_PERMISSIONS_MAX`] members, as a
/// grant does. Sets made from sets (`union`, `collect`) have no such bound: a key with several roles
/// may hold more than one grant does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permissions(Arc<[Permission]>);

/// Why a list is not a set of permissions for a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPermissions {
    /// More than [`GRANT_PERMISSIONS_MAX`] members, counted as they were given.
    #[error("at most {GRANT_PERMISSIONS_MAX} permissions can be given")]
    TooMany,
    /// One member is no permission.
    #[error("permission {index}: {why}")]
    Member {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it.
        why: InvalidPermission,
    },
}

impl Permissions {
    /// The set of the permissions in a list. An empty list is the set that allows nothing.
    ///
    /// # Errors
    /// The first member that is wrong, or that there are more than [`GRANT_PERMISSIONS_MAX`]; they
    /// are counted before duplicates and covered members are removed.
    pub fn parse<I>(texts: I) -> Result<Self, InvalidPermissions>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut members = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            if index >= GRANT_PERMISSIONS_MAX {
                return Err(InvalidPermissions::TooMany);
            }
            let member = Permission::parse(text.as_ref()).map_err(|why| InvalidPermissions::Member { index, why })?;
            members.push(member);
        }
        Ok(Self::minimal(members))
    }

    /// The members in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Permission> {
        self.0.iter()
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is allowed, except what needs only an active credential.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one member covers the permission.
    #[must_use]
    pub fn covers(&self, other: &Permission) -> bool {
        self.iter().any(|member| member.covers(other))
    }

    /// Whether each member of `other` is covered, that is: whether `other` allows nothing more.
    #[must_use]
    pub fn covers_all(&self, other: &Self) -> bool {
        other.iter().all(|member| self.covers(member))
    }

    /// Whether a call with these needs may be made by whoever holds this set and an active
    /// credential. That the credential is active is for the caller to know.
    #[must_use]
    pub fn allows(&self, needed: &Needed<'_>) -> bool {
        needed.needs().iter().all(|need| self.iter().any(|member| member.allows(need)))
    }

    /// What both sets allow, and nothing else: of each two members of which one covers the other,
    /// the narrower.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        // A token usually has all that its key has; then there is nothing to find out.
        if self == other {
            return self.clone();
        }
        let ours = self.iter().filter(|member| other.covers(member));
        let theirs = other.iter().filter(|member| self.covers(member));
        ours.chain(theirs).cloned().collect()
    }

    /// What at least one of the sets allows.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).cloned().collect()
    }

    /// The members with a space between them (RFC 6749 §3.3). Whoever issues a token compares the
    /// length with [`super::SCOPE_BYTES_MAX`].
    #[must_use]
    pub fn to_scope(&self) -> String {
        let mut scope = String::with_capacity(self.iter().map(|member| member.as_str().len() + 1).sum());
        for member in self {
            if !scope.is_empty() {
                scope.push(' ');
            }
            scope.push_str(member.as_str());
        }
        scope
    }

    fn minimal(mut members: Vec<Permission>) -> Self {
        // In this order all that a member covers follows it, and whatever stands between them and can
        // cover others is covered by it too. So comparing with the last one kept that can is enough.
        members.sort_by(|a, b| a.literal().cmp(b.literal()).then(b.is_wildcard().cmp(&a.is_wildcard())));
        members.dedup();
        let mut kept: Vec<Permission> = Vec::with_capacity(members.len());
        let mut broad: Option<Permission> = None;
        for member in members {
            if broad.as_ref().is_some_and(|broad| broad.covers(&member)) {
                continue;
            }
            if member.is_wildcard() || !member.as_str().contains(':') {
                broad = Some(member.clone());
            }
            kept.push(member);
        }
        kept.sort();
        Self(kept.into())
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(members: I) -> Self {
        Self::minimal(members.into_iter().collect())
    }
}

impl From<Permission> for Permissions {
    fn from(only: Permission) -> Self {
        Self(Arc::new([only]))
    }
}

impl<'a> IntoIterator for &'a Permissions {
    type Item = &'a Permission;
    type IntoIter = std::slice::Iter<'a, Permission>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PermissionsVisitor)
    }
}

struct PermissionsVisitor;

impl<'de> de::Visitor<'de> for PermissionsVisitor {
    type Value = Permissions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {GRANT_PERMISSIONS_MAX} permissions")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Permissions, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = list.next_element()? {
            if members.len() >= GRANT_PERMISSIONS_MAX {
                return Err(de::Error::custom(InvalidPermissions::TooMany));
            }
            members.push(member);
        }
        Ok(Permissions::minimal(members))
    }
}
