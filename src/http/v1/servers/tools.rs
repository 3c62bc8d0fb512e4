//! `/v1/servers/{id}/tools`: what a server offers.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::app::AppState;
use crate::http::caller::{By, ServersRead, ServersWrite};
use crate::http::extract::{Body, Id, Ids, IfMatch, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Created, Receipted, Tagged};
use crate::tools::{self, Change, Replaced, Tag, Tool};
use crate::types::id::{ServerId, ToolId};
use crate::types::patch::Patch;

/// What a list of tools is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTools {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// How the name begins, in any case.
    q: Option<String>,
}

/// Lists a server's tools, newest first.
#[utoipa::path(get, path = "/v1/servers/{id}/tools", operation_id = "list_tools", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$"), ListTools),
    security(("operator" = ["servers:read"])), extensions(("x-scope" = json!("servers:read"))),
    responses((status = 200, description = "A page of tools.", body = Listing<Tool>), Refusals))]
pub async fn list(
    by: By<ServersRead>,
    State(app): AppState,
    Id(id): Id<ServerId>,
    Params(params): Params<ListTools>,
) -> Result<Json<Listing<Tool>>, Problem> {
    let list = format!("servers/{id}/tools");
    let wanted = Wanted::new(&app, &list, &params, params.limit, params.cursor.as_deref())?;
    let listed = tools::list(&app.db, &by.caller, id.as_str(), params.q.as_deref(), &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Registers a tool.
#[utoipa::path(post, path = "/v1/servers/{id}/tools", operation_id = "register_tool", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$")), request_body = tools::Wanted,
    security(("operator" = ["servers:write"])), extensions(("x-scope" = json!("servers:write"))),
    responses((status = 201, description = "The tool.", body = Tool), Refusals))]
pub async fn create(
    by: By<ServersWrite>,
    State(app): AppState,
    Id(id): Id<ServerId>,
    Body(body): Body<tools::Wanted>,
) -> Result<Created<Tool>, Problem> {
    let (thing, done) = tools::register(&app.db, &by.caller, id.as_str(), &body).await?;
    app.feed.spread(done).await;
    Ok(Created { location: format!("/v1/servers/{id}/tools/{}", thing.id), thing })
}

/// All tools of a server.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceTools {
    /// What it offers, and nothing else.
    #[schema(max_items = 1000)]
    tools: Vec<tools::Wanted>,
}

/// Replaces all tools of a server at once; tools whose names stay keep their ids.
#[utoipa::path(put, path = "/v1/servers/{id}/tools", operation_id = "replace_tools", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$")), request_body = ReplaceTools,
    security(("operator" = ["servers:write"])), extensions(("x-scope" = json!("servers:write"))),
    responses((status = 200, description = "What it did, and where it holds.", body = Receipted<Replaced>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Replaced>), Refusals))]
pub async fn replace(
    by: By<ServersWrite>,
    State(app): AppState,
    Id(id): Id<ServerId>,
    Body(body): Body<ReplaceTools>,
) -> Result<Receipted<Replaced>, Problem> {
    let (replaced, done) = tools::replace(&app.db, &by.caller, id.as_str(), &body.tools).await?;
    Ok(Receipted::wait(&app.feed, replaced, done, true).await)
}

/// Reads a tool.
#[utoipa::path(get, path = "/v1/servers/{id}/tools/{tool_id}", operation_id = "get_tool", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$"), ("tool_id" = String, Path, description = "The tool's id.", pattern = "^tool_[0-9a-f]{32}$")),
    security(("operator" = ["servers:read"])), extensions(("x-scope" = json!("servers:read"))),
    responses((status = 200, description = "The tool.", body = Tool, headers(("ETag" = String))), Refusals))]
pub async fn get(
    by: By<ServersRead>,
    State(app): AppState,
    Ids(id, tool): Ids<ServerId, ToolId>,
) -> Result<Tagged<Tool>, Problem> {
    let mut connection = app.db.reads().acquire().await?;
    Ok(Tagged(tools::get(&mut connection, &by.caller, id.as_str(), tool.as_str()).await?))
}

/// A change of a tool's limits (RFC 7396).
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeToolLimits {
    /// Calls a minute for each agent; null: as the settings say.
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 1_000_000)]
    #[serde(default)]
    calls_per_minute: Patch<i32>,
}

/// A change of a tool (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeTool {
    /// A new name.
    name: Option<String>,
    /// A new description; null: none.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    description: Patch<String>,
    /// A new schema; null: arguments are not looked at.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    input_schema: Patch<Value>,
    /// A new price, in millionths of a dollar.
    price_micros: Option<i64>,
    /// All its tags.
    tags: Option<BTreeSet<Tag>>,
    /// How often it may be called.
    #[serde(default)]
    limits: ChangeToolLimits,
}

/// Changes a tool.
#[utoipa::path(patch, path = "/v1/servers/{id}/tools/{tool_id}", operation_id = "change_tool", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$"), ("tool_id" = String, Path, description = "The tool's id.", pattern = "^tool_[0-9a-f]{32}$"), ("If-Match" = Option<String>, Header, description = "The tag it must have.")), request_body = ChangeTool,
    security(("operator" = ["servers:write"])), extensions(("x-scope" = json!("servers:write"))),
    responses((status = 200, description = "The tool as it is now, and where it holds.", body = Receipted<Tool>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Tool>), Refusals))]
pub async fn change(
    by: By<ServersWrite>,
    State(app): AppState,
    Ids(id, tool): Ids<ServerId, ToolId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeTool>,
) -> Result<Receipted<Tool>, Problem> {
    let change = Change {
        name: body.name,
        description: body.description,
        input_schema: body.input_schema,
        price_micros: body.price_micros,
        tags: body.tags,
        calls_per_minute: body.limits.calls_per_minute,
    };
    let which = (id.as_str(), tool.as_str());
    let (tool, done) = tools::change(&app.db, &by.caller, which, change, expected.as_deref()).await?;
    // A stricter schema, a lower limit, a higher price take something away: each change waits.
    Ok(Receipted::wait(&app.feed, tool, done, true).await)
}

/// Removes a tool: no call of it is allowed any more.
#[utoipa::path(delete, path = "/v1/servers/{id}/tools/{tool_id}", operation_id = "remove_tool", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$"), ("tool_id" = String, Path, description = "The tool's id.", pattern = "^tool_[0-9a-f]{32}$")),
    security(("operator" = ["servers:write"])), extensions(("x-scope" = json!("servers:write"))),
    responses((status = 200, description = "The tool as it was, and where its end holds.", body = Receipted<Tool>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Tool>), Refusals))]
pub async fn remove(
    by: By<ServersWrite>,
    State(app): AppState,
    Ids(id, tool): Ids<ServerId, ToolId>,
) -> Result<Receipted<Tool>, Problem> {
    let (tool, done) = tools::remove(&app.db, &by.caller, id.as_str(), tool.as_str()).await?;
    Ok(Receipted::wait(&app.feed, tool, done, true).await)
}
