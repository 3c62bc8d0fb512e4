//! A compiled schema: made once, when a tool is registered or loaded; asked for each call.

use std::fmt;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, Keyword, PatternOptions, ValidationError, Validator};
use serde_json::{Value, json};

use super::cost::{self, Over, STEPS_MAX};
use super::formats::Format;
use super::node::Plan;
use super::walk::{self, Engine, VENDOR, is_too_deep};
use super::{Checked, DEPTH_MAX, Fault, Invalid, clean};

/// Bytes of a schema at most, written without white space.
const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// Bytes of one pattern at most.
const PATTERN_BYTES_MAX: usize = 1_000;

/// Bytes that a compiled pattern may take, and the cache of its automaton.
const PATTERN_COMPILED_MAX: usize = 256 * 1024;

/// A check above this many steps is answered without the place of the fault: to find it the work is done again.
const EXPLAINED_STEPS_MAX: u64 = 20_000;

/// Characters of the detail of a fault or of an invalid schema at most.
const DETAIL_CHARS_MAX: usize = 300;

/// The keywords that can be the code of a fault.
const CODES: [&str; 29] = [
    "additionalProperties",
    "anyOf",
    "allOf",
    "const",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxContains",
    "maxItems",
    "maximum",
    "maxLength",
    "maxProperties",
    "minContains",
    "minItems",
    "minimum",
    "minLength",
    "minProperties",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "propertyNames",
    "required",
    "type",
    "uniqueItems",
];

/// A schema that compiled. What it holds is immutable, shared between threads, and never waits.
pub struct Schema {
    validator: Validator,
    plan: Plan,
    cleans: bool,
}

impl fmt::Debug for Schema {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Schema").field("subschemas", &self.plan.nodes.len()).finish_non_exhaustive()
    }
}

impl Schema {
    /// Compiles a schema of JSON Schema 2020-12 with our formats. Nothing outside of the document is read.
    ///
    /// # Errors
    ///
    /// It is too large or too deep, is no schema, leads out of itself, uses what we do not support, or holds a pattern
    /// that a linear engine cannot run; with the place.
    pub fn compile(schema: &Value) -> Result<Self, Invalid> {
        if is_too_deep(schema) {
            return Err(Invalid::new("", format!("at most {DEPTH_MAX} levels")));
        }
        if schema.to_string().len() > SCHEMA_BYTES_MAX {
            return Err(Invalid::new("", format!("at most {SCHEMA_BYTES_MAX} bytes")));
        }
        let mut rewritten = schema.clone();
        let plan = walk::plan(&mut rewritten, Engine { knows, compiles })?;
        jsonschema::draft202012::meta::validate(schema).map_err(|error| invalid(&error))?;
        let formats: Vec<Option<Arc<Format>>> = plan.nodes.iter().map(|node| node.format.clone()).collect();
        let cleans = formats.iter().flatten().any(|format| format.cleans());
        let validator = options()
            .with_keyword(VENDOR, move |_, id, _| {
                let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
                let format = id.and_then(|id| formats.get(id)).cloned().flatten();
                let format = format.ok_or_else(|| ValidationError::custom("not a format"))?;
                Ok(Box::new(Own(format)))
            })
            .build(&rewritten)
            .map_err(|error| invalid(&error))?;
        Ok(Self { validator, plan, cleans })
    }

    /// Checks arguments; a call without any has `{}`.
    ///
    /// The work is bounded by steps that are counted before it is done: each subschema applied to each value costs one
    /// and what it reads of its own text and of the value's. Arguments that would cost more than 200,000 are refused
    /// (`too_much_work`), whatever they hold. The result of cleaning is checked like the arguments themselves.
    #[must_use]
    pub fn check(&self, arguments: &Value) -> Checked {
        if !arguments.is_object() {
            return Checked::Refused(vec![Fault::new("", "not_an_object", "arguments are an object")]);
        }
        if let Err(fault) = self.fits(arguments) {
            return Checked::Refused(vec![fault]);
        }
        if !self.cleans {
            return Checked::Fits;
        }
        match clean::clean(&self.plan, arguments) {
            Ok(None) => Checked::Fits,
            Ok(Some(cleaned)) => match self.fits(&cleaned) {
                Ok(()) => Checked::Cleaned(cleaned),
                Err(fault) => Checked::Refused(vec![fault]),
            },
            Err(detail) => Checked::Refused(vec![Fault::new("", "format", detail)]),
        }
    }

    fn fits(&self, arguments: &Value) -> Result<(), Fault> {
        let steps = cost::steps(&self.plan, arguments).map_err(|over| match over {
            Over::Steps => Fault::new("", "too_much_work", format!("at most {STEPS_MAX} steps")),
            Over::Depth => Fault::new("", "too_deep", format!("at most {DEPTH_MAX} levels")),
        })?;
        if self.validator.is_valid(arguments) {
            return Ok(());
        }
        let error = (steps <= EXPLAINED_STEPS_MAX).then(|| self.validator.validate(arguments).err()).flatten();
        Err(error
            .map_or_else(|| Fault::new("", "schema", "the arguments do not fit the schema"), |error| fault(&error)))
    }
}

fn options() -> jsonschema::ValidationOptions<'static> {
    let engine = PatternOptions::regex().size_limit(PATTERN_COMPILED_MAX).dfa_size_limit(PATTERN_COMPILED_MAX);
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_pattern_options(engine)
}

/// Whether a format is one of the standard that is checked.
fn knows(format: &str) -> bool {
    options().is_known_format(Draft::Draft202012, format)
}

/// Whether a pattern runs in the linear engine within its bounds.
fn compiles(pattern: &str) -> bool {
    pattern.len() <= PATTERN_BYTES_MAX && options().build(&json!({ "pattern": pattern })).is_ok()
}

/// A format of ours as a keyword of the validator.
struct Own(Arc<Format>);

impl<'i> Keyword<'i> for Own {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        match value {
            Value::String(text) => self.0.check(text).map_err(ValidationError::custom),
            // `type` stands beside the format, so all else that comes here is null where null is allowed.
            _ => Ok(()),
        }
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        Keyword::validate(self, value).is_ok()
    }
}

fn invalid(error: &ValidationError<'_>) -> Invalid {
    Invalid::new(error.instance_path().as_str(), cut(&error.masked().to_string()))
}

fn fault(error: &ValidationError<'_>) -> Fault {
    let keyword = error.kind().keyword();
    let keyword = if keyword == VENDOR { "format" } else { keyword };
    let code = CODES.into_iter().find(|code| *code == keyword).unwrap_or("schema");
    let detail = match error.kind() {
        ValidationErrorKind::AdditionalProperties { .. } => "a member that is not known here".to_owned(),
        ValidationErrorKind::PropertyNames { .. } => "the name of a member does not fit".to_owned(),
        ValidationErrorKind::Custom { message, .. } => message.clone(),
        _ => error.masked().to_string(),
    };
    Fault::new(error.instance_path().as_str(), code, cut(&detail))
}

fn cut(text: &str) -> String {
    text.chars().take(DETAIL_CHARS_MAX).collect()
}
