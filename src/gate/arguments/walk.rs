//! The walk over a schema when it is compiled: what we do not support is refused with its place, formats of ours are
//! read, and the plan is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::formats::Format;
use super::node::{Node, NodeId, Plan};
use super::{DEPTH_MAX, Invalid};

/// The keyword beside a format of ours that holds its options.
pub(super) const VENDOR: &str = "x-mcpa";

/// Subschemas of one schema at most.
const SUBSCHEMAS_MAX: usize = 1_000;

/// How many subschemas may lead to each other on one value; with the depth of arguments it bounds the stack.
const CHAIN_MAX: usize = 16;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Bytes of a schema for each step that a subschema costs by its own text.
const OWN_BYTES_A_STEP: u64 = 64;

/// Keywords that are refused, each with what to do about it.
const REFUSED: [(&str, &str); 11] = [
    ("unevaluatedProperties", "its work cannot be bounded; use `additionalProperties`"),
    ("unevaluatedItems", "its work cannot be bounded; use `items`"),
    ("$dynamicRef", "use `$ref`"),
    ("$dynamicAnchor", "use `$defs` and `$ref`"),
    ("$recursiveRef", "of an older draft; use `$ref`"),
    ("$recursiveAnchor", "of an older draft; use `$defs` and `$ref`"),
    ("$anchor", "use a JSON Pointer in `$ref`"),
    ("$vocabulary", "belongs into meta-schemas"),
    ("dependencies", "of an older draft; use `dependentRequired` or `dependentSchemas`"),
    ("additionalItems", "of an older draft; use `items` beside `prefixItems`"),
    ("discriminator", "not of JSON Schema; use `oneOf` with `const`"),
];

/// Where a subschema belongs.
#[derive(Clone, Copy)]
enum Place {
    Nowhere,
    Same,
    Tried,
    Members,
    Patterned,
    OtherMembers,
    Names,
    FirstItems,
    OtherItems,
    Contains,
}

/// Keywords that hold one schema, an array of them, and an object of them.
const ONE: [(&str, Place); 8] = [
    ("not", Place::Tried),
    ("if", Place::Tried),
    ("then", Place::Tried),
    ("else", Place::Tried),
    ("additionalProperties", Place::OtherMembers),
    ("propertyNames", Place::Names),
    ("items", Place::OtherItems),
    ("contains", Place::Contains),
];
const LISTS: [(&str, Place); 4] =
    [("allOf", Place::Same), ("anyOf", Place::Tried), ("oneOf", Place::Tried), ("prefixItems", Place::FirstItems)];
const MAPS: [(&str, Place); 5] = [
    ("properties", Place::Members),
    ("patternProperties", Place::Patterned),
    ("dependentSchemas", Place::Tried),
    ("$defs", Place::Nowhere),
    ("definitions", Place::Nowhere),
];

/// What the validator can do, asked while walking.
#[derive(Clone, Copy)]
pub(super) struct Engine {
    /// Whether it knows a format of the standard.
    pub(super) knows: fn(&str) -> bool,
    /// Whether it runs a pattern, within bounds.
    pub(super) compiles: fn(&str) -> bool,
}

/// Makes the plan of a schema, and leaves in the schema, in place of each format of ours, the number of its node.
pub(super) fn plan(schema: &mut Value, engine: Engine) -> Result<Plan, Invalid> {
    let mut walk = Walk { plan: Plan::default(), places: BTreeMap::new(), refs: Vec::new(), engine };
    walk.schema(schema, "")?;
    walk.resolve()?;
    let Walk { plan, places, .. } = walk;
    let pointers: BTreeMap<NodeId, String> = places.into_iter().map(|(pointer, id)| (id, pointer)).collect();
    let place = |id: NodeId| pointers.get(&id).cloned().unwrap_or_default();
    let mut heights = BTreeMap::new();
    for id in 0..plan.nodes.len() {
        if height(&plan, id, CHAIN_MAX, &mut heights).is_none() {
            let detail = format!("subschemas of one value lead in a circle, or to more than {CHAIN_MAX} in a row");
            return Err(Invalid::new(place(id), detail));
        }
    }
    if let Some(id) = unsure_cleaner(&plan) {
        let detail = "a format that cleans counts in every case or not at all: move it out of `anyOf`, `if`, `contains` \
                      and the like, or set `on_change` to `refuse`";
        return Err(Invalid::new(place(id), detail));
    }
    Ok(plan)
}

struct Walk {
    plan: Plan,
    places: BTreeMap<String, NodeId>,
    refs: Vec<(NodeId, String, String)>,
    engine: Engine,
}

impl Walk {
    fn schema(&mut self, schema: &mut Value, pointer: &str) -> Result<NodeId, Invalid> {
        let id = self.plan.nodes.len();
        if id >= SUBSCHEMAS_MAX {
            return Err(Invalid::new(pointer, format!("at most {SUBSCHEMAS_MAX} subschemas")));
        }
        self.plan.nodes.push(Node { weight: 1, ..Node::default() });
        self.places.insert(pointer.to_owned(), id);
        match schema {
            Value::Bool(_) => return Ok(id),
            Value::Object(keywords) => {
                let node = self.own(id, keywords, pointer)?;
                let children = self.children(keywords, pointer)?;
                if let Some(at) = self.plan.nodes.get_mut(id) {
                    *at = joined(node, children);
                }
            }
            _ => return Err(Invalid::new(pointer, "a schema is an object or a boolean")),
        }
        Ok(id)
    }

    /// The keywords of a subschema that hold no other.
    fn own(&mut self, id: NodeId, keywords: &mut Map<String, Value>, pointer: &str) -> Result<Node, Invalid> {
        for (keyword, detail) in REFUSED {
            if keywords.contains_key(keyword) {
                return Err(Invalid::new(below(pointer, keyword), detail));
            }
        }
        if !pointer.is_empty() && (keywords.contains_key("$id") || keywords.contains_key("$schema")) {
            return Err(Invalid::new(pointer, "`$id` and `$schema` stand at the root only"));
        }
        if let Some(draft) = keywords.get("$schema")
            && draft.as_str().map(|draft| draft.trim_end_matches('#')) != Some(DRAFT)
        {
            return Err(Invalid::new(below(pointer, "$schema"), format!("only {DRAFT} is supported")));
        }
        if let Some(to) = keywords.get("$ref").and_then(Value::as_str) {
            self.refs.push((id, to.to_owned(), below(pointer, "$ref")));
        }
        self.patterns(keywords, pointer)?;
        let format = self.format(id, keywords, pointer)?;
        let own = keywords.iter().filter(|(keyword, _)| !holds_schemas(keyword));
        let bytes: usize = own.map(|(_, value)| value.to_string().len()).sum();
        Ok(Node {
            weight: 1 + bytes as u64 / OWN_BYTES_A_STEP,
            pattern: keywords.contains_key("pattern"),
            unique: keywords.get("uniqueItems") == Some(&Value::Bool(true)),
            format,
            ..Node::default()
        })
    }

    fn patterns(&self, keywords: &Map<String, Value>, pointer: &str) -> Result<(), Invalid> {
        let one = keywords.get("pattern").and_then(Value::as_str).map(|own| (own, below(pointer, "pattern")));
        let by_name = keywords.get("patternProperties").and_then(Value::as_object);
        let at = below(pointer, "patternProperties");
        let named = by_name.into_iter().flat_map(|all| all.keys()).map(|own| (own.as_str(), below(&at, own)));
        for (pattern, at) in one.into_iter().chain(named) {
            if !(self.engine.compiles)(pattern) {
                let detail = "not a pattern of a linear engine (no look-around, no back-references), or too large";
                return Err(Invalid::new(at, detail));
            }
        }
        Ok(())
    }

    /// Takes a format of ours out of a subschema and leaves the node's number under [`VENDOR`].
    fn format(
        &self,
        id: NodeId,
        keywords: &mut Map<String, Value>,
        pointer: &str,
    ) -> Result<Option<Arc<Format>>, Invalid> {
        let options = keywords.remove(VENDOR);
        let name = keywords.get("format").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !Format::is_ours(&name) {
            if options.is_some() {
                let detail = format!("it holds the options of one of the formats {}", Format::NAMES.join(", "));
                return Err(Invalid::new(below(pointer, VENDOR), detail));
            }
            if !name.is_empty() && (name == "regex" || !(self.engine.knows)(&name)) {
                return Err(Invalid::new(below(pointer, "format"), "a format that is not supported"));
            }
            return Ok(None);
        }
        if !is_text(keywords.get("type")) {
            let detail = "a format of ours stands beside `\"type\": \"string\"` (or `[\"string\", \"null\"]`)";
            return Err(Invalid::new(below(pointer, "format"), detail));
        }
        let format = Format::compile(&name, options.unwrap_or_else(|| Value::Object(Map::new())))
            .map_err(|detail| Invalid::new(below(pointer, VENDOR), detail))?;
        keywords.remove("format");
        keywords.insert(VENDOR.to_owned(), Value::from(id));
        Ok(Some(Arc::new(format)))
    }

    fn children(&mut self, keywords: &mut Map<String, Value>, pointer: &str) -> Result<Node, Invalid> {
        let mut node = Node::default();
        for (keyword, place) in ONE {
            if let Some(child) = keywords.get_mut(keyword) {
                let id = self.schema(child, &below(pointer, keyword))?;
                put(&mut node, place, "", id);
            }
        }
        for (keyword, place) in LISTS {
            let at = below(pointer, keyword);
            for (index, child) in
                keywords.get_mut(keyword).and_then(Value::as_array_mut).into_iter().flatten().enumerate()
            {
                let id = self.schema(child, &format!("{at}/{index}"))?;
                put(&mut node, place, "", id);
            }
        }
        for (keyword, place) in MAPS {
            let at = below(pointer, keyword);
            for (name, child) in keywords.get_mut(keyword).and_then(Value::as_object_mut).into_iter().flatten() {
                let id = self.schema(child, &below(&at, name))?;
                put(&mut node, place, name, id);
            }
        }
        Ok(node)
    }

    /// Leads each `$ref` to the subschema it names.
    fn resolve(&mut self) -> Result<(), Invalid> {
        for (from, to, at) in std::mem::take(&mut self.refs) {
            let target = to.strip_prefix('#').filter(|pointer| !pointer.contains('%'));
            let Some(&target) = target.and_then(|pointer| self.places.get(pointer)) else {
                let detail = "it leads to no subschema of this document: `#` and a JSON Pointer are needed";
                return Err(Invalid::new(at, detail));
            };
            if let Some(node) = self.plan.nodes.get_mut(from) {
                node.same.push(target);
            }
        }
        Ok(())
    }
}

fn joined(own: Node, children: Node) -> Node {
    let listed = children.members.len() + children.patterned.len();
    Node {
        weight: own.weight + listed as u64 / 8,
        pattern: own.pattern,
        unique: own.unique,
        format: own.format,
        ..children
    }
}

fn put(node: &mut Node, place: Place, name: &str, id: NodeId) {
    match place {
        Place::Nowhere => {}
        Place::Same => node.same.push(id),
        Place::Tried => node.tried.push(id),
        Place::Members => {
            node.members.insert(name.to_owned(), id);
        }
        Place::Patterned => node.patterned.push(id),
        Place::OtherMembers => node.other_members = Some(id),
        Place::Names => node.names = Some(id),
        Place::FirstItems => node.first_items.push(id),
        Place::OtherItems => node.other_items = Some(id),
        Place::Contains => node.contains = Some(id),
    }
}

fn holds_schemas(keyword: &str) -> bool {
    ONE.iter().chain(&LISTS).chain(&MAPS).any(|(name, _)| *name == keyword)
}

/// Whether `type` lets texts pass and nothing else but null.
fn is_text(stated: Option<&Value>) -> bool {
    match stated {
        Some(Value::String(one)) => one == "string",
        Some(Value::Array(all)) => {
            all.iter().any(|one| one == "string") && all.iter().all(|one| one == "string" || one == "null")
        }
        _ => false,
    }
}

/// A pointer one step further (RFC 6901 §3).
pub(super) fn below(pointer: &str, step: &str) -> String {
    format!("{pointer}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// How long the longest chain below a node is; `None` when it is longer than what is left, a circle among others.
fn height(plan: &Plan, id: NodeId, left: usize, known: &mut BTreeMap<NodeId, usize>) -> Option<usize> {
    if let Some(&height) = known.get(&id) {
        return (height <= left).then_some(height);
    }
    let rest = left.checked_sub(1)?;
    let mut highest = 0;
    for next in plan.node(id)?.in_place() {
        highest = highest.max(height(plan, next, rest, known)? + 1);
    }
    known.insert(id, highest);
    Some(highest)
}

/// A node whose format cleans and that a value may or may not have to fit.
fn unsure_cleaner(plan: &Plan) -> Option<NodeId> {
    let mut open: Vec<NodeId> = plan.nodes.iter().flat_map(Node::unsure).collect();
    let mut seen = vec![false; plan.nodes.len()];
    while let Some(id) = open.pop() {
        let (Some(node), Some(mark)) = (plan.node(id), seen.get_mut(id)) else { continue };
        if std::mem::replace(mark, true) {
            continue;
        }
        if node.format.as_ref().is_some_and(|format| format.cleans()) {
            return Some(id);
        }
        open.extend(node.same.iter().copied().chain(node.sure_children()));
    }
    None
}

/// Whether a value has more levels than a schema may have.
pub(super) fn is_too_deep(value: &Value) -> bool {
    fn deeper(value: &Value, left: usize) -> bool {
        let Some(left) = left.checked_sub(1) else { return matches!(value, Value::Array(_) | Value::Object(_)) };
        match value {
            Value::Array(items) => items.iter().any(|item| deeper(item, left)),
            Value::Object(members) => members.values().any(|member| deeper(member, left)),
            _ => false,
        }
    }
    deeper(value, DEPTH_MAX)
}
