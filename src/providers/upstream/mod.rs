//! Asking identity providers: where people are sent, what their answers must be to count, and whether somebody is still there.
//!
//! Every request goes through the guarded client. Nothing that a provider sends is believed before it was checked: its own
//! name, that the answer belongs to the question, signatures, times, and that what is learned later is about the same person.

mod answer;
mod claims;
mod configuration;
mod exchange;
mod id_token;
mod logout;
mod profile;
mod signed;

use std::sync::Arc;

use oauth2::{CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RefreshToken};
use openidconnect::Nonce;
use serde_json::{Value, json};
use url::Url;

use crate::gate::Live;
use crate::outbound::{Documents, Outbound};
use crate::providers::assertion::IdJag;
use crate::providers::error::{CheckError, UpstreamError};
use crate::providers::person::{Answer, Begun, LoggedOut, Person, Remembered, SignInWish, UpstreamTokens};
use crate::providers::settings::{OAuth2, OpenId, Settings};
use crate::providers::{PROVIDERS_MAX, Provider, ProviderKind};
use crate::telemetry::ProviderErrors;
use crate::types::redacted::Secret;
use answer::{DEMO, check_issuer, demo, said_no};
use claims::Learned;
use configuration::{Configuration, Endpoints};
use exchange::{Exchanged, NotExchanged};
use id_token::Expected;
use signed::KeySet;

pub(super) use claims::{identifier, shown, username_claim};
pub use configuration::{Unusable, discovery_of};
pub use logout::LOGOUT_AGE_MAX;
pub use signed::{KeySets, Token as SignedToken, moment};

/// How far a provider's clock may go before ours. It is a machine of somebody else's, whom we cannot make keep time; nothing
/// that ends is honoured longer for it.
const SKEW_SECONDS_MAX: i64 = 60;
/// Bytes of a provider's code at most.
const CODE_BYTES_MAX: usize = 4_096;

/// What asks the providers. One per node.
pub struct Upstream {
    outbound: Outbound,
    // For the secret keys and the database's clock.
    live: Arc<Live>,
    local: bool,
    errors: ProviderErrors,
    configurations: Documents<Configuration, Unusable>,
    key_sets: KeySets,
}

impl Upstream {
    /// Knows nothing yet. `local`: the service is for this machine only, so that the demo provider may work.
    #[must_use]
    pub fn new(outbound: Outbound, live: Arc<Live>, local: bool, errors: ProviderErrors) -> Self {
        let configurations = Documents::new(outbound.clone(), configuration::SHAPE);
        let key_sets = KeySets::new(outbound.clone(), PROVIDERS_MAX);
        Self { outbound, live, local, errors, configurations, key_sets }
    }

    /// Whether people can sign in with it here and now: not with one that is switched off, and not with the demo provider
    /// where others than this machine's users come.
    #[must_use]
    pub const fn offers(&self, provider: &Provider) -> bool {
        !provider.disabled && (self.local || !matches!(provider.kind, ProviderKind::Demo))
    }

    /// Begins a sign-in: where the browser goes, and what must be remembered. `callback` is the provider's own address here.
    ///
    /// # Errors
    ///
    /// The provider is switched off, cannot be reached, or is not what its record says.
    pub async fn begin(&self, provider: &Provider, callback: &Url, wish: &SignInWish) -> Result<Begun, UpstreamError> {
        self.counted(provider, self.begun(provider, callback, wish).await)
    }

    async fn begun(&self, provider: &Provider, callback: &Url, wish: &SignInWish) -> Result<Begun, UpstreamError> {
        self.usable(provider)?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (state, nonce) = (CsrfToken::new_random(), Nonce::new_random());
        let remember = Remembered {
            provider: provider.id,
            nonce: Secret::new(nonce.secret().clone()),
            verifier: Secret::new(verifier.secret().clone()),
        };
        let url = if let Settings::Demo(_) = provider.settings {
            let mut url = callback.clone();
            url.query_pairs_mut().append_pair("code", DEMO).append_pair("state", state.secret());
            url
        } else {
            let endpoints = self.endpoints(provider).await?;
            let client = exchange::client(&self.live.keyring, provider, &endpoints, Some(callback))?;
            let mut request = client.authorize_url(|| state.clone()).set_pkce_challenge(challenge);
            for scope in endpoints.scopes {
                request = request.add_scope(oauth2::Scope::new(scope));
            }
            if let Settings::OpenId(_) = provider.settings {
                request = request.add_extra_param("nonce", nonce.secret().clone());
                if let Some(hint) = &wish.login_hint {
                    request = request.add_extra_param("login_hint", hint);
                }
            }
            for (name, value) in configuration::parameters(&provider.settings, wish) {
                request = request.add_extra_param(name, value);
            }
            request.url().0
        };
        Ok(Begun { url, state: Secret::new(state.into_secret()), remember })
    }

    /// Ends a sign-in with what the provider sent back.
    ///
    /// # Errors
    ///
    /// The provider said no or cannot be reached, or what came is not a good answer to this sign-in.
    pub async fn finish(
        &self,
        provider: &Provider,
        callback: &Url,
        remember: &Remembered,
        answer: &Answer<'_>,
    ) -> Result<Person, UpstreamError> {
        self.counted(provider, self.finished(provider, callback, remember, answer).await)
    }

    async fn finished(
        &self,
        provider: &Provider,
        callback: &Url,
        remember: &Remembered,
        answer: &Answer<'_>,
    ) -> Result<Person, UpstreamError> {
        self.usable(provider)?;
        if remember.provider != provider.id {
            return Err(UpstreamError::Untrusted("other_provider"));
        }
        if let Settings::Demo(_) = provider.settings {
            return Ok(demo(provider));
        }
        let endpoints = self.endpoints(provider).await?;
        check_issuer(&endpoints, answer.iss)?;
        if let Some(error) = answer.error {
            return Err(said_no(error));
        }
        let code = answer.code.filter(|code| !code.is_empty() && code.len() <= CODE_BYTES_MAX);
        let code = code.ok_or(UpstreamError::Untrusted("code_missing"))?;
        let client = exchange::client(&self.live.keyring, provider, &endpoints, Some(callback))?;
        let verifier = PkceCodeVerifier::new(remember.verifier.reveal().clone());
        let code = oauth2::AuthorizationCode::new(code.to_owned());
        let request = client.exchange_code(code).set_pkce_verifier(verifier);
        let exchanged = exchange::code(&self.outbound, request, self.live.now()).await?;
        let learned = match &provider.settings {
            Settings::OpenId(openid) => {
                let raw = exchanged.id_token.as_ref().ok_or(UpstreamError::Untrusted("id_token_missing"))?;
                let nonce = Some(&remember.nonce);
                let claims = self.id_token(openid, &endpoints, raw, (nonce, None)).await?;
                self.completed(provider, &endpoints, claims, (&exchanged.access_token, false)).await?
            }
            Settings::OAuth2(oauth2) => self.profile(oauth2, &exchanged.access_token).await?,
            Settings::Demo(_) => return Ok(demo(provider)),
        };
        Ok(claims::person(provider, learned, exchanged, None))
    }

    /// Asks whether somebody may still be here, and what is so now.
    ///
    /// # Errors
    ///
    /// A definite no, or nothing was learned.
    pub async fn check(&self, provider: &Provider, tokens: &UpstreamTokens) -> Result<Person, CheckError> {
        if !self.offers(provider) {
            return Err(CheckError::Gone);
        }
        if let Settings::Demo(_) = provider.settings {
            return Ok(demo(provider));
        }
        self.ask_again(provider, tokens).await.map_err(|again| match again {
            Again::No => CheckError::Gone,
            Again::Failed(error) => {
                self.errors.count(&provider.name);
                tracing::warn!(provider = %provider.id, %error, "an identity provider could not be asked about a person");
                CheckError::Unreachable
            }
        })
    }

    async fn ask_again(&self, provider: &Provider, tokens: &UpstreamTokens) -> Result<Person, Again> {
        let endpoints = self.endpoints(provider).await?;
        let exchanged = match &tokens.refresh_token {
            Some(refresh_token) => {
                let client = exchange::client(&self.live.keyring, provider, &endpoints, None)?;
                let refresh_token = RefreshToken::new(refresh_token.reveal().clone());
                let request = client.exchange_refresh_token(&refresh_token);
                exchange::refresh(&self.outbound, request, self.live.now()).await?
            }
            // That a token is over says nothing of its person, and no other is there.
            None if tokens.ends_at.is_some_and(|ends_at| ends_at <= self.live.now().seconds()) => {
                return Err(UpstreamError::Misconfigured("no_refresh_token").into());
            }
            None => Exchanged::again(tokens),
        };
        let learned = match &provider.settings {
            Settings::OpenId(openid) => {
                let claims = match &exchanged.id_token {
                    Some(raw) => self.id_token(openid, &endpoints, raw, (None, Some(&tokens.subject))).await?,
                    // Userinfo must then say who it is, and says the same or does not count.
                    None if endpoints.userinfo.is_some() => json!({"sub": tokens.subject}),
                    None => return Err(UpstreamError::Misconfigured("nothing_to_ask").into()),
                };
                let asked = exchanged.id_token.is_none();
                self.completed(provider, &endpoints, claims, (&exchanged.access_token, asked)).await?
            }
            Settings::OAuth2(oauth2) => self.profile(oauth2, &exchanged.access_token).await?,
            Settings::Demo(_) => return Ok(demo(provider)),
        };
        if learned.subject != tokens.subject {
            return Err(UpstreamError::Untrusted("other_subject").into());
        }
        Ok(claims::person(provider, learned, exchanged, Some(tokens)))
    }

    /// Reads a logout token (OpenID Connect Back-Channel Logout 1.0 §2.6). That it was not used before is the caller's to see.
    ///
    /// # Errors
    ///
    /// It is no good one of this provider for us, or the provider's keys cannot be had.
    pub async fn logged_out(&self, provider: &Provider, logout_token: &str) -> Result<LoggedOut, UpstreamError> {
        let Settings::OpenId(openid) = &provider.settings else {
            return Err(UpstreamError::Untrusted("not_openid"));
        };
        let endpoints = self.endpoints(provider).await?;
        let token = signed::Token::read(logout_token).map_err(UpstreamError::Untrusted)?;
        let claims = self.with_keys(&endpoints, |keys| token.verify(keys)).await?;
        logout::read(&token, &claims, openid, self.live.now()).map_err(UpstreamError::Untrusted)
    }

    /// Reads an identity assertion (ID-JAG) of this provider. That it was not used before, and whose client shows it, is the
    /// caller's to see.
    ///
    /// # Errors
    ///
    /// It is no good one of this provider for us, or the provider's keys cannot be had.
    pub async fn asserted(&self, provider: &Provider, token: &SignedToken<'_>) -> Result<IdJag, UpstreamError> {
        let Settings::OpenId(openid) = &provider.settings else {
            return Err(UpstreamError::Untrusted("not_openid"));
        };
        let endpoints = self.endpoints(provider).await?;
        let claims = self.with_keys(&endpoints, |keys| token.verify(keys)).await?;
        IdJag::read(provider, openid, &claims, (&self.live.issuer, self.live.now())).map_err(UpstreamError::Untrusted)
    }

    /// A person who declined is no error of the provider's.
    fn counted<T>(&self, provider: &Provider, found: Result<T, UpstreamError>) -> Result<T, UpstreamError> {
        if let Err(error) = &found
            && !matches!(error, UpstreamError::Denied(_))
        {
            self.errors.count(&provider.name);
            tracing::warn!(provider = %provider.id, %error, "somebody could not sign in with an identity provider");
        }
        found
    }

    fn usable(&self, provider: &Provider) -> Result<(), UpstreamError> {
        if self.offers(provider) { Ok(()) } else { Err(UpstreamError::Misconfigured("provider_disabled")) }
    }

    async fn endpoints(&self, provider: &Provider) -> Result<Endpoints, UpstreamError> {
        match &provider.settings {
            Settings::OpenId(openid) => {
                let url = discovery_of(&openid.issuer)?;
                let found = self.configurations.get(&url, moment(self.live.now())).await?;
                found.endpoints(openid)
            }
            Settings::OAuth2(oauth2) => Endpoints::of(oauth2),
            Settings::Demo(_) => Err(UpstreamError::Misconfigured("demo")),
        }
    }

    /// The claims of an ID token that is good.
    async fn id_token(
        &self,
        openid: &OpenId,
        endpoints: &Endpoints,
        raw: &Secret<String>,
        (nonce, subject): (Option<&Secret<String>>, Option<&str>),
    ) -> Result<Value, UpstreamError> {
        let expected = Expected { openid, nonce, subject, now: self.live.now() };
        self.with_keys(endpoints, |keys| id_token::verify(raw.reveal(), keys, &expected)).await
    }

    /// Does it with the provider's keys.
    async fn with_keys<T>(
        &self,
        endpoints: &Endpoints,
        verify: impl Fn(&KeySet) -> Result<T, signed::Refusal>,
    ) -> Result<T, UpstreamError> {
        let url = endpoints.keys.as_ref().ok_or(UpstreamError::Misconfigured("no_keys"))?;
        self.key_sets.with(url, self.live.now(), verify).await
    }

    /// The claims of an ID token, with those of userinfo where it lacks some that are needed, or where there `must` be more.
    async fn completed(
        &self,
        provider: &Provider,
        endpoints: &Endpoints,
        mut claims: Value,
        (access_token, must): (&Secret<String>, bool),
    ) -> Result<Learned, Again> {
        let Settings::OpenId(openid) = &provider.settings else {
            return Err(UpstreamError::Misconfigured("not_openid").into());
        };
        if let Some(url) = endpoints.userinfo.as_ref().filter(|_| must || claims::lacks(provider, openid, &claims)) {
            let more = profile::ask(&self.outbound, url, access_token, profile::USERINFO_BYTES_MAX).await?;
            // OpenID Connect Core §5.3.2: what is about somebody else must not be used.
            if more.get("sub").and_then(Value::as_str) != claims.get("sub").and_then(Value::as_str) {
                return Err(UpstreamError::Untrusted("userinfo_subject").into());
            }
            claims::complete(&mut claims, more);
        }
        Ok(claims::of_openid(openid, claims)?)
    }

    async fn profile(&self, oauth2: &OAuth2, access_token: &Secret<String>) -> Result<Learned, Again> {
        let url = configuration::endpoint(&oauth2.userinfo_endpoint)?;
        let mut claims = profile::ask(&self.outbound, &url, access_token, profile::USERINFO_BYTES_MAX).await?;
        if let Some(groups) = &oauth2.groups_endpoint {
            let url = configuration::endpoint(groups)?;
            let listed = profile::ask(&self.outbound, &url, access_token, profile::GROUPS_BYTES_MAX).await?;
            let groups = claims::groups(&listed, &oauth2.group_fields)?;
            if let Some(members) = claims.as_object_mut() {
                members.insert("groups".to_owned(), groups);
            }
        }
        Ok(claims::of_oauth2(oauth2, claims)?)
    }
}

/// Why asking again gave no person.
enum Again {
    /// A definite no.
    No,
    /// Nothing was learned.
    Failed(UpstreamError),
}

impl From<UpstreamError> for Again {
    fn from(error: UpstreamError) -> Self {
        Self::Failed(error)
    }
}

impl From<NotExchanged> for Again {
    fn from(error: NotExchanged) -> Self {
        match error {
            NotExchanged::Grant => Self::No,
            NotExchanged::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<profile::NotTold> for Again {
    fn from(error: profile::NotTold) -> Self {
        match error {
            profile::NotTold::Unauthorized => Self::No,
            profile::NotTold::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<Again> for UpstreamError {
    fn from(again: Again) -> Self {
        match again {
            // A token that was given a moment ago.
            Again::No => Self::Misconfigured("token_refused"),
            Again::Failed(error) => error,
        }
    }
}
