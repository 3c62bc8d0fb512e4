//! A form body (RFC 6749 §3.2): unknown parameters are ignored, doubled ones refused, empty ones count as left out.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::{HeaderMap, StatusCode, header};

use crate::app::App;
use crate::http::oauth::error::{OAuthError, unreadable};

/// Parameters of a form at most.
const PARAMETERS_MAX: usize = 64;
/// The one parameter that may stand more than once (RFC 8707 §2).
const REPEATED: &str = "resource";

/// The parameters, with the headers of the request they came in.
pub struct Form {
    parameters: Vec<(String, String)>,
    doubled: bool,
    /// The request's headers.
    pub(super) headers: HeaderMap,
    /// The request's extensions.
    pub(super) extensions: http::Extensions,
}

impl FromRequest<Arc<App>> for Form {
    type Rejection = OAuthError;

    async fn from_request(request: Request, state: &Arc<App>) -> Result<Self, OAuthError> {
        let (headers, extensions) = (request.headers().clone(), request.extensions().clone());
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let form = kind == "application/x-www-form-urlencoded";
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| unreadable(rejection.status(), "the body is too large, or did not arrive whole"))?;
        if !form && !bytes.is_empty() {
            return Err(unreadable(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be application/x-www-form-urlencoded",
            ));
        }
        let parameters: Vec<(String, String)> = url::form_urlencoded::parse(&bytes)
            .take(PARAMETERS_MAX + 1)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        if parameters.len() > PARAMETERS_MAX {
            return Err(OAuthError::invalid_request("too many parameters"));
        }
        let mut names: Vec<&str> =
            parameters.iter().map(|(name, _)| name.as_str()).filter(|name| *name != REPEATED).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        let doubled = names.len() < count;
        Ok(Self { parameters, doubled, headers, extensions })
    }
}

impl Form {
    /// The parameters, once the caller is known: only then is it told what is wrong with them.
    ///
    /// # Errors
    ///
    /// A parameter stands twice (RFC 6749 §3.2).
    pub(super) fn checked(&self) -> Result<(), OAuthError> {
        if self.doubled { Err(OAuthError::invalid_request("a parameter stands more than once")) } else { Ok(()) }
    }

    /// A parameter that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// A parameter that must be there.
    pub(super) fn need(&self, name: &str) -> Result<&str, OAuthError> {
        self.get(name).ok_or_else(|| OAuthError::invalid_request(format!("{name} is missing")))
    }

    /// All values of a parameter that may stand more than once.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.parameters
            .iter()
            .filter(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.clone())
            .collect()
    }
}
