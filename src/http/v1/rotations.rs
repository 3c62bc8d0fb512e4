//! `/v1/keys/{id}/rotate` and `/v1/keys/{id}/rotation`: a new secret for a key, and the end of its overlap.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::http::caller::{By, KeysWrite};
use crate::http::extract::{Body, Id};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::Receipted;
use crate::keys::{self, Key, Rotated};
use crate::observations::Owner;
use crate::refusal::Refused;
use crate::secrets;
use crate::types::id::KeyId;

/// What a rotation made: the new secret is shown this once.
#[derive(Serialize, ToSchema)]
pub struct RotatedSecret {
    /// The same id as before.
    pub id: String,
    /// The new secret. Store it now.
    pub key: String,
    /// Its last characters.
    pub hint: String,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<OffsetDateTime>,
    /// When the one before it ends; absent when there is none.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub previous_expires_at: Option<OffsetDateTime>,
}

/// What the rotation of a key made: the new secret is shown this once.
#[derive(Serialize, ToSchema)]
pub struct RotatedKey {
    /// The new secret.
    #[serde(flatten)]
    pub secret: RotatedSecret,
    /// The secret before it, and who used that last: whom the end of the overlap would reach. Absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<secrets::Shown>,
}

impl From<Rotated> for RotatedKey {
    fn from(rotated: Rotated) -> Self {
        let Rotated { key, issued, previous } = rotated;
        let secret = RotatedSecret {
            id: key.id,
            key: issued.credential.reveal().to_owned(),
            hint: issued.credential.hint(),
            expires_at: issued.expires_at,
            previous_expires_at: issued.previous_expires_at,
        };
        Self { secret, previous }
    }
}

/// A rotation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// How long the old secret lives on: 0 to 7,776,000; unless said, as long as the policy says for keys, a day for others. 0 ends
    /// every older one at once.
    #[schema(minimum = 0, maximum = 7_776_000)]
    pub(in crate::http) grace_seconds: Option<i64>,
}

/// Writes what this node has seen of a key's secrets, so that a used one is not taken for one never used.
pub(in crate::http) async fn settle(app: &App, id: KeyId) -> Result<(), Refused> {
    let versions = |key: &crate::gate::Key| key.secrets.versions().iter().map(|version| version.number).collect();
    let versions: Vec<i32> = app.live.memory().keys.get(&id).map(|key| versions(key)).unwrap_or_default();
    for version in versions {
        app.settle_use(Owner::Key(id), Some(version)).await?;
    }
    Ok(())
}

/// Makes a new secret for a key; the old one lives on for the grace.
#[utoipa::path(post, path = "/v1/keys/{id}/rotate", operation_id = "rotate_key", tag = "keys", params(("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$")), request_body = Rotate,
    security(("operator" = ["keys:write"])), extensions(("x-scope" = json!("keys:write"))),
    responses((status = 200, description = "The new secret, shown this once.", body = Receipted<RotatedKey>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<RotatedKey>), Refusals))]
pub async fn rotate(
    by: By<KeysWrite>,
    State(app): AppState,
    Id(id): Id<KeyId>,
    Body(body): Body<Rotate>,
) -> Result<Receipted<RotatedKey>, Problem> {
    settle(&app, id).await?;
    let secret_key = app.feed.secret_key();
    let sealing = app.sealing(&secret_key);
    let (rotated, done) = keys::rotate(&app.db, sealing, &by.caller, id.as_str(), body.grace_seconds).await?;
    Ok(Receipted::wait(&app.feed, rotated.into(), done, true).await)
}

/// Takes a rotation back while its overlap runs: the new secret is dead on every node, with the tokens issued from it, and the old one
/// has the end again that it had before.
#[utoipa::path(post, path = "/v1/keys/{id}/rotation/cancel", operation_id = "cancel_rotation", tag = "keys", params(("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$")),
    security(("operator" = ["keys:write"])), extensions(("x-scope" = json!("keys:write"))),
    responses((status = 200, description = "The key, and where the end of the new secret holds.", body = Receipted<Key>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Key>), Refusals))]
pub async fn cancel(by: By<KeysWrite>, State(app): AppState, Id(id): Id<KeyId>) -> Result<Receipted<Key>, Problem> {
    let (key, done) = keys::cancel(&app.db, &by.caller, id.as_str()).await?;
    Ok(Receipted::wait(&app.feed, key, done, true).await)
}

/// Ends the old secret now, on every node, with the tokens issued from it: `previous` said that nobody uses it, or it shall not wait.
#[utoipa::path(post, path = "/v1/keys/{id}/rotation/finish", operation_id = "finish_rotation", tag = "keys", params(("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$")),
    security(("operator" = ["keys:write"])), extensions(("x-scope" = json!("keys:write"))),
    responses((status = 200, description = "The key, and where the end of the old secret holds.", body = Receipted<Key>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Key>), Refusals))]
pub async fn finish(by: By<KeysWrite>, State(app): AppState, Id(id): Id<KeyId>) -> Result<Receipted<Key>, Problem> {
    let (key, done) = keys::finish(&app.db, &by.caller, id.as_str()).await?;
    Ok(Receipted::wait(&app.feed, key, done, true).await)
}
