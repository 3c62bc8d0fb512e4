//! `GET /oauth/authorize`: the page that says that nobody can sign in here yet. It redirects nowhere.

use axum::response::{Html, IntoResponse, Response};
use http::{StatusCode, header};

const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
<title>No sign-in</title><main><h1>No sign-in is configured</h1><p>This authority issues tokens to agents with an API key. \
People cannot sign in here.</p><p>If a program sent you here, give it an API key instead: its administrator can issue one.</p></main></html>";

/// Says that no sign-in is configured.
#[utoipa::path(get, path = "/oauth/authorize", operation_id = "authorize", tag = "oauth",
    responses((status = 400, description = "A page that says so.", content_type = "text/html", body = String)))]
pub async fn get() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (StatusCode::BAD_REQUEST, headers, Html(PAGE)).into_response()
}
