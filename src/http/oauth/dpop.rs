//! Proofs of possession at the token and PAR endpoints (`DPoP`, RFC 9449): read, checked, used up; and the nonces they
//! are asked for.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::app::App;
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Form;
use crate::proofs::{self, Proof, Shown, Wrong};
use crate::types::thumbprint::Thumbprint;

/// The request's proof.
pub(in crate::http) const PROOF: HeaderName = HeaderName::from_static("dpop");
/// The nonce for the next one.
pub(in crate::http) const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// Where the endpoints are is all that a proof may be made for, and they take nothing but this.
const METHOD: &str = "POST";

/// The key that the sender of a request to `path` proves to have; `None`: it shows no proof. A proof is used up by this, so its
/// sender must be known by now, or be held back otherwise.
///
/// # Errors
///
/// `invalid_dpop_proof`; `use_dpop_nonce`, with one, when there is none in it, or one that is not good any more (RFC 9449 §8).
pub(super) async fn proven(app: &App, form: &Form<'_>, path: &str) -> Result<Option<Thumbprint>, OAuthError> {
    let mut headers = form.headers.get_all(PROOF).iter();
    let Some(first) = headers.next() else { return Ok(None) };
    if headers.next().is_some() {
        return Err(OAuthError::invalid_proof(Wrong::Several));
    }
    let text = first.to_str().map_err(|_| OAuthError::invalid_proof(Wrong::Malformed))?;
    let uri = format!("{}{path}", app.config.public_url);
    let now = app.live.answer(|view| view.now)?;
    let shown = Shown { method: METHOD, uri: &uri, token: form.get("subject_token"), now };
    let proof = Proof::check(text, &shown).map_err(OAuthError::invalid_proof)?;
    let fresh = match &proof.nonce {
        Some(nonce) => proofs::is_good_nonce(&app.live.keyring, nonce, now),
        None => !app.live.settings.load().dpop_nonce_required,
    };
    if !fresh {
        return Err(nonce(app).map_or_else(OAuthError::unavailable, OAuthError::use_nonce));
    }
    if proofs::use_up(&app.db, &proof).await? {
        Ok(Some(proof.key))
    } else {
        Err(OAuthError::invalid_proof(Wrong::Replayed))
    }
}

/// What is told with the answer to a request with a proof while nonces are demanded: the nonce for the next one (RFC 9449 §8.2).
pub(super) fn next_nonce(app: &App, headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.contains_key(PROOF) && app.live.settings.load().dpop_nonce_required;
    asked.then(|| nonce(app)).flatten()
}

/// Made with the secret key that every node has by now.
fn nonce(app: &App) -> Option<HeaderValue> {
    let nonce = proofs::fresh_nonce(&app.live.keyring, &app.feed.secret_key(), app.live.now())?;
    HeaderValue::try_from(nonce).ok()
}
