//! Nonces for proofs (RFC 9449 §8): a time, and a tag that only who has the secret keys can make. No node keeps any.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::types::clock::Timestamp;
use crate::types::keyring::Keyring;

/// How long a nonce is good. Each reply has a newer one.
pub const NONCE_LIFE: Duration = Duration::from_mins(5);
/// How far the clock of the node that made a nonce may be ahead of the one that reads it.
const CLOCK_AHEAD_MAX: Duration = Duration::from_mins(1);
const TIME_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

/// A nonce of now, made with the secret key named. `None`: no such key.
#[must_use]
pub fn fresh(keyring: &Keyring, secret_key: &str, now: Timestamp) -> Option<String> {
    let time = now.seconds().to_be_bytes();
    let tag = keyring.nonce_tag(secret_key, &time)?;
    let bytes: Vec<u8> = time.iter().chain(tag.iter().take(TAG_BYTES)).copied().collect();
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether we made this nonce, a while ago at most.
#[must_use]
pub fn is_good(keyring: &Keyring, nonce: &str, now: Timestamp) -> bool {
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(nonce) else { return false };
    let Some((time, tag)) = bytes.split_first_chunk::<TIME_BYTES>() else { return false };
    let made = Timestamp::from_seconds(i64::from_be_bytes(*time));
    let in_time = made <= now.plus(CLOCK_AHEAD_MAX) && now < made.plus(NONCE_LIFE);
    let ours = |id: &String| {
        let right = keyring.nonce_tag(id, time);
        right.is_some_and(|right| verify_slices_are_equal(right.get(..TAG_BYTES).unwrap_or_default(), tag).is_ok())
    };
    in_time && keyring.ids().iter().any(ours)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn ring(keys: &[u8]) -> Keyring {
        let keys: Vec<_> = keys.iter().map(|key| Zeroizing::new([*key; 32])).collect();
        Keyring::new(&keys).expect("keys")
    }

    #[test]
    fn a_nonce_is_read_by_every_node_that_has_its_secret_key_for_five_minutes() {
        let (one, other) = (ring(&[1, 2]), ring(&[3, 1]));
        let nonce = fresh(&one, &one.ids()[0], NOW).unwrap();
        for ring in [&one, &other] {
            assert!(is_good(ring, &nonce, NOW));
            assert!(is_good(ring, &nonce, Timestamp::from_seconds(NOW.seconds() + 299)));
            assert!(is_good(ring, &nonce, Timestamp::from_seconds(NOW.seconds() - 60)));
            assert!(!is_good(ring, &nonce, Timestamp::from_seconds(NOW.seconds() + 300)));
            assert!(!is_good(ring, &nonce, Timestamp::from_seconds(NOW.seconds() - 61)));
        }
        assert!(!is_good(&ring(&[4]), &nonce, NOW));
        assert_eq!(fresh(&one, "unknown", NOW), None);
    }

    #[test]
    fn attack_11_no_changed_nonce_is_good() {
        let ring = ring(&[1]);
        let nonce = fresh(&ring, &ring.ids()[0], NOW).unwrap();
        for at in 0..nonce.len() {
            let mut changed = nonce.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(!is_good(&ring, std::str::from_utf8(&changed).unwrap(), NOW), "{at}");
        }
        for wrong in ["", "A", &nonce[1..], &nonce[..20], &format!("{nonce}A"), &format!("{nonce}AAAA"), "é"] {
            assert!(!is_good(&ring, wrong, NOW), "{wrong}");
        }
    }
}
