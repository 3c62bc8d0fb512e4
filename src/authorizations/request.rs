//! What a client asks for, checked, as it waits for a person; and the parameters that can be read without knowing more.

use serde::{Deserialize, Serialize};

use crate::types::id::ServerId;
use crate::types::permission::Permissions;
use crate::types::thumbprint::Thumbprint;

/// Bytes of a `state` at most; it comes back to the client in a URL.
pub const STATE_BYTES_MAX: usize = 4_096;
/// Bytes of a `login_hint` at most; a longer one is no hint.
pub const LOGIN_HINT_BYTES_MAX: usize = 320;
/// Characters of an S256 challenge: base64url of 32 bytes (RFC 7636 §4.2).
const CHALLENGE_CHARS: usize = 43;

/// An authorization request in which everything is right.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The client, as it stands on the wire.
    pub client_id: String,
    /// Where the browser goes back to.
    pub redirect_uri: String,
    /// What the client gets back with it.
    pub state: Option<String>,
    /// Base64url of SHA-256 of the verifier.
    pub code_challenge: String,
    /// The key that the code is to be bound to (RFC 9449 §10).
    pub jkt: Option<Thumbprint>,
    /// For which server; `None`: for none, the person only signs in.
    pub server_id: Option<ServerId>,
    /// What it asks for; `None`: all that the person's roles give there.
    pub asked: Option<Permissions>,
    /// The server's own scopes that it named, whose words people read.
    pub scopes: Vec<String>,
    /// Whether it asks for `offline_access`.
    pub offline: bool,
    /// What it says about how the person is to be asked.
    pub prompt: Prompt,
    /// Seconds since the person last proved who it is, at most.
    pub max_age: Option<i64>,
    /// Who it probably is.
    pub login_hint: Option<String>,
    /// The person agreed, and signs in now.
    pub agreed: bool,
    /// The person wants to sign in as somebody else.
    pub other_account: bool,
    /// What the person is led to in the end.
    #[serde(default)]
    pub purpose: Purpose,
}

impl Request {
    /// Somebody wants to sign in for a page of our own, and pressed the button that says so. No client takes part.
    #[must_use]
    pub fn own_page(issuer: &str) -> Self {
        Self {
            client_id: issuer.to_owned(),
            redirect_uri: String::new(),
            state: None,
            code_challenge: String::new(),
            jkt: None,
            server_id: None,
            asked: None,
            scopes: Vec::new(),
            offline: false,
            prompt: Prompt::default(),
            max_age: None,
            login_hint: None,
            agreed: true,
            other_account: false,
            purpose: Purpose::OwnPage,
        }
    }

    /// Where the browser goes in the end, if not to a page of ours.
    #[must_use]
    pub fn leads_to(&self) -> Option<&str> {
        (self.purpose == Purpose::Client).then_some(&*self.redirect_uri)
    }
}

/// What a request leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To the client, in this browser.
    #[default]
    Client,
    /// To a device that showed this code (RFC 8628).
    Device(String),
    /// To the page that shows people what they allowed.
    OwnPage,
}

/// How the person is to be asked (OpenID Connect Core §3.1.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "four words that may stand together")]
pub struct Prompt {
    /// Not at all.
    pub none: bool,
    /// The person must prove anew who it is.
    pub login: bool,
    /// The person must agree anew.
    pub consent: bool,
    /// The person must choose who it is.
    pub select_account: bool,
}

/// Why a request is not one that can be granted: an error code of OAuth, and words for the client's developer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// RFC 6749 §4.1.2.1, RFC 8707 §2, OpenID Connect Core §3.1.2.6.
    pub error: &'static str,
    /// What is wrong.
    pub description: String,
}

impl Mistake {
    /// With this code and these words.
    #[must_use]
    pub fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self { error, description: description.into() }
    }

    /// The request is malformed.
    #[must_use]
    pub fn invalid(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }
}

/// The PKCE challenge. S256 is demanded of every client (OAuth 2.1 §4.1.1, §7.5.1): whoever does without, or with `plain`, is refused.
///
/// # Errors
///
/// It is missing, of another method, or malformed.
pub fn challenge(challenge: Option<&str>, method: Option<&str>) -> Result<String, Mistake> {
    let Some(challenge) = challenge else {
        return Err(Mistake::invalid("code_challenge is missing: PKCE is required of every client"));
    };
    // RFC 7636 §4.3: without a word the method is `plain`.
    if method != Some("S256") {
        return Err(Mistake::invalid("code_challenge_method must be S256"));
    }
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if challenge.len() != CHALLENGE_CHARS || !challenge.bytes().all(base64url) {
        return Err(Mistake::invalid("code_challenge is not the base64url form of a SHA-256 digest"));
    }
    Ok(challenge.to_owned())
}

/// The key that the code is to be bound to (RFC 9449 §10).
///
/// # Errors
///
/// It is no thumbprint.
pub fn jkt(text: Option<&str>) -> Result<Option<Thumbprint>, Mistake> {
    let read = |text| Thumbprint::parse(text).ok_or_else(|| Mistake::invalid("dpop_jkt is not a thumbprint of a key"));
    text.map(read).transpose()
}

impl Prompt {
    /// Reads the parameter. Words that are not known are ignored.
    ///
    /// # Errors
    ///
    /// `none` stands beside another.
    pub fn read(text: Option<&str>) -> Result<Self, Mistake> {
        let words: Vec<&str> = text.unwrap_or_default().split(' ').filter(|word| !word.is_empty()).collect();
        let has = |word| words.contains(&word);
        if has("none") && words.iter().any(|word| *word != "none") {
            return Err(Mistake::invalid("prompt none stands alone"));
        }
        Ok(Self {
            none: has("none"),
            login: has("login"),
            consent: has("consent"),
            select_account: has("select_account"),
        })
    }
}

/// The longest age of a sign-in, in seconds.
///
/// # Errors
///
/// It is no number of seconds.
pub fn max_age(text: Option<&str>) -> Result<Option<i64>, Mistake> {
    let Some(text) = text else { return Ok(None) };
    let digits = text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse().ok().filter(|_| digits);
    seconds.map(Some).ok_or_else(|| Mistake::invalid("max_age is not a number of seconds"))
}

/// The `state`, which must be able to come back as it is (RFC 6749, appendix A.5).
///
/// # Errors
///
/// It is too long, or holds control characters.
pub fn state(text: Option<&str>) -> Result<Option<String>, Mistake> {
    match text {
        Some(state) if state.len() > STATE_BYTES_MAX => Err(Mistake::invalid("state is longer than 4096 bytes")),
        Some(state) if state.chars().any(char::is_control) => {
            Err(Mistake::invalid("state must hold no control characters"))
        }
        state => Ok(state.map(str::to_owned)),
    }
}

/// A hint that can be passed on; anything else is none.
#[must_use]
pub fn login_hint(text: Option<&str>) -> Option<String> {
    let fits = |hint: &&str| hint.len() <= LOGIN_HINT_BYTES_MAX && !hint.chars().any(char::is_control);
    text.filter(fits).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn attack_25_only_an_s256_challenge_is_taken() {
        assert_eq!(challenge(Some(GOOD), Some("S256")), Ok(GOOD.to_owned()));
        let (short, long) = (&GOOD[1..], format!("{GOOD}A"));
        for (given, method) in [
            (None, Some("S256")),
            (None, None),
            (Some(GOOD), None),
            (Some(GOOD), Some("plain")),
            (Some(GOOD), Some("s256")),
            (Some(GOOD), Some("S512")),
            (Some(short), Some("S256")),
            (Some(long.as_str()), Some("S256")),
            (Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM"), Some("S256")),
            (Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-c="), Some("S256")),
        ] {
            assert_eq!(challenge(given, method).unwrap_err().error, "invalid_request", "{given:?} {method:?}");
        }
    }

    #[test]
    fn prompts_are_read_word_by_word_and_none_stands_alone() {
        let both = Prompt { login: true, consent: true, ..Prompt::default() };
        assert_eq!(Prompt::read(Some("login consent")), Ok(both));
        assert_eq!(Prompt::read(Some("unheard_of")), Ok(Prompt::default()));
        assert_eq!(Prompt::read(None), Ok(Prompt::default()));
        assert!(Prompt::read(Some("none")).unwrap().none);
        assert!(Prompt::read(Some("none login")).is_err() && Prompt::read(Some("none x")).is_err());
    }

    #[test]
    fn ages_and_states_have_bounds() {
        assert_eq!(max_age(Some("0")), Ok(Some(0)));
        for wrong in ["-1", "+1", "1.5", "99999999999", "x"] {
            assert!(max_age(Some(wrong)).is_err(), "{wrong}");
        }
        assert!(state(Some("a\0")).is_err() && state(Some(&"a".repeat(STATE_BYTES_MAX + 1))).is_err());
        assert_eq!(state(Some("{\"a\": 1}")), Ok(Some("{\"a\": 1}".to_owned())));
        assert_eq!(login_hint(Some("a\nb")), None);
    }
}
