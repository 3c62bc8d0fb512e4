//! People, the browsers they are signed in with, and what they allowed. Owns `users`, `user_roles`, `user_checks`, `logins`
//! and `consents`.
//!
//! A person is whom a provider names by a subject: an address or a name that people read decides nothing.

mod consents;
mod logins;
mod sign_in;
mod store;
mod vouched;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::{self, Entry};
use crate::db::{Db, Done};
use crate::projects::{everywhere, precondition};
use crate::refusal::Refused;
use crate::revocations::{self, Kind, New};
use crate::types::caller::Caller;
use crate::types::id::UserId;
use crate::types::page::{After, Listed, Page};

pub use consents::{
    ALLOWED_SHOWN_MAX, Allowed, Consent, ConsentFilter, ConsentRow, agreed, allowed_by, allowed_one, consent,
    consent_id, expire_consents, get_consent, list_consents, load_all_consents, load_some_consents, provide,
};
pub use logins::{LOGIN_SECONDS, LOGINS_MAX, Login, end_logins, expire_logins, log_in, log_out, logged_in, sign_out};
pub use sign_in::{Check, SignedIn, due_check, is_overdue, not_asked, renew, sign_in};
pub use store::{Row, UserRole, load_all, load_all_roles, load_some, load_some_roles, permissions_of};
pub use vouched::{known, vouched};

/// A person as operators read it.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct User {
    /// Its id, also the `sub` of its tokens.
    pub id: String,
    /// With which provider it signs in.
    pub provider_id: String,
    /// What that provider calls it, for ever.
    pub subject: String,
    /// What people call it there. It may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For display. It decides nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What the provider's claims gave it when it was last asked.
    pub roles: Vec<String>,
    /// Switched off: it cannot sign in, and nothing of it works.
    pub disabled: bool,
    /// When it first signed in.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last signed in.
    #[serde(with = "time::serde::rfc3339")]
    pub signed_in_at: OffsetDateTime,
}

/// What a list of people is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// With whom they sign in.
    pub provider_id: Option<String>,
    /// Switched off or not.
    pub disabled: Option<bool>,
    /// How the user name begins, in any case.
    pub q: Option<String>,
}

/// The people, newest first.
///
/// # Errors
///
/// A caller who does not reach all projects, or the database cannot answer.
pub async fn list(db: &Db, by: &Caller, filter: &Filter, page: &Page) -> Result<Listed<User>, Refused> {
    everywhere(by)?;
    let (items, edge) = store::list(&mut *db.begin_list().await?, filter, page).await?;
    Ok(page.cut_at(items, edge, |user| After { at: user.created_at, id: user.id.clone() }))
}

/// A person.
///
/// # Errors
///
/// There is none, or the caller does not reach all projects.
pub async fn get(conn: &mut PgConnection, by: &Caller, id: UserId) -> Result<User, Refused> {
    everywhere(by)?;
    store::find(conn, id).await?.ok_or_else(|| Refused::not_found("user"))
}

/// Switches a person off or on. Off ends its sign-ins and kills all that was issued for it, for good; what it allowed
/// stays, and counts again when it is switched on and signs in.
///
/// Returns whether a right was taken away.
///
/// # Errors
///
/// No such person, an old `If-Match` tag, or a caller who does not reach all projects.
pub async fn change(
    db: &Db,
    by: &Caller,
    id: UserId,
    disabled: Option<bool>,
    expected: Option<&str>,
) -> Result<(User, Done, bool), Refused> {
    everywhere(by)?;
    let mut tx = db.begin().await?;
    store::lock_user(&mut tx, id).await?.ok_or_else(|| Refused::not_found("user"))?;
    let before = get(&mut tx, by, id).await?;
    precondition(&before, expected)?;
    let after = User { disabled: disabled.unwrap_or(before.disabled), ..before.clone() };
    let switched_off = after.disabled && !before.disabled;
    if after.disabled != before.disabled {
        store::set_disabled(&mut tx, id, after.disabled).await?;
    }
    if switched_off {
        logins::end_all(&mut tx, id).await?;
        let all = New { kind: Kind::User, target: id.to_string(), reason: None, issued_before: None, project: None };
        revocations::add(&mut tx, by, &all).await?;
    }
    audit::append(&mut tx, &Entry::new(by, "user.changed").on(id.as_str()).with("disabled", after.disabled)).await?;
    Ok((after, db.commit(tx).await?, switched_off))
}
