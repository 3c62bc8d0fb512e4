//! `/v1/providers`: identity providers that people sign in with, and who has which role by them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, AppState};
use crate::http::caller::{By, ProvidersRead, ProvidersWrite};
use crate::http::extract::{Body, Id, IfMatch, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Created, Receipted, Tagged};
use crate::http::v1::keys::immutable;
use crate::providers::{self, Change, Here, NewProvider, ProviderKind, Rule, Settings, Shown};
use crate::types::id::ProviderId;
use crate::types::patch::Patch;
use crate::types::redacted::Secret;

fn here(app: &App) -> Here {
    Here { loopback: app.config.outbound.loopback, local: app.config.is_local() }
}

/// A provider to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddProvider {
    /// Stands in addresses, never changes: `a-z`, `0-9` and `-` within, 1 to 32.
    #[schema(min_length = 1, max_length = 32, pattern = "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$", example = "okta")]
    name: String,
    /// What people read on the button, 1 to 100 characters; the name unless said.
    #[schema(min_length = 1, max_length = 100)]
    title: Option<String>,
    /// What it speaks. `demo` is refused unless the service is for this machine only.
    kind: ProviderKind,
    /// What its kind needs.
    #[serde(default = "nothing")]
    #[schema(value_type = Settings)]
    settings: Value,
    /// Our secret there; none for a public client. Never shown again.
    #[schema(min_length = 1, max_length = 500)]
    client_secret: Option<String>,
    /// Who has which role, at most 200.
    #[serde(default)]
    #[schema(max_items = 200)]
    rules: Vec<Rule>,
    /// Its identity assertions (ID-JAG) get tokens for its people without anybody being asked: the company decides. Only
    /// `openid`; false unless said.
    #[serde(default)]
    enterprise_managed: bool,
}

fn nothing() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Adds an identity provider. Needs an operator on all projects; a rule's role needs `grants:write` where it grants something.
#[utoipa::path(post, path = "/v1/providers", operation_id = "add_provider", tag = "providers", request_body = AddProvider,
    security(("operator" = ["providers:write"])), extensions(("x-scope" = json!("providers:write"))),
    responses((status = 201, description = "The provider.", body = Shown), Refusals))]
pub async fn create(
    by: By<ProvidersWrite>,
    State(app): AppState,
    Body(body): Body<AddProvider>,
) -> Result<Created<Shown>, Problem> {
    let new = NewProvider {
        name: body.name,
        title: body.title,
        kind: body.kind,
        settings: body.settings,
        client_secret: body.client_secret.map(Secret::new),
        rules: body.rules,
        enterprise_managed: body.enterprise_managed,
    };
    let secret_key = app.feed.secret_key();
    let (thing, done) = providers::create(&app.db, app.sealing(&secret_key), &by.caller, here(&app), new).await?;
    app.feed.spread(done).await;
    Ok(Created { location: format!("/v1/providers/{}", thing.id), thing })
}

/// A page of the providers.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListProviders {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
}

/// Lists the identity providers, newest first. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/providers", operation_id = "list_providers", tag = "providers", params(ListProviders),
    security(("operator" = ["providers:read"])), extensions(("x-scope" = json!("providers:read"))),
    responses((status = 200, description = "A page of providers.", body = Listing<Shown>), Refusals))]
pub async fn list(
    by: By<ProvidersRead>,
    State(app): AppState,
    Params(params): Params<ListProviders>,
) -> Result<Json<Listing<Shown>>, Problem> {
    let wanted = Wanted::new(&app, "providers", &params, params.limit, params.cursor.as_deref())?;
    let listed = providers::list(&app.db, &by.caller, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads an identity provider. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/providers/{id}", operation_id = "get_provider", tag = "providers", params(("id" = String, Path, description = "The provider's id.", pattern = "^idp_[0-9a-f]{32}$")),
    security(("operator" = ["providers:read"])), extensions(("x-scope" = json!("providers:read"))),
    responses((status = 200, description = "The provider.", body = Shown, headers(("ETag" = String))), Refusals))]
pub async fn get(
    by: By<ProvidersRead>,
    State(app): AppState,
    Id(id): Id<ProviderId>,
) -> Result<Tagged<Shown>, Problem> {
    Ok(Tagged(providers::get(&mut *app.db.reads().acquire().await?, &by.caller, id).await?))
}

/// A change of a provider (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeProvider {
    /// What people read; null makes it the name.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    title: Patch<String>,
    /// Members of its settings that change; null takes one away. What decides whom a subject names never changes: the issuer
    /// of `openid`, `userinfo_endpoint` and `subject_field` of `oauth2`.
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    /// Our new secret there; null makes us a public client.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    client_secret: Patch<String>,
    /// All its rules. They count from each person's next sign-in or renewal on.
    #[schema(max_items = 200)]
    rules: Option<Vec<Rule>>,
    /// Whether its identity assertions get tokens for its people. Off: no new ones; what its
    /// people hold dies.
    enterprise_managed: Option<bool>,
    /// Switched off or on. Off: nobody signs in with it, and what its people hold dies.
    disabled: Option<bool>,
    /// Never changes.
    #[schema(ignore)]
    name: Option<Value>,
    /// Never changes.
    #[schema(ignore)]
    kind: Option<Value>,
}

/// Changes an identity provider. Needs an operator on all projects.
#[utoipa::path(patch, path = "/v1/providers/{id}", operation_id = "change_provider", tag = "providers", params(("id" = String, Path, description = "The provider's id.", pattern = "^idp_[0-9a-f]{32}$"), ("If-Match" = Option<String>, Header, description = "The tag it must have.")), request_body = ChangeProvider,
    security(("operator" = ["providers:write"])), extensions(("x-scope" = json!("providers:write"))),
    responses((status = 200, description = "The provider as it is now; `enforced` when it, or its assertions, were switched off.", body = Receipted<Shown>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Shown>), Refusals))]
pub async fn change(
    by: By<ProvidersWrite>,
    State(app): AppState,
    Id(id): Id<ProviderId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeProvider>,
) -> Result<Receipted<Shown>, Problem> {
    immutable(&[("name", &body.name), ("kind", &body.kind)])?;
    let client_secret = match body.client_secret {
        Patch::Set(secret) => Patch::Set(Secret::new(secret)),
        Patch::Clear => Patch::Clear,
        Patch::Absent => Patch::Absent,
    };
    let change = Change {
        title: body.title,
        settings: body.settings,
        client_secret,
        rules: body.rules,
        enterprise_managed: body.enterprise_managed,
        disabled: body.disabled,
    };
    let secret_key = app.feed.secret_key();
    let asked = (here(&app), change, expected.as_deref());
    let (provider, done, narrowed) =
        providers::change(&app.db, app.sealing(&secret_key), &by.caller, id, asked).await?;
    Ok(Receipted::wait(&app.feed, provider, done, narrowed).await)
}

/// Deletes an identity provider: nobody signs in with it any more, and what its people hold dies. Needs an operator on all
/// projects.
#[utoipa::path(delete, path = "/v1/providers/{id}", operation_id = "delete_provider", tag = "providers", params(("id" = String, Path, description = "The provider's id.", pattern = "^idp_[0-9a-f]{32}$")),
    security(("operator" = ["providers:write"])), extensions(("x-scope" = json!("providers:write"))),
    responses((status = 200, description = "The provider as it was, and where its end holds.", body = Receipted<Shown>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Shown>), Refusals))]
pub async fn delete(
    by: By<ProvidersWrite>,
    State(app): AppState,
    Id(id): Id<ProviderId>,
) -> Result<Receipted<Shown>, Problem> {
    let (provider, done) = providers::delete(&app.db, &by.caller, id).await?;
    Ok(Receipted::wait(&app.feed, provider, done, true).await)
}
