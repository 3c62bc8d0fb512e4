//! Tokens on a person's word: by an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5) and by a refresh token (§6).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::authorizations::{self, Code};
use crate::clients::Application;
use crate::clients::metadata::GrantType;
use crate::db;
use crate::gate::Inactive;
use crate::http::oauth::client::failed;
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::token::{Asker, Request, TokenResponse, still_here};
use crate::http::v1::revocations::enforce;
use crate::proofs::Wrong;
use crate::revocations::{self, Kind, New};
use crate::sessions::refresh::{self, Again, NewFamily, Shown, State};
use crate::sessions::{Allowed, Draft, Refusal, Wish, authorise_allowed};
use crate::types::credential::Presented;
use crate::types::id::{ClientId, SessionId};
use crate::types::thumbprint::Thumbprint;

/// Characters of a code verifier (RFC 7636 §4.1).
const VERIFIER_CHARS: std::ops::RangeInclusive<usize> = 43..=128;
/// The scope that asks for a refresh token; it is no permission.
const OFFLINE_ACCESS: &str = "offline_access";

impl Request<'_> {
    fn application(&self) -> Result<(&Application, ClientId), OAuthError> {
        let application = match self.client {
            Asker::Application(application) => application,
            // An agent's key has no person behind it.
            Asker::Key(_) => return Err(Refusal::UnauthorizedClient.into()),
            Asker::Nobody => return Err(failed(self.app, self.asking, Inactive::Malformed, None)),
        };
        // Nobody agreed to a client that has no row.
        Ok((application, application.id.ok_or(Refusal::InvalidGrant)?))
    }

    /// Redeems a code, once. Shown a second time, what came of it dies: two have it, and one of them is a thief.
    pub(super) async fn by_code(&self, wish: &Wish) -> Result<TokenResponse, OAuthError> {
        let (application, client) = self.application()?;
        let (shown, verifier) = (self.form.need("code")?, self.form.need("code_verifier")?);
        let mut tx = self.app.db.begin().await?;
        let code = authorizations::look_at_code(&mut tx, shown).await?.ok_or(Refusal::InvalidGrant)?;
        if code.client_id != client {
            // It has leaked to another client: it is good for nobody any more (attack 9).
            return self.burn(tx, &code, "code_of_another_client").await;
        }
        if let Err((refused, why)) = self.asked_for(&code, verifier) {
            // Whoever cannot prove that it asked for the code may neither use nor end it (OAuth 2.1 §4.1.3).
            drop(tx);
            self.note(&code.flow_id, "token", (refused.code(), why)).await;
            return Err(refused);
        }
        if code.used {
            return self.burn(tx, &code, "code_replayed").await;
        }
        if code.expired {
            drop(tx);
            return Err(self.refuse(&code.flow_id, "code_expired").await);
        }
        let family = SessionId::at(self.app.live.now());
        let (draft, allowed) = self.app.live.answer(|view| {
            let allowed = Allowed {
                consent: code.consent_id,
                permissions: code.permissions.clone(),
                family: (family, view.now),
                position: code.position,
            };
            authorise_allowed(view, &allowed, wish).map(|draft| (draft, allowed))
        })??;
        let (access_token, kid) = self.sign(&draft)?;
        authorizations::use_code(&mut tx, &code, family).await?;
        let offline = code.offline || application.metadata.grant_types.contains(&GrantType::RefreshToken);
        let new = NewFamily {
            id: family,
            flow: code.flow_id.clone(),
            consent: code.consent_id,
            user: code.user_id,
            client,
            server: code.server_id,
            permissions: allowed.permissions,
            position: draft.position,
        };
        refresh::begin(&mut tx, &new).await?;
        let secret_key = self.app.feed.secret_key();
        let refresh_token = if offline {
            let (sealing, key) = (self.app.sealing(&secret_key), self.key_of_refresh_tokens(application));
            Some(refresh::first(&mut tx, sealing, family, key).await?)
        } else {
            None
        };
        authorizations::step(&mut tx, &code.flow_id, "token", None).await?;
        db::commit(tx).await?;
        self.app.writer.write(&draft, &kid).await?;
        Ok(Self::response(draft, access_token, None, refresh_token.as_ref()))
    }

    /// Uses a refresh token, or answers again what it was answered.
    pub(super) async fn by_refresh_token(&self, wish: &Wish) -> Result<TokenResponse, OAuthError> {
        let (application, client) = self.application()?;
        let presented = Presented::parse(self.form.need("refresh_token")?).ok_or(Refusal::InvalidGrant)?;
        let wish = Wish { scope: wish.scope.as_deref().and_then(without_offline), ..wish.clone() };
        let keyring = &self.app.live.keyring;
        let mut tx = self.app.db.begin().await?;
        let mut shown = refresh::look(&mut tx, keyring, &presented).await?.ok_or(Refusal::InvalidGrant)?;
        if shown.client != client {
            return self.end(tx, &shown, "token_of_another_client").await;
        }
        if let Err(refused) = self.shown_with(shown.key) {
            // What a thief without the key holds is worth nothing, so nothing ends: he shall not end what he cannot use.
            drop(tx);
            if let Some(flow) = &shown.flow {
                self.note(flow, "refresh", (refused.code(), "bound_to_another_key")).await;
            }
            return Err(refused);
        }
        if matches!(shown.state, State::Fresh) {
            // The provider may take seconds, and nothing is locked meanwhile.
            drop(tx);
            still_here::ask(self.app, self.asking, shown.user).await?;
            tx = self.app.db.begin().await?;
            shown = refresh::look(&mut tx, keyring, &presented).await?.ok_or(Refusal::InvalidGrant)?;
        }
        match &shown.state {
            State::Over => Err(Refusal::InvalidGrant.into()),
            State::Replayed => self.end(tx, &shown, "replayed").await,
            // The answer is told again to whoever it was made for. Another key, or none, is somebody else.
            State::Again(again) if again.claims.cnf.map(|cnf| cnf.jkt) != self.key => {
                self.end(tx, &shown, "replayed_with_another_key").await
            }
            State::Again(again) => {
                let same = shown.same(keyring, &presented, again)?;
                let (draft, first) = self.once_more(&shown, again)?;
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
                let draft = self.app.live.answer(|view| authorise_allowed(view, &shown.allowed, &wish))??;
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
    fn once_more(&self, shown: &Shown, again: &Again) -> Result<(Draft, bool), OAuthError> {
        let checked: Result<_, Refusal> = self.app.live.answer(|view| {
            let scope = Some(again.claims.permissions.to_scope());
            let wish = Wish { scope, key: self.key, ..Wish::default() };
            let draft = authorise_allowed(view, &shown.allowed, &wish)?;
            let expires_in = again.claims.exp - view.now.seconds();
            if expires_in < 1 {
                return Ok((draft, false));
            }
            Ok((Draft { claims: again.claims.clone(), expires_in, ..draft }, true))
        })?;
        Ok(checked?)
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
        authorizations::step(&mut tx, &code.flow_id, "token", Some(("invalid_grant", why))).await?;
        self.revoke(tx, family).await
    }

    /// Ends a family of refresh tokens.
    async fn end(&self, mut tx: db::Tx, shown: &Shown, why: &'static str) -> Result<TokenResponse, OAuthError> {
        refresh::end(&mut tx, shown.family, why).await?;
        if let Some(flow) = &shown.flow {
            authorizations::step(&mut tx, flow, "refresh", Some(("invalid_grant", why))).await?;
        }
        self.revoke(tx, shown.family).await
    }

    /// Ends the session tokens of a family with it. When this has returned, no node answers "active" for one of them.
    async fn revoke(&self, mut tx: db::Tx, family: SessionId) -> Result<TokenResponse, OAuthError> {
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

    /// Writes into the flow's trace why; the client learns only that it is refused.
    async fn refuse(&self, flow: &str, why: &'static str) -> OAuthError {
        self.note(flow, "token", ("invalid_grant", why)).await;
        Refusal::InvalidGrant.into()
    }

    async fn note(&self, flow: &str, step: &'static str, refused: (&'static str, &'static str)) {
        let write = async {
            let mut tx = self.app.db.begin().await?;
            authorizations::step(&mut tx, flow, step, Some(refused)).await?;
            db::commit(tx).await
        };
        if let Err(error) = write.await {
            tracing::warn!(%error, "a step of a flow could not be written");
        }
    }
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
