//! Tools of MCP servers: their names, the schemas of their arguments, prices, tags and limits. Owns `tools`.

mod store;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::gate::arguments::Schema;
use crate::projects::precondition;
use crate::refusal::{Checks, Code, Refused};
use crate::servers;
use crate::types::caller::Caller;
use crate::types::id::ToolId;
use crate::types::page::{After, Listed, Page};
use crate::types::patch::Patch;

pub use store::{Row, load_all, load_some};

/// Tools that a server has at most.
pub const TOOLS_MAX: i64 = 1_000;
/// Characters of a name at most: MCP asks for no more.
const NAME_CHARS_MAX: usize = 128;
const DESCRIPTION_CHARS_MAX: usize = 4_000;
/// A call costs a million dollars at most.
const PRICE_MICROS_MAX: i64 = 1_000_000_000_000;
const CALLS_PER_MINUTE_MAX: i32 = 1_000_000;

/// What a tool is, beside its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tag {
    /// It changes nothing.
    ReadOnly,
    /// Each agent may call it only so often.
    Expensive,
}

impl Tag {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::Expensive => "expensive",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::ReadOnly, Self::Expensive].into_iter().find(|tag| tag.as_str() == text)
    }
}

/// How often a tool may be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolLimits {
    /// Calls a minute for each agent, 1 to 1,000,000; absent: as the settings say.
    #[schema(minimum = 1, maximum = 1_000_000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_minute: Option<i32>,
}

/// What is wanted of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTool)]
pub struct Wanted {
    /// What calls name it by: 1 to 128 characters, none a control character; unique on its server.
    #[schema(min_length = 1, max_length = 128)]
    pub name: String,
    /// For people.
    #[schema(max_length = 4000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema (2020-12) of its arguments; absent: they are not looked at.
    #[schema(value_type = Option<Object>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// What a call costs, in millionths of a dollar.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    #[serde(default)]
    pub price_micros: i64,
    /// What it is.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// How often it may be called.
    #[serde(default)]
    pub limits: ToolLimits,
}

/// A tool as it is read.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Tool {
    /// Its id, the same as long as it is not removed.
    pub id: String,
    /// Whose it is.
    pub server_id: String,
    /// What it is.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// When it was registered.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A change of a tool (RFC 7396).
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New name.
    pub name: Option<String>,
    /// New description.
    pub description: Patch<String>,
    /// New schema.
    pub input_schema: Patch<Value>,
    /// New price.
    pub price_micros: Option<i64>,
    /// New tags.
    pub tags: Option<BTreeSet<Tag>>,
    /// New limit.
    pub calls_per_minute: Patch<i32>,
}

/// What the replacement of a catalogue did, by name.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Replaced {
    /// Tools that were not there.
    pub added: Vec<String>,
    /// Tools that were there and are different now.
    pub changed: Vec<String>,
    /// Tools that are gone.
    pub removed: Vec<String>,
}

/// The tools of a server, newest first.
///
/// # Errors
///
/// There is no such server.
pub async fn list(db: &Db, by: &Caller, server: &str, q: Option<&str>, page: &Page) -> Result<Listed<Tool>, Refused> {
    let mut connection = db.begin_list().await?;
    servers::get(&mut connection, by, server).await?;
    let items = store::list(&mut connection, server, q, page).await?;
    Ok(page.cut(items, |tool| After { at: tool.created_at, id: tool.id.clone() }))
}

/// A tool that the caller may see.
///
/// # Errors
///
/// There is none.
pub async fn get(connection: &mut PgConnection, by: &Caller, server: &str, id: &str) -> Result<Tool, Refused> {
    servers::get(connection, by, server).await?;
    find(connection, server, id).await
}

/// Registers a tool.
///
/// # Errors
///
/// No such server, wrong fields, a taken name, or as many tools as a server may have.
pub async fn register(db: &Db, by: &Caller, server: &str, wanted: &Wanted) -> Result<(Tool, Done), Refused> {
    check_one(wanted)?;
    let mut tx = db.begin().await?;
    let project = touch(&mut tx, by, server).await?;
    if store::count(&mut tx, server).await? >= TOOLS_MAX {
        return Err(Refused::field("/name", "too_many", format!("a server has at most {TOOLS_MAX} tools")));
    }
    let id = ToolId::random();
    if !store::insert(&mut tx, id.as_str(), server, wanted).await? {
        return Err(taken());
    }
    audit::append(&mut tx, &entry(by, "tool.registered", (server, &project), id.as_str(), &wanted.name)).await?;
    let tool = find(&mut tx, server, id.as_str()).await?;
    Ok((tool, db.commit(tx).await?))
}

/// Changes a tool.
///
/// # Errors
///
/// No such tool, wrong fields, a taken name, or an old tag.
pub async fn change(
    db: &Db,
    by: &Caller,
    (server, id): (&str, &str),
    change: Change,
    expected: Option<&str>,
) -> Result<(Tool, Done), Refused> {
    let mut tx = db.begin().await?;
    let project = touch(&mut tx, by, server).await?;
    let before = find(&mut tx, server, id).await?;
    precondition(&before, expected)?;
    let known = before.wanted;
    let wanted = Wanted {
        name: change.name.unwrap_or(known.name),
        description: change.description.over(known.description),
        input_schema: change.input_schema.over(known.input_schema),
        price_micros: change.price_micros.unwrap_or(known.price_micros),
        tags: change.tags.unwrap_or(known.tags),
        limits: ToolLimits { calls_per_minute: change.calls_per_minute.over(known.limits.calls_per_minute) },
    };
    check_one(&wanted)?;
    store::set(&mut tx, id, &wanted)
        .await
        .map_err(|error| if error.constraint().is_some() { taken() } else { error.into() })?;
    audit::append(&mut tx, &entry(by, "tool.changed", (server, &project), id, &wanted.name)).await?;
    let tool = find(&mut tx, server, id).await?;
    Ok((tool, db.commit(tx).await?))
}

/// Removes a tool: no call of it is allowed any more.
///
/// # Errors
///
/// No such tool.
pub async fn remove(db: &Db, by: &Caller, server: &str, id: &str) -> Result<(Tool, Done), Refused> {
    let mut tx = db.begin().await?;
    let project = touch(&mut tx, by, server).await?;
    let tool = find(&mut tx, server, id).await?;
    store::delete(&mut tx, std::slice::from_ref(&tool.id)).await?;
    audit::append(&mut tx, &entry(by, "tool.removed", (server, &project), id, &tool.wanted.name)).await?;
    Ok((tool, db.commit(tx).await?))
}

/// Replaces all tools of a server at once. Tools whose names stay keep their ids; what is equal is not touched.
///
/// # Errors
///
/// No such server, wrong fields, a name that stands there twice, or more tools than a server may have.
pub async fn replace(db: &Db, by: &Caller, server: &str, wanted: &[Wanted]) -> Result<(Replaced, Done), Refused> {
    check_all(wanted)?;
    let mut tx = db.begin().await?;
    let project = touch(&mut tx, by, server).await?;
    let all = Page { limit: TOOLS_MAX, after: None };
    let known = store::list(&mut tx, server, None, &all).await?;
    let mut before: BTreeMap<String, Tool> = known.into_iter().map(|tool| (tool.wanted.name.clone(), tool)).collect();
    let mut replaced = Replaced::default();
    for wanted in wanted {
        match before.remove(&wanted.name) {
            None => {
                store::insert(&mut tx, ToolId::random().as_str(), server, wanted).await?;
                replaced.added.push(wanted.name.clone());
            }
            Some(known) if known.wanted != *wanted => {
                store::set(&mut tx, &known.id, wanted).await?;
                replaced.changed.push(wanted.name.clone());
            }
            Some(_) => {}
        }
    }
    let gone: Vec<String> = before.values().map(|tool| tool.id.clone()).collect();
    store::delete(&mut tx, &gone).await?;
    replaced.removed = before.into_keys().collect();
    let entry = Entry::new(by, "tools.replaced").on(server).project(&project).server(server);
    let entry = entry.with("added", replaced.added.len()).with("changed", replaced.changed.len());
    audit::append(&mut tx, &entry.with("removed", replaced.removed.len())).await?;
    Ok((replaced, db.commit(tx).await?))
}

async fn touch(tx: &mut PgConnection, by: &Caller, server: &str) -> Result<String, Refused> {
    store::touch(tx, by.projects(), server).await?.ok_or_else(|| Refused::not_found("server"))
}

async fn find(connection: &mut PgConnection, server: &str, id: &str) -> Result<Tool, Refused> {
    store::find(connection, server, id).await?.ok_or_else(|| Refused::not_found("tool"))
}

fn entry(by: &Caller, action: &str, (server, project): (&str, &str), id: &str, name: &str) -> Entry {
    Entry::new(by, action).on(id).project(project).server(server).with("name", name)
}

fn taken() -> Refused {
    Refused::new(Code::NameTaken, "The server has a tool of this name.")
}

fn check_one(wanted: &Wanted) -> Result<(), Refused> {
    let mut checks = Checks::default();
    check(&mut checks, "", wanted);
    checks.done()
}

fn check_all(wanted: &[Wanted]) -> Result<(), Refused> {
    let mut checks = Checks::default();
    let few = i64::try_from(wanted.len()).is_ok_and(|count| count <= TOOLS_MAX);
    if !few {
        return Err(Refused::field("/tools", "length", format!("at most {TOOLS_MAX} tools")));
    }
    let mut names = BTreeSet::new();
    for (index, wanted) in wanted.iter().enumerate() {
        let at = format!("/tools/{index}");
        check(&mut checks, &at, wanted);
        checks.expect(names.insert(&wanted.name), &format!("{at}/name"), "duplicate", "each name once");
    }
    checks.done()
}

fn check(checks: &mut Checks, at: &str, wanted: &Wanted) {
    checks.name(&format!("{at}/name"), &wanted.name, NAME_CHARS_MAX);
    let short = wanted.description.as_ref().is_none_or(|text| text.chars().count() <= DESCRIPTION_CHARS_MAX);
    let detail = format!("at most {DESCRIPTION_CHARS_MAX} characters");
    checks.expect(short, &format!("{at}/description"), "length", &detail);
    let right = (0..=PRICE_MICROS_MAX).contains(&wanted.price_micros);
    checks.expect(right, &format!("{at}/price_micros"), "range", &format!("0 to {PRICE_MICROS_MAX}"));
    let right = wanted.limits.calls_per_minute.is_none_or(|calls| (1..=CALLS_PER_MINUTE_MAX).contains(&calls));
    let detail = format!("1 to {CALLS_PER_MINUTE_MAX}");
    checks.expect(right, &format!("{at}/limits/calls_per_minute"), "range", &detail);
    if let Some(Err(invalid)) = wanted.input_schema.as_ref().map(Schema::compile) {
        checks.wrong(&format!("{at}/input_schema{}", invalid.pointer), "schema", invalid.detail);
    }
}
