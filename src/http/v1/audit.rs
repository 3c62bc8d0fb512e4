//! `/v1/audit`: what happened, and the signed checkpoints.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::app::AppState;
use crate::audit::{self, Checkpointed, Filter, Recorded};
use crate::http::caller::{AuditRead, By};
use crate::http::extract::Params;
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};

const NDJSON: &str = "application/x-ndjson";

/// How something ended.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AuditResult)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}

/// What a list of audit entries is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAudit {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// Who did it.
    actor: Option<String>,
    /// What was done.
    action: Option<String>,
    /// On what.
    target: Option<String>,
    /// About this agent.
    agent_id: Option<String>,
    /// About this key.
    key_id: Option<String>,
    /// About this server.
    server_id: Option<String>,
    /// In this project.
    project: Option<String>,
    /// `done` or `refused`.
    result: Option<Outcome>,
    /// At or after this time.
    #[serde(default, with = "crate::http::extract::instant")]
    since: Option<OffsetDateTime>,
    /// Before this time.
    #[serde(default, with = "crate::http::extract::instant")]
    until: Option<OffsetDateTime>,
}

/// Lists audit entries, newest first; with `Accept: application/x-ndjson` one a line. The next page's cursor is then in
/// the header `X-Next-Cursor`.
#[utoipa::path(get, path = "/v1/audit", operation_id = "list_audit", tag = "audit", params(ListAudit),
    security(("operator" = ["audit:read"])), extensions(("x-scope" = json!("audit:read"))),
    responses((status = 200, description = "A page of entries.", content((Listing<Recorded> = "application/json"), (String = "application/x-ndjson"))), Refusals))]
pub async fn list(
    by: By<AuditRead>,
    State(app): AppState,
    headers: HeaderMap,
    Params(params): Params<ListAudit>,
) -> Result<Response, Problem> {
    let wanted = Wanted::new(&app, "audit", &params, params.limit, params.cursor.as_deref())?;
    let filter = Filter {
        actor: params.actor,
        action: params.action,
        target: params.target,
        agent_id: params.agent_id,
        key_id: params.key_id,
        server_id: params.server_id,
        project: params.project,
        result: params.result.map(|result| if matches!(result, Outcome::Done) { "done" } else { "refused" }.to_owned()),
        since: params.since,
        until: params.until,
    };
    let listed = audit::list(&mut *app.db.begin_list().await?, by.caller.projects(), &filter, &wanted.page).await?;
    let listing = wanted.listing(listed);
    let lines = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains(NDJSON));
    if !lines {
        return Ok(Json(listing).into_response());
    }
    let text: String = listing
        .items
        .iter()
        .filter_map(|item| serde_json::to_string(item).ok())
        .flat_map(|line| [line, "\n".to_owned()])
        .collect();
    let mut response = ([(header::CONTENT_TYPE, NDJSON)], text).into_response();
    if let Some(cursor) = listing.next_cursor.and_then(|cursor| http::HeaderValue::from_str(&cursor).ok()) {
        response.headers_mut().insert("x-next-cursor", cursor);
    }
    Ok(response)
}

/// Which checkpoints are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListCheckpoints {
    /// The first number; 1 unless said.
    #[param(minimum = 1)]
    from: Option<i64>,
}

/// A page of checkpoints.
#[derive(Serialize, ToSchema)]
pub struct Checkpoints {
    /// At most 200, oldest first. Ask again from the last number and one.
    items: Vec<Checkpointed>,
}

/// Lists the signed checkpoints, to be kept elsewhere. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/audit/checkpoints", operation_id = "list_audit_checkpoints", tag = "audit", params(ListCheckpoints),
    security(("operator" = ["audit:read"])), extensions(("x-scope" = json!("audit:read"))),
    responses((status = 200, description = "The checkpoints.", body = Checkpoints), Refusals))]
pub async fn checkpoints(
    by: By<AuditRead>,
    State(app): AppState,
    Params(params): Params<ListCheckpoints>,
) -> Result<Json<Checkpoints>, Problem> {
    super::nodes::everywhere(&by.caller)?;
    let items = audit::checkpoints(&mut *app.db.reads().acquire().await?, params.from.unwrap_or(1).max(1), 200).await?;
    Ok(Json(Checkpoints { items }))
}
