//! The address under which callers reach the service, in its one canonical form.

use std::fmt;

use url::{Host, Url};

/// Scheme, host and perhaps a port; never a path, query, fragment, user or trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicUrl {
    text: String,
    host: String,
    https: bool,
    loopback: bool,
}

/// Why a text is no public address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPublicUrl {
    /// It has more than scheme, host and port, or less.
    #[error("it must be scheme, host and perhaps a port, with nothing behind: no path, no trailing slash")]
    Form,
    /// Something stands before the host, which is where passwords stand.
    #[error("it must hold no user or password")]
    User,
    /// Neither http nor https.
    #[error("its scheme must be https or http")]
    Scheme,
    /// Plain HTTP to somewhere else.
    #[error("plain http is for localhost, 127.0.0.0/8 and [::1] only")]
    PlainHttp,
}

impl PublicUrl {
    /// Reads and normalises the text: host in lower case, the scheme's own port left out.
    ///
    /// # Errors
    ///
    /// The text has another form, another scheme, or is plain HTTP for a host that is not this machine.
    pub fn parse(text: &str) -> Result<Self, NotPublicUrl> {
        let (_, authority) = text.split_once("://").ok_or(NotPublicUrl::Form)?;
        // Seen before parsing, because parsing mends what must not be mended: `\` becomes `/`, an empty path too.
        if authority.contains('@') {
            return Err(NotPublicUrl::User);
        }
        if authority.contains(['/', '\\', '?', '#'])
            || text.contains(|sign: char| sign.is_whitespace() || sign.is_control())
        {
            return Err(NotPublicUrl::Form);
        }
        if authority.ends_with(':') {
            return Err(NotPublicUrl::Form);
        }
        let url = Url::parse(text).map_err(|_| NotPublicUrl::Form)?;
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(NotPublicUrl::Scheme),
        };
        let host = url.host().ok_or(NotPublicUrl::Form)?;
        if url.port() == Some(0) {
            return Err(NotPublicUrl::Form);
        }
        let here = match &host {
            Host::Domain(name) => *name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        if !https && !here {
            return Err(NotPublicUrl::PlainHttp);
        }
        Ok(Self { text: url.origin().ascii_serialization(), host: host.to_string(), https, loopback: here })
    }

    /// As displayed: `https://authority.example.com`, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The issuer of all tokens: this and `/oauth`.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("{}/oauth", self.text)
    }

    /// The host alone; an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether callers are on this machine: the host is localhost, of 127.0.0.0/8 or `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether callers speak TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{NotPublicUrl, PublicUrl};

    #[test]
    fn scheme_host_and_port_are_taken_in_one_form() {
        let cases = [
            ("http://localhost:8080", "http://localhost:8080", "localhost"),
            ("https://authority.example.com", "https://authority.example.com", "authority.example.com"),
            ("https://authority.example.com:443", "https://authority.example.com", "authority.example.com"),
            ("HTTPS://Authority.Example.com:8443", "https://authority.example.com:8443", "authority.example.com"),
            ("http://127.8.0.1", "http://127.8.0.1", "127.8.0.1"),
            ("http://[::1]:80", "http://[::1]", "[::1]"),
            ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443", "[2001:db8::1]"),
        ];
        for (text, expected, host) in cases {
            let url = PublicUrl::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.host()), (expected, host));
            assert_eq!(url.issuer(), format!("{expected}/oauth"));
            assert_eq!(url.is_https(), expected.starts_with("https"));
        }
    }

    #[test]
    fn all_else_is_refused() {
        let cases = [
            ("http://localhost:8080/", NotPublicUrl::Form),
            ("https://a.example/oauth", NotPublicUrl::Form),
            ("https://a.example?x", NotPublicUrl::Form),
            ("https://a.example#x", NotPublicUrl::Form),
            ("https://a.example\\x", NotPublicUrl::Form),
            ("https://a.exam\nple", NotPublicUrl::Form),
            ("https://a.example:", NotPublicUrl::Form),
            ("https://a.example:0", NotPublicUrl::Form),
            ("https://a.example:99999", NotPublicUrl::Form),
            ("https:///a.example", NotPublicUrl::Form),
            ("https:a.example", NotPublicUrl::Form),
            ("https://", NotPublicUrl::Form),
            ("localhost:8080", NotPublicUrl::Form),
            ("", NotPublicUrl::Form),
            ("https://user:canary@a.example", NotPublicUrl::User),
            ("ftp://a.example", NotPublicUrl::Scheme),
            ("http://a.example", NotPublicUrl::PlainHttp),
            ("http://0.0.0.0:8080", NotPublicUrl::PlainHttp),
            ("http://localhost.a.example", NotPublicUrl::PlainHttp),
            ("http://[::ffff:127.0.0.1]", NotPublicUrl::PlainHttp),
        ];
        for (text, expected) in cases {
            assert_eq!(PublicUrl::parse(text), Err(expected), "{text}");
        }
    }
}
