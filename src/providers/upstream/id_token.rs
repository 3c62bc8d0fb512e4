//! ID tokens (OpenID Connect Core §3.1.3.7), verified by the `openidconnect` crate, and by us where it leaves a choice.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use openidconnect::core::CoreIdToken;
use openidconnect::{ClaimsVerificationError, ClientId, IdTokenVerifier, IssuerUrl, Nonce, SignatureVerificationError};
use serde_json::Value;

use super::SKEW_SECONDS_MAX;
use super::signed::{self, ALGORITHMS, KeySet, Refusal, Token};
use crate::providers::settings::OpenId;
use crate::types::clock::Timestamp;
use crate::types::redacted::Secret;

/// What an ID token must be.
pub(super) struct Expected<'a> {
    /// By whom and for whom.
    pub(super) openid: &'a OpenId,
    /// In a sign-in: the answer to this question. A renewal has none (§12.2).
    pub(super) nonce: Option<&'a Secret<String>>,
    /// In a renewal: about this person.
    pub(super) subject: Option<&'a str>,
    /// The time.
    pub(super) now: Timestamp,
}

/// The claims of a good ID token.
pub(super) fn verify(raw: &str, keys: &KeySet, expected: &Expected<'_>) -> Result<Value, Refusal> {
    const MALFORMED: Refusal = Refusal::Invalid("id_token_malformed");
    // Sizes and algorithms, before a library looks at it.
    Token::read(raw).map_err(Refusal::Invalid)?;
    // It reads `iss`, `aud`, `sub`, `exp` and `iat` as things that must be there.
    let token = CoreIdToken::from_str(raw).map_err(|_| MALFORMED)?;
    let issuer = IssuerUrl::new(expected.openid.issuer.clone()).map_err(|_| MALFORMED)?;
    let now = DateTime::<Utc>::from_timestamp(expected.now.seconds(), 0).ok_or(MALFORMED)?;
    let latest = DateTime::<Utc>::from_timestamp(expected.now.seconds().saturating_add(SKEW_SECONDS_MAX), 0);
    let client = ClientId::new(expected.openid.client_id.clone());
    // The one for public clients: with a client secret at hand the other would take what that secret signed.
    let verifier = IdTokenVerifier::new_public_client(client, issuer, keys.0.clone())
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(move || now)
        .set_issue_time_verifier_fn(move |issued| match latest {
            Some(latest) if issued <= latest => Ok(()),
            _ => Err("from the future".to_owned()),
        });
    let nonce = expected.nonce.map(|nonce| Nonce::new(nonce.reveal().clone()));
    let found = match &nonce {
        Some(nonce) => token.claims(&verifier, nonce),
        None => token.claims(&verifier, |_: Option<&Nonce>| Ok(())),
    };
    found.map_err(|error| refusal(&error))?;
    let claims = raw.split('.').nth(1).and_then(signed::payload).ok_or(MALFORMED)?;
    // §3.1.3.7, 4 and 5: it was given to us, if it says to whom.
    let client = expected.openid.client_id.as_str();
    if claims.get("azp").is_some_and(|azp| azp.as_str() != Some(client)) {
        return Err(Refusal::Invalid("id_token_azp"));
    }
    if expected.subject.is_some_and(|subject| claims.get("sub").and_then(Value::as_str) != Some(subject)) {
        return Err(Refusal::Invalid("id_token_subject"));
    }
    Ok(claims)
}

/// One of our words for what the crate found. What it says of it may repeat the token.
fn refusal(error: &ClaimsVerificationError) -> Refusal {
    Refusal::Invalid(match error {
        ClaimsVerificationError::SignatureVerification(
            SignatureVerificationError::NoMatchingKey | SignatureVerificationError::AmbiguousKeyId(_),
        ) => return Refusal::UnknownKey,
        ClaimsVerificationError::SignatureVerification(_) => "id_token_signature",
        ClaimsVerificationError::Expired(_) => "id_token_time",
        ClaimsVerificationError::InvalidAudience(_) => "id_token_audience",
        ClaimsVerificationError::InvalidIssuer(_) => "id_token_issuer",
        ClaimsVerificationError::InvalidNonce(_) => "id_token_nonce",
        _ => "id_token_invalid",
    })
}
