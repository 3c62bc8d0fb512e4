//! Which workload acts as which client: by what its token says, exactly or up to a star.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::providers;
use crate::refusal::Checks;
use crate::types::id::ClientId;
use crate::types::object;

/// Rules of one issuer.
const RULES_MAX: usize = 100;
/// Claims that one rule looks at.
const CLAIMS_MAX: usize = 10;
/// Bytes of a claim's name, or of a path of names.
const CLAIM_BYTES_MAX: usize = 200;
const VALUE_BYTES_MAX: usize = 500;
/// At the end of a value: any rest, also none.
const ANY_REST: char = '*';

/// Claims of the token itself, looked at by us. They name no workload.
const NOT_OF_WORKLOADS: [&str; 6] = ["iss", "aud", "exp", "nbf", "iat", "jti"];

/// A workload whose token says all of this acts as this client.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = IssuerRule)]
pub struct Rule {
    /// Each claim, by its name or the names that lead to it with dots between them, and what it must be. A `*` at the end stands
    /// for any rest; one of them must say more than `*`.
    #[schema(example = json!({"sub": "repo:acme/notes:ref:refs/heads/main"}))]
    pub claims: BTreeMap<String, String>,
    /// The client: registered by an operator, with the jwt-bearer grant among its grant types.
    #[schema(value_type = String, pattern = "^cli_[0-9a-f]{32}$")]
    pub client_id: ClientId,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    claims: BTreeMap<String, String>,
    client_id: ClientId,
}

impl<'de> serde::Deserialize<'de> for Rule {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Wire { claims, client_id } = object::only(from)?;
        Ok(Self { claims, client_id })
    }
}

impl Rule {
    fn holds(&self, claims: &Value) -> bool {
        let fits = |wanted: &str, said: &str| match wanted.strip_suffix(ANY_REST) {
            Some(beginning) => said.starts_with(beginning),
            None => said == wanted,
        };
        // A rule that asks for nothing would hold for everybody.
        !self.claims.is_empty()
            && self.claims.iter().all(|(path, wanted)| providers::says(claims, path, |said| fits(wanted, said)))
    }
}

/// Why a workload acts as nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// No rule holds for it.
    NoRule,
    /// Rules hold for it, of other clients than the one that it names.
    OtherClient,
    /// Rules of several clients hold for it, and it names none. Which of them came first decides nothing.
    Several,
}

impl Unmatched {
    /// A stable name, for the audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "workload_no_rule",
            Self::OtherClient => "workload_other_client",
            Self::Several => "workload_several_clients",
        }
    }
}

/// The one client as which a workload with these claims acts; `named`: the client that it says it is.
///
/// # Errors
///
/// There is none, or not one.
pub fn client(rules: &[Rule], claims: &Value, named: Option<&str>) -> Result<ClientId, Unmatched> {
    let held: BTreeSet<ClientId> = rules.iter().filter(|rule| rule.holds(claims)).map(|rule| rule.client_id).collect();
    if held.is_empty() {
        return Err(Unmatched::NoRule);
    }
    if let Some(named) = named {
        return held.into_iter().find(|held| held.as_str() == named).ok_or(Unmatched::OtherClient);
    }
    let mut held = held.into_iter();
    match (held.next(), held.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(Unmatched::Several),
    }
}

pub(super) fn check(rules: &[Rule], checks: &mut Checks) {
    checks.expect(rules.len() <= RULES_MAX, "/rules", "too_many", &format!("at most {RULES_MAX}"));
    for (index, rule) in rules.iter().enumerate().take(RULES_MAX) {
        let pointer = format!("/rules/{index}/claims");
        checks.expect(rule.claims.len() <= CLAIMS_MAX, &pointer, "too_many", &format!("at most {CLAIMS_MAX}"));
        let names = rule.claims.values().any(|wanted| !wanted.trim_end_matches(ANY_REST).is_empty());
        checks.expect(names, &pointer, "names_nobody", "at least one claim that says more than `*`");
        for (path, wanted) in rule.claims.iter().take(CLAIMS_MAX) {
            check_claim(checks, &pointer, path, wanted);
        }
        let twice = rules.iter().take(index).any(|before| before == rule);
        checks.expect(!twice, &format!("/rules/{index}"), "duplicate", "each rule once");
    }
}

fn check_claim(checks: &mut Checks, pointer: &str, path: &str, wanted: &str) {
    let fits = (1..=CLAIM_BYTES_MAX).contains(&path.len()) && path.split('.').all(|name| !name.is_empty());
    let plain = path.chars().all(|sign| !sign.is_whitespace() && !sign.is_control());
    let detail = format!("claims' names, or names with dots between them, 1 to {CLAIM_BYTES_MAX} bytes");
    checks.expect(fits && plain, pointer, "invalid", &detail);
    let of_workloads = !NOT_OF_WORKLOADS.contains(&path);
    checks.expect(of_workloads, pointer, "reserved", "iss, aud, exp, nbf, iat and jti name no workload");
    let length = (1..=VALUE_BYTES_MAX).contains(&wanted.len());
    checks.expect(length, pointer, "length", &format!("values of 1 to {VALUE_BYTES_MAX} bytes"));
    // Who writes a star elsewhere means something by it that it does not do.
    let one = !wanted.strip_suffix(ANY_REST).unwrap_or(wanted).contains(ANY_REST);
    checks.expect(one, pointer, "star", "a * only at the end");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(claims: &Value, client_id: ClientId) -> Rule {
        serde_json::from_value(json!({"claims": claims, "client_id": client_id})).unwrap()
    }

    #[test]
    fn a_rule_holds_when_each_of_its_claims_is_said() {
        let id = ClientId::random();
        let token = json!({"sub": "repo:acme/notes:ref:refs/heads/main", "environment": "prod", "groups": ["a", "b"],
            "kubernetes": {"namespace": "jobs"}, "empty": "", "no": false});
        for (claims, expected) in [
            (json!({"sub": "repo:acme/notes:ref:refs/heads/main"}), true),
            (json!({"sub": "repo:acme/notes:*"}), true),
            (json!({"sub": "repo:acme/notes:ref:refs/heads/main*"}), true),
            (json!({"sub": "repo:acme/note"}), false),
            (json!({"sub": "repo:acme/other:*"}), false),
            (json!({"sub": "Repo:acme/*"}), false),
            (json!({"sub": "repo:acme/*", "environment": "prod"}), true),
            (json!({"sub": "repo:acme/*", "environment": "dev"}), false),
            (json!({"sub": "repo:acme/*", "missing": "*"}), false),
            (json!({"environment": "*", "sub": "repo:*"}), true),
            (json!({"groups": "b"}), true),
            (json!({"kubernetes.namespace": "jobs"}), true),
            (json!({"kubernetes": "*"}), false),
            (json!({"empty": "*"}), false),
            (json!({"no": "*"}), false),
            (json!({}), false),
        ] {
            assert_eq!(client(&[rule(&claims, id)], &token, None).is_ok(), expected, "{claims}");
        }
    }

    #[test]
    fn the_order_of_rules_decides_nothing() {
        let (one, two) = (ClientId::random(), ClientId::random());
        let mut rules = vec![
            rule(&json!({"sub": "a*"}), one),
            rule(&json!({"sub": "ab*"}), two),
            rule(&json!({"sub": "abc"}), two),
        ];
        for _ in 0..rules.len() {
            rules.rotate_left(1);
            let of = |sub: &str, named: Option<&str>| client(&rules, &json!({"sub": sub}), named);
            assert_eq!(of("a", None), Ok(one));
            assert_eq!(of("ab", None), Err(Unmatched::Several));
            assert_eq!(of("abc", Some(two.as_str())), Ok(two));
            assert_eq!(of("ab", Some(one.as_str())), Ok(one));
            assert_eq!(of("a", Some(two.as_str())), Err(Unmatched::OtherClient));
            assert_eq!(of("b", Some(one.as_str())), Err(Unmatched::NoRule));
        }
    }

    #[test]
    fn a_rule_that_names_nobody_is_refused() {
        let refused = |claims: Value| {
            let mut checks = Checks::default();
            check(&[rule(&claims, ClientId::random())], &mut checks);
            checks.done().err().map(|refused| refused.fields[0].code.clone())
        };
        let many: Value =
            (0..11).map(|number| (format!("c{number}"), json!("x"))).collect::<serde_json::Map<_, _>>().into();
        for (claims, code) in [
            (json!({}), "names_nobody"),
            (json!({"sub": "*"}), "names_nobody"),
            (json!({"sub": "*", "other": "*"}), "names_nobody"),
            (json!({"aud": "x"}), "reserved"),
            (json!({"sub": "a", "iss": "x"}), "reserved"),
            (json!({"sub": ""}), "names_nobody"),
            (json!({"sub": "a", "b": ""}), "length"),
            (json!({"sub": "a*b"}), "star"),
            (json!({"sub": "a**"}), "star"),
            (json!({"a..b": "x"}), "invalid"),
            (json!({"a b": "x"}), "invalid"),
            (many, "too_many"),
        ] {
            assert_eq!(refused(claims.clone()).as_deref(), Some(code), "{claims}");
        }
        for right in
            [json!({"sub": "a*"}), json!({"sub": "*", "repository": "acme/notes"}), json!({"kubernetes.io": "x"})]
        {
            assert_eq!(refused(right.clone()), None, "{right}");
        }
    }
}
