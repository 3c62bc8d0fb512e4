//! `/v1/keys`: API keys of agents.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::app::AppState;
use crate::grants::Grant;
use crate::http::caller::{By, KeysRead, KeysWrite};
use crate::http::extract::{Body, Id, IfMatch, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Created, Receipted, Tagged};
use crate::keys::{self, Change, Filter, Key, NewKey};
use crate::observations::{self, Event};
use crate::refusal::{Code, Refused};
use crate::revocations::{Kind, New};
use crate::types::environment::Environment;
use crate::types::id::{AgentId, KeyId, ServerId};
use crate::types::key_state::KeyState;
use crate::types::patch::Patch;

/// A key that was just issued: its secret is shown this once.
#[derive(Serialize, ToSchema)]
pub struct IssuedKey {
    /// The secret. Store it now.
    pub key: String,
    /// Its last characters, to tell versions apart.
    pub hint: String,
    /// The key.
    #[serde(flatten)]
    pub thing: Key,
}

/// A key to issue.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueKey {
    /// Whose.
    #[schema(value_type = String, example = "agt_01890a5d0c1f7c2e9a4b3c2d1e0f9a8b")]
    agent_id: AgentId,
    /// `prod` or `dev`; good on servers of the same only.
    environment: Environment,
    /// For people, 1 to 200 characters.
    name: Option<String>,
    /// What it may do, server by server.
    #[serde(default)]
    grants: Vec<Grant>,
    /// Roles it has beside.
    #[serde(default)]
    roles: Vec<String>,
    /// The life of each version of its secret; the policy's maximum unless said.
    #[schema(minimum = 1)]
    expires_in_days: Option<i32>,
    /// Addresses and networks it may be used from.
    allowed_cidrs: Option<Vec<String>>,
    /// May be sent to an MCP server itself. True unless said when all grants are on one server, else false.
    direct: Option<bool>,
    /// May rotate itself.
    #[serde(default)]
    self_rotation: bool,
}

/// Issues a key.
#[utoipa::path(post, path = "/v1/keys", operation_id = "issue_key", tag = "keys", request_body = IssueKey,
    security(("operator" = ["keys:write"])), extensions(("x-scope" = json!("keys:write"))),
    responses((status = 201, description = "The key, with its secret, shown this once.", body = IssuedKey), Refusals))]
pub async fn create(
    by: By<KeysWrite>,
    State(app): AppState,
    Body(body): Body<IssueKey>,
) -> Result<Created<IssuedKey>, Problem> {
    let new = NewKey {
        agent_id: body.agent_id.to_string(),
        environment: body.environment,
        name: body.name,
        grants: body.grants,
        roles: body.roles,
        expires_in_days: body.expires_in_days,
        allowed_cidrs: body.allowed_cidrs,
        direct: body.direct,
        self_rotation: body.self_rotation,
    };
    let secret_key = app.feed.secret_key();
    let (thing, issued, done) = keys::issue(&app.db, app.sealing(&secret_key), &by.caller, new).await?;
    app.feed.spread(done).await;
    let location = format!("/v1/keys/{}", thing.id);
    Ok(Created {
        location,
        thing: IssuedKey { key: issued.credential.reveal().to_owned(), hint: issued.credential.hint(), thing },
    })
}

/// What a list of keys is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListKeys {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// Of this project.
    project: Option<String>,
    /// Of this agent.
    #[param(value_type = Option<String>)]
    agent_id: Option<AgentId>,
    /// With a grant on this server.
    #[param(value_type = Option<String>)]
    server_id: Option<ServerId>,
    /// `prod` or `dev`.
    environment: Option<Environment>,
    /// `active`, `due`, `overlap`, `expired`, `disabled` or `revoked`.
    status: Option<KeyState>,
    /// Ends before this time.
    #[serde(default, with = "crate::http::extract::instant")]
    expires_before: Option<OffsetDateTime>,
    /// Last used before this time, or never.
    #[serde(default, with = "crate::http::extract::instant")]
    last_used_before: Option<OffsetDateTime>,
    /// How the name begins, in any case.
    q: Option<String>,
}

/// Lists keys, newest first.
#[utoipa::path(get, path = "/v1/keys", operation_id = "list_keys", tag = "keys", params(ListKeys),
    security(("operator" = ["keys:read"])), extensions(("x-scope" = json!("keys:read"))),
    responses((status = 200, description = "A page of keys.", body = Listing<Key>), Refusals))]
pub async fn list(
    by: By<KeysRead>,
    State(app): AppState,
    Params(params): Params<ListKeys>,
) -> Result<axum::Json<Listing<Key>>, Problem> {
    let wanted = Wanted::new(&app, "keys", &params, params.limit, params.cursor.as_deref())?;
    let filter = Filter {
        project: params.project,
        agent_id: params.agent_id.map(|id| id.to_string()),
        server_id: params.server_id.map(|id| id.to_string()),
        environment: params.environment.map(|environment| environment.as_str().to_owned()),
        status: params.status.map(|status| status.as_str().to_owned()),
        expires_before: params.expires_before,
        last_used_before: params.last_used_before,
        q: params.q,
    };
    let listed = keys::list(&app.db, &by.caller, &filter, &wanted.page).await?;
    Ok(axum::Json(wanted.listing(listed)))
}

/// Reads a key, with the versions of its secret and who used them last.
#[utoipa::path(get, path = "/v1/keys/{id}", operation_id = "get_key", tag = "keys", params(("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$")),
    security(("operator" = ["keys:read"])), extensions(("x-scope" = json!("keys:read"))),
    responses((status = 200, description = "The key.", body = Key, headers(("ETag" = String))), Refusals))]
pub async fn get(by: By<KeysRead>, State(app): AppState, Id(id): Id<KeyId>) -> Result<Tagged<Key>, Problem> {
    Ok(Tagged(keys::get(&mut *app.db.reads().acquire().await?, &by.caller, id.as_str()).await?))
}

/// A change of a key (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeKey {
    /// A new name; null removes it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    /// All its grants.
    grants: Option<Vec<Grant>>,
    /// All its roles.
    roles: Option<Vec<String>>,
    /// Where it may be used from; null: everywhere.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    allowed_cidrs: Patch<Vec<String>>,
    /// May be sent to an MCP server itself.
    direct: Option<bool>,
    /// May rotate itself.
    self_rotation: Option<bool>,
    /// Switched off or on.
    disabled: Option<bool>,
    /// Never changes.
    #[schema(ignore)]
    environment: Option<Value>,
    /// Never changes.
    #[schema(ignore)]
    agent_id: Option<Value>,
}

/// Changes a key.
#[utoipa::path(patch, path = "/v1/keys/{id}", operation_id = "change_key", tag = "keys", params(("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$"), ("If-Match" = Option<String>, Header, description = "The tag it must have.")), request_body = ChangeKey,
    security(("operator" = ["keys:write"])), extensions(("x-scope" = json!("keys:write"))),
    responses((status = 200, description = "The key as it is now; `enforced` when a right was taken away.", body = Receipted<Key>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Key>), Refusals))]
pub async fn change(
    by: By<KeysWrite>,
    State(app): AppState,
    Id(id): Id<KeyId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeKey>,
) -> Result<Receipted<Key>, Problem> {
    immutable(&[("environment", &body.environment), ("agent_id", &body.agent_id)])?;
    let change = Change {
        name: body.name,
        grants: body.grants,
        roles: body.roles,
        allowed_cidrs: body.allowed_cidrs,
        direct: body.direct,
        self_rotation: body.self_rotation,
        disabled: body.disabled,
    };
    let (key, done, narrowed) = keys::change(&app.db, &by.caller, id.as_str(), change, expected.as_deref()).await?;
    Ok(Receipted::wait(&app.feed, key, done, narrowed).await)
}

/// Fields that never change are refused by their own code, so that nobody thinks they were ignored.
pub(super) fn immutable(fields: &[(&str, &Option<Value>)]) -> Result<(), Refused> {
    match fields.iter().find(|(_, value)| value.is_some()) {
        Some((name, _)) => Err(Refused::new(Code::ImmutableField, format!("`{name}` never changes."))),
        None => Ok(()),
    }
}

/// A reason.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Why, for the audit; at most 500 characters.
    #[schema(max_length = 500)]
    pub(super) reason: Option<String>,
}

impl Revoke {
    pub(super) fn checked(self) -> Result<Option<String>, Refused> {
        match self.reason {
            Some(reason) if reason.chars().count() > 500 => {
                Err(Refused::field("/reason", "length", "at most 500 characters"))
            }
            reason => Ok(reason),
        }
    }
}

/// Revokes a key for good, with everything issued from it. When this returns, no node answers "active" for it.
#[utoipa::path(post, path = "/v1/keys/{id}/revoke", operation_id = "revoke_key", tag = "keys", params(("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$")), request_body = Revoke,
    security(("operator" = ["keys:write"])), extensions(("x-scope" = json!("keys:write"))),
    responses((status = 200, description = "The key, and where its end holds.", body = Receipted<Key>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Key>), Refusals))]
pub async fn revoke(
    by: By<KeysWrite>,
    State(app): AppState,
    Id(id): Id<KeyId>,
    Body(body): Body<Revoke>,
) -> Result<Receipted<Key>, Problem> {
    let reason = body.checked()?;
    let new = super::revocations::reached(&app, &by.caller, Kind::Key, id.to_string()).await?;
    let revoked = app.revoker.revoke(&by.caller, New { reason, ..new }).await?;
    let enforced = super::revocations::enforce(&app, Kind::Key, revoked.done);
    let read = async {
        let mut connection = app.db.reserved().acquire().await?;
        keys::get(&mut connection, &by.caller, id.as_str()).await
    };
    let (enforced, key) = tokio::join!(enforced, read);
    Ok(Receipted { thing: key.map_err(Refused::after_commit)?, enforced: Some(enforced) })
}

/// What happened to a key's refused uses.
#[derive(Serialize, ToSchema)]
pub struct Events {
    /// At most 200, newest first.
    items: Vec<Event>,
}

/// Lists why a key, or a token from it, was found inactive, by minute. Callers of introspection never learn it.
#[utoipa::path(get, path = "/v1/keys/{id}/events", operation_id = "list_key_events", tag = "keys", params(("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$")),
    security(("operator" = ["keys:read"])), extensions(("x-scope" = json!("keys:read"))),
    responses((status = 200, description = "The refusals.", body = Events), Refusals))]
pub async fn events(by: By<KeysRead>, State(app): AppState, Id(id): Id<KeyId>) -> Result<axum::Json<Events>, Problem> {
    let mut connection = app.db.reads().acquire().await?;
    keys::get(&mut connection, &by.caller, id.as_str()).await?;
    Ok(axum::Json(Events { items: observations::events(&mut connection, id.as_str()).await? }))
}
