//! The budget of a check: its steps are counted, from plan and arguments, before the check is made.

use serde_json::Value;

use super::DEPTH_MAX;
use super::node::{Node, NodeId, Plan};

/// Steps of one check at most. A step is one subschema applied to one value, 64 bytes of its own text, or 64 bytes of a
/// text that it reads (4 with a pattern); what is parsed costs more.
pub(super) const STEPS_MAX: u64 = 200_000;

const TEXT_BYTES_A_STEP: u64 = 64;
const PATTERN_BYTES_A_STEP: u64 = 4;

/// Why a check is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// More than [`STEPS_MAX`].
    Steps,
    /// More than [`DEPTH_MAX`] levels.
    Depth,
}

/// Counts the steps of a check of this value: at least as many as the check will take, because every branch is
/// followed, also where the check would stop early. Counting stops at the bound, so it costs no more than it allows.
pub(super) fn steps(plan: &Plan, value: &Value) -> Result<u64, Over> {
    let mut meter = Meter { plan, left: STEPS_MAX };
    meter.size(value, DEPTH_MAX)?;
    meter.apply(0, value, DEPTH_MAX)?;
    Ok(STEPS_MAX - meter.left)
}

struct Meter<'a> {
    plan: &'a Plan,
    left: u64,
}

impl Meter<'_> {
    fn spend(&mut self, steps: u64) -> Result<(), Over> {
        self.left = self.left.checked_sub(steps).ok_or(Over::Steps)?;
        Ok(())
    }

    /// Recursion ends: each level of the value takes one from `depth`, and subschemas of one value form no circle.
    fn apply(&mut self, id: NodeId, value: &Value, depth: usize) -> Result<(), Over> {
        let Some(node) = self.plan.node(id) else { return Ok(()) };
        self.spend(node.weight)?;
        match value {
            Value::String(text) => self.text(node, text)?,
            Value::Array(items) => {
                let below = depth.checked_sub(1).ok_or(Over::Depth)?;
                self.array(node, items, below)?;
            }
            Value::Object(members) => {
                let below = depth.checked_sub(1).ok_or(Over::Depth)?;
                self.spend(members.len() as u64)?;
                for (name, member) in members {
                    self.member(node, name, member, below)?;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        node.in_place().try_for_each(|id| self.apply(id, value, depth))
    }

    fn text(&mut self, node: &Node, text: &str) -> Result<(), Over> {
        if let Some(format) = &node.format {
            self.spend(format.steps(text))?;
        }
        let bytes = if node.pattern { PATTERN_BYTES_A_STEP } else { TEXT_BYTES_A_STEP };
        self.spend(text.len() as u64 / bytes)
    }

    fn array(&mut self, node: &Node, items: &[Value], below: usize) -> Result<(), Over> {
        self.spend(items.len() as u64)?;
        if node.unique {
            // Items are compared by hash; that of arrays and objects can be made to collide, so each meets each.
            let compound = items.iter().any(|item| item.is_array() || item.is_object());
            let each = if compound { items.len() as u64 } else { 1 };
            self.spend(each.saturating_mul(items.len() as u64))?;
            items.iter().try_for_each(|item| self.size(item, below))?;
        }
        for (index, item) in items.iter().enumerate() {
            node.item(index).into_iter().chain(node.contains).try_for_each(|id| self.apply(id, item, below))?;
        }
        Ok(())
    }

    fn member(&mut self, node: &Node, name: &str, value: &Value, below: usize) -> Result<(), Over> {
        if let Some(names) = node.names {
            // Made only where names have a schema: a copy of one name.
            self.apply(names, &Value::String(name.to_owned()), below)?;
        }
        if !node.patterned.is_empty() {
            let read = name.len() as u64 / PATTERN_BYTES_A_STEP;
            self.spend(read.saturating_mul(node.patterned.len() as u64))?;
        }
        node.member(name)
            .into_iter()
            .chain(node.patterned.iter().copied())
            .try_for_each(|id| self.apply(id, value, below))
    }

    /// Spends the size of a value that is read whole.
    fn size(&mut self, value: &Value, depth: usize) -> Result<(), Over> {
        self.spend(1)?;
        let below = || depth.checked_sub(1).ok_or(Over::Depth);
        match value {
            Value::String(text) => self.spend(text.len() as u64 / TEXT_BYTES_A_STEP),
            Value::Array(items) => {
                let below = below()?;
                items.iter().try_for_each(|item| self.size(item, below))
            }
            Value::Object(members) => {
                let below = below()?;
                members.values().try_for_each(|member| self.size(member, below))
            }
            _ => Ok(()),
        }
    }
}
