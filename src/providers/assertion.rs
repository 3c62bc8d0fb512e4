//! Assertions that are grants (RFC 7523 §3): what each must say whoever signed it, and what an identity assertion says of a
//! person (ID-JAG, draft-ietf-oauth-identity-assertion-authz-grant).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::providers::Provider;
use crate::providers::rules;
use crate::providers::settings::OpenId;
use crate::providers::upstream::{identifier, shown, username_claim};
use crate::types::clock::Timestamp;
use crate::types::id::RoleId;

/// How long an assertion may be good, from when it was issued. Each is used once, and is known for as long.
const LIFE_MAX: Duration = Duration::from_hours(1);
/// How far the signer's clock may be ahead of ours. Nothing that ends is honoured longer for it.
const CLOCK_AHEAD_MAX: Duration = Duration::from_mins(1);
/// Bytes of a `jti` at most.
const JTI_BYTES_MAX: usize = 512;
/// Bytes of a client's name, a resource or a scope at most.
const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Resources that an assertion may name.
const RESOURCES_MAX: usize = 50;

/// Claims that would say for whom or for what an assertion is in ways that are not understood here. To pass over one of them
/// could give more than was meant.
const NOT_UNDERSTOOD: [&str; 3] = ["tenant", "aud_tenant", "authorization_details"];

/// For whom an assertion must be, and when it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Names of ours; one of them is its one audience.
    pub audiences: &'a [&'a str],
    /// The database's clock.
    pub now: Timestamp,
}

/// What every assertion says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asserted {
    /// About whom.
    pub subject: String,
    /// Its own name: it is good once.
    pub jti: String,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it is no good any more anyway.
    pub ends_at: Timestamp,
}

impl Asserted {
    /// Reads the claims of an assertion whose signature is good, and whose issuer is the one whose key made it.
    ///
    /// # Errors
    ///
    /// What is missing or wrong, in one stable word.
    pub fn read(claims: &Value, issuer: &str, terms: Terms<'_>) -> Result<Self, &'static str> {
        if claims.get("iss").and_then(Value::as_str) != Some(issuer) {
            return Err("assertion_issuer");
        }
        let subject = claims.get("sub").and_then(Value::as_str).and_then(identifier).ok_or("assertion_subject")?;
        // A list of several could be carried from one of them to the other (RFC 7523 §3, CVE-2025-27371).
        let audience = match claims.get("aud") {
            Some(Value::Array(all)) if all.len() == 1 => all.first(),
            audience => audience,
        };
        if !audience.and_then(Value::as_str).is_some_and(|audience| terms.audiences.contains(&audience)) {
            return Err("assertion_audience");
        }
        let date = |name: &str| claims.get(name).map(|date| seconds(date).ok_or("assertion_malformed")).transpose();
        let missing = "assertion_malformed";
        let (issued_at, ends_at) = (date("iat")?.ok_or(missing)?, date("exp")?.ok_or(missing)?);
        if terms.now >= ends_at {
            return Err("assertion_expired");
        }
        let latest = terms.now.plus(CLOCK_AHEAD_MAX);
        if issued_at > latest || date("nbf")?.is_some_and(|from| from > latest) {
            return Err("assertion_not_yet");
        }
        if ends_at > issued_at.plus(LIFE_MAX) {
            return Err("assertion_too_long");
        }
        let jti = claims.get("jti").and_then(Value::as_str).filter(is_name);
        Ok(Self { subject, jti: jti.ok_or("assertion_id")?.to_owned(), issued_at, ends_at })
    }
}

/// Whether a text can be an assertion's name, and be written down.
fn is_name(text: &&str) -> bool {
    (1..=JTI_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A `NumericDate` (RFC 7519 §2) that can be one; some have fractions.
fn seconds(date: &Value) -> Option<Timestamp> {
    Some(Timestamp::from_seconds(0).plus(Duration::try_from_secs_f64(date.as_f64()?).ok()?))
}

/// Somebody whom a provider vouches for without a sign-in.
#[derive(Clone, Debug)]
pub struct Vouched {
    /// The provider's name for the person.
    pub subject: String,
    /// What people call it, if that is said.
    pub username: Option<String>,
    /// For display, if it is said.
    pub email: Option<String>,
    /// The roles that the assertion's own claims give.
    pub roles: BTreeSet<RoleId>,
    /// Roles of which the assertion does not say whether the person has them: what the provider said last counts on.
    pub untold: BTreeSet<RoleId>,
}

/// A good identity assertion.
#[derive(Clone, Debug)]
pub struct IdJag {
    /// What every assertion says.
    pub asserted: Asserted,
    /// Which client it was made for.
    pub client_id: String,
    /// For which resources; none named: whichever the client asks for.
    pub resources: Vec<String>,
    /// With which scope at most; `None`: no bound of its own.
    pub scope: Option<String>,
    /// The thumbprint of the key whose possession its sender must prove (RFC 9449 §6.1); empty when it is bound to something else,
    /// which nothing proves here. `None`: to nothing.
    pub bound: Option<String>,
    /// About whom.
    pub person: Vouched,
}

impl IdJag {
    /// The type in its header, in small letters and without `application/`.
    pub const TYPE: &str = "oauth-id-jag+jwt";

    pub(super) fn read(
        provider: &Provider,
        openid: &OpenId,
        claims: &Value,
        (issuer, now): (&str, Timestamp),
    ) -> Result<Self, &'static str> {
        let asserted = Asserted::read(claims, &openid.issuer, Terms { audiences: &[issuer], now })?;
        if NOT_UNDERSTOOD.iter().any(|name| claims.get(name).is_some()) {
            return Err("assertion_not_understood");
        }
        let text = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX => Ok(Some(text.clone())),
            Some(_) => Err("assertion_malformed"),
        };
        let client_id = text("client_id")?.ok_or("assertion_client")?;
        let scope = text("scope")?;
        let resources = resources(claims.get("resource")).ok_or("assertion_malformed")?;
        let bound = claims.get("cnf").map(|cnf| {
            let only = cnf.as_object().filter(|members| members.len() == 1);
            only.and_then(|members| members.get("jkt")?.as_str()).unwrap_or_default().to_owned()
        });
        let person = vouched(provider, openid, claims, &asserted.subject);
        Ok(Self { asserted, client_id, resources, scope, bound, person })
    }
}

/// One, or a list of them.
fn resources(claim: Option<&Value>) -> Option<Vec<String>> {
    let fits = |text: &str| (1..=TEXT_BYTES_MAX).contains(&text.len());
    match claim {
        None => Some(Vec::new()),
        Some(Value::String(one)) => fits(one).then(|| vec![one.clone()]),
        Some(Value::Array(all)) if (1..=RESOURCES_MAX).contains(&all.len()) => {
            all.iter().map(|one| one.as_str().filter(|one| fits(one)).map(str::to_owned)).collect()
        }
        Some(_) => None,
    }
}

/// A rule decides only where its claim is there: an assertion is not bound to say what an ID token says.
fn vouched(provider: &Provider, openid: &OpenId, claims: &Value, subject: &str) -> Vouched {
    let untold = provider.rules.iter().filter(|rule| !rule.is_told(claims)).map(|rule| rule.role_id).collect();
    let unverified = claims.get("email_verified").is_some_and(|verified| !rules::is_true(Some(verified)));
    Vouched {
        subject: subject.to_owned(),
        username: shown(claims, username_claim(openid)),
        email: if unverified { None } else { shown(claims, "email") },
        roles: rules::roles(&provider.rules, claims),
        untold,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::providers::{ProviderKind, Rule, Settings};
    use crate::types::id::ProviderId;

    const US: &str = "https://authority.example/oauth";

    fn right() -> Value {
        json!({"iss": "https://a.example", "sub": "u1", "aud": US, "client_id": "c", "jti": "j", "iat": 1_000, "exp": 1_300})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = right();
        claims[name] = value;
        claims
    }

    fn provider(rules: &[(&str, Option<&str>, RoleId)]) -> Provider {
        let settings = json!({"issuer": "https://a.example", "client_id": "us"});
        let rule = |(claim, value, role_id): &(&str, Option<&str>, RoleId)| Rule {
            claim: (*claim).to_owned(),
            value: value.map(str::to_owned),
            role_id: *role_id,
        };
        Provider {
            id: ProviderId::random(),
            name: "p".to_owned(),
            title: "P".to_owned(),
            kind: ProviderKind::OpenId,
            enterprise_managed: true,
            disabled: false,
            settings: Settings::read(ProviderKind::OpenId, settings).unwrap(),
            rules: rules.iter().map(rule).collect(),
            client_secret: None,
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn read(provider: &Provider, claims: &Value) -> Result<IdJag, &'static str> {
        let Settings::OpenId(openid) = &provider.settings else { panic!() };
        IdJag::read(provider, openid, claims, (US, Timestamp::from_seconds(1_100)))
    }

    #[test]
    fn attack_13_an_assertion_without_one_of_its_claims_or_with_a_wrong_one_is_none() {
        let provider = provider(&[]);
        assert!(read(&provider, &right()).is_ok());
        for (name, value, word) in [
            ("iss", json!("https://a.example/"), "assertion_issuer"),
            ("sub", json!(""), "assertion_subject"),
            ("sub", json!(7), "assertion_subject"),
            ("sub", json!("x".repeat(256)), "assertion_subject"),
            ("aud", json!("https://b.example"), "assertion_audience"),
            ("aud", json!([]), "assertion_audience"),
            ("aud", json!([US, US]), "assertion_audience"),
            ("aud", json!([[US]]), "assertion_audience"),
            ("aud", json!(format!("{US}/")), "assertion_audience"),
            ("aud", json!(format!("{US}/token")), "assertion_audience"),
            ("client_id", json!(["c"]), "assertion_malformed"),
            ("jti", json!(""), "assertion_id"),
            ("jti", json!("j".repeat(513)), "assertion_id"),
            ("jti", json!("j\u{0}"), "assertion_id"),
            ("iat", json!("now"), "assertion_malformed"),
            ("iat", json!(1_161), "assertion_not_yet"),
            ("nbf", json!(1_161), "assertion_not_yet"),
            ("exp", json!(1_100), "assertion_expired"),
            ("exp", json!(-1), "assertion_malformed"),
            ("exp", json!(1e300), "assertion_malformed"),
            ("exp", json!(4_601), "assertion_too_long"),
            ("resource", json!(7), "assertion_malformed"),
            ("resource", json!([]), "assertion_malformed"),
            ("resource", json!(["a", 7]), "assertion_malformed"),
            ("scope", json!(["a"]), "assertion_malformed"),
            ("tenant", json!("t"), "assertion_not_understood"),
            ("aud_tenant", json!("t"), "assertion_not_understood"),
            ("authorization_details", json!([]), "assertion_not_understood"),
        ] {
            let claims = with(name, value);
            assert_eq!(read(&provider, &claims).map(|_| ()), Err(word), "{claims}");
        }
        for name in ["iss", "sub", "aud", "client_id", "jti", "iat", "exp"] {
            let mut claims = right();
            claims.as_object_mut().unwrap().remove(name);
            assert!(read(&provider, &claims).is_err(), "{name}");
        }
        for (name, value) in [
            ("aud", json!([US])),
            ("iat", json!(1_160)),
            ("exp", json!(1_300.5)),
            ("exp", json!(4_600)),
            ("act", json!({"sub": "agent"})),
        ] {
            let claims = with(name, value);
            assert!(read(&provider, &claims).is_ok(), "{claims}");
        }
    }

    #[test]
    fn a_rule_decides_only_where_the_assertion_says_what_it_looks_at() {
        let [every, staff, mail] = [RoleId::random(), RoleId::random(), RoleId::random()];
        let provider = provider(&[
            ("sub", None, every),
            ("groups", Some("staff"), staff),
            ("groups", Some("admins"), every),
            ("email", Some("a@example.com"), mail),
        ]);
        let of = |claims: &Value| {
            let person = read(&provider, claims).unwrap().person;
            (person.roles, person.untold)
        };
        assert_eq!(of(&right()), ([every].into(), [every, staff, mail].into()));
        let groups = with("groups", json!(["other"]));
        assert_eq!(of(&groups), ([every].into(), [mail].into()), "groups were told, and staff is none of them");
        assert_eq!(of(&with("groups", json!(["staff"]))).0, [every, staff].into());
        let mut mailed = with("email", json!("a@example.com"));
        assert_eq!(of(&mailed).1, [every, staff, mail].into(), "an address says nothing until it was checked");
        mailed["email_verified"] = json!(true);
        assert_eq!(of(&mailed), ([every, mail].into(), [every, staff].into()));
    }
}
