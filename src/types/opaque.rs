//! Texts that mean nothing but that whoever shows one was given it: codes, cookies, references. Only their digests are kept.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt;
use zeroize::Zeroizing;

use crate::types::redacted::Secret;

/// Characters of one: 256 bits in base64url.
pub const CHARS: usize = 43;

/// A new one: 256 random bits.
#[must_use]
pub fn random() -> Secret<String> {
    let mut bits = Zeroizing::new([0_u8; 32]);
    rand::rng().fill(&mut bits[..]);
    Secret::new(URL_SAFE_NO_PAD.encode(&bits[..]))
}

/// Whether a text has the form of one. What has not need not be looked for.
#[must_use]
pub fn is_one(text: &str) -> bool {
    text.len() == CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// SHA-256 of a text. With 256 random bits in it nobody finds the text again.
#[must_use]
pub fn sha256(text: &str) -> [u8; 32] {
    sha256_of(&[text])
}

/// SHA-256 of several texts, each with its length before it: no two lists share their bytes.
#[must_use]
pub fn sha256_of(parts: &[&str]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        // One alone is the digest that everybody computes (RFC 7636 §4.2 among them).
        if parts.len() > 1 {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        }
        context.update(part.as_bytes());
    }
    let mut made = [0; 32];
    for (to, from) in made.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_one_has_the_form_and_no_two_are_the_same() {
        let (one, other) = (random(), random());
        assert!(is_one(one.reveal()) && is_one(other.reveal()));
        assert_ne!(one.reveal(), other.reveal());
        for text in ["", "a", &"a".repeat(42), &"a".repeat(44), &"+".repeat(43), &"é".repeat(22)] {
            assert!(!is_one(text), "{text}");
        }
    }

    #[test]
    fn a_digest_is_sha_256_and_lists_are_not_confused() {
        // RFC 7636, appendix B.
        let challenge = URL_SAFE_NO_PAD.encode(sha256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert_ne!(sha256_of(&["ab", "c"]), sha256_of(&["a", "bc"]));
    }
}
