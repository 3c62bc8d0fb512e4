//! The plan of a schema: which subschema is applied to which value. Work is counted by it and texts are cleaned by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::formats::Format;

/// The place of a node in [`Plan`].
pub(super) type NodeId = usize;

/// One subschema, as far as it leads on to others.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// What its own keywords cost once, whatever the value.
    pub(super) weight: u64,
    /// It reads each text it is applied to by a pattern.
    pub(super) pattern: bool,
    /// It compares the items of an array with each other.
    pub(super) unique: bool,
    /// Subschemas that the same value must fit: `allOf`, `$ref`.
    pub(super) same: Vec<NodeId>,
    /// Subschemas that the same value is tried against, and need not fit: `anyOf`, `not`, `if` and the like.
    pub(super) tried: Vec<NodeId>,
    /// Subschemas of named members.
    pub(super) members: BTreeMap<String, NodeId>,
    /// Subschemas of members by pattern: counted as if each pattern fitted each name.
    pub(super) patterned: Vec<NodeId>,
    /// The subschema of members that have none by name.
    pub(super) other_members: Option<NodeId>,
    /// The subschema of the names of members.
    pub(super) names: Option<NodeId>,
    /// Subschemas of the first items.
    pub(super) first_items: Vec<NodeId>,
    /// The subschema of the items after them.
    pub(super) other_items: Option<NodeId>,
    /// A subschema that each item is tried against.
    pub(super) contains: Option<NodeId>,
    /// A format of ours.
    pub(super) format: Option<Arc<Format>>,
}

/// All nodes of one schema; the first is the root.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) nodes: Vec<Node>,
}

impl Node {
    /// Every subschema that it applies to the same value.
    pub(super) fn in_place(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.same.iter().chain(&self.tried).copied()
    }

    /// The subschema of a member by its name, as far as names decide.
    pub(super) fn member(&self, name: &str) -> Option<NodeId> {
        self.members.get(name).copied().or(self.other_members)
    }

    /// The subschema of an item by its place.
    pub(super) fn item(&self, index: usize) -> Option<NodeId> {
        self.first_items.get(index).copied().or(self.other_items)
    }

    /// Subschemas of members and items that each of them must fit.
    pub(super) fn sure_children(&self) -> impl Iterator<Item = NodeId> + '_ {
        // Beside patterns it is the name that tells whether `additionalProperties` counts.
        let others = self.other_members.filter(|_| self.patterned.is_empty());
        self.members.values().chain(&self.first_items).copied().chain(self.other_items).chain(others)
    }

    /// Subschemas that a value, a member, a name or an item need not fit, or not always.
    pub(super) fn unsure(&self) -> impl Iterator<Item = NodeId> + '_ {
        let others = self.other_members.filter(|_| !self.patterned.is_empty());
        self.tried.iter().chain(&self.patterned).copied().chain(self.names).chain(self.contains).chain(others)
    }
}

impl Plan {
    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }
}
