//! Whether a person may still be here: its provider is asked before a refresh token is used.

use futures_util::future::BoxFuture;

use crate::app::App;
use crate::db;
use crate::http::oauth::client::Asking;
use crate::http::oauth::error::OAuthError;
use crate::http::v1::revocations::enforce;
use crate::providers::{self, CheckError, Person};
use crate::refusal::Code;
use crate::revocations::{Kind, New};
use crate::sessions::Refusal;
use crate::settings;
use crate::types::id::UserId;
use crate::users::{self, Check};

/// Holds afterwards: the provider vouched for the person a moment ago, or within the grace while it cannot be asked. What it
/// says counts at once, on every node: roles that are gone, or a person who is.
///
/// # Errors
///
/// [`Refusal::InvalidGrant`] when the person may not be here any more, or nobody has known for too long.
pub(super) async fn ask(app: &App, asking: &Asking, user: UserId) -> Result<(), OAuthError> {
    if is_known(app, asking, user).await? { Ok(()) } else { Err(Refusal::InvalidGrant.into()) }
}

/// The same; false when nobody has known for too long.
///
/// # Errors
///
/// As [`ask`], but for that.
pub(super) async fn is_known(app: &App, asking: &Asking, user: UserId) -> Result<bool, OAuthError> {
    let Some(check) = users::due_check(&app.db, &app.live.keyring, user).await? else {
        // Vouched for a moment ago; or another request asks just now, and its answer counts everywhere. Whoever waits for no
        // answer has the grace and no more: else two requests at a time would need no provider.
        return if overdue(app, user).await? { Err(OAuthError::unavailable()) } else { Ok(true) };
    };
    match check_with(app, &check).await? {
        Asked::Vouched(person) => renew(app, asking, user, &person).await.map(|()| true),
        Asked::Gone => gone(app, asking, user).await.map(|()| true),
        Asked::Nothing => {
            users::not_asked(&app.db, user).await?;
            Ok(!overdue(app, user).await?)
        }
    }
}

async fn overdue(app: &App, user: UserId) -> Result<bool, OAuthError> {
    let mut connection = app.db.reads().acquire().await.map_err(db::Error::from)?;
    let grace = settings::get(&mut connection).await?.provider_grace_seconds;
    Ok(users::is_overdue(&mut connection, user, grace).await?)
}

enum Asked {
    Vouched(Box<Person>),
    Gone,
    /// It cannot be asked, or not about this person: it gave nothing to ask with.
    Nothing,
}

async fn check_with(app: &App, check: &Check) -> Result<Asked, OAuthError> {
    let mut connection = app.db.reads().acquire().await.map_err(db::Error::from)?;
    let provider = providers::by_id(&mut connection, check.provider).await?;
    drop(connection);
    let Some(provider) = provider.filter(|provider| !provider.disabled) else { return Ok(Asked::Gone) };
    let Some(tokens) = &check.tokens else { return Ok(Asked::Nothing) };
    // Its type is long, and named here so that the compiler need not look into it.
    let asked: BoxFuture<'_, _> = Box::pin(app.upstream.check(&provider, tokens));
    Ok(match asked.await {
        Ok(person) => Asked::Vouched(Box::new(person)),
        Err(CheckError::Gone) => Asked::Gone,
        Err(CheckError::Unreachable) => Asked::Nothing,
    })
}

async fn renew(app: &App, asking: &Asking, user: UserId, person: &Person) -> Result<(), OAuthError> {
    let secret_key = app.feed.secret_key();
    let mut tx = app.db.begin().await?;
    let by = asking.by("system".to_owned());
    let narrowed = users::renew(&mut tx, &by, app.sealing(&secret_key), user, person).await;
    let narrowed = narrowed.map_err(|refused| match refused.code {
        Code::Unauthenticated | Code::NotFound => Refusal::InvalidGrant.into(),
        // That the database is away says nothing of the person.
        _ => OAuthError::from(refused),
    })?;
    let done = app.db.commit(tx).await?;
    // A role that is gone is gone everywhere before the next token is made.
    if narrowed && !app.feed.enforced(done).await.complete {
        return Err(OAuthError::unavailable());
    }
    app.feed.spread(done).await;
    Ok(())
}

/// Ends everything that was issued for the person so far.
async fn gone(app: &App, asking: &Asking, user: UserId) -> Result<(), OAuthError> {
    let reason = Some("the identity provider says that this person is gone".to_owned());
    let new = New { reason, project: None, ..New::of(Kind::User, user.as_str(), "") };
    let revoked = app.revoker.revoke(&asking.by("system".to_owned()), new).await?;
    if enforce(app, Kind::User, revoked.done).await.complete {
        Err(Refusal::InvalidGrant.into())
    } else {
        Err(OAuthError::unavailable())
    }
}
