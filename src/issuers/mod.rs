//! Issuers whose tokens stand for workloads, and which workload acts as which client. Owns `issuers`, `issuer_rules` and
//! `used_assertions`.
//!
//! They belong to no project: who names the keys of an issuer speaks for all its workloads. decisions/0024 says why a workload
//! gets what a client has, and what ends when an issuer or a rule goes.

mod asked;
mod change;
mod rules;
mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db::{self, Db};
use crate::projects::everywhere;
use crate::refusal::Refused;
use crate::types::caller::Caller;
use crate::types::clock::Timestamp;
use crate::types::id::IssuerId;
use crate::types::opaque;
use crate::types::page::{After, Listed, Page};

pub use asked::Issuers;
pub use change::{Change, NewIssuer, change, create, delete};
pub use rules::{Rule, Unmatched, client};
pub use store::expire_assertions;

/// Issuers that there may be.
pub const ISSUERS_MAX: usize = 100;

/// An issuer of workload tokens.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Issuer {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// What its tokens call it, byte by byte. Never changes.
    pub issuer: String,
    /// Where its keys are; absent: where its own configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// For whom its tokens must be; absent: our issuer, or the token endpoint's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Which workload acts as which client.
    pub rules: Vec<Rule>,
    /// Switched off: its tokens get nothing.
    pub disabled: bool,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// An issuer, for an operator on all projects.
///
/// # Errors
///
/// There is none, or the caller is not on all projects.
pub async fn get(connection: &mut PgConnection, by: &Caller, id: IssuerId) -> Result<Issuer, Refused> {
    everywhere(by)?;
    store::find(connection, Some(id.as_str()), None).await?.ok_or_else(|| Refused::not_found("issuer"))
}

/// The issuers, newest first, for an operator on all projects.
///
/// # Errors
///
/// The caller is not on all projects, or the database cannot answer.
pub async fn list(db: &Db, by: &Caller, page: &Page) -> Result<Listed<Issuer>, Refused> {
    everywhere(by)?;
    let items = store::list(&mut *db.begin_list().await?, page).await?;
    Ok(page.cut(items, |issuer| After { at: issuer.created_at, id: issuer.id.clone() }))
}

/// The issuer that calls itself so, if its tokens count now.
///
/// # Errors
///
/// The database cannot answer.
pub async fn trusted(connection: &mut PgConnection, issuer: &str) -> db::Result<Option<Issuer>> {
    let found = store::find(connection, None, Some(issuer)).await?;
    Ok(found.filter(|issuer| !issuer.disabled))
}

/// Uses up an assertion of an issuer, of a workload or of a person. False: it was used before, on some node.
///
/// # Errors
///
/// The database refuses.
pub async fn use_assertion(tx: &mut PgConnection, issuer: &str, jti: &str, ends_at: Timestamp) -> db::Result<bool> {
    store::use_assertion(tx, issuer, &opaque::sha256(jti), ends_at.to_utc()).await
}
