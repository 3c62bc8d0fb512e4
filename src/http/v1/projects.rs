//! `/v1/projects`: teams' shares of the authority.

use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::AppState;
use crate::http::caller::{By, ProjectsRead, ProjectsWrite};
use crate::http::extract::{Body, Id, IfMatch, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Created, Nothing, Receipted, Tagged};
use crate::projects::{self, Project};
use crate::types::patch::Patch;

/// A project by its name or its id.
#[derive(Debug)]
pub struct Reference(String);

impl FromStr for Reference {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err("neither a project's name nor an id")
        }
    }
}

/// A project to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    /// 1 to 63 of a-z, 0-9 and `-`; it never changes.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    name: String,
    /// Hosts that resources may lie on: a name, or `*.` and a name. Any unless said.
    #[schema(max_items = 100)]
    hosts: Option<Vec<String>>,
}

/// Makes a project. Needs an operator on all projects.
#[utoipa::path(post, path = "/v1/projects", operation_id = "create_project", tag = "projects", request_body = CreateProject,
    security(("operator" = ["projects:write"])), extensions(("x-scope" = json!("projects:write"))),
    responses((status = 201, description = "The project.", body = Project), Refusals))]
pub async fn create(
    by: By<ProjectsWrite>,
    State(app): AppState,
    Body(body): Body<CreateProject>,
) -> Result<Created<Project>, Problem> {
    let (thing, done) = projects::create(&app.db, &by.caller, &body.name, body.hosts).await?;
    app.feed.spread(done).await;
    Ok(Created { location: format!("/v1/projects/{}", thing.name), thing })
}

/// A page of projects.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListProjects {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
}

/// Lists the projects that you reach, newest first.
#[utoipa::path(get, path = "/v1/projects", operation_id = "list_projects", tag = "projects", params(ListProjects),
    security(("operator" = ["projects:read"])), extensions(("x-scope" = json!("projects:read"))),
    responses((status = 200, description = "A page of projects.", body = Listing<Project>), Refusals))]
pub async fn list(
    by: By<ProjectsRead>,
    State(app): AppState,
    Params(params): Params<ListProjects>,
) -> Result<Json<Listing<Project>>, Problem> {
    let wanted = Wanted::new(&app, "projects", &params, params.limit, params.cursor.as_deref())?;
    let listed = projects::list(&app.db, &by.caller, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads a project.
#[utoipa::path(get, path = "/v1/projects/{id}", operation_id = "get_project", tag = "projects", params(("id" = String, Path, description = "The project's name or id.", pattern = "^[a-z0-9_-]{1,64}$")),
    security(("operator" = ["projects:read"])), extensions(("x-scope" = json!("projects:read"))),
    responses((status = 200, description = "The project.", body = Project, headers(("ETag" = String))), Refusals))]
pub async fn get(
    by: By<ProjectsRead>,
    State(app): AppState,
    Id(id): Id<Reference>,
) -> Result<Tagged<Project>, Problem> {
    Ok(Tagged(projects::get(&mut *app.db.reads().acquire().await?, &by.caller, &id.0).await?))
}

/// A change of a project (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeProject {
    /// All its hosts; null: any.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    hosts: Patch<Vec<String>>,
}

/// Changes a project's hosts. What is registered already stays.
#[utoipa::path(patch, path = "/v1/projects/{id}", operation_id = "change_project", tag = "projects", params(("id" = String, Path, description = "The project's name or id.", pattern = "^[a-z0-9_-]{1,64}$"), ("If-Match" = Option<String>, Header, description = "The tag it must have.")), request_body = ChangeProject,
    security(("operator" = ["projects:write"])), extensions(("x-scope" = json!("projects:write"))),
    responses((status = 200, description = "The project as it is now.", body = Receipted<Project>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Project>), Refusals))]
pub async fn change(
    by: By<ProjectsWrite>,
    State(app): AppState,
    Id(id): Id<Reference>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeProject>,
) -> Result<Receipted<Project>, Problem> {
    let (project, done) = projects::change(&app.db, &by.caller, &id.0, body.hosts, expected.as_deref()).await?;
    Ok(Receipted::wait(&app.feed, project, done, true).await)
}

/// Deletes a project that nothing belongs to.
#[utoipa::path(delete, path = "/v1/projects/{id}", operation_id = "delete_project", tag = "projects", params(("id" = String, Path, description = "The project's name or id.", pattern = "^[a-z0-9_-]{1,64}$")),
    security(("operator" = ["projects:write"])), extensions(("x-scope" = json!("projects:write"))),
    responses((status = 200, description = "It is gone.", body = Receipted<Nothing>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Nothing>), Refusals))]
pub async fn delete(
    by: By<ProjectsWrite>,
    State(app): AppState,
    Id(id): Id<Reference>,
) -> Result<Receipted<Nothing>, Problem> {
    let done = projects::delete(&app.db, &by.caller, &id.0).await?;
    Ok(Receipted::wait(&app.feed, Nothing {}, done, true).await)
}
