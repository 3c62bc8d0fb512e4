//! Settings of leak reports: who is believed, and what is done with a credential that was found.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use crate::refusal::Checks;
use crate::types::patch::Patch;

/// Reporters with a key of their own, at most.
pub const REPORTERS_MAX: usize = 16;
const NAME_CHARS_MAX: usize = 100;
const URL_BYTES_MAX: usize = 500;
/// What stands before a public key in the Standard Webhooks form.
const PUBLIC_KEY_PREFIX: &str = "whpk_";

/// What is done with a credential of ours that was found where it must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LeakPolicy)]
pub enum Policy {
    /// It is revoked, for good, and its owner is told.
    Revoke,
    /// Its owner is told.
    Tell,
}

/// Somebody who searches places of his own, and signs what he reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LeakReporter)]
pub struct Reporter {
    /// Stands in the audit: 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// `whpk_` and an Ed25519 public key in base64.
    #[schema(example = "whpk_MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrb=")]
    pub public_key: String,
}

impl Reporter {
    /// Its public key; `None` when the text is none.
    #[must_use]
    pub fn key(&self) -> Option<[u8; 32]> {
        STANDARD.decode(self.public_key.strip_prefix(PUBLIC_KEY_PREFIX)?).ok()?.try_into().ok()
    }
}

/// Who is believed, and what is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Leaks {
    /// Where GitHub publishes the keys that its reports are signed with. Absent: GitHub is not believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github_keys_url: Option<String>,
    /// Who else is believed.
    pub reporters: Vec<Reporter>,
    /// What is done with production keys.
    pub prod: Policy,
    /// What is done with development keys.
    pub dev: Policy,
    /// What is done with operators' keys.
    pub operators: Policy,
}

/// A change of these.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeLeaks {
    /// Where GitHub's keys are; null: GitHub is not believed any more.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "https://api.github.com/meta/public_keys/secret_scanning")]
    github_keys_url: Patch<String>,
    /// All that are believed from now on, at most 16.
    #[schema(max_items = 16)]
    reporters: Option<Vec<Reporter>>,
    /// For production keys.
    prod: Option<Policy>,
    /// For development keys.
    dev: Option<Policy>,
    /// For operators' keys.
    operators: Option<Policy>,
}

impl ChangeLeaks {
    pub(super) fn over(self, before: &Leaks) -> Leaks {
        Leaks {
            github_keys_url: self.github_keys_url.over(before.github_keys_url.clone()),
            reporters: self.reporters.unwrap_or_else(|| before.reporters.clone()),
            prod: self.prod.unwrap_or(before.prod),
            dev: self.dev.unwrap_or(before.dev),
            operators: self.operators.unwrap_or(before.operators),
        }
    }
}

pub(super) fn check(leaks: &Leaks, checks: &mut Checks) {
    if let Some(text) = &leaks.github_keys_url {
        let good = text.len() <= URL_BYTES_MAX
            && Url::parse(text).is_ok_and(|url| {
                url.scheme() == "https" && url.has_host() && url.username().is_empty() && url.password().is_none()
            });
        checks.expect(good, "/leaks/github_keys_url", "invalid", "an https URL without credentials, at most 500 bytes");
    }
    let many = leaks.reporters.len();
    checks.expect(many <= REPORTERS_MAX, "/leaks/reporters", "length", "at most 16");
    for (index, reporter) in leaks.reporters.iter().enumerate().take(REPORTERS_MAX) {
        let at = |member: &str| format!("/leaks/reporters/{index}/{member}");
        let length = reporter.name.chars().count();
        let plain = !reporter.name.chars().any(char::is_control) && !reporter.name.trim().is_empty();
        checks.expect(plain && length <= NAME_CHARS_MAX, &at("name"), "length", "1 to 100 characters");
        let twice = leaks.reporters.iter().filter(|other| other.name == reporter.name).count() > 1;
        checks.expect(!twice, &at("name"), "duplicate", "each name once");
        checks.expect(reporter.key().is_some(), &at("public_key"), "invalid", "`whpk_` and 32 bytes in base64");
    }
}
