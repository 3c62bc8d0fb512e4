//! `/v1/jobs`: what runs by itself, when it last succeeded, and running it now.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::AppState;
use crate::http::caller::{By, JobsRead, JobsWrite};
use crate::http::extract::{Body, Id};
use crate::http::problem::{Problem, Refusals};
use crate::jobs::{self, Job, Report, Status};
use crate::refusal::Refused;

/// All jobs.
#[derive(Serialize, ToSchema)]
pub struct Jobs {
    /// In a fixed order.
    items: Vec<Status>,
}

/// Lists the jobs, and how each stands. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/jobs", operation_id = "list_jobs", tag = "jobs",
    security(("operator" = ["jobs:read"])), extensions(("x-scope" = json!("jobs:read"))),
    responses((status = 200, description = "The jobs.", body = Jobs), Refusals))]
pub async fn list(by: By<JobsRead>, State(app): AppState) -> Result<Json<Jobs>, Problem> {
    super::nodes::everywhere(&by.caller)?;
    Ok(Json(Jobs { items: jobs::look(&app).await? }))
}

/// Reads a job. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/jobs/{name}", operation_id = "get_job", tag = "jobs", params(("name" = String, Path, description = "The job's name.", pattern = "^[a-z_]{1,40}$")),
    security(("operator" = ["jobs:read"])), extensions(("x-scope" = json!("jobs:read"))),
    responses((status = 200, description = "The job.", body = Status), Refusals))]
pub async fn get(by: By<JobsRead>, State(app): AppState, Id(job): Id<Job>) -> Result<Json<Status>, Problem> {
    super::nodes::everywhere(&by.caller)?;
    let all = jobs::look(&app).await?;
    let found = all.into_iter().find(|status| status.name == job.name());
    Ok(Json(found.ok_or_else(|| Refused::not_found("job"))?))
}

/// How to run a job.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunJob {
    /// Everything is taken back, and the answer says what would be done first. False unless said.
    #[serde(default)]
    dry_run: bool,
}

/// A run that has ended.
#[derive(Serialize, ToSchema)]
pub struct RanJob {
    /// The job.
    name: String,
    /// Nothing was changed.
    dry_run: bool,
    /// It did what it is for.
    succeeded: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What it did, or would do first.
    #[serde(flatten)]
    report: Report,
}

/// Runs a job now, on the node that answers, and waits for its end. Needs an operator on all projects.
#[utoipa::path(post, path = "/v1/jobs/{name}/run", operation_id = "run_job", tag = "jobs", params(("name" = String, Path, description = "The job's name.", pattern = "^[a-z_]{1,40}$")), request_body = RunJob,
    security(("operator" = ["jobs:write"])), extensions(("x-scope" = json!("jobs:write"))),
    responses((status = 200, description = "The run has ended; `succeeded` says how.", body = RanJob), Refusals))]
pub async fn run(
    by: By<JobsWrite>,
    State(app): AppState,
    Id(job): Id<Job>,
    Body(body): Body<RunJob>,
) -> Result<Json<RanJob>, Problem> {
    super::nodes::everywhere(&by.caller)?;
    let (report, error) = match jobs::run_now(&app, &by.caller, job, body.dry_run).await? {
        Ok(report) => (report, None),
        Err(error) => (Report::default(), Some(error)),
    };
    let (name, dry_run, succeeded) = (job.name().to_owned(), body.dry_run, error.is_none());
    Ok(Json(RanJob { name, dry_run, succeeded, error, report }))
}
