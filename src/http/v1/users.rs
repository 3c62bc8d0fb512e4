//! `/v1/users`: people who signed in. They belong to no project.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::AppState;
use crate::http::caller::{By, UsersRead, UsersWrite};
use crate::http::extract::{Body, Id, IfMatch, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Receipted, Tagged};
use crate::http::v1::agents::Switch;
use crate::types::id::{ProviderId, UserId};
use crate::users::{self, Filter, User};

/// What a list of people is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListUsers {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// Who signs in with this provider.
    #[param(value_type = Option<String>)]
    provider_id: Option<ProviderId>,
    /// `active` or `disabled`.
    status: Option<Switch>,
    /// How the user name begins, in any case.
    q: Option<String>,
}

/// Lists people, newest first. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/users", operation_id = "list_users", tag = "users", params(ListUsers),
    security(("operator" = ["users:read"])), extensions(("x-scope" = json!("users:read"))),
    responses((status = 200, description = "A page of people.", body = Listing<User>), Refusals))]
pub async fn list(
    by: By<UsersRead>,
    State(app): AppState,
    Params(params): Params<ListUsers>,
) -> Result<Json<Listing<User>>, Problem> {
    let wanted = Wanted::new(&app, "users", &params, params.limit, params.cursor.as_deref())?;
    let filter = Filter {
        provider_id: params.provider_id.map(|id| id.to_string()),
        disabled: params.status.map(Switch::is_off),
        q: params.q,
    };
    let listed = users::list(&app.db, &by.caller, &filter, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads a person. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/users/{id}", operation_id = "get_user", tag = "users", params(("id" = String, Path, description = "The person's id.", pattern = "^usr_[0-9a-f]{32}$")),
    security(("operator" = ["users:read"])), extensions(("x-scope" = json!("users:read"))),
    responses((status = 200, description = "The person.", body = User, headers(("ETag" = String))), Refusals))]
pub async fn get(by: By<UsersRead>, State(app): AppState, Id(id): Id<UserId>) -> Result<Tagged<User>, Problem> {
    Ok(Tagged(users::get(&mut *app.db.reads().acquire().await?, &by.caller, id).await?))
}

/// A change of a person (RFC 7396). Everything else about it is the provider's to say.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// Switched off or on. Off ends its sign-ins and kills all that was issued for it, for good.
    disabled: Option<bool>,
}

/// Changes a person. Needs an operator on all projects.
#[utoipa::path(patch, path = "/v1/users/{id}", operation_id = "change_user", tag = "users", params(("id" = String, Path, description = "The person's id.", pattern = "^usr_[0-9a-f]{32}$"), ("If-Match" = Option<String>, Header, description = "The tag it must have.")), request_body = ChangeUser,
    security(("operator" = ["users:write"])), extensions(("x-scope" = json!("users:write"))),
    responses((status = 200, description = "The person as it is now; `enforced` when a right was taken away.", body = Receipted<User>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<User>), Refusals))]
pub async fn change(
    by: By<UsersWrite>,
    State(app): AppState,
    Id(id): Id<UserId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeUser>,
) -> Result<Receipted<User>, Problem> {
    let changed = users::change(&app.db, &by.caller, id, body.disabled, expected.as_deref()).await?;
    let (user, done, narrowed) = changed;
    Ok(Receipted::wait(&app.feed, user, done, narrowed).await)
}
