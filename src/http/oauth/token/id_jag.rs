//! Identity assertions (ID-JAG): a company's provider says that a client may act for one of its people, and nobody is asked.
//!
//! What comes of one is a token as of the person's own consent, which the provider gave in the person's place. There is no
//! refresh token: the client asks the provider again, and so the company is asked again.

use crate::clients::metadata::GrantType;
use crate::clients::{self, Application};
use crate::db::{self, Tx};
use crate::gate::Inactive;
use crate::gate::{Position, View};
use crate::http::oauth::authorize::{server, wish as asked_by};
use crate::http::oauth::client::failed;
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::token::assertion::{invalid, unverified};
use crate::http::oauth::token::{Asker, Request, TokenResponse, still_here};
use crate::issuers;
use crate::providers::{self, IdJag, Provider, SignedToken, Vouched};
use crate::refusal::{Code, Refused};
use crate::revocations::{self, Kind};
use crate::sessions::{Allowed, Refusal, Wish, authorise_allowed};
use crate::types::caller::Caller;
use crate::types::id::{ConsentId, ServerId, SessionId, UserId};
use crate::types::permission::Permissions;
use crate::users;

/// A scope that is no permission. Nothing is refreshed here.
const OFFLINE_ACCESS: &str = "offline_access";

/// What is asked for, of which server.
struct Wanted {
    server: ServerId,
    project: String,
    /// `None`: whatever the person has there.
    permissions: Option<Permissions>,
}

/// What the provider allowed in the person's place.
struct Given {
    consent: ConsentId,
    permissions: Permissions,
    position: Position,
}

impl Request<'_> {
    /// A token for the person that an identity assertion speaks of.
    pub(super) async fn by_id_jag(&self, token: &SignedToken<'_>, wish: &Wish) -> Result<TokenResponse, OAuthError> {
        let client = self.asserting_client()?;
        let claimed = token.claimed_issuer().ok_or_else(|| invalid("assertion_malformed"))?;
        let mut connection = self.app.db.reads().acquire().await.map_err(db::Error::from)?;
        let provider = providers::enterprise_managed(&mut connection, &claimed).await?;
        drop(connection);
        let provider = provider.ok_or_else(|| invalid("assertion_issuer"))?;
        let jag = self.app.upstream.asserted(&provider, token).await.map_err(unverified)?;
        if jag.client_id != client.client_id {
            return Err(invalid("assertion_client"));
        }
        // One that is bound to a key counts only with a proof that its sender has that key: else it may have been found.
        if jag.bound.as_deref().is_some_and(|bound| self.key.is_none_or(|key| key.as_str() != bound)) {
            return Err(invalid("assertion_bound"));
        }
        let wanted = self.app.live.answer(|view| wanted(view, client, &jag, wish))??;
        let keep = self.knows_roles(&provider, &jag.person).await?;
        let given = self.given(&provider, &jag, &wanted, keep).await?;
        // The assertion is used up: nothing from here on may ask for it again.
        self.app.catch_up(given.position).await?;
        self.accepted(provider.id.as_str(), &client.client_id, &jag.asserted);
        let allowed = Allowed {
            consent: given.consent,
            permissions: given.permissions,
            // A family of this one token: nothing is refreshed from it, so it has no row.
            family: (SessionId::at(self.app.live.now()), self.app.live.now()),
            position: given.position,
        };
        let whole = Wish { address: wish.address, key: wish.key, ..Wish::default() };
        let draft = self.app.live.answer(|view| authorise_allowed(view, &allowed, &whole))?;
        let draft = draft.map_err(|refusal| match refusal {
            Refusal::Ahead(_) => OAuthError::unavailable(),
            refusal => OAuthError::from(refusal).because("person_refused"),
        })?;
        self.mint(draft, None).await
    }

    /// The client that shows it. A public one proves nothing, so whoever found the assertion could be it.
    fn asserting_client(&self) -> Result<&Application, OAuthError> {
        let refused = |cause| Err(OAuthError::from(Refusal::UnauthorizedClient).because(cause));
        match self.client {
            Asker::Nobody => Err(failed(self.app, self.asking, Inactive::Malformed, None)),
            Asker::Key(_) => refused("client_is_key"),
            Asker::Application(client) if !client.metadata.grant_types.contains(&GrantType::JwtBearer) => {
                refused("client_grant")
            }
            Asker::Application(client) if !client.metadata.is_confidential() => refused("client_public"),
            Asker::Application(client) => Ok(client),
        }
    }

    /// Whether what is known of the person's roles is recent, where the assertion does not say: its provider is asked again, as
    /// before a refresh.
    async fn knows_roles(&self, provider: &Provider, person: &Vouched) -> Result<bool, OAuthError> {
        let mut connection = self.app.db.reads().acquire().await.map_err(db::Error::from)?;
        let known = users::known(&mut connection, provider.id, &person.subject).await?;
        drop(connection);
        let untold = |held: &String| person.untold.iter().any(|role| role.as_str() == held);
        match known {
            Some((user, roles)) if roles.iter().any(untold) => {
                still_here::is_known(self.app, self.asking, user).await.map_err(|error| match error.code() {
                    "invalid_grant" => error.because("person_gone"),
                    _ => error,
                })
            }
            _ => Ok(false),
        }
    }

    /// Writes down who the person is and what the provider allows it, in one transaction with the assertion's use: one that
    /// could not be acted on is not used up.
    async fn given(&self, provider: &Provider, jag: &IdJag, wanted: &Wanted, keep: bool) -> Result<Given, OAuthError> {
        let by = self.asking.by(provider.id.to_string());
        let mut tx = self.app.db.begin().await?;
        // It was read before its keys were asked for, which may have taken seconds.
        if !providers::hold_enterprise_managed(&mut tx, provider.id).await? {
            return Err(invalid("assertion_issuer"));
        }
        let asserted = &jag.asserted;
        if !issuers::use_assertion(&mut tx, &claimed(provider), &asserted.jti, asserted.ends_at).await? {
            return Err(invalid("assertion_replayed"));
        }
        let person = users::vouched(&mut tx, &by, provider.id, &jag.person, keep).await;
        let person = person.map_err(|refused| match refused.code {
            Code::Unauthenticated => invalid("user_disabled"),
            _ => refused.into(),
        })?;
        self.still_counts(&mut tx, (provider, person.id), jag, wanted).await?;
        let held = users::permissions_of(&mut tx, person.id, wanted.server).await?;
        let permissions = wanted.permissions.as_ref().map_or_else(|| held.clone(), |asked| asked.intersect(&held));
        let consent = if permissions.is_empty() {
            None
        } else {
            Some(self.consent(&mut tx, &by, (person.id, wanted.server), &permissions).await?)
        };
        let done = self.app.db.commit(tx).await?;
        // A role that is gone is gone everywhere before the next token is made.
        if person.narrowed && !self.app.feed.enforced(done).await.complete {
            return Err(OAuthError::unavailable());
        }
        let nothing = || Refusal::InvalidScope("nothing of what was asked for is held".to_owned());
        let consent = consent.ok_or_else(|| OAuthError::from(nothing()).because("nothing_held"))?;
        Ok(Given { consent, permissions, position: done.position })
    }

    /// What was ended stays ended: an assertion from before brings nothing back.
    async fn still_counts(
        &self,
        tx: &mut Tx,
        (provider, user): (&Provider, UserId),
        jag: &IdJag,
        wanted: &Wanted,
    ) -> Result<(), OAuthError> {
        let client = match self.client {
            Asker::Application(client) => client.id,
            Asker::Key(_) | Asker::Nobody => None,
        };
        let mut targets = vec![
            (Kind::User, user.as_str()),
            (Kind::Provider, provider.id.as_str()),
            (Kind::Server, wanted.server.as_str()),
            (Kind::Project, wanted.project.as_str()),
            (Kind::All, "all"),
        ];
        targets.extend(client.as_ref().map(|client| (Kind::Client, client.as_str())));
        // What the person, or an operator, took back since.
        let consent = match client {
            Some(client) => users::consent_id(tx, (user, client, wanted.server)).await?,
            None => None,
        };
        targets.extend(consent.as_ref().map(|consent| (Kind::Grant, consent.as_str())));
        if revocations::is_cut_off(tx, &targets, jag.asserted.issued_at).await? {
            return Err(invalid("assertion_before_revocation"));
        }
        Ok(())
    }

    /// The consent that the provider gives in the person's place: the audit names the provider as who gave it.
    async fn consent(
        &self,
        tx: &mut Tx,
        by: &Caller,
        (user, server): (UserId, ServerId),
        permissions: &Permissions,
    ) -> Result<ConsentId, OAuthError> {
        let refused = |refused: Refused| match refused.code {
            Code::NotFound => invalid("client_gone"),
            Code::InvalidFields => {
                OAuthError::from(Refusal::InvalidScope(refused.detail)).because("too_many_permissions")
            }
            _ => refused.into(),
        };
        let client = clients::settle(tx, by, self.asserting_client()?).await.map_err(refused)?;
        users::provide(tx, by, (user, client, server), permissions).await.map_err(refused)
    }
}

fn claimed(provider: &Provider) -> String {
    match &provider.settings {
        providers::Settings::OpenId(openid) => openid.issuer.clone(),
        providers::Settings::OAuth2(_) | providers::Settings::Demo(_) => provider.id.to_string(),
    }
}

/// The server and the permissions: what the client asks for, within what the assertion allows. What it does not ask for, it
/// has said through its provider.
fn wanted(view: View<'_>, client: &Application, jag: &IdJag, wish: &Wish) -> Result<Wanted, OAuthError> {
    // Of several that the assertion names, the one that is ours.
    let asserted = || {
        let ours: Vec<String> =
            jag.resources.iter().filter(|one| server(view, std::slice::from_ref(*one)).is_ok()).cloned().collect();
        if ours.is_empty() { jag.resources.clone() } else { ours }
    };
    let resources = if wish.resources.is_empty() { asserted() } else { wish.resources.clone() };
    let (id, scopes) = server(view, &resources).map_err(|mistake| OAuthError::of(mistake).because("resource"))?;
    let is_same = |resource: &String| server(view, std::slice::from_ref(resource)).is_ok_and(|(other, _)| other == id);
    if !jag.resources.is_empty() && !jag.resources.iter().any(is_same) {
        return Err(OAuthError::from(Refusal::InvalidTarget).because("resource_not_asserted"));
    }
    let asked = |scope: Option<&str>| {
        let found = asked_by(scope, &scopes, client).map_err(|mistake| OAuthError::of(mistake).because("scope"))?;
        Ok::<_, OAuthError>(found.asked)
    };
    let nothing = |cause| {
        let words = "nothing of what was asked for is allowed by the assertion".to_owned();
        OAuthError::from(Refusal::InvalidScope(words)).because(cause)
    };
    let Some(bound) = jag.scope.as_deref() else {
        return Ok(Wanted { server: id, project: project(view, id), permissions: asked(wish.scope.as_deref())? });
    };
    if bound.split(' ').all(|word| word.is_empty() || word == OFFLINE_ACCESS) {
        return Err(nothing("scope_empty"));
    }
    let bound = asked(Some(bound))?;
    let mut permissions = match wish.scope.as_deref() {
        Some(scope) => asked(Some(scope))?,
        None => None,
    };
    permissions = match (permissions, bound) {
        (Some(asked), Some(bound)) => Some(asked.intersect(&bound)),
        (asked, bound) => asked.or(bound),
    };
    if permissions.as_ref().is_some_and(Permissions::is_empty) {
        return Err(nothing("scope_not_asserted"));
    }
    Ok(Wanted { server: id, project: project(view, id), permissions })
}

fn project(view: View<'_>, server: ServerId) -> String {
    view.memory.servers.get(&server).map(|server| server.project.to_string()).unwrap_or_default()
}
