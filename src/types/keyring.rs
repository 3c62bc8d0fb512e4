//! The secret keys of `MCPA_SECRET_KEYS`, and what is derived from them: peppers for digests, keys for sealing and cursors.
//!
//! Each purpose has its own key (HKDF-SHA-256, RFC 5869). The first key listed is the newest; all open.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// Bytes of a secret key.
pub const SECRET_KEY_BYTES: usize = 32;

const NONCE_BYTES: usize = 12;
/// What a sealed cursor is bound to.
const CURSOR: &[u8] = b"cursor";

/// What was presented cannot be opened: the secret key is not in the list, or the bytes are not what was sealed there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotOpen {
    /// No key of the list has this id.
    #[error("secret key {0} is not among MCPA_SECRET_KEYS")]
    UnknownKey(String),
    /// The bytes, or the place they stand in, are not what was sealed.
    #[error("the sealed value was changed or moved")]
    Tampered,
}

/// One secret key with all that is derived from it.
struct SecretKey {
    id: String,
    pepper: hmac::Key,
    successor: hmac::Key,
    nonce: hmac::Key,
    cursor: RandomizedNonceKey,
    seal: RandomizedNonceKey,
}

/// All secret keys of this node.
pub struct Keyring {
    newest: SecretKey,
    older: Vec<SecretKey>,
    digests: AtomicU64,
}

/// The length of every derived key.
struct Bits256;

impl KeyType for Bits256 {
    fn len(&self) -> usize {
        32
    }
}

/// Where a sealed value stands. It opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The row's primary key.
    pub row: &'a str,
}

impl Keyring {
    /// Derives everything. `None` when no key is given or the cryptography library refuses.
    #[must_use]
    pub fn new(keys: &[Zeroizing<[u8; SECRET_KEY_BYTES]>]) -> Option<Self> {
        let mut derived = keys.iter().map(|key| SecretKey::derive(key)).collect::<Option<Vec<_>>>()?.into_iter();
        Some(Self { newest: derived.next()?, older: derived.collect(), digests: AtomicU64::new(0) })
    }

    /// The ids of all keys, newest first.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.all().map(|key| key.id.clone()).collect()
    }

    /// Whether a key of the list has this id.
    #[must_use]
    pub fn knows(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    /// The digest of a secret under the key named: HMAC(pepper, label ‖ whole presented string). `None`: no such key.
    #[must_use]
    pub fn digest(&self, secret_key: &str, secret: &str) -> Option<[u8; 32]> {
        let key = self.find(secret_key)?;
        self.digests.fetch_add(1, Ordering::Relaxed);
        Some(key.digest(secret))
    }

    /// The 256 bits of the secret that comes after `secret` under the id `next`: whoever shows the first again can be told
    /// the second again, and neither is kept. `None`: no such key.
    #[must_use]
    pub fn successor(&self, secret_key: &str, secret: &str, next: &[u8; 12]) -> Option<Zeroizing<[u8; 32]>> {
        let key = self.find(secret_key)?;
        Some(Zeroizing::new(tag(&key.successor, &[b"mcp-authority successor 1\0", next, secret.as_bytes()])))
    }

    /// What shows that whoever has the key named made a nonce of these bytes. `None`: no such key.
    #[must_use]
    pub fn nonce_tag(&self, secret_key: &str, bytes: &[u8]) -> Option<[u8; 32]> {
        Some(tag(&self.find(secret_key)?.nonce, &[b"mcp-authority nonce 1\0", bytes]))
    }

    /// Makes a digest and drops it, so that an unknown id costs what a known one does.
    pub fn waste_one(&self, secret: &str) {
        std::hint::black_box(self.newest.digest(secret));
        self.digests.fetch_add(1, Ordering::Relaxed);
    }

    /// How many digests were made so far: tests compare the work done for known and unknown input with it.
    #[must_use]
    pub fn digests_made(&self) -> u64 {
        self.digests.load(Ordering::Relaxed)
    }

    /// Seals a value for its place under the key named.
    #[must_use]
    pub fn seal(&self, secret_key: &str, place: Place<'_>, open: &[u8]) -> Option<Vec<u8>> {
        let key = self.find(secret_key)?;
        seal(&key.seal, &place.bytes(&key.id), open)
    }

    /// Opens a sealed value at its place.
    ///
    /// # Errors
    ///
    /// The key is unknown, or the bytes are not what was sealed for this place.
    pub fn open(&self, secret_key: &str, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
        let key = self.find(secret_key).ok_or_else(|| CannotOpen::UnknownKey(secret_key.to_owned()))?;
        open(&key.seal, &place.bytes(&key.id), sealed).ok_or(CannotOpen::Tampered)
    }

    /// Seals a paging cursor with a key that seals nothing else.
    #[must_use]
    pub fn seal_cursor(&self, open: &[u8]) -> Option<Vec<u8>> {
        seal(&self.newest.cursor, CURSOR, open)
    }

    /// The cursor that one of our keys sealed.
    #[must_use]
    pub fn open_cursor(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.all().find_map(|key| open(&key.cursor, CURSOR, sealed))
    }

    fn all(&self) -> impl Iterator<Item = &SecretKey> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    fn find(&self, id: &str) -> Option<&SecretKey> {
        self.all().find(|key| key.id == id)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Keyring({:?})", self.ids())
    }
}

impl SecretKey {
    fn derive(key: &[u8; SECRET_KEY_BYTES]) -> Option<Self> {
        let root = Salt::new(HKDF_SHA256, b"mcp-authority").extract(key);
        let derive = |label: &'static [u8]| -> Option<Zeroizing<[u8; 32]>> {
            let mut bytes = Zeroizing::new([0; 32]);
            root.expand(&[label], Bits256).ok()?.fill(&mut bytes[..]).ok()?;
            Some(bytes)
        };
        let id = derive(b"id 1")?.iter().take(4).fold(String::new(), |mut text, byte| {
            use fmt::Write;
            let _ = write!(text, "{byte:02x}");
            text
        });
        Some(Self {
            id,
            pepper: hmac::Key::new(hmac::HMAC_SHA256, &derive(b"pepper 1")?[..]),
            successor: hmac::Key::new(hmac::HMAC_SHA256, &derive(b"successor 1")?[..]),
            nonce: hmac::Key::new(hmac::HMAC_SHA256, &derive(b"nonce 1")?[..]),
            cursor: RandomizedNonceKey::new(&AES_256_GCM, &derive(b"cursor 2")?[..]).ok()?,
            seal: RandomizedNonceKey::new(&AES_256_GCM, &derive(b"seal 1")?[..]).ok()?,
        })
    }

    fn digest(&self, secret: &str) -> [u8; 32] {
        tag(&self.pepper, &[b"mcp-authority secret 1\0", secret.as_bytes()])
    }
}

impl Place<'_> {
    /// Lengths before texts, so that no two places share their bytes.
    fn bytes(&self, secret_key: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [self.table, self.column, self.row, secret_key] {
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

fn seal(key: &RandomizedNonceKey, bound_to: &[u8], open: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = open.to_vec();
    let nonce = key.seal_in_place_append_tag(Aad::from(bound_to), &mut bytes).ok()?;
    let mut sealed = nonce.as_ref().to_vec();
    sealed.append(&mut bytes);
    Some(sealed)
}

fn open(key: &RandomizedNonceKey, bound_to: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, rest) = sealed.split_at_checked(NONCE_BYTES)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut bytes = Zeroizing::new(rest.to_vec());
    let length = key.open_in_place(nonce, Aad::from(bound_to), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}

fn tag(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(first: u8, second: u8) -> Keyring {
        Keyring::new(&[Zeroizing::new([first; 32]), Zeroizing::new([second; 32])]).expect("two keys")
    }

    #[test]
    fn a_sealed_value_opens_only_at_its_place() {
        let ring = ring(1, 2);
        let id = ring.ids()[1].clone();
        let place = Place { table: "signing_keys", column: "private", row: "kid1" };
        let sealed = ring.seal(&id, place, b"secret").unwrap();
        assert_eq!(&ring.open(&id, place, &sealed).unwrap()[..], b"secret");
        let elsewhere = Place { row: "kid2", ..place };
        assert_eq!(ring.open(&id, elsewhere, &sealed), Err(CannotOpen::Tampered));
        assert_eq!(ring.open(&ring.ids()[0], place, &sealed), Err(CannotOpen::Tampered));
        let mut changed = sealed.clone();
        changed[20] ^= 1;
        assert_eq!(ring.open(&id, place, &changed), Err(CannotOpen::Tampered));
        assert_eq!(ring.open(&id, place, b"short"), Err(CannotOpen::Tampered));
    }

    #[test]
    fn a_digest_belongs_to_its_secret_key() {
        let ring = ring(1, 2);
        let [newest, older] = ring.ids().try_into().unwrap();
        let digest = ring.digest(&older, "mcp_prod_x").unwrap();
        assert_ne!(ring.digest(&newest, "mcp_prod_x").unwrap(), digest);
        assert_ne!(ring.digest(&older, "mcp_prod_y").unwrap(), digest);
        assert_eq!(ring.digest("unknown", "mcp_prod_x"), None);
    }

    #[test]
    fn a_successor_is_told_again_by_who_shows_its_predecessor_and_by_nobody_else() {
        let ring = ring(1, 2);
        let [newest, older] = ring.ids().try_into().unwrap();
        let next = ring.successor(&older, "mcp_refresh_x", b"0123456789ab").unwrap();
        assert_eq!(ring.successor(&older, "mcp_refresh_x", b"0123456789ab").unwrap(), next);
        assert_ne!(ring.successor(&older, "mcp_refresh_x", b"0123456789ac").unwrap(), next);
        assert_ne!(ring.successor(&older, "mcp_refresh_y", b"0123456789ab").unwrap(), next);
        assert_ne!(ring.successor(&newest, "mcp_refresh_x", b"0123456789ab").unwrap(), next);
        assert_ne!(*next, ring.digest(&older, "mcp_refresh_x").unwrap());
    }

    #[test]
    fn cursors_are_sealed_with_a_key_of_their_own() {
        let ring = ring(1, 2);
        let sealed = ring.seal_cursor(b"cursor").unwrap();
        assert_eq!(&ring.open_cursor(&sealed).unwrap()[..], b"cursor");
        assert!(!sealed.windows(6).any(|bytes| bytes == b"cursor"));
        let mut changed = sealed.clone();
        changed[13] ^= 1;
        assert_eq!(ring.open_cursor(&changed), None);
        assert!(self::ring(2, 1).open_cursor(&sealed).is_some(), "an older key still opens");
        assert_eq!(self::ring(3, 4).open_cursor(&sealed), None);
    }
}
