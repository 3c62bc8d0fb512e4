//! What each kind of provider needs to be told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use utoipa::ToSchema;

use crate::providers::rules;
use crate::refusal::{Checks, Refused};

const URL_BYTES_MAX: usize = 512;
const CLIENT_ID_BYTES_MAX: usize = 500;
const SCOPES_MAX: usize = 30;
const SCOPE_BYTES_MAX: usize = 200;
const PARAMETERS_MAX: usize = 10;
const PARAMETER_BYTES_MAX: usize = 500;
const GROUP_FIELDS_MAX: usize = 3;

/// Parameters of an authorization request that are ours.
const OUR_PARAMETERS: [&str; 13] = [
    "client_id",
    "client_secret",
    "redirect_uri",
    "response_type",
    "response_mode",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "login_hint",
    "request",
    "request_uri",
];

/// What a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// OpenID Connect, found by its issuer.
    OpenId,
    /// OAuth 2 with an endpoint that says who it is.
    OAuth2,
    /// One user without a password, to try the service out: on the machine itself only.
    Demo,
}

impl ProviderKind {
    /// Its name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenId => "openid",
            Self::OAuth2 => "oauth2",
            Self::Demo => "demo",
        }
    }

    /// Reads the name; `None` for any other.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::OpenId, Self::OAuth2, Self::Demo].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Of an OpenID Connect provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = OpenIdSettings)]
#[serde(deny_unknown_fields)]
pub struct OpenId {
    /// Its issuer, exactly as it writes it. Never changes: it decides whom a subject names.
    #[schema(max_length = 512, example = "https://login.example.com")]
    pub issuer: String,
    /// Our client id there.
    #[schema(max_length = 500)]
    pub client_id: String,
    /// What is asked for; `openid profile email` unless said, and `offline_access` if the provider offers it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The claim that people are called by; `preferred_username` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_claim: Option<String>,
    /// More parameters of the authorization request, as some providers want them: `{"access_type": "offline"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// Of a plain OAuth 2 provider. The defaults are those of GitHub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = OAuth2Settings)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    /// Where people sign in.
    #[schema(max_length = 512, example = "https://github.com/login/oauth/authorize")]
    pub authorization_endpoint: String,
    /// Where codes become tokens.
    #[schema(max_length = 512, example = "https://github.com/login/oauth/access_token")]
    pub token_endpoint: String,
    /// What says, for a token, whose it is: a JSON object. Never changes: it decides whom a subject names.
    #[schema(max_length = 512, example = "https://api.github.com/user")]
    pub userinfo_endpoint: String,
    /// Our client id there.
    #[schema(max_length = 500)]
    pub client_id: String,
    /// What is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["read:user", "read:org"]))]
    pub scopes: Vec<String>,
    /// The member that names the person for ever: never a name that can be given up and taken by another. `id` unless said;
    /// never changes.
    #[serde(default = "id", skip_serializing_if = "is_id")]
    #[schema(default = "id")]
    pub subject_field: String,
    /// The member that people are called by; `login` unless said.
    #[serde(default = "login", skip_serializing_if = "is_login")]
    #[schema(default = "login")]
    pub username_field: String,
    /// The member with the address; `email` unless said.
    #[serde(default = "email", skip_serializing_if = "is_email")]
    #[schema(default = "email")]
    pub email_field: String,
    /// What lists, for a token, the groups of its person: a JSON array. Rules see them as the claim `groups`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 512, example = "https://api.github.com/user/teams?per_page=100")]
    pub groups_endpoint: Option<String>,
    /// The members of each element that name the group, joined by `/`; `login` unless said.
    #[serde(default = "logins", skip_serializing_if = "is_logins")]
    #[schema(example = json!(["organization.login", "slug"]))]
    pub group_fields: Vec<String>,
    /// What it calls itself in answers (RFC 9207). Only for a provider that does: an answer without it is refused then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 512)]
    pub issuer: Option<String>,
    /// More parameters of the authorization request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

fn id() -> String {
    "id".to_owned()
}

fn is_id(name: &str) -> bool {
    name == "id"
}

fn login() -> String {
    "login".to_owned()
}

fn is_login(name: &str) -> bool {
    name == "login"
}

fn email() -> String {
    "email".to_owned()
}

fn is_email(name: &str) -> bool {
    name == "email"
}

fn logins() -> Vec<String> {
    vec![login()]
}

fn is_logins(names: &[String]) -> bool {
    names == logins()
}

/// Of the demo provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DemoSettings)]
#[serde(deny_unknown_fields)]
pub struct Demo {}

/// What a provider of its kind is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ProviderSettings)]
pub enum Settings {
    /// `openid`.
    OpenId(OpenId),
    /// `oauth2`.
    OAuth2(OAuth2),
    /// `demo`.
    Demo(Demo),
}

impl Settings {
    /// Reads what was stored or asked for.
    ///
    /// # Errors
    ///
    /// A member is missing, unknown, or of another type.
    pub fn read(kind: ProviderKind, value: Value) -> Result<Self, Refused> {
        if !value.is_object() {
            return Err(Refused::field("/settings", "invalid", "an object"));
        }
        let read = match kind {
            ProviderKind::OpenId => serde_path_to_error::deserialize(value).map(Self::OpenId),
            ProviderKind::OAuth2 => serde_path_to_error::deserialize(value).map(Self::OAuth2),
            ProviderKind::Demo => serde_path_to_error::deserialize(value).map(Self::Demo),
        };
        read.map_err(|error| Refused::field("/settings", "invalid", error.to_string()))
    }

    /// The kind that they are for.
    #[must_use]
    pub const fn kind(&self) -> ProviderKind {
        match self {
            Self::OpenId(_) => ProviderKind::OpenId,
            Self::OAuth2(_) => ProviderKind::OAuth2,
            Self::Demo(_) => ProviderKind::Demo,
        }
    }

    /// What must stay the same so that a subject goes on naming the same person.
    pub(super) fn identity(&self) -> [(&'static str, &str); 2] {
        match self {
            Self::OpenId(openid) => [("/settings/issuer", &openid.issuer), ("", "")],
            Self::OAuth2(oauth2) => [
                ("/settings/userinfo_endpoint", &oauth2.userinfo_endpoint),
                ("/settings/subject_field", &oauth2.subject_field),
            ],
            Self::Demo(_) => [("", ""), ("", "")],
        }
    }

    /// Notes all that is wrong with them. `loopback`: addresses of this machine may be asked, without TLS too.
    pub(super) fn check(&self, loopback: bool, checks: &mut Checks) {
        match self {
            Self::OpenId(openid) => openid.check(loopback, checks),
            Self::OAuth2(oauth2) => oauth2.check(loopback, checks),
            Self::Demo(_) => {}
        }
    }
}

impl OpenId {
    fn check(&self, loopback: bool, checks: &mut Checks) {
        let fits = is_address(&self.issuer, loopback) && !self.issuer.contains('?');
        checks.expect(fits, "/settings/issuer", "invalid", "an https URL without query and fragment");
        client_id(checks, &self.client_id);
        scopes(checks, &self.scopes);
        let openid = self.scopes.is_empty() || self.scopes.iter().any(|scope| scope == "openid");
        checks.expect(openid, "/settings/scopes", "required", "`openid` must be among them");
        if let Some(claim) = &self.username_claim {
            rules::claim(checks, "/settings/username_claim", claim);
        }
        parameters(checks, &self.parameters);
    }
}

impl OAuth2 {
    fn check(&self, loopback: bool, checks: &mut Checks) {
        let endpoints = [
            ("/settings/authorization_endpoint", Some(&self.authorization_endpoint)),
            ("/settings/token_endpoint", Some(&self.token_endpoint)),
            ("/settings/userinfo_endpoint", Some(&self.userinfo_endpoint)),
            ("/settings/groups_endpoint", self.groups_endpoint.as_ref()),
            ("/settings/issuer", self.issuer.as_ref()),
        ];
        for (pointer, endpoint) in endpoints {
            let fits = endpoint.is_none_or(|endpoint| is_address(endpoint, loopback));
            checks.expect(fits, pointer, "invalid", "an https URL without fragment");
        }
        client_id(checks, &self.client_id);
        scopes(checks, &self.scopes);
        rules::claim(checks, "/settings/subject_field", &self.subject_field);
        rules::claim(checks, "/settings/username_field", &self.username_field);
        rules::claim(checks, "/settings/email_field", &self.email_field);
        let some = (1..=GROUP_FIELDS_MAX).contains(&self.group_fields.len());
        checks.expect(some, "/settings/group_fields", "length", &format!("1 to {GROUP_FIELDS_MAX}"));
        for (index, field) in self.group_fields.iter().enumerate() {
            rules::claim(checks, &format!("/settings/group_fields/{index}"), field);
        }
        parameters(checks, &self.parameters);
    }
}

/// Whether an endpoint may stand there: https, or of this machine where `loopback` is allowed. Where it leads is seen when it
/// is asked.
#[must_use]
pub fn is_address(text: &str, loopback: bool) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let plain = text.len() <= URL_BYTES_MAX && text.chars().all(|sign| sign.is_ascii_graphic());
    let safe = url.scheme() == "https" || (loopback && crate::outbound::is_of_this_machine(&url));
    plain && safe && !text.contains('#') && url.username().is_empty() && url.password().is_none()
}

fn client_id(checks: &mut Checks, id: &str) {
    let fits = (1..=CLIENT_ID_BYTES_MAX).contains(&id.len()) && id.chars().all(|sign| (' '..='~').contains(&sign));
    checks.expect(
        fits,
        "/settings/client_id",
        "invalid",
        &format!("1 to {CLIENT_ID_BYTES_MAX} printable ASCII characters"),
    );
}

/// RFC 6749 §3.3.
fn scopes(checks: &mut Checks, scopes: &[String]) {
    checks.expect(scopes.len() <= SCOPES_MAX, "/settings/scopes", "too_many", &format!("at most {SCOPES_MAX}"));
    for (index, scope) in scopes.iter().enumerate().take(SCOPES_MAX) {
        let fits = (1..=SCOPE_BYTES_MAX).contains(&scope.len())
            && scope.chars().all(|sign| sign.is_ascii_graphic() && sign != '"' && sign != '\\');
        checks.expect(fits, &format!("/settings/scopes/{index}"), "invalid", "one scope (RFC 6749 §3.3)");
    }
}

fn parameters(checks: &mut Checks, parameters: &BTreeMap<String, String>) {
    const POINTER: &str = "/settings/parameters";
    checks.expect(parameters.len() <= PARAMETERS_MAX, POINTER, "too_many", &format!("at most {PARAMETERS_MAX}"));
    for (name, value) in parameters {
        let fits = (1..=PARAMETER_BYTES_MAX).contains(&name.len()) && value.len() <= PARAMETER_BYTES_MAX;
        checks.expect(fits, POINTER, "length", &format!("at most {PARAMETER_BYTES_MAX} bytes each"));
        let ours = OUR_PARAMETERS.contains(&name.as_str());
        checks.expect(!ours, POINTER, "reserved", "a parameter that is set here anyway");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(kind: ProviderKind, value: Value) -> Vec<String> {
        let settings = match Settings::read(kind, value) {
            Ok(settings) => settings,
            Err(refused) => return vec![refused.fields[0].detail.clone()],
        };
        let mut checks = Checks::default();
        settings.check(false, &mut checks);
        checks
            .done()
            .map_or_else(|refused| refused.fields.into_iter().map(|field| field.pointer).collect(), |()| vec![])
    }

    #[test]
    fn an_issuer_is_an_https_address_and_nothing_more() {
        let of = |issuer: &str| wrong(ProviderKind::OpenId, json!({"issuer": issuer, "client_id": "c"}));
        for right in [
            "https://login.example.com",
            "https://login.example.com/",
            "https://a.example/realms/x",
            "https://10.0.0.1:8443/x",
        ] {
            assert_eq!(of(right), [""; 0], "{right}");
        }
        for bad in [
            "http://login.example.com",
            "http://localhost",
            "https://a.example?x=1",
            "https://a.example#x",
            "https://u@a.example",
            "login.example.com",
            "https://a.example/ x",
            "https://größe.example",
            "",
        ] {
            assert_eq!(of(bad), ["/settings/issuer"], "{bad}");
        }
    }

    #[test]
    fn nobody_takes_over_parameters_that_protect_the_sign_in() {
        for name in OUR_PARAMETERS {
            let settings = json!({"issuer": "https://a.example", "client_id": "c", "parameters": {name: "x"}});
            assert_eq!(wrong(ProviderKind::OpenId, settings), ["/settings/parameters"], "{name}");
        }
        let settings =
            json!({"issuer": "https://a.example", "client_id": "c", "parameters": {"access_type": "offline"}});
        assert_eq!(wrong(ProviderKind::OpenId, settings), [""; 0]);
    }

    #[test]
    fn what_a_kind_needs_must_be_there_and_nothing_else() {
        assert!(wrong(ProviderKind::OpenId, json!({"client_id": "c"}))[0].contains("issuer"));
        assert!(wrong(ProviderKind::Demo, json!({"issuer": "https://a.example"}))[0].contains("issuer"));
        assert_eq!(wrong(ProviderKind::Demo, json!({})), [""; 0]);
        let scopes = json!({"issuer": "https://a.example", "client_id": "c", "scopes": ["profile"]});
        assert_eq!(wrong(ProviderKind::OpenId, scopes), ["/settings/scopes"]);
    }

    #[test]
    fn the_defaults_of_oauth2_are_those_of_github() {
        let settings = json!({"authorization_endpoint": "https://github.com/login/oauth/authorize",
            "token_endpoint": "https://github.com/login/oauth/access_token",
            "userinfo_endpoint": "https://api.github.com/user", "client_id": "Iv1.abc"});
        assert_eq!(wrong(ProviderKind::OAuth2, settings.clone()), [""; 0]);
        let Settings::OAuth2(read) = Settings::read(ProviderKind::OAuth2, settings.clone()).unwrap() else { panic!() };
        assert_eq!((read.subject_field.as_str(), read.username_field.as_str()), ("id", "login"));
        assert_eq!(serde_json::to_value(&read).unwrap(), settings, "defaults are not written out");
    }
}
