//! The authorization server's metadata (RFC 8414), in the four places where clients look. It names only what works.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::clients::metadata::GrantType;
use crate::http::oauth::token::GRANTS;
use crate::proofs::ProofAlg;
use crate::types::alg::Alg;

/// Resources that the document names at most; more are found one by one, by their own metadata.
const RESOURCES_MAX: usize = 1_000;

/// The profile of [`GrantType::JwtBearer`] that is about people.
const ID_JAG_PROFILE: &str = "urn:ietf:params:oauth:grant-profile:id-jag";

/// The document. Members that do not apply are absent, never null.
#[derive(Serialize, ToSchema)]
pub struct Metadata {
    /// Our issuer; byte for byte the `iss` of our tokens.
    issuer: String,
    /// Where people agree. SDKs refuse a document without it; without an identity provider a page there says so.
    authorization_endpoint: String,
    /// Where session tokens are got.
    token_endpoint: String,
    /// Our keys.
    jwks_uri: String,
    /// Where a client registers itself (RFC 7591), while that is switched on.
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_endpoint: Option<String>,
    /// Where a client may send its request before the browser does (RFC 9126).
    #[serde(skip_serializing_if = "Option::is_none")]
    pushed_authorization_request_endpoint: Option<String>,
    /// Where a device without a browser begins (RFC 8628 §4).
    #[serde(skip_serializing_if = "Option::is_none")]
    device_authorization_endpoint: Option<String>,
    /// Where servers ask.
    introspection_endpoint: String,
    /// How servers authenticate there.
    introspection_endpoint_auth_methods_supported: Vec<String>,
    /// Where tokens end.
    revocation_endpoint: String,
    /// How callers authenticate there.
    revocation_endpoint_auth_methods_supported: Vec<String>,
    /// `code`; none, while people have nobody to sign in with.
    response_types_supported: Vec<String>,
    /// In the query of the redirect URI.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    response_modes_supported: Vec<String>,
    /// What the token endpoint understands.
    grant_types_supported: Vec<String>,
    /// Identity assertions of a company's provider, where one may send them (ID-JAG §4).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_grant_profiles_supported: Vec<String>,
    /// `S256`, always needed (RFC 7636).
    code_challenge_methods_supported: Vec<String>,
    /// How clients authenticate at the token endpoint; `none` is for public clients and for exchanging one's own token.
    token_endpoint_auth_methods_supported: Vec<String>,
    /// What client assertions may be signed with.
    token_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// What proofs of possession may be signed with (RFC 9449 §5.1).
    dpop_signing_alg_values_supported: Vec<String>,
    /// Replies of the authorization endpoint say from whom they are (RFC 9207).
    authorization_response_iss_parameter_supported: bool,
    /// A client id may be the address of the client's own metadata.
    client_id_metadata_document_supported: bool,
    /// What is not a server's own. Servers name theirs in their own metadata.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<String>,
    /// The servers that tokens can be got for (RFC 9728 §4).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    protected_resources: Vec<String>,
    /// Read by clients that take this for an OpenID document.
    subject_types_supported: Vec<String>,
    /// Read by clients that take this for an OpenID document.
    id_token_signing_alg_values_supported: Vec<String>,
    /// A page for people.
    service_documentation: String,
}

async fn document(app: &App) -> Json<Metadata> {
    // That there are any, and never which (ID-JAG §7).
    let assertions = app.issuers.offered(&app.db).await;
    let issuer = app.config.public_url.issuer();
    let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let methods = list(&["client_secret_basic", "client_secret_post", "private_key_jwt"]);
    let with_none = methods.iter().cloned().chain(["none".to_owned()]).collect();
    let memory = app.live.memory();
    let settings = app.live.settings.load();
    // Without anybody to sign in with there is no code to be had.
    let people = memory.providers.iter().any(|(_, provider)| !provider.disabled);
    let only_with_people = |names: &[&str]| if people { list(names) } else { Vec::new() };
    let of_people = |grant: &GrantType| {
        matches!(grant, GrantType::AuthorizationCode | GrantType::RefreshToken | GrantType::DeviceCode)
    };
    let asserted = |grant: &GrantType| *grant != GrantType::JwtBearer || assertions.workloads || assertions.people;
    let grants = GRANTS.iter().filter(|grant| (people || !of_people(grant)) && asserted(grant));
    let servers = memory.servers.iter().filter(|(_, server)| !server.disabled);
    let mut resources: Vec<String> = servers.map(|(_, server)| server.resource.to_string()).collect();
    resources.sort_unstable();
    resources.truncate(RESOURCES_MAX);
    Json(Metadata {
        authorization_endpoint: format!("{issuer}/authorize"),
        token_endpoint: format!("{issuer}/token"),
        jwks_uri: format!("{issuer}/jwks"),
        registration_endpoint: (people && settings.dynamic_registration).then(|| format!("{issuer}/register")),
        pushed_authorization_request_endpoint: people.then(|| format!("{issuer}/par")),
        device_authorization_endpoint: people.then(|| format!("{issuer}/device_authorization")),
        introspection_endpoint: format!("{issuer}/introspect"),
        introspection_endpoint_auth_methods_supported: methods.clone(),
        revocation_endpoint: format!("{issuer}/revoke"),
        revocation_endpoint_auth_methods_supported: methods,
        response_types_supported: only_with_people(&["code"]),
        response_modes_supported: only_with_people(&["query"]),
        grant_types_supported: grants.map(|grant| grant.as_str().to_owned()).collect(),
        authorization_grant_profiles_supported: if assertions.people { list(&[ID_JAG_PROFILE]) } else { Vec::new() },
        code_challenge_methods_supported: list(&["S256"]),
        token_endpoint_auth_methods_supported: with_none,
        token_endpoint_auth_signing_alg_values_supported: Alg::ALL.iter().map(|alg| alg.as_str().to_owned()).collect(),
        dpop_signing_alg_values_supported: ProofAlg::ALL.iter().map(|alg| alg.as_str().to_owned()).collect(),
        authorization_response_iss_parameter_supported: true,
        client_id_metadata_document_supported: people,
        scopes_supported: only_with_people(&["offline_access"]),
        protected_resources: resources,
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
    document(&app).await
}

/// The metadata, for clients that append the well-known part.
#[utoipa::path(get, path = "/oauth/.well-known/oauth-authorization-server", operation_id = "metadata_appended", tag = "oauth",
    responses((status = 200, description = "The metadata.", body = Metadata)))]
pub async fn appended(State(app): AppState) -> Json<Metadata> {
    document(&app).await
}

/// The metadata, for clients that look for OpenID Connect and insert.
#[utoipa::path(get, path = "/.well-known/openid-configuration/oauth", operation_id = "openid_metadata", tag = "oauth",
    responses((status = 200, description = "The metadata.", body = Metadata)))]
pub async fn openid_inserted(State(app): AppState) -> Json<Metadata> {
    document(&app).await
}

/// The metadata, for clients that look for OpenID Connect and append.
#[utoipa::path(get, path = "/oauth/.well-known/openid-configuration", operation_id = "openid_metadata_appended", tag = "oauth",
    responses((status = 200, description = "The metadata.", body = Metadata)))]
pub async fn openid_appended(State(app): AppState) -> Json<Metadata> {
    document(&app).await
}
