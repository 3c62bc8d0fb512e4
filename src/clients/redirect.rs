//! Redirect URIs: which may be registered, and when one that is asked for is one that is registered.

use url::{Host, Url};

/// Bytes of a redirect URI at most.
pub const REDIRECT_URI_BYTES_MAX: usize = 1_024;

/// Hosts of this machine, as they are written in redirect URIs.
const LOOPBACK_HOSTS: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

/// What is wrong with a redirect URI; `None` when it may be registered.
///
/// RFC 8252 §7: https, http to this machine, or a scheme of the application's own. The last must hold a dot (§7.1),
/// as names that somebody owns do, which `javascript`, `data` and their kin do not.
#[must_use]
pub fn mistake(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.len() > REDIRECT_URI_BYTES_MAX {
        return Some("must have 1 to 1024 bytes");
    }
    // Browsers mend these silently, each in its own way. RFC 3986 §2 has none of them.
    if text.bytes().any(|byte| !byte.is_ascii_graphic() || b"\\\"<>^`{|}".contains(&byte)) {
        return Some("must hold only what may stand in a URI");
    }
    if text.contains('#') {
        return Some("must have no fragment");
    }
    let Ok(url) = Url::parse(text) else { return Some("must be an absolute URI") };
    if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
        return Some("must name no user");
    }
    match url.scheme() {
        "https" if !authority(text).is_empty() => None,
        "http" if Loopback::of(text).is_some() => None,
        "https" | "http" => Some("must be https, or http to 127.0.0.1, [::1] or localhost"),
        own if own.contains('.') && text.get(own.len()..).is_some_and(|rest| rest.starts_with(":/")) => None,
        _ => Some("must be https, or http to this machine, or have a scheme with a dot and a path"),
    }
}

fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default()
}

/// Whether `asked` is `registered`: the same text (RFC 9700 §2.1), but that a loopback URI may have any port, and an
/// empty path there is `/` (RFC 8252 §7.3; the same for `localhost`, because clients in the field use it).
#[must_use]
pub fn is_registered(registered: &str, asked: &str) -> bool {
    registered == asked || Loopback::of(registered).is_some_and(|known| Loopback::of(asked) == Some(known))
}

/// Whether a redirect leads to this machine, where anybody's program may be waiting.
#[must_use]
pub fn leads_to_loopback(uri: &str) -> bool {
    Url::parse(uri).is_ok_and(|url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    })
}

/// A loopback URI without its port. It is cut from the text, not parsed: nothing is mended on the way.
#[derive(PartialEq, Eq)]
struct Loopback<'a> {
    host: &'static str,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Loopback<'a> {
    fn of(uri: &'a str) -> Option<Self> {
        let rest = uri.strip_prefix("http://")?;
        let (authority, _) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let after = rest.strip_prefix(authority)?;
        let host = LOOPBACK_HOSTS.into_iter().find(|host| {
            let port = authority.strip_prefix(host);
            port.is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        })?;
        let (path, query) = after.split_once('?').map_or((after, None), |(path, query)| (path, Some(query)));
        Some(Self { host, path: if path.is_empty() { "/" } else { path }, query })
    }
}

fn is_port(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    digits && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_may_be_registered() {
        for good in [
            "https://claude.ai/api/mcp/auth_callback",
            "https://app.example:8443/cb?tenant=1",
            "https://app.example",
            "http://localhost/callback",
            "http://localhost:3000/",
            "http://127.0.0.1:33418",
            "http://[::1]:1/cb",
            "com.example.app:/oauth2redirect",
            "com.example.app://callback",
        ] {
            assert_eq!(mistake(good), None, "{good}");
        }
    }

    #[test]
    fn attack_21_what_may_not_be_registered() {
        let long = format!("https://app.example/{}", "a".repeat(REDIRECT_URI_BYTES_MAX));
        for bad in [
            "",
            "/callback",
            "//app.example/cb",
            "app.example/cb",
            "https:app.example/cb",
            "https:///cb",
            "https://",
            "http://app.example/cb",
            "http://127.0.0.2/cb",
            "http://127.1/cb",
            "http://LOCALHOST/cb",
            "http://127.0.0.1.app.example/cb",
            "http://localhost.app.example/cb",
            "http://0.0.0.0/cb",
            "http://[::ffff:127.0.0.1]/cb",
            "https://app.example/cb#",
            "https://app.example/cb#x",
            "https://user@app.example/cb",
            "https://user:pass@app.example/cb",
            "https://@app.example/cb",
            "http://localhost@app.example/cb",
            "https://app.example\\@evil.example/cb",
            "https://app.example/c b",
            " https://app.example/cb",
            "https://app.example/cb\n",
            "https://app.example/\u{e4}",
            "https://\u{430}pp.example/cb",
            "javascript:alert(1)",
            "javascript://app.example/%0aalert(1)",
            "java.script:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "blob:https://app.example/x",
            "about:blank",
            "myapp://callback",
            "myapp:/callback",
            "urn:ietf:wg:oauth:2.0:oob",
            &long,
        ] {
            assert!(mistake(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_loopback_redirect_has_any_port_and_nothing_else_is_lenient() {
        for (registered, asked) in [
            ("http://localhost/callback", "http://localhost:51234/callback"),
            ("http://127.0.0.1:33418", "http://127.0.0.1:33418/"),
            ("http://127.0.0.1:33418", "http://127.0.0.1:1"),
            ("http://127.0.0.1/", "http://127.0.0.1:65535"),
            ("http://[::1]/cb?a=1", "http://[::1]:8080/cb?a=1"),
            ("http://localhost:3000/cb", "http://localhost/cb"),
            ("https://vscode.dev/redirect", "https://vscode.dev/redirect"),
            ("com.example.app:/cb", "com.example.app:/cb"),
        ] {
            assert!(is_registered(registered, asked), "{registered} {asked}");
        }
    }

    #[test]
    fn attack_21_what_is_not_registered_does_not_pass_for_it() {
        for (registered, asked) in [
            ("http://localhost/callback", "http://127.0.0.1/callback"),
            ("http://127.0.0.1/callback", "http://[::1]/callback"),
            ("http://localhost/callback", "http://localhost/callback/"),
            ("http://localhost/callback", "http://localhost/Callback"),
            ("http://localhost/callback", "http://localhost/callback/../x"),
            ("http://localhost/callback", "http://localhost/x/..;/callback"),
            ("http://localhost/callback", "http://localhost/%63allback"),
            ("http://localhost/callback", "http://localhost/callback?x"),
            ("http://localhost/callback", "http://localhost/callback?"),
            ("http://localhost/callback", "http://localhost/callback#"),
            ("http://localhost/callback", "http://localhost:0/callback"),
            ("http://localhost/callback", "http://localhost:080/callback"),
            ("http://localhost/callback", "http://localhost:+80/callback"),
            ("http://localhost/callback", "http://localhost:65536/callback"),
            ("http://localhost/callback", "http://localhost:/callback"),
            ("http://localhost/callback", "http://localhost:80@evil.example/callback"),
            ("http://localhost/callback", "http://localhost:80\\@evil.example/callback"),
            ("http://localhost/callback", "http://localhost.evil.example/callback"),
            ("http://localhost/callback", "http://localhost./callback"),
            ("http://localhost/callback", "http://LOCALHOST/callback"),
            ("http://localhost/callback", "HTTP://localhost/callback"),
            ("http://localhost/callback", "https://localhost/callback"),
            ("http://localhost/callback", "http://localhost\t/callback"),
            ("http://127.0.0.1/callback", "http://127.1/callback"),
            ("http://127.0.0.1/callback", "http://2130706433/callback"),
            ("http://127.0.0.1/callback", "http://127.0.0.2/callback"),
            ("http://127.0.0.1:33418", "http://127.0.0.1:33418//"),
            ("https://localhost:1/cb", "https://localhost:2/cb"),
            ("https://app.example/cb", "https://app.example:443/cb"),
            ("https://app.example/cb", "https://app.example/cb/"),
            ("https://app.example/cb", "https://APP.example/cb"),
            ("https://app.example", "https://app.example/"),
            ("https://app.example/cb", "https://app.example/cb?"),
            ("https://app-example/cb", "https://app.example/cb"),
            ("https://app.example/cb", "https://app.example/cb\\..\\x"),
            ("com.example.app:/cb", "com.example.app:/cb/"),
        ] {
            assert!(!is_registered(registered, asked), "{registered} {asked}");
        }
    }

    /// URIs near the rules: hosts, ports and paths that mean the same to some readers and not to others.
    fn near() -> impl Strategy<Value = String> {
        let scheme = prop_oneof![Just("http://"), Just("https://"), Just("HTTP://"), Just("http:/"), Just("http://a@")];
        let host = prop_oneof![
            Just("localhost"),
            Just("127.0.0.1"),
            Just("[::1]"),
            Just("127.1"),
            Just("LOCALHOST"),
            Just("localhost."),
            Just("localhost.evil.example"),
            Just("[0:0:0:0:0:0:0:1]"),
            Just("app.example"),
            Just("0x7f000001"),
        ];
        let port = prop_oneof![
            Just(String::new()),
            Just(":".to_owned()),
            Just(":0".to_owned()),
            Just(":00080".to_owned()),
            (1_u32..70_000).prop_map(|port| format!(":{port}")),
            Just(":1@evil.example".to_owned()),
        ];
        let rest = prop_oneof![Just(String::new()), Just("/".to_owned()), "[/?#]?[a-b./%2;?#\\\\@:]{0,6}"];
        (scheme, host, port, rest).prop_map(|(scheme, host, port, rest)| format!("{scheme}{host}{port}{rest}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Told by a parser that shares nothing with the comparison: the port is all that may differ.
        #[test]
        fn only_the_port_of_a_loopback_uri_may_differ(registered in near(), asked in near()) {
            if registered != asked && mistake(&registered).is_none() && is_registered(&registered, &asked) {
                let (known, other) = (Url::parse(&registered).unwrap(), Url::parse(&asked).unwrap());
                prop_assert_eq!(known.scheme(), "http");
                prop_assert!(leads_to_loopback(&registered) && leads_to_loopback(&asked));
                prop_assert_eq!(mistake(&asked), None);
                let mut moved = other.clone();
                moved.set_port(known.port()).unwrap();
                prop_assert_eq!(moved, known);
            }
        }

        #[test]
        fn every_uri_is_registered_as_itself_and_matching_is_mutual(one in near(), other in near()) {
            prop_assert!(is_registered(&one, &one));
            prop_assert_eq!(is_registered(&one, &other), is_registered(&other, &one));
        }

        #[test]
        fn any_port_of_a_loopback_uri_matches(host in 0_usize..3, path in "(/[a-z/]{0,8})?", from in 1_u16.., to in 1_u16..) {
            let host = LOOPBACK_HOSTS[host];
            let (from, to) = (format!("http://{host}:{from}{path}"), format!("http://{host}:{to}{path}"));
            prop_assert_eq!(mistake(&from), None);
            let portless = format!("http://{host}{path}");
            prop_assert!(is_registered(&from, &to) && is_registered(&portless, &to));
        }

        #[test]
        fn a_changed_character_is_another_uri(at in 0_usize..30, with in "[ -~]") {
            let registered = "https://app.example/cb?a=1&bcd";
            let mut asked = registered.to_owned();
            asked.replace_range(at..=at, &with);
            prop_assert_eq!(is_registered(registered, &asked), registered == asked);
        }
    }
}
