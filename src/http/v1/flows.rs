//! `/v1/flows`: what became of clients' requests, for the operator whom somebody asks why it does not work.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::app::AppState;
use crate::authorizations::{self, Filter, Flow, Outcome, Trace};
use crate::http::caller::{AuditRead, By};
use crate::http::extract::{Id, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::types::id::{FlowId, UserId};

/// What a list of flows is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListFlows {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// Of this client, as requests name it.
    #[param(max_length = 512)]
    client_id: Option<String>,
    /// In which this person signed in.
    #[param(value_type = Option<String>)]
    user_id: Option<UserId>,
    /// `open`, `refused` or `done`.
    result: Option<Outcome>,
}

/// Lists flows, newest first. They are kept for a week, the newest 200,000 of them.
#[utoipa::path(get, path = "/v1/flows", operation_id = "list_flows", tag = "flows", params(ListFlows),
    security(("operator" = ["audit:read"])), extensions(("x-scope" = json!("audit:read"))),
    responses((status = 200, description = "A page of flows.", body = Listing<Flow>), Refusals))]
pub async fn list(
    by: By<AuditRead>,
    State(app): AppState,
    Params(params): Params<ListFlows>,
) -> Result<Json<Listing<Flow>>, Problem> {
    let wanted = Wanted::new(&app, "flows", &params, params.limit, params.cursor.as_deref())?;
    let user_id = params.user_id.map(|id| id.to_string());
    let filter = Filter { client_id: params.client_id, user_id, result: params.result };
    let listed = authorizations::list(&app.db, &by.caller, &filter, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads what happened in a flow, step by step. It holds no secret.
#[utoipa::path(get, path = "/v1/flows/{id}", operation_id = "get_flow", tag = "flows", params(("id" = String, Path, description = "The flow's id.", pattern = "^flw_[0-9a-f]{32}$")),
    security(("operator" = ["audit:read"])), extensions(("x-scope" = json!("audit:read"))),
    responses((status = 200, description = "The flow and its steps.", body = Trace), Refusals))]
pub async fn get(by: By<AuditRead>, State(app): AppState, Id(id): Id<FlowId>) -> Result<Json<Trace>, Problem> {
    Ok(Json(authorizations::trace(&mut *app.db.reads().acquire().await?, &by.caller, id).await?))
}
