//! A form body (RFC 6749 §3.2): unknown parameters are ignored, doubled ones refused, empty ones count as left out.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;

use crate::app::App;
use crate::http::caller::Origin;
use crate::http::extract::BODY_BYTES_MAX;
use crate::http::oauth::error::{OAuthError, unreadable};

/// Parameters of a form at most.
const PARAMETERS_MAX: usize = 64;
/// Room that is made for parameters at first: few forms have more.
const PARAMETERS_USUAL: usize = 8;
/// The one parameter that may stand more than once (RFC 8707 §2).
const REPEATED: &str = "resource";
const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// A request whose body was read whole.
pub struct Received {
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Where it comes from.
    pub(super) origin: Origin,
    body: Bytes,
}

impl FromRequest<Arc<App>> for Received {
    type Rejection = OAuthError;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, OAuthError> {
        let (parts, body) = request.into_parts();
        Self::read(parts.headers, Origin::of(&parts.extensions), body).await
    }
}

impl Received {
    /// Reads the body of a request with these headers.
    ///
    /// # Errors
    ///
    /// It is too large, does not arrive whole, or is no form.
    pub(in crate::http) async fn read(
        headers: HeaderMap,
        origin: Origin,
        body: impl HttpBody<Data = Bytes> + Unpin,
    ) -> Result<Self, OAuthError> {
        let body =
            whole(body).await.map_err(|status| unreadable(status, "the body is too large, or did not arrive whole"))?;
        let received = Self { headers, origin, body };
        if received.body.is_empty() || received.is_form() {
            return Ok(received);
        }
        Err(unreadable(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/x-www-form-urlencoded"))
    }

    /// A request that says everything in its query.
    pub(super) fn asked(headers: HeaderMap, origin: Origin, query: &str) -> Self {
        Self { headers, origin, body: Bytes::copy_from_slice(query.as_bytes()) }
    }

    /// Bytes of what it says.
    pub(super) const fn len(&self) -> usize {
        self.body.len()
    }

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
        // Tokens need no encoding, and are long: what nobody encoded need not be looked at byte by byte.
        let encoded = self.body.contains(&b'%') || self.body.contains(&b'+');
        let plain = if encoded { None } else { std::str::from_utf8(&self.body).ok() };
        let (parameters, doubled) = match plain {
            Some(plain) => parameters(as_they_stand(plain))?,
            None => parameters(url::form_urlencoded::parse(&self.body))?,
        };
        Ok(Form { parameters, doubled, headers: &self.headers, origin: self.origin })
    }
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// All of them, and whether one stands twice.
fn parameters<'a>(pairs: impl Iterator<Item = Pair<'a>>) -> Result<(Vec<Pair<'a>>, bool), OAuthError> {
    let mut parameters: Vec<Pair<'a>> = Vec::with_capacity(PARAMETERS_USUAL);
    let mut doubled = false;
    for (name, value) in pairs {
        if parameters.len() == PARAMETERS_MAX {
            return Err(OAuthError::invalid_request("too many parameters"));
        }
        doubled |= name != REPEATED && parameters.iter().any(|(known, _)| *known == name);
        parameters.push((name, value));
    }
    Ok((parameters, doubled))
}

/// The pairs of a form in which nothing is encoded.
fn as_they_stand(form: &str) -> impl Iterator<Item = Pair<'_>> {
    form.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.into(), value.into())
    })
}

/// A body of at most [`BODY_BYTES_MAX`]; else the status that says what is wrong with it. One that comes in one piece, as
/// most do, stays where it is.
async fn whole(mut body: impl HttpBody<Data = Bytes> + Unpin) -> Result<Bytes, StatusCode> {
    let mut first = Bytes::new();
    let mut more = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| StatusCode::BAD_REQUEST)?.into_data() else { continue };
        if first.len() + more.len() + data.len() > BODY_BYTES_MAX {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        if first.is_empty() {
            first = data;
        } else {
            more.extend_from_slice(&data);
        }
    }
    Ok(if more.is_empty() { first } else { [&*first, &*more].concat().into() })
}

/// The parameters, with the headers of the request they came in.
pub(super) struct Form<'a> {
    parameters: Vec<Pair<'a>>,
    doubled: bool,
    /// The request's headers.
    pub(super) headers: &'a HeaderMap,
    /// Where the request comes from.
    pub(super) origin: Origin,
}

impl<'a> Form<'a> {
    /// A request without a body: only what its headers say.
    pub(super) const fn bare(headers: &'a HeaderMap, origin: Origin) -> Self {
        Self { parameters: Vec::new(), doubled: false, headers, origin }
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

    /// Whether a parameter stands more than once.
    pub(super) fn is_doubled(&self, name: &str) -> bool {
        self.parameters.iter().filter(|(known, _)| known == name).nth(1).is_some()
    }

    /// All parameters, as they came.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
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

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_nobody_encoded_is_read_as_the_encoded_is(form in "[a-z&=.é ]{0,40}") {
            let slowly: Vec<_> = url::form_urlencoded::parse(form.as_bytes()).collect();
            prop_assert_eq!(as_they_stand(&form).collect::<Vec<_>>(), slowly);
        }
    }

    async fn read(pieces: &[&[u8]]) -> Result<Bytes, StatusCode> {
        let frames = pieces.iter().map(|piece| Ok::<_, BodyLost>(Frame::data(Bytes::copy_from_slice(piece))));
        whole(StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>()))).await
    }

    #[derive(Debug)]
    struct BodyLost;

    #[tokio::test]
    async fn a_body_in_pieces_is_put_together_and_bounded_as_a_whole() {
        assert_eq!(read(&[]).await.unwrap(), "");
        assert_eq!(read(&[b"token=a"]).await.unwrap(), "token=a");
        assert_eq!(read(&[b"to", b"", b"ken", b"=a"]).await.unwrap(), "token=a");
        let half = vec![b'a'; BODY_BYTES_MAX / 2];
        assert_eq!(read(&[&half, &half]).await.unwrap().len(), BODY_BYTES_MAX);
        assert_eq!(read(&[&half, &half, b"a"]).await.unwrap_err(), StatusCode::PAYLOAD_TOO_LARGE);
        let lost: [Result<Frame<Bytes>, BodyLost>; 2] = [Ok(Frame::data("to".into())), Err(BodyLost)];
        let lost = whole(StreamBody::new(futures_util::stream::iter(lost))).await;
        assert_eq!(lost.unwrap_err(), StatusCode::BAD_REQUEST);
    }
}
