//! `/v1/consents`: what people allowed which client on which server. One ends by `POST /v1/revocations` with the kind `grant`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::app::AppState;
use crate::http::caller::{By, SessionsRead};
use crate::http::extract::{Id, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::types::id::{ClientId, ConsentId, ServerId, UserId};
use crate::users::{self, Consent, ConsentFilter};

/// What a list of consents is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListConsents {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// Of this person.
    #[param(value_type = Option<String>)]
    user_id: Option<UserId>,
    /// For this client, by its own id, `cli_…`.
    #[param(value_type = Option<String>)]
    client_id: Option<ClientId>,
    /// On this server.
    #[param(value_type = Option<String>)]
    server_id: Option<ServerId>,
}

/// Lists what people allowed, newest first. What was revoked is not there.
#[utoipa::path(get, path = "/v1/consents", operation_id = "list_consents", tag = "consents", params(ListConsents),
    security(("operator" = ["sessions:read"])), extensions(("x-scope" = json!("sessions:read"))),
    responses((status = 200, description = "A page of consents.", body = Listing<Consent>), Refusals))]
pub async fn list(
    by: By<SessionsRead>,
    State(app): AppState,
    Params(params): Params<ListConsents>,
) -> Result<Json<Listing<Consent>>, Problem> {
    let wanted = Wanted::new(&app, "consents", &params, params.limit, params.cursor.as_deref())?;
    let filter = ConsentFilter {
        user_id: params.user_id.map(|id| id.to_string()),
        client_id: params.client_id.map(|id| id.to_string()),
        server_id: params.server_id.map(|id| id.to_string()),
    };
    let listed = users::list_consents(&app.db, &by.caller, &filter, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads what a person allowed a client on a server.
#[utoipa::path(get, path = "/v1/consents/{id}", operation_id = "get_consent", tag = "consents", params(("id" = String, Path, description = "The consent's id.", pattern = "^grt_[0-9a-f]{32}$")),
    security(("operator" = ["sessions:read"])), extensions(("x-scope" = json!("sessions:read"))),
    responses((status = 200, description = "The consent.", body = Consent), Refusals))]
pub async fn get(by: By<SessionsRead>, State(app): AppState, Id(id): Id<ConsentId>) -> Result<Json<Consent>, Problem> {
    Ok(Json(users::get_consent(&mut *app.db.reads().acquire().await?, &by.caller, id).await?))
}
