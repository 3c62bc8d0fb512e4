//! Private keys as they were read, and what they sign (RFC 7515 §3.1).

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::types::alg::Alg;

/// The private half of a signing key.
pub(super) enum Private {
    /// Kept as it was read. The library would read it anew for each token, and prove each time that its halves belong
    /// together, which takes as long as signing.
    Ed25519(Ed25519KeyPair),
    /// What the library signs with.
    Other(EncodingKey),
}

impl Private {
    /// From PKCS #8. `None`: it is no key of this algorithm.
    pub(super) fn read(alg: Alg, pkcs8: &[u8]) -> Option<Self> {
        match alg {
            Alg::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).ok().map(Self::Ed25519),
            Alg::Es256 => Some(Self::Other(EncodingKey::from_ec_der(pkcs8))),
            Alg::Rs256 => {
                // The library reads RSA keys in PKCS #1 unless they come as PEM.
                let pem = Zeroizing::new(format!(
                    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                    lines(&STANDARD.encode(pkcs8))
                ));
                EncodingKey::from_rsa_pem(pem.as_bytes()).ok().map(Self::Other)
            }
        }
    }

    /// A JWS in compact form. The header's `alg` must be this key's.
    ///
    /// # Errors
    ///
    /// The payload is no JSON, or the library refuses.
    pub(super) fn sign(
        &self,
        header: &Header,
        payload: &impl Serialize,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let pair = match self {
            Self::Ed25519(pair) => pair,
            Self::Other(key) => return jsonwebtoken::encode(header, payload, key),
        };
        let mut jws = String::with_capacity(1_024);
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(header)?, &mut jws);
        jws.push('.');
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(payload)?, &mut jws);
        let signature = pair.sign(jws.as_bytes());
        jws.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut jws);
        Ok(jws)
    }
}

fn lines(base64: &str) -> String {
    base64.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Validation;
    use serde_json::{Value, json};

    use super::*;
    use crate::signing::make::make;

    #[test]
    fn each_algorithm_signs_what_its_published_half_verifies() {
        for alg in [Alg::EdDsa, Alg::Es256, Alg::Rs256] {
            let made = make(alg).unwrap();
            let key = Private::read(alg, &made.private).unwrap();
            let name = crate::gate::algorithm(alg);
            let token = key.sign(&Header::new(name), &json!({"a": 1})).unwrap();
            let mut validation = Validation::new(name);
            validation.required_spec_claims.clear();
            validation.validate_exp = false;
            let published = crate::signing::decoding(&made.public_jwk).unwrap();
            let read = jsonwebtoken::decode::<Value>(&token, &published, &validation);
            assert_eq!(read.unwrap().claims["a"], 1, "{alg:?}");
        }
    }

    #[test]
    fn what_we_sign_is_what_the_library_would_sign() {
        let made = make(Alg::EdDsa).unwrap();
        let mut header = Header::new(jsonwebtoken::Algorithm::EdDSA);
        (header.typ, header.kid) = (Some("at+jwt".to_owned()), Some(made.kid.clone()));
        let payload = json!({"iss": "https://auth.example.com/oauth", "exp": 1_795_422_633});
        let ours = Private::read(Alg::EdDsa, &made.private).unwrap().sign(&header, &payload).unwrap();
        let key = EncodingKey::from_ed_der(&made.private);
        assert_eq!(ours, jsonwebtoken::encode(&header, &payload, &key).unwrap(), "Ed25519 signs the same each time");
    }
}
