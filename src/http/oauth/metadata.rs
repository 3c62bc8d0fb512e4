//! The authorization server's metadata (RFC 8414), in the four places where clients look. It names only what works.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, AppState};

/// The document. Members that do not apply are absent, never null.
#[derive(Serialize, ToSchema)]
pub struct Metadata {
    /// Our issuer; byte for byte the `iss` of our tokens.
    issuer: String,
    /// SDKs refuse a document without it; the page there says that no sign-in is configured.
    authorization_endpoint: String,
    /// Where session tokens are got.
    token_endpoint: String,
    /// Our keys.
    jwks_uri: String,
    /// Where servers ask.
    introspection_endpoint: String,
    /// How servers authenticate there.
    introspection_endpoint_auth_methods_supported: Vec<String>,
    /// Where tokens end.
    revocation_endpoint: String,
    /// How callers authenticate there.
    revocation_endpoint_auth_methods_supported: Vec<String>,
    /// None: nobody signs in here yet.
    response_types_supported: Vec<String>,
    /// What the token endpoint understands.
    grant_types_supported: Vec<String>,
    /// How clients authenticate there; `none` is for exchanging one's own token.
    token_endpoint_auth_methods_supported: Vec<String>,
    /// Read by clients that take this for an OpenID document.
    subject_types_supported: Vec<String>,
    /// Read by clients that take this for an OpenID document.
    id_token_signing_alg_values_supported: Vec<String>,
    /// A page for people.
    service_documentation: String,
}

fn document(app: &App) -> Json<Metadata> {
    let issuer = app.config.public_url.issuer();
    let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let secrets = list(&["client_secret_basic", "client_secret_post"]);
    Json(Metadata {
        authorization_endpoint: format!("{issuer}/authorize"),
        token_endpoint: format!("{issuer}/token"),
        jwks_uri: format!("{issuer}/jwks"),
        introspection_endpoint: format!("{issuer}/introspect"),
        introspection_endpoint_auth_methods_supported: secrets.clone(),
        revocation_endpoint: format!("{issuer}/revoke"),
        revocation_endpoint_auth_methods_supported: secrets,
        response_types_supported: Vec::new(),
        grant_types_supported: list(&["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"]),
        token_endpoint_auth_methods_supported: list(&["client_secret_basic", "client_secret_post", "none"]),
        subject_types_supported: list(&["public"]),
        id_token_signing_alg_values_supported: list(&["EdDSA"]),
        service_documentation: format!("{}/docs", app.config.public_url),
        issuer,
    })
}

/// The metadata (RFC 8414 §3.1: the well-known part goes between host and path).
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server/oauth", operation_id = "metadata", tag = "oauth",
    responses((status = 200, description = "The metadata.", body = Metadata)))]
pub async fn inserted(State(app): AppState) -> Json<Metadata> {
    document(&app)
}

/// The metadata, for clients that append the well-known part.
#[utoipa::path(get, path = "/oauth/.well-known/oauth-authorization-server", operation_id = "metadata_appended", tag = "oauth",
    responses((status = 200, description = "The metadata.", body = Metadata)))]
pub async fn appended(State(app): AppState) -> Json<Metadata> {
    document(&app)
}

/// The metadata, for clients that look for OpenID Connect and insert.
#[utoipa::path(get, path = "/.well-known/openid-configuration/oauth", operation_id = "openid_metadata", tag = "oauth",
    responses((status = 200, description = "The metadata.", body = Metadata)))]
pub async fn openid_inserted(State(app): AppState) -> Json<Metadata> {
    document(&app)
}

/// The metadata, for clients that look for OpenID Connect and append.
#[utoipa::path(get, path = "/oauth/.well-known/openid-configuration", operation_id = "openid_metadata_appended", tag = "oauth",
    responses((status = 200, description = "The metadata.", body = Metadata)))]
pub async fn openid_appended(State(app): AppState) -> Json<Metadata> {
    document(&app)
}
