//! `/v1/nodes`: the running nodes, and what each has applied.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::AppState;
use crate::http::caller::{By, NodesRead};
use crate::http::problem::{Problem, Refusals};
use crate::nodes::{self, Node};
use crate::refusal::{Code, Refused};
use crate::types::caller::Caller;

/// All nodes.
#[derive(Serialize, ToSchema)]
pub struct Nodes {
    /// By start.
    items: Vec<Node>,
}

/// Lists the running nodes. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/nodes", operation_id = "list_nodes", tag = "nodes",
    security(("operator" = ["nodes:read"])), extensions(("x-scope" = json!("nodes:read"))),
    responses((status = 200, description = "The nodes.", body = Nodes), Refusals))]
pub async fn list(by: By<NodesRead>, State(app): AppState) -> Result<Json<Nodes>, Problem> {
    everywhere(&by.caller)?;
    Ok(Json(Nodes { items: nodes::list(&mut *app.db.reads().acquire().await?).await? }))
}

/// What concerns the whole installation is for operators on all projects.
pub(super) fn everywhere(by: &Caller) -> Result<(), Refused> {
    if by.projects.is_none() {
        Ok(())
    } else {
        Err(Refused::new(Code::BeyondOwnRights, "Only an operator on all projects may do this."))
    }
}
