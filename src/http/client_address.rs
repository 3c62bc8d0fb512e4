//! Whose address a request comes from: the connection's, or what a trusted proxy says about it.
//!
//! Address lists of keys, the audit, sessions and limits all use this one rule. It answers "unknown" (`None`)
//! rather than guess: who is refused for an unknown address can be helped, who is let in by a forged one cannot.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

/// A chain with more proxies of our own than this is taken for a loop, and the address for unknown.
const PROXIES_MAX: usize = 32;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of the caller, or `None` when it is unknown.
///
/// `peer` is the other end of the connection, `trusted` the networks of `MCPA_TRUSTED_PROXIES`, `behind_proxy`
/// the setting `MCPA_BEHIND_TLS_PROXY`.
///
/// - A peer that is not trusted is the caller itself, and its headers count for nothing. If a proxy is known to
///   stand in front and none is trusted, the peer is that proxy, and the address is unknown.
/// - For a trusted peer it is the right-most entry of `Forwarded` (RFC 7239 §4) or `X-Forwarded-For` that is not
///   a trusted proxy: everything to the left of it is the caller's own word. No header, no such entry, or an
///   entry on the way to it that is no address (RFC 7239 §6.2, §6.3): unknown.
/// - Both headers with different answers: unknown, since a proxy that writes one passes a forged other one on.
///
/// IPv4 addresses written as IPv6 (`::ffff:192.0.2.1`) are IPv4 addresses in every place.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet], behind_proxy: bool) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if trusted.is_empty() && behind_proxy {
        return None;
    }
    if !is_trusted(peer, trusted) {
        return Some(peer);
    }
    let by_standard = headers.contains_key(header::FORWARDED).then(|| by_forwarded(headers, trusted));
    let by_custom = headers.contains_key(X_FORWARDED_FOR).then(|| by_x_forwarded_for(headers, trusted));
    match (by_standard, by_custom) {
        (Some(standard), Some(custom)) => standard.filter(|address| custom == Some(*address)),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => None,
    }
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// Walks the hops from the nearest to the farthest. `None` as a hop is one that names no address.
fn first_untrusted(hops: impl Iterator<Item = Option<IpAddr>>, trusted: &[IpNet]) -> Option<IpAddr> {
    for hop in hops.take(PROXIES_MAX) {
        let address = hop?;
        if !is_trusted(address, trusted) {
            return Some(address);
        }
    }
    None
}

fn by_x_forwarded_for(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    // Later lines were added by nearer proxies (RFC 9110 §5.3), so lines and entries are read backwards.
    let hops = headers.get_all(X_FORWARDED_FOR).iter().rev().flat_map(|line| {
        // A line that is no text still is one hop: it must end the walk, not vanish from it.
        line.to_str().unwrap_or("?").rsplit(',').map(|entry| node(entry.trim()))
    });
    first_untrusted(hops, trusted)
}

fn by_forwarded(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    // Each line is read by itself: a quote that a caller left open in his line cannot swallow the proxy's.
    // One malformed line makes all of its hops unknown, because nobody can say where its entries part.
    let hops = headers.get_all(header::FORWARDED).iter().rev().flat_map(|line| {
        let elements = line.to_str().ok().and_then(forwarded_elements);
        elements.unwrap_or_else(|| vec![None]).into_iter().rev()
    });
    first_untrusted(hops, trusted)
}

/// The `for` of each element of one `Forwarded` line (RFC 7239 §4), left to right; `None` for the line if it
/// is malformed. An element without an address is a `None` in the list.
fn forwarded_elements(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut elements = Vec::new();
    let mut rest = line.trim();
    let mut element = Element::default();
    while !rest.is_empty() {
        // RFC 9110 §5.6.1: empty list elements are to be skipped.
        if !rest.starts_with([',', ';']) {
            let (name, after) = rest.split_once('=')?;
            let (value, after) = forwarded_value(after)?;
            element.take(name, &value)?;
            rest = after.trim_start();
        }
        match rest.chars().next() {
            Some(',') => std::mem::take(&mut element).finish(&mut elements),
            Some(';') | None => {}
            Some(_) => return None,
        }
        rest = rest.get(1..).unwrap_or_default().trim_start();
    }
    element.finish(&mut elements);
    Some(elements)
}

/// One element of a `Forwarded` line while it is read.
#[derive(Default)]
struct Element {
    parameters: usize,
    says_for: bool,
    caller: Option<IpAddr>,
}

impl Element {
    /// Notes one parameter; `None` when the element is malformed.
    fn take(&mut self, name: &str, value: &str) -> Option<()> {
        let is_token =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(&b));
        let is_for = name.eq_ignore_ascii_case("for");
        // RFC 7239 §4: a parameter must not occur more than once in an element.
        if !is_token || (is_for && self.says_for) {
            return None;
        }
        self.parameters += 1;
        if is_for {
            self.says_for = true;
            // RFC 7239 §6: an IPv6 address stands in brackets here; a bare one is not one of its forms.
            self.caller = if value.parse::<Ipv6Addr>().is_ok() { None } else { node(value) };
        }
        Some(())
    }

    /// Adds its hop; an empty element is none.
    fn finish(self, hops: &mut Vec<Option<IpAddr>>) {
        if self.parameters > 0 {
            hops.push(self.caller);
        }
    }
}

/// The value at the start of `text` (token or quoted string) and what follows it.
fn forwarded_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Ports and brackets would need quotes (RFC 7239 §4), but proxies leave them out, and no reading differs.
        let end = text.find([',', ';', ' ', '\t', '"', '\\', '=']).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end)?;
        return (!value.is_empty()).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut signs = quoted.char_indices();
    while let Some((at, sign)) = signs.next() {
        match sign {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(signs.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// An address with or without port; "unknown" and made-up names (RFC 7239 §6.2, §6.3) are none.
fn node(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse::<IpAddr>().ok().or_else(bracketed).or_else(with_port)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const PROXY: &str = "10.0.0.1";
    const CALLER: &str = "203.0.113.9";

    fn trusted() -> Vec<IpNet> {
        ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|text| text.parse().unwrap()).to_vec()
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    fn from_proxy(lines: &[(&'static str, &str)]) -> Option<String> {
        client_address(PROXY.parse().unwrap(), &headers(lines), &trusted(), true).map(|address| address.to_string())
    }

    #[test]
    fn a_direct_caller_is_its_own_address_whatever_its_headers_say() {
        let forged = headers(&[("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")]);
        for behind_proxy in [false, true] {
            let found = client_address(CALLER.parse().unwrap(), &forged, &trusted(), behind_proxy);
            assert_eq!(found, Some(CALLER.parse().unwrap()));
        }
        let found = client_address("127.0.0.1".parse().unwrap(), &forged, &[], false);
        assert_eq!(found, Some("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn guarantee_21_behind_a_proxy_without_trusted_ones_the_address_is_unknown() {
        let told = headers(&[("x-forwarded-for", CALLER)]);
        assert_eq!(client_address(PROXY.parse().unwrap(), &told, &[], true), None);
        assert_eq!(client_address(PROXY.parse().unwrap(), &HeaderMap::new(), &[], true), None);
    }

    #[test]
    fn mapped_addresses_are_ipv4_addresses() {
        let direct = client_address("::ffff:203.0.113.9".parse().unwrap(), &HeaderMap::new(), &trusted(), false);
        assert_eq!(direct, Some(CALLER.parse().unwrap()));
        let told = headers(&[("x-forwarded-for", "::ffff:203.0.113.9, ::ffff:10.0.0.2")]);
        let proxied = client_address("::ffff:10.0.0.1".parse().unwrap(), &told, &trusted(), true);
        assert_eq!(proxied, Some(CALLER.parse().unwrap()));
    }

    #[test]
    fn x_forwarded_for_names_the_right_most_address_that_is_no_proxy() {
        let cases: &[(&[&str], Option<&str>)] = &[
            (&[CALLER], Some(CALLER)),
            (&["203.0.113.9:51234"], Some(CALLER)),
            (&["203.0.113.9, 10.0.0.2"], Some(CALLER)),
            (&["203.0.113.9", "10.0.0.2"], Some(CALLER)),
            (&["192.0.2.1, 203.0.113.9"], Some(CALLER)),
            (&["192.0.2.1", "203.0.113.9, 10.0.0.2"], Some(CALLER)),
            (&["10.9.9.9, 203.0.113.9"], Some(CALLER)),
            (&["garbage, 203.0.113.9"], Some(CALLER)),
            (&["\u{fc}, 203.0.113.9"], None),
            (&["\u{fc}", "203.0.113.9"], Some(CALLER)),
            (&["203.0.113.9", "\u{fc}"], None),
            (&["2001:db8::9"], Some("2001:db8::9")),
            (&["[2001:db8::9]:443"], Some("2001:db8::9")),
            (&["2001:db8::9, 2001:db8:ffff::1"], Some("2001:db8::9")),
            (&["203.0.113.9, unknown"], None),
            (&["203.0.113.9, unknown, 10.0.0.2"], None),
            (&["203.0.113.9,"], None),
            (&["203.0.113.9, _hidden"], None),
            (&["203.0.113.9.example"], None),
            (&["203.0.113.09"], None),
            (&["10.0.0.2"], None),
            (&[""], None),
            (&["203.0.113.9:99999"], None),
            (&["fe80::1%eth0"], None),
        ];
        for (lines, expected) in cases {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            assert_eq!(from_proxy(&lines).as_deref(), *expected, "{lines:?}");
        }
        assert_eq!(from_proxy(&[]), None);
    }

    #[test]
    fn forwarded_names_the_right_most_address_that_is_no_proxy() {
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["for=203.0.113.9"], Some(CALLER)),
            (&["For=203.0.113.9;proto=https;by=10.0.0.1"], Some(CALLER)),
            (&["proto=https; for=\"203.0.113.9:1\""], Some(CALLER)),
            (&["for=203.0.113.9:4711"], Some(CALLER)),
            (&["for=\"[2001:db8::9]:4711\""], Some("2001:db8::9")),
            (&["for=\"[2001:DB8::9]\""], Some("2001:db8::9")),
            (&["for=\"2\\03.0.113.9\""], Some(CALLER)),
            (&["for=192.0.2.1, for=203.0.113.9, for=10.0.0.2"], Some(CALLER)),
            (&["for=192.0.2.1", "for=203.0.113.9", "for=10.0.0.2"], Some(CALLER)),
            (&["for=203.0.113.9,,"], Some(CALLER)),
            (&[",for=203.0.113.9"], Some(CALLER)),
            (&["for=203.0.113.9;"], Some(CALLER)),
            (&["for=203.0.113.9;host=\"a,b;for=192.0.2.1\""], Some(CALLER)),
            (&["for=192.0.2.1;x=\"", "for=203.0.113.9"], Some(CALLER)),
            (&["for=192.0.2.1;x=\", for=203.0.113.9"], None),
            (&["for=192.0.2.1;x=\", for=\"[2001:db8::9]\""], None),
            (&["for=203.0.113.9, for=unknown"], None),
            (&["for=203.0.113.9, for=_gazonk, for=10.0.0.2"], None),
            (&["for=203.0.113.9, proto=https"], None),
            (&["for=203.0.113.9;for=192.0.2.1"], None),
            (&["for=2001:db8::9"], None),
            (&["for=\"2001:db8::9\""], None),
            (&["for=203.0.113.9 for=192.0.2.1"], None),
            (&["for=\"203.0.113.9\"x"], None),
            (&["for = 203.0.113.9"], None),
            (&["for="], None),
            (&["="], None),
            (&["203.0.113.9"], None),
            (&[""], None),
            (&["\u{fc}"], None),
            (&["for=10.0.0.2"], None),
        ];
        for (lines, expected) in cases {
            let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            assert_eq!(from_proxy(&lines).as_deref(), *expected, "{lines:?}");
        }
    }

    #[test]
    fn two_headers_that_disagree_leave_the_address_unknown() {
        let cases: &[(&str, &str, Option<&str>)] = &[
            ("for=203.0.113.9", "203.0.113.9", Some(CALLER)),
            ("for=203.0.113.9, for=10.0.0.2", "192.0.2.1, 203.0.113.9", Some(CALLER)),
            ("for=192.0.2.1", "203.0.113.9", None),
            ("for=unknown", "203.0.113.9", None),
            ("for=203.0.113.9", "", None),
            ("for=10.0.0.2", "10.0.0.2", None),
        ];
        for (standard, custom, expected) in cases {
            let lines = [("forwarded", *standard), ("x-forwarded-for", *custom)];
            assert_eq!(from_proxy(&lines).as_deref(), *expected, "{lines:?}");
        }
    }

    #[test]
    fn an_endless_chain_of_proxies_is_unknown() {
        let chain = format!("{CALLER}{}", ", 10.0.0.2".repeat(PROXIES_MAX));
        assert_eq!(from_proxy(&[("x-forwarded-for", &chain)]), None);
        let chain = format!("{CALLER}{}", ", 10.0.0.2".repeat(PROXIES_MAX - 1));
        assert_eq!(from_proxy(&[("x-forwarded-for", &chain)]).as_deref(), Some(CALLER));
    }
}
