//! Why a credential is inactive: one closed list, for metrics, events and tests. Callers never learn it.

/// A cause of inactivity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Inactive {
    /// Neither a key, with a right checksum, nor a token.
    Malformed,
    /// No such key, signing key, agent or server.
    Unknown,
    /// The key exists, the secret is not its own.
    WrongSecret,
    /// Its time is over.
    Expired,
    /// An older secret of a rotated key whose overlap is over.
    Superseded,
    /// On the revocation list, itself or something it hangs on.
    Revoked,
    /// The key is switched off.
    KeyDisabled,
    /// Its agent is switched off.
    AgentDisabled,
    /// Its server is switched off.
    ServerDisabled,
    /// The client that it was issued to is switched off.
    ClientDisabled,
    /// The person whom it stands for is switched off.
    UserDisabled,
    /// The provider that the person signed in with is switched off.
    ProviderDisabled,
    /// It is for another server.
    WrongServer,
    /// It is for the other environment.
    WrongEnvironment,
    /// A key that is good at the token endpoint only.
    ExchangeRequired,
    /// It has an address list, and the caller's address is not known.
    AddressUnknown,
    /// The caller's address is not on its list.
    AddressRefused,
    /// Nothing that it was issued for is allowed any more.
    NothingLeft,
    /// The signature is not ours, or not over this text.
    BadSignature,
    /// Another issuer's.
    WrongIssuer,
    /// Another kind of credential than is wanted here.
    WrongType,
    /// It names a state of the authority that this node has not reached.
    NotYet,
}

impl Inactive {
    /// Every cause.
    pub const ALL: [Self; 22] = [
        Self::Malformed,
        Self::Unknown,
        Self::WrongSecret,
        Self::Expired,
        Self::Superseded,
        Self::Revoked,
        Self::KeyDisabled,
        Self::AgentDisabled,
        Self::ServerDisabled,
        Self::ClientDisabled,
        Self::UserDisabled,
        Self::ProviderDisabled,
        Self::WrongServer,
        Self::WrongEnvironment,
        Self::ExchangeRequired,
        Self::AddressUnknown,
        Self::AddressRefused,
        Self::NothingLeft,
        Self::BadSignature,
        Self::WrongIssuer,
        Self::WrongType,
        Self::NotYet,
    ];

    /// Its name in metrics and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::WrongSecret => "wrong_secret",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Revoked => "revoked",
            Self::KeyDisabled => "key_disabled",
            Self::AgentDisabled => "agent_disabled",
            Self::ServerDisabled => "server_disabled",
            Self::ClientDisabled => "client_disabled",
            Self::UserDisabled => "user_disabled",
            Self::ProviderDisabled => "provider_disabled",
            Self::WrongServer => "wrong_server",
            Self::WrongEnvironment => "wrong_environment",
            Self::ExchangeRequired => "exchange_required",
            Self::AddressUnknown => "address_unknown",
            Self::AddressRefused => "address_refused",
            Self::NothingLeft => "nothing_left",
            Self::BadSignature => "bad_signature",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongType => "wrong_type",
            Self::NotYet => "not_yet",
        }
    }
}
