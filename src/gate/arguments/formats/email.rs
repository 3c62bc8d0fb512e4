//! `email`: one bare address, and the domains it may be of.

use serde::Deserialize;

use super::address::hosts;
use crate::types::resource::host_is_within;

/// RFC 5321 §4.5.3.1: a path is 256 octets at most, angle brackets among them; a local part 64.
const BYTES_MAX: usize = 254;
const LOCAL_BYTES_MAX: usize = 64;

/// Options of `email`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Domains an address may be of; `*.` in front lets those below pass. Absent: all.
    domains: Option<Vec<String>>,
}

#[derive(Debug)]
pub(in super::super) struct Email {
    domains: Option<Vec<String>>,
}

impl Email {
    pub(super) fn new(options: Options) -> Result<Self, String> {
        let domains = options.domains.map(|given| hosts(&given, "domains")).transpose()?;
        Ok(Self { domains })
    }

    pub(super) fn check(&self, text: &str) -> Result<(), &'static str> {
        const WRONG: &str = "one bare e-mail address in ASCII, no name beside it, no quotes, no comments";
        if text.len() > BYTES_MAX {
            return Err(WRONG);
        }
        let (local, domain) = text.split_once('@').ok_or(WRONG)?;
        // RFC 5322 §3.2.3: dot-atom. What header injection needs (CR, LF, `<`, `,`, quotes) is no part of it.
        let atom = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte);
        let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
        // A first dash is read as an option by programs that send mail; `%` and `!` once routed it elsewhere.
        let odd = local.starts_with('-') || local.contains(['%', '!', '`', '|', '$', '/']);
        if local.is_empty() || local.len() > LOCAL_BYTES_MAX || !local.bytes().all(atom) || dots || odd {
            return Err(WRONG);
        }
        if !is_domain(domain) {
            return Err(WRONG);
        }
        let allowed = |domains: &Vec<String>| host_is_within(&domain.to_ascii_lowercase(), domains);
        if self.domains.as_ref().is_none_or(allowed) { Ok(()) } else { Err("the domain is not an allowed one") }
    }
}

/// A name of two labels at least (RFC 1123 §2.1), in ASCII, that is no address.
fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = domain.rsplit('.').next().unwrap_or_default();
    domain.len() <= 253
        && domain.contains('.')
        && domain.split('.').all(label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}
