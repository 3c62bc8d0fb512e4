//! `/v1/revocations`: what was revoked, and the receipts.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, AppState};
use crate::db::Done;
use crate::feed::Enforced;
use crate::http::caller::{By, RevocationsRead, RevocationsWrite};
use crate::http::extract::{Body, Id, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::refusal::{Code, Refused};
use crate::revocations::{self, Kind, New, Reached, Revocation};
use crate::signing;
use crate::types::caller::Caller;
use crate::types::id::RevocationId;

/// Something to revoke.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRevocation {
    /// What it is. `token` and `key` are revoked for good; `signing_key` with all it ever signed; the others are cut off:
    /// everything issued so far dies, what is issued later is good.
    kind: Kind,
    /// Which one: a `jti`, an id, a project's name, a `kid`; for `all` it is `all` or left out.
    #[schema(max_length = 200)]
    id: Option<String>,
    /// Why, for the audit; at most 500 characters.
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// For cut-offs: kill what was issued up to then, instead of what was issued so far. Not later than now.
    #[serde(default, with = "crate::http::extract::instant")]
    issued_before: Option<OffsetDateTime>,
}

/// The receipt of a revocation.
#[derive(Serialize, ToSchema)]
pub struct Receipt {
    /// The entry.
    #[serde(flatten)]
    pub entry: Revocation,
    /// Where it holds.
    pub enforced: Enforced,
}

/// Revokes. When this returns 201, no node answers "active" for what was revoked. Revoking again is no error: the answer
/// is the first one's receipt.
#[utoipa::path(post, path = "/v1/revocations", operation_id = "create_revocation", tag = "revocations", request_body = CreateRevocation,
    security(("operator" = ["revocations:write"])), extensions(("x-scope" = json!("revocations:write"))),
    responses((status = 201, description = "It holds everywhere.", body = Receipt),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipt), Refusals))]
pub async fn create(
    by: By<RevocationsWrite>,
    State(app): AppState,
    Body(body): Body<CreateRevocation>,
) -> Result<Response, Problem> {
    let new = checked(&app, &by.caller, body).await?;
    let kind = new.kind;
    if kind == Kind::SigningKey {
        replace(&app, &by.caller, &new.target).await?;
    }
    let revoked = app.revoker.revoke(&by.caller, new).await?;
    let read = async { revocations::get(&mut *app.db.reserved().acquire().await?, &by.caller, &revoked.id).await };
    let (enforced, entry) = tokio::join!(enforce(&app, kind, revoked.done), read);
    let entry = entry.map_err(Refused::after_commit)?;
    let status = if enforced.complete { StatusCode::CREATED } else { StatusCode::ACCEPTED };
    let location = format!("/v1/revocations/{}", entry.id);
    Ok((
        status,
        [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".to_owned())],
        Json(Receipt { entry, enforced }),
    )
        .into_response())
}

async fn checked(app: &App, by: &Caller, body: CreateRevocation) -> Result<New, Refused> {
    let target = body.id.unwrap_or_else(|| if body.kind == Kind::All { "all".to_owned() } else { String::new() });
    if body.reason.as_ref().is_some_and(|reason| reason.chars().count() > 500) {
        return Err(Refused::field("/reason", "length", "at most 500 characters"));
    }
    if body.kind.is_final() && body.issued_before.is_some() {
        return Err(Refused::field("/issued_before", "not_allowed", "a token or a key is revoked for good"));
    }
    if target.is_empty() || target.len() > 200 {
        return Err(Refused::field("/id", "length", "1 to 200 characters"));
    }
    let new = match body.kind {
        kind @ (Kind::All | Kind::SigningKey) => {
            if by.projects.is_some() {
                return Err(Refused::new(Code::BeyondOwnRights, "Only an operator on all projects may revoke this."));
            }
            if kind == Kind::All && target != "all" {
                return Err(Refused::field("/id", "value", "`all`, or left out"));
            }
            New { kind, target, reason: None, issued_before: None, project: None }
        }
        kind => reached(app, by, kind, target).await?,
    };
    Ok(New { reason: body.reason, issued_before: body.issued_before, ..new })
}

/// The revocation of something, if the caller reaches it.
pub(super) async fn reached(app: &App, by: &Caller, kind: Kind, target: String) -> Result<New, Refused> {
    let mut connection = app.db.reserved().acquire().await?;
    let reached = revocations::reach(&mut connection, by.projects(), kind, &target).await?;
    let Reached { target, project } = reached.ok_or_else(|| Refused::not_found(kind.as_str()))?;
    Ok(New { kind, target, reason: None, issued_before: None, project })
}

/// A stolen signing key gets its successor before it dies, so that issuing goes on.
async fn replace(app: &App, by: &Caller, kid: &str) -> Result<(), Refused> {
    let secret_key = app.feed.secret_key();
    let mut tx = app.db.begin().await?;
    match signing::replace(&mut tx, app.sealing(&secret_key), by, kid).await {
        Ok(()) => {
            let done = app.db.commit(tx).await?;
            app.feed.spread(done).await;
            Ok(())
        }
        // It was replaced before; revoking again answers the first receipt.
        Err(refused)
            if refused.code == Code::NotFound
                && signing::is_revoked(&mut *app.db.reads().acquire().await?, kid).await? =>
        {
            Ok(())
        }
        Err(refused) => Err(refused),
    }
}

/// Waits until a revocation holds, and counts it.
pub(crate) async fn enforce(app: &App, kind: Kind, done: Done) -> Enforced {
    let enforced = app.feed.enforced(done).await;
    app.metrics.revocation(kind.as_str());
    app.metrics.revocation_enforced(crate::types::clock::BootInstant::now().since(done.committed));
    enforced
}

/// What a list of revocations is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListRevocations {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// Of this kind.
    kind: Option<Kind>,
    /// Of this one.
    id: Option<String>,
}

/// Lists revocations, newest first. Entries go when what they killed has expired.
#[utoipa::path(get, path = "/v1/revocations", operation_id = "list_revocations", tag = "revocations", params(ListRevocations),
    security(("operator" = ["revocations:read"])), extensions(("x-scope" = json!("revocations:read"))),
    responses((status = 200, description = "A page of revocations.", body = Listing<Revocation>), Refusals))]
pub async fn list(
    by: By<RevocationsRead>,
    State(app): AppState,
    Params(params): Params<ListRevocations>,
) -> Result<Json<Listing<Revocation>>, Problem> {
    let wanted = Wanted::new(&app, "revocations", &params, params.limit, params.cursor.as_deref())?;
    let mut connection = app.db.begin_list().await?;
    let listed =
        revocations::list(&mut connection, &by.caller, params.kind, params.id.as_deref(), &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads a revocation, and where it holds by now.
#[utoipa::path(get, path = "/v1/revocations/{id}", operation_id = "get_revocation", tag = "revocations", params(("id" = String, Path, description = "The entry's id.", pattern = "^rev_[0-9a-f]{32}$")),
    security(("operator" = ["revocations:read"])), extensions(("x-scope" = json!("revocations:read"))),
    responses((status = 200, description = "The entry, and where it holds.", body = Receipt), Refusals))]
pub async fn get(
    by: By<RevocationsRead>,
    State(app): AppState,
    Id(id): Id<RevocationId>,
) -> Result<Json<Receipt>, Problem> {
    let entry = revocations::get(&mut *app.db.reads().acquire().await?, &by.caller, id.as_str()).await?;
    let enforced = app.feed.standing(entry.position()).await?;
    Ok(Json(Receipt { entry, enforced }))
}
