//! The description of the API: committed as it is served, and of a form that generators can read.
#![cfg(test)]

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

fn described() -> Value {
    serde_json::to_value(mcp_authority::http::openapi()).unwrap()
}

/// Every operation as (path, method, operation).
fn operations(api: &Value) -> Vec<(&String, &String, &Value)> {
    let paths = api["paths"].as_object().unwrap();
    let each = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(method, it)| (path, method, it)));
    each.filter(|(_, method, _)| METHODS.contains(&method.as_str())).collect()
}

/// Every `$ref` below a value.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member.as_str()) {
                    ("$ref", Some(target)) => found.push(target.to_owned()),
                    _ => references(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn the_committed_description_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/authority.json");
    let committed = std::fs::read_to_string(path).unwrap();
    let now = format!("{}\n", mcp_authority::http::openapi().to_pretty_json().unwrap());
    let first = committed.lines().zip(now.lines()).position(|(committed, now)| committed != now);
    assert!(committed == now, "openapi/authority.json is not current from line {first:?} on: run `make fix`");
}

#[test]
fn it_is_openapi_3_1() {
    assert!(described()["openapi"].as_str().unwrap().starts_with("3.1."));
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let api = described();
    let mut seen = HashSet::new();
    let operations = operations(&api);
    assert!(operations.len() > 40, "the walk found only {}", operations.len());
    for (path, method, operation) in operations {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no operationId"));
        assert!(seen.insert(id.to_owned()), "{method} {path}: `{id}` is another operation's too");
    }
}

#[test]
fn every_reference_resolves() {
    let api = described();
    let mut all = Vec::new();
    references(&api, &mut all);
    assert!(!all.is_empty());
    for target in all {
        let pointer = target.strip_prefix('#').unwrap_or_else(|| panic!("{target} leads out of the document"));
        assert!(api.pointer(pointer).is_some(), "{target} leads nowhere");
    }
}

#[test]
fn every_parameter_of_a_path_is_described() {
    let api = described();
    for (path, method, operation) in operations(&api) {
        for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let mut in_path = parameters.filter(|parameter| parameter["in"] == "path" && parameter["required"] == true);
            assert!(in_path.any(|parameter| parameter["name"] == name), "{method} {path}: `{name}` is not described");
        }
    }
}

/// Calls that a reader of the description begins with.
const WITH_EXAMPLES: [&str; 9] = [
    "create_agent",
    "create_revocation",
    "introspect",
    "issue_key",
    "register_server",
    "revoke",
    "revoke_key",
    "rotate_key",
    "token",
];

/// A schema and what it refers to, one after another, down to those that say something themselves.
fn parts<'a>(api: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let referred = schema["$ref"].as_str().and_then(|target| api.pointer(target.trim_start_matches('#')));
    let all = schema["allOf"].as_array().into_iter().flatten().chain(referred);
    std::iter::once(schema).chain(all.flat_map(|part| parts(api, part))).collect()
}

/// What is wrong with a value, by the words of its schema. A member that no part of the schema knows is wrong too.
fn faults(api: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let parts = parts(api, schema);
    let mut found: Vec<String> = Vec::new();
    for part in &parts {
        if let Some(kinds) = part.get("type").filter(|kinds| !is_of(kinds, value)) {
            found.push(format!("{place}: {value} is not of {kinds}"));
        }
        if part["enum"].as_array().is_some_and(|known| !known.contains(value)) {
            found.push(format!("{place}: {value} is not one of {}", part["enum"]));
        }
        if part["format"] == "date-time" && value.as_str().is_some_and(|text| !is_time(text)) {
            found.push(format!("{place}: {value} is no time"));
        }
        let beyond = |bound: &str, order: fn(f64, f64) -> bool| {
            part[bound].as_f64().zip(value.as_f64()).is_some_and(|(bound, value)| order(value, bound))
        };
        if beyond("minimum", |value, bound| value < bound) || beyond("maximum", |value, bound| value > bound) {
            found.push(format!("{place}: {value} is out of bounds"));
        }
        for name in part["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if value.get(name).is_none() {
                found.push(format!("{place}: no {name}"));
            }
        }
        for other in ["oneOf", "anyOf"].into_iter().filter_map(|word| part[word].as_array()) {
            if !other.iter().any(|schema| faults(api, schema, value, place).is_empty()) {
                found.push(format!("{place}: {value} is none of what it may be"));
            }
        }
        for (number, item) in value.as_array().into_iter().flatten().enumerate().filter(|_| part["items"].is_object()) {
            found.extend(faults(api, &part["items"], item, &format!("{place}/{number}")));
        }
    }
    let known: Vec<_> = parts.iter().filter_map(|part| part["properties"].as_object()).flatten().collect();
    for (name, member) in value.as_object().into_iter().flatten().filter(|_| !known.is_empty()) {
        match known.iter().find(|(known, _)| *known == name) {
            Some((_, schema)) => found.extend(faults(api, schema, member, &format!("{place}/{name}"))),
            None => found.push(format!("{place}: {name} is not described")),
        }
    }
    found
}

fn is_of(kinds: &Value, value: &Value) -> bool {
    let is = |kind: &Value| match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => false,
    };
    kinds.as_array().map_or_else(|| is(kinds), |kinds| kinds.iter().any(is))
}

fn is_time(text: &str) -> bool {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).is_ok()
}

#[test]
fn the_main_calls_have_examples_that_their_schemas_allow() {
    let api = described();
    for id in WITH_EXAMPLES {
        let all = operations(&api);
        let (.., operation) = all.iter().find(|(.., it)| it["operationId"] == id).unwrap_or_else(|| panic!("no {id}"));
        let replies = operation["responses"].as_object().unwrap().iter();
        let replies = replies.filter(|(status, _)| status.starts_with('2')).map(|(_, reply)| &reply["content"]);
        let contents =
            |content: &'_ Value| content.as_object().into_iter().flatten().map(|(_, it)| it.clone()).collect();
        let sent: Vec<Value> = contents(&operation["requestBody"]["content"]);
        let answered: Vec<Value> = replies.flat_map(|content| -> Vec<Value> { contents(content) }).collect();
        for (what, contents) in [("request", sent), ("reply", answered)] {
            let examples = contents.iter().filter(|content| content.get("example").is_some());
            let mut seen = 0;
            for content in examples {
                let found = faults(&api, &content["schema"], &content["example"], &format!("{id} {what}"));
                assert!(found.is_empty(), "{found:#?}");
                seen += 1;
            }
            assert_eq!(seen, usize::from(!contents.is_empty()), "{id}: one example of a {what}");
        }
    }
}

#[test]
fn what_a_schema_does_not_allow_is_found() {
    let api = described();
    let key = serde_json::json!({"agent_id": "agt_1", "environment": "prod"});
    let schema = serde_json::json!({"$ref": "#/components/schemas/IssueKey"});
    assert!(faults(&api, &schema, &key, "").is_empty());
    for (member, wrong) in
        [("environment", "test".into()), ("grants", "x".into()), ("expires_in_days", 0.into()), ("x", 1.into())]
    {
        let mut key = key.clone();
        key[member] = wrong;
        assert_eq!(faults(&api, &schema, &key, "").len(), 1, "{member}");
    }
    assert_eq!(faults(&api, &schema, &serde_json::json!({"environment": "prod"}), "").len(), 1);
    let time = serde_json::json!({"type": ["string", "null"], "format": "date-time"});
    assert!(
        faults(&api, &time, &"2026-01-15 09:00".into(), "").len() == 1
            && faults(&api, &time, &Value::Null, "").is_empty()
    );
}

/// Well formed, so that a reader sees the form, and so plainly made up that nobody looks for its owner.
#[test]
fn secrets_in_examples_have_the_right_form_and_say_that_they_are_examples() {
    let text = described().to_string();
    let words = || text.split(['"', ' ', '`', '\\']);
    let secrets: Vec<&str> = words().filter(|word| word.starts_with("mcp_") && word.len() > 40).collect();
    let tokens: Vec<&str> = words().filter(|word| word.starts_with("eyJ") && word.len() > 40).collect();
    assert!(secrets.len() >= 3 && tokens.len() >= 3, "{secrets:?} {tokens:?}");
    for secret in secrets {
        let body = &secret[secret.rfind('_').unwrap()..];
        assert!(mcp_authority::types::credential::Presented::parse(secret).is_some(), "{secret}");
        assert_eq!(body.matches("EXAMPLE").count(), 6, "{secret}");
    }
    for token in tokens {
        assert_eq!(token.matches("EXAMPLE").count(), 10, "{token}");
    }
}
