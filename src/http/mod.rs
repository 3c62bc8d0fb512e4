//! The doors: every route and every layer, top to bottom. A file's path is its URL.

pub mod caller;
pub mod certificate;
mod claims;
pub mod client_address;
pub mod docs;
mod examples;
pub mod extract;
mod front;
mod guard;
pub mod health;
mod idempotent;
mod keys_self;
pub mod listen;
pub mod oauth;
pub mod page;
mod pages;
mod problems_page;
pub mod problem;
pub mod reply;
mod request_id;
pub mod tls;
mod told;
pub mod v1;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::routing::get;
use axum::{Json, Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::http::extract::BODY_BYTES_MAX;
use crate::http::front::Front;
use crate::http::oauth::OAuthWire;
use crate::http::problem::Problem;
use crate::refusal::{Code, FieldError, Refused};
use crate::webhooks::{EventData, EventType, Message};

/// The frame of the API's description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "mcp-authority",
        description = "Issues, checks, limits, rotates and revokes the credentials that AI agents use against MCP servers.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    // What only parameters and refusals refer to; everything else is found through the routes.
    components(schemas(Problem, FieldError, OAuthWire, v1::agents::Switch, crate::authorizations::Outcome, v1::audit::Outcome, crate::types::key_state::KeyState, v1::sessions::Status, EventType, EventData, Message)),
    modifiers(&Credentials)
)]
struct Description;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let bearer = |text: &str| {
            SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build())
        };
        let basic = SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Basic)
                .description(Some("A server's `client_id` and secret, or a key's id and the key."))
                .build(),
        );
        let components = api.components.get_or_insert_with(Default::default);
        components.add_security_scheme("operator", bearer("An operator's key, `mcp_admin_…`."));
        components.add_security_scheme("key", bearer("An API key, `mcp_prod_…` or `mcp_dev_…`."));
        components.add_security_scheme("client", basic);
        told::add(api);
    }
}

/// Every route, with the description of it that clients are generated from.
fn routes_and_description(app: &Arc<App>) -> (Router<Arc<App>>, utoipa::openapi::OpenApi) {
    let state = || Arc::clone(app);
    let operators = v1::routes();
    let asking = guard::asking(operators.get_openapi());
    let operators = operators
        .route_layer(middleware::from_fn_with_state(asking, guard::no_unknown_query))
        .route_layer(middleware::from_fn_with_state(state(), idempotent::layer))
        .route_layer(middleware::from_fn_with_state(state(), guard::recorded))
        .route_layer(middleware::from_fn_with_state(state(), caller::authenticate));
    let (routes, mut api) = OpenApiRouter::with_openapi(Description::openapi())
        .merge(oauth::closed_routes())
        .merge(operators)
        .routes(routes!(keys_self::get))
        .routes(routes!(keys_self::rotate))
        .routes(routes!(keys_self::revoke))
        .routes(routes!(claims::get, claims::open))
        .routes(routes!(v1::leaks::github))
        .routes(routes!(v1::leaks::create))
        .routes(routes!(v1::stream::get))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .split_for_parts();
    // Their answer to other methods stands inside the layer: outside it a preflight would end as 405.
    let (open, described) = oauth::open_routes().split_for_parts();
    api.merge(described);
    examples::add(&mut api);
    (routes.merge(open.method_not_allowed_fallback(no_such_method).layer(cors())), api)
}

/// The description of the API (OpenAPI 3.1), as it is served and as it is kept in `openapi/authority.json`.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut api = OpenApiRouter::<Arc<App>>::with_openapi(Description::openapi())
        .merge(oauth::open_routes())
        .merge(oauth::closed_routes())
        .merge(v1::routes())
        .routes(routes!(keys_self::get))
        .routes(routes!(keys_self::rotate))
        .routes(routes!(keys_self::revoke))
        .routes(routes!(claims::get, claims::open))
        .routes(routes!(v1::leaks::github))
        .routes(routes!(v1::leaks::create))
        .routes(routes!(v1::stream::get))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .into_openapi();
    examples::add(&mut api);
    api
}

/// The whole service.
#[must_use]
pub fn service(app: &Arc<App>) -> Front {
    Front::new(Arc::clone(app), router(app))
}

/// The service without what stands before its routes.
pub fn router(app: &Arc<App>) -> Router {
    let (routes, api) = routes_and_description(app);
    let state = || Arc::clone(app);
    let description: Arc<str> = api.to_json().unwrap_or_default().into();
    let json = [(header::CONTENT_TYPE, "application/json")];
    routes
        .merge(docs::routes())
        .merge(pages::routes())
        .route("/docs/problems", get(problems_page::get))
        .route("/openapi.json", get(async move || (json, description.to_string())))
        .fallback(async || Problem::from(Refused::new(Code::RouteNotFound, "There is no such route; see /docs.")))
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(state(), guard::tracked))
        .layer(middleware::from_fn(guard::no_secret_in_query))
        .layer(CatchPanicLayer::custom(guard::panicked))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(middleware::from_fn_with_state(state(), request_id::layer))
        .with_state(state())
}

async fn no_such_method() -> Problem {
    Problem::from(Refused::new(Code::MethodNotAllowed, "The route has no such method; see /docs."))
}

/// Metrics, on their own listener.
pub fn metrics_router(app: &Arc<App>) -> Router {
    let state = Arc::clone(app);
    let render = async move || {
        crate::jobs::measure(&state).await;
        ([(header::CONTENT_TYPE, crate::telemetry::CONTENT_TYPE)], state.metrics.render())
    };
    Router::new().route("/metrics", get(render)).fallback(async || Json("see /metrics"))
}

/// Clients that run in a page need these; no credentials of the browser are involved.
fn cors() -> CorsLayer {
    let mcp_version = HeaderName::from_static("mcp-protocol-version");
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::OPTIONS])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, mcp_version, oauth::dpop::PROOF])
        .expose_headers([header::WWW_AUTHENTICATE, oauth::dpop::NONCE])
}
