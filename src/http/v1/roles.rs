//! `/v1/roles`: named bundles of grants.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::AppState;
use crate::grants::Grant;
use crate::http::caller::{By, RolesRead, RolesWrite};
use crate::http::extract::{Body, Id, IfMatch, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Created, Nothing, Receipted, Tagged};
use crate::roles::{self, Change, NewRole, Role};
use crate::types::id::RoleId;

/// A role to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRole {
    /// Unique in its project, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Its project; `default` unless said.
    project: Option<String>,
    /// What it grants.
    #[serde(default)]
    grants: Vec<Grant>,
}

/// Makes a role.
#[utoipa::path(post, path = "/v1/roles", operation_id = "create_role", tag = "roles", request_body = CreateRole,
    security(("operator" = ["roles:write"])), extensions(("x-scope" = json!("roles:write"))),
    responses((status = 201, description = "The role.", body = Role), Refusals))]
pub async fn create(
    by: By<RolesWrite>,
    State(app): AppState,
    Body(body): Body<CreateRole>,
) -> Result<Created<Role>, Problem> {
    let new = NewRole { name: body.name, project: body.project, grants: body.grants };
    let (thing, done) = roles::create(&app.db, &by.caller, new).await?;
    app.feed.spread(done).await;
    Ok(Created { location: format!("/v1/roles/{}", thing.id), thing })
}

/// What a list of roles is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListRoles {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// Of this project.
    project: Option<String>,
}

/// Lists roles, newest first.
#[utoipa::path(get, path = "/v1/roles", operation_id = "list_roles", tag = "roles", params(ListRoles),
    security(("operator" = ["roles:read"])), extensions(("x-scope" = json!("roles:read"))),
    responses((status = 200, description = "A page of roles.", body = Listing<Role>), Refusals))]
pub async fn list(
    by: By<RolesRead>,
    State(app): AppState,
    Params(params): Params<ListRoles>,
) -> Result<Json<Listing<Role>>, Problem> {
    let wanted = Wanted::new(&app, "roles", &params, params.limit, params.cursor.as_deref())?;
    let listed = roles::list(&app.db, &by.caller, params.project.as_deref(), &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads a role.
#[utoipa::path(get, path = "/v1/roles/{id}", operation_id = "get_role", tag = "roles", params(("id" = String, Path, description = "The role's id.", pattern = "^rol_[0-9a-f]{32}$")),
    security(("operator" = ["roles:read"])), extensions(("x-scope" = json!("roles:read"))),
    responses((status = 200, description = "The role.", body = Role, headers(("ETag" = String))), Refusals))]
pub async fn get(by: By<RolesRead>, State(app): AppState, Id(id): Id<RoleId>) -> Result<Tagged<Role>, Problem> {
    Ok(Tagged(roles::get(&mut *app.db.reads().acquire().await?, &by.caller, id.as_str()).await?))
}

/// A change of a role (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeRole {
    /// A new name.
    name: Option<String>,
    /// All its grants.
    grants: Option<Vec<Grant>>,
}

/// Changes a role, for all keys that have it, at once.
#[utoipa::path(patch, path = "/v1/roles/{id}", operation_id = "change_role", tag = "roles", params(("id" = String, Path, description = "The role's id.", pattern = "^rol_[0-9a-f]{32}$"), ("If-Match" = Option<String>, Header, description = "The tag it must have.")), request_body = ChangeRole,
    security(("operator" = ["roles:write"])), extensions(("x-scope" = json!("roles:write"))),
    responses((status = 200, description = "The role as it is now; `enforced` when a right was taken away.", body = Receipted<Role>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Role>), Refusals))]
pub async fn change(
    by: By<RolesWrite>,
    State(app): AppState,
    Id(id): Id<RoleId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeRole>,
) -> Result<Receipted<Role>, Problem> {
    let change = Change { name: body.name, grants: body.grants };
    let (role, done, narrowed) = roles::change(&app.db, &by.caller, id.as_str(), change, expected.as_deref()).await?;
    Ok(Receipted::wait(&app.feed, role, done, narrowed).await)
}

/// Deletes a role that no key has.
#[utoipa::path(delete, path = "/v1/roles/{id}", operation_id = "delete_role", tag = "roles", params(("id" = String, Path, description = "The role's id.", pattern = "^rol_[0-9a-f]{32}$")),
    security(("operator" = ["roles:write"])), extensions(("x-scope" = json!("roles:write"))),
    responses((status = 200, description = "It is gone.", body = Receipted<Nothing>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Nothing>), Refusals))]
pub async fn delete(
    by: By<RolesWrite>,
    State(app): AppState,
    Id(id): Id<RoleId>,
) -> Result<Receipted<Nothing>, Problem> {
    let done = roles::delete(&app.db, &by.caller, id.as_str()).await?;
    Ok(Receipted::wait(&app.feed, Nothing {}, done, true).await)
}
