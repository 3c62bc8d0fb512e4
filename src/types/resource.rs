//! Resource URIs (RFC 8707): how a server's is registered, and how one asked for is compared with it.

use std::fmt;

/// Bytes of a resource URI at most.
pub const RESOURCE_BYTES_MAX: usize = 512;

/// Why a text is no resource URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResource {
    /// Longer than [`RESOURCE_BYTES_MAX`].
    #[error("at most {RESOURCE_BYTES_MAX} bytes")]
    TooLong,
    /// Not an absolute URI with a host.
    #[error("an absolute http or https URI with a host is needed")]
    NotAbsolute,
    /// RFC 8707 §2 forbids fragments; user names and queries have no place in an identifier.
    #[error("no fragment, query, user name or password")]
    Extra,
}

/// A resource URI in the one form that is compared: scheme and host in lower case, the default port and one trailing
/// slash left out, dot segments resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Canonical(String);

impl Canonical {
    /// Reads a URI into the canonical form.
    ///
    /// # Errors
    ///
    /// It is too long, not absolute, or carries more than scheme, host, port and path.
    pub fn parse(text: &str) -> Result<Self, InvalidResource> {
        if text.len() > RESOURCE_BYTES_MAX {
            return Err(InvalidResource::TooLong);
        }
        // The parser would silently drop white space, control characters and turn `\` into `/`.
        if text.bytes().any(|byte| byte <= b' ' || byte == b'\\' || byte == 0x7f) {
            return Err(InvalidResource::NotAbsolute);
        }
        let url = url::Url::parse(text).map_err(|_| InvalidResource::NotAbsolute)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !text.contains("://") {
            return Err(InvalidResource::NotAbsolute);
        }
        let plain =
            url.fragment().is_none() && url.query().is_none() && url.username().is_empty() && url.password().is_none();
        if !plain {
            return Err(InvalidResource::Extra);
        }
        let whole = url.as_str();
        Ok(Self(whole.strip_suffix('/').unwrap_or(whole).to_owned()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, without a port.
    #[must_use]
    pub fn host(&self) -> String {
        url::Url::parse(&self.0).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
    }
}

impl fmt::Display for Canonical {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

/// Whether a host is one of a project's: equal to a name, or below `*.name`.
#[must_use]
pub fn host_is_within(host: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|pattern| match pattern.strip_prefix("*.") {
        Some(parent) => host.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => host == pattern,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailing_slash_and_the_case_of_scheme_and_host_do_not_matter() {
        let registered = Canonical::parse("https://files.example.com/mcp").unwrap();
        for same in
            ["https://files.example.com/mcp/", "HTTPS://Files.Example.COM/mcp", "https://files.example.com:443/mcp"]
        {
            assert_eq!(Canonical::parse(same).unwrap(), registered, "{same}");
        }
        for other in
            ["https://files.example.com/MCP", "http://files.example.com/mcp", "https://files.example.com/mcp//"]
        {
            assert_ne!(Canonical::parse(other).unwrap(), registered, "{other}");
        }
        assert_eq!(Canonical::parse("https://h").unwrap(), Canonical::parse("https://h/").unwrap());
    }

    #[test]
    fn what_is_no_identifier_is_refused() {
        for text in [
            "",
            "files",
            "/mcp",
            "mailto:a@b",
            "file:///x",
            "https://",
            "https:h/x",
            "https://u@h/",
            "https://h/?q",
            "https://h/#f",
            "https://h/ x",
            "https://h\\x",
        ] {
            assert!(Canonical::parse(text).is_err(), "{text}");
        }
        assert_eq!(Canonical::parse(&format!("https://h/{}", "a".repeat(600))), Err(InvalidResource::TooLong));
    }

    #[test]
    fn hosts_of_a_project_are_names_and_what_lies_below_a_star() {
        let allowed = ["a.example".to_owned(), "*.b.example".to_owned()];
        for (host, within) in [
            ("a.example", true),
            ("x.a.example", false),
            ("x.b.example", true),
            ("b.example", false),
            ("xb.example", false),
        ] {
            assert_eq!(host_is_within(host, &allowed), within, "{host}");
        }
    }
}
