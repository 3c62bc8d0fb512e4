//! People whom a provider vouches for by an assertion, without a sign-in.

mod store;

use sqlx::PgConnection;

use self::store::{note_vouched, roles_of};
use super::sign_in::{SignedIn, shown};
use super::store as people;
use crate::audit::{self, Entry};
use crate::db;
use crate::providers::Vouched;
use crate::refusal::{Code, Refused};
use crate::types::caller::Caller;
use crate::types::id::{ProviderId, UserId};

/// Notes that a provider vouched for a person by an assertion, without a sign-in: with what it can be asked again stays as it
/// was. Roles of which it says nothing are kept only where `keep`: what was known of them is recent.
///
/// # Errors
///
/// [`Code::Unauthenticated`] when the person is switched off here, or the database refuses.
pub async fn vouched(
    tx: &mut PgConnection,
    by: &Caller,
    provider: ProviderId,
    person: &Vouched,
    keep: bool,
) -> Result<SignedIn, Refused> {
    let new = UserId::random();
    people::insert_user(tx, new, provider, &person.subject).await?;
    let found = people::lock_by_subject(tx, provider, &person.subject).await?;
    if found.disabled {
        return Err(Refused::new(Code::Unauthenticated, "This person is switched off here."));
    }
    let (username, email) = (shown(person.username.as_deref()), shown(person.email.as_deref()));
    if username.is_some() && username != found.username {
        people::set_username(tx, found.id, username.as_deref()).await?;
    }
    if email.is_some() {
        people::set_email(tx, found.id, email.as_deref()).await?;
    }
    let mut roles: Vec<String> = person.roles.iter().map(ToString::to_string).collect();
    if keep {
        let held = roles_of(tx, found.id).await?;
        roles.extend(held.into_iter().filter(|held| person.untold.iter().any(|untold| untold.as_str() == held)));
    }
    let narrowed = people::set_roles(tx, found.id, &roles).await?;
    note_vouched(tx, found.id, person.untold.is_empty()).await?;
    let action = if found.id == new { "user.vouched_for" } else { "user.roles_changed" };
    if found.id == new || narrowed {
        let entry = Entry::new(by, action).on(found.id.as_str());
        audit::append(tx, &entry.with("provider_id", provider.as_str()).with("new", found.id == new)).await?;
    }
    Ok(SignedIn { id: found.id, narrowed })
}

/// Who a provider calls so, and which roles it has so far; `None`: nobody yet.
///
/// # Errors
///
/// The database cannot answer.
pub async fn known(
    conn: &mut PgConnection,
    provider: ProviderId,
    subject: &str,
) -> db::Result<Option<(UserId, Vec<String>)>> {
    let Some(user) = people::find_by_subject(conn, provider, subject).await? else { return Ok(None) };
    Ok(Some((user, roles_of(conn, user).await?)))
}
