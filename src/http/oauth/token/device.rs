//! Tokens for a device (RFC 8628 §3.4): it asks until its person has said something, or too long has passed.

use crate::authorizations::LAST_STEP;
use crate::authorizations::devices::{self, Device, State};
use crate::clients::metadata::GrantType;
use crate::db;
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::token::allowed::{Agreed, Told};
use crate::http::oauth::token::{Request, TokenResponse};
use crate::sessions::refresh;
use crate::sessions::{Refusal, Wish};
use crate::types::id::SessionId;

impl Request<'_> {
    /// Answers a device that asks for its tokens. It gets them once.
    pub(super) async fn by_device_code(&self, wish: &Wish) -> Result<TokenResponse, OAuthError> {
        let mut told = Told::default();
        let polled = self.polled(wish, &mut told).await;
        self.told(LAST_STEP, told, polled).await
    }

    async fn polled(&self, wish: &Wish, told: &mut Told) -> Result<TokenResponse, OAuthError> {
        // One that nobody agreed to yet has no row, and may ask all the same.
        let application = self.oauth_client()?;
        let shown = self.form.need("device_code")?;
        let mut tx = self.app.db.begin().await?;
        let device = devices::look_at_device(&mut tx, shown).await?.ok_or(Refusal::InvalidGrant)?;
        if device.client_id != application.client_id {
            // It has leaked to another client: it is good for nobody any more (attack 9).
            told.flow = Some(device.flow_id.clone());
            return self.burn_device(tx, &device, told.cause("device_code_of_another_client")).await;
        }
        if let State::Pending = device.state
            && !device.expired
        {
            // To wait is no step of the flow.
            devices::asked_again(&mut tx, &device).await?;
            db::commit(tx).await?;
            return Err(if device.too_soon {
                OAuthError::of_device("slow_down", "ask less often: five seconds more between two questions")
            } else {
                OAuthError::of_device("authorization_pending", "the person has not answered yet")
            });
        }
        told.flow = Some(device.flow_id.clone());
        let agreement = match &device.state {
            State::Redeemed => {
                return self.burn_device(tx, &device, told.cause("device_code_replayed")).await;
            }
            State::Denied => return Err(OAuthError::of_device("access_denied", "the person said no")),
            _ if device.expired => return Err(OAuthError::of_device("expired_token", "it took too long: begin anew")),
            State::Pending => return Err(OAuthError::unavailable()),
            State::Approved(agreement) => agreement.clone(),
        };
        let client = application.id.ok_or(Refusal::InvalidGrant)?;
        let offline = device.offline || application.metadata.grant_types.contains(&GrantType::RefreshToken);
        let agreed = Agreed {
            consent: agreement.consent_id,
            user: agreement.user_id,
            server: agreement.server_id,
            permissions: agreement.permissions,
            position: agreement.position,
            offline,
        };
        let family = SessionId::at(self.app.live.now());
        let draft = self.draft(&agreed, family, wish, told)?;
        devices::use_device(&mut tx, &device, family).await?;
        self.first(tx, (&device.flow_id, client), agreed, draft).await
    }

    /// Ends a device code and what came of it.
    async fn burn_device(
        &self,
        mut tx: db::Tx,
        device: &Device,
        why: &'static str,
    ) -> Result<TokenResponse, OAuthError> {
        if let Some(family) = device.family_id {
            refresh::end(&mut tx, family, why).await?;
            return self.revoke(tx, family).await;
        }
        devices::deny(&mut tx, &device.flow_id).await?;
        db::commit(tx).await?;
        Err(Refusal::InvalidGrant.into())
    }
}
