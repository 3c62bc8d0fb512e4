//! Session tokens: their claims, their signature, and everything they hang on.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, Validation};

use crate::gate::lineage::{Lineage, effective_permissions, narrowed};
use crate::gate::{Ancestor, Claims, Holder, Inactive, Server, Subject, SubjectKind, Verified, View};
use crate::types::alg::Alg;
use crate::types::clock::Timestamp;
use crate::types::permission::Permissions;

/// Bytes of a session token at most; anything longer is not one of ours.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The `typ` of an access token (RFC 9068 §2.1).
pub(super) const TYP: &str = "at+jwt";

/// A token whose form, type, algorithm, signature and issuer are right; checked once, and remembered. Says nothing about
/// whether it is still good: see [`check_session`].
///
/// The header chooses only which of our keys to check against. `alg` must be that key's; `jku`, `x5u`, `jwk` and `crit`
/// are never followed.
///
/// # Errors
///
/// What is wrong with it.
pub fn verify_session(view: View<'_>, token: &str) -> Result<Arc<Verified>, Inactive> {
    if token.len() > TOKEN_BYTES_MAX || token.bytes().filter(|byte| *byte == b'.').count() != 2 {
        return Err(Inactive::Malformed);
    }
    let verified = view.live.verified.get_or_verify(token, || verify(view, token))?;
    // A key that was taken out of the key set since takes what it signed with it.
    let known = view.live.verifiers.load().iter().any(|verifier| verifier.kid == verified.kid);
    if known { Ok(verified) } else { Err(Inactive::Unknown) }
}

fn verify(view: View<'_>, token: &str) -> Result<Verified, Inactive> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| Inactive::Malformed)?;
    if header.typ.as_deref() != Some(TYP) {
        return Err(Inactive::WrongType);
    }
    let verifiers = view.live.verifiers.load();
    let kid = header.kid.as_deref().unwrap_or_default();
    let verifier = verifiers.iter().find(|verifier| &*verifier.kid == kid).ok_or(Inactive::Unknown)?;
    let algorithm = algorithm(verifier.alg);
    if header.alg != algorithm {
        return Err(Inactive::BadSignature);
    }
    let mut validation = Validation::new(algorithm);
    // Time and audience are checked by us, after the signature, each time a token is shown.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.leeway = 0;
    validation.required_spec_claims.clear();
    let claims = jsonwebtoken::decode::<Claims>(token, &verifier.key, &validation)
        .map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => Inactive::BadSignature,
            _ => Inactive::Malformed,
        })?
        .claims;
    if *claims.iss != *view.live.issuer {
        return Err(Inactive::WrongIssuer);
    }
    Verified::new(claims, Arc::clone(&verifier.kid))
}

/// The library's name for an algorithm of ours.
#[must_use]
pub(crate) const fn algorithm(alg: Alg) -> Algorithm {
    match alg {
        Alg::EdDsa => Algorithm::EdDSA,
        Alg::Es256 => Algorithm::ES256,
        Alg::Rs256 => Algorithm::RS256,
    }
}

/// What a verified token may do now at `server`, for a caller at `address`: everything it hangs on is checked, each time.
///
/// # Errors
///
/// Why it may do nothing.
pub fn check_session<'a>(
    view: View<'a>,
    token: &Verified,
    server: &Server,
    address: Option<IpAddr>,
) -> Result<Cow<'a, Permissions>, Inactive> {
    let (claims, position) = (&token.claims, token.position);
    if claims.srv != server.id || *claims.aud != *server.resource {
        return Err(Inactive::WrongServer);
    }
    if claims.environment != server.environment {
        return Err(Inactive::WrongEnvironment);
    }
    if view.now >= Timestamp::from_seconds(claims.exp) {
        return Err(Inactive::Expired);
    }
    if server.disabled {
        return Err(Inactive::ServerDisabled);
    }
    if view.position.is_before(position) {
        return Err(Inactive::NotYet);
    }
    if position.history != view.position.history {
        return Err(Inactive::Revoked);
    }
    let check = Lineage { view, position, issued: token.issued, address };
    check.not_revoked(SubjectKind::SigningKey, || Subject::SigningKey(Arc::clone(&token.kid)))?;
    check.not_revoked(SubjectKind::Token, || Subject::Token(claims.jti))?;
    check.server(server)?;
    let mut left = narrowed(check.holder(&token.holder, server)?, &claims.permissions);
    for ancestor in &token.ancestors {
        match ancestor {
            Ancestor::Token(id, _) => check.not_revoked(SubjectKind::Token, || Subject::Token(*id))?,
            Ancestor::SigningKey(kid) => {
                check.not_revoked(SubjectKind::SigningKey, || Subject::SigningKey(Arc::clone(kid)))?;
            }
            Ancestor::Key(id, version) => {
                let key = check.key(*id, *version)?;
                left = narrowed(effective_permissions(view, key, server.id), &left);
            }
            // Holders of tokens that have a key of their own.
            Ancestor::Consent(id) => left = narrowed(check.consent(*id, server)?, &left),
            Ancestor::Client(id) => left = narrowed(check.holder(&Holder::Client(*id), server)?, &left),
        }
    }
    if left.is_empty() { Err(Inactive::NothingLeft) } else { Ok(left) }
}
