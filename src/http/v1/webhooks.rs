//! `/v1/webhooks`: who is told what happened, and what became of it. These scopes equal root on the authority: who names a
//! receiver learns what happens in every project.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::app::AppState;
use crate::http::caller::{By, WebhooksRead, WebhooksWrite};
use crate::http::extract::{Body, Id, Ids, IfMatch, Params};
use crate::http::page::{Listing, Wanted};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Created, Tagged};
use crate::http::v1::keys::immutable;
use crate::types::id::{DeliveryId, WebhookId};
use crate::webhooks::{self, Change, Delivery, NewWebhook, Secrets, Signature, Status, Webhook};

/// A webhook to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddWebhook {
    /// For people, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100, example = "Security alerts")]
    name: String,
    /// Where deliveries are sent, over https.
    #[schema(max_length = 2_000, example = "https://hooks.example.com/mcp-authority")]
    url: String,
    /// Types of events, or `*` alone for all that there are and will be.
    #[schema(min_items = 1, example = json!(["key.revoked", "key.leaked"]))]
    events: Vec<String>,
    /// Only of what happens in this project. Left out: of all, and of what belongs to none.
    project: Option<String>,
    /// How deliveries are signed: `v1a` (Ed25519) unless said, or `v1` (HMAC) for receivers that know only that. Never changes.
    #[serde(default)]
    signature: Signature,
}

/// A webhook and what its receiver needs.
#[derive(Serialize, ToSchema)]
pub struct WebhookWithSecret {
    /// What the receiver checks `v1` signatures with, shown this once: `whsec_…`. Absent with `v1a`, where `public_keys` is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The webhook.
    #[serde(flatten)]
    pub thing: Webhook,
}

impl WebhookWithSecret {
    fn new(thing: Webhook, secrets: &Secrets) -> Self {
        Self { secret: secrets.secret.as_deref().cloned(), thing }
    }
}

/// Adds a webhook. Needs an operator on all projects.
#[utoipa::path(post, path = "/v1/webhooks", operation_id = "add_webhook", tag = "webhooks", request_body = AddWebhook,
    security(("operator" = ["webhooks:write"])), extensions(("x-scope" = json!("webhooks:write"))),
    responses((status = 201, description = "The webhook; with `v1`, its secret, shown this once.", body = WebhookWithSecret), Refusals))]
pub async fn create(
    by: By<WebhooksWrite>,
    State(app): AppState,
    Body(body): Body<AddWebhook>,
) -> Result<Created<WebhookWithSecret>, Problem> {
    let new = NewWebhook {
        name: body.name,
        url: body.url,
        events: body.events,
        project: body.project,
        signature: body.signature,
    };
    let secret_key = app.feed.secret_key();
    let with = (app.deliverer.outbound(), app.sealing(&secret_key));
    let (thing, secrets, done) = webhooks::create(&app.db, with, &by.caller, new).await?;
    app.feed.spread(done).await;
    let location = format!("/v1/webhooks/{}", thing.id);
    Ok(Created { location, thing: WebhookWithSecret::new(thing, &secrets) })
}

/// A page of the webhooks.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListWebhooks {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
}

/// Lists the webhooks, newest first. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/webhooks", operation_id = "list_webhooks", tag = "webhooks", params(ListWebhooks),
    security(("operator" = ["webhooks:read"])), extensions(("x-scope" = json!("webhooks:read"))),
    responses((status = 200, description = "A page of webhooks.", body = Listing<Webhook>), Refusals))]
pub async fn list(
    by: By<WebhooksRead>,
    State(app): AppState,
    Params(params): Params<ListWebhooks>,
) -> Result<Json<Listing<Webhook>>, Problem> {
    let wanted = Wanted::new(&app, "webhooks", &params, params.limit, params.cursor.as_deref())?;
    let listed = webhooks::list(&app.db, &by.caller, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Reads a webhook. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/webhooks/{id}", operation_id = "get_webhook", tag = "webhooks", params(("id" = String, Path, description = "The webhook's id.", pattern = "^whk_[0-9a-f]{32}$")),
    security(("operator" = ["webhooks:read"])), extensions(("x-scope" = json!("webhooks:read"))),
    responses((status = 200, description = "The webhook.", body = Webhook, headers(("ETag" = String))), Refusals))]
pub async fn get(
    by: By<WebhooksRead>,
    State(app): AppState,
    Id(id): Id<WebhookId>,
) -> Result<Tagged<Webhook>, Problem> {
    Ok(Tagged(webhooks::get(&mut *app.db.reads().acquire().await?, &by.caller, id).await?))
}

/// A change of a webhook (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeWebhook {
    /// A new name.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Another place. What waits goes there too.
    #[schema(max_length = 2_000)]
    url: Option<String>,
    /// All its types of events.
    #[schema(min_items = 1)]
    events: Option<Vec<String>>,
    /// Switched off or on. Off: nothing is delivered, and nothing that happens meanwhile is kept for it.
    disabled: Option<bool>,
    /// Never changes.
    #[schema(ignore)]
    project: Option<Value>,
    /// Never changes.
    #[schema(ignore)]
    signature: Option<Value>,
}

/// Changes a webhook. Needs an operator on all projects.
#[utoipa::path(patch, path = "/v1/webhooks/{id}", operation_id = "change_webhook", tag = "webhooks", params(("id" = String, Path, description = "The webhook's id.", pattern = "^whk_[0-9a-f]{32}$"), ("If-Match" = Option<String>, Header, description = "The tag it must have.")), request_body = ChangeWebhook,
    security(("operator" = ["webhooks:write"])), extensions(("x-scope" = json!("webhooks:write"))),
    responses((status = 200, description = "The webhook as it is now.", body = Webhook, headers(("ETag" = String))), Refusals))]
pub async fn change(
    by: By<WebhooksWrite>,
    State(app): AppState,
    Id(id): Id<WebhookId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeWebhook>,
) -> Result<Tagged<Webhook>, Problem> {
    immutable(&[("project", &body.project), ("signature", &body.signature)])?;
    let change = Change { name: body.name, url: body.url, events: body.events, disabled: body.disabled };
    let asked = (change, expected.as_deref());
    let (webhook, done) = webhooks::change(&app.db, app.deliverer.outbound(), &by.caller, id, asked).await?;
    app.feed.spread(done).await;
    Ok(Tagged(webhook))
}

/// Removes a webhook. What waits for it is not sent any more. Needs an operator on all projects.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", operation_id = "delete_webhook", tag = "webhooks", params(("id" = String, Path, description = "The webhook's id.", pattern = "^whk_[0-9a-f]{32}$")),
    security(("operator" = ["webhooks:write"])), extensions(("x-scope" = json!("webhooks:write"))),
    responses((status = 200, description = "The webhook as it was.", body = Webhook), Refusals))]
pub async fn delete(
    by: By<WebhooksWrite>,
    State(app): AppState,
    Id(id): Id<WebhookId>,
) -> Result<Json<Webhook>, Problem> {
    let (webhook, done) = webhooks::delete(&app.db, &by.caller, id).await?;
    app.feed.spread(done).await;
    Ok(Json(webhook))
}

/// A new key for a webhook.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateWebhook {
    /// For how long deliveries carry a signature of the old key too: 0 to 604,800; a day unless said.
    #[schema(minimum = 0, maximum = 604_800)]
    grace_seconds: Option<i64>,
}

/// Makes a new key to sign with; for the grace, deliveries carry a signature of each. Needs an operator on all projects.
#[utoipa::path(post, path = "/v1/webhooks/{id}/rotate", operation_id = "rotate_webhook", tag = "webhooks", params(("id" = String, Path, description = "The webhook's id.", pattern = "^whk_[0-9a-f]{32}$")), request_body = RotateWebhook,
    security(("operator" = ["webhooks:write"])), extensions(("x-scope" = json!("webhooks:write"))),
    responses((status = 201, description = "The webhook; with `v1`, its new secret, shown this once.", body = WebhookWithSecret), Refusals))]
pub async fn rotate(
    by: By<WebhooksWrite>,
    State(app): AppState,
    Id(id): Id<WebhookId>,
    Body(body): Body<RotateWebhook>,
) -> Result<Created<WebhookWithSecret>, Problem> {
    let secret_key = app.feed.secret_key();
    let sealing = app.sealing(&secret_key);
    let (thing, secrets, done) = webhooks::rotate(&app.db, sealing, &by.caller, id, body.grace_seconds).await?;
    app.feed.spread(done).await;
    let location = format!("/v1/webhooks/{}", thing.id);
    Ok(Created { location, thing: WebhookWithSecret::new(thing, &secrets) })
}

/// Sends `webhook.test`, so that one sees whether it arrives. Needs an operator on all projects.
#[utoipa::path(post, path = "/v1/webhooks/{id}/test", operation_id = "test_webhook", tag = "webhooks", params(("id" = String, Path, description = "The webhook's id.", pattern = "^whk_[0-9a-f]{32}$")),
    security(("operator" = ["webhooks:write"])), extensions(("x-scope" = json!("webhooks:write"))),
    responses((status = 202, description = "The delivery, on its way.", body = Delivery), Refusals))]
pub async fn test(
    by: By<WebhooksWrite>,
    State(app): AppState,
    Id(id): Id<WebhookId>,
) -> Result<(StatusCode, Json<Delivery>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(webhooks::test(&app.db, &by.caller, id).await?)))
}

/// What a list of deliveries is narrowed by.
#[derive(Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListDeliveries {
    /// Items a page has, 1 to 200; 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
    /// `pending`, `delivered` or `dead`.
    status: Option<Status>,
}

/// Lists what a webhook was told, newest first: what waits, what came through, what did not. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", operation_id = "list_deliveries", tag = "webhooks", params(("id" = String, Path, description = "The webhook's id.", pattern = "^whk_[0-9a-f]{32}$"), ListDeliveries),
    security(("operator" = ["webhooks:read"])), extensions(("x-scope" = json!("webhooks:read"))),
    responses((status = 200, description = "A page of deliveries.", body = Listing<Delivery>), Refusals))]
pub async fn deliveries(
    by: By<WebhooksRead>,
    State(app): AppState,
    Id(id): Id<WebhookId>,
    Params(params): Params<ListDeliveries>,
) -> Result<Json<Listing<Delivery>>, Problem> {
    let list = format!("deliveries of {id}");
    let wanted = Wanted::new(&app, &list, &params, params.limit, params.cursor.as_deref())?;
    let listed = webhooks::deliveries(&app.db, &by.caller, id, params.status, &wanted.page).await?;
    Ok(Json(wanted.listing(listed)))
}

/// Sends what is over once more, as the same message: `webhook-id` and body stay. Needs an operator on all projects.
#[utoipa::path(post, path = "/v1/webhooks/{id}/deliveries/{delivery_id}/resend", operation_id = "resend_delivery", tag = "webhooks", params(("id" = String, Path, description = "The webhook's id.", pattern = "^whk_[0-9a-f]{32}$"), ("delivery_id" = String, Path, description = "The delivery's id.", pattern = "^dlv_[0-9a-f]{32}$")),
    security(("operator" = ["webhooks:write"])), extensions(("x-scope" = json!("webhooks:write"))),
    responses((status = 202, description = "The delivery, on its way.", body = Delivery), Refusals))]
pub async fn resend(
    by: By<WebhooksWrite>,
    State(app): AppState,
    Ids(id, delivery): Ids<WebhookId, DeliveryId>,
) -> Result<(StatusCode, Json<Delivery>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(webhooks::resend(&app.db, &by.caller, id, delivery).await?)))
}
