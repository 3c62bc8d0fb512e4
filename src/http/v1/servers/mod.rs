//! `/v1/servers`: MCP servers that rely on the authority.

pub mod setup;
pub mod tools;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::app::AppState;
use crate::grants::{self, OnServer};
use crate::http::caller::{By, GrantsWrite, ServersRead, ServersWrite};
use crate::http::extract::{Body, Id, Ids, IfMatch, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Created, Nothing, Receipted, Tagged};
use crate::http::v1::agents::Switch;
use crate::http::v1::keys::immutable;
use crate::http::v1::rotations::Rotate;
use crate::observations::Owner;
use crate::servers::{self, Change, Filter, NewServer, ScopeSchema, Server};
use crate::types::alg::Alg;
use crate::types::environment::Environment;
use crate::types::id::{KeyId, ServerId};
use crate::types::page::{After, Listed};
use crate::types::permission::ServerScope;

/// A server that was just registered: its secret is shown this once.
#[derive(Serialize, ToSchema)]
pub struct RegisteredServer {
    /// The client secret. Store it now.
    pub client_secret: String,
    /// The server.
    #[serde(flatten)]
    pub thing: Server,
}

/// A server to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterServer {
    /// For people, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Its resource URI (RFC 8707): absolute, http or https, without query and fragment.
    #[schema(max_length = 512, example = "https://files.example.com/mcp")]
    resource: String,
    /// `prod` unless said.
    #[serde(default)]
    environment: Environment,
    /// Its project; `default` unless said.
    project: Option<String>,
    /// Its own scope names.
    #[serde(default)]
    #[schema(value_type = Vec<ScopeSchema>)]
    scopes: Vec<ServerScope>,
    /// What its tokens are signed with; `EdDSA` unless said.
    #[serde(default)]
    token_alg: Alg,
}

/// Registers a server.
#[utoipa::path(post, path = "/v1/servers", operation_id = "register_server", tag = "servers", request_body = RegisterServer,
    security(("operator" = ["servers:write"])), extensions(("x-scope" = json!("servers:write"))),
    responses((status = 201, description = "The server, with its client secret, shown this once.", body = RegisteredServer), Refusals))]
pub async fn create(
    by: By<ServersWrite>,
    State(app): AppState,
    Body(body): Body<RegisterServer>,
) -> Result<Created<RegisteredServer>, Problem> {
    let new = NewServer {
        name: body.name,
        resource: body.resource,
        environment: body.environment,
        project: body.project,
        scopes: body.scopes,
        token_alg: body.token_alg,
    };
    let secret_key = app.feed.secret_key();
    let (thing, issued, done) = servers::create(&app.db, app.sealing(&secret_key), &by.caller, new).await?;
    app.feed.spread(done).await;
    let location = format!("/v1/servers/{}", thing.id);
    Ok(Created { location, thing: RegisteredServer { client_secret: issued.credential.reveal().to_owned(), thing } })
}

/// What a list of servers is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListServers {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// Of this project.
    project: Option<String>,
    /// `prod` or `dev`.
    environment: Option<Environment>,
    /// `active` or `disabled`.
    status: Option<Switch>,
    /// How the name begins, in any case.
    q: Option<String>,
}

/// Lists servers, newest first.
#[utoipa::path(get, path = "/v1/servers", operation_id = "list_servers", tag = "servers", params(ListServers),
    security(("operator" = ["servers:read"])), extensions(("x-scope" = json!("servers:read"))),
    responses((status = 200, description = "A page of servers.", body = Listing<Server>), Refusals))]
pub async fn list(
    by: By<ServersRead>,
    State(app): AppState,
    Params(params): Params<ListServers>,
) -> Result<Json<Listing<Server>>, Problem> {
    let wanted = Wanted::new(&app, "servers", &params, params.limit, params.cursor.as_deref())?;
    let filter = Filter {
        project: params.project,
        environment: params.environment.map(|environment| environment.as_str().to_owned()),
        disabled: params.status.map(Switch::is_off),
        q: params.q,
    };
    let listed = servers::list(&app.db, &by.caller, &filter, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads a server.
#[utoipa::path(get, path = "/v1/servers/{id}", operation_id = "get_server", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$")),
    security(("operator" = ["servers:read"])), extensions(("x-scope" = json!("servers:read"))),
    responses((status = 200, description = "The server.", body = Server, headers(("ETag" = String))), Refusals))]
pub async fn get(by: By<ServersRead>, State(app): AppState, Id(id): Id<ServerId>) -> Result<Tagged<Server>, Problem> {
    Ok(Tagged(servers::get(&mut *app.db.reads().acquire().await?, &by.caller, id.as_str()).await?))
}

/// A change of a server (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeServer {
    /// A new name.
    name: Option<String>,
    /// All its scopes.
    #[schema(value_type = Option<Vec<ScopeSchema>>)]
    scopes: Option<Vec<ServerScope>>,
    /// What its tokens are signed with from now on.
    token_alg: Option<Alg>,
    /// Switched off or on.
    disabled: Option<bool>,
    /// Never changes.
    #[schema(ignore)]
    resource: Option<Value>,
    /// Never changes.
    #[schema(ignore)]
    environment: Option<Value>,
}

/// Changes a server.
#[utoipa::path(patch, path = "/v1/servers/{id}", operation_id = "change_server", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$"), ("If-Match" = Option<String>, Header, description = "The tag it must have.")), request_body = ChangeServer,
    security(("operator" = ["servers:write"])), extensions(("x-scope" = json!("servers:write"))),
    responses((status = 200, description = "The server as it is now; `enforced` when a right was taken away.", body = Receipted<Server>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Server>), Refusals))]
pub async fn change(
    by: By<ServersWrite>,
    State(app): AppState,
    Id(id): Id<ServerId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeServer>,
) -> Result<Receipted<Server>, Problem> {
    immutable(&[("resource", &body.resource), ("environment", &body.environment)])?;
    let change = Change { name: body.name, scopes: body.scopes, token_alg: body.token_alg, disabled: body.disabled };
    let secret_key = app.feed.secret_key();
    let asked = (change, expected.as_deref());
    let (server, done, narrowed) =
        servers::change(&app.db, app.sealing(&secret_key), &by.caller, id.as_str(), asked).await?;
    Ok(Receipted::wait(&app.feed, server, done, narrowed).await)
}

/// Deletes a server: what was issued for it dies, its resource stays reserved.
#[utoipa::path(delete, path = "/v1/servers/{id}", operation_id = "delete_server", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$")),
    security(("operator" = ["servers:write"])), extensions(("x-scope" = json!("servers:write"))),
    responses((status = 200, description = "The server as it was, and where its end holds.", body = Receipted<Server>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Server>), Refusals))]
pub async fn delete(
    by: By<ServersWrite>,
    State(app): AppState,
    Id(id): Id<ServerId>,
) -> Result<Receipted<Server>, Problem> {
    let (server, done) = servers::delete(&app.db, &by.caller, id.as_str()).await?;
    Ok(Receipted::wait(&app.feed, server, done, true).await)
}

/// A server's new secret, shown this once.
#[derive(Serialize, ToSchema)]
pub struct RotatedServer {
    /// The server's id, also its `client_id`.
    id: String,
    /// The new client secret. Store it now.
    client_secret: String,
    /// Its last characters.
    hint: String,
    /// When the one before it ends.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    previous_expires_at: Option<OffsetDateTime>,
}

/// Makes a new client secret; the old one lives on for the grace.
#[utoipa::path(post, path = "/v1/servers/{id}/rotate", operation_id = "rotate_server", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$")), request_body = Rotate,
    security(("operator" = ["servers:write"])), extensions(("x-scope" = json!("servers:write"))),
    responses((status = 200, description = "The new secret, shown this once.", body = Receipted<RotatedServer>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<RotatedServer>), Refusals))]
pub async fn rotate(
    by: By<ServersWrite>,
    State(app): AppState,
    Id(id): Id<ServerId>,
    Body(body): Body<Rotate>,
) -> Result<Receipted<RotatedServer>, Problem> {
    let newest =
        app.live.memory().servers.get(&id).and_then(|server| server.secrets.newest().map(|newest| newest.number));
    app.settle_use(Owner::Server(id), newest).await?;
    let secret_key = app.feed.secret_key();
    let (server, issued, done) =
        servers::rotate(&app.db, app.sealing(&secret_key), &by.caller, id.as_str(), body.grace_seconds).await?;
    let rotated = RotatedServer {
        id: server.id,
        client_secret: issued.credential.reveal().to_owned(),
        hint: issued.credential.hint(),
        previous_expires_at: issued.previous_expires_at,
    };
    Ok(Receipted::wait(&app.feed, rotated, done, true).await)
}

/// A page of the grants on a server.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListGrants {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
}

/// Lists who has grants on a server, by key: nothing else of the key is shown.
#[utoipa::path(get, path = "/v1/servers/{id}/grants", operation_id = "list_server_grants", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$"), ListGrants),
    security(("operator" = ["servers:read"])), extensions(("x-scope" = json!("servers:read"))),
    responses((status = 200, description = "A page of grants.", body = Listing<OnServer>), Refusals))]
pub async fn grants(
    by: By<ServersRead>,
    State(app): AppState,
    Id(id): Id<ServerId>,
    Params(params): Params<ListGrants>,
) -> Result<Json<Listing<OnServer>>, Problem> {
    let list = format!("servers/{id}/grants");
    let wanted = Wanted::new(&app, &list, &params, params.limit, params.cursor.as_deref())?;
    let mut connection = app.db.begin_list().await?;
    servers::get(&mut connection, &by.caller, id.as_str()).await?;
    let after = wanted.page.id().map(str::to_owned);
    let rows = grants::on_server(&mut connection, id.as_str(), after.as_deref(), wanted.page.fetch()).await?;
    // By key and role, not by time: the time of a cursor stays empty.
    let place = |grant: &OnServer| After {
        at: OffsetDateTime::UNIX_EPOCH,
        id: format!("{}{}", grant.key_id, grant.role_id.as_deref().unwrap_or_default()),
    };
    let listed: Listed<OnServer> = wanted.page.cut(rows, place);
    Ok(Json(wanted.listing(listed)))
}

/// Withdraws a key's own grant on a server, by whoever owns the server.
#[utoipa::path(delete, path = "/v1/servers/{id}/grants/{key_id}", operation_id = "withdraw_grant", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$"), ("key_id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$")),
    security(("operator" = ["grants:write"])), extensions(("x-scope" = json!("grants:write"))),
    responses((status = 200, description = "Where its end holds.", body = Receipted<Nothing>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Nothing>), Refusals))]
pub async fn withdraw(
    by: By<GrantsWrite>,
    State(app): AppState,
    Ids(id, key): Ids<ServerId, KeyId>,
) -> Result<Receipted<Nothing>, Problem> {
    let done = servers::withdraw(&app.db, &by.caller, id.as_str(), key.as_str()).await?;
    Ok(Receipted::wait(&app.feed, Nothing {}, done, true).await)
}
