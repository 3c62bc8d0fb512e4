//! How servers in Rust find out what a token is worth: by asking the authority, or by its signature alone.

use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use tokio::sync::Mutex;

// docs: claims
/// What is known of a good token. Introspection and the token itself use the same names.
#[derive(Clone, Deserialize)]
pub struct Claims {
    pub sub: String,
    pub client_id: String,
    pub scope: String,
}

/// The authority cannot be asked, or did not answer. That is never a yes.
#[derive(Debug, thiserror::Error)]
#[error("the authority cannot be asked: {0}")]
pub struct Unavailable(#[from] reqwest::Error);

pub enum Verifier {
    Introspection(Introspection),
    Signature(Signature),
}

impl Verifier {
    /// `None`: the token is not good here.
    pub async fn claims(&self, token: &str) -> Result<Option<Claims>, Unavailable> {
        match self {
            Self::Introspection(asking) => asking.claims(token).await,
            Self::Signature(checking) => checking.claims(token).await,
        }
    }
}

// docs: introspection
/// Asks the authority about each token (RFC 7662). Nothing is kept, so what is revoked is refused by the next request.
pub struct Introspection {
    pub http: reqwest::Client,
    pub issuer: String,
    pub client_id: String,
    pub client_secret: String,
}

impl Introspection {
    async fn claims(&self, token: &str) -> Result<Option<Claims>, Unavailable> {
        #[derive(Deserialize)]
        struct Answer {
            active: bool,
            #[serde(flatten)]
            claims: Option<Claims>,
        }
        let asked = self.http.post(format!("{}/introspect", self.issuer)).form(&[("token", token)]);
        let answer = asked.basic_auth(&self.client_id, Some(&self.client_secret)).send().await?;
        let said: Answer = answer.error_for_status()?.json().await?;
        Ok(said.claims.filter(|_| said.active))
    }
}

// docs: jwt
/// Checks the token's signature against the authority's keys. It cannot see that a token was revoked.
pub struct Signature {
    pub http: reqwest::Client,
    pub issuer: String,
    pub resource: String,
    pub algorithm: Algorithm,
    /// The authority's keys, and when they were fetched.
    pub keys: Mutex<Option<(JwkSet, Instant)>>,
}

impl Signature {
    /// A key that is not known is looked for at most so often, whatever tokens are shown.
    const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(30);

    async fn claims(&self, token: &str) -> Result<Option<Claims>, Unavailable> {
        let Ok(header) = jsonwebtoken::decode_header(token) else { return Ok(None) };
        let Some(key) = self.key(header.kid.as_deref().unwrap_or_default()).await? else { return Ok(None) };
        let mut wanted = Validation::new(self.algorithm);
        wanted.set_issuer(&[&self.issuer]);
        wanted.set_audience(&[&self.resource]);
        wanted.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        wanted.leeway = 0;
        Ok(jsonwebtoken::decode(token, &key, &wanted).ok().map(|token| token.claims))
    }

    async fn key(&self, kid: &str) -> Result<Option<DecodingKey>, Unavailable> {
        let mut keys = self.keys.lock().await;
        let known = |keys: &Option<(JwkSet, Instant)>| {
            let key = keys.as_ref()?.0.find(kid)?;
            DecodingKey::from_jwk(key).ok()
        };
        let is_stale = keys.as_ref().is_none_or(|(_, fetched)| fetched.elapsed() > Self::LOOK_AGAIN_AFTER);
        if known(&keys).is_none() && is_stale {
            let answer = self.http.get(format!("{}/jwks", self.issuer)).send().await?.error_for_status()?;
            *keys = Some((answer.json().await?, Instant::now()));
        }
        Ok(known(&keys))
    }
}
// docs: end
