//! What a provider says of itself (OpenID Connect Discovery 1.0), and where a plain OAuth 2 provider is said to be.

use std::fmt;

use oauth2::AuthType;
use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{AdditionalProviderMetadata, ProviderMetadata};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::outbound::{Failure, Shape};
use crate::providers::PROVIDERS_MAX;
use crate::providers::error::UpstreamError;
use crate::providers::person::SignInWish;
use crate::providers::settings::{OAuth2, OpenId, Settings};

/// Bytes of a configuration; those of large providers have about ten thousand.
const CONFIGURATION_BYTES_MAX: usize = 64 * 1024;

/// How configurations are kept.
pub(super) const SHAPE: Shape<Configuration, Unusable> =
    Shape { bytes_max: CONFIGURATION_BYTES_MAX, count_max: PROVIDERS_MAX, read: Configuration::read };

/// A document is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable(pub &'static str);

impl fmt::Display for Unusable {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.0)
    }
}

impl std::error::Error for Unusable {}

impl From<Failure<Unusable>> for UpstreamError {
    fn from(failure: Failure<Unusable>) -> Self {
        match failure {
            Failure::Fetch(error) => error.into(),
            Failure::Invalid(Unusable(word)) => Self::Misconfigured(word),
        }
    }
}

/// What we read beyond the first specification.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct More {
    /// RFC 9207 §3.
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for More {}

type Metadata = ProviderMetadata<
    More,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// A provider's configuration.
pub(super) struct Configuration(Metadata);

impl Configuration {
    fn read(_: &Url, bytes: &[u8]) -> Result<Self, Unusable> {
        serde_json::from_slice(bytes).map(Self).map_err(|_| Unusable("configuration_invalid"))
    }

    /// Where it is asked, if it is the configuration of the provider that was meant.
    pub(super) fn endpoints(&self, openid: &OpenId) -> Result<Endpoints, UpstreamError> {
        let metadata = &self.0;
        // Discovery §4.3: exactly the same, by its characters.
        if metadata.issuer().as_str() != openid.issuer {
            return Err(UpstreamError::Untrusted("issuer_mismatch"));
        }
        let token = metadata.token_endpoint().ok_or(UpstreamError::Misconfigured("no_token_endpoint"))?;
        let scopes = if openid.scopes.is_empty() {
            let offered =
                metadata.scopes_supported().is_some_and(|all| all.iter().any(|one| one.as_str() == "offline_access"));
            let offline = offered.then_some("offline_access");
            ["openid", "profile", "email"].into_iter().chain(offline).map(str::to_owned).collect()
        } else {
            openid.scopes.clone()
        };
        Ok(Endpoints {
            issuer: Some(openid.issuer.clone()),
            names_itself: metadata.additional_metadata().authorization_response_iss_parameter_supported,
            authorization: endpoint(metadata.authorization_endpoint())?,
            token: endpoint(token)?,
            userinfo: metadata.userinfo_endpoint().map(|url| endpoint(url)).transpose()?,
            keys: Some(endpoint(metadata.jwks_uri())?),
            authentication: authentication(metadata.token_endpoint_auth_methods_supported()),
            scopes,
        })
    }
}

/// Discovery §3: what a provider that says nothing takes is `client_secret_basic`.
fn authentication(methods: Option<&Vec<CoreClientAuthMethod>>) -> AuthType {
    let takes = |method| methods.is_none_or(|methods| methods.contains(&method));
    if !takes(CoreClientAuthMethod::ClientSecretBasic) && takes(CoreClientAuthMethod::ClientSecretPost) {
        AuthType::RequestBody
    } else {
        AuthType::BasicAuth
    }
}

/// Where a provider is asked, and how.
pub(super) struct Endpoints {
    /// Its name for itself.
    pub(super) issuer: Option<String>,
    /// It puts that name into its answers (RFC 9207).
    pub(super) names_itself: bool,
    pub(super) authorization: Url,
    pub(super) token: Url,
    pub(super) userinfo: Option<Url>,
    pub(super) keys: Option<Url>,
    pub(super) authentication: AuthType,
    pub(super) scopes: Vec<String>,
}

impl Endpoints {
    /// Of a plain OAuth 2 provider. All take the secret in the body, not all as Basic (RFC 6749 §2.3.1 notwithstanding).
    pub(super) fn of(oauth2: &OAuth2) -> Result<Self, UpstreamError> {
        Ok(Self {
            issuer: oauth2.issuer.clone(),
            names_itself: oauth2.issuer.is_some(),
            authorization: endpoint(&oauth2.authorization_endpoint)?,
            token: endpoint(&oauth2.token_endpoint)?,
            userinfo: None,
            keys: None,
            authentication: AuthType::RequestBody,
            scopes: oauth2.scopes.clone(),
        })
    }
}

/// Where an issuer's configuration is (Discovery §4): below it, without a slash at its end, on the well-known path.
///
/// # Errors
///
/// It is no address that can be asked.
pub fn discovery_of(issuer: &str) -> Result<Url, UpstreamError> {
    let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
    endpoint(&format!("{issuer}/.well-known/openid-configuration"))
}

/// An address that a browser is sent to or we ask. Whether it may be asked is seen then; a browser gets only what speaks TLS,
/// or is of this machine.
pub(super) fn endpoint(text: &str) -> Result<Url, UpstreamError> {
    let url = Url::parse(text).map_err(|_| UpstreamError::Misconfigured("endpoint_invalid"))?;
    let local = url.scheme() == "http" && crate::outbound::is_of_this_machine(&url);
    if (url.scheme() == "https" || local) && url.fragment().is_none() {
        return Ok(url);
    }
    Err(UpstreamError::Misconfigured("endpoint_invalid"))
}

/// The parameters beyond the usual ones: the operator's, with what the person wishes (OpenID Connect Core §3.1.2.1).
pub(super) fn parameters(settings: &Settings, wish: &SignInWish) -> Vec<(String, String)> {
    let (parameters, openid) = match settings {
        Settings::OpenId(openid) => (&openid.parameters, true),
        Settings::OAuth2(oauth2) => (&oauth2.parameters, false),
        Settings::Demo(_) => return Vec::new(),
    };
    let mut all: Vec<(String, String)> = parameters.clone().into_iter().filter(|(name, _)| name != "prompt").collect();
    let mut prompt: Vec<&str> = parameters.get("prompt").map(|text| text.split(' ').collect()).unwrap_or_default();
    for (wished, word) in [(wish.again, "login"), (wish.choose, "select_account")] {
        if wished && openid && !prompt.contains(&word) {
            prompt.push(word);
        }
    }
    if !prompt.is_empty() {
        all.push(("prompt".to_owned(), prompt.join(" ")));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(issuer: &str, more: &str) -> String {
        format!(
            r#"{{"issuer":"{issuer}","authorization_endpoint":"https://a.example/authorize","token_endpoint":"https://a.example/token",
                "jwks_uri":"https://keys.a.example/jwks","response_types_supported":["code"],"subject_types_supported":["public"],
                "id_token_signing_alg_values_supported":["RS256"]{more}}}"#
        )
    }

    fn openid(issuer: &str) -> OpenId {
        serde_json::from_value(serde_json::json!({"issuer": issuer, "client_id": "c"})).unwrap()
    }

    fn read(text: &str) -> Configuration {
        Configuration::read(&"https://a.example".parse().unwrap(), text.as_bytes())
            .unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn an_issuer_is_equal_by_its_characters_or_not_at_all() {
        for (said, meant, right) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example/", "https://a.example", false),
            ("https://a.example", "https://a.example/", false),
            ("https://A.example", "https://a.example", false),
            ("https://a.example:443", "https://a.example", false),
            ("https://b.example", "https://a.example", false),
        ] {
            let found = read(&metadata(said, "")).endpoints(&openid(meant)).map(|_| ());
            assert_eq!(
                found,
                if right { Ok(()) } else { Err(UpstreamError::Untrusted("issuer_mismatch")) },
                "{said} {meant}"
            );
        }
    }

    #[test]
    fn what_a_provider_says_decides_how_it_is_asked() {
        let of =
            |more: &str| read(&metadata("https://a.example", more)).endpoints(&openid("https://a.example")).unwrap();
        assert!(matches!(of("").authentication, AuthType::BasicAuth));
        let post = r#","token_endpoint_auth_methods_supported":["client_secret_post"]"#;
        assert!(matches!(of(post).authentication, AuthType::RequestBody));
        let both = r#","token_endpoint_auth_methods_supported":["client_secret_post","client_secret_basic"]"#;
        assert!(matches!(of(both).authentication, AuthType::BasicAuth));
        assert!(!of("").names_itself && of(r#","authorization_response_iss_parameter_supported":true"#).names_itself);
        assert_eq!(of("").scopes, ["openid", "profile", "email"]);
        assert_eq!(of(r#","scopes_supported":["openid","offline_access"]"#).scopes.last().unwrap(), "offline_access");
    }

    #[test]
    fn no_endpoint_sends_a_browser_anywhere_without_tls() {
        for bad in ["javascript:alert(1)", "http://a.example/x", "https://a.example/x#y", "ftp://a.example", "", "/x"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
        assert!(endpoint("https://a.example/x?y=z").is_ok() && endpoint("http://127.0.0.1:1/x").is_ok());
        let spoilt = metadata("https://a.example", "").replace("https://a.example/authorize", "javascript:alert(1)//");
        let found = read(&spoilt).endpoints(&openid("https://a.example")).map(|_| ());
        assert_eq!(found, Err(UpstreamError::Misconfigured("endpoint_invalid")));
    }

    #[test]
    fn the_configuration_lies_below_the_issuer() {
        for (issuer, expected) in [
            ("https://a.example", "https://a.example/.well-known/openid-configuration"),
            ("https://a.example/", "https://a.example/.well-known/openid-configuration"),
            ("https://a.example/realms/x", "https://a.example/realms/x/.well-known/openid-configuration"),
        ] {
            assert_eq!(discovery_of(issuer).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn wishes_join_what_the_operator_asks_for() {
        let settings = |value| Settings::OpenId(OpenId { parameters: value, ..openid("https://a.example") });
        let of =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let wish = SignInWish { again: true, choose: true, login_hint: None };
        assert_eq!(parameters(&settings(of(&[])), &SignInWish::default()), []);
        let expected =
            vec![("hd".to_owned(), "x".to_owned()), ("prompt".to_owned(), "consent login select_account".to_owned())];
        assert_eq!(parameters(&settings(of(&[("prompt", "consent"), ("hd", "x")])), &wish), expected);
    }
}
