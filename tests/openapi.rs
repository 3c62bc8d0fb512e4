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
