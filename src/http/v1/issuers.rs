//! `/v1/issuers`: whose tokens stand for workloads, and which workload acts as which client.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::app::AppState;
use crate::http::caller::{By, IssuersRead, IssuersWrite};
use crate::http::extract::{Body, Id, IfMatch, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Created, Receipted, Tagged};
use crate::http::v1::keys::immutable;
use crate::issuers::{self, Change, Issuer, NewIssuer, Rule};
use crate::types::id::IssuerId;
use crate::types::patch::Patch;

/// An issuer to trust.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddIssuer {
    /// For people, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100, example = "GitHub Actions")]
    name: String,
    /// What its tokens call it, byte by byte: an https or spiffe URL. Never changes.
    #[schema(max_length = 512, example = "https://token.actions.githubusercontent.com")]
    issuer: String,
    /// Where its keys are, over https. Left out: where its own OpenID configuration says; a spiffe URL has none.
    #[schema(max_length = 512)]
    jwks_uri: Option<String>,
    /// For whom its tokens must be. Left out: our issuer, or the token endpoint's address. Name another only where the platform
    /// makes no tokens for us: whoever else takes that audience can use them here.
    #[schema(max_length = 512)]
    audience: Option<String>,
    /// Which workload acts as which client, at most 100.
    #[serde(default)]
    #[schema(max_items = 100)]
    rules: Vec<Rule>,
}

/// Trusts an issuer. Needs an operator on all projects; a rule needs `grants:write` where its client has grants.
#[utoipa::path(post, path = "/v1/issuers", operation_id = "add_issuer", tag = "issuers", request_body = AddIssuer,
    security(("operator" = ["issuers:write"])), extensions(("x-scope" = json!("issuers:write"))),
    responses((status = 201, description = "The issuer.", body = Issuer), Refusals))]
pub async fn create(
    by: By<IssuersWrite>,
    State(app): AppState,
    Body(body): Body<AddIssuer>,
) -> Result<Created<Issuer>, Problem> {
    let new = NewIssuer {
        name: body.name,
        issuer: body.issuer,
        jwks_uri: body.jwks_uri,
        audience: body.audience,
        rules: body.rules,
    };
    let (thing, done) = issuers::create(&app.db, &by.caller, app.config.outbound.loopback, new).await?;
    app.feed.spread(done).await;
    Ok(Created { location: format!("/v1/issuers/{}", thing.id), thing })
}

/// A page of the issuers.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListIssuers {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
}

/// Lists the trusted issuers, newest first. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/issuers", operation_id = "list_issuers", tag = "issuers", params(ListIssuers),
    security(("operator" = ["issuers:read"])), extensions(("x-scope" = json!("issuers:read"))),
    responses((status = 200, description = "A page of issuers.", body = Listing<Issuer>), Refusals))]
pub async fn list(
    by: By<IssuersRead>,
    State(app): AppState,
    Params(params): Params<ListIssuers>,
) -> Result<Json<Listing<Issuer>>, Problem> {
    let wanted = Wanted::new(&app, "issuers", &params, params.limit, params.cursor.as_deref())?;
    let listed = issuers::list(&app.db, &by.caller, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads a trusted issuer. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/issuers/{id}", operation_id = "get_issuer", tag = "issuers", params(("id" = String, Path, description = "The issuer's id.", pattern = "^iss_[0-9a-f]{32}$")),
    security(("operator" = ["issuers:read"])), extensions(("x-scope" = json!("issuers:read"))),
    responses((status = 200, description = "The issuer.", body = Issuer, headers(("ETag" = String))), Refusals))]
pub async fn get(by: By<IssuersRead>, State(app): AppState, Id(id): Id<IssuerId>) -> Result<Tagged<Issuer>, Problem> {
    Ok(Tagged(issuers::get(&mut *app.db.reads().acquire().await?, &by.caller, id).await?))
}

/// A change of an issuer (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeIssuer {
    /// A new name.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Where its keys are; null: where its own configuration says.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    jwks_uri: Patch<String>,
    /// For whom its tokens must be; null: our issuer, or the token endpoint's address.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    audience: Patch<String>,
    /// All its rules.
    #[schema(max_items = 100)]
    rules: Option<Vec<Rule>>,
    /// Switched off or on. Off: its tokens get nothing, and what its clients hold dies.
    disabled: Option<bool>,
    /// Never changes.
    #[schema(ignore)]
    issuer: Option<Value>,
}

/// Changes a trusted issuer. Where a rule, the keys or the audience change, what the clients concerned hold dies. Needs an
/// operator on all projects.
#[utoipa::path(patch, path = "/v1/issuers/{id}", operation_id = "change_issuer", tag = "issuers", params(("id" = String, Path, description = "The issuer's id.", pattern = "^iss_[0-9a-f]{32}$"), ("If-Match" = Option<String>, Header, description = "The tag it must have.")), request_body = ChangeIssuer,
    security(("operator" = ["issuers:write"])), extensions(("x-scope" = json!("issuers:write"))),
    responses((status = 200, description = "The issuer as it is now; `enforced` when a right was taken away.", body = Receipted<Issuer>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Issuer>), Refusals))]
pub async fn change(
    by: By<IssuersWrite>,
    State(app): AppState,
    Id(id): Id<IssuerId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeIssuer>,
) -> Result<Receipted<Issuer>, Problem> {
    immutable(&[("issuer", &body.issuer)])?;
    let change = Change {
        name: body.name,
        jwks_uri: body.jwks_uri,
        audience: body.audience,
        rules: body.rules,
        disabled: body.disabled,
    };
    let asked = (app.config.outbound.loopback, change, expected.as_deref());
    let (issuer, done, narrowed) = issuers::change(&app.db, &by.caller, id, asked).await?;
    Ok(Receipted::wait(&app.feed, issuer, done, narrowed).await)
}

/// Trusts an issuer no more: its tokens get nothing, and what its clients hold dies. Needs an operator on all projects.
#[utoipa::path(delete, path = "/v1/issuers/{id}", operation_id = "delete_issuer", tag = "issuers", params(("id" = String, Path, description = "The issuer's id.", pattern = "^iss_[0-9a-f]{32}$")),
    security(("operator" = ["issuers:write"])), extensions(("x-scope" = json!("issuers:write"))),
    responses((status = 200, description = "The issuer as it was, and where its end holds.", body = Receipted<Issuer>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Issuer>), Refusals))]
pub async fn delete(
    by: By<IssuersWrite>,
    State(app): AppState,
    Id(id): Id<IssuerId>,
) -> Result<Receipted<Issuer>, Problem> {
    let (issuer, done) = issuers::delete(&app.db, &by.caller, id).await?;
    Ok(Receipted::wait(&app.feed, issuer, done, true).await)
}
