//! The tools of a server, as the gate knows them: what may be called, with which arguments, at what price.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::gate::arguments::Schema;
use crate::types::id::ToolId;

/// The schema of a tool's arguments. It compiled when it was stored; here it is compiled at its first use, because the
/// follower of the feed has a lease to keep and a thousand schemas may change at once.
#[derive(Debug)]
pub struct ToolSchema {
    source: Box<str>,
    compiled: OnceLock<Result<Arc<Schema>, ()>>,
}

impl ToolSchema {
    /// A schema, by its text.
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self { source: source.into(), compiled: OnceLock::new() }
    }

    /// The compiled schema.
    ///
    /// # Errors
    ///
    /// It does not compile, as may be after an upgrade: each call of its tool is to be refused.
    #[expect(
        clippy::result_unit_err,
        reason = "the one answer to each cause is a refusal; the cause was told when it was stored"
    )]
    pub fn compiled(&self) -> Result<&Arc<Schema>, ()> {
        let compile = || {
            let schema = serde_json::from_str(&self.source).map_err(|_| ())?;
            Schema::compile(&schema).map(Arc::new).map_err(|_| ())
        };
        match self.compiled.get_or_init(compile) {
            Ok(schema) => Ok(schema),
            Err(()) => Err(()),
        }
    }
}

/// A tool.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Its id, the same as long as its name stays.
    pub id: ToolId,
    /// What calls name it by.
    pub name: Box<str>,
    /// What its arguments must look like; `None`: they are not looked at.
    pub schema: Option<Arc<ToolSchema>>,
    /// What a call costs, in millionths of a dollar.
    pub price_micros: u64,
    /// It changes nothing.
    pub read_only: bool,
    /// It is limited for each agent unless said otherwise.
    pub expensive: bool,
    /// Calls a minute for each agent; `None`: as the settings say.
    pub calls_per_minute: Option<u32>,
}

/// The tools of one server, by name. A server of which no tool was registered has none, and no call of it is allowed.
#[derive(Clone, Debug, Default)]
pub struct Tools(HashMap<Box<str>, Tool>);

impl Tools {
    /// The tool of exactly that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.0.get(name)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a tool. One of the same name is replaced.
    pub fn add(&mut self, tool: Tool) {
        self.0.insert(tool.name.clone(), tool);
    }

    /// Takes over the schemas of `before` that are still the same, compiled as they are.
    pub fn keep_schemas(&mut self, before: &Self) {
        for tool in self.0.values_mut() {
            let known = before.get(&tool.name).and_then(|tool| tool.schema.as_ref());
            if let (Some(new), Some(known)) = (&mut tool.schema, known)
                && new.source == known.source
            {
                *new = Arc::clone(known);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, schema: &str) -> Tool {
        Tool {
            id: ToolId::random(),
            name: name.into(),
            schema: Some(Arc::new(ToolSchema::new(schema))),
            price_micros: 0,
            read_only: false,
            expensive: false,
            calls_per_minute: None,
        }
    }

    #[test]
    fn a_schema_that_stays_is_not_compiled_again_and_one_that_changed_is() {
        let mut before = Tools::default();
        before.add(tool("same", r#"{"type":"object"}"#));
        before.add(tool("other", r#"{"type":"object"}"#));
        let compiled = |tools: &Tools, name: &str| {
            Arc::clone(tools.get(name).and_then(|tool| tool.schema.as_ref()).unwrap().compiled().unwrap())
        };
        let (same, other) = (compiled(&before, "same"), compiled(&before, "other"));
        let mut after = Tools::default();
        after.add(tool("same", r#"{"type":"object"}"#));
        after.add(tool("other", r#"{"type":"object","required":["a"]}"#));
        after.keep_schemas(&before);
        assert!(Arc::ptr_eq(&same, &compiled(&after, "same")));
        assert!(!Arc::ptr_eq(&other, &compiled(&after, "other")));
    }

    #[test]
    fn a_schema_that_does_not_compile_is_an_answer_and_no_failure() {
        for broken in ["", "{", "7", r#"{"type":"nonsense"}"#] {
            assert!(ToolSchema::new(broken).compiled().is_err(), "{broken}");
        }
    }

    #[test]
    fn a_tool_is_found_by_its_exact_name_only() {
        let mut tools = Tools::default();
        assert!(tools.is_empty());
        tools.add(tool("search", "{}"));
        assert_eq!(tools.len(), 1);
        assert!(tools.get("search").is_some());
        assert!(["", "Search", "search ", "searc"].iter().all(|name| tools.get(name).is_none()));
    }
}
