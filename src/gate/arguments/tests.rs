//! What schemas may be, what a check may cost, and what holds for any JSON at all.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::cost::{self, Over};
use super::formats::Format;
use super::{Checked, Schema, read};

fn schema(value: &Value) -> Schema {
    Schema::compile(value).unwrap_or_else(|invalid| panic!("{value}: {invalid}"))
}

/// The pointer and the words of what does not compile.
fn refused(value: &Value) -> (String, String) {
    let invalid = Schema::compile(value).map(|_| panic!("compiles: {value}")).unwrap_err();
    (invalid.pointer, invalid.detail)
}

fn fault(schema: &Schema, arguments: &Value) -> (String, &'static str) {
    match schema.check(arguments) {
        Checked::Refused(faults) => (faults[0].pointer.clone(), faults[0].code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fault_names_its_place_its_keyword_and_nothing_of_the_arguments() {
    let people = schema(&json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "to": {"type": "array", "items": {"type": "string", "format": "email"}, "maxItems": 2, "uniqueItems": true},
            "at": {"type": "string", "format": "date-time"},
            "id": {"type": "string", "format": "uuid"},
            "count": {"type": "integer", "maximum": 9}
        },
        "required": ["to"],
        "additionalProperties": false
    }));
    assert_eq!(people.check(&json!({"to": ["ann@example.com"], "at": "2026-01-01T00:00:00Z"})), Checked::Fits);
    for (arguments, place, code) in [
        (json!({}), "", "required"),
        (json!({"to": ["SECRET"]}), "/to/0", "format"),
        (json!({"to": ["a@b.example", "a@b.example"]}), "/to", "uniqueItems"),
        (json!({"to": [], "at": "SECRET"}), "/at", "format"),
        (json!({"to": [], "id": "SECRET"}), "/id", "format"),
        (json!({"to": [], "SECRET": 1}), "", "additionalProperties"),
        (json!({"to": "SECRET"}), "/to", "type"),
        (json!({"to": [], "count": 10}), "/count", "maximum"),
        (json!(["SECRET"]), "", "not_an_object"),
        (json!(null), "", "not_an_object"),
    ] {
        assert_eq!(fault(&people, &arguments), (place.to_owned(), code), "{arguments}");
        assert!(!format!("{:?}", people.check(&arguments)).contains("SECRET"), "{arguments}");
    }
}

#[test]
fn a_schema_that_does_not_compile_is_refused_with_its_place() {
    let deep = (0..40).fold(json!({}), |inner, _| json!({"not": inner}));
    let many: Map<String, Value> = (0..1_000).map(|index| (format!("p{index}"), json!(true))).collect();
    for (schema, place) in [
        (json!(1), ""),
        (json!({"type": "strin"}), "/type"),
        (json!({"type": "x".repeat(5_000)}), "/type"),
        (json!({"properties": []}), "/properties"),
        (json!({"properties": {"a": {"minimum": "x"}}}), "/properties/a/minimum"),
        (json!({"properties": {"a/b": 7}}), "/properties/a~1b"),
        (json!({"$schema": "http://json-schema.org/draft-07/schema#"}), "/$schema"),
        (json!({"$ref": "https://example.com/schema.json"}), "/$ref"),
        (json!({"$ref": "file:///etc/passwd"}), "/$ref"),
        (json!({"$ref": "#/$defs/none"}), "/$ref"),
        (json!({"$ref": "#/default", "default": {"format": "html"}}), "/$ref"),
        (json!({"properties": {"a": {"$id": "https://example.com/"}}}), "/properties/a"),
        (json!({"unevaluatedProperties": false}), "/unevaluatedProperties"),
        (json!({"properties": {"a": {"$dynamicRef": "#x"}}}), "/properties/a/$dynamicRef"),
        (json!({"items": {"pattern": "(a)\\1"}}), "/items/pattern"),
        (json!({"items": {"pattern": "(?=a)a"}}), "/items/pattern"),
        (json!({"items": {"pattern": "((a{1000}){1000}){1000}"}}), "/items/pattern"),
        (json!({"items": {"pattern": "(a{1000}){20}"}}), "/items/pattern"),
        (json!({"pattern": "a".repeat(1_001)}), "/pattern"),
        (json!({"patternProperties": {"(": true}}), "/patternProperties/("),
        (json!({"properties": {"a": {"format": "sql-readonly"}}}), "/properties/a/format"),
        (json!({"properties": {"a": {"format": "regex"}}}), "/properties/a/format"),
        (json!({"properties": {"a": {"format": "html"}}}), "/properties/a/format"),
        (json!({"type": ["string", "object"], "format": "html"}), "/format"),
        (json!({"type": "string", "x-mcpa": {}}), "/x-mcpa"),
        (json!({"$ref": "#"}), ""),
        (json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}}), ""),
        (deep, ""),
        (json!({"description": "x".repeat(70_000)}), ""),
        (json!({"properties": many}), "/properties/p999"),
    ] {
        let (pointer, detail) = refused(&schema);
        assert_eq!(pointer, place, "{detail}");
        assert!(!detail.is_empty() && detail.len() < 1_000);
    }
}

#[test]
fn an_option_that_is_not_known_or_not_valid_is_refused() {
    for (format, options) in [
        ("sql-read-only", json!({"row_limit": 1})),
        ("sql-read-only", json!({"dialect": "oracle"})),
        ("sql-read-only", json!({"max_rows": 0})),
        ("sql-read-only", json!({"functions": ["a b"]})),
        ("email", json!({"domains": []})),
        ("email", json!({"domains": ["*"]})),
        ("safe-filename", json!({"root": "/"})),
        ("safe-path", json!({"root": "relative"})),
        ("safe-path", json!({"root": "/a/../b"})),
        ("safe-path", json!({"root": "/"})),
        ("url", json!({"hosts": ["https://example.com/"]})),
        ("url", json!({"schemes": ["javascript"]})),
        ("url", json!({"schemes": []})),
        ("plain-text", json!({"max_chars": 0})),
        ("plain-text", json!({"max_chars": -1})),
        ("html", json!({"on_change": "ignore"})),
        ("html", json!([])),
    ] {
        let own = json!({"properties": {"a": {"type": "string", "format": format, "x-mcpa": options}}});
        assert_eq!(refused(&own).0, "/properties/a/x-mcpa", "{own}");
    }
}

#[test]
fn cleaned_html_stands_in_the_place_of_what_was_sent() {
    let html = json!({"type": "string", "format": "html", "maxLength": 30});
    let page = schema(&json!({
        "properties": {"title": {"type": "string"}, "body": {"$ref": "#/$defs/html"}},
        "additionalProperties": {"type": "array", "prefixItems": [true], "items": {"allOf": [{"$ref": "#/$defs/html"}]}},
        "$defs": {"html": html}
    }));
    let sent = json!({"title": "<x>", "body": "<p onclick=x>a</p>", "more": ["<x>", "<b>b</b>", "<script>c</script>"]});
    let want = json!({"title": "<x>", "body": "<p>a</p>", "more": ["<x>", "<b>b</b>", ""]});
    assert_eq!(page.check(&sent), Checked::Cleaned(want.clone()));
    assert_eq!(page.check(&want), Checked::Fits);
    // What cleaning made longer than the schema lets it be does not pass.
    assert_eq!(fault(&page, &json!({"body": "<p>&<p>&<p>&<p>&<p>&"})), ("/body".to_owned(), "maxLength"));
}

#[test]
fn a_format_that_cleans_never_stands_where_it_may_not_count() {
    let html = json!({"type": "string", "format": "html"});
    for unsure in [
        json!({"anyOf": [html.clone(), {"type": "null"}]}),
        json!({"not": html.clone()}),
        json!({"if": true, "then": html.clone()}),
        json!({"contains": html.clone()}),
        json!({"patternProperties": {"^a": html.clone()}}),
        json!({"propertyNames": html.clone()}),
        json!({"patternProperties": {"^a": true}, "additionalProperties": html.clone()}),
        json!({"oneOf": [{"properties": {"a": {"$ref": "#/$defs/h"}}}], "$defs": {"h": html.clone()}}),
    ] {
        assert!(refused(&unsure).1.contains("on_change"), "{unsure}");
    }
    let refuses = json!({"type": "string", "format": "html", "x-mcpa": {"on_change": "refuse"}});
    let own = schema(&json!({"properties": {"a": {"anyOf": [refuses, {"const": "<x>"}]}}}));
    assert_eq!(own.check(&json!({"a": "<b>x</b>"})), Checked::Fits);
    assert_eq!(own.check(&json!({"a": "<x>"})), Checked::Fits);
    assert_eq!(fault(&own, &json!({"a": "<y>"})).1, "anyOf");
}

#[test]
fn a_recursive_schema_follows_its_arguments() {
    let filter = schema(&json!({
        "$ref": "#/$defs/filter",
        "$defs": {"filter": {"oneOf": [
            {"type": "object", "properties": {"and": {"type": "array", "items": {"$ref": "#/$defs/filter"}}},
             "required": ["and"], "additionalProperties": false},
            {"type": "object", "properties": {"not": {"$ref": "#/$defs/filter"}},
             "required": ["not"], "additionalProperties": false},
            {"type": "object", "properties": {"is": {"type": "string"}}, "required": ["is"], "additionalProperties": false}
        ]}}
    }));
    let deep = (0..14).fold(json!({"is": "x"}), |inner, _| json!({"and": [inner, {"not": {"is": "y"}}]}));
    assert_eq!(filter.check(&deep), Checked::Fits);
    let wrong = (0..14).fold(json!({"is": 1}), |inner, _| json!({"and": [inner]}));
    assert_eq!(fault(&filter, &wrong).1, "oneOf");
}

/// A schema whose work doubles with each level of the arguments, or each step of a chain.
#[test]
fn what_a_check_would_cost_is_counted_before_it_is_made() {
    let twice = schema(&json!({
        "allOf": [{"properties": {"a": {"$ref": "#"}}}, {"additionalProperties": {"$ref": "#"}}]
    }));
    let deep = (0..30).fold(json!({}), |inner, _| json!({"a": inner}));
    assert_eq!(fault(&twice, &deep).1, "too_much_work");
    let chain: Map<String, Value> = (0..16)
        .map(|at| {
            let next = json!({"$ref": format!("#/$defs/d{}", at + 1)});
            (format!("d{at}"), json!({"anyOf": [next.clone(), next.clone(), next.clone(), next]}))
        })
        .chain([("d16".to_owned(), json!({"required": ["x"]}))])
        .collect();
    let (_, detail) = refused(&json!({"$ref": "#/$defs/d0", "$defs": chain}));
    assert!(detail.contains("in a row"), "{detail}");

    let unique = schema(&json!({"properties": {"a": {"uniqueItems": true}, "b": {"pattern": "^(a|b)*c$"}}}));
    let nested: Vec<Value> = (0..1_000).map(|index| json!([index])).collect();
    assert_eq!(fault(&unique, &json!({"a": nested})).1, "too_much_work");
    let plain: Vec<Value> = (0..10_000).map(|index| json!(index)).collect();
    assert_eq!(unique.check(&json!({"a": plain})), Checked::Fits);
    assert_eq!(fault(&unique, &json!({"b": "a".repeat(1_000_000)})).1, "too_much_work");
    assert_eq!(fault(&unique, &json!({"b": "a".repeat(10_000)})).1, "pattern");

    let pages = schema(&json!({"properties": {"a": {"items": {"type": "string", "format": "html"}}}}));
    assert_eq!(fault(&pages, &json!({"a": vec!["<b>x</b>"; 5_000]})).1, "too_much_work");
    assert_eq!(pages.check(&json!({"a": vec!["<b>x</b>"; 500]})), Checked::Fits);

    let listed: Vec<Value> = (0..5_000).map(Value::from).collect();
    let choice = schema(&json!({"properties": {"a": {"items": {"enum": listed}}}}));
    assert_eq!(fault(&choice, &json!({"a": vec![4_999; 5_000]})).1, "too_much_work");
    assert_eq!(choice.check(&json!({"a": [4_999]})), Checked::Fits);
}

#[test]
fn the_deepest_that_is_allowed_fits_on_the_stack_of_a_worker() {
    let work = || {
        let chain: Map<String, Value> = (0..7)
            .map(|at| (format!("d{at}"), json!({"anyOf": [{"$ref": format!("#/$defs/d{}", at + 1)}]})))
            .chain([("d7".to_owned(), json!({"additionalProperties": {"$ref": "#"}}))])
            .collect();
        let own = schema(&json!({"$ref": "#/$defs/d0", "$defs": chain}));
        let deep = (0..31).fold(json!({}), |inner, _| json!({"a": inner}));
        assert_eq!(own.check(&deep), Checked::Fits);
        let sql = schema(&json!({"properties": {"q": {"type": "string", "format": "sql-read-only"}}}));
        for query in ["1".to_owned() + &"+1".repeat(190), "(".repeat(20) + "1" + &")".repeat(20)] {
            assert_eq!(sql.check(&json!({"q": format!("SELECT {query}")})), Checked::Fits);
        }
        let unions = format!("SELECT 1{}", " UNION SELECT 1".repeat(190));
        assert_eq!(sql.check(&json!({"q": unions})), Checked::Fits);
        for bomb in ["(".repeat(10_000), "SELECT ".to_owned() + &"(SELECT ".repeat(1_500), "[".repeat(9_000)] {
            assert_eq!(fault(&sql, &json!({"q": bomb})).1, "format");
        }
    };
    // Workers of the runtime have 2 MiB.
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_large_text_costs_what_its_size_allows_and_no_more() {
    let own = schema(&json!({"properties": {"a": {"type": "string"}}}));
    assert_eq!(own.check(&json!({"a": "x".repeat(1_000_000)})), Checked::Fits);
    assert_eq!(fault(&own, &json!({"a": "x".repeat(20_000_000)})).1, "too_much_work");
    let deep = (0..40).fold(json!({}), |inner, _| json!({"a": inner}));
    assert_eq!(fault(&own, &deep).1, "too_deep");
    assert_eq!(fault(&own, &json!({"b": vec![0; 300_000]})).1, "too_much_work");
}

/// Any JSON, with the words of schemas among its texts.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "type",
        "properties",
        "items",
        "$ref",
        "#",
        "#/$defs/a",
        "$defs",
        "a",
        "anyOf",
        "not",
        "format",
        "html",
        "string",
        "email",
        "x-mcpa",
        "pattern",
        "^a*$",
        "object",
        "array",
        "required",
        "if",
        "then",
        "contains",
        "uniqueItems",
        "<b>x",
        "SELECT 1",
        "../x",
        "https://example.com/",
        "additionalProperties",
        "prefixItems",
        "enum",
        "const",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let name = prop_oneof![word.clone().prop_map(str::to_owned), ".{0,5}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn format(name: &str, options: Value) -> Format {
    Format::compile(name, options).unwrap()
}

proptest! {
    #[test]
    fn nothing_panics_whatever_the_schema_and_the_arguments(own in any_json(), arguments in any_json()) {
        if let Ok(schema) = Schema::compile(&own) {
            let checked = schema.check(&arguments);
            if let Checked::Cleaned(cleaned) = checked {
                prop_assert_eq!(schema.check(&cleaned), Checked::Fits);
            }
        }
    }

    #[test]
    fn reading_never_panics_and_keeps_what_it_takes(bytes in prop::collection::vec(any::<u8>(), 0..200), own in any_json()) {
        let _ = read(&bytes);
        let text = own.to_string();
        if let Ok(value) = read(text.as_bytes()) {
            prop_assert_eq!(value, own);
        }
    }

    #[test]
    fn no_text_panics_a_format(text in "\\PC{0,80}|[ -~\n]{0,120}") {
        for name in Format::NAMES {
            let _ = format(name, json!({})).check(&text);
        }
    }

    #[test]
    fn cleaned_html_is_a_fixed_point(text in "(<(/?)(b|p|a|svg|math|style|script|table|td|mtext|!--|noscript)( [a-z]+=[\"'x]*)?>|[a-z&<>\"'`=/-]){0,20}") {
        let html = format("html", json!({}));
        if let Ok(Some(cleaned)) = html.clean(&text) {
            prop_assert_eq!(html.clean(&cleaned), Ok(None));
            prop_assert!(!cleaned.contains("<script") && !cleaned.contains("<svg"));
        }
    }

    #[test]
    fn a_safe_path_stays_below_its_root(path in "(/srv/files/|/srv/|[a-c./\\\\~%]){1,12}") {
        let root = std::path::Path::new("/srv/files");
        if format("safe-path", json!({"root": "/srv/files"})).check(&path).is_ok() {
            let mut walked = std::path::PathBuf::new();
            for part in root.join(&path).components() {
                if part == std::path::Component::ParentDir { walked.pop(); } else { walked.push(part); }
                // It never leaves the root on the way either.
                prop_assert!(walked.starts_with(root) || root.starts_with(&walked));
            }
            prop_assert!(walked.starts_with(root) && walked != root);
        }
    }
}

#[test]
fn the_count_is_of_steps_and_not_of_time() {
    let own = json!({"properties": {"a": {"items": {"type": "integer", "minimum": 0}}}});
    let mut walked = own.clone();
    let engine = super::walk::Engine { knows: |_| true, compiles: |_| true };
    let plan = super::walk::plan(&mut walked, engine).unwrap();
    let of = |count: usize| cost::steps(&plan, &json!({"a": vec![1; count]}));
    let (ten, twenty, thirty) = (of(10).unwrap(), of(20).unwrap(), of(30).unwrap());
    assert_eq!(thirty - twenty, twenty - ten, "each item costs the same");
    assert_eq!(of(1_000_000), Err(Over::Steps));
}
