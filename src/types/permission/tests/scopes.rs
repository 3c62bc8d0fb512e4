//! A server's own scopes, and the scope of requests and tokens.

use super::*;

fn server_scope(name: &str, permissions: &[&str]) -> Result<ServerScope, InvalidServerScope> {
    ServerScope::new(name.into(), "Reads your notes".into(), set(permissions))
}

#[test]
fn a_server_scope_is_a_token_that_is_not_like_a_permission() {
    use InvalidServerScope as E;
    let longest = "n".repeat(SERVER_SCOPE_NAME_BYTES_MAX);
    for name in ["notes:read", "mcp", "user", "mcp:read", "pingdom", "https://x.example/notes.read", &longest] {
        assert!(server_scope(name, &["*"]).is_ok(), "{name}");
    }
    let long = "n".repeat(SERVER_SCOPE_NAME_BYTES_MAX + 1);
    for (name, why) in [
        ("", E::NotAToken),
        ("a b", E::NotAToken),
        ("a\"", E::NotAToken),
        ("a\\", E::NotAToken),
        ("ä", E::NotAToken),
        (long.as_str(), E::NameTooLong),
        ("*", E::NamedLikeAPermission),
        ("*:a", E::NamedLikeAPermission),
        ("tools/call", E::NamedLikeAPermission),
        ("tools/call:a", E::NamedLikeAPermission),
        ("tools/call*", E::NamedLikeAPermission),
        ("tools/list:a", E::NamedLikeAPermission),
        ("resources/subscribe", E::NamedLikeAPermission),
        ("notifications/a", E::NamedLikeAPermission),
        ("ping", E::NamedLikeAPermission),
        ("ping:a", E::NamedLikeAPermission),
    ] {
        assert_eq!(server_scope(name, &["*"]), Err(why), "{name}");
    }
    assert_eq!(server_scope("notes", &[]), Err(E::NoPermissions));
    for text in ["a\nb".to_owned(), "a".repeat(SERVER_SCOPE_DESCRIPTION_BYTES_MAX + 1)] {
        assert_eq!(ServerScope::new("a".into(), text, set(&["*"])), Err(E::Description));
    }
    let json = r#"{"name":"notes:read","description":"Reads","permissions":["tools/call:read_*"]}"#;
    let read: ServerScope = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), json);
    for wrong in [json.replace("notes:read", "tools/call"), json.replace('}', r#","extra":1}"#)] {
        assert!(serde_json::from_str::<ServerScope>(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_scopes_of_a_server_are_bounded_together() {
    use InvalidServerScope as E;
    let named = |count: usize, width: usize| -> Vec<ServerScope> {
        (0..count).map(|number| server_scope(&format!("n{number:0width$}"), &["tools/list"]).unwrap()).collect()
    };
    assert_eq!(ServerScope::check_all(&named(SERVER_SCOPES_MAX, 3)), Ok(()));
    assert_eq!(ServerScope::check_all(&named(SERVER_SCOPES_MAX + 1, 3)), Err(E::TooMany));
    assert_eq!(ServerScope::check_all(&named(50, 100)), Err(E::NamesTooLong));
    let same = vec![server_scope("a", &["*"]).unwrap(); 2];
    assert_eq!(ServerScope::check_all(&same), Err(E::Duplicate));
    let tools: Vec<String> = (0..GRANT_PERMISSIONS_MAX).map(|number| format!("tools/call:t{number:03}")).collect();
    let full = Permissions::parse(&tools).unwrap();
    let many: Vec<ServerScope> = (0..=SERVER_SCOPES_PERMISSIONS_MAX / GRANT_PERMISSIONS_MAX)
        .map(|number| ServerScope::new(format!("n{number}"), String::new(), full.clone()).unwrap())
        .collect();
    assert_eq!(ServerScope::check_all(&many), Err(E::TooManyPermissions));
}

#[test]
fn scopes_are_shown_when_covered_and_expanded_when_asked_for() {
    let scopes = [
        server_scope("notes:read", &["tools/call:read_*", "tools/list"]).unwrap(),
        server_scope("mcp", &["tools/list"]).unwrap(),
    ];
    for (held, shown) in [
        (vec!["*"], "* notes:read mcp"),
        (vec!["tools/call", "tools/list"], "tools/call tools/list notes:read mcp"),
        (vec!["tools/call:read_a", "tools/list"], "tools/call:read_a tools/list mcp"),
        (vec!["tools/call"], "tools/call"),
        (vec![], ""),
    ] {
        assert_eq!(scope_string(&set(&held), &scopes), shown);
    }
    for (asked, permissions) in [
        ("notes:read", "tools/call:read_* tools/list"),
        ("mcp mcp tools/list", "tools/list"),
        ("tools/call:read_a notes:read", "tools/call:read_* tools/list"),
        ("tools/call:Gr%c3%b6", "tools/call:Gr%C3%B6"),
        ("* mcp", "*"),
    ] {
        assert_eq!(requested(asked, &scopes).unwrap().to_scope(), permissions, "{asked}");
    }
    let why = InvalidPermission::UnknownMethod;
    for (asked, error) in [
        ("", InvalidScope::Empty),
        (" mcp", InvalidScope::Malformed),
        ("mcp ", InvalidScope::Malformed),
        ("mcp  mcp", InvalidScope::Malformed),
        ("mcp\tmcp", InvalidScope::Malformed),
        ("tools/call:ä", InvalidScope::Malformed),
        ("mcp notes:write", InvalidScope::Unknown { position: 2, why }),
        ("mcp x a", InvalidScope::Unknown { position: 2, why }),
        ("MCP", InvalidScope::Unknown { position: 1, why }),
    ] {
        assert_eq!(requested(asked, &scopes), Err(error), "{asked:?}");
    }
    assert_eq!(requested(&"a".repeat(SCOPE_BYTES_MAX + 1), &scopes), Err(InvalidScope::TooLong));
    // RFC 6749 §5.2 on error_description: no `"`, no `\`, printable ASCII.
    let said = requested("x", &scopes).unwrap_err().to_string();
    assert!(said.bytes().all(|byte| byte == b' ' || wire::is_scope_byte(byte)), "{said}");
}
