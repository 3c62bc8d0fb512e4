//! Clients that show who they are by an assertion signed with their own key (RFC 7523 §2.2 and §3).

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::application::{Application, Clients};
use super::metadata::{AuthMethod, Keys};
use super::store;
use crate::db::{self, Db};
use crate::gate::algorithm;
use crate::outbound::Failure;
use crate::settings;
use crate::types::alg::Alg;
use crate::types::clock::{BootInstant, Timestamp};

/// The one value of `client_assertion_type`.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Bytes of an assertion at most.
pub(super) const ASSERTION_BYTES_MAX: usize = 8 * 1024;
/// How far ahead an assertion may expire. SDKs make them good for five minutes by the clock of their own machine.
pub(super) const ASSERTION_AHEAD_MAX: Duration = Duration::from_mins(10);
/// How far a client's clock may be ahead of ours: `iat` and `nbf` may lie in the future by so much.
pub(super) const CLOCK_AHEAD_MAX: Duration = Duration::from_mins(1);
/// Bytes of a `jti` at most.
pub(super) const JTI_BYTES_MAX: usize = 512;

/// Header types that an assertion may name; most name `JWT` or none. Another is a token for something else (RFC 8725 §3.11).
const TYPES: [&str; 2] = ["jwt", "client-authentication+jwt"];

/// Why an assertion proves nothing. The caller never learns which; it is recorded.
#[derive(Debug, thiserror::Error)]
pub enum Unproved {
    /// No JWS in compact form with the claims that are needed.
    #[error("no assertion that can be read")]
    Malformed,
    /// An algorithm that is not the key's, not the registered one, or none that proves anything.
    #[error("signed with another algorithm")]
    Algorithm,
    /// `iss` and `sub` are not both the client.
    #[error("it speaks for another client")]
    Subject,
    /// Made for somebody else, or for several.
    #[error("made for another audience")]
    Audience,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// It would be good for too long.
    #[error("good for too long")]
    TooLong,
    /// Its time has not come.
    #[error("not good yet")]
    NotYet,
    /// The client registered another way, or no keys.
    #[error("the client authenticates otherwise")]
    Method,
    /// The client's keys cannot be had.
    #[error("the client's keys cannot be had: {0}")]
    Keys(Failure<&'static str>),
    /// No key of the client's fits.
    #[error("signed with a key that the client does not show")]
    UnknownKey,
    /// The signature is not the key's over this text.
    #[error("the signature is wrong")]
    Signature,
    /// It was used before.
    #[error("used before")]
    Replayed,
    /// The database cannot answer.
    #[error(transparent)]
    Database(#[from] db::Error),
}

impl Unproved {
    /// A stable name, for the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "assertion_malformed",
            Self::Algorithm => "assertion_algorithm",
            Self::Subject => "assertion_subject",
            Self::Audience => "assertion_audience",
            Self::Expired => "assertion_expired",
            Self::TooLong => "assertion_too_long",
            Self::NotYet => "assertion_not_yet",
            Self::Method => "wrong_method",
            Self::Keys(_) => "client_keys",
            Self::UnknownKey => "assertion_key",
            Self::Signature => "assertion_signature",
            Self::Replayed => "assertion_replayed",
            Self::Database(_) => "database",
        }
    }
}

/// Where an assertion is shown, and when.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Our issuer: what `aud` must be.
    pub issuer: &'a str,
    /// The token endpoint, which `aud` may be instead if the settings say so.
    pub token_endpoint: &'a str,
    /// The database's clock.
    pub now: Timestamp,
    /// The clock that documents are kept by.
    pub instant: BootInstant,
}

/// An assertion that was read, and proves nothing yet.
pub struct Assertion<'a> {
    signed: &'a str,
    signature: &'a str,
    alg: Result<Alg, Unproved>,
    kid: Option<String>,
    claims: Claims,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Value,
    exp: f64,
    jti: String,
    iat: Option<f64>,
    nbf: Option<f64>,
}

impl<'a> Assertion<'a> {
    /// Reads one. `None`: it is none.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.').filter(|_| text.len() <= ASSERTION_BYTES_MAX)?;
        let (header, claims) = signed.split_once('.')?;
        let (header, claims): (Header, Claims) = (part(header)?, part(claims)?);
        let typed = header.typ.as_ref().is_none_or(|typ| TYPES.contains(&typ.to_ascii_lowercase().as_str()));
        // Extensions that change what a JWS means must not be passed over (RFC 7515 §4.1.11), and we know none.
        if !typed || header.crit.is_some() || claims.jti.is_empty() || claims.jti.len() > JTI_BYTES_MAX {
            return None;
        }
        let alg = Alg::parse(&header.alg).ok_or(Unproved::Algorithm);
        Some(Self { signed, signature, alg, kid: header.kid, claims })
    }

    /// The client that it says it comes from.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.claims.sub
    }

    /// All but the signature. The algorithm, if it is right.
    fn check(&self, application: &Application, shown: &Shown<'_>) -> Result<Alg, Unproved> {
        let Self { claims, .. } = self;
        if claims.sub != application.client_id || claims.iss != claims.sub {
            return Err(Unproved::Subject);
        }
        let metadata = &application.metadata;
        if metadata.auth_method != AuthMethod::PrivateKeyJwt {
            return Err(Unproved::Method);
        }
        let alg = *self.alg.as_ref().map_err(|_| Unproved::Algorithm)?;
        if metadata.auth_signing_alg.is_some_and(|registered| registered != alg) {
            return Err(Unproved::Algorithm);
        }
        let ends = date(claims.exp).ok_or(Unproved::Malformed)?;
        if shown.now >= ends {
            return Err(Unproved::Expired);
        }
        if ends > shown.now.plus(ASSERTION_AHEAD_MAX) {
            return Err(Unproved::TooLong);
        }
        for from in [claims.iat, claims.nbf].into_iter().flatten() {
            if date(from).ok_or(Unproved::Malformed)? > shown.now.plus(CLOCK_AHEAD_MAX) {
                return Err(Unproved::NotYet);
            }
        }
        Ok(alg)
    }

    fn is_signed_with(&self, key: &DecodingKey, alg: Alg) -> bool {
        jsonwebtoken::crypto::verify(self.signature, self.signed.as_bytes(), key, algorithm(alg)).unwrap_or(false)
    }
}

fn part<T: DeserializeOwned>(encoded: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

/// A `NumericDate` (RFC 7519 §2) that can be one.
fn date(seconds: f64) -> Option<Timestamp> {
    Some(Timestamp::from_seconds(0).plus(Duration::try_from_secs_f64(seconds).ok()?))
}

impl Clients {
    /// Whether an assertion proves that its sender is this client, here, for the first time. When it does, it is used up,
    /// on every node.
    ///
    /// # Errors
    ///
    /// Why not.
    pub async fn prove(
        &self,
        db: &Db,
        application: &Application,
        assertion: &Assertion<'_>,
        shown: &Shown<'_>,
    ) -> Result<(), Unproved> {
        let alg = assertion.check(application, shown)?;
        check_audience(db, &assertion.claims.aud, shown).await?;
        self.check_signature(application, assertion, alg, shown.instant).await?;
        // Only now: whoever cannot sign uses up nobody's.
        let ends = date(assertion.claims.exp).ok_or(Unproved::Malformed)?;
        let jti = digest(&SHA256, assertion.claims.jti.as_bytes());
        let mut tx = db.begin().await?;
        let first = store::use_assertion(&mut tx, &application.client_id, jti.as_ref(), ends.to_utc()).await?;
        db::commit(tx).await?;
        if first { Ok(()) } else { Err(Unproved::Replayed) }
    }

    async fn check_signature(
        &self,
        application: &Application,
        assertion: &Assertion<'_>,
        alg: Alg,
        now: BootInstant,
    ) -> Result<(), Unproved> {
        let kid = assertion.kid.as_deref();
        let url = match application.metadata.keys.as_ref().ok_or(Unproved::Method)? {
            Keys::At(url) => url,
            Keys::Inline(set) => {
                let set = serde_json::from_str(set).ok().and_then(|set| super::keys::KeySet::read(&set).ok());
                return is_signed(set.ok_or(Unproved::UnknownKey)?.fitting(kid, alg), assertion, alg);
            }
        };
        let set = self.keys.get(url, now).await.map_err(Unproved::Keys)?;
        match is_signed(set.fitting(kid, alg), assertion, alg) {
            // A key that was made since: its owner shows it by now.
            Err(Unproved::UnknownKey) => {
                let set = self.keys.renew(url, now).await.map_err(Unproved::Keys)?;
                is_signed(set.fitting(kid, alg), assertion, alg)
            }
            known => known,
        }
    }
}

/// The audience must be our issuer, and nobody else: an assertion that is good in two places can be carried from one to the
/// other by whoever got it first. The token endpoint's address is taken only where the settings say so.
async fn check_audience(db: &Db, audience: &Value, shown: &Shown<'_>) -> Result<(), Unproved> {
    match audience.as_str().ok_or(Unproved::Audience)? {
        issuer if issuer == shown.issuer => Ok(()),
        endpoint if endpoint == shown.token_endpoint => {
            let mut connection = db.reads().acquire().await.map_err(db::Error::from)?;
            let allowed = settings::get(&mut connection).await?.assertion_audience_token_endpoint;
            if allowed { Ok(()) } else { Err(Unproved::Audience) }
        }
        _ => Err(Unproved::Audience),
    }
}

fn is_signed<'a>(
    keys: impl Iterator<Item = &'a DecodingKey>,
    assertion: &Assertion<'_>,
    alg: Alg,
) -> Result<(), Unproved> {
    let mut keys = keys.peekable();
    if keys.peek().is_none() {
        return Err(Unproved::UnknownKey);
    }
    if keys.any(|key| assertion.is_signed_with(key, alg)) { Ok(()) } else { Err(Unproved::Signature) }
}
