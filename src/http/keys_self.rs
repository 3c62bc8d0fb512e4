//! `/v1/keys/self`: what the holder of a key may do with the key itself, as `Authorization: Bearer`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::audit::Entry;
use crate::gate::{KeyCaller, authenticate_key, key_state, recognise_key};
use crate::grants::Grant;
use crate::http::caller::{address, bearer, failed};
use crate::http::extract::Body;
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::Receipted;
use crate::http::request_id::RequestId;
use crate::http::v1::revocations::enforce;
use crate::http::v1::rotations::{RotatedKey, settle};
use crate::keys::{self, Holder};
use crate::observations::{Owner, Place};
use crate::refusal::Code;
use crate::revocations::{Kind, New};
use crate::types::caller::Caller;
use crate::types::credential::Presented;
use crate::types::id::KeyId;
use crate::types::key_state::KeyState;

/// What a key's holder may know of it.
#[derive(Serialize, ToSchema)]
pub(super) struct OwnKey {
    /// Its id.
    id: String,
    /// The agent's id.
    agent_id: String,
    /// `prod` or `dev`.
    environment: String,
    /// `active`, `due` when it must be renewed soon, or `overlap`.
    state: KeyState,
    /// When the secret that was presented ends.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    /// Whether the secret that was presented is the newest.
    is_newest: bool,
    /// Whether it may be sent to a server itself.
    direct: bool,
    /// Its own grants.
    grants: Vec<Grant>,
}

/// Reads the key that is presented: when must it be renewed?
#[utoipa::path(get, path = "/v1/keys/self", operation_id = "get_own_key", tag = "keys", security(("key" = [])),
    responses((status = 200, description = "The key.", body = OwnKey), Refusals))]
pub(super) async fn get(State(app): AppState, request: Request) -> Result<Json<OwnKey>, Problem> {
    let (KeyCaller { key, version, .. }, state) = authenticated(&app, &request)?;
    let grants = key
        .grants
        .iter()
        .map(|grant| Grant { server_id: grant.server.to_string(), permissions: grant.permissions.clone() })
        .collect();
    Ok(Json(OwnKey {
        id: key.id.to_string(),
        agent_id: key.agent.to_string(),
        environment: key.environment.as_str().to_owned(),
        state,
        expires_at: version.expires.to_utc(),
        is_newest: key.secrets.newest().is_some_and(|newest| newest.number == version.number),
        direct: key.direct,
        grants,
    }))
}

/// The key that is presented, if it works from there, and its state. That is a use of it.
fn authenticated(app: &App, request: &Request) -> Result<(KeyCaller, KeyState), Problem> {
    let from = address(app, request.extensions(), request.headers());
    let (caller, state, at) = holder(app, request, |presented| {
        app.live.answer(|view| {
            let shown = authenticate_key(view, presented, from).map_err(|(cause, _)| cause.as_str())?;
            let state = key_state(view.memory, &app.live.settings.load(), shown.key, view.now);
            Ok((KeyCaller::from(shown), state, view.now))
        })
    })?;
    if let Some(secret) = bearer(request.headers()) {
        app.used(secret, Owner::Key(caller.key.id), &caller.version, Place { at, server: None, address: from });
    }
    Ok((caller, state))
}

/// A rotation by the key itself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateOwn {
    /// How long the old secret lives on: the policy's overlap unless said, and never less.
    #[schema(minimum = 600, maximum = 7_776_000)]
    grace_seconds: Option<i64>,
}

/// Makes the next secret of the key that is presented, if it has `self_rotation`. With the newest secret; or, for ten minutes and while
/// nobody has used the newest, with the one before: an answer that was lost is asked for again.
#[utoipa::path(post, path = "/v1/keys/self/rotate", operation_id = "rotate_own_key", tag = "keys", security(("key" = [])), request_body = RotateOwn,
    responses((status = 200, description = "The new secret, shown this once.", body = Receipted<RotatedKey>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<RotatedKey>), Refusals))]
pub(super) async fn rotate(State(app): AppState, request: Request) -> Result<Receipted<RotatedKey>, Problem> {
    let (KeyCaller { key, version, .. }, _) = authenticated(&app, &request)?;
    let by = by(&app, &request, key.id.to_string());
    let rotated = rotated(&app, &by, request, (key.id, version.number)).await;
    if let Err(problem) = &rotated
        && !app.recorder.record(Entry::new(&by, "key.rotated").on(key.id.as_str()).refused(&problem.code))
    {
        app.metrics.audit_write_failure();
    }
    rotated
}

async fn rotated(
    app: &Arc<App>,
    by: &Caller,
    request: Request,
    (key, version): (KeyId, i32),
) -> Result<Receipted<RotatedKey>, Problem> {
    let Body(RotateOwn { grace_seconds }) = Body::from_request(request, app).await?;
    // Also of the secret that is shown now: whoever has it got it, so no rotation may replace it as one that was lost.
    settle(app, key).await?;
    let secret_key = app.feed.secret_key();
    let holder = Holder { key: key.as_str(), version };
    let (rotated, done) = keys::rotate_self(&app.db, app.sealing(&secret_key), by, holder, grace_seconds).await?;
    Ok(Receipted::wait(&app.feed, rotated.into(), done, true).await)
}

/// What was ended.
#[derive(Serialize, ToSchema)]
pub(super) struct RevokedKey {
    /// The key's id.
    id: String,
}

/// Revokes the key that is presented, for good. Whoever finds a key can do that, from wherever.
#[utoipa::path(post, path = "/v1/keys/self/revoke", operation_id = "revoke_own_key", tag = "keys", security(("key" = [])),
    responses((status = 200, description = "It is dead everywhere.", body = Receipted<RevokedKey>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<RevokedKey>), Refusals))]
pub(super) async fn revoke(State(app): AppState, request: Request) -> Result<Receipted<RevokedKey>, Problem> {
    let (key, project) = holder(&app, &request, |presented| {
        app.live.answer(|view| recognise_key(view, presented).map_err(crate::gate::Inactive::as_str))
    })?;
    let by = by(&app, &request, key.id.to_string());
    let new = New { reason: Some("by the key itself".to_owned()), ..New::of(Kind::Key, key.id.as_str(), &project) };
    let revoked = app.revoker.revoke(&by, new).await?;
    let enforced = enforce(&app, Kind::Key, revoked.done).await;
    Ok(Receipted { thing: RevokedKey { id: key.id.to_string() }, enforced: Some(enforced) })
}

fn by(app: &App, request: &Request, actor: String) -> Caller {
    let request_id = request.extensions().get::<RequestId>().map(ToString::to_string);
    Caller { address: address(app, request.extensions(), request.headers()), request_id, ..Caller::nobody(actor) }
}

type Answered<T> = Result<Result<T, &'static str>, crate::gate::Stale>;

fn holder<T>(app: &App, request: &Request, check: impl FnOnce(&Presented<'_>) -> Answered<T>) -> Result<T, Problem> {
    let headers: &HeaderMap = request.headers();
    let presented = Presented::parse(bearer(headers).unwrap_or_default());
    let outcome = match &presented {
        Some(presented) => check(presented)?,
        None => Err("malformed"),
    };
    outcome.map_err(|cause| {
        let who = by(app, request, "unknown".to_owned());
        let client = presented.map(|presented| format!("key_{}", String::from_utf8_lossy(presented.id())));
        let mut entry = Entry::new(&who, "key.refused").refused(cause);
        if let Some(client) = &client {
            entry = entry.on(client);
        }
        let problem = failed(app, "key", (who.address, client.as_deref()), entry);
        if problem.code == Code::Unauthenticated.as_str() { Problem::from(Code::Unauthenticated) } else { problem }
    })
}
