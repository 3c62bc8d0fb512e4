//! Somebody signed in: who it is, with which roles, and with what its provider can be asked again.

use sqlx::PgConnection;
use zeroize::Zeroizing;

use super::store;
use crate::audit::{self, Entry};
use crate::db::{self, Db};
use crate::providers::{Person, UpstreamTokens};
use crate::refusal::{Code, Refused};
use crate::secrets::Sealing;
use crate::types::caller::Caller;
use crate::types::id::{ProviderId, UserId};
use crate::types::keyring::{Keyring, Place};

/// Characters of a name or an address that are kept.
const NAME_CHARS_MAX: usize = 200;
/// Bytes of a provider's name for a person at most. It is never cut: cut, it would be another's.
const SUBJECT_BYTES_MAX: usize = 512;

/// A provider that vouched for a person is not asked again within this: clients that renew in a hurry are no reason to.
const CHECK_EVERY_SECONDS: i32 = 10;
/// One asks at a time, on all nodes: a provider's refresh token may be good once. Whoever takes longer has failed.
const CHECK_SECONDS_MAX: i32 = 30;

/// Who signed in.
#[derive(Clone, Copy, Debug)]
pub struct SignedIn {
    /// Our name for the person.
    pub id: UserId,
    /// A role was taken away: the commit is enforced before anybody is answered.
    pub narrowed: bool,
}

/// What a provider can be asked again with.
#[derive(Debug)]
pub struct Check {
    /// Who vouches for the person.
    pub provider: ProviderId,
    /// Its tokens; `None`: it gave none, or they can no longer be opened.
    pub tokens: Option<UpstreamTokens>,
}

/// Notes that a provider vouched for a person: the provider and its subject decide who it is, nothing else. The roles
/// become those of now, the tokens are sealed.
///
/// # Errors
///
/// [`Code::Unauthenticated`] when the person is switched off here; a name that cannot be kept; or the database refuses.
pub async fn sign_in(
    tx: &mut PgConnection,
    by: &Caller,
    sealing: Sealing<'_>,
    provider: ProviderId,
    person: &Person,
) -> Result<SignedIn, Refused> {
    if person.subject.is_empty() || person.subject.len() > SUBJECT_BYTES_MAX || person.subject.contains('\0') {
        return Err(Refused::new(Code::Unauthenticated, "The provider's name for this person cannot be kept."));
    }
    let new = UserId::random();
    store::insert_user(tx, new, provider, &person.subject).await?;
    let found = store::lock_by_subject(tx, provider, &person.subject).await?;
    if found.disabled {
        return Err(Refused::new(Code::Unauthenticated, "This person is switched off here."));
    }
    let narrowed = update(tx, sealing, (found.id, found.username.as_deref()), person).await?;
    store::set_signed_in(tx, found.id).await?;
    let entry = Entry::new(&Caller { actor: found.id.to_string(), ..by.clone() }, "user.signed_in")
        .on(found.id.as_str())
        .with("provider_id", provider.as_str())
        .with("new", found.id == new);
    audit::append(tx, &entry).await?;
    Ok(SignedIn { id: found.id, narrowed })
}

/// Notes what a provider said when it was asked again: roles and tokens anew. Returns whether a role was taken away.
///
/// # Errors
///
/// There is no such person, or it is switched off; or the database refuses.
pub async fn renew(
    tx: &mut PgConnection,
    by: &Caller,
    sealing: Sealing<'_>,
    user: UserId,
    person: &Person,
) -> Result<bool, Refused> {
    let found = store::lock_user(tx, user).await?.ok_or_else(|| Refused::not_found("user"))?;
    if found.disabled || found.subject != person.subject {
        return Err(Refused::new(Code::Unauthenticated, "This person is switched off here, or another."));
    }
    let narrowed = update(tx, sealing, (user, found.username.as_deref()), person).await?;
    if narrowed {
        let entry = Entry::new(by, "user.roles_changed").on(user.as_str());
        audit::append(tx, &entry.with("provider_id", found.provider_id.as_str())).await?;
    }
    Ok(narrowed)
}

/// With what a person's provider is to be asked now, by the caller and nobody else. `None`: it vouched for the person a moment
/// ago, or somebody asks already.
///
/// # Errors
///
/// The database cannot answer.
pub async fn due_check(db: &Db, keyring: &Keyring, user: UserId) -> db::Result<Option<Check>> {
    let mut tx = db.begin().await?;
    let claimed = store::claim_check(&mut tx, user, (CHECK_EVERY_SECONDS, CHECK_SECONDS_MAX)).await?;
    db::commit(tx).await?;
    let Some(row) = claimed else { return Ok(None) };
    let tokens = row.secret_key.zip(row.tokens).and_then(|(key, sealed)| {
        let open = keyring.open(&key, place(user.as_str()), &sealed);
        open.ok().and_then(|open| serde_json::from_slice(&open).ok())
    });
    let provider = store::id(&row.provider_id)?;
    Ok(Some(Check { provider, tokens }))
}

/// Notes that a provider could not be asked: another may try.
///
/// # Errors
///
/// The database refuses.
pub async fn not_asked(db: &Db, user: UserId) -> db::Result<()> {
    let mut tx = db.begin().await?;
    store::release_check(&mut tx, user).await?;
    db::commit(tx).await
}

/// Whether nobody has vouched for a person for longer than the grace. What was vouched for a moment ago never is.
///
/// # Errors
///
/// The database cannot answer.
pub async fn is_overdue(conn: &mut PgConnection, user: UserId, grace_seconds: i32) -> db::Result<bool> {
    store::is_overdue(conn, user, grace_seconds.max(CHECK_EVERY_SECONDS)).await
}

/// Name, address, roles and tokens become those of now. Only what differs is written: every change of a name or a role
/// reaches every node.
async fn update(
    tx: &mut PgConnection,
    sealing: Sealing<'_>,
    (user, known_as): (UserId, Option<&str>),
    person: &Person,
) -> Result<bool, Refused> {
    let (username, email) = (shown(person.username.as_deref()), shown(person.email.as_deref()));
    if username.as_deref() != known_as {
        store::set_username(tx, user, username.as_deref()).await?;
    }
    store::set_email(tx, user, email.as_deref()).await?;
    let roles: Vec<String> = person.roles.iter().map(ToString::to_string).collect();
    let narrowed = store::set_roles(tx, user, &roles).await?;
    let sealed = match &person.tokens {
        Some(tokens) => Some(seal(sealing, user, tokens)?),
        None => None,
    };
    store::set_check(tx, user, sealed.as_ref().map(|sealed| (sealing.secret_key, &sealed[..]))).await?;
    Ok(narrowed)
}

fn seal(sealing: Sealing<'_>, user: UserId, tokens: &UpstreamTokens) -> Result<Vec<u8>, Refused> {
    let internal = || Refused::new(Code::Internal, "The provider's tokens could not be sealed.");
    let open = serde_json::to_vec(tokens).map(Zeroizing::new).map_err(|_| internal())?;
    sealing.keyring.seal(sealing.secret_key, place(user.as_str()), &open).ok_or_else(internal)
}

fn place(user: &str) -> Place<'_> {
    Place { table: "user_checks", column: "tokens", row: user }
}

/// For display only, so it may be cut.
pub(super) fn shown(text: Option<&str>) -> Option<String> {
    let plain: String = text?.chars().filter(|sign| !sign.is_control()).take(NAME_CHARS_MAX).collect();
    Some(plain.trim().to_owned()).filter(|plain| !plain.is_empty())
}
