//! The thumbprint of a public key (RFC 7638): by it a token says whose key it is bound to.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::types::opaque;

/// Characters of one: SHA-256 in base64url.
const CHARS: usize = 43;

/// SHA-256 over the members of a JWK that make the key what it is, in base64url. Inline text, so that it is copied and
/// compared without a heap.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thumbprint([u8; CHARS]);

impl Thumbprint {
    /// Of a key whose members stand in this text, in the order and form of RFC 7638 §3.
    #[must_use]
    pub fn of(members: &str) -> Self {
        let text = URL_SAFE_NO_PAD.encode(opaque::sha256(members));
        Self::parse(&text).unwrap_or(Self([b'A'; CHARS]))
    }

    /// Reads one. Two texts for the same bits would be two names of one key, so there is only one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes().try_into().ok()?;
        // The decoder refuses bits that say nothing.
        URL_SAFE_NO_PAD.decode(text).ok().map(|_| Self(bytes))
    }

    /// As it stands in `cnf.jkt` and `dpop_jkt` (RFC 9449 §6.1, §10).
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.as_str())
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

impl serde::Serialize for Thumbprint {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Thumbprint {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no thumbprint of a key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7638 §3.1.
    const RSA: &str = concat!(
        r#"{"e":"AQAB","kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_"#,
        "BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZ",
        r#"Hzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}"#
    );

    #[test]
    fn a_thumbprint_is_that_of_the_standard_and_has_one_text() {
        let known = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(Thumbprint::of(RSA).as_str(), known);
        assert_eq!(Thumbprint::parse(known), Some(Thumbprint::of(RSA)));
        // The last character has two bits that say nothing.
        for wrong in ["", &known[1..], &format!("{known}A"), &known.replace('s', "t"), &known.replace('-', "+")] {
            assert_eq!(Thumbprint::parse(wrong), None, "{wrong}");
        }
    }
}
