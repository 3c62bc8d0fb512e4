//! `/v1/clients`: applications that ask for tokens on behalf of people, or for themselves.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::app::AppState;
use crate::clients::{self, Change, Client, ClientKind, Filter, NewClient};
use crate::grants::Grant;
use crate::http::caller::{By, ClientsRead, ClientsWrite};
use crate::http::extract::{Body, Id, IfMatch, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Created, Receipted, Tagged};
use crate::http::v1::agents::Switch;
use crate::http::v1::keys::immutable;
use crate::http::v1::rotations::Rotate;
use crate::observations::Owner;
use crate::types::id::ClientId;
use crate::types::patch::Patch;

/// A client that was just registered.
#[derive(Serialize, ToSchema)]
pub struct RegisteredClient {
    /// Its secret, shown this once; only if it authenticates with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// The client.
    #[serde(flatten)]
    pub thing: Client,
}

/// A client to register. Its metadata have the names of RFC 7591 §2.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterClient {
    /// Its project; `default` unless said.
    project: Option<String>,
    /// What it may do for itself, server by server; needs `client_credentials`.
    #[serde(default)]
    grants: Vec<Grant>,
    /// For people, 1 to 100 characters.
    #[schema(value_type = String, min_length = 1, max_length = 100)]
    client_name: Option<Value>,
    /// Where people are sent back to: https, http to this machine, or a scheme with a dot.
    #[schema(value_type = Option<Vec<String>>)]
    redirect_uris: Option<Value>,
    /// How it gets tokens; `authorization_code` unless said.
    #[schema(value_type = Option<Vec<String>>)]
    grant_types: Option<Value>,
    /// `client_secret_basic` unless said; else `none`, `client_secret_post` or `private_key_jwt`. Never changes.
    #[schema(value_type = Option<String>)]
    token_endpoint_auth_method: Option<Value>,
    /// What its assertions are signed with; `EdDSA`, `ES256` or `RS256`. Any of them unless said.
    #[schema(value_type = Option<String>)]
    token_endpoint_auth_signing_alg: Option<Value>,
    /// `native` or `web`.
    #[schema(value_type = Option<String>)]
    application_type: Option<Value>,
    /// Its public keys (RFC 7517 §5).
    #[schema(value_type = Option<Object>)]
    jwks: Option<Value>,
    /// Where its public keys are, over https.
    #[schema(value_type = Option<String>)]
    jwks_uri: Option<Value>,
    /// The scopes that it may ask for, separated by spaces; any unless said.
    #[schema(value_type = Option<String>)]
    scope: Option<Value>,
    /// Its home page.
    #[schema(value_type = Option<String>)]
    client_uri: Option<Value>,
    /// Its picture.
    #[schema(value_type = Option<String>)]
    logo_uri: Option<Value>,
    /// Its terms.
    #[schema(value_type = Option<String>)]
    tos_uri: Option<Value>,
    /// What it does with data.
    #[schema(value_type = Option<String>)]
    policy_uri: Option<Value>,
    /// It never uses a token without a proof of possession (RFC 9449 §5.2).
    #[schema(value_type = Option<bool>)]
    dpop_bound_access_tokens: Option<Value>,
}

impl From<RegisterClient> for NewClient {
    fn from(body: RegisterClient) -> Self {
        let members = [
            ("client_name", body.client_name),
            ("redirect_uris", body.redirect_uris),
            ("grant_types", body.grant_types),
            ("token_endpoint_auth_method", body.token_endpoint_auth_method),
            ("token_endpoint_auth_signing_alg", body.token_endpoint_auth_signing_alg),
            ("application_type", body.application_type),
            ("jwks", body.jwks),
            ("jwks_uri", body.jwks_uri),
            ("scope", body.scope),
            ("client_uri", body.client_uri),
            ("logo_uri", body.logo_uri),
            ("tos_uri", body.tos_uri),
            ("policy_uri", body.policy_uri),
            ("dpop_bound_access_tokens", body.dpop_bound_access_tokens),
        ];
        let named = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Self { project: body.project, metadata: named.collect(), grants: body.grants }
    }
}

/// Registers a client.
#[utoipa::path(post, path = "/v1/clients", operation_id = "register_client", tag = "clients", request_body = RegisterClient,
    security(("operator" = ["clients:write"])), extensions(("x-scope" = json!("clients:write"))),
    responses((status = 201, description = "The client; its secret, if it has one, is shown this once.", body = RegisteredClient), Refusals))]
pub async fn create(
    by: By<ClientsWrite>,
    State(app): AppState,
    Body(body): Body<RegisterClient>,
) -> Result<Created<RegisteredClient>, Problem> {
    let secret_key = app.feed.secret_key();
    let (thing, issued, done) = clients::create(&app.db, app.sealing(&secret_key), &by.caller, body.into()).await?;
    app.feed.spread(done).await;
    let client_secret = issued.map(|issued| issued.credential.reveal().to_owned());
    Ok(Created { location: format!("/v1/clients/{}", thing.id), thing: RegisteredClient { client_secret, thing } })
}

/// What a list of clients is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListClients {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// Of this project.
    project: Option<String>,
    /// `registered`, `dynamic` or `document`.
    kind: Option<ClientKind>,
    /// `active` or `disabled`.
    status: Option<Switch>,
    /// How the name begins, in any case.
    q: Option<String>,
}

/// Lists clients, newest first.
#[utoipa::path(get, path = "/v1/clients", operation_id = "list_clients", tag = "clients", params(ListClients),
    security(("operator" = ["clients:read"])), extensions(("x-scope" = json!("clients:read"))),
    responses((status = 200, description = "A page of clients.", body = Listing<Client>), Refusals))]
pub async fn list(
    by: By<ClientsRead>,
    State(app): AppState,
    Params(params): Params<ListClients>,
) -> Result<Json<Listing<Client>>, Problem> {
    let wanted = Wanted::new(&app, "clients", &params, params.limit, params.cursor.as_deref())?;
    let filter =
        Filter { project: params.project, kind: params.kind, disabled: params.status.map(Switch::is_off), q: params.q };
    let listed = clients::list(&app.db, &by.caller, &filter, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads a client.
#[utoipa::path(get, path = "/v1/clients/{id}", operation_id = "get_client", tag = "clients", params(("id" = String, Path, description = "The client's id.", pattern = "^cli_[0-9a-f]{32}$")),
    security(("operator" = ["clients:read"])), extensions(("x-scope" = json!("clients:read"))),
    responses((status = 200, description = "The client.", body = Client, headers(("ETag" = String))), Refusals))]
pub async fn get(by: By<ClientsRead>, State(app): AppState, Id(id): Id<ClientId>) -> Result<Tagged<Client>, Problem> {
    Ok(Tagged(clients::get(&mut *app.db.reads().acquire().await?, &by.caller, id.as_str()).await?))
}

/// A change of a client (RFC 7396). Of one that describes itself in a document only `disabled` can be changed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeClient {
    /// Switched off or on. Off kills all that was issued to it, for good.
    disabled: Option<bool>,
    /// All its grants.
    grants: Option<Vec<Grant>>,
    /// A new name.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    client_name: Patch<Value>,
    /// All its redirect URIs.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    redirect_uris: Patch<Value>,
    /// How it gets tokens.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    grant_types: Patch<Value>,
    /// What its assertions are signed with; null: any.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    token_endpoint_auth_signing_alg: Patch<Value>,
    /// `native` or `web`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    application_type: Patch<Value>,
    /// Its public keys; null in place of `jwks_uri`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    jwks: Patch<Value>,
    /// Where its public keys are; null in place of `jwks`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    jwks_uri: Patch<Value>,
    /// The scopes that it may ask for; null: any.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    scope: Patch<Value>,
    /// Its home page.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    client_uri: Patch<Value>,
    /// Its picture.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    logo_uri: Patch<Value>,
    /// Its terms.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    tos_uri: Patch<Value>,
    /// What it does with data.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    policy_uri: Patch<Value>,
    /// It never uses a token without a proof of possession (RFC 9449 §5.2).
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    dpop_bound_access_tokens: Patch<Value>,
    /// Never changes.
    #[schema(ignore)]
    token_endpoint_auth_method: Option<Value>,
    /// Never changes.
    #[schema(ignore)]
    project: Option<Value>,
}

impl From<ChangeClient> for Change {
    fn from(body: ChangeClient) -> Self {
        let members = [
            ("client_name", body.client_name),
            ("redirect_uris", body.redirect_uris),
            ("grant_types", body.grant_types),
            ("token_endpoint_auth_signing_alg", body.token_endpoint_auth_signing_alg),
            ("application_type", body.application_type),
            ("jwks", body.jwks),
            ("jwks_uri", body.jwks_uri),
            ("scope", body.scope),
            ("client_uri", body.client_uri),
            ("logo_uri", body.logo_uri),
            ("tos_uri", body.tos_uri),
            ("policy_uri", body.policy_uri),
            ("dpop_bound_access_tokens", body.dpop_bound_access_tokens),
        ];
        let mentioned = members.into_iter().filter(|(_, patch)| patch.is_present());
        let metadata: Map<String, Value> =
            mentioned.map(|(name, patch)| (name.to_owned(), patch.over(None).unwrap_or_default())).collect();
        Self { metadata, grants: body.grants, disabled: body.disabled }
    }
}

/// Changes a client.
#[utoipa::path(patch, path = "/v1/clients/{id}", operation_id = "change_client", tag = "clients", params(("id" = String, Path, description = "The client's id.", pattern = "^cli_[0-9a-f]{32}$"), ("If-Match" = Option<String>, Header, description = "The tag it must have.")), request_body = ChangeClient,
    security(("operator" = ["clients:write"])), extensions(("x-scope" = json!("clients:write"))),
    responses((status = 200, description = "The client as it is now; `enforced` when a right was taken away.", body = Receipted<Client>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Client>), Refusals))]
pub async fn change(
    by: By<ClientsWrite>,
    State(app): AppState,
    Id(id): Id<ClientId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeClient>,
) -> Result<Receipted<Client>, Problem> {
    immutable(&[("token_endpoint_auth_method", &body.token_endpoint_auth_method), ("project", &body.project)])?;
    let changed = clients::change(&app.db, &by.caller, id.as_str(), body.into(), expected.as_deref()).await?;
    let (client, done, narrowed) = changed;
    Ok(Receipted::wait(&app.feed, client, done, narrowed).await)
}

/// Deletes a client, for good: what was issued to it dies, and nobody comes by its id again, nor by the address of its
/// document.
#[utoipa::path(delete, path = "/v1/clients/{id}", operation_id = "delete_client", tag = "clients", params(("id" = String, Path, description = "The client's id.", pattern = "^cli_[0-9a-f]{32}$")),
    security(("operator" = ["clients:write"])), extensions(("x-scope" = json!("clients:write"))),
    responses((status = 200, description = "The client as it was, and where its end holds.", body = Receipted<Client>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Client>), Refusals))]
pub async fn delete(
    by: By<ClientsWrite>,
    State(app): AppState,
    Id(id): Id<ClientId>,
) -> Result<Receipted<Client>, Problem> {
    let (client, done) = clients::delete(&app.db, &by.caller, id.as_str()).await?;
    Ok(Receipted::wait(&app.feed, client, done, true).await)
}

/// A client's new secret, shown this once.
#[derive(Serialize, ToSchema)]
pub struct RotatedClient {
    /// The client's id, also its `client_id`.
    id: String,
    /// The new secret. Store it now.
    client_secret: String,
    /// Its last characters.
    hint: String,
    /// When the one before it ends.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    previous_expires_at: Option<OffsetDateTime>,
}

/// Makes a new secret for a client that has one; the old one lives on for the grace.
#[utoipa::path(post, path = "/v1/clients/{id}/rotate", operation_id = "rotate_client", tag = "clients", params(("id" = String, Path, description = "The client's id.", pattern = "^cli_[0-9a-f]{32}$")), request_body = Rotate,
    security(("operator" = ["clients:write"])), extensions(("x-scope" = json!("clients:write"))),
    responses((status = 200, description = "The new secret, shown this once.", body = Receipted<RotatedClient>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<RotatedClient>), Refusals))]
pub async fn rotate(
    by: By<ClientsWrite>,
    State(app): AppState,
    Id(id): Id<ClientId>,
    Body(body): Body<Rotate>,
) -> Result<Receipted<RotatedClient>, Problem> {
    let newest = clients::newest_version(&app.db, id).await?;
    app.settle_use(Owner::Client(id), newest).await?;
    let secret_key = app.feed.secret_key();
    let (client, issued, done) =
        clients::rotate(&app.db, app.sealing(&secret_key), &by.caller, id.as_str(), body.grace_seconds).await?;
    let rotated = RotatedClient {
        id: client.id,
        client_secret: issued.credential.reveal().to_owned(),
        hint: issued.credential.hint(),
        previous_expires_at: issued.previous_expires_at,
    };
    Ok(Receipted::wait(&app.feed, rotated, done, true).await)
}
