//! Identity providers that people sign in with. Owns `providers`, `provider_rules` and `provider_logouts`.
//!
//! They belong to no project: who can change a rule can give anybody anything. What is asked of a provider, and what of its
//! answers is believed, stands in `upstream/`; decisions/0019 says why.

mod assertion;
mod change;
mod client_secret;
mod error;
mod person;
mod rules;
mod settings;
mod store;
mod upstream;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db::{self, Db};
use crate::refusal::{Code, Refused};
use crate::types::caller::Caller;
use crate::types::id::ProviderId;
use crate::types::opaque;
use crate::types::page::{After, Listed, Page};

pub use assertion::{Asserted, IdJag, Terms, Vouched};
pub use change::{Change, Here, NewProvider, change, create, cut_off, delete};
pub use client_secret::{ClientSecret, reseal};
pub use error::{CheckError, UpstreamError};
pub use person::{Answer, Begun, LoggedOut, Person, Remembered, SignInWish, UpstreamTokens};
pub use rules::{Rule, says};
pub use settings::{ProviderKind, Settings, is_address};
pub use store::expire_logout_tokens;
pub use upstream::{KeySets, LOGOUT_AGE_MAX, SignedToken, Unusable, Upstream, discovery_of, moment};

/// Providers that people may choose among, and that there may be.
pub const PROVIDERS_MAX: usize = 50;

/// A provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its id.
    pub id: ProviderId,
    /// Stands in addresses. Never changes.
    pub name: String,
    /// What people read.
    pub title: String,
    /// What it speaks.
    pub kind: ProviderKind,
    /// Its identity assertions (ID-JAG) stand for its people.
    pub enterprise_managed: bool,
    /// Switched off: nobody signs in with it, nobody's tokens are renewed by it.
    pub disabled: bool,
    /// What its kind needs.
    pub settings: Settings,
    /// Who has which role.
    pub rules: Vec<Rule>,
    /// Our secret there, sealed.
    pub client_secret: Option<ClientSecret>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// A provider as it is read. Its secret is never shown.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = Provider)]
pub struct Shown {
    /// Its id.
    pub id: String,
    /// Stands in addresses. Never changes.
    pub name: String,
    /// What people read.
    pub title: String,
    /// What it speaks.
    pub kind: ProviderKind,
    /// What its kind needs.
    pub settings: Settings,
    /// Whether a client secret is kept.
    pub has_client_secret: bool,
    /// Who has which role. Looked at in each sign-in and each renewal.
    pub rules: Vec<Rule>,
    /// Its identity assertions (ID-JAG) get tokens for its people without anybody being asked: the company decides.
    pub enterprise_managed: bool,
    /// Switched off: nobody signs in with it, nobody's tokens are renewed by it.
    pub disabled: bool,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

impl From<Provider> for Shown {
    fn from(provider: Provider) -> Self {
        Self {
            id: provider.id.to_string(),
            name: provider.name,
            title: provider.title,
            kind: provider.kind,
            has_client_secret: provider.client_secret.is_some(),
            settings: provider.settings,
            rules: provider.rules,
            enterprise_managed: provider.enterprise_managed,
            disabled: provider.disabled,
            created_at: provider.created_at,
        }
    }
}

/// The providers that people may sign in with, by name.
///
/// # Errors
///
/// The database cannot answer.
pub async fn offered(connection: &mut PgConnection) -> db::Result<Vec<Provider>> {
    store::offered(connection).await
}

/// The provider of this name, switched off or not; a deleted one is none.
///
/// # Errors
///
/// The database cannot answer.
pub async fn by_name(connection: &mut PgConnection, name: &str) -> db::Result<Option<Provider>> {
    store::find(connection, None, Some(name)).await
}

/// The provider with this id, switched off or not; a deleted one is none.
///
/// # Errors
///
/// The database cannot answer.
pub async fn by_id(connection: &mut PgConnection, id: ProviderId) -> db::Result<Option<Provider>> {
    store::find(connection, Some(id.as_str()), None).await
}

/// The provider that is switched on and whose identity assertions by this issuer stand for its people.
///
/// # Errors
///
/// The database cannot answer.
pub async fn enterprise_managed(connection: &mut PgConnection, issuer: &str) -> db::Result<Option<Provider>> {
    store::enterprise_managed(connection, issuer).await
}

/// Whether identity assertions of this provider count, and go on counting until the transaction ends.
///
/// # Errors
///
/// The database cannot answer.
pub async fn hold_enterprise_managed(tx: &mut PgConnection, id: ProviderId) -> db::Result<bool> {
    store::hold_enterprise_managed(tx, id).await
}

/// Whether identity assertions of any provider count.
///
/// # Errors
///
/// The database cannot answer.
pub async fn any_enterprise_managed(connection: &mut PgConnection) -> db::Result<bool> {
    store::any_enterprise_managed(connection).await
}

/// A provider, for an operator on all projects.
///
/// # Errors
///
/// There is none, or the caller is not on all projects.
pub async fn get(connection: &mut PgConnection, by: &Caller, id: ProviderId) -> Result<Shown, Refused> {
    everywhere(by)?;
    Ok(by_id(connection, id).await?.ok_or_else(|| Refused::not_found("provider"))?.into())
}

/// The providers, newest first, for an operator on all projects.
///
/// # Errors
///
/// The caller is not on all projects, or the database cannot answer.
pub async fn list(db: &Db, by: &Caller, page: &Page) -> Result<Listed<Shown>, Refused> {
    everywhere(by)?;
    let items = store::list(&mut *db.begin_list().await?, page).await?;
    let items = items.into_iter().map(Shown::from).collect();
    Ok(page.cut(items, |provider: &Shown| After { at: provider.created_at, id: provider.id.clone() }))
}

/// Notes that a logout token was used. False: it was before.
///
/// # Errors
///
/// The database refuses.
pub async fn use_logout_token(tx: &mut PgConnection, provider: ProviderId, token: &LoggedOut) -> db::Result<bool> {
    store::use_logout_token(tx, provider, &opaque::sha256(&token.jti), token.ends_at.to_utc()).await
}

fn everywhere(by: &Caller) -> Result<(), Refused> {
    if by.projects.is_none() {
        return Ok(());
    }
    Err(Refused::new(Code::BeyondOwnRights, "Only an operator on all projects may do this."))
}
