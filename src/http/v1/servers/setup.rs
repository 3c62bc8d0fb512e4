//! `/v1/servers/{id}/setup`: what whoever runs a server needs to know to rely on the authority.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::http::caller::{By, ServersRead};
use crate::http::extract::Id;
use crate::http::problem::{Problem, Refusals};
use crate::servers::{self, Server};
use crate::types::id::ServerId;

/// What a server is set up with. It holds no secret.
#[derive(Serialize, ToSchema)]
pub struct Setup {
    /// Our issuer, letter by letter.
    issuer: String,
    /// Where this server authenticates with its `client_id` and secret, to ask about what it was shown.
    introspection_endpoint: String,
    /// Where it ends tokens issued for it.
    revocation_endpoint: String,
    /// Our keys, for servers that check signatures themselves and learn of no revocation.
    jwks_uri: String,
    /// What its tokens are signed with.
    token_alg: String,
    /// Where it learns at once which of its tokens died.
    revocation_stream: String,
    /// Its own id here.
    client_id: String,
    /// The document that it serves (RFC 9728 §2).
    protected_resource_metadata: ProtectedResource,
    /// Where it serves that (RFC 9728 §3.1).
    protected_resource_metadata_url: String,
    /// What it answers beside 401 when no token, or a dead one, was shown (RFC 9728 §5.1).
    www_authenticate: String,
    /// The same for the examples, as environment variables; the secret is not among them.
    environment: BTreeMap<&'static str, String>,
}

/// Protected resource metadata (RFC 9728 §2).
#[derive(Serialize, ToSchema)]
pub struct ProtectedResource {
    /// The server's resource URI, as registered.
    resource: String,
    /// Our issuer, alone.
    authorization_servers: [String; 1],
    /// The server's own scope names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<String>,
    /// In the `Authorization` header only.
    bearer_methods_supported: [&'static str; 1],
    /// For people.
    resource_name: String,
}

/// Tells what a server is set up with: endpoints, its protected resource metadata to copy, environment variables.
#[utoipa::path(get, path = "/v1/servers/{id}/setup", operation_id = "get_server_setup", tag = "servers", params(("id" = String, Path, description = "The server's id.", pattern = "^srv_[0-9A-Za-z]{12}$")),
    security(("operator" = ["servers:read"])), extensions(("x-scope" = json!("servers:read"))),
    responses((status = 200, description = "What it is set up with.", body = Setup), Refusals))]
pub async fn get(by: By<ServersRead>, State(app): AppState, Id(id): Id<ServerId>) -> Result<Json<Setup>, Problem> {
    let server = servers::get(&mut *app.db.reads().acquire().await?, &by.caller, id.as_str()).await?;
    Ok(Json(setup(&app, server)))
}

fn setup(app: &App, server: Server) -> Setup {
    let issuer = app.config.public_url.issuer();
    let metadata_url = metadata_url(&server.resource);
    let scopes: Vec<String> = server.scopes.iter().map(|scope| scope.name().to_owned()).collect();
    let asked = if scopes.is_empty() { String::new() } else { format!(", scope=\"{}\"", scopes.join(" ")) };
    let environment = BTreeMap::from([
        ("AUTHORITY_ISSUER", issuer.clone()),
        ("CLIENT_ID", server.id.clone()),
        ("RESOURCE", server.resource.clone()),
    ]);
    Setup {
        introspection_endpoint: format!("{issuer}/introspect"),
        revocation_endpoint: format!("{issuer}/revoke"),
        jwks_uri: format!("{issuer}/jwks"),
        token_alg: server.token_alg,
        revocation_stream: format!("{}/v1/revocations/stream", app.config.public_url),
        client_id: server.id,
        www_authenticate: format!("Bearer resource_metadata=\"{metadata_url}\"{asked}"),
        protected_resource_metadata: ProtectedResource {
            resource: server.resource,
            authorization_servers: [issuer.clone()],
            scopes_supported: scopes,
            bearer_methods_supported: ["header"],
            resource_name: server.name,
        },
        protected_resource_metadata_url: metadata_url,
        environment,
        issuer,
    }
}

/// The well-known part stands between host and path (RFC 9728 §3.1); a path of `/` alone is none.
fn metadata_url(resource: &str) -> String {
    let Ok(mut url) = Url::parse(resource) else { return String::new() };
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("/.well-known/oauth-protected-resource{path}"));
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_of_a_resource_stands_where_rfc_9728_puts_it() {
        for (resource, place) in [
            ("https://a.example.com", "https://a.example.com/.well-known/oauth-protected-resource"),
            ("https://a.example.com/", "https://a.example.com/.well-known/oauth-protected-resource"),
            ("https://a.example.com:8443/mcp", "https://a.example.com:8443/.well-known/oauth-protected-resource/mcp"),
            ("https://a.example.com/x/mcp/", "https://a.example.com/.well-known/oauth-protected-resource/x/mcp"),
        ] {
            assert_eq!(metadata_url(resource), place);
        }
    }
}
