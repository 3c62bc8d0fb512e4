//! What comes back through the browser, before anything of it is used; and the one answer of the demo provider.

use http::StatusCode;
use serde_json::json;

use super::configuration::Endpoints;
use crate::outbound;
use crate::providers::Provider;
use crate::providers::error::UpstreamError;
use crate::providers::person::{Person, UpstreamTokens};
use crate::providers::rules;
use crate::types::redacted::Secret;

/// The one user of the demo provider.
pub(super) const DEMO: &str = "demo";

/// RFC 9207 §2.4: an answer by another provider than the one that was asked is none.
pub(super) fn check_issuer(endpoints: &Endpoints, iss: Option<&str>) -> Result<(), UpstreamError> {
    match (&endpoints.issuer, iss) {
        (Some(issuer), Some(iss)) if iss != issuer => Err(UpstreamError::Untrusted("iss_mismatch")),
        (_, None) if endpoints.names_itself => Err(UpstreamError::Untrusted("iss_missing")),
        _ => Ok(()),
    }
}

/// An error of the authorization endpoint (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6), in one of our words.
pub(super) fn said_no(error: &str) -> UpstreamError {
    match error {
        "access_denied" => UpstreamError::Denied("access_denied"),
        "login_required" | "interaction_required" | "account_selection_required" | "consent_required" => {
            UpstreamError::Denied("sign_in_required")
        }
        "temporarily_unavailable" | "server_error" => {
            UpstreamError::Away(outbound::Error::Status(StatusCode::SERVICE_UNAVAILABLE.as_u16()))
        }
        "invalid_scope" => UpstreamError::Misconfigured("scope_refused"),
        "unauthorized_client" | "invalid_request" | "unsupported_response_type" => {
            UpstreamError::Misconfigured("request_refused")
        }
        _ => UpstreamError::Denied("provider_error"),
    }
}

/// The demo provider's answer: the same for everybody.
pub(super) fn demo(provider: &Provider) -> Person {
    let claims = json!({"sub": DEMO, "preferred_username": DEMO});
    Person {
        subject: DEMO.to_owned(),
        username: Some(DEMO.to_owned()),
        email: None,
        roles: rules::roles(&provider.rules, &claims),
        sid: None,
        // So that a check finds something to ask with, as with every other provider.
        tokens: Some(UpstreamTokens {
            subject: DEMO.to_owned(),
            access_token: Secret::new(DEMO.to_owned()),
            ends_at: None,
            refresh_token: None,
            sid: None,
        }),
    }
}
