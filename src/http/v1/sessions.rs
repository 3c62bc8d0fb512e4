//! `/v1/sessions`: session tokens that were issued.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::app::AppState;
use crate::http::caller::{By, SessionsRead, SessionsWrite};
use crate::http::extract::{Body, Id, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Receipted, Tagged};
use crate::http::v1::keys::Revoke;
use crate::refusal::Refused;
use crate::revocations::{self, Kind, New};
use crate::sessions::{self, Filter, Session};
use crate::types::id::{AgentId, KeyId, ServerId, SessionId, UserId};

/// The state of a session.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SessionStatus)]
pub enum Status {
    /// It lives.
    Active,
    /// Its time is over.
    Expired,
    /// It, or what it hangs on, was revoked.
    Revoked,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// What a list of sessions is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListSessions {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// Of this agent.
    #[param(value_type = Option<String>)]
    agent_id: Option<AgentId>,
    /// From this key.
    #[param(value_type = Option<String>)]
    key_id: Option<KeyId>,
    /// For this person.
    #[param(value_type = Option<String>)]
    user_id: Option<UserId>,
    /// To this OAuth client, by its `client_id`.
    #[param(max_length = 512)]
    client_id: Option<String>,
    /// For this server.
    #[param(value_type = Option<String>)]
    server_id: Option<ServerId>,
    /// `active`, `expired` or `revoked`.
    status: Option<Status>,
    /// Issued after this time.
    #[serde(default, with = "crate::http::extract::instant")]
    issued_after: Option<OffsetDateTime>,
}

/// Lists session tokens, newest first.
#[utoipa::path(get, path = "/v1/sessions", operation_id = "list_sessions", tag = "sessions", params(ListSessions),
    security(("operator" = ["sessions:read"])), extensions(("x-scope" = json!("sessions:read"))),
    responses((status = 200, description = "A page of sessions.", body = Listing<Session>), Refusals))]
pub async fn list(
    by: By<SessionsRead>,
    State(app): AppState,
    Params(params): Params<ListSessions>,
) -> Result<Json<Listing<Session>>, Problem> {
    let wanted = Wanted::new(&app, "sessions", &params, params.limit, params.cursor.as_deref())?;
    let filter = Filter {
        agent_id: params.agent_id.map(|id| id.to_string()),
        key_id: params.key_id.map(|id| id.to_string()),
        user_id: params.user_id.map(|id| id.to_string()),
        client_id: params.client_id,
        server_id: params.server_id.map(|id| id.to_string()),
        status: params.status.map(|status| status.as_str().to_owned()),
        issued_after: params.issued_after,
    };
    let listed = sessions::list(&mut *app.db.begin_list().await?, &by.caller, &filter, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads a session.
#[utoipa::path(get, path = "/v1/sessions/{id}", operation_id = "get_session", tag = "sessions", params(("id" = String, Path, description = "The token's `jti`.", pattern = "^ses_[0-9a-f]{32}$")),
    security(("operator" = ["sessions:read"])), extensions(("x-scope" = json!("sessions:read"))),
    responses((status = 200, description = "The session.", body = Session, headers(("ETag" = String))), Refusals))]
pub async fn get(
    by: By<SessionsRead>,
    State(app): AppState,
    Id(id): Id<SessionId>,
) -> Result<Tagged<Session>, Problem> {
    let found = sessions::find(&mut *app.db.reads().acquire().await?, &by.caller, id.as_str()).await?;
    Ok(Tagged(found.ok_or_else(|| Refused::not_found("session"))?))
}

/// Revokes a session token, and those exchanged from it. When this returns, no node answers "active" for it.
#[utoipa::path(post, path = "/v1/sessions/{id}/revoke", operation_id = "revoke_session", tag = "sessions", params(("id" = String, Path, description = "The token's `jti`.", pattern = "^ses_[0-9a-f]{32}$")), request_body = Revoke,
    security(("operator" = ["sessions:write"])), extensions(("x-scope" = json!("sessions:write"))),
    responses((status = 200, description = "The session, and where its end holds.", body = Receipted<Session>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Session>), Refusals))]
pub async fn revoke(
    by: By<SessionsWrite>,
    State(app): AppState,
    Id(id): Id<SessionId>,
    Body(body): Body<Revoke>,
) -> Result<Receipted<Session>, Problem> {
    let reason = body.checked()?;
    let mut connection = app.db.reserved().acquire().await?;
    let found = sessions::find(&mut connection, &by.caller, id.as_str()).await?;
    let session = found.ok_or_else(|| Refused::not_found("session"))?;
    let reached = revocations::reach(&mut connection, by.caller.projects(), Kind::Token, id.as_str()).await?;
    drop(connection);
    let project = reached.and_then(|reached| reached.project);
    let new = New { reason, project, ..New::of(Kind::Token, id.as_str(), "") };
    let revoked = app.revoker.revoke(&by.caller, new).await?;
    let enforced = super::revocations::enforce(&app, Kind::Token, revoked.done).await;
    Ok(Receipted { thing: Session { status: "revoked".to_owned(), ..session }, enforced: Some(enforced) })
}
