//! Public keys of clients, inline or at an address of theirs: what may stand in a key set, and which key may check what.

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Map, Value};
use url::Url;

use crate::types::alg::Alg;

/// Keys of a set at most.
pub(super) const KEYS_MAX: usize = 16;
/// Bytes of a set at most.
pub(super) const KEYS_BYTES_MAX: usize = 16 * 1024;

/// Members of a JWK that only its owner may know (RFC 7518 §6.2.2, §6.3.2, §6.4).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A set of public keys (RFC 7517 §5). Keys that nothing here can be checked with are left out.
pub(super) struct KeySet(Vec<PublicKey>);

struct PublicKey {
    kid: Option<String>,
    alg: Alg,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a set.
    ///
    /// # Errors
    ///
    /// What is wrong with it: no set, too large, or with a secret in it, which then is none any more.
    pub(super) fn read(set: &Value) -> Result<Self, &'static str> {
        let keys = set.get("keys").and_then(Value::as_array).ok_or("must be a key set")?;
        let text = set.to_string();
        if keys.is_empty() || keys.len() > KEYS_MAX || text.len() > KEYS_BYTES_MAX {
            return Err("must hold 1 to 16 keys in at most 16 KiB");
        }
        // PostgreSQL stores no NUL, and nobody means one.
        if text.contains("\\u0000") {
            return Err("must hold no NUL character");
        }
        let mut usable = Vec::new();
        for key in keys {
            let members = key.as_object().filter(|key| key.get("kty").is_some_and(Value::is_string));
            let members = members.ok_or("must hold keys with a kty")?;
            let private = PRIVATE_MEMBERS.iter().any(|name| members.contains_key(*name));
            if private || members.get("kty").is_some_and(|kty| kty == "oct") {
                return Err("must hold public keys only");
            }
            usable.extend(PublicKey::read(members));
        }
        Ok(Self(usable))
    }

    /// The same from what was fetched.
    pub(super) fn fetched(_: &Url, bytes: &[u8]) -> Result<Self, &'static str> {
        Self::read(&serde_json::from_slice(bytes).map_err(|_| "must be a key set")?)
    }

    /// The keys that a JWS with this header may be checked with: those of its `kid`, if it names one; in any case of its
    /// algorithm. An algorithm that is not the key's own checks nothing (RFC 8725 §3.1).
    pub(super) fn fitting(&self, kid: Option<&str>, alg: Alg) -> impl Iterator<Item = &DecodingKey> {
        let fits = move |key: &&PublicKey| key.alg == alg && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid));
        self.0.iter().filter(fits).map(|key| &key.key)
    }
}

impl PublicKey {
    /// `None`: a key for something else, or of a kind that we do not check with.
    fn read(members: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let alg = match (text("kty")?, text("crv")) {
            ("OKP", Some("Ed25519")) => Alg::EdDsa,
            ("EC", Some("P-256")) => Alg::Es256,
            ("RSA", _) => Alg::Rs256,
            _ => return None,
        };
        let signs = text("use").is_none_or(|used| used == "sig");
        let verifies = members
            .get("key_ops")
            .is_none_or(|ops| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify")));
        let own = text("alg").is_none_or(|named| named == alg.as_str() || (named == "Ed25519" && alg == Alg::EdDsa));
        if !signs || !verifies || !own {
            return None;
        }
        // What else stands in the key is not needed, and the library knows fewer names than there are.
        let plain: Map<String, Value> = members
            .iter()
            .filter(|(name, _)| ["kty", "crv", "x", "y", "n", "e"].contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let jwk: Jwk = serde_json::from_value(Value::Object(plain)).ok()?;
        Some(Self { kid: text("kid").map(str::to_owned), alg, key: DecodingKey::from_jwk(&jwk).ok()? })
    }
}
