//! From what a provider says of a person to the person, in our words and within our bounds.

use serde_json::Value;

use super::exchange::Exchanged;
use crate::providers::Provider;
use crate::providers::error::UpstreamError;
use crate::providers::person::{Person, UpstreamTokens};
use crate::providers::rules;
use crate::providers::settings::{OAuth2, OpenId};

/// Characters of a subject at most (OpenID Connect Core §2).
const SUBJECT_CHARS_MAX: usize = 255;
/// Characters of what is only shown.
const SHOWN_CHARS_MAX: usize = 200;
/// Groups of one person that are looked at.
const GROUPS_MAX: usize = 10_000;
/// The claim that people are called by unless the operator says another.
const USERNAME: &str = "preferred_username";

/// What was learned of a person.
pub(super) struct Learned {
    pub(super) subject: String,
    username: Option<String>,
    email: Option<String>,
    sid: Option<String>,
    claims: Value,
}

/// Whether claims are missing that a rule or the name needs.
pub(super) fn lacks(provider: &Provider, openid: &OpenId, claims: &Value) -> bool {
    let username = username_claim(openid);
    let mut needed = provider.rules.iter().map(|rule| rule.claim.as_str()).chain([username]);
    needed.any(|claim| rules::find(claims, claim).is_none())
}

/// Adds what userinfo says beyond the ID token, which is signed and stands above it.
pub(super) fn complete(claims: &mut Value, more: Value) {
    if let (Some(members), Value::Object(more)) = (claims.as_object_mut(), more) {
        for (name, value) in more {
            members.entry(name).or_insert(value);
        }
    }
}

pub(super) fn of_openid(openid: &OpenId, claims: Value) -> Result<Learned, UpstreamError> {
    let subject = claims.get("sub").and_then(Value::as_str).and_then(identifier);
    let unverified = claims.get("email_verified").is_some_and(|verified| !rules::is_true(Some(verified)));
    Ok(Learned {
        subject: subject.ok_or(UpstreamError::Untrusted("subject"))?,
        username: shown(&claims, username_claim(openid)),
        email: if unverified { None } else { shown(&claims, "email") },
        sid: claims.get("sid").and_then(Value::as_str).and_then(identifier),
        claims,
    })
}

pub(super) fn of_oauth2(oauth2: &OAuth2, claims: Value) -> Result<Learned, UpstreamError> {
    let subject = match rules::find(&claims, &oauth2.subject_field) {
        Some(Value::String(text)) => identifier(text),
        // Only whole numbers: two that are not may look the same.
        Some(Value::Number(number)) if !number.is_f64() => identifier(&number.to_string()),
        _ => None,
    };
    Ok(Learned {
        subject: subject.ok_or(UpstreamError::Untrusted("subject"))?,
        username: shown(&claims, &oauth2.username_field),
        email: shown(&claims, &oauth2.email_field),
        sid: None,
        claims,
    })
}

/// The claim that the people of a provider are called by.
pub(in crate::providers) fn username_claim(openid: &OpenId) -> &str {
    openid.username_claim.as_deref().unwrap_or(USERNAME)
}

/// The name of a person or of a session.
pub(in crate::providers) fn identifier(text: &str) -> Option<String> {
    let fits = (1..=SUBJECT_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// Something to show: a text without control characters, of a bounded length.
pub(in crate::providers) fn shown(claims: &Value, path: &str) -> Option<String> {
    let text = rules::find(claims, path)?.as_str()?.trim();
    let fits = (1..=SHOWN_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// The names of listed groups.
pub(super) fn groups(listed: &Value, fields: &[String]) -> Result<Value, UpstreamError> {
    let items = listed.as_array().ok_or(UpstreamError::Untrusted("groups_invalid"))?;
    let name = |item: &Value| {
        let parts: Option<Vec<&str>> = fields.iter().map(|field| rules::find(item, field)?.as_str()).collect();
        // A name with the joint in it could be mistaken for two.
        let parts = parts.filter(|parts| parts.len() == 1 || !parts.iter().any(|part| part.contains('/')))?;
        Some(Value::String(parts.join("/")))
    };
    Ok(items.iter().take(GROUPS_MAX).filter_map(name).collect())
}

/// The person, with the tokens to ask again with. What was not told anew stays as it was.
pub(super) fn person(
    provider: &Provider,
    learned: Learned,
    exchanged: Exchanged,
    before: Option<&UpstreamTokens>,
) -> Person {
    let Learned { subject, username, email, sid, claims } = learned;
    let sid = sid.or_else(|| before.and_then(|before| before.sid.clone()));
    let refresh_token = exchanged.refresh_token.or_else(|| before.and_then(|before| before.refresh_token.clone()));
    let roles = rules::roles(&provider.rules, &claims);
    let tokens = UpstreamTokens {
        subject: subject.clone(),
        access_token: exchanged.access_token,
        ends_at: exchanged.ends_at,
        refresh_token,
        sid: sid.clone(),
    };
    Person { subject, username, email, roles, sid, tokens: Some(tokens) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn groups_are_named_by_their_fields() {
        let listed = json!([
            {"slug": "admins", "organization": {"login": "acme"}},
            {"slug": "a/b", "organization": {"login": "acme"}},
            {"slug": "x"}, {"slug": 7, "organization": {"login": "acme"}}, "text",
        ]);
        let both = ["organization.login".to_owned(), "slug".to_owned()];
        assert_eq!(groups(&listed, &both).unwrap(), json!(["acme/admins"]));
        assert_eq!(groups(&listed, &["slug".to_owned()]).unwrap(), json!(["admins", "a/b", "x"]));
        assert!(groups(&json!({"message": "no"}), &both).is_err());
    }

    #[test]
    fn a_subject_is_a_text_or_a_whole_number() {
        let oauth2: OAuth2 = serde_json::from_value(json!({"authorization_endpoint": "", "token_endpoint": "",
            "userinfo_endpoint": "", "client_id": ""}))
        .unwrap();
        let of = |id: Value| of_oauth2(&oauth2, json!({"id": id})).map(|learned| learned.subject).ok();
        assert_eq!(of(json!(583_231)).as_deref(), Some("583231"));
        assert_eq!(of(json!(u64::MAX)).as_deref(), Some("18446744073709551615"));
        assert_eq!(of(json!("583231")).as_deref(), Some("583231"));
        for wrong in [
            json!(1.5),
            json!(1e30),
            json!(null),
            json!(true),
            json!(""),
            json!([1]),
            json!("a\nb"),
            json!("a".repeat(256)),
        ] {
            assert_eq!(of(wrong.clone()), None, "{wrong}");
        }
    }

    #[test]
    fn userinfo_adds_and_never_replaces() {
        let mut claims = json!({"sub": "a", "groups": ["x"]});
        complete(&mut claims, json!({"sub": "b", "groups": ["y"], "email": "e"}));
        assert_eq!(claims, json!({"sub": "a", "groups": ["x"], "email": "e"}));
    }

    #[test]
    fn an_address_that_is_said_to_be_unchecked_is_not_shown() {
        let openid: OpenId = serde_json::from_value(json!({"issuer": "", "client_id": ""})).unwrap();
        let of = |claims: Value| of_openid(&openid, claims).unwrap().email;
        assert_eq!(of(json!({"sub": "a", "email": "e@example.com"})).as_deref(), Some("e@example.com"));
        assert_eq!(of(json!({"sub": "a", "email": "e@example.com", "email_verified": false})), None);
        assert_eq!(
            of(json!({"sub": "a", "email": "e@example.com", "email_verified": "true"})).as_deref(),
            Some("e@example.com")
        );
    }
}
