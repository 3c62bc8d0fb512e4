//! The chain of hashes, for verifying. The database's `audit_hash` computes the same when it links an entry.

use aws_lc_rs::digest;

/// Where a chain stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// Which chain.
    pub chain: String,
    /// How many entries it has had.
    pub position: i64,
    /// The hash of the last one, in hex.
    pub hash: String,
}

/// The hash of an entry: SHA-256 of the hash before it, and of its chain, place, time and stored bytes.
pub(super) fn link(previous: &[u8], chain: &str, position: i64, at_micros: i64, body: &str) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(previous);
    context.update(format!("{chain}|{position}|{at_micros}|{body}").as_bytes());
    context.finish().as_ref().to_vec()
}

/// The hash before the first entry.
pub(super) const fn start() -> [u8; 32] {
    [0; 32]
}

/// Bytes in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of a text in hex; what is no hex is no byte.
pub(super) fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_change_of_any_part_changes_the_hash(position in 1_i64..9, at in 0_i64..9, body in "[a-c]{0,3}", other in "[a-c]{0,3}") {
            let hash = link(&start(), "changes", position, at, &body);
            prop_assert_eq!(&unhex(&hex(&hash)), &hash);
            prop_assert_ne!(&hash, &link(&start(), "changes", position + 1, at, &body));
            prop_assert_ne!(&hash, &link(&start(), "changes", position, at + 1, &body));
            prop_assert_ne!(&hash, &link(&hash, "changes", position, at, &body));
            prop_assert_eq!(body == other, hash == link(&start(), "changes", position, at, &other));
        }
    }
}
