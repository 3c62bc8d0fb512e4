//! Why a sign-in at a provider, or a check there, did not succeed: one stable word each, and never what the provider sent.

use std::fmt;

use crate::outbound;

/// Why a sign-in did not succeed. [`UpstreamError::as_str`] is what a flow's trace and a log show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamError {
    /// The provider could not be heard, or said that it is not well: trying again may help.
    Away(outbound::Error),
    /// The provider said no: the person declined, or may not.
    Denied(&'static str),
    /// What the provider, or somebody in its place, sent cannot be trusted.
    Untrusted(&'static str),
    /// The provider does not know us, or our record of it is wrong: an operator must look.
    Misconfigured(&'static str),
}

impl UpstreamError {
    /// Its word; it never changes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Away(error) => error.as_str(),
            Self::Denied(word) | Self::Untrusted(word) | Self::Misconfigured(word) => word,
        }
    }

    /// Whether trying again later may help.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Away(_))
    }
}

impl From<outbound::Error> for UpstreamError {
    fn from(error: outbound::Error) -> Self {
        if error.is_passing() { Self::Away(error) } else { Self::Misconfigured(error.as_str()) }
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Away(_) => "the identity provider cannot be reached",
            Self::Denied(_) => "the identity provider said no",
            Self::Untrusted(_) => "the identity provider's answer cannot be trusted",
            Self::Misconfigured(_) => "the identity provider is not set up rightly",
        };
        write!(to, "{what} ({})", self.as_str())
    }
}

impl std::error::Error for UpstreamError {}

/// What asking again whether a person may still be here gave, when it was no yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckError {
    /// A definite no: the provider ended what it had given. Nothing of the person's lives on.
    Gone,
    /// Nothing was learned: what was known before counts on, for a bounded time.
    Unreachable,
}

impl fmt::Display for CheckError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Gone => "the identity provider ended the person's tokens",
            Self::Unreachable => "the identity provider could not be asked",
        })
    }
}

impl std::error::Error for CheckError {}
