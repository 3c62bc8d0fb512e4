//! What must be equal on all nodes. Owns `settings`: one row, changed through the feed.

mod leaks;
mod policy;
mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::{self, Entry};
use crate::db::{self, Db, Done};
use crate::projects::precondition;
use crate::refusal::{Checks, Refused};
use crate::types::caller::Caller;
use crate::types::environment::Environment;

pub use leaks::{ChangeLeaks, Leaks, Policy as LeakPolicy, REPORTERS_MAX, Reporter as LeakReporter};
pub use policy::{KeyPolicies, KeyPolicy, PolicyChange};
pub use store::installation;

/// The longest lease that can be set; the schema holds it too.
pub const LEASE_MAX: std::time::Duration = std::time::Duration::from_mins(1);
/// Who may register as a client by itself (RFC 7591).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DynamicRegistration {
    /// Nobody.
    Off,
    /// Applications whose redirect URIs all lead to the person's own machine: a code never goes to a stranger's.
    Loopback,
    /// Anybody.
    On,
}

impl DynamicRegistration {
    /// Its name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Loopback => "loopback",
            Self::On => "on",
        }
    }

    /// Reads the name. What is not understood lets nobody in.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        [Self::Loopback, Self::On].into_iter().find(|known| known.as_str() == name).unwrap_or(Self::Off)
    }
}

/// The settings as they are read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Settings {
    /// How long a node may answer from its last round: 1,000 to 60,000 milliseconds.
    pub lease_ms: i32,
    /// The life of a session token: 60 to 3,600 seconds.
    pub session_ttl_seconds: i32,
    /// Days that audit entries are kept.
    pub audit_days: i32,
    /// How long keys live.
    pub key_policies: KeyPolicies,
    /// `off`, `loopback` or `on`: who may register as a client by itself (RFC 7591).
    pub dynamic_registration: DynamicRegistration,
    /// A client's assertion may be made for the token endpoint's address in place of the issuer.
    pub assertion_audience_token_endpoint: bool,
    /// How long a refresh token lives on since an identity provider last vouched for its person, while the provider cannot
    /// be asked: 0 to 2,592,000 seconds.
    pub provider_grace_seconds: i32,
    /// Whether a `DPoP` proof must hold a nonce that we gave (RFC 9449 §8).
    pub dpop_nonce_required: bool,
    /// Who may report leaks, and what is done with what they report.
    pub leaks: Leaks,
    /// When they were last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

impl Settings {
    /// How keys of an environment live.
    #[must_use]
    pub const fn policy(&self, environment: Environment) -> &KeyPolicy {
        match environment {
            Environment::Prod => &self.key_policies.prod,
            Environment::Dev => &self.key_policies.dev,
        }
    }
}

/// A change of settings (RFC 7396).
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New lease.
    pub lease_ms: Option<i32>,
    /// New life of session tokens.
    pub session_ttl_seconds: Option<i32>,
    /// New retention of the audit.
    pub audit_days: Option<i32>,
    /// How production keys live now.
    pub prod: PolicyChange,
    /// How development keys live now.
    pub dev: PolicyChange,
    /// Who may register now.
    pub dynamic_registration: Option<DynamicRegistration>,
    /// Whether the token endpoint's address is an audience now.
    pub assertion_audience_token_endpoint: Option<bool>,
    /// New patience with providers that cannot be asked.
    pub provider_grace_seconds: Option<i32>,
    /// Whether proofs need a nonce now.
    pub dpop_nonce_required: Option<bool>,
    /// About leaks.
    pub leaks: Option<ChangeLeaks>,
}

/// The settings now.
///
/// # Errors
///
/// The database cannot answer.
pub async fn get(connection: &mut PgConnection) -> db::Result<Settings> {
    store::get(connection).await
}

/// Changes settings on all nodes.
///
/// # Errors
///
/// A value out of its bounds, a long life of keys without a reason, or an old `If-Match` tag.
pub async fn change(db: &Db, by: &Caller, change: Change, expected: Option<&str>) -> Result<(Settings, Done), Refused> {
    let mut tx = db.begin().await?;
    let before = store::lock(&mut tx).await?;
    precondition(&before, expected)?;
    let policies = KeyPolicies {
        prod: change.prod.over(&before.key_policies.prod),
        dev: change.dev.over(&before.key_policies.dev),
    };
    let after = Settings {
        lease_ms: change.lease_ms.unwrap_or(before.lease_ms),
        session_ttl_seconds: change.session_ttl_seconds.unwrap_or(before.session_ttl_seconds),
        audit_days: change.audit_days.unwrap_or(before.audit_days),
        key_policies: policies,
        dynamic_registration: change.dynamic_registration.unwrap_or(before.dynamic_registration),
        assertion_audience_token_endpoint: change
            .assertion_audience_token_endpoint
            .unwrap_or(before.assertion_audience_token_endpoint),
        provider_grace_seconds: change.provider_grace_seconds.unwrap_or(before.provider_grace_seconds),
        dpop_nonce_required: change.dpop_nonce_required.unwrap_or(before.dpop_nonce_required),
        leaks: change.leaks.unwrap_or_default().over(&before.leaks),
        updated_at: before.updated_at,
    };
    check(&after)?;
    let updated_at = store::set(&mut tx, &after).await?;
    let recorded = serde_json::to_value(&after).unwrap_or_default();
    audit::append(&mut tx, &Entry::new(by, "settings.changed").on("settings").with("settings", recorded)).await?;
    Ok((Settings { updated_at, ..after }, db.commit(tx).await?))
}

fn check(settings: &Settings) -> Result<(), Refused> {
    let mut checks = Checks::default();
    let mut within = |value: i32, bounds: std::ops::RangeInclusive<i32>, pointer: &str| {
        checks.expect(bounds.contains(&value), pointer, "range", &format!("{} to {}", bounds.start(), bounds.end()));
    };
    within(settings.lease_ms, 1_000..=60_000, "/lease_ms");
    within(settings.session_ttl_seconds, 60..=3_600, "/session_ttl_seconds");
    within(settings.provider_grace_seconds, 0..=2_592_000, "/provider_grace_seconds");
    within(settings.audit_days, 1..=36_500, "/audit_days");
    settings.key_policies.prod.check(&mut checks, "/key_policies/prod");
    settings.key_policies.dev.check(&mut checks, "/key_policies/dev");
    leaks::check(&settings.leaks, &mut checks);
    checks.done()
}
