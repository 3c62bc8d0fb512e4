//! OAuth Client ID Metadata Documents: a client whose id is the https address of its own description.
//!
//! draft-ietf-oauth-client-id-metadata-document-01, with what MCP 2026-07-28 asks beyond it (a name, redirect URIs).

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use url::Url;

use crate::outbound::{Documents, Failure, Outbound, Shape};
use crate::types::clock::BootInstant;

use super::metadata::{ClientMetadata, Mistake, Source};

/// Bytes of a client id that is an address at most.
pub const CLIENT_URL_BYTES_MAX: usize = 512;
/// Bytes of a document at most: the draft's own number (§6.6).
pub const DOCUMENT_BYTES_MAX: usize = 5 * 1024;
/// Documents kept at most; together some ten mebibytes.
const DOCUMENTS_MAX: usize = 2_048;

/// Why an address is no client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotClientUrl {
    /// Longer than [`CLIENT_URL_BYTES_MAX`].
    #[error("at most {CLIENT_URL_BYTES_MAX} bytes")]
    TooLong,
    /// Another scheme, or no address at all.
    #[error("an https address is needed")]
    NotHttps,
    /// §3 forbids a fragment, a user name and a password.
    #[error("no fragment, user name or password")]
    Extra,
    /// §3 asks for a path and forbids dot segments; capitals in the host, the port 443 and the like have a plain form.
    #[error("the address must have a path and be written in its plain form, without dot segments")]
    NotPlain,
}

/// The id of a client that is described by a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientUrl(Url);

impl ClientUrl {
    /// Whether a client id is meant to be an address. Ids that we make never begin so.
    #[must_use]
    pub fn is_meant(client_id: &str) -> bool {
        client_id.starts_with("https://")
    }

    /// Reads a client id.
    ///
    /// # Errors
    ///
    /// It breaks a rule of the draft's §3. A query is discouraged there, not forbidden.
    pub fn parse(client_id: &str) -> Result<Self, NotClientUrl> {
        if client_id.len() > CLIENT_URL_BYTES_MAX {
            return Err(NotClientUrl::TooLong);
        }
        let url = Url::parse(client_id).ok().filter(|url| url.scheme() == "https").ok_or(NotClientUrl::NotHttps)?;
        let authority = client_id.split(['/', '\\', '?']).find(|part| !part.is_empty() && *part != "https:");
        let names_user = authority.is_some_and(|authority| authority.contains('@'));
        if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() || names_user {
            return Err(NotClientUrl::Extra);
        }
        // Parsing resolves dot segments, also those written with %2e, decodes numeric hosts, drops tabs, turns `\` into
        // `/` and adds a missing path. An id that it would change has two spellings, and ids are compared as texts.
        if url.as_str() == client_id { Ok(Self(url)) } else { Err(NotClientUrl::NotPlain) }
    }

    /// The client id, as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The host, which is what people are shown: the one part that nobody else can claim.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

impl fmt::Display for ClientUrl {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.as_str())
    }
}

/// The documents that this node has fetched.
pub struct ClientDocuments(Documents<ClientMetadata, Mistake>);

impl ClientDocuments {
    /// None is there yet.
    #[must_use]
    pub fn new(outbound: Outbound) -> Self {
        let shape = Shape { bytes_max: DOCUMENT_BYTES_MAX, count_max: DOCUMENTS_MAX, read };
        Self(Documents::new(outbound, shape))
    }

    /// Whether what the client says is known without asking it.
    #[must_use]
    pub fn is_known(&self, client: &ClientUrl, now: BootInstant) -> bool {
        self.0.is_known(&client.0, now)
    }

    /// What the client says about itself, fetched or from before.
    ///
    /// # Errors
    ///
    /// The document cannot be had or breaks a rule.
    pub async fn get(&self, client: &ClientUrl, now: BootInstant) -> Result<Arc<ClientMetadata>, Failure<Mistake>> {
        let found = self.0.get(&client.0, now).await;
        if let Err(failure) = &found {
            tracing::debug!(client = %client, %failure, "a client's metadata document cannot be used");
        }
        found
    }
}

/// Reads a document that was fetched from `url` (§4.1).
pub(super) fn read(url: &Url, bytes: &[u8]) -> Result<ClientMetadata, Mistake> {
    let members: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|_| Mistake::new("document", "is no JSON object"))?;
    // Simple string comparison (RFC 3986 §6.2.1): whoever can put a file somewhere cannot speak for another address.
    if members.get("client_id").and_then(Value::as_str) != Some(url.as_str()) {
        return Err(Mistake::new("client_id", "must be the address of the document"));
    }
    if members.keys().any(|name| name.starts_with("client_secret")) {
        return Err(Mistake::new("client_secret", "must not stand in a document that everybody can read"));
    }
    ClientMetadata::read(members, Source::Document)
}
