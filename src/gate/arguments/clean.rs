//! Cleaning: texts whose format asks for it are replaced, in a copy of the arguments.

use serde_json::Value;

use super::DEPTH_MAX;
use super::node::{NodeId, Plan};

/// The arguments with each text cleaned whose format cleans; `None` when nothing changed. Only subschemas that a value
/// must fit lead here: a schema in which a cleaning format may or may not count does not compile.
///
/// # Errors
///
/// A text that cannot be cleaned; the text says why.
pub(super) fn clean(plan: &Plan, value: &Value) -> Result<Option<Value>, String> {
    let mut cleaned = value.clone();
    let changed = apply(plan, 0, &mut cleaned, DEPTH_MAX)?;
    Ok(changed.then_some(cleaned))
}

fn apply(plan: &Plan, id: NodeId, value: &mut Value, depth: usize) -> Result<bool, String> {
    let Some(node) = plan.node(id) else { return Ok(false) };
    let mut changed = false;
    for &same in &node.same {
        changed |= apply(plan, same, value, depth)?;
    }
    let below = depth.saturating_sub(1);
    match value {
        Value::String(text) => {
            if let Some(format) = &node.format
                && let Some(other) = format.clean(text)?
            {
                *text = other;
                changed = true;
            }
        }
        Value::Array(items) if depth > 0 => {
            for (index, item) in items.iter_mut().enumerate() {
                if let Some(own) = node.item(index) {
                    changed |= apply(plan, own, item, below)?;
                }
            }
        }
        Value::Object(members) if depth > 0 => {
            for (name, member) in members.iter_mut() {
                if let Some(own) = node.member(name) {
                    changed |= apply(plan, own, member, below)?;
                }
            }
        }
        _ => {}
    }
    Ok(changed)
}
