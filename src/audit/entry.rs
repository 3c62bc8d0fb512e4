//! One entry, and how its bytes are made.

use serde_json::{Map, Value};

use crate::types::caller::Caller;
use crate::types::id::EventId;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}

impl Outcome {
    /// Its name in the entry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

/// What happened. Built up, then written once; its id is made here.
#[derive(Clone, Debug)]
pub struct Entry(Map<String, Value>);

impl Entry {
    /// `action` is `NOUN.VERB` in the past: `key.rotated`.
    #[must_use]
    pub fn new(by: &Caller, action: &str) -> Self {
        let mut entry = Self(Map::new())
            .with("id", EventId::random().as_str())
            .with("actor", by.actor.as_str())
            .with("action", action)
            .with("result", Outcome::Done.as_str());
        if let Some(address) = by.address {
            entry = entry.with("client_ip", address.to_string());
        }
        if let Some(request) = &by.request_id {
            entry = entry.with("request_id", request.as_str());
        }
        entry
    }

    /// On what it was done.
    #[must_use]
    pub fn on(self, target: &str) -> Self {
        self.with("target", target)
    }

    /// In which project.
    #[must_use]
    pub fn project(self, project: &str) -> Self {
        self.with("project", project)
    }

    /// About which agent, beside the target.
    #[must_use]
    pub fn agent(self, id: &str) -> Self {
        self.with("agent_id", id)
    }

    /// About which key, beside the target.
    #[must_use]
    pub fn key(self, id: &str) -> Self {
        self.with("key_id", id)
    }

    /// About which server, beside the target.
    #[must_use]
    pub fn server(self, id: &str) -> Self {
        self.with("server_id", id)
    }

    /// It was refused, with this code.
    #[must_use]
    pub fn refused(self, code: &str) -> Self {
        self.with("result", Outcome::Refused.as_str()).with("code", code)
    }

    /// More about it. Never a secret, never an argument in the clear.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        self.0.get("id").and_then(Value::as_str).unwrap_or_default()
    }

    /// The bytes that are stored and hashed.
    #[must_use]
    pub fn to_body(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}
