//! Tests of the permission grammar: tables of cases, and properties.

mod calls;
mod properties;
mod scopes;
mod sets;
mod texts;

use super::*;

pub(super) fn permission(text: &str) -> Permission {
    Permission::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

pub(super) fn set(texts: &[&str]) -> Permissions {
    Permissions::parse(texts).unwrap_or_else(|why| panic!("{texts:?}: {why}"))
}

pub(super) fn tool(name: &str) -> Needed<'_> {
    needed(&Call { method: "tools/call", name: Some(name), ..Call::default() })
}

pub(super) fn resource(uri: &str) -> Needed<'_> {
    needed(&Call { method: "resources/read", uri: Some(uri), ..Call::default() })
}
