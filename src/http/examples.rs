//! Examples in the description of the API: `examples.json` holds calls as they were sent and answered, with ids and secrets
//! that open nothing.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{Content, OpenApi, RefOr};

const EXAMPLES: &str = include_str!("examples.json");

/// A call of an operation.
#[derive(Deserialize)]
struct Example {
    request: Value,
    status: u16,
    /// Absent: the reply has no body.
    reply: Option<Value>,
}

/// Puts each example into the operation of its name.
pub(super) fn add(api: &mut OpenApi) {
    // A test reads the file as this does, and finds every example in the description.
    let examples: BTreeMap<String, Example> = serde_json::from_str(EXAMPLES).unwrap_or_default();
    for operation in api.paths.paths.values_mut().flat_map(operations) {
        let example = operation.operation_id.as_ref().and_then(|id| examples.get(id));
        if let Some(example) = example {
            example.put(operation);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

impl Example {
    fn put(&self, operation: &mut Operation) {
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            body.content.values_mut().for_each(|content| set(content, &self.request));
        }
        let reply = operation.responses.responses.get_mut(&self.status.to_string());
        if let (Some(RefOr::T(response)), Some(reply)) = (reply, &self.reply) {
            response.content.values_mut().for_each(|content| set(content, reply));
        }
    }
}

fn set(content: &mut RefOr<Content>, example: &Value) {
    if let RefOr::T(content) = content {
        content.example = Some(example.clone());
    }
}
