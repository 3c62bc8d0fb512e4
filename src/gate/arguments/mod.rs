//! Arguments of a tool call: read within bounds, checked against the tool's JSON Schema and against formats of our own.
//!
//! What a tenant wrote (the schema) and what a language model wrote (the arguments) meet here, in memory and without
//! waiting. So both are bounded: a schema when it is compiled, arguments when they are read, and the work of one check
//! by a budget of steps that is counted before the work is done ([`Schema::check`]).

mod clean;
#[cfg(test)]
mod corpus;
mod cost;
mod formats;
mod node;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod walk;

pub use read::{BYTES_MAX, read};
pub use schema::Schema;

/// Levels of arrays and objects in arguments at most, and in a schema.
pub const DEPTH_MAX: usize = 32;

/// Why a schema does not compile, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at `{pointer}`: {detail}")]
pub struct Invalid {
    /// The place in the schema, a JSON Pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong there, for the one who wrote the schema.
    pub detail: String,
}

impl Invalid {
    fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// What a check of arguments found.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked {
    /// They fit as they are.
    Fits,
    /// They fit once these stand in their place: a text was cleaned.
    Cleaned(serde_json::Value),
    /// They do not fit; one fault at least.
    Refused(Vec<Fault>),
}

/// One reason why arguments are refused. It never repeats what the arguments hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The place in the arguments, a JSON Pointer (RFC 6901); names of members are the caller's.
    pub pointer: String,
    /// A stable name of the rule: the keyword of JSON Schema, or one of ours.
    pub code: &'static str,
    /// What the rule asks for.
    pub detail: String,
}

impl Fault {
    fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }
}
