//! What calls need, and which permission allows them.

use super::*;

#[test]
fn names_are_compared_in_wire_form_and_never_decoded() {
    for (held, name, allowed) in [
        ("tools/call:Größe prüfen", "Größe prüfen", true),
        ("tools/call:Größe prüfen", "Gr%c3%b6%c3%9fe%20pr%c3%bcfen", true),
        ("tools/call:Gr%C3%B6%C3%9Fe%20*", "Größe prüfen", true),
        ("tools/call:a b", "a%20b", true),
        ("tools/call:a%2520b", "a b", false),
        ("tools/call:a%2520b", "a%2520b", true),
        ("tools/call:%61", "a", false),
        ("tools/call:a%2A", "a*", true),
        ("tools/call:a%2A", "ab", false),
        ("tools/call:a*", "a*", true),
        ("tools/call:a*", "a", true),
        ("tools/call:a*", "A", false),
        ("tools/call:a*", "b", false),
        ("tools/call:a", "*", false),
        ("tools/call:*", "*", true),
        ("tools/call:a:b", "a:b", true),
        ("tools/call:a", "a:b", false),
        ("tools/call:a", "a ", false),
        ("tools/call:a*", "", false),
        ("tools/call", "", true),
        ("tools/call:docs/*", "docs/../x", true),
        ("prompts/get:a", "a", false),
        ("tools/list", "a", false),
        ("*", "anything at all", true),
    ] {
        assert_eq!(set(&[held]).allows(&tool(name)), allowed, "{held} with {name}");
    }
}

#[test]
fn a_uri_that_a_server_could_read_as_another_needs_its_equal() {
    let ambiguous = [
        "file:///docs/../etc/passwd",
        "file:///docs/..",
        "file:///docs/.",
        "file:///docs/./a",
        "file:///docs/%2e%2E/etc/passwd",
        "file:///docs/.%2e/etc/passwd",
        "file:///docs/%2E",
        "file:///docs/..?query",
        "file:///docs/..#part",
        "file:///docs/..;/etc",
        "file:///docs/a%2fb",
        "file:///docs/a%2Fb",
        "file:///docs/a%5cb",
        "file:///docs/a\\b",
        "file:///docs/a%252Fb",
        "file:///docs/%25252e%252e/etc",
        "file:///docs/a\nb",
        "file:///docs/a%00",
        "file:///docs/a\u{7f}",
        "file:///docs/a\u{85}b",
    ];
    for uri in ambiguous {
        for held in ["resources/read:file:///docs/*", "resources/read:f*", "tools/call", "resources/read:file:///docs/"]
        {
            assert!(!set(&[held]).allows(&resource(uri)), "{held} with {uri:?}");
        }
        for held in ["*", "resources/read", &format!("resources/read:{uri}")] {
            assert!(set(&[held]).allows(&resource(uri)), "{held} with {uri:?}");
        }
    }
    assert!(!set(&["resources/read:file:*"]).allows(&resource("file:../secret")));
    for uri in [
        "file:///docs/",
        "file:///docs/a/b",
        "file:///docs/..a",
        "file:///docs/a..",
        "file:///docs/...",
        "file:///docs/.hidden",
        "file:///docs//a",
        "file:///docs/a%20b",
        "file:///docs/100%",
        "file:///docs/%252",
        "file:///docs/ä",
        "file:///docs/*",
        "file:///docs/{path}",
    ] {
        assert!(set(&["resources/read:file:///docs/*"]).allows(&resource(uri)), "{uri:?}");
    }
    assert!(!set(&["resources/read:file:///docs/*"]).allows(&resource("FILE:///docs/a")));
    assert!(!set(&["resources/read:file:///docs/*"]).allows(&resource("file:///docs")));
}

/// One row for each way a call can need something: the call and its needs.
fn rows() -> Vec<(Call<'static>, Vec<&'static str>)> {
    let method = |method| Call { method, ..Call::default() };
    let named = |method| Call { method, name: Some("a*"), ..Call::default() };
    let with_uri = |method| Call { method, uri: Some("file:///a"), ..Call::default() };
    let listen = |subscriptions| Call { method: "subscriptions/listen", subscriptions, ..Call::default() };
    let mut rows = vec![
        (named("tools/call"), vec!["tools/call:a%2A"]),
        (named("prompts/get"), vec!["prompts/get:a%2A"]),
        (with_uri("resources/read"), vec!["resources/read:file:///a"]),
        (with_uri("resources/subscribe"), vec!["resources/read:file:///a"]),
        (with_uri("resources/unsubscribe"), vec!["resources/read:file:///a"]),
        (listen(vec![]), vec!["subscriptions/listen"]),
        (listen(vec!["a", "b"]), vec!["subscriptions/listen", "resources/read:a", "resources/read:b"]),
        (completion(Reference::Prompt("a")), vec!["prompts/get:a"]),
        (completion(Reference::Resource("file:///{path}")), vec!["resources/read:file:///{path}"]),
        (method("completion/complete"), vec!["*"]),
        (method("tools/call"), vec!["tools/call"]),
        (method("resources/read"), vec!["resources/read"]),
    ];
    rows.extend(grammar::WHOLE_METHODS.map(|whole| (method(whole), vec![whole])));
    let free = ["initialize", "ping", "server/discover", "notifications/initialized", "notifications/a/b"];
    rows.extend(free.map(|free| (method(free), vec![])));
    let other = ["", "tool/call", "Tools/List", "roots/list", "sampling/createMessage", "notifications/", "*", "pings"];
    rows.extend(other.map(|other| (method(other), vec!["*"])));
    rows
}

fn completion(reference: Reference<'static>) -> Call<'static> {
    Call { method: "completion/complete", reference: Some(reference), ..Call::default() }
}

#[test]
fn each_method_needs_what_the_table_says() {
    for (call, needs) in rows() {
        let needed = needed(&call);
        let written: Vec<String> = needed.needs().iter().map(ToString::to_string).collect();
        assert_eq!(written, needs, "{call:?}");
        assert_eq!(Permissions::default().allows(&needed), needs.is_empty(), "{call:?}");
        assert!(set(&["*"]).allows(&needed), "{call:?}");
        assert!(set(&needs).allows(&needed), "{needs:?}");
        for missing in &needs {
            let rest: Vec<&str> = needs.iter().filter(|need| need != &missing).copied().collect();
            assert!(!set(&rest).allows(&needed), "{needs:?} without {missing}");
        }
    }
}

#[test]
fn a_template_is_compared_as_the_text_it_is() {
    let files = set(&["resources/read:file:///*"]);
    assert!(files.allows(&needed(&completion(Reference::Resource("file:///{path}")))));
    assert!(!files.allows(&needed(&completion(Reference::Prompt("file:///{path}")))));
}
