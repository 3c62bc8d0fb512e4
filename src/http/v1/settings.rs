//! `/v1/settings`: what is equal on all nodes.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::AppState;
use crate::http::caller::{By, SettingsRead, SettingsWrite};
use crate::http::extract::{Body, IfMatch};
use crate::http::problem::{Problem, Refusals};
use crate::http::reply::{Receipted, Tagged};
use crate::settings::{self, Change, ChangeLeaks, DynamicRegistration, PolicyChange, Settings};
use crate::types::patch::Patch;

/// Reads the settings. Needs an operator on all projects.
#[utoipa::path(get, path = "/v1/settings", operation_id = "get_settings", tag = "settings",
    security(("operator" = ["settings:read"])), extensions(("x-scope" = json!("settings:read"))),
    responses((status = 200, description = "The settings.", body = Settings, headers(("ETag" = String))), Refusals))]
pub async fn get(by: By<SettingsRead>, State(app): AppState) -> Result<Tagged<Settings>, Problem> {
    super::nodes::everywhere(&by.caller)?;
    Ok(Tagged(settings::get(&mut *app.db.reads().acquire().await?).await?))
}

/// A new policy.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePolicy {
    /// Days that a version of a key's secret lives at most; above 90 a reason is needed.
    #[schema(minimum = 1, maximum = 3650)]
    max_age_days: Option<i32>,
    /// So many days before its end a key is due; at most 8, each 1 to 3,650.
    #[schema(max_items = 8)]
    remind_days: Option<Vec<i32>>,
    /// How long the old secret lives on after a rotation, unless said.
    #[schema(minimum = 600, maximum = 7_776_000)]
    overlap_seconds: Option<i64>,
    /// Why a maximum above 90 days is needed; null removes it.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 500)]
    reason: Patch<String>,
}

impl ChangePolicy {
    fn read(self) -> PolicyChange {
        PolicyChange {
            max_age_days: self.max_age_days,
            remind_days: self.remind_days,
            overlap_seconds: self.overlap_seconds,
            reason: self.reason,
        }
    }
}

/// New policies.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePolicies {
    /// Production.
    prod: Option<ChangePolicy>,
    /// Development.
    dev: Option<ChangePolicy>,
}

/// A change of settings (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeSettings {
    /// How long a node may answer from its last round.
    #[schema(minimum = 1000, maximum = 60000)]
    lease_ms: Option<i32>,
    /// The life of a session token.
    #[schema(minimum = 60, maximum = 3600)]
    session_ttl_seconds: Option<i32>,
    /// Days that audit entries are kept.
    #[schema(minimum = 1, maximum = 36500)]
    audit_days: Option<i32>,
    /// How long keys live.
    key_policies: Option<ChangePolicies>,
    /// Who may register as a client by itself (RFC 7591).
    dynamic_registration: Option<DynamicRegistration>,
    /// Whether a client's assertion may be made for the token endpoint's address.
    assertion_audience_token_endpoint: Option<bool>,
    /// How long a refresh token lives on while the identity provider of its person cannot be asked.
    #[schema(minimum = 0, maximum = 2_592_000)]
    provider_grace_seconds: Option<i32>,
    /// Whether a `DPoP` proof must hold a nonce that we gave (RFC 9449 §8).
    dpop_nonce_required: Option<bool>,
    /// Who may report leaks, and what is done with what they report.
    leaks: Option<ChangeLeaks>,
}

/// Changes settings on all nodes. Needs an operator on all projects.
#[utoipa::path(patch, path = "/v1/settings", operation_id = "change_settings", tag = "settings", params(("If-Match" = Option<String>, Header, description = "The tag they must have.")), request_body = ChangeSettings,
    security(("operator" = ["settings:write"])), extensions(("x-scope" = json!("settings:write"))),
    responses((status = 200, description = "The settings as they are now.", body = Receipted<Settings>),
              (status = 202, description = "Done, and not yet proved to hold on every node.", body = Receipted<Settings>), Refusals))]
pub async fn change(
    by: By<SettingsWrite>,
    State(app): AppState,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChangeSettings>,
) -> Result<Receipted<Settings>, Problem> {
    super::nodes::everywhere(&by.caller)?;
    let (prod, dev) = body.key_policies.map_or((None, None), |policies| (policies.prod, policies.dev));
    let change = Change {
        lease_ms: body.lease_ms,
        session_ttl_seconds: body.session_ttl_seconds,
        audit_days: body.audit_days,
        prod: prod.map(ChangePolicy::read).unwrap_or_default(),
        dev: dev.map(ChangePolicy::read).unwrap_or_default(),
        dynamic_registration: body.dynamic_registration,
        assertion_audience_token_endpoint: body.assertion_audience_token_endpoint,
        provider_grace_seconds: body.provider_grace_seconds,
        dpop_nonce_required: body.dpop_nonce_required,
        leaks: body.leaks,
    };
    let (settings, done) = settings::change(&app.db, &by.caller, change, expected.as_deref()).await?;
    Ok(Receipted::wait(&app.feed, settings, done, true).await)
}
