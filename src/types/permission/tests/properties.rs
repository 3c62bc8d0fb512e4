//! Properties of covering, matching, sets and wire form, on random names made to be awkward.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Names with much of what the grammar treats in a special way.
fn name() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a", "b", "A", "/", "..", ".", "%", "2", "5", "e", "E", "f", "%2e", "%2F", "%25", "*", ":", " ", "ä", "\\",
        "\n", ";", "?", "%C2", "%85",
    ]);
    vec(part, 0..6).prop_map(|parts| parts.concat())
}

fn any_permission() -> impl Strategy<Value = Permission> {
    let named = prop::sample::select(grammar::NAMED_METHODS.to_vec());
    let whole = prop::sample::select(vec!["*", "tools/call", "resources/read", "tools/list"]);
    let narrowed = (named, name(), any::<bool>()).prop_filter_map("no permission", |(method, name, star)| {
        let name = name.replace('*', "%2a");
        Permission::parse(&format!("{method}:{name}{}", if star { "*" } else { "" })).ok()
    });
    prop_oneof![1 => whole.prop_map(permission), 6 => narrowed]
}

fn any_set() -> impl Strategy<Value = Vec<Permission>> {
    vec(any_permission(), 0..8)
}

/// The matching rule written a second time, slowly: encode each byte, look for each bad segment.
fn naive(held: &Permission, method: &str, name: &str) -> bool {
    let mut encoded: String = name
        .bytes()
        .map(|byte| match byte {
            b'*' | b'"' | b'\\' | 0..=0x20 | 0x7F.. => format!("%{byte:02X}"),
            _ => char::from(byte).to_string(),
        })
        .collect();
    let mut at = 0;
    while at < encoded.len() {
        let escape = encoded.get(at..at + 3).filter(|text| text.starts_with('%'));
        match escape.filter(|text| text[1..].bytes().all(|digit| digit.is_ascii_hexdigit())) {
            Some(escape) => {
                let upper = escape.to_uppercase();
                encoded.replace_range(at..at + 3, &upper);
                at += 3;
            }
            None => at += 1,
        }
    }
    let once = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let segments = |text: &str| text.split(['/', ':', ';', '?', '#']).any(|part| matches!(&*once(part), b"." | b".."));
    let escapes = ["%2F", "%5C", "%7F", "%0", "%1", "%C2%8", "%C2%9"];
    let bad = |text: &str| segments(text) || escapes.iter().any(|escape| text.contains(escape));
    let mut unfolded = encoded.clone();
    let mut exact_only = false;
    for _ in 0..8 {
        exact_only |= bad(&unfolded) || bad(&unfolded.to_uppercase());
        unfolded = unfolded.replace("%25", "%");
    }
    let text = held.as_str();
    match text.strip_suffix('*') {
        _ if text == "*" || text == method => true,
        Some(prefix) => {
            format!("{method}:{encoded}").starts_with(prefix) && !(exact_only && method == "resources/read")
        }
        None => text == format!("{method}:{encoded}"),
    }
}

fn call<'a>(method: &'a str, name: &'a str) -> Needed<'a> {
    needed(&Call { method, name: Some(name), uri: Some(name), ..Call::default() })
}

/// The names that show the difference between a permission and any that does not cover it.
fn witnesses(permission: &Permission) -> Vec<(String, String)> {
    let split = permission.literal().split_once(':');
    let (method, literal) = split.unwrap_or((permission.literal(), ""));
    let rests: &[&str] = if permission.is_wildcard() || split.is_none() { &["x", "y"] } else { &[""] };
    rests.iter().map(|rest| (method.to_owned(), format!("{literal}{rest}"))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parsing_never_panics_and_is_idempotent(text in ".{0,40}", name in name()) {
        for text in [text.clone(), format!("tools/call:{text}"), format!("resources/read:{name}")] {
            if let Ok(parsed) = Permission::parse(&text) {
                prop_assert!(parsed.as_str().bytes().all(wire::is_scope_byte));
                prop_assert_eq!(Permission::parse(parsed.as_str()), Ok(parsed.clone()));
            }
            drop(requested(&text, &[]));
        }
        let written = wire::wire_form(&name);
        prop_assert!(written.bytes().all(|byte| wire::is_scope_byte(byte) && byte != b'*'));
        prop_assert_eq!(wire::wire_form(&written), written.as_ref());
    }

    #[test]
    fn matching_agrees_with_the_naive_matcher(held in any_permission(), name in name()) {
        let literal = held.literal().split_once(':').map_or("", |(_, literal)| literal);
        for (method, start) in grammar::NAMED_METHODS.iter().flat_map(|method| [(*method, ""), (*method, literal)]) {
            let name = format!("{start}{name}");
            let allowed = Permissions::from(held.clone()).allows(&call(method, &name));
            prop_assert_eq!(allowed, naive(&held, method, &name), "{} with {}:{}", held, method, name);
        }
    }

    #[test]
    fn covering_is_an_order_and_means_to_allow_no_less(
        a in any_permission(), b in any_permission(), c in any_permission(), name in name(),
    ) {
        prop_assert!(a.covers(&a));
        prop_assert!(!(a.covers(&b) && b.covers(&c)) || a.covers(&c));
        prop_assert_eq!(a.covers(&b) && b.covers(&a), a == b);
        let (broad, narrow) = (Permissions::from(a.clone()), Permissions::from(b.clone()));
        if a.covers(&b) {
            for method in grammar::NAMED_METHODS {
                let call = call(method, &name);
                prop_assert!(!narrow.allows(&call) || broad.allows(&call));
            }
        } else if b.as_str() != "*" {
            let shown = witnesses(&b).iter().any(|(method, name)| {
                narrow.allows(&call(method, name)) && !broad.allows(&call(method, name))
            });
            prop_assert!(shown, "{} does not cover {}, and nothing shows it", a, b);
        }
    }

    #[test]
    fn a_narrowed_pattern_allows_a_subset(held in any_permission(), more in name(), rest in name()) {
        let longer = format!("{}{}*", held.literal(), more.replace('*', "%2A"));
        if let Ok(narrowed) = Permission::parse(&longer) && held.is_wildcard() {
            // An escape that the added text completes can change the letters before it.
            prop_assume!(narrowed.literal().starts_with(held.literal()));
            prop_assert!(held.covers(&narrowed));
            let (method, literal) = narrowed.literal().split_once(':').unwrap_or((narrowed.literal(), ""));
            let name = format!("{literal}{rest}");
            let call = call(method, &name);
            let (narrow, broad) = (Permissions::from(narrowed.clone()), Permissions::from(held));
            prop_assert!(!narrow.allows(&call) || broad.allows(&call));
        }
    }

    #[test]
    fn sets_allow_what_their_members_do_and_intersections_what_both_do(
        ours in any_set(), theirs in any_set(), name in name(),
    ) {
        let (one, other): (Permissions, Permissions) =
            (ours.iter().cloned().collect(), theirs.iter().cloned().collect());
        let (both, either) = (one.intersect(&other), one.union(&other));
        prop_assert!(one.covers_all(&both) && other.covers_all(&both));
        prop_assert!(either.covers_all(&one) && either.covers_all(&other));
        prop_assert_eq!(&both, &other.intersect(&one));
        prop_assert_eq!(&one.intersect(&one), &one);
        for kept in &one {
            prop_assert!(one.iter().all(|member| member == kept || !member.covers(kept)));
        }
        let mut names: Vec<(String, String)> = ours.iter().chain(&theirs).flat_map(witnesses).collect();
        names.extend(grammar::NAMED_METHODS.map(|method| (method.to_owned(), name.clone())));
        for (method, name) in &names {
            let call = call(method, name);
            let by_member = |members: &[Permission]| members.iter().any(|member| {
                Permissions::from(member.clone()).allows(&call)
            });
            prop_assert_eq!(one.allows(&call), by_member(&ours));
            prop_assert_eq!(either.allows(&call), by_member(&ours) || by_member(&theirs));
            prop_assert_eq!(both.allows(&call), by_member(&ours) && by_member(&theirs));
        }
    }

    #[test]
    fn what_a_scope_says_is_what_was_held(held in any_set()) {
        let held: Permissions = held.into_iter().collect();
        if !held.is_empty() {
            prop_assert_eq!(requested(&held.to_scope(), &[]), Ok(held));
        }
    }
}
