//! From a person's word to a code: who it is, what of it its roles allow, what it agreed to, and the code itself.

use axum::response::Response;

use super::visit::{End, START_ANEW, Visit, stage, to_client};
use crate::authorizations::devices::{self, Agreement};
use crate::authorizations::{self, NewCode, Purpose, Request};
use crate::clients::{self, Application};
use crate::db::Tx;
use crate::gate::Position;
use crate::http::pages::cookies::Cookie;
use crate::http::pages::see_other;
use crate::providers::{Person, Provider};
use crate::refusal::{Code, Refused};
use crate::types::caller::Caller;
use crate::types::id::{ClientId, ConsentId, ServerId, UserId};
use crate::types::permission::Permissions;
use crate::users;

/// An authorization that a person agreed to.
pub(in crate::http::oauth) struct Grant<'a> {
    /// The browser's request.
    pub(in crate::http::oauth) visit: &'a Visit,
    /// The flow.
    pub(in crate::http::oauth) flow: &'a str,
    /// What was agreed to.
    pub(in crate::http::oauth) request: &'a Request,
    /// The client that gets the code.
    pub(in crate::http::oauth) client: &'a Application,
}

/// Who agreed.
pub(in crate::http::oauth) enum Who<'a> {
    /// Somebody who was signed in already.
    Known(UserId),
    /// Somebody whom a provider has just vouched for.
    New(&'a Provider, &'a Person),
}

impl Grant<'_> {
    /// Writes down who it is and what it agreed to, and sends the browser to the client with a code for it.
    pub(in crate::http::oauth) async fn agreed(&self, who: Who<'_>) -> Result<Response, End> {
        let app = &*self.visit.app;
        let mut tx = app.db.begin().await?;
        let (user, narrowed) = match &who {
            Who::Known(user) => (*user, false),
            Who::New(provider, person) => self.signed_in(&mut tx, provider, person).await?,
        };
        authorizations::of_user(&mut tx, self.flow, user.as_str()).await?;
        let server = self.server()?;
        let held = users::permissions_of(&mut tx, user, server).await?;
        let granted = self.request.asked.as_ref().map_or_else(|| held.clone(), |asked| asked.intersect(&held));
        if granted.is_empty() {
            return Err(self.nothing_left(tx, narrowed).await?);
        }
        let cookie = match &who {
            Who::Known(_) => None,
            Who::New(_, person) => Some(users::log_in(&mut tx, user, person.sid.as_deref()).await?),
        };
        let by = Caller { actor: user.to_string(), ..self.visit.by.clone() };
        let client = clients::settle(&mut tx, &by, self.client).await.map_err(|refused| self.unsettled(refused))?;
        let place = (user, client, server);
        let consent = users::consent(&mut tx, &by, place, &granted).await.map_err(|refused| self.unsettled(refused))?;
        authorizations::step(&mut tx, self.flow, stage::CONSENT, None).await?;
        let position = self.commit(tx, narrowed).await?;
        let mut response = self.issue((user, consent, Some(client)), &granted, position).await?;
        if let Some(cookie) = cookie {
            Cookie::Login.set(app, response.headers_mut(), cookie.reveal());
        }
        Ok(response)
    }

    /// A code that stands for it (A22: short, once; the row holds its digest), with `state` and `iss` (RFC 9207, A7).
    pub(super) async fn issue(
        &self,
        (user, consent, client): (UserId, ConsentId, Option<ClientId>),
        permissions: &Permissions,
        position: Position,
    ) -> Result<Response, End> {
        let client = client.ok_or_else(|| self.unsettled(Refused::not_found("client")))?;
        let app = &*self.visit.app;
        let server = self.server()?;
        if matches!(self.request.purpose, Purpose::Device(_)) {
            let permissions = permissions.clone();
            let agreement = Agreement { user_id: user, consent_id: consent, server_id: server, permissions, position };
            return self.to_the_device(&agreement).await;
        }
        let new = NewCode {
            flow_id: self.flow,
            consent_id: consent,
            user_id: user,
            client_id: client,
            server_id: server,
            permissions,
            redirect_uri: &self.request.redirect_uri,
            code_challenge: &self.request.code_challenge,
            jkt: self.request.jkt,
            offline: self.request.offline,
            position,
        };
        let mut tx = app.db.begin().await?;
        let code = authorizations::issue_code(&mut tx, &new).await?;
        authorizations::of_user(&mut tx, self.flow, user.as_str()).await?;
        authorizations::step(&mut tx, self.flow, stage::CODE, None).await?;
        crate::db::commit(tx).await?;
        let told = [("code", code.reveal().as_str())];
        Ok(see_other(&to_client(app, &self.request.redirect_uri, &told, self.request.state.as_deref())))
    }

    /// The device gets its tokens when it asks next, and the person a page that says so (RFC 8628 §3.3).
    async fn to_the_device(&self, agreement: &Agreement) -> Result<Response, End> {
        let mut tx = self.visit.app.db.begin().await?;
        if !devices::approve(&mut tx, self.flow, agreement).await? {
            let detail = "The device does not wait any more: it took too long, or somebody said no.";
            return Err(End::page(stage::CODE, "not_waiting", "This sign-in is over", detail).help(START_ANEW));
        }
        authorizations::of_user(&mut tx, self.flow, agreement.user_id.as_str()).await?;
        authorizations::step(&mut tx, self.flow, stage::CODE, None).await?;
        crate::db::commit(tx).await?;
        Ok(see_other("/oauth/device/done"))
    }

    fn server(&self) -> Result<ServerId, End> {
        let gone = || End::client(stage::CODE, "invalid_target", "no server was asked for", self.request);
        self.request.server_id.ok_or_else(gone)
    }

    async fn signed_in(&self, tx: &mut Tx, provider: &Provider, person: &Person) -> Result<(UserId, bool), End> {
        let app = &*self.visit.app;
        let secret_key = app.feed.secret_key();
        let sealing = app.sealing(&secret_key);
        let signed_in = users::sign_in(tx, &self.visit.by, sealing, provider.id, person).await;
        let signed_in = signed_in.map_err(|refused| match refused.code {
            Code::Unauthenticated => End::client(stage::SIGN_IN, "access_denied", refused.detail, self.request),
            _ => End::failed(refused),
        })?;
        if let Some(before) = Cookie::Login.read(app, &self.visit.headers) {
            users::log_out(tx, before).await?;
        }
        authorizations::step(tx, self.flow, stage::SIGN_IN, None).await?;
        Ok((signed_in.id, signed_in.narrowed))
    }

    /// The sign-in itself stands; there is only nothing to give.
    async fn nothing_left(&self, tx: Tx, narrowed: bool) -> Result<End, End> {
        self.commit(tx, narrowed).await?;
        let words = "nothing of what was asked for is given by the roles that the person has";
        Ok(End::client(stage::CONSENT, "access_denied", words, self.request))
    }

    /// Commits, and waits for every node where a role was taken away (guarantee 8).
    async fn commit(&self, tx: Tx, narrowed: bool) -> Result<Position, End> {
        let app = &*self.visit.app;
        let done = app.db.commit(tx).await?;
        if narrowed {
            app.feed.enforced(done).await;
        }
        Ok(done.position)
    }

    fn unsettled(&self, refused: Refused) -> End {
        match refused.code {
            Code::NotFound => {
                let detail = "This application was switched off or removed while you signed in.";
                End::page(stage::CODE, "client_disabled", "This sign-in cannot go on", detail)
            }
            Code::InvalidFields => End::client(stage::CODE, "invalid_scope", refused.detail, self.request),
            _ => End::failed(refused),
        }
    }
}
