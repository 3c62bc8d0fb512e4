//! Why a request did not succeed: one stable word each, and never anything that the other side sent.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// Why there is no reply that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The host is, or leads only to, an address that is not of the public Internet; or the URL names a user.
    AddressRefused,
    /// The URL is not https.
    NotHttps,
    /// The reply leads elsewhere. It is never followed.
    Redirected,
    /// The reply has this status instead of 200.
    Status(u16),
    /// The body is larger than was allowed.
    TooLarge,
    /// It was not done in time.
    Timeout,
    /// No name, no route, no connection, or it broke, or what came is not HTTP.
    Unreachable,
    /// The other side could not show that it is the host, or no TLS was agreed on.
    Tls,
    /// The reply is not declared as JSON, is encoded, or is no JSON.
    NotJson,
    /// Too many requests are under way from here; nothing was sent.
    Busy,
}

impl Error {
    /// Its word in logs, traces and replies; it never changes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddressRefused => "address_refused",
            Self::NotHttps => "not_https",
            Self::Redirected => "redirected",
            Self::Status(_) => "status",
            Self::TooLarge => "too_large",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::NotJson => "not_json",
            Self::Busy => "busy",
        }
    }

    /// Whether it says only that the other side could not be heard now. All else is its answer, and counts.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        match self {
            Self::Timeout | Self::Unreachable | Self::Tls | Self::Busy => true,
            Self::Status(status) => status >= 500 || status == 429,
            Self::AddressRefused | Self::NotHttps | Self::Redirected | Self::TooLarge | Self::NotJson => false,
        }
    }

    /// What went wrong below, told apart by the causes that it carries.
    pub(super) fn of(error: &reqwest::Error) -> Self {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(this) = cause {
            if this.is::<NoPublicAddress>() {
                return Self::AddressRefused;
            }
            if this.is::<NoPlace>() {
                return Self::Busy;
            }
            if this.is::<rustls::Error>() {
                return Self::Tls;
            }
            // An I/O error names the cause of what it wraps, not what it wraps.
            cause = match this.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(wrapped) => Some(wrapped),
                None => this.source(),
            };
        }
        if error.is_timeout() { Self::Timeout } else { Self::Unreachable }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(to, "status {status}"),
            other => to.write_str(other.as_str()),
        }
    }
}

impl StdError for Error {}

/// Every address of a name was refused.
#[derive(Debug)]
pub(super) struct NoPublicAddress;

impl fmt::Display for NoPublicAddress {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("no address that may be connected to")
    }
}

impl StdError for NoPublicAddress {}

/// Too many names are being looked up. A look-up lasts as long as the system's resolver takes, whoever has given up on it.
#[derive(Debug)]
pub(super) struct NoPlace;

impl fmt::Display for NoPlace {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("too many names are being looked up")
    }
}

impl StdError for NoPlace {}
