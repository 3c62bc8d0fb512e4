//! Permissions in people's words.

use crate::types::permission::{Permission, Permissions, ServerScope};

/// One line of what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct Line {
    /// In words.
    pub(super) text: String,
    /// As it is checked.
    pub(super) exactly: Vec<String>,
}

/// What is asked for, line by line: the server's own words for those of its scopes that were named, ours for the rest.
pub(in crate::http) fn lines(asked: &Permissions, named: &[&ServerScope]) -> Vec<Line> {
    let in_words =
        |permission: &Permission| Line { text: sentence(permission), exactly: vec![permission.as_str().to_owned()] };
    let by_scope = |scope: &&ServerScope| Line {
        text: if scope.description().is_empty() { scope.name().to_owned() } else { scope.description().to_owned() },
        exactly: scope.permissions().iter().map(|permission| permission.as_str().to_owned()).collect(),
    };
    let named_too = |permission: &&Permission| named.iter().any(|scope| scope.permissions().covers(permission));
    let rest = asked.iter().filter(|permission| !named_too(permission));
    named.iter().map(by_scope).chain(rest.map(in_words)).collect()
}

/// A permission as a sentence. Names stand in it as they are written, never decoded: what is read is what is compared.
pub(in crate::http) fn sentence(permission: &Permission) -> String {
    let text = permission.as_str();
    let (method, pattern) = text.split_once(':').map_or((text, None), |(method, pattern)| (method, Some(pattern)));
    match (method, pattern) {
        ("*", _) => "Do everything that this server offers, now and later.".to_owned(),
        ("tools/call", pattern) => thing("Use", "tool", "whose name begins with", pattern),
        ("prompts/get", pattern) => thing("Use", "prompt", "whose name begins with", pattern),
        ("resources/read", pattern) => thing("Read", "resource", "whose address begins with", pattern),
        ("tools/list", _) => "See which tools there are.".to_owned(),
        ("prompts/list", _) => "See which prompts there are.".to_owned(),
        ("resources/list", _) => "See which resources there are.".to_owned(),
        ("resources/templates/list", _) => "See which kinds of resources there are.".to_owned(),
        ("logging/setLevel", _) => "Choose how much the server logs.".to_owned(),
        ("tasks/get", _) => "See how its tasks are going.".to_owned(),
        ("tasks/update", _) => "Give its tasks what they wait for.".to_owned(),
        ("tasks/cancel", _) => "Cancel its tasks.".to_owned(),
        ("tasks/result", _) => "Read the results of its tasks.".to_owned(),
        ("tasks/list", _) => "See which tasks there are.".to_owned(),
        ("subscriptions/listen", _) => "Be told when something on the server changes.".to_owned(),
        _ => format!("Send the request “{text}”."),
    }
}

fn thing(verb: &str, noun: &str, beginning: &str, pattern: Option<&str>) -> String {
    match pattern.map(|pattern| pattern.strip_suffix('*').ok_or(pattern)) {
        None => format!("{verb} every {noun}."),
        Some(Ok(begin)) => format!("{verb} every {noun} {beginning} “{begin}”."),
        Some(Err(name)) => format!("{verb} the {noun} “{name}”."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        sentence(&Permission::parse(text).unwrap())
    }

    #[test]
    fn every_permission_has_words_of_its_own() {
        assert_eq!(of("*"), "Do everything that this server offers, now and later.");
        assert_eq!(of("tools/call"), "Use every tool.");
        assert_eq!(of("tools/call:search_*"), "Use every tool whose name begins with “search_”.");
        assert_eq!(of("tools/call:send mail"), "Use the tool “send%20mail”.");
        assert_eq!(
            of("resources/read:file:///docs/*"),
            "Read every resource whose address begins with “file:///docs/”."
        );
        assert_eq!(of("prompts/get:a"), "Use the prompt “a”.");
        for method in [
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
            "subscriptions/listen",
        ] {
            assert!(!of(method).contains('“'), "{method} has no words");
        }
    }

    #[test]
    fn named_scopes_are_told_in_the_servers_words_and_the_rest_in_ours() {
        let scope = ServerScope::new(
            "notes:read".to_owned(),
            "Read your notes".to_owned(),
            Permissions::parse(["tools/call:read_*", "resources/read:note://*"]).unwrap(),
        )
        .unwrap();
        let asked = Permissions::parse(["tools/call:read_*", "resources/read:note://*", "tools/call:send"]).unwrap();
        let lines = lines(&asked, &[&scope]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].text, "Read your notes");
        assert_eq!(lines[0].exactly, ["resources/read:note://*", "tools/call:read_*"]);
        assert_eq!(lines[1].text, "Use the tool “send”.");
    }
}
