//! Sets of permissions, and how they are read and written.

use super::*;

#[test]
fn no_method_is_the_beginning_of_another() {
    let methods: Vec<&str> = grammar::NAMED_METHODS.into_iter().chain(grammar::WHOLE_METHODS).collect();
    for one in &methods {
        assert!(!methods.iter().any(|other| other != one && other.starts_with(one)), "{one}");
    }
}

#[test]
fn a_set_is_sorted_and_minimal_and_counts_what_was_given() {
    for (given, kept) in [
        (vec![], ""),
        (vec!["tools/list", "tools/call", "tools/list"], "tools/call tools/list"),
        (vec!["tools/call:b", "tools/call:a*", "tools/call:ab*", "tools/call:a"], "tools/call:a* tools/call:b"),
        (vec!["tools/call:a*", "tools/call:*"], "tools/call"),
        (vec!["tools/list", "*", "tools/call:a"], "*"),
        (
            vec!["resources/read:f:/a/../b", "resources/read:f:/a/*", "resources/read:f:/a/b*"],
            "resources/read:f:/a/* resources/read:f:/a/../b",
        ),
    ] {
        assert_eq!(set(&given).to_scope(), kept);
        assert_eq!(set(&given).is_empty(), given.is_empty());
    }
    let many = vec!["tools/list"; GRANT_PERMISSIONS_MAX];
    assert_eq!(set(&many).len(), 1);
    assert_eq!(Permissions::parse(many.iter().chain(&["tools/list"])), Err(InvalidPermissions::TooMany));
    let why = InvalidPermission::UnknownMethod;
    assert_eq!(Permissions::parse(["*", "x"]), Err(InvalidPermissions::Member { index: 1, why }));
}

#[test]
fn the_intersection_is_the_narrower_of_each_two() {
    for (one, other, both) in [
        (vec!["*"], vec!["tools/call:a*", "tools/list"], "tools/call:a* tools/list"),
        (vec!["tools/call"], vec!["tools/call:a*", "tools/list"], "tools/call:a*"),
        (vec!["tools/call:a*", "tools/call:b"], vec!["tools/call:ab*", "tools/call:b*"], "tools/call:ab* tools/call:b"),
        (vec!["tools/call:a"], vec!["tools/call:b"], ""),
        (vec!["resources/read:f:/*"], vec!["resources/read:f:/../a"], ""),
        (vec![], vec!["*"], ""),
    ] {
        assert_eq!(set(&one).intersect(&set(&other)).to_scope(), both);
        assert_eq!(set(&other).intersect(&set(&one)).to_scope(), both);
    }
}

#[test]
fn json_is_strings_and_bad_ones_say_why() {
    let read: Permissions = serde_json::from_str(r#"["tools/list","tools/call:\u00e4","tools/list"]"#).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), r#"["tools/call:%C3%A4","tools/list"]"#);
    let why = serde_json::from_str::<Permissions>(r#"["tool/call"]"#).unwrap_err().to_string();
    assert!(why.contains("unknown method"), "{why}");
    let many = serde_json::to_string(&vec!["tools/list"; GRANT_PERMISSIONS_MAX + 1]).unwrap();
    assert!(serde_json::from_str::<Permissions>(&many).unwrap_err().to_string().contains("at most 200"));
    assert!(serde_json::from_str::<Permission>("null").is_err());
}
