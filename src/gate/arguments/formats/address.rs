//! `url`: an absolute address on an allowed host, that every reader reads the same way.

use serde::Deserialize;
use url::{Host, Url};

use super::is_hidden;
use crate::types::resource::host_is_within;

const BYTES_MAX: usize = 2_048;

/// Hosts, domains or schemes in one option at most.
const LISTED_MAX: usize = 100;

/// Schemes that no option can allow: they run code or read files where the address is opened.
const SCHEMES_NEVER: [&str; 6] = ["javascript", "data", "vbscript", "file", "blob", "about"];

/// Options of `url`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Hosts an address may lead to; `*.` in front lets those below pass. Absent: all names.
    hosts: Option<Vec<String>>,
    /// Schemes; `https` when absent.
    schemes: Option<Vec<String>>,
    /// Whether a host may be an IP address.
    #[serde(default)]
    ip: bool,
}

#[derive(Debug)]
pub(in super::super) struct Address {
    hosts: Option<Vec<String>>,
    schemes: Vec<String>,
    ip: bool,
}

impl Address {
    pub(super) fn new(options: Options) -> Result<Self, String> {
        let schemes = options.schemes.unwrap_or_else(|| vec!["https".to_owned()]);
        let known = |scheme: &String| {
            matches!(scheme.as_str(), "https" | "http" | "wss" | "ws" | "ftp")
                && !SCHEMES_NEVER.contains(&scheme.as_str())
        };
        if schemes.is_empty() || schemes.len() > LISTED_MAX || !schemes.iter().all(known) {
            return Err("`schemes` are of https, http, wss, ws, ftp".to_owned());
        }
        let hosts = options.hosts.map(|given| hosts(&given, "hosts")).transpose()?;
        Ok(Self { hosts, schemes, ip: options.ip })
    }

    pub(super) fn check(&self, text: &str) -> Result<(), &'static str> {
        if text.len() > BYTES_MAX {
            return Err("at most 2,048 bytes of URL");
        }
        // The parser drops white space and controls and turns `\` into `/`; others do not.
        if text.chars().any(|one| is_hidden(one) || one.is_whitespace() || matches!(one, '\\' | '"' | '<' | '>' | '`'))
        {
            return Err("no white space, control characters, quotes, angle brackets or backslashes in a URL");
        }
        let url = Url::parse(text).map_err(|_| "not an absolute URL")?;
        if !self.schemes.iter().any(|scheme| scheme == url.scheme()) {
            return Err("the scheme is not an allowed one");
        }
        let authority = text.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
        let authority = authority.filter(|own| !own.is_empty()).ok_or("not an absolute URL with a host")?;
        if authority.contains('@') {
            return Err("no user name or password in a URL");
        }
        match url.host() {
            Some(Host::Domain(name)) => self.name(name, authority),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) if !self.ip => Err("the host is a name, not an IP address"),
            Some(Host::Ipv4(own)) => self.literal(&own.to_string(), authority),
            Some(Host::Ipv6(own)) => self.literal(&format!("[{own}]"), authority),
            None => Err("not an absolute URL with a host"),
        }
    }

    fn name(&self, name: &str, authority: &str) -> Result<(), &'static str> {
        // What the parser made of the name must be what was written, so that nothing is decoded on the way (`%2e`,
        // full-width letters, Cyrillic ones that look Latin): names beyond ASCII are written in their `xn--` form.
        let written = authority.split(':').next().unwrap_or_default();
        if !written.eq_ignore_ascii_case(name) || name.ends_with('.') {
            return Err("a host is written in ASCII, names beyond it in their `xn--` form, without a last dot");
        }
        let allowed = self.hosts.as_ref().is_none_or(|hosts| host_is_within(name, hosts));
        if allowed { Ok(()) } else { Err("the host is not an allowed one") }
    }

    fn literal(&self, own: &str, authority: &str) -> Result<(), &'static str> {
        let written = authority == own || authority.strip_prefix(own).is_some_and(|rest| rest.starts_with(':'));
        let allowed = self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|host| host == own));
        if written && allowed { Ok(()) } else { Err("the IP address is not an allowed one, or not in its usual form") }
    }
}

/// Reads the hosts of an option into the form that is compared: lower case, names beyond ASCII as `xn--`.
pub(super) fn hosts(given: &[String], option: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("`{option}` are 1 to {LISTED_MAX} names, such as `example.com` or `*.example.com`");
    if given.is_empty() || given.len() > LISTED_MAX {
        return Err(wrong());
    }
    let one = |text: &String| {
        let (star, name) = text.strip_prefix("*.").map_or(("", text.as_str()), |name| ("*.", name));
        let plain = !name.is_empty() && !name.contains(['*', '%', '@', '/', '?', '#']) && !name.ends_with('.');
        match Host::parse(name) {
            Ok(Host::Domain(host)) if plain => Ok(format!("{star}{host}")),
            Ok(Host::Ipv4(own)) if star.is_empty() => Ok(own.to_string()),
            Ok(Host::Ipv6(own)) if star.is_empty() => Ok(format!("[{own}]")),
            _ => Err(wrong()),
        }
    };
    given.iter().map(one).collect()
}
