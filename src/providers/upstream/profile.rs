//! What is asked with an access token: whose it is, and in which groups.

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use url::Url;

use crate::outbound::Outbound;
use crate::providers::error::UpstreamError;
use crate::types::redacted::Secret;

/// Bytes of what is said of a person; groups are among it.
pub(super) const USERINFO_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a list of groups. GitHub's have some three thousand for each.
pub(super) const GROUPS_BYTES_MAX: usize = 1024 * 1024;

/// Why nothing was told.
pub(super) enum NotTold {
    /// The token is void (RFC 6750 §3.1).
    Unauthorized,
    /// Anything else.
    Failed(UpstreamError),
}

/// Asks with the token.
pub(super) async fn ask(
    outbound: &Outbound,
    url: &Url,
    access_token: &Secret<String>,
    bytes_max: usize,
) -> Result<Value, NotTold> {
    let failed = |word| NotTold::Failed(UpstreamError::Untrusted(word));
    let mut bearer =
        HeaderValue::try_from(format!("Bearer {}", access_token.reveal())).map_err(|_| failed("access_token"))?;
    bearer.set_sensitive(true);
    let request = http::Request::builder()
        .method(Method::GET)
        .uri(url.as_str())
        .header(header::ACCEPT, "application/json")
        .header(header::AUTHORIZATION, bearer)
        .body(Vec::new())
        .map_err(|_| failed("access_token"))?;
    let response = outbound.send(request, bytes_max).await.map_err(|error| NotTold::Failed(error.into()))?;
    match response.status() {
        StatusCode::OK => serde_json::from_slice(response.body()).map_err(|_| failed("userinfo_invalid")),
        StatusCode::UNAUTHORIZED => Err(NotTold::Unauthorized),
        _ => Err(NotTold::Failed(UpstreamError::Misconfigured("userinfo_refused"))),
    }
}
