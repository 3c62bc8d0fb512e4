//! `/v1/agents`: programs that call MCP servers.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::agents::{self, Agent, Change, Filter, NewAgent};
use crate::app::AppState;
use crate::http::caller::{AgentsRead, AgentsWrite, By};
use crate::http::extract::{Body, Id, IfMatch, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Created, Receipted, Tagged};
use crate::types::id::AgentId;
use crate::types::patch::Patch;

/// An agent to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAgent {
    /// For people, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// An e-mail address or a team's name; mail goes to it only if it is an address.
    #[schema(min_length = 1, max_length = 200)]
    owner: Option<String>,
    /// Its project; `default` unless said.
    project: Option<String>,
}

/// Makes an agent.
#[utoipa::path(post, path = "/v1/agents", operation_id = "create_agent", tag = "agents", request_body = CreateAgent,
    security(("operator" = ["agents:write"])), extensions(("x-scope" = json!("agents:write"))),
    responses((status = 201, description = "The agent.", body = Agent), Refusals))]
pub async fn create(
    by: By<AgentsWrite>,
    State(app): AppState,
    Body(body): Body<CreateAgent>,
) -> Result<Created<Agent>, Problem> {
    let new = NewAgent { name: body.name, owner: body.owner, project: body.project };
    let (thing, done) = agents::create(&app.db, &by.caller, new).await?;
    app.feed.spread(done).await;
    Ok(Created { location: format!("/v1/agents/{}", thing.id), thing })
}

/// What a list of agents is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAgents {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// Of this project.
    project: Option<String>,
    /// `active` or `disabled`.
    status: Option<Switch>,
    /// How the name begins, in any case.
    q: Option<String>,
}

/// Whether something is switched on.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// On.
    Active,
    /// Off.
    Disabled,
}

impl Switch {
    pub(super) const fn is_off(self) -> bool {
        matches!(self, Self::Disabled)
    }
}

/// Lists agents, newest first.
#[utoipa::path(get, path = "/v1/agents", operation_id = "list_agents", tag = "agents", params(ListAgents),
    security(("operator" = ["agents:read"])), extensions(("x-scope" = json!("agents:read"))),
    responses((status = 200, description = "A page of agents.", body = Listing<Agent>), Refusals))]
pub async fn list(
    by: By<AgentsRead>,
    State(app): AppState,
    Params(params): Params<ListAgents>,
) -> Result<Json<Listing<Agent>>, Problem> {
    let wanted = Wanted::new(&app, "agents", &params, params.limit, params.cursor.as_deref())?;
    let filter = Filter { project: params.project, disabled: params.status.map(Switch::is_off), q: params.q };
    let listed = agents::list(&app.db, &by.caller, &filter, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads an agent.
#[utoipa::path(get, path = "/v1/agents/{id}", operation_id = "get_agent", tag = "agents", params(("id" = String, Path, description = "The agent's id.", pattern = "^agt_[0-9a-f]{32}$")),
    security(("operator" = ["agents:read"])), extensions(("x-scope" = json!("agents:read"))),
    responses((status = 200, description = "The agent.", body = Agent, headers(("ETag" = String))), Refusals))]
pub async fn get(by: By<AgentsRead>, State(app): AppState, Id(id): Id<AgentId>) -> Result<Tagged<Agent>, Problem> {
    Ok(Tagged(agents::get(&mut *app.db.reads().acquire().await?, &by.caller, id.as_str()).await?))
}

/// A change of an agent (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeAgent {
    /// A new name.
    name: Option<String>,
    /// A new owner; null removes it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    owner: Patch<String>,
    /// Switched off or on. Off kills all it holds: keys while it is off, tokens for good.
    disabled: Option<bool>,
}

/// Changes an agent.
#[utoipa::path(patch, path = "/v1/agents/{id}", operation_id = "change_agent", tag = "agents", params(("id" = String, Path, description = "The agent's id.", pattern = "^agt_[0-9a-f]{32}$"), ("If-Match" = Option<String>, Header, description = "The tag it must have.")), request_body = ChangeAgent,
    security(("operator" = ["agents:write"])), extensions(("x-scope" = json!("agents:write"))),
    responses((status = 200, description = "The agent as it is now; `enforced` when a right was taken away.", body = Receipted<Agent>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Agent>), Refusals))]
pub async fn change(
    by: By<AgentsWrite>,
    State(app): AppState,
    Id(id): Id<AgentId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeAgent>,
) -> Result<Receipted<Agent>, Problem> {
    let change = Change { name: body.name, owner: body.owner, disabled: body.disabled };
    let (agent, done, narrowed) = agents::change(&app.db, &by.caller, id.as_str(), change, expected.as_deref()).await?;
    Ok(Receipted::wait(&app.feed, agent, done, narrowed).await)
}

/// Deletes an agent: its keys are revoked for good, its tokens die.
#[utoipa::path(delete, path = "/v1/agents/{id}", operation_id = "delete_agent", tag = "agents", params(("id" = String, Path, description = "The agent's id.", pattern = "^agt_[0-9a-f]{32}$")),
    security(("operator" = ["agents:write"])), extensions(("x-scope" = json!("agents:write"))),
    responses((status = 200, description = "The agent as it was, and where its end holds.", body = Receipted<Agent>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Agent>), Refusals))]
pub async fn delete(
    by: By<AgentsWrite>,
    State(app): AppState,
    Id(id): Id<AgentId>,
) -> Result<Receipted<Agent>, Problem> {
    let (agent, done) = agents::delete(&app.db, &by.caller, id.as_str()).await?;
    Ok(Receipted::wait(&app.feed, agent, done, true).await)
}
