//! `/v1/operators`: who administers the authority. These scopes equal root on the authority.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, AppState};
use crate::db::Done;
use crate::feed::Enforced;
use crate::http::caller::{By, OperatorsRead, OperatorsWrite};
use crate::http::extract::{Body, Id, IfMatch, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Created, Receipted, Tagged};
use crate::http::v1::keys::Revoke;
use crate::http::v1::rotations::{Rotate, RotatedSecret};
use crate::observations::Owner;
use crate::operators::{self, Change, NewOperator, Operator};
use crate::revocations::Kind;
use crate::types::id::OperatorId;
use crate::types::patch::Patch;

/// An operator that was just made: its key is shown this once.
#[derive(Serialize, ToSchema)]
pub struct CreatedOperator {
    /// The key. Store it now.
    pub key: String,
    /// The operator.
    #[serde(flatten)]
    pub thing: Operator,
}

/// An operator to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOperator {
    /// For people, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// What it may do: `NOUN:read`, `NOUN:write` (which includes read), `grants:write`, or `*`.
    #[schema(min_items = 1, max_items = 64, example = json!(["keys:write", "servers:read"]))]
    scopes: Vec<String>,
    /// Where; everywhere unless said.
    projects: Option<Vec<String>>,
    /// The life of each version of its key, 1 to 90; 90 unless said.
    #[schema(minimum = 1, maximum = 90)]
    expires_in_days: Option<i32>,
    /// Addresses and networks it may be used from.
    allowed_cidrs: Option<Vec<String>>,
}

/// Makes an operator, within your own scopes and projects.
#[utoipa::path(post, path = "/v1/operators", operation_id = "create_operator", tag = "operators", request_body = CreateOperator,
    security(("operator" = ["operators:write"])), extensions(("x-scope" = json!("operators:write"))),
    responses((status = 201, description = "The operator, with its key, shown this once.", body = CreatedOperator), Refusals))]
pub async fn create(
    by: By<OperatorsWrite>,
    State(app): AppState,
    Body(body): Body<CreateOperator>,
) -> Result<Created<CreatedOperator>, Problem> {
    let new = NewOperator {
        name: body.name,
        scopes: body.scopes,
        projects: body.projects,
        expires_in_days: body.expires_in_days,
        allowed_cidrs: body.allowed_cidrs,
    };
    let secret_key = app.feed.secret_key();
    let (thing, issued, done) = operators::create(&app.db, app.sealing(&secret_key), &by.caller, new).await?;
    app.feed.spread(done).await;
    let location = format!("/v1/operators/{}", thing.id);
    Ok(Created { location, thing: CreatedOperator { key: issued.credential.reveal().to_owned(), thing } })
}

/// A page of operators.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListOperators {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
}

/// Lists the operators within your own projects, newest first.
#[utoipa::path(get, path = "/v1/operators", operation_id = "list_operators", tag = "operators", params(ListOperators),
    security(("operator" = ["operators:read"])), extensions(("x-scope" = json!("operators:read"))),
    responses((status = 200, description = "A page of operators.", body = Listing<Operator>), Refusals))]
pub async fn list(
    by: By<OperatorsRead>,
    State(app): AppState,
    Params(params): Params<ListOperators>,
) -> Result<Json<Listing<Operator>>, Problem> {
    let wanted = Wanted::new(&app, "operators", &params, params.limit, params.cursor.as_deref())?;
    let listed = operators::list(&app.db, &by.caller, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads an operator.
#[utoipa::path(get, path = "/v1/operators/{id}", operation_id = "get_operator", tag = "operators", params(("id" = String, Path, description = "The operator's id.", pattern = "^opr_[0-9A-Za-z]{12}$")),
    security(("operator" = ["operators:read"])), extensions(("x-scope" = json!("operators:read"))),
    responses((status = 200, description = "The operator.", body = Operator, headers(("ETag" = String))), Refusals))]
pub async fn get(
    by: By<OperatorsRead>,
    State(app): AppState,
    Id(id): Id<OperatorId>,
) -> Result<Tagged<Operator>, Problem> {
    Ok(Tagged(operators::get(&mut *app.db.reads().acquire().await?, &by.caller, id.as_str()).await?))
}

/// A change of an operator (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeOperator {
    /// A new name.
    name: Option<String>,
    /// All its scopes.
    scopes: Option<Vec<String>>,
    /// All its projects; null: everywhere.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    projects: Patch<Vec<String>>,
    /// Where it may be used from; null: everywhere.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    allowed_cidrs: Patch<Vec<String>>,
    /// Switched off or on.
    disabled: Option<bool>,
}

/// Changes an operator, within your own scopes and projects.
#[utoipa::path(patch, path = "/v1/operators/{id}", operation_id = "change_operator", tag = "operators", params(("id" = String, Path, description = "The operator's id.", pattern = "^opr_[0-9A-Za-z]{12}$"), ("If-Match" = Option<String>, Header, description = "The tag it must have.")), request_body = ChangeOperator,
    security(("operator" = ["operators:write"])), extensions(("x-scope" = json!("operators:write"))),
    responses((status = 200, description = "The operator as it is now.", body = Receipted<Operator>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Operator>), Refusals))]
pub async fn change(
    by: By<OperatorsWrite>,
    State(app): AppState,
    Id(id): Id<OperatorId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeOperator>,
) -> Result<Receipted<Operator>, Problem> {
    let change = Change {
        name: body.name,
        scopes: body.scopes,
        projects: body.projects,
        allowed_cidrs: body.allowed_cidrs,
        disabled: body.disabled,
    };
    let (operator, done, narrowed) =
        operators::change(&app.db, &by.caller, id.as_str(), change, expected.as_deref()).await?;
    Ok(Receipted::wait(&app.feed, operator, done, narrowed).await)
}

/// Makes a new key for an operator; the old one lives on for the grace.
#[utoipa::path(post, path = "/v1/operators/{id}/rotate", operation_id = "rotate_operator", tag = "operators", params(("id" = String, Path, description = "The operator's id.", pattern = "^opr_[0-9A-Za-z]{12}$")), request_body = Rotate,
    security(("operator" = ["operators:write"])), extensions(("x-scope" = json!("operators:write"))),
    responses((status = 200, description = "The new key, shown this once.", body = Receipted<RotatedSecret>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<RotatedSecret>), Refusals))]
pub async fn rotate(
    by: By<OperatorsWrite>,
    State(app): AppState,
    Id(id): Id<OperatorId>,
    Body(body): Body<Rotate>,
) -> Result<Receipted<RotatedSecret>, Problem> {
    let newest =
        app.live.memory().operators.get(&id).and_then(|operator| operator.secrets.newest().map(|newest| newest.number));
    app.settle_use(Owner::Operator(id), newest).await?;
    let secret_key = app.feed.secret_key();
    let (issued, done) =
        operators::rotate(&app.db, app.sealing(&secret_key), &by.caller, id.as_str(), body.grace_seconds).await?;
    let rotated = RotatedSecret {
        id: id.to_string(),
        key: issued.credential.reveal().to_owned(),
        hint: issued.credential.hint(),
        expires_at: issued.expires_at,
        previous_expires_at: issued.previous_expires_at,
    };
    Ok(Receipted::wait(&app.feed, rotated, done, true).await)
}

/// Revokes an operator's key for good.
#[utoipa::path(post, path = "/v1/operators/{id}/revoke", operation_id = "revoke_operator", tag = "operators", params(("id" = String, Path, description = "The operator's id.", pattern = "^opr_[0-9A-Za-z]{12}$")), request_body = Revoke,
    security(("operator" = ["operators:write"])), extensions(("x-scope" = json!("operators:write"))),
    responses((status = 200, description = "The operator, and where its end holds.", body = Receipted<Operator>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Operator>), Refusals))]
pub async fn revoke(
    by: By<OperatorsWrite>,
    State(app): AppState,
    Id(id): Id<OperatorId>,
    Body(body): Body<Revoke>,
) -> Result<Receipted<Operator>, Problem> {
    let (operator, done) = operators::revoke(&app.db, &by.caller, id.as_str(), body.checked()?).await?;
    let enforced: Enforced = enforce(&app, done).await;
    Ok(Receipted { thing: operator, enforced: Some(enforced) })
}

async fn enforce(app: &App, done: Done) -> Enforced {
    super::revocations::enforce(app, Kind::Operator, done).await
}
