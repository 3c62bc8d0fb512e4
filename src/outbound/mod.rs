//! The one HTTP client for addresses that others name: client metadata documents, key sets, identity providers.
//!
//! Whoever names a URL chooses where this service connects to. So a request goes to the public Internet only, over TLS,
//! to an address that was checked; it follows nothing, sends nothing but the question, and takes a bounded time and
//! number of bytes. docs/decisions/0018-one-guarded-client.md says why, and what this does not cover. For identity
//! providers, which operators name, the settings may add networks (0019-providers-by-two-crates.md).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use ipnet::IpNet;
use reqwest::dns::Resolve;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::{Host, Url};

use crate::config::OutboundSettings;

mod address;
mod documents;
mod error;
mod keep;
mod places;
mod resolve;

pub use documents::{Documents, FAILED_FOR, Failure, RENEWED_AFTER, Shape};
pub use error::Error;
pub use keep::{FRESH_MAX, FRESH_MIN, FRESH_UNSAID, Keep, STALE_MAX};
use places::Places;
use resolve::{Allowed, Guard, System};

/// Who asks, for the logs of those who are asked.
const USER_AGENT: &str = concat!("mcp-authority/", env!("CARGO_PKG_VERSION"));

/// How long a body that nobody looks at is still read, and how much of it.
const BODY_IGNORED_FOR: Duration = Duration::from_secs(1);
const IGNORED_BYTES_MAX: usize = 16 * 1024;

/// How long and how much. The defaults are the service's.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until a connection stands, the name and TLS included.
    pub connect: Duration,
    /// Until the last byte of the body, from the moment at which a place was free.
    pub total: Duration,
    /// For a place to become free.
    pub wait: Duration,
    /// Requests under way in this process.
    pub at_once: usize,
    /// Requests under way to one host.
    pub at_once_per_host: usize,
    /// Requests under way or waiting; one more is refused at once.
    pub crowd: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            total: Duration::from_secs(5),
            wait: Duration::from_secs(2),
            at_once: 32,
            at_once_per_host: 4,
            crowd: 256,
        }
    }
}

/// The client. Clones share it and its limits.
#[derive(Clone)]
pub struct Outbound(Arc<Inner>);

struct Inner {
    client: Client,
    guard: Arc<Guard>,
    limits: Limits,
    everywhere: Semaphore,
    hosts: Places,
}

/// A reply with status 200 that says it is JSON.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The body, unread.
    pub bytes: Bytes,
    /// For how long it is good.
    pub keep: Keep,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// The file went away since the settings were read.
    #[error("MCPA_OUTBOUND_CA: {0}")]
    Ca(#[from] std::io::Error),
    /// It holds no certificate, or one that cannot be used.
    #[error("MCPA_OUTBOUND_CA: no PEM certificate that can be trusted")]
    NoCertificate,
    /// The TLS library refuses.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

impl Outbound {
    /// A client with the system's resolver. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// The extra certificate cannot be read or used.
    pub fn new(settings: &OutboundSettings, limits: Limits) -> Result<Self, NoClient> {
        Self::with_names(settings, limits, Arc::new(System::default()))
    }

    /// A client for what operators name, who may name machines in these networks too; and on this machine, where the settings
    /// allow that at all, what does not speak TLS.
    ///
    /// # Errors
    ///
    /// As [`Outbound::new`].
    pub fn within(settings: &OutboundSettings, networks: &[IpNet], limits: Limits) -> Result<Self, NoClient> {
        let allowed = Allowed { loopback: settings.loopback, plain: settings.loopback, networks: networks.into() };
        Self::build(settings, allowed, limits, Arc::new(System::default()))
    }

    /// As [`Outbound::new`], with another way from names to addresses. What it finds is checked as the system's answers are.
    ///
    /// # Errors
    ///
    /// As [`Outbound::new`].
    pub fn with_names(settings: &OutboundSettings, limits: Limits, names: Arc<dyn Resolve>) -> Result<Self, NoClient> {
        let allowed = Allowed { loopback: settings.loopback, ..Allowed::default() };
        Self::build(settings, allowed, limits, names)
    }

    fn build(
        settings: &OutboundSettings,
        allowed: Allowed,
        limits: Limits,
        names: Arc<dyn Resolve>,
    ) -> Result<Self, NoClient> {
        let guard = Arc::new(Guard { names, allowed });
        let extra = extra_roots(settings)?;
        // A machine without any certificates trusts none but the extra ones: every request then fails, the service runs.
        let client = match builder(&guard, limits).tls_certs_merge(extra.clone()).build() {
            Ok(client) => client,
            Err(error) => {
                let client = builder(&guard, limits).tls_certs_only(extra).build()?;
                tracing::warn!(%error, "no trusted certificates of this machine: addresses that clients name cannot be asked");
                client
            }
        };
        let (everywhere, hosts) = (Semaphore::new(limits.at_once), Places::new(limits.at_once_per_host, limits.crowd));
        Ok(Self(Arc::new(Inner { client, guard, limits, everywhere, hosts })))
    }

    /// Asks for a JSON document of at most `bytes_max` bytes.
    ///
    /// # Errors
    ///
    /// Anything but a whole reply with status 200 and a JSON type, from an address that may be connected to, in time.
    pub async fn get_json(&self, url: &Url, bytes_max: usize) -> Result<Reply, Error> {
        let request = self.0.client.get(url.clone()).header(header::ACCEPT, "application/json");
        self.within_limits(url, self.fetch(request, bytes_max)).await
    }

    /// Sends a request to an identity provider. Answers that it is to blame for are answers too: what refuses a grant has
    /// status 400 and says why. The body of an answer that is not 200 is empty unless it is JSON.
    ///
    /// # Errors
    ///
    /// Anything but a whole reply with status 200 and a JSON type, or with a status from 400 to 499 other than 429, from an
    /// address that may be connected to, in time.
    pub async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        bytes_max: usize,
    ) -> Result<http::Response<Vec<u8>>, Error> {
        let url = Url::parse(&request.uri().to_string()).map_err(|_| Error::AddressRefused)?;
        let request = reqwest::Request::try_from(request).map_err(|_| Error::AddressRefused)?;
        let request = reqwest::RequestBuilder::from_parts(self.0.client.clone(), request);
        self.within_limits(&url, async {
            let response = request.send().await.map_err(|error| Error::of(&error))?;
            let (status, json) = (response.status(), is_json(response.headers()));
            if !(status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS) {
                check(&response)?;
            }
            let bytes = if json { read(response, bytes_max).await? } else { Bytes::new() };
            let mut answer = http::Response::new(Vec::from(bytes));
            *answer.status_mut() = status;
            Ok(answer)
        })
        .await
    }

    /// Sends a request, and gives the status of the answer. Its body is not looked at.
    ///
    /// # Errors
    ///
    /// Anything but an answer that leads nowhere else, from an address that may be connected to, in time.
    pub async fn post(&self, request: http::Request<Vec<u8>>) -> Result<u16, Error> {
        let url = Url::parse(&request.uri().to_string()).map_err(|_| Error::AddressRefused)?;
        let request = reqwest::Request::try_from(request).map_err(|_| Error::AddressRefused)?;
        let request = reqwest::RequestBuilder::from_parts(self.0.client.clone(), request);
        self.within_limits(&url, async {
            let response = request.send().await.map_err(|error| Error::of(&error))?;
            let status = response.status();
            if status.is_redirection() {
                return Err(Error::Redirected);
            }
            // Who is cut off while he speaks may take that for a failure. What he says for longer than this is not heard.
            let _ = timeout(BODY_IGNORED_FOR, read(response, IGNORED_BYTES_MAX)).await;
            Ok(status.as_u16())
        })
        .await
    }

    /// Whether an address may be connected to, as far as that is known before it is: its name is looked up.
    ///
    /// # Errors
    ///
    /// [`Error::NotHttps`] and [`Error::AddressRefused`] for what never will be; others say only that it cannot be told now.
    pub async fn check(&self, url: &Url) -> Result<(), Error> {
        let Inner { guard, limits, .. } = &*self.0;
        let host = self.host(url)?;
        let Ok(name) = host.parse() else { return Err(Error::AddressRefused) };
        if !matches!(url.host(), Some(Host::Domain(_))) {
            return Ok(());
        }
        match timeout(limits.connect, guard.resolve(name)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.is::<error::NoPublicAddress>() => Err(Error::AddressRefused),
            _ => Err(Error::Unreachable),
        }
    }

    /// The host of an address that may be asked for, as far as it says itself.
    fn host(&self, url: &Url) -> Result<String, Error> {
        let allowed = &self.0.guard.allowed;
        if url.scheme() != "https" && !(allowed.plain && is_of_this_machine(url)) {
            return Err(Error::NotHttps);
        }
        let host = url.host().filter(|host| allowed.host(host)).ok_or(Error::AddressRefused)?.to_string();
        // A user name or password would be sent on as a credential.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::AddressRefused);
        }
        Ok(host)
    }

    /// Waits for a place, then does it, and gives it up when it takes too long.
    async fn within_limits<T>(&self, url: &Url, asking: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let Inner { limits, everywhere, hosts, .. } = &*self.0;
        let host = self.host(url)?;
        // The host's place first: a slow host keeps no place from the others.
        let places = async { Some((hosts.take(&host).await?, everywhere.acquire().await.ok()?)) };
        let _places = timeout(limits.wait, places).await.ok().flatten().ok_or(Error::Busy)?;
        // The connection is dropped with the request: a server that drips its reply gains nothing.
        timeout(limits.total, asking).await.unwrap_or(Err(Error::Timeout))
    }

    async fn fetch(&self, request: reqwest::RequestBuilder, bytes_max: usize) -> Result<Reply, Error> {
        let response = request.send().await.map_err(|error| Error::of(&error))?;
        check(&response)?;
        let keep = Keep::of(response.headers());
        Ok(Reply { bytes: read(response, bytes_max).await?, keep })
    }
}

/// The body, as far as it is not too large.
async fn read(mut response: Response, bytes_max: usize) -> Result<Bytes, Error> {
    let declared = response.content_length().unwrap_or_default();
    if usize::try_from(declared).map_or(true, |declared| declared > bytes_max) {
        return Err(Error::TooLarge);
    }
    let mut bytes = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(|error| Error::of(&error))? {
        if piece.len() > bytes_max - bytes.len() {
            return Err(Error::TooLarge);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// Whether the URL names this machine itself, by a loopback address or the one name that never means another (RFC 6761 §6.3).
#[must_use]
pub fn is_of_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// No body is read before its head is good.
fn check(response: &Response) -> Result<(), Error> {
    let status = response.status();
    if status.is_redirection() {
        return Err(Error::Redirected);
    }
    if status != StatusCode::OK {
        return Err(Error::Status(status.as_u16()));
    }
    if is_json(response.headers()) { Ok(()) } else { Err(Error::NotJson) }
}

/// `application/json` or `application/…+json`, and not encoded: nothing is unpacked here, so nothing can grow.
fn is_json(headers: &HeaderMap) -> bool {
    let encoded = headers.get_all(header::CONTENT_ENCODING).iter().any(|encoding| encoding != "identity");
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/").unwrap_or_default();
    let suffixed = subtype.strip_suffix("+json").is_some_and(|kind| !kind.is_empty());
    !encoded && (subtype == "json" || suffixed)
}

fn extra_roots(settings: &OutboundSettings) -> Result<Vec<reqwest::Certificate>, NoClient> {
    let Some(path) = &settings.ca else { return Ok(Vec::new()) };
    let roots = reqwest::Certificate::from_pem_bundle(&std::fs::read(path)?).map_err(|_| NoClient::NoCertificate)?;
    if roots.is_empty() { Err(NoClient::NoCertificate) } else { Ok(roots) }
}

/// Each request has a connection of its own, which was checked for it and is used for nothing else.
fn builder(guard: &Arc<Guard>, limits: Limits) -> ClientBuilder {
    Client::builder()
        .user_agent(USER_AGENT)
        .https_only(!guard.allowed.plain)
        .http1_only()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .pool_max_idle_per_host(0)
        .connect_timeout(limits.connect)
        .dns_resolver(Arc::clone(guard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_that_is_not_encoded_is_json() {
        let of = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, http::HeaderValue::from_static(value));
            }
            is_json(&headers)
        };
        for good in
            ["application/json", "Application/JSON; charset=utf-8", "application/jwk-set+json", "application/x.y+json"]
        {
            assert!(of(&[("content-type", good)]), "{good}");
            assert!(of(&[("content-type", good), ("content-encoding", "identity")]), "{good}");
            for encoding in ["gzip", "br", "identity, gzip", ""] {
                assert!(!of(&[("content-type", good), ("content-encoding", encoding)]), "{good} {encoding}");
            }
        }
        for bad in
            ["", "text/html", "text/json", "application/+json", "application/jsonp", "application/json5", "json", "*/*"]
        {
            assert!(!of(&[("content-type", bad)]), "{bad}");
        }
        assert!(!of(&[]));
    }
}
