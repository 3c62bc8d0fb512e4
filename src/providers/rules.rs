//! From a provider's claims to roles, by rules that operators write.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::refusal::Checks;
use crate::types::id::RoleId;
use crate::types::object;

/// Rules of one provider.
const RULES_MAX: usize = 200;
/// Bytes of a claim's name, or of a path of names.
const CLAIM_BYTES_MAX: usize = 200;
const VALUE_BYTES_MAX: usize = 500;
/// Values of one claim that are looked at: no provider makes us search without end.
const VALUES_READ_MAX: usize = 10_000;

/// Who has a claim with this value has this role.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = ProviderRule)]
pub struct Rule {
    /// The claim's name, or the names that lead to it with dots between them: `groups`, `realm_access.roles`.
    #[schema(min_length = 1, max_length = 200, example = "groups")]
    pub claim: String,
    /// The value, or one of the values if there are several. Left out: whatever it is, if only it is there; `sub` always is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 500, example = "engineering")]
    pub value: Option<String>,
    /// The role.
    #[schema(value_type = String, pattern = "^rol_[0-9a-f]{32}$")]
    pub role_id: RoleId,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    claim: String,
    value: Option<String>,
    role_id: RoleId,
}

impl<'de> serde::Deserialize<'de> for Rule {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Wire { claim, value, role_id } = object::only(from)?;
        Ok(Self { claim, value, role_id })
    }
}

impl Rule {
    /// Whether somebody with these claims has the role.
    fn holds(&self, claims: &Value) -> bool {
        // An address that the provider did not check is whatever the person typed.
        if self.claim == "email" && !is_true(claims.get("email_verified")) {
            return false;
        }
        let Some(found) = find(claims, &self.claim) else { return false };
        let mut values = texts(found);
        match &self.value {
            Some(wanted) => values.any(|value| value == wanted.as_str()),
            None => values.next().is_some(),
        }
    }
}

impl Rule {
    /// Whether the claims say anything of what the rule looks at. An ID token says all of it, an assertion may not.
    pub(super) fn is_told(&self, claims: &Value) -> bool {
        let checked = self.claim != "email" || claims.get("email_verified").is_some();
        checked && find(claims, &self.claim).is_some()
    }
}

/// Whether a claim of this name, or at the end of this path, holds a text that fits.
#[must_use]
pub fn says(claims: &Value, path: &str, fits: impl Fn(&str) -> bool) -> bool {
    find(claims, path).is_some_and(|claim| texts(claim).any(|text| fits(&text)))
}

/// The roles of somebody with these claims.
pub(super) fn roles(rules: &[Rule], claims: &Value) -> BTreeSet<RoleId> {
    rules.iter().filter(|rule| rule.holds(claims)).map(|rule| rule.role_id).collect()
}

/// The claim of this name; if there is none, what the path leads to. Names with dots in them (`https://example.com/groups`)
/// are names first.
pub(super) fn find<'a>(claims: &'a Value, path: &str) -> Option<&'a Value> {
    let found = claims.get(path).or_else(|| path.split('.').try_fold(claims, |inner, name| inner.get(name)));
    found.filter(|found| !found.is_null())
}

/// The texts that a claim holds: its own, or those of its elements. Objects hold none, and `false` is as good as nothing.
fn texts(claim: &Value) -> impl Iterator<Item = Cow<'_, str>> {
    let items = claim.as_array().map_or(std::slice::from_ref(claim), Vec::as_slice);
    items.iter().take(VALUES_READ_MAX).filter_map(|item| match item {
        Value::String(text) if !text.is_empty() => Some(Cow::Borrowed(text.as_str())),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(true) => Some(Cow::Borrowed("true")),
        _ => None,
    })
}

/// Some providers write their booleans as text.
pub(super) fn is_true(value: Option<&Value>) -> bool {
    value.is_some_and(|value| value.as_bool() == Some(true) || value.as_str() == Some("true"))
}

pub(super) fn check(rules: &[Rule], checks: &mut Checks) {
    checks.expect(rules.len() <= RULES_MAX, "/rules", "too_many", &format!("at most {RULES_MAX}"));
    for (index, rule) in rules.iter().enumerate().take(RULES_MAX) {
        claim(checks, &format!("/rules/{index}/claim"), &rule.claim);
        if let Some(value) = &rule.value {
            let fits = (1..=VALUE_BYTES_MAX).contains(&value.len());
            checks.expect(fits, &format!("/rules/{index}/value"), "length", &format!("1 to {VALUE_BYTES_MAX} bytes"));
        }
        let twice = rules.iter().take(index).any(|before| before == rule);
        checks.expect(!twice, &format!("/rules/{index}"), "duplicate", "each rule once");
    }
}

/// Checks the name of a claim, or a path to one.
pub(super) fn claim(checks: &mut Checks, pointer: &str, path: &str) {
    let fits = (1..=CLAIM_BYTES_MAX).contains(&path.len()) && path.split('.').all(|name| !name.is_empty());
    let plain = path.chars().all(|sign| !sign.is_whitespace() && !sign.is_control());
    let detail = format!("a claim's name, or names with dots between them, 1 to {CLAIM_BYTES_MAX} bytes");
    checks.expect(fits && plain, pointer, "invalid", &detail);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(claim: &str, value: Option<&str>) -> Rule {
        Rule { claim: claim.to_owned(), value: value.map(str::to_owned), role_id: RoleId::random() }
    }

    fn has(claim: &str, value: Option<&str>, claims: &Value) -> bool {
        !roles(&[rule(claim, value)], claims).is_empty()
    }

    #[test]
    fn a_role_is_had_by_whoever_has_the_claim_with_the_value() {
        let claims = json!({
            "sub": "248289761001", "groups": ["a", "b"], "department": "sales", "level": 7, "staff": true, "left": false,
            "realm_access": {"roles": ["admin"]}, "https://example.com/groups": ["x"], "empty": [], "blank": "", "none": null,
            "deep": {"a.b": "no"},
        });
        for (claim, value, expected) in [
            ("groups", Some("a"), true),
            ("groups", Some("A"), false),
            ("groups", Some("a,b"), false),
            ("groups", Some("c"), false),
            ("groups", None, true),
            ("department", Some("sales"), true),
            ("level", Some("7"), true),
            ("staff", Some("true"), true),
            ("left", Some("false"), false),
            ("left", None, false),
            ("realm_access.roles", Some("admin"), true),
            ("realm_access", None, false),
            ("realm_access.roles.admin", None, false),
            ("https://example.com/groups", Some("x"), true),
            ("deep.a.b", Some("no"), false),
            ("empty", None, false),
            ("blank", None, false),
            ("none", None, false),
            ("missing", None, false),
            ("sub", None, true),
        ] {
            assert_eq!(has(claim, value, &claims), expected, "{claim} {value:?}");
        }
    }

    #[test]
    fn an_address_that_nobody_checked_gives_no_role() {
        for (verified, expected) in [
            (json!(true), true),
            (json!("true"), true),
            (json!(false), false),
            (json!("false"), false),
            (json!(1), false),
            (Value::Null, false),
        ] {
            let claims = json!({"email": "a@example.com", "email_verified": verified});
            assert_eq!(has("email", Some("a@example.com"), &claims), expected, "{claims}");
            assert_eq!(has("email", None, &claims), expected, "{claims}");
        }
    }

    #[test]
    fn a_long_claim_is_read_so_far() {
        let mut groups = vec![Value::from("other"); VALUES_READ_MAX];
        groups.push(Value::from("admins"));
        assert!(!has("groups", Some("admins"), &json!({"groups": groups})));
    }

    #[test]
    fn what_no_claim_is_called_is_refused() {
        let refused = |claim: &str| {
            let mut checks = Checks::default();
            check(&[rule(claim, None)], &mut checks);
            checks.done().is_err()
        };
        let long = "a".repeat(CLAIM_BYTES_MAX + 1);
        for wrong in ["", ".", "a.", ".a", "a..b", "a b", "a\u{7}", long.as_str()] {
            assert!(refused(wrong), "{wrong:?}");
        }
        for right in ["groups", "realm_access.roles", "https://example.com/groups", "größe"] {
            assert!(!refused(right), "{right}");
        }
    }
}
