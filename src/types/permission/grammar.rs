//! One permission: parsed, kept in wire form, compared with others and with needs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de;

use super::PERMISSION_BYTES_MAX;
use super::call::Need;
use super::wire;

pub(super) const TOOLS_CALL: &str = "tools/call";
pub(super) const PROMPTS_GET: &str = "prompts/get";
pub(super) const RESOURCES_READ: &str = "resources/read";
pub(super) const SUBSCRIPTIONS_LISTEN: &str = "subscriptions/listen";
pub(super) const EVERYTHING: &str = "*";

/// The methods that a permission can narrow by name.
pub(super) const NAMED_METHODS: [&str; 3] = [TOOLS_CALL, PROMPTS_GET, RESOURCES_READ];

/// The methods that a permission can name, but not narrow: their requests name no thing.
pub(super) const WHOLE_METHODS: [&str; 11] = [
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "logging/setLevel",
    "tasks/get",
    "tasks/update",
    "tasks/cancel",
    "tasks/result",
    "tasks/list",
    SUBSCRIPTIONS_LISTEN,
];

/// The methods that need nothing but an active credential, beside `notifications/*`.
pub(super) const FREE_METHODS: [&str; 3] = ["initialize", "ping", "server/discover"];

/// The methods that need the permission of another one, and which.
pub(super) const BORROWING_METHODS: [(&str, &str); 3] = [
    ("resources/subscribe", "`resources/read`"),
    ("resources/unsubscribe", "`resources/read`"),
    ("completion/complete", "`prompts/get` or `resources/read`"),
];

/// Whether the method is a notification.
pub(super) fn is_notification(method: &str) -> bool {
    method.strip_prefix("notifications/").is_some_and(|rest| !rest.is_empty())
}

/// What an agent may send to one server: `*`, a method, or a method narrowed by a pattern.
///
/// Holds the one canonical wire form, so equal permissions are equal text, and every permission is
/// a scope token (RFC 6749 §3.3) of at most [`PERMISSION_BYTES_MAX`] bytes. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permission(Arc<str>);

/// Why a text is not a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPermission {
    /// Nothing was given.
    #[error("a permission is `*`, a method, or a method, a colon and a pattern; it cannot be empty")]
    Empty,
    /// Longer than [`PERMISSION_BYTES_MAX`] in wire form.
    #[error("a permission is at most {PERMISSION_BYTES_MAX} bytes, with `%XX` counted as three")]
    TooLong,
    /// What stands before the first colon is no method that a permission can name.
    #[error("unknown method; a permission begins with an MCP method such as `tools/call`, in exactly that spelling")]
    UnknownMethod,
    /// A `*` stands before the first colon of something longer.
    #[error("a method cannot hold a `*`; write the method out, or `*` alone for every method")]
    StarInMethod,
    /// Requests of this method need another permission; granting this one would grant nothing.
    #[error("this method has no permission of its own; it needs {0}")]
    NeedsAnother(&'static str),
    /// Requests of this method need no permission at all.
    #[error("this method needs no permission, only an active credential")]
    NeedsNone,
    /// The method takes no pattern.
    #[error("this method cannot be narrowed; only `tools/call`, `prompts/get` and `resources/read` take a pattern")]
    PatternNotTaken,
    /// Nothing follows the colon.
    #[error("nothing follows the colon; leave the colon out to mean every name")]
    EmptyPattern,
    /// A `*` stands elsewhere than at the very end.
    #[error("a `*` may only be the last character; one that belongs to a name is written `%2A`")]
    StarInside,
    /// Every URI with this beginning may be matched by its equal only, so the pattern matches none.
    #[error(
        "matches nothing: a URI with `.` or `..` segments, an encoded slash or backslash, or a control character needs an exact pattern"
    )]
    MatchesNothing,
}

impl Permission {
    /// The permission that an operator typed or a client sent, raw or already percent-encoded.
    ///
    /// # Errors
    /// Says which rule of the grammar the text breaks. The text is not repeated.
    pub fn parse(text: &str) -> Result<Self, InvalidPermission> {
        if text.is_empty() {
            return Err(InvalidPermission::Empty);
        }
        // The wire form is never shorter, so a long text need not be read at all.
        if text.len() > PERMISSION_BYTES_MAX {
            return Err(InvalidPermission::TooLong);
        }
        if text == EVERYTHING {
            return Ok(Self(EVERYTHING.into()));
        }
        let (method, pattern) = match text.split_once(':') {
            Some((method, pattern)) => (method, Some(pattern)),
            None => (text, None),
        };
        let takes_pattern = grantable(method)?;
        match pattern {
            Some(_) if !takes_pattern => Err(InvalidPermission::PatternNotTaken),
            Some("") => Err(InvalidPermission::EmptyPattern),
            None | Some("*") => Ok(Self(method.into())),
            Some(pattern) => Self::narrowed(method, pattern),
        }
    }

    /// The canonical wire form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every call that `other` allows is allowed by this one too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if let Some(prefix) = self.0.strip_suffix('*') {
            return prefix.is_empty()
                || (other.0.starts_with(prefix) && (other.is_wildcard() || !other.is_ambiguous_uri()));
        }
        match other.0.strip_prefix(&*self.0) {
            Some("") => true,
            // Only a bare method covers longer ones: `tools/call:a` does not cover `tools/call:a:b`.
            Some(rest) => rest.starts_with(':') && !self.0.contains(':'),
            None => false,
        }
    }

    /// Whether this permission alone meets the need.
    #[must_use]
    pub fn allows(&self, need: &Need<'_>) -> bool {
        if &*self.0 == EVERYTHING {
            return true;
        }
        let Some(rest) = self.0.strip_prefix(need.method()) else {
            return false;
        };
        if rest.is_empty() {
            return true;
        }
        let (Some(pattern), Some(name)) = (rest.strip_prefix(':'), need.name()) else {
            return false;
        };
        match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix) && !need.is_exact_only(),
            None => pattern == name,
        }
    }

    /// Whether it ends in a wildcard: `*` itself, or a pattern that does.
    pub(super) fn is_wildcard(&self) -> bool {
        self.0.ends_with('*')
    }

    /// The text before the final wildcard, or all of it.
    pub(super) fn literal(&self) -> &str {
        self.0.strip_suffix('*').unwrap_or(&self.0)
    }

    /// Whether it is for one URI that no wildcard matches.
    fn is_ambiguous_uri(&self) -> bool {
        self.0.strip_prefix(RESOURCES_READ).and_then(|rest| rest.strip_prefix(':')).is_some_and(wire::is_ambiguous)
    }

    fn narrowed(method: &str, pattern: &str) -> Result<Self, InvalidPermission> {
        let (literal, star) = match pattern.strip_suffix('*') {
            Some(literal) => (literal, "*"),
            None => (pattern, ""),
        };
        if literal.contains('*') {
            return Err(InvalidPermission::StarInside);
        }
        let literal = wire::wire_form(literal);
        // A letter that is no hex digit continues the last segment without completing an escape. If
        // that is ambiguous, every other continuation is too.
        if !star.is_empty() && method == RESOURCES_READ && wire::is_ambiguous(&format!("{literal}x")) {
            return Err(InvalidPermission::MatchesNothing);
        }
        let text = format!("{method}:{literal}{star}");
        if text.len() > PERMISSION_BYTES_MAX {
            return Err(InvalidPermission::TooLong);
        }
        Ok(Self(text.into()))
    }
}

/// Whether the method takes a pattern, if a permission can name it at all.
fn grantable(method: &str) -> Result<bool, InvalidPermission> {
    if NAMED_METHODS.contains(&method) {
        return Ok(true);
    }
    if WHOLE_METHODS.contains(&method) {
        return Ok(false);
    }
    if method.contains('*') {
        return Err(InvalidPermission::StarInMethod);
    }
    if FREE_METHODS.contains(&method) || is_notification(method) {
        return Err(InvalidPermission::NeedsNone);
    }
    let borrowed = BORROWING_METHODS.iter().find(|(known, _)| *known == method);
    Err(borrowed.map_or(InvalidPermission::UnknownMethod, |(_, other)| InvalidPermission::NeedsAnother(other)))
}

impl FromStr for Permission {
    type Err = InvalidPermission;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(PermissionVisitor)
    }
}

struct PermissionVisitor;

impl de::Visitor<'_> for PermissionVisitor {
    type Value = Permission;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a permission, such as `tools/list` or `tools/call:search_*`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Permission, E> {
        Permission::parse(text).map_err(E::custom)
    }
}
