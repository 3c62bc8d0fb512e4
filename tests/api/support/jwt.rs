//! Session tokens taken apart, and put together wrongly.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcp_authority::signing::Purpose;
use mcp_authority::types::alg::Alg;
use serde_json::{Value, json};

use super::Node;

/// One part of a token, decoded.
pub fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

pub fn header(token: &str) -> Value {
    part(token, 0)
}

pub fn claims(token: &str) -> Value {
    part(token, 1)
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of these parts; the signature is made over the text of the others.
pub fn assemble(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

/// A token that this node itself signed: what somebody with a stolen signing key could make.
pub fn sign(node: &Node, typ: &str, claims: &Value) -> String {
    let signers = node.app.feed.signers();
    let signer = signers.current(Purpose::Session, Alg::EdDsa, node.app.live.now()).expect("a signing key");
    signer.sign(typ, claims).expect("signed")
}

/// The same claims with one of them changed.
pub fn with(claims: &Value, member: &str, value: impl Into<Value>) -> Value {
    let mut changed = claims.clone();
    changed[member] = value.into();
    changed
}

/// The names of the members of an object, sorted.
pub fn members(object: &Value) -> Vec<String> {
    let mut names: Vec<String> = object.as_object().expect("an object").keys().cloned().collect();
    names.sort_unstable();
    names
}

/// Whether a null stands anywhere in it.
pub fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(members) => members.values().any(has_null),
        _ => false,
    }
}

/// Asserts which members an object has, and that none is null.
pub fn assert_members(object: &Value, wanted: &[&str]) {
    let mut wanted: Vec<&str> = wanted.to_vec();
    wanted.sort_unstable();
    assert_eq!(members(object), wanted, "{object}");
    assert!(!has_null(object), "{object}");
}

/// What an inactive credential is answered with.
pub fn inactive() -> Value {
    json!({"active": false})
}
