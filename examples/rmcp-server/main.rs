//! Servers on the crate `rmcp` for the interop tests: the way that docs/protect-rust.md shows. The variable `SERVERS` lists them.
#![expect(clippy::expect_used, reason = "a program of a test may end by panicking")]
#![expect(clippy::disallowed_methods, reason = "its settings are in the environment")]
#![expect(clippy::unused_self, reason = "the crate calls a tool as a method")]
#![expect(unreachable_pub, reason = "the page that shows the verifiers shows what a crate of its own would have")]

mod verifiers;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header, request};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use rmcp::handler::server::tool::Extension;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use url::Url;

use crate::verifiers::{Claims, Introspection, Signature, Verifier};

// docs: server
struct Guard {
    verifier: Verifier,
    /// Where this server says who its authorization server is (RFC 9728 §3.1).
    metadata: Url,
}

const SCOPE: &str = "notes:read";

/// A server that only those may use to whom the authority gave its scope.
fn application(issuer: &str, resource: &Url, verifier: Verifier) -> Router {
    let mut metadata = resource.clone();
    metadata.set_path(&format!("/.well-known/oauth-protected-resource{}", resource.path().trim_end_matches('/')));
    let document = json!({"resource": resource.as_str().trim_end_matches('/'), "authorization_servers": [issuer],
                          "scopes_supported": [SCOPE], "bearer_methods_supported": ["header"]});
    let well_known = get(move || std::future::ready(Json(document)));
    let path = metadata.path().to_owned();

    // Only names of this machine are taken in `Host`, unless others are allowed: `with_allowed_hosts`.
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    let sessions = Arc::new(LocalSessionManager::default());
    let notes = StreamableHttpService::new(|| Ok(Notes), sessions, config);
    let guard = Arc::new(Guard { verifier, metadata });
    let guarded = Router::new().fallback_service(notes).layer(from_fn_with_state(guard, require_bearer));
    Router::new().route(&path, well_known).fallback_service(guarded)
}

async fn require_bearer(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let challenge = |status: StatusCode, error: &str| {
        let value = format!(r#"Bearer resource_metadata="{}", scope="{SCOPE}"{error}"#, guard.metadata);
        (status, [(header::WWW_AUTHENTICATE, value)]).into_response()
    };
    let presented = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token =
        presented.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some((_, token)) = token else { return challenge(StatusCode::UNAUTHORIZED, "") };
    match guard.verifier.claims(token).await {
        Ok(Some(claims)) if claims.scope.split(' ').any(|scope| scope == SCOPE) => {
            request.extensions_mut().insert(claims);
            next.run(request).await
        }
        Ok(Some(_)) => challenge(StatusCode::FORBIDDEN, r#", error="insufficient_scope""#),
        Ok(None) => challenge(StatusCode::UNAUTHORIZED, r#", error="invalid_token""#),
        Err(reason) => {
            tracing::warn!(%reason, "a token was not checked");
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response()
        }
    }
}

#[derive(Clone)]
struct Notes;

#[tool_router]
impl Notes {
    #[tool(description = "Says who is calling.")]
    fn whoami(&self, Extension(request): Extension<request::Parts>) -> String {
        let caller = request.extensions.get::<Claims>().expect("the guard has seen the token");
        format!("{} by {}", caller.sub, caller.client_id)
    }
}

#[tool_handler]
impl ServerHandler for Notes {}
// docs: end

#[derive(Deserialize)]
struct Wanted {
    issuer: String,
    resource: Url,
    verifier: String,
    token_alg: String,
    client_id: String,
    client_secret: String,
}

impl Wanted {
    fn verifier(self, http: reqwest::Client) -> Verifier {
        let Self { issuer, resource, client_id, client_secret, .. } = self;
        if self.verifier == "introspection" {
            return Verifier::Introspection(Introspection { http, issuer, client_id, client_secret });
        }
        let algorithm = self.token_alg.parse().expect("an algorithm");
        let resource = resource.as_str().trim_end_matches('/').to_owned();
        Verifier::Signature(Signature { http, issuer, resource, algorithm, keys: None.into() })
    }
}

#[tokio::main]
async fn main() {
    let wanted = std::env::var("SERVERS").expect("SERVERS");
    let wanted: Vec<Wanted> = serde_json::from_str(&wanted).expect("a list of servers");
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build().expect("a client");
    let mut servers = JoinSet::new();
    for one in wanted {
        let (issuer, resource) = (one.issuer.clone(), one.resource.clone());
        let listener = TcpListener::bind(("127.0.0.1", resource.port().expect("a port"))).await.expect("a port");
        let app = application(&issuer, &resource, one.verifier(http.clone()));
        servers.spawn(async move { axum::serve(listener, app).await });
    }
    signal(SignalKind::terminate()).expect("a signal").recv().await;
}
