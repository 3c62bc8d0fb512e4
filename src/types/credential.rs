//! The one form of the secrets we give out: `mcp_{kind}_{id:12}{secret:43}{crc:6}`.
//!
//! Kinds are `prod` and `dev` (agents' keys), `admin` (operators), `server` (MCP servers' client secrets), `client` (OAuth
//! clients' secrets) and `refresh` (refresh tokens). The id is public;
//! the secret is 256 random bits; the checksum tells a typo from a wrong key without asking anybody.

use std::fmt;

use zeroize::Zeroizing;

use crate::types::base62::{self, DIGITS_32_BITS, DIGITS_256_BITS};
use crate::types::environment::Environment;

const ID_DIGITS: usize = 12;
/// Characters after the prefix.
pub const BODY_DIGITS: usize = ID_DIGITS + DIGITS_256_BITS + DIGITS_32_BITS;
/// The longest text before the id.
pub const PREFIX_MAX: usize = Kind::Refresh.prefix().len();
/// How many of the last characters of the secret part a hint shows.
const HINT_DIGITS: usize = 4;

/// What a credential is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An agent's key of an environment.
    Key(Environment),
    /// An operator's key.
    Admin,
    /// A server's client secret.
    Server,
    /// An OAuth client's secret. Its id is made of the last digits of the client's.
    Client,
    /// A refresh token.
    Refresh,
}

impl Kind {
    /// All that there are.
    pub const ALL: [Self; 6] = [
        Self::Key(Environment::Prod),
        Self::Key(Environment::Dev),
        Self::Admin,
        Self::Server,
        Self::Client,
        Self::Refresh,
    ];

    /// The text before the id.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Key(Environment::Prod) => "mcp_prod_",
            Self::Key(Environment::Dev) => "mcp_dev_",
            Self::Admin => "mcp_admin_",
            Self::Server => "mcp_server_",
            Self::Client => "mcp_client_",
            Self::Refresh => "mcp_refresh_",
        }
    }
}

/// A new credential, to be shown once. It does not print; [`Credential::reveal`] is the one way out.
pub struct Credential {
    text: Zeroizing<String>,
}

impl Credential {
    /// Makes one for the public id `id` with 256 fresh random bits.
    #[must_use]
    pub fn generate(kind: Kind, id: &[u8; 12]) -> Self {
        use rand::RngExt;
        let mut bits = Zeroizing::new([0_u8; 32]);
        rand::rng().fill(&mut bits[..]);
        Self::of(kind, id, &bits)
    }

    /// The credential with these 256 bits, which nobody else may be able to guess.
    #[must_use]
    pub fn of(kind: Kind, id: &[u8; 12], bits: &[u8; 32]) -> Self {
        let secret = Zeroizing::new(base62::encode_256(bits));
        let mut text = Zeroizing::new(String::with_capacity(kind.prefix().len() + BODY_DIGITS));
        text.push_str(kind.prefix());
        text.push_str(std::str::from_utf8(id).unwrap_or_default());
        text.push_str(&secret);
        let checksum = base62::encode_u32(crc32fast::hash(text.as_bytes()));
        text.push_str(&checksum);
        Self { text }
    }

    /// The text itself, for the one reply that shows it and for making its digest.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The last characters of the secret part: enough to tell two versions apart, useless to guess from.
    #[must_use]
    pub fn hint(&self) -> String {
        hint(&self.text)
    }
}

fn hint(text: &str) -> String {
    let end = text.len().saturating_sub(DIGITS_32_BITS);
    text.get(end.saturating_sub(HINT_DIGITS)..end).unwrap_or_default().to_owned()
}

impl fmt::Debug for Credential {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Credential([redacted])")
    }
}

/// A credential that somebody presents, well formed and with a right checksum. It borrows the request and does not print.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    kind: Kind,
    id: [u8; 12],
    text: &'a str,
}

impl<'a> Presented<'a> {
    /// Reads a credential; `None` when the form or the checksum is wrong. Says nothing about whether it is known.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let kind = Kind::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()))?;
        let body = text.as_bytes().get(kind.prefix().len()..)?;
        if body.len() != BODY_DIGITS || !base62::is_digits(body) {
            return None;
        }
        let (signed, checksum) = text.split_at_checked(text.len() - DIGITS_32_BITS)?;
        if base62::digits_u32(crc32fast::hash(signed.as_bytes())) != checksum.as_bytes() {
            return None;
        }
        let id = body.get(..ID_DIGITS)?.try_into().ok()?;
        Some(Self { kind, id, text })
    }

    /// What it is for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The public id inside.
    #[must_use]
    pub const fn id(&self) -> &[u8; 12] {
        &self.id
    }

    /// As [`Credential::hint`].
    #[must_use]
    pub fn hint(&self) -> String {
        hint(self.text)
    }

    /// The whole text, for its digest only.
    #[must_use]
    pub const fn reveal(&self) -> &'a str {
        self.text
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Presented({}{}…)", self.kind.prefix(), std::str::from_utf8(&self.id).unwrap_or_default())
    }
}

/// Whether a text holds something that looks like one of our credentials; for refusing it where it must not be.
#[must_use]
pub fn looks_like_one(text: &str) -> bool {
    Kind::ALL.iter().any(|kind| {
        text.match_indices(kind.prefix()).any(|(at, _)| {
            let rest = text.as_bytes().get(at + kind.prefix().len()..).unwrap_or_default();
            rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count() >= BODY_DIGITS
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_generated_credential_parses_and_is_61_characters_after_its_prefix() {
        for kind in Kind::ALL {
            let made = Credential::generate(kind, b"0123456789ab");
            let read = Presented::parse(made.reveal()).expect("well formed");
            assert_eq!((read.kind(), read.id()), (kind, b"0123456789ab"));
            assert_eq!(made.reveal().len() - kind.prefix().len(), 61);
            assert!(looks_like_one(&format!("x={}&y", made.reveal())));
        }
    }

    #[test]
    fn the_checksum_is_crc_32_of_everything_before_it() {
        let made = Credential::generate(Kind::Admin, b"0123456789ab");
        let (signed, checksum) = made.reveal().split_at(made.reveal().len() - 6);
        assert_eq!(checksum, base62::encode_u32(crc32fast::hash(signed.as_bytes())));
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926, "the CRC-32 of zlib");
    }

    #[test]
    fn nothing_of_a_credential_prints() {
        let made = Credential::generate(Kind::Admin, b"0123456789ab");
        let secret = &made.reveal()[22..65];
        assert!(!format!("{made:?}").contains(secret));
        assert!(!format!("{:?}", Presented::parse(made.reveal()).unwrap()).contains(secret));
    }

    proptest! {
        #[test]
        fn attack_11_a_change_of_any_character_is_not_well_formed(at in 0_usize..70, to in "[0-9A-Za-z_]") {
            let made = Credential::generate(Kind::Key(Environment::Prod), b"0123456789ab");
            let mut changed = made.reveal().to_owned();
            prop_assume!(at < changed.len() && changed[at..=at] != to);
            changed.replace_range(at..=at, &to);
            prop_assert!(Presented::parse(&changed).is_none());
        }

        #[test]
        fn attack_11_truncated_and_extended_credentials_are_not_well_formed(cut in 0_usize..70, more in "[0-9A-Za-z]{1,3}") {
            let made = Credential::generate(Kind::Key(Environment::Dev), b"0123456789ab");
            prop_assume!(cut < made.reveal().len());
            prop_assert!(Presented::parse(&made.reveal()[..cut]).is_none());
            let longer = format!("{}{more}", made.reveal());
            prop_assert!(Presented::parse(&longer).is_none());
        }

        #[test]
        fn garbage_never_panics(text in "\\PC{0,120}") {
            let _ = Presented::parse(&text);
            let _ = looks_like_one(&text);
        }
    }
}
