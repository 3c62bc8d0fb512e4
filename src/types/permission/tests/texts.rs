//! What is a permission, how it is kept, and what it covers.

use super::*;

#[test]
fn a_permission_is_kept_in_wire_form_however_it_was_typed() {
    for (typed, wire) in [
        ("*", "*"),
        ("tools/call", "tools/call"),
        ("tools/call:*", "tools/call"),
        ("prompts/get:*", "prompts/get"),
        ("resources/read:*", "resources/read"),
        ("tools/call:search_*", "tools/call:search_*"),
        ("tools/call:Größe prüfen", "tools/call:Gr%C3%B6%C3%9Fe%20pr%C3%BCfen"),
        ("tools/call:Gr%c3%b6%C3%9fe%20pr%C3%BCfen", "tools/call:Gr%C3%B6%C3%9Fe%20pr%C3%BCfen"),
        ("tools/call:a%2a", "tools/call:a%2A"),
        ("tools/call:a%2a*", "tools/call:a%2A*"),
        ("tools/call:100%", "tools/call:100%"),
        ("tools/call:%zz%e", "tools/call:%zz%e"),
        ("tools/call:%%aé", "tools/call:%%a%C3%A9"),
        ("tools/call:%252e", "tools/call:%252e"),
        ("tools/call:a,b'c\"d\\e\u{7f}\0", "tools/call:a,b'c%22d%5Ce%7F%00"),
        ("tools/call:a:b", "tools/call:a:b"),
        ("tools/call::", "tools/call::"),
        ("resources/read:file:///docs/*", "resources/read:file:///docs/*"),
        ("resources/read:file:///{path}", "resources/read:file:///{path}"),
        ("resources/read:file:///a/../b", "resources/read:file:///a/../b"),
        ("resources/read:file:///docs/..*", "resources/read:file:///docs/..*"),
        ("subscriptions/listen", "subscriptions/listen"),
        ("tasks/result", "tasks/result"),
    ] {
        assert_eq!(permission(typed).as_str(), wire, "{typed}");
    }
}

#[test]
fn what_is_no_permission_is_refused_with_the_reason() {
    use InvalidPermission as E;
    for (typed, why) in [
        ("", E::Empty),
        ("tool/call", E::UnknownMethod),
        ("Tools/Call", E::UnknownMethod),
        (" tools/call", E::UnknownMethod),
        ("tools/call ", E::UnknownMethod),
        ("tools%2Fcall", E::UnknownMethod),
        ("notes:read", E::UnknownMethod),
        (":x", E::UnknownMethod),
        ("tools/call2", E::UnknownMethod),
        ("sampling/createMessage", E::UnknownMethod),
        ("notifications/", E::UnknownMethod),
        ("tools/*", E::StarInMethod),
        ("tools/call*", E::StarInMethod),
        ("**", E::StarInMethod),
        ("*:x", E::StarInMethod),
        ("resources/subscribe", E::NeedsAnother("`resources/read`")),
        ("resources/unsubscribe:file:///a", E::NeedsAnother("`resources/read`")),
        ("completion/complete", E::NeedsAnother("`prompts/get` or `resources/read`")),
        ("ping", E::NeedsNone),
        ("initialize", E::NeedsNone),
        ("notifications/cancelled", E::NeedsNone),
        ("tools/list:*", E::PatternNotTaken),
        ("tasks/get:", E::PatternNotTaken),
        ("subscriptions/listen:file:///a", E::PatternNotTaken),
        ("tools/call:", E::EmptyPattern),
        ("tools/call:a*b", E::StarInside),
        ("tools/call:**", E::StarInside),
        ("tools/call:*a", E::StarInside),
        ("resources/read:file:///docs/../*", E::MatchesNothing),
        ("resources/read:file:///a%2Fb*", E::MatchesNothing),
        ("resources/read:file:///a\\b*", E::MatchesNothing),
        ("resources/read:file:///a\n*", E::MatchesNothing),
    ] {
        assert_eq!(Permission::parse(typed), Err(why), "{typed:?}");
    }
}

#[test]
fn a_permission_of_512_bytes_in_wire_form_is_the_longest() {
    let head = "tools/call:";
    let room = PERMISSION_BYTES_MAX - head.len();
    assert!(Permission::parse(&format!("{head}{}", "a".repeat(room))).is_ok());
    assert!(Permission::parse(&format!("{head}{}*", "a".repeat(room - 1))).is_ok());
    for long in ["a".repeat(room + 1), " ".repeat(room / 3 + 1), "ä".repeat(room / 6 + 1), "a".repeat(1 << 20)] {
        assert_eq!(Permission::parse(&format!("{head}{long}")), Err(InvalidPermission::TooLong));
    }
    // A name has no such bound: the wildcard stands for any rest.
    let name = format!("search_{}", "x".repeat(4 * PERMISSION_BYTES_MAX));
    assert!(set(&["tools/call:search_*"]).allows(&tool(&name)));
}

#[test]
fn a_permission_covers_what_is_within_it() {
    for (broad, narrow) in [
        ("*", "*"),
        ("*", "tools/list"),
        ("*", "resources/read:file:///a/../b"),
        ("tools/call", "tools/call:a*"),
        ("tools/call", "tools/call:a:b"),
        ("tools/call:a*", "tools/call:a"),
        ("tools/call:a*", "tools/call:ab*"),
        ("tools/call:a*", "tools/call:a%2A"),
        ("resources/read:file:///docs/*", "resources/read:file:///docs/a/b"),
        ("resources/read", "resources/read:file:///a/../b"),
        ("resources/read:file:///a/../b", "resources/read:file:///a/../b"),
    ] {
        assert!(permission(broad).covers(&permission(narrow)), "{broad} must cover {narrow}");
    }
    for (one, other) in [
        ("tools/call", "*"),
        ("tools/call", "tools/list"),
        ("tools/call:a", "tools/call"),
        ("tools/call:a*", "tools/call"),
        ("tools/call:a", "tools/call:a*"),
        ("tools/call:a", "tools/call:a:b"),
        ("tools/call:ab*", "tools/call:a*"),
        ("tools/call:a*", "tools/call:A"),
        ("tools/call:a*", "prompts/get:a"),
        ("tools/call:a%2A", "tools/call:ab"),
        ("resources/read:file:///docs/*", "resources/read:file:///docs/../etc/passwd"),
        ("resources/read:file:///docs/*", "resources/read:file:///docs/%2e%2E/etc/passwd"),
    ] {
        assert!(!permission(one).covers(&permission(other)), "{one} must not cover {other}");
    }
    // Only one member counts: two halves do not make a whole.
    let halves = set(&["tools/call:a*", "tools/call:b*"]);
    assert!(!halves.covers(&permission("tools/call")));
}
