//! A form body (RFC 6749 §3.2): unknown parameters are ignored, doubled ones refused, empty ones count as left out.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::{HeaderMap, StatusCode, header};

use crate::app::App;
use crate::http::extract::BODY_BYTES_MAX;
use crate::http::oauth::error::{OAuthError, unreadable};

/// Parameters of a form at most.
const PARAMETERS_MAX: usize = 64;
/// The one parameter that may stand more than once (RFC 8707 §2).
const REPEATED: &str = "resource";
const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// A request whose body was read whole.
pub struct Received {
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its extensions.
    pub(super) extensions: http::Extensions,
    body: Bytes,
}

impl FromRequest<Arc<App>> for Received {
    type Rejection = OAuthError;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, OAuthError> {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|error| {
            let cause = std::error::Error::source(&error);
            let too_large = cause.is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
            let status = if too_large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
            unreadable(status, "the body is too large, or did not arrive whole")
        })?;
        let received = Self { headers: parts.headers, extensions: parts.extensions, body };
        if received.body.is_empty() || received.is_form() {
            return Ok(received);
        }
        Err(unreadable(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/x-www-form-urlencoded"))
    }
}

impl Received {
    fn is_form(&self) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(MEDIA_TYPE)
    }

    /// Its parameters. They borrow the body: most have nothing in them that would have to be decoded.
    ///
    /// # Errors
    ///
    /// There are more than 64.
    pub(super) fn form(&self) -> Result<Form<'_>, OAuthError> {
        let mut parameters: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(8);
        let mut doubled = false;
        for (name, value) in url::form_urlencoded::parse(&self.body) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(OAuthError::invalid_request("too many parameters"));
            }
            doubled |= name != REPEATED && parameters.iter().any(|(known, _)| *known == name);
            parameters.push((name, value));
        }
        Ok(Form { parameters, doubled, headers: &self.headers, extensions: &self.extensions })
    }
}

/// The parameters, with the headers of the request they came in.
pub(super) struct Form<'a> {
    parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    doubled: bool,
    /// The request's headers.
    pub(super) headers: &'a HeaderMap,
    /// The request's extensions.
    pub(super) extensions: &'a http::Extensions,
}

impl<'a> Form<'a> {
    /// A request without a body: only what its headers say.
    pub(super) const fn bare(headers: &'a HeaderMap, extensions: &'a http::Extensions) -> Self {
        Self { parameters: Vec::new(), doubled: false, headers, extensions }
    }

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
            .map(|(_, value)| value.as_ref())
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
            .map(|(_, value)| value.clone().into_owned())
            .collect()
    }
}
