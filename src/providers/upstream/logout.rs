//! Logout tokens (OpenID Connect Back-Channel Logout 1.0 §2.4 and §2.6).

use std::time::Duration;

use serde_json::Value;

use super::SKEW_SECONDS_MAX;
use super::signed::Token;
use crate::providers::person::LoggedOut;
use crate::providers::settings::OpenId;
use crate::types::clock::Timestamp;

/// A logout token that is older says nothing any more, whatever its own end is.
pub const LOGOUT_AGE_MAX: Duration = Duration::from_mins(5);

/// The member of `events` that makes a token a logout token.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Bytes of a `jti` or `sid` at most.
const ID_BYTES_MAX: usize = 255;

/// What a token whose signature is good says.
pub(super) fn read(
    token: &Token<'_>,
    claims: &Value,
    openid: &OpenId,
    now: Timestamp,
) -> Result<LoggedOut, &'static str> {
    // Providers from before the type was registered call it a JWT, or nothing.
    if !matches!(token.typ().as_deref(), None | Some("jwt" | "logout+jwt")) {
        return Err("logout_type");
    }
    if claims.get("iss").and_then(Value::as_str) != Some(&openid.issuer) {
        return Err("logout_issuer");
    }
    let is_us = |audience: &Value| audience.as_str() == Some(&openid.client_id);
    let for_us =
        claims.get("aud").is_some_and(|aud| is_us(aud) || aud.as_array().is_some_and(|all| all.iter().any(is_us)));
    if !for_us {
        return Err("logout_audience");
    }
    let ends_at = ends_at(claims, now.seconds()).ok_or("logout_time")?;
    // An ID token, which others see, must never be taken for one.
    if claims.get("nonce").is_some() {
        return Err("logout_nonce");
    }
    if !claims.get("events").and_then(|events| events.get(EVENT)).is_some_and(Value::is_object) {
        return Err("logout_event");
    }
    let text = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if (1..=ID_BYTES_MAX).contains(&text.len()) => Ok(Some(text.clone())),
        Some(_) => Err("logout_subject"),
    };
    let (subject, sid) = (text("sub")?, text("sid")?);
    if subject.is_none() && sid.is_none() {
        return Err("logout_subject");
    }
    let jti = text("jti").ok().flatten().ok_or("logout_id")?;
    Ok(LoggedOut { subject, sid, jti, ends_at: Timestamp::from_seconds(ends_at) })
}

/// Until when it may be shown. It was issued a moment ago, whatever it says of its end.
fn ends_at(claims: &Value, now: i64) -> Option<i64> {
    let age_max = i64::try_from(LOGOUT_AGE_MAX.as_secs()).ok()?;
    let issued = seconds(claims.get("iat")?)?;
    let expired = match claims.get("exp") {
        None => false,
        Some(exp) => seconds(exp)? <= now,
    };
    let fresh = issued > now.checked_sub(age_max)? && issued <= now.checked_add(SKEW_SECONDS_MAX)?;
    (fresh && !expired).then(|| issued.saturating_add(age_max))
}

/// A `NumericDate` (RFC 7519 §2); some have fractions.
fn seconds(date: &Value) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "out of bounds it becomes the bound, which is no time near now"
    )]
    date.as_i64().or_else(|| date.as_f64().map(|date| date as i64))
}
