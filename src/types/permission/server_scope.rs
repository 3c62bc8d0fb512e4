//! A server's own scope names, each standing for permissions, and the `scope` of requests and tokens.

use serde::Deserialize;
use serde::Serialize;

use super::SCOPE_BYTES_MAX;
use super::SERVER_SCOPE_DESCRIPTION_BYTES_MAX;
use super::SERVER_SCOPE_NAME_BYTES_MAX;
use super::SERVER_SCOPE_NAMES_BYTES_MAX;
use super::SERVER_SCOPES_MAX;
use super::SERVER_SCOPES_PERMISSIONS_MAX;
use super::grammar;
use super::grammar::InvalidPermission;
use super::grammar::Permission;
use super::set::Permissions;
use super::wire;

/// A name that a server uses in its own `required_scopes`, and the permissions it stands for.
///
/// The name is a scope token (RFC 6749 §3.3) that is not like a permission; there is at least one
/// permission, because a scope that stands for nothing would be in every token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct ServerScope {
    name: String,
    description: String,
    permissions: Permissions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    name: String,
    description: String,
    permissions: Permissions,
}

/// Why a scope, or the list of the scopes of a server, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServerScope {
    /// The name is empty or holds a character that a scope token cannot (RFC 6749 §3.3).
    #[error("a scope name is printable ASCII without spaces, `\"` and `\\`, and not empty")]
    NotAToken,
    /// The name is longer than [`SERVER_SCOPE_NAME_BYTES_MAX`].
    #[error("a scope name is at most {SERVER_SCOPE_NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// The name is a permission, or begins as one.
    #[error("a scope cannot be named like a permission: not `*`, nothing that begins with an MCP method")]
    NamedLikeAPermission,
    /// The description is longer than [`SERVER_SCOPE_DESCRIPTION_BYTES_MAX`] or holds control
    /// characters; people read it on the consent page.
    #[error("a description is at most {SERVER_SCOPE_DESCRIPTION_BYTES_MAX} bytes without control characters")]
    Description,
    /// The scope stands for nothing.
    #[error("a scope stands for at least one permission")]
    NoPermissions,
    /// More than [`SERVER_SCOPES_MAX`] scopes.
    #[error("a server has at most {SERVER_SCOPES_MAX} scopes")]
    TooMany,
    /// The names together pass [`SERVER_SCOPE_NAMES_BYTES_MAX`].
    #[error("the scope names of a server are at most {SERVER_SCOPE_NAMES_BYTES_MAX} bytes together")]
    NamesTooLong,
    /// The permissions together pass [`SERVER_SCOPES_PERMISSIONS_MAX`].
    #[error("the scopes of a server stand for at most {SERVER_SCOPES_PERMISSIONS_MAX} permissions together")]
    TooManyPermissions,
    /// Two scopes have one name.
    #[error("two scopes have the same name")]
    Duplicate,
}

/// Why a `scope` parameter is refused (`invalid_scope`, RFC 6749 §5.2). The texts hold only
/// characters that an `error_description` may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    /// Nothing in it. A parameter without a value is one left out (RFC 6749 §3.2); the caller sees to that.
    #[error("scope is empty")]
    Empty,
    /// Longer than [`SCOPE_BYTES_MAX`].
    #[error("scope is longer than {SCOPE_BYTES_MAX} bytes; ask for less")]
    TooLong,
    /// Not scope tokens with one space between them (RFC 6749 §3.3).
    #[error("scope is not a list of scope tokens with one space between them")]
    Malformed,
    /// A token is neither a scope of the server nor a permission.
    #[error("scope has a token that is neither a scope of this server nor a permission, at position {position}: {why}")]
    Unknown {
        /// Its place among the tokens, from 1.
        position: usize,
        /// Why it is no permission.
        why: InvalidPermission,
    },
}

impl ServerScope {
    /// A scope whose parts keep the rules.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn new(name: String, description: String, permissions: Permissions) -> Result<Self, InvalidServerScope> {
        if !is_scope_token(&name) {
            return Err(InvalidServerScope::NotAToken);
        }
        if name.len() > SERVER_SCOPE_NAME_BYTES_MAX {
            return Err(InvalidServerScope::NameTooLong);
        }
        if is_like_a_permission(&name) {
            return Err(InvalidServerScope::NamedLikeAPermission);
        }
        if description.len() > SERVER_SCOPE_DESCRIPTION_BYTES_MAX || description.chars().any(char::is_control) {
            return Err(InvalidServerScope::Description);
        }
        if permissions.is_empty() {
            return Err(InvalidServerScope::NoPermissions);
        }
        Ok(Self { name, description, permissions })
    }

    /// Checks what no scope can know alone: how many there are, and that no name occurs twice.
    ///
    /// # Errors
    /// Says which rule the list breaks.
    pub fn check_all(scopes: &[Self]) -> Result<(), InvalidServerScope> {
        if scopes.len() > SERVER_SCOPES_MAX {
            return Err(InvalidServerScope::TooMany);
        }
        let names_bytes: usize = scopes.iter().map(|scope| scope.name.len().saturating_add(1)).sum();
        if names_bytes > SERVER_SCOPE_NAMES_BYTES_MAX {
            return Err(InvalidServerScope::NamesTooLong);
        }
        let permissions: usize = scopes.iter().map(|scope| scope.permissions.len()).sum();
        if permissions > SERVER_SCOPES_PERMISSIONS_MAX {
            return Err(InvalidServerScope::TooManyPermissions);
        }
        let mut names: Vec<&str> = scopes.iter().map(Self::name).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() < scopes.len() {
            return Err(InvalidServerScope::Duplicate);
        }
        Ok(())
    }

    /// The name, a scope token.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a person is told that it allows.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// What it stands for; never empty.
    #[must_use]
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }
}

impl TryFrom<Unchecked> for ServerScope {
    type Error = InvalidServerScope;

    fn try_from(given: Unchecked) -> Result<Self, Self::Error> {
        Self::new(given.name, given.description, given.permissions)
    }
}

/// The `scope` of a token or an introspection reply: what is held, followed by each of the server's
/// scopes whose permissions are all covered, because SDKs compare required scopes by equality.
/// Whoever issues a token compares the length with [`SCOPE_BYTES_MAX`].
#[must_use]
pub fn scope_string(held: &Permissions, scopes: &[ServerScope]) -> String {
    let mut written = held.to_scope();
    for scope in scopes.iter().filter(|scope| held.covers_all(&scope.permissions)) {
        if !written.is_empty() {
            written.push(' ');
        }
        written.push_str(&scope.name);
    }
    written
}

/// The permissions that a `scope` parameter asks for: each token is one of the server's scopes, and
/// then stands for its permissions, or a permission. What of that is granted is for the caller to
/// find out with [`Permissions::intersect`].
///
/// # Errors
/// The first token that is unknown, or that the parameter is malformed or too long.
pub fn requested(scope: &str, scopes: &[ServerScope]) -> Result<Permissions, InvalidScope> {
    if scope.is_empty() {
        return Err(InvalidScope::Empty);
    }
    if scope.len() > SCOPE_BYTES_MAX {
        return Err(InvalidScope::TooLong);
    }
    let mut tokens: Vec<(usize, &str)> = (1..).zip(scope.split(' ')).collect();
    if !tokens.iter().all(|(_, token)| is_scope_token(token)) {
        return Err(InvalidScope::Malformed);
    }
    // Each token is expanded once, so that repeating a scope does not repeat its work.
    tokens.sort_unstable_by_key(|(position, token)| (*token, *position));
    tokens.dedup_by_key(|(_, token)| *token);
    tokens.sort_unstable();
    let mut members: Vec<Permission> = Vec::new();
    for (position, token) in tokens {
        match scopes.iter().find(|scope| scope.name == token) {
            Some(scope) => members.extend(scope.permissions.iter().cloned()),
            None => members.push(Permission::parse(token).map_err(|why| InvalidScope::Unknown { position, why })?),
        }
    }
    Ok(members.into_iter().collect())
}

fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(wire::is_scope_byte)
}

/// Whether somebody could take the name for a permission, also for one that is mistyped. Methods of
/// one word are compared whole: `pingdom` is a fine name.
fn is_like_a_permission(name: &str) -> bool {
    let method = name.split_once(':').map_or(name, |(method, _)| method);
    let borrowing = grammar::BORROWING_METHODS.map(|(known, _)| known);
    let mut known =
        (grammar::NAMED_METHODS.iter()).chain(&grammar::WHOLE_METHODS).chain(&grammar::FREE_METHODS).chain(&borrowing);
    method == grammar::EVERYTHING
        || name.starts_with("notifications/")
        || known.any(|known| method == *known || (known.contains('/') && name.starts_with(known)))
}
