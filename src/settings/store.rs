//! SQL of settings.

use sqlx::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;

use crate::db;
use crate::settings::{DynamicRegistration, KeyPolicies, KeyPolicy, Leaks, Settings};

struct Row {
    lease_ms: i32,
    session_ttl_seconds: i32,
    audit_days: i32,
    prod_max_age_days: i32,
    prod_remind_days: Vec<i32>,
    prod_overlap_seconds: i64,
    prod_reason: Option<String>,
    dev_max_age_days: i32,
    dev_remind_days: Vec<i32>,
    dev_overlap_seconds: i64,
    dev_reason: Option<String>,
    dynamic_registration: String,
    assertion_audience_token_endpoint: bool,
    provider_grace_seconds: i32,
    dpop_nonce_required: bool,
    leaks: Json<Leaks>,
    updated_at: OffsetDateTime,
}

impl From<Row> for Settings {
    fn from(row: Row) -> Self {
        Self {
            lease_ms: row.lease_ms,
            session_ttl_seconds: row.session_ttl_seconds,
            audit_days: row.audit_days,
            key_policies: KeyPolicies {
                prod: KeyPolicy {
                    max_age_days: row.prod_max_age_days,
                    remind_days: row.prod_remind_days,
                    overlap_seconds: row.prod_overlap_seconds,
                    reason: row.prod_reason,
                },
                dev: KeyPolicy {
                    max_age_days: row.dev_max_age_days,
                    remind_days: row.dev_remind_days,
                    overlap_seconds: row.dev_overlap_seconds,
                    reason: row.dev_reason,
                },
            },
            dynamic_registration: DynamicRegistration::parse(&row.dynamic_registration),
            assertion_audience_token_endpoint: row.assertion_audience_token_endpoint,
            provider_grace_seconds: row.provider_grace_seconds,
            dpop_nonce_required: row.dpop_nonce_required,
            leaks: row.leaks.0,
            updated_at: row.updated_at,
        }
    }
}

pub(super) async fn get(connection: &mut PgConnection) -> db::Result<Settings> {
    let row = sqlx::query_as!(
        Row,
        r#"select lease_ms, session_ttl_seconds, audit_days, prod_max_age_days, prod_remind_days, prod_overlap_seconds, prod_reason,
                dev_max_age_days, dev_remind_days, dev_overlap_seconds, dev_reason,
                dynamic_registration, assertion_audience_token_endpoint, provider_grace_seconds, dpop_nonce_required, leaks as "leaks: Json<Leaks>", updated_at from settings"#,
    )
    .fetch_one(connection)
    .await?;
    Ok(row.into())
}

pub(super) async fn lock(tx: &mut PgConnection) -> db::Result<Settings> {
    let row = sqlx::query_as!(
        Row,
        r#"select lease_ms, session_ttl_seconds, audit_days, prod_max_age_days, prod_remind_days, prod_overlap_seconds, prod_reason,
                dev_max_age_days, dev_remind_days, dev_overlap_seconds, dev_reason,
                dynamic_registration, assertion_audience_token_endpoint, provider_grace_seconds, dpop_nonce_required, leaks as "leaks: Json<Leaks>", updated_at from settings for update"#,
    )
    .fetch_one(tx)
    .await?;
    Ok(row.into())
}

/// Keeps the lease before, and one that was changed a moment ago: nodes may still be under it.
pub(super) async fn set(tx: &mut PgConnection, new: &Settings) -> db::Result<OffsetDateTime> {
    let KeyPolicies { prod, dev } = &new.key_policies;
    let row = sqlx::query!(
        "update settings set lease_ms = $1,
                previous_lease_ms = case when lease_ms = $1 then previous_lease_ms
                                         when updated_at > authority_now() - interval '2 minutes' then greatest(lease_ms, previous_lease_ms)
                                         else lease_ms end,
                session_ttl_seconds = $2, audit_days = $3,
                prod_max_age_days = $4, prod_remind_days = $5, prod_overlap_seconds = $6, prod_reason = $7,
                dev_max_age_days = $8, dev_remind_days = $9, dev_overlap_seconds = $10, dev_reason = $11,
                dynamic_registration = $12, assertion_audience_token_endpoint = $13, provider_grace_seconds = $14, dpop_nonce_required = $15, leaks = $16,
                updated_at = authority_now()
         returning updated_at",
        new.lease_ms,
        new.session_ttl_seconds,
        new.audit_days,
        prod.max_age_days,
        &prod.remind_days,
        prod.overlap_seconds,
        prod.reason,
        dev.max_age_days,
        &dev.remind_days,
        dev.overlap_seconds,
        dev.reason,
        new.dynamic_registration.as_str(),
        new.assertion_audience_token_endpoint,
        new.provider_grace_seconds,
        new.dpop_nonce_required,
        Json(&new.leaks) as _,
    )
    .fetch_one(tx)
    .await?;
    Ok(row.updated_at)
}

/// The name of this installation.
///
/// # Errors
///
/// The database cannot answer.
pub async fn installation(connection: &mut PgConnection) -> db::Result<uuid::Uuid> {
    Ok(sqlx::query!("select installation from settings").fetch_one(connection).await?.installation)
}
