//! What a client says about itself (RFC 7591 §2), read by one set of rules wherever it comes from.
//!
//! Members that nobody here knows, grant types that nobody here offers and addresses of pages that cannot be shown are
//! left out, as RFC 7591 §2 allows. What decides who the client is – redirect URIs, keys, how it authenticates – is
//! right or refused.

use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::types::alg::Alg;

use super::keys::KeySet;
use super::redirect;
pub use super::terms::{ApplicationType, AuthMethod, GrantType};

/// Characters of a client's name at most.
pub const NAME_CHARS_MAX: usize = 100;
/// Redirect URIs of one client at most.
pub const REDIRECT_URIS_MAX: usize = 32;
/// Bytes of a list of scopes at most.
pub const SCOPE_BYTES_MAX: usize = 2_048;
/// Bytes of any other address at most.
pub const URI_BYTES_MAX: usize = 1_024;
/// Entries of a list of grant types or methods at most.
pub const LIST_MAX: usize = 32;

/// A client, as it described itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientMetadata {
    /// Its name, for people. Anybody may claim any name.
    pub client_name: Option<String>,
    /// Where people are sent back to; compare with [`redirect::is_registered`].
    pub redirect_uris: Vec<String>,
    /// The grant types that it asked for and that exist, each once. Without a word: the authorization code alone.
    pub grant_types: Vec<GrantType>,
    /// How it shows who it is.
    pub auth_method: AuthMethod,
    /// The algorithm of its assertions; `None`: any that we accept.
    pub auth_signing_alg: Option<Alg>,
    /// Where its keys are; always there with [`AuthMethod::PrivateKeyJwt`].
    pub keys: Option<Keys>,
    /// The scopes that it may ask for, separated by spaces; `None`: no bound of its own.
    pub scope: Option<String>,
    /// Its home page.
    pub client_uri: Option<String>,
    /// Its picture.
    pub logo_uri: Option<String>,
    /// Its terms.
    pub tos_uri: Option<String>,
    /// What it does with data.
    pub policy_uri: Option<String>,
    /// It never uses a token without a proof of possession (RFC 9449 §5.2).
    pub dpop_bound_access_tokens: bool,
    /// Where it says that it runs; `None`: not said, or in a document, where nothing hangs on it.
    pub application_type: Option<ApplicationType>,
}

/// Where the public keys of a client are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// In a key set at this https address.
    At(Url),
    /// In this key set (RFC 7517 §5), which holds nothing private.
    Inline(String),
}

/// From where metadata comes decides which secrets there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A document that everybody can read: nothing in it is a secret, and it needs a name.
    Document,
    /// A registration, which may be answered with a secret.
    Registration,
}

/// A member that is missing or cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{member}: {wrong}")]
pub struct Mistake {
    /// Which, with the place in a list.
    pub member: String,
    /// What is wrong. Holds nothing that was sent.
    pub wrong: &'static str,
}

impl Mistake {
    pub(super) fn new(member: impl Into<String>, wrong: &'static str) -> Self {
        Self { member: member.into(), wrong }
    }

    /// Its error code (RFC 7591 §3.2.2).
    #[must_use]
    pub fn code(&self) -> &'static str {
        if self.member.starts_with("redirect_uris") { "invalid_redirect_uri" } else { "invalid_client_metadata" }
    }
}

/// The members that are read; `null` is the same as absent.
#[derive(Deserialize)]
struct Raw {
    client_name: Option<String>,
    redirect_uris: Option<Vec<String>>,
    grant_types: Option<Vec<String>>,
    token_endpoint_auth_method: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_signing_alg: Option<String>,
    jwks_uri: Option<String>,
    jwks: Option<Value>,
    scope: Option<String>,
    client_uri: Option<String>,
    logo_uri: Option<String>,
    tos_uri: Option<String>,
    policy_uri: Option<String>,
    dpop_bound_access_tokens: Option<bool>,
    application_type: Option<String>,
}

impl ClientMetadata {
    /// Reads the members of a JSON object.
    ///
    /// # Errors
    ///
    /// The first member that is missing, of the wrong kind, too long, or cannot be used.
    pub fn read(members: Map<String, Value>, source: Source) -> Result<Self, Mistake> {
        let raw = Raw::read(members)?;
        let auth_method = raw.auth_method(source)?;
        let keys = raw.keys()?;
        if auth_method == AuthMethod::PrivateKeyJwt && keys.is_none() {
            return Err(Mistake::new("jwks_uri", "is needed, or jwks, with private_key_jwt"));
        }
        Ok(Self {
            client_name: raw.name(source)?,
            redirect_uris: raw.redirect_uris(source)?,
            grant_types: raw.grant_types()?,
            auth_method,
            auth_signing_alg: raw.auth_signing_alg(auth_method)?,
            keys,
            scope: raw.scope()?,
            application_type: raw.application_type(source)?,
            client_uri: raw.client_uri.and_then(page),
            logo_uri: raw.logo_uri.and_then(page),
            tos_uri: raw.tos_uri.and_then(page),
            policy_uri: raw.policy_uri.and_then(page),
            dpop_bound_access_tokens: raw.dpop_bound_access_tokens.unwrap_or(false),
        })
    }

    /// Whether some members could stand in a description, whatever else it would need.
    ///
    /// # Errors
    ///
    /// The first that could not.
    pub fn check_some(members: &Map<String, Value>) -> Result<(), Mistake> {
        let method = if members.contains_key("jwks") || members.contains_key("jwks_uri") {
            AuthMethod::PrivateKeyJwt
        } else {
            AuthMethod::None
        };
        let mut whole = Map::new();
        whole.insert("client_name".to_owned(), "any".into());
        whole.insert("redirect_uris".to_owned(), vec!["https://any.example/"].into());
        whole.insert("token_endpoint_auth_method".to_owned(), method.as_str().into());
        // What is null is taken out, and is none that has to be right.
        whole.extend(
            members.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())),
        );
        Self::read(whole, Source::Registration).map(drop)
    }

    /// Whether it must authenticate at the token endpoint.
    #[must_use]
    pub fn is_confidential(&self) -> bool {
        self.auth_method != AuthMethod::None
    }

    /// Whether a redirect URI is one of its own.
    #[must_use]
    pub fn has_redirect_uri(&self, asked: &str) -> bool {
        self.redirect_uris.iter().any(|known| redirect::is_registered(known, asked))
    }

    /// Whether every one of its redirect URIs leads to this machine: then anybody's program can pass for it.
    #[must_use]
    pub fn is_loopback_only(&self) -> bool {
        !self.redirect_uris.is_empty() && self.redirect_uris.iter().all(|uri| redirect::leads_to_loopback(uri))
    }
}

impl Raw {
    fn read(members: Map<String, Value>) -> Result<Self, Mistake> {
        serde_path_to_error::deserialize(Value::Object(members))
            .map_err(|error| Mistake::new(error.path().to_string(), "is of the wrong kind"))
    }

    fn name(&self, source: Source) -> Result<Option<String>, Mistake> {
        let wrong = |wrong| Err(Mistake::new("client_name", wrong));
        let Some(name) = self.client_name.as_deref().map(str::trim) else {
            return if source == Source::Document { wrong("is needed") } else { Ok(None) };
        };
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            return wrong("must have 1 to 100 characters");
        }
        if name.chars().any(is_unseen) {
            return wrong("must hold no control or invisible characters");
        }
        Ok(Some(name.to_owned()))
    }

    fn redirect_uris(&self, source: Source) -> Result<Vec<String>, Mistake> {
        let uris = self.redirect_uris.as_deref().unwrap_or_default();
        if uris.len() > REDIRECT_URIS_MAX || (uris.is_empty() && source == Source::Document) {
            return Err(Mistake::new("redirect_uris", "must hold 1 to 32 URIs"));
        }
        for (index, uri) in uris.iter().enumerate() {
            if let Some(wrong) = redirect::mistake(uri) {
                return Err(Mistake::new(format!("redirect_uris[{index}]"), wrong));
            }
        }
        Ok(uris.to_vec())
    }

    /// A registration that says that it is a web application must be one: its URIs are https, of another machine.
    fn application_type(&self, source: Source) -> Result<Option<ApplicationType>, Mistake> {
        match self.application_type.as_deref().filter(|_| source == Source::Registration) {
            None => Ok(None),
            Some("native") => Ok(Some(ApplicationType::Native)),
            Some("web") => {
                let remote = |uri: &String| uri.starts_with("https://") && !redirect::leads_to_loopback(uri);
                match self.redirect_uris.iter().flatten().position(|uri| !remote(uri)) {
                    None => Ok(Some(ApplicationType::Web)),
                    Some(index) => Err(Mistake::new(
                        format!("redirect_uris[{index}]"),
                        "must be https and not of this machine for application_type web; use native",
                    )),
                }
            }
            Some(_) => Err(Mistake::new("application_type", "must be native or web")),
        }
    }

    fn grant_types(&self) -> Result<Vec<GrantType>, Mistake> {
        let Some(asked) = short_list(self.grant_types.as_deref(), "grant_types")? else {
            return Ok(vec![GrantType::AuthorizationCode]);
        };
        let usable = |grant: &GrantType| asked.iter().any(|name| name == grant.as_str());
        Ok(GrantType::ALL.into_iter().filter(usable).collect())
    }

    /// The one method if it is named, else the strongest of those that the client says it can use.
    fn auth_method(&self, source: Source) -> Result<AuthMethod, Mistake> {
        let allowed = |method: &AuthMethod| source == Source::Registration || !method.is_symmetric();
        let able =
            short_list(self.token_endpoint_auth_methods_supported.as_deref(), "token_endpoint_auth_methods_supported")?;
        if let Some(name) = &self.token_endpoint_auth_method {
            let method = AuthMethod::parse(name).filter(allowed);
            return method.ok_or_else(|| Mistake::new("token_endpoint_auth_method", "cannot be used here"));
        }
        if let Some(able) = able {
            let has_keys = self.jwks.is_some() || self.jwks_uri.is_some();
            let able = able.iter().filter_map(|name| AuthMethod::parse(name)).filter(allowed);
            let able = able.filter(|method| has_keys || *method != AuthMethod::PrivateKeyJwt);
            let strongest = able.max_by_key(|method| AuthMethod::ALL.iter().position(|one| one == method));
            let member = "token_endpoint_auth_methods_supported";
            return strongest.ok_or_else(|| Mistake::new(member, "holds none that can be used here"));
        }
        // RFC 7591 §2 says `client_secret_basic` where nothing is said, which a document cannot mean. One that shows
        // keys means to use them.
        Ok(match source {
            Source::Registration => AuthMethod::ClientSecretBasic,
            Source::Document if self.jwks.is_some() || self.jwks_uri.is_some() => AuthMethod::PrivateKeyJwt,
            Source::Document => AuthMethod::None,
        })
    }

    fn auth_signing_alg(&self, method: AuthMethod) -> Result<Option<Alg>, Mistake> {
        let Some(name) =
            self.token_endpoint_auth_signing_alg.as_deref().filter(|_| method == AuthMethod::PrivateKeyJwt)
        else {
            return Ok(None);
        };
        let alg = Alg::parse(name);
        alg.map(Some).ok_or_else(|| Mistake::new("token_endpoint_auth_signing_alg", "must be EdDSA, ES256 or RS256"))
    }

    fn keys(&self) -> Result<Option<Keys>, Mistake> {
        match (&self.jwks_uri, &self.jwks) {
            // RFC 7591 §2: never both.
            (Some(_), Some(_)) => Err(Mistake::new("jwks", "must not stand beside jwks_uri")),
            (Some(uri), None) => {
                let wrong = || Mistake::new("jwks_uri", "must be an https address without user and fragment");
                web(uri, &["https"]).map(|url| Some(Keys::At(url))).ok_or_else(wrong)
            }
            (None, Some(set)) => {
                KeySet::read(set).map_err(|wrong| Mistake::new("jwks", wrong))?;
                Ok(Some(Keys::Inline(set.to_string())))
            }
            (None, None) => Ok(None),
        }
    }

    fn scope(&self) -> Result<Option<String>, Mistake> {
        let Some(scope) = &self.scope else { return Ok(None) };
        // RFC 6749 §3.3.
        let good = |byte: u8| byte == b' ' || (byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if scope.len() > SCOPE_BYTES_MAX || !scope.bytes().all(good) {
            return Err(Mistake::new("scope", "must be a list of scopes of at most 2048 bytes"));
        }
        Ok(Some(scope.clone()))
    }
}

fn short_list<'a>(list: Option<&'a [String]>, member: &'static str) -> Result<Option<&'a [String]>, Mistake> {
    match list {
        Some(list) if list.len() > LIST_MAX => Err(Mistake::new(member, "must hold at most 32 entries")),
        list => Ok(list),
    }
}

/// An address that may stand on a page as a link; others are left out.
fn page(uri: String) -> Option<String> {
    web(&uri, &["https", "http"]).map(|_| uri)
}

fn web(uri: &str, schemes: &[&str]) -> Option<Url> {
    let plain = uri.len() <= URI_BYTES_MAX && uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let url = Url::parse(uri).ok().filter(|_| plain)?;
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (bare && url.has_host() && schemes.contains(&url.scheme())).then_some(url)
}

/// What people cannot see changes what they read: control characters, and those that are invisible or turn the
/// direction of writing.
fn is_unseen(sign: char) -> bool {
    let invisible = ['\u{ad}', '\u{61c}', '\u{180e}', '\u{2028}', '\u{2029}', '\u{3164}', '\u{feff}'];
    let ranges = ['\u{200b}'..='\u{200f}', '\u{202a}'..='\u{202e}', '\u{2060}'..='\u{206f}', '\u{e0000}'..='\u{e0fff}'];
    sign.is_control() || invisible.contains(&sign) || ranges.iter().any(|range| range.contains(&sign))
}
