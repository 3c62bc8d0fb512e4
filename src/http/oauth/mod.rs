//! OAuth 2: tokens, introspection, revocation, keys and metadata. Errors are OAuth's own (RFC 6749 §5.2).
#![expect(clippy::missing_errors_doc, reason = "what each handler refuses is in its OpenAPI description")]

mod application;
pub mod authorize;
pub mod backchannel_logout;
pub mod callback;
mod client;
pub mod device;
pub(super) mod dpop;
mod error;
pub(super) mod form;
pub mod grants;
pub mod introspect;
pub mod jwks;
pub mod metadata;
pub mod par;
pub mod register;
pub mod revoke;
pub mod sign_in;
pub mod token;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub(in crate::http) use client::calling_server;
pub use error::{OAuthError, OAuthRefusals, Wire as OAuthWire};

/// Routes that browsers of other origins may use (CORS): clients that run in pages.
pub fn open_routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(token::post))
        .routes(routes!(revoke::post))
        .routes(routes!(register::post))
        .routes(routes!(jwks::get))
        .routes(routes!(metadata::inserted))
        .routes(routes!(metadata::appended))
        .routes(routes!(metadata::openid_inserted))
        .routes(routes!(metadata::openid_appended))
}

/// Routes for servers and for people's browsers; never CORS at the authorization endpoint (OAuth 2.1 §3.1).
pub fn closed_routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(introspect::post))
        .routes(routes!(authorize::get, authorize::post))
        .routes(routes!(authorize::consent::get, authorize::consent::post))
        .routes(routes!(sign_in::get))
        .routes(routes!(sign_in::go, sign_in::post))
        .routes(routes!(callback::get))
        .routes(routes!(backchannel_logout::post))
        .routes(routes!(par::post))
        .routes(routes!(device::authorize))
        .routes(routes!(device::get, device::post))
        .routes(routes!(device::done))
        .routes(routes!(grants::get, grants::post))
        .routes(routes!(grants::take_back))
}
