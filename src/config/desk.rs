//! What the command line is told by the environment: which service it speaks to, as whom, and how it prints.

use std::path::Path;

use url::Url;
use zeroize::Zeroizing;

use crate::types::redacted::Secret;

use super::{Mistakes, environment, read_bounded};

/// The command line's own settings. The service leaves them alone.
#[derive(Debug)]
pub struct Desk {
    /// `MCPA_URL`: where the service is, without a path. Over TLS, or on this machine.
    pub url: Option<Url>,
    /// `MCPA_OPERATOR_KEY`, or what is in `MCPA_OPERATOR_KEY_FILE`.
    pub operator_key: Option<Secret<String>>,
    /// `MCPA_OUTPUT`.
    pub output: Option<String>,
}

/// A setting that cannot be used. It says nothing of a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DeskError(String);

impl Desk {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// An address that is none or would send the key in the clear, or a file that cannot be read.
    pub fn load() -> Result<Self, DeskError> {
        let mut mistakes = Mistakes::default();
        let variables = environment(&mut mistakes);
        let find = |wanted: &str| variables.iter().find(|(name, _)| name == wanted).map(|(_, text)| text.as_str());
        let url = find("MCPA_URL").map(address).transpose()?;
        let operator_key = match (find("MCPA_OPERATOR_KEY"), find("MCPA_OPERATOR_KEY_FILE")) {
            (Some(_), Some(_)) => {
                return Err(DeskError("MCPA_OPERATOR_KEY and MCPA_OPERATOR_KEY_FILE are both set".to_owned()));
            }
            (Some(key), None) => Some(Secret::new(key.trim().to_owned())),
            (None, Some(path)) => {
                let text = read_bounded(Path::new(path)).map(Zeroizing::new);
                let text =
                    text.map_err(|error| DeskError(format!("MCPA_OPERATOR_KEY_FILE cannot be read: {error}")))?;
                Some(Secret::new(text.trim().to_owned()))
            }
            (None, None) => None,
        };
        Ok(Self { url, operator_key, output: find("MCPA_OUTPUT").map(str::to_owned) })
    }
}

fn address(text: &str) -> Result<Url, DeskError> {
    let wrong = || DeskError("MCPA_URL is the service's address, such as https://authority.example.com".to_owned());
    let url = Url::parse(text).map_err(|_| wrong())?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    if !bare || !anonymous || !matches!(url.scheme(), "http" | "https") {
        return Err(wrong());
    }
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if url.scheme() == "http" && !local {
        return Err(DeskError(
            "MCPA_URL: over http a key could be read on the way; only this machine may be asked so".to_owned(),
        ));
    }
    Ok(url)
}
