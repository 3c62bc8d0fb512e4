//! Tokens on a person's word: by an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5) and by a refresh token (§6).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::authorizations::{self, Code, LAST_STEP};
use crate::clients::Application;
use crate::clients::metadata::GrantType;
use crate::db;
use crate::gate::{Inactive, Position, View};
use crate::http::oauth::client::failed;
use crate::http::oauth::error::{OAuthError, write_down};
use crate::http::oauth::token::{Asker, Request, TokenResponse, still_here};
use crate::http::v1::revocations::enforce;
use crate::proofs::Wrong;
use crate::revocations::{self, Kind, New};
use crate::sessions::refresh::{self, Again, NewFamily, Shown, State};
use crate::sessions::{Allowed, Draft, Refusal, Wish, authorise_allowed, why_refused};
use crate::types::credential::Presented;
use crate::types::id::{ClientId, ConsentId, ServerId, SessionId, UserId};
use crate::types::permission::Permissions;
use crate::types::thumbprint::Thumbprint;

/// Characters of a code verifier (RFC 7636 §4.1).
const VERIFIER_CHARS: std::ops::RangeInclusive<usize> = 43..=128;
/// The scope that asks for a refresh token; it is no permission.
const OFFLINE_ACCESS: &str = "offline_access";

impl Request<'_> {
    /// The OAuth client that asks; others have no person behind them.
    pub(super) fn oauth_client(&self) -> Result<&Application, OAuthError> {
        match self.client {
            Asker::Application(application) => Ok(application),
            Asker::Key(_) => Err(Refusal::UnauthorizedClient.into()),
            Asker::Nobody => Err(failed(self.app, self.asking, Inactive::Malformed, None)),
        }
    }

    fn application(&self) -> Result<(&Application, ClientId), OAuthError> {
        let application = self.oauth_client()?;
        // Nobody agreed to a client that has no row.
        Ok((application, application.id.ok_or(Refusal::InvalidGrant)?))
    }

    /// Redeems a code, once. Shown a second time, what came of it dies: two have it, and one of them is a thief.
    pub(super) async fn by_code(&self, wish: &Wish) -> Result<TokenResponse, OAuthError> {
        let mut told = Told::default();
        let redeemed = self.redeemed(wish, &mut told).await;
        self.told(LAST_STEP, told, redeemed).await
    }

    async fn redeemed(&self, wish: &Wish, told: &mut Told) -> Result<TokenResponse, OAuthError> {
        let (application, client) = self.application()?;
        let (shown, verifier) = (self.form.need("code")?, self.form.need("code_verifier")?);
        let mut tx = self.app.db.begin().await?;
        let code = authorizations::look_at_code(&mut tx, shown).await?.ok_or(Refusal::InvalidGrant)?;
        told.flow = Some(code.flow_id.clone());
        if code.client_id != client {
            // It has leaked to another client: it is good for nobody any more (attack 9).
            return self.burn(tx, &code, told.cause("code_of_another_client")).await;
        }
        if let Err((refused, why)) = self.asked_for(&code, verifier) {
            // Whoever cannot prove that it asked for the code may neither use nor end it (OAuth 2.1 §4.1.3).
            told.why = Some(why);
            return Err(refused);
        }
        if code.used {
            return self.burn(tx, &code, told.cause("code_replayed")).await;
        }
        if code.expired {
            return Err(told.because("code_expired"));
        }
        let family = SessionId::at(self.app.live.now());
        let agreed = Agreed {
            consent: code.consent_id,
            user: code.user_id,
            server: code.server_id,
            permissions: code.permissions.clone(),
            position: code.position,
            offline: code.offline || application.metadata.grant_types.contains(&GrantType::RefreshToken),
        };
        let draft = self.draft(&agreed, family, wish, told)?;
        authorizations::use_code(&mut tx, &code, family).await?;
        self.first(tx, (&code.flow_id, client), agreed, draft).await
    }

    /// The session token for what a person agreed to, the first of a family.
    pub(super) fn draft(
        &self,
        agreed: &Agreed,
        family: SessionId,
        wish: &Wish,
        told: &mut Told,
    ) -> Result<Draft, OAuthError> {
        let allowed = |began| Allowed {
            consent: agreed.consent,
            permissions: agreed.permissions.clone(),
            family: (family, began),
            position: agreed.position,
        };
        self.authorised(|view| allowed(view.now), wish, told)
    }

    fn authorised(
        &self,
        allowed: impl Fn(View<'_>) -> Allowed,
        wish: &Wish,
        told: &mut Told,
    ) -> Result<Draft, OAuthError> {
        let authorised = self.app.live.answer(|view| {
            let allowed = allowed(view);
            authorise_allowed(view, &allowed, wish).map_err(|refusal| {
                let why = (refusal == Refusal::InvalidGrant).then(|| why_refused(view, &allowed));
                (refusal, why)
            })
        })?;
        authorised.map_err(|(refusal, why)| {
            told.why = why;
            refusal.into()
        })
    }

    /// Begins the family with its first tokens, in the transaction that used what they are got for.
    pub(super) async fn first(
        &self,
        mut tx: db::Tx,
        (flow, client): (&str, ClientId),
        agreed: Agreed,
        draft: Draft,
    ) -> Result<TokenResponse, OAuthError> {
        let (access_token, kid) = self.sign(&draft)?;
        let family = draft.family.ok_or_else(OAuthError::unavailable)?;
        let new = NewFamily {
            id: family,
            flow: flow.to_owned(),
            consent: agreed.consent,
            user: agreed.user,
            client,
            server: agreed.server,
            permissions: agreed.permissions,
            position: draft.position,
        };
        refresh::begin(&mut tx, &new).await?;
        let secret_key = self.app.feed.secret_key();
        let refresh_token = if agreed.offline {
            let (sealing, key) = (self.app.sealing(&secret_key), self.key_of_refresh_tokens(self.oauth_client()?));
            Some(refresh::first(&mut tx, sealing, family, key).await?)
        } else {
            None
        };
        authorizations::step(&mut tx, flow, LAST_STEP, None).await?;
        db::commit(tx).await?;
        self.app.writer.write(&draft, &kid).await?;
        Ok(Self::response(draft, access_token, None, refresh_token.as_ref()))
    }

    /// Uses a refresh token, or answers again what it was answered.
    pub(super) async fn by_refresh_token(&self, wish: &Wish) -> Result<TokenResponse, OAuthError> {
        let mut told = Told::default();
        let refreshed = self.refreshed(wish, &mut told).await;
        self.told("refresh", told, refreshed).await
    }

    async fn refreshed(&self, wish: &Wish, told: &mut Told) -> Result<TokenResponse, OAuthError> {
        let (application, client) = self.application()?;
        let presented = Presented::parse(self.form.need("refresh_token")?).ok_or(Refusal::InvalidGrant)?;
        let wish = Wish { scope: wish.scope.as_deref().and_then(without_offline), ..wish.clone() };
        let keyring = &self.app.live.keyring;
        let mut tx = self.app.db.begin().await?;
        let mut shown = refresh::look(&mut tx, keyring, &presented).await?.ok_or(Refusal::InvalidGrant)?;
        told.flow.clone_from(&shown.flow);
        if shown.client != client {
            return self.end(tx, &shown, told.cause("token_of_another_client")).await;
        }
        if let Err(refused) = self.shown_with(shown.key) {
            // What a thief without the key holds is worth nothing, so nothing ends: he shall not end what he cannot use.
            told.why = Some("bound_to_another_key");
            return Err(refused);
        }
        if matches!(shown.state, State::Fresh) {
            // The provider may take seconds, and nothing is locked meanwhile.
            drop(tx);
            told.why = Some("person_not_vouched_for");
            still_here::ask(self.app, self.asking, shown.user).await?;
            told.why = None;
            tx = self.app.db.begin().await?;
            shown = refresh::look(&mut tx, keyring, &presented).await?.ok_or(Refusal::InvalidGrant)?;
        }
        match &shown.state {
            State::Over => Err(told.because("over")),
            State::Replayed => self.end(tx, &shown, told.cause("replayed")).await,
            // The answer is told again to whoever it was made for. Another key, or none, is somebody else.
            State::Again(again) if again.claims.cnf.map(|cnf| cnf.jkt) != self.key => {
                self.end(tx, &shown, told.cause("replayed_with_another_key")).await
            }
            State::Again(again) => {
                let same = shown.same(keyring, &presented, again)?;
                let (draft, first) = self.once_more(&shown, again, told)?;
                if !first {
                    shown.renew(&mut tx, again, &draft.claims).await?;
                }
                db::commit(tx).await?;
                let (access_token, kid) = self.sign(&draft)?;
                if !(first && again.written) {
                    self.app.writer.write(&draft, &kid).await?;
                }
                Ok(Self::response(draft, access_token, None, Some(&same)))
            }
            State::Fresh => {
                let draft = self.authorised(|_| shown.allowed.clone(), &wish, told)?;
                let (access_token, kid) = self.sign(&draft)?;
                let secret_key = self.app.feed.secret_key();
                let (sealing, key) = (self.app.sealing(&secret_key), self.key_of_refresh_tokens(application));
                let next = shown.rotate(&mut tx, sealing, &presented, (&draft.claims, key)).await?;
                db::commit(tx).await?;
                self.app.writer.write(&draft, &kid).await?;
                Ok(Self::response(draft, access_token, None, Some(&next)))
            }
        }
    }

    /// The session token of the first answer, to be signed anew: it is the same token, with the same id. A new one, and false,
    /// when that is over by now. What it hangs on is looked at as if it were asked for now.
    fn once_more(&self, shown: &Shown, again: &Again, told: &mut Told) -> Result<(Draft, bool), OAuthError> {
        let scope = Some(again.claims.permissions.to_scope());
        let wish = Wish { scope, key: self.key, ..Wish::default() };
        let draft = self.authorised(|_| shown.allowed.clone(), &wish, told)?;
        // The new one's life began when it was drafted.
        let expires_in = again.claims.exp - draft.claims.iat;
        if expires_in < 1 {
            return Ok((draft, false));
        }
        Ok((Draft { claims: again.claims.clone(), expires_in, ..draft }, true))
    }

    /// Refresh tokens of a public client are bound to the key that they were asked for with; whoever authenticates may change its
    /// keys (RFC 9449 §5).
    fn key_of_refresh_tokens(&self, application: &Application) -> Option<Thumbprint> {
        self.key.filter(|_| !application.metadata.is_confidential())
    }

    /// Whether it is the sender that asked for a code: it has the verifier, and the key if there is one.
    fn asked_for(&self, code: &Code, verifier: &str) -> Result<(), (OAuthError, &'static str)> {
        let right = verifies(verifier, &code.code_challenge)
            && self.form.get("redirect_uri").is_none_or(|uri| uri == code.redirect_uri);
        if !right {
            return Err((Refusal::InvalidGrant.into(), "code_verifier_or_redirect_uri"));
        }
        self.shown_with(code.jkt).map_err(|refused| (refused, "bound_to_another_key"))
    }

    /// Whether what is bound to `key`, if to any, is shown by whoever has that key.
    fn shown_with(&self, key: Option<Thumbprint>) -> Result<(), OAuthError> {
        match (key, self.key) {
            (Some(_), None) => Err(OAuthError::invalid_proof(Wrong::Missing)),
            (Some(key), Some(own)) if key != own => Err(Refusal::InvalidGrant.into()),
            _ => Ok(()),
        }
    }

    /// Ends what came of a code, and the code.
    async fn burn(&self, mut tx: db::Tx, code: &Code, why: &'static str) -> Result<TokenResponse, OAuthError> {
        // A code that nobody redeemed yet is used up by a family that never was.
        let family = code.family_id.unwrap_or_else(SessionId::random);
        authorizations::use_code(&mut tx, code, family).await?;
        refresh::end(&mut tx, family, why).await?;
        self.revoke(tx, family).await
    }

    /// Ends a family of refresh tokens.
    async fn end(&self, mut tx: db::Tx, shown: &Shown, why: &'static str) -> Result<TokenResponse, OAuthError> {
        refresh::end(&mut tx, shown.family, why).await?;
        self.revoke(tx, shown.family).await
    }

    /// Ends the session tokens of a family with it. When this has returned, no node answers "active" for one of them.
    pub(super) async fn revoke(&self, mut tx: db::Tx, family: SessionId) -> Result<TokenResponse, OAuthError> {
        let reason = Some("a code or a refresh token was shown twice".to_owned());
        let new = New { reason, project: None, ..New::of(Kind::Token, family.as_str(), "") };
        let by = self.asking.by("system".to_owned());
        revocations::add(&mut tx, &by, &new).await?;
        self.app.db.commit_change(tx).await?;
        // The entry is there; asking again waits for it, also when it was there before.
        let revoked = self.app.revoker.revoke(&by, new).await?;
        if enforce(self.app, Kind::Token, revoked.done).await.complete {
            Err(Refusal::InvalidGrant.into())
        } else {
            Err(OAuthError::unavailable())
        }
    }

    /// Writes a refusal into the flow's trace, with its cause; the client learns only that it is refused.
    pub(super) async fn told<T>(
        &self,
        step: &'static str,
        told: Told,
        outcome: Result<T, OAuthError>,
    ) -> Result<T, OAuthError> {
        // What this node has not heard of yet is looked at again.
        if let (Err(error), Some(flow)) = (&outcome, &told.flow)
            && error.ahead.is_none()
        {
            write_down(async {
                let mut connection = self.app.db.reads().acquire().await?;
                error.trace_why(&mut connection, flow, step, told.why).await
            })
            .await;
        }
        outcome
    }
}

/// Of which flow a request turned out to be, and why it is refused where the words on the wire do not say.
#[derive(Default)]
pub(super) struct Told {
    /// The flow.
    pub(super) flow: Option<String>,
    /// The stable cause.
    pub(super) why: Option<&'static str>,
}

impl Told {
    /// Notes the cause, and gives it back.
    pub(super) const fn cause(&mut self, why: &'static str) -> &'static str {
        self.why = Some(why);
        why
    }

    /// Notes the cause of an `invalid_grant`.
    pub(super) fn because(&mut self, why: &'static str) -> OAuthError {
        self.why = Some(why);
        Refusal::InvalidGrant.into()
    }
}

/// What a person agreed to, to be turned into a family's first tokens.
pub(super) struct Agreed {
    /// The consent.
    pub(super) consent: ConsentId,
    /// Whose.
    pub(super) user: UserId,
    /// On which server.
    pub(super) server: ServerId,
    /// What of it was asked for.
    pub(super) permissions: Permissions,
    /// What a node must have applied before it honours it.
    pub(super) position: Position,
    /// Whether it comes with a refresh token.
    pub(super) offline: bool,
}

/// RFC 7636 §4.6, S256 only. Compared in constant time.
fn verifies(verifier: &str, challenge: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if !VERIFIER_CHARS.contains(&verifier.len()) || !verifier.bytes().all(unreserved) {
        return false;
    }
    let made = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    verify_slices_are_equal(made.as_bytes(), challenge.as_bytes()).is_ok()
}

/// The scope asked for without what is no permission; `None`: nothing else was asked for.
fn without_offline(scope: &str) -> Option<String> {
    let rest: Vec<&str> = scope.split(' ').filter(|one| !one.is_empty() && *one != OFFLINE_ACCESS).collect();
    if rest.is_empty() { None } else { Some(rest.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_25_only_the_verifier_of_the_challenge_verifies() {
        // The example of RFC 7636, appendix B.
        let (verifier, challenge) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(verifies(verifier, challenge));
        for wrong in
            ["", challenge, &verifier[1..], &format!("{verifier}A"), &"a".repeat(129), &verifier.replace('-', "+")]
        {
            assert!(!verifies(wrong, challenge), "{wrong}");
        }
        assert!(!verifies(verifier, ""));
    }

    #[test]
    fn offline_access_asks_for_no_permission() {
        assert_eq!(without_offline("tools/list offline_access").as_deref(), Some("tools/list"));
        assert_eq!(without_offline("offline_access"), None);
        assert_eq!(without_offline(" "), None);
    }
}
