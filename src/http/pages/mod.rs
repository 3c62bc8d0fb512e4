//! Pages for people: sign-in, consent, refusals. Plain HTML, one style sheet, no script at all.
//!
//! Everything that a page shows was sent by somebody. The templates escape it; the policy lets nothing run and nobody frame it.

pub(super) mod cookies;
pub(super) mod same_origin;
pub(super) mod views;
pub(super) mod words;

use std::sync::LazyLock;

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use url::{Host, Url};

const STYLE: &str = include_str!("style.css");
/// A year: under another content the name is another.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// Where the style sheet is. A page and its style never come from different versions.
pub(super) static STYLE_PATH: LazyLock<String> =
    LazyLock::new(|| format!("/oauth/pages/style-{:08x}.css", crc32fast::hash(STYLE.as_bytes())));

/// `GET /oauth/pages/style-….css`. Holds nothing that is not public.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/oauth/pages/{file}", get(style))
}

async fn style(Path(file): Path<String>) -> Response {
    let current = STYLE_PATH.ends_with(&format!("/{file}"));
    let of_another_release = file.strip_prefix("style-").is_some_and(|rest| rest.strip_suffix(".css").is_some());
    if !current && !of_another_release {
        return StatusCode::NOT_FOUND.into_response();
    }
    // While nodes are replaced a page of one asks the other: it gets what there is, and does not keep it.
    let caching = if current { FOR_EVER } else { "no-store" };
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, caching),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, STYLE).into_response()
}

/// A page. `forms_lead_to`: beside ourselves, where the answer to its form may send the browser.
pub(super) fn page(status: StatusCode, view: &impl Template, forms_lead_to: Option<&str>) -> Response {
    let Ok(html) = view.render() else {
        tracing::error!("a page could not be written");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = (status, Html(html)).into_response();
    guard(response.headers_mut(), forms_lead_to);
    response
}

/// What keeps a page of ours to itself (A20): nobody frames it, nothing runs in it, nobody keeps it, no address of it is told
/// to others. Not `no-referrer`: with that, browsers say `Origin: null` of our own forms.
pub(super) fn guard(headers: &mut HeaderMap, forms_lead_to: Option<&str>) {
    // A form whose answer redirects to another origin needs that origin here.
    let target = forms_lead_to.map(|uri| format!(" {}", source(uri))).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'{target}"
    );
    let fixed = [
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}

/// The source expression (W3C CSP Level 3 §2.3.1) for where a redirect URI leads: its origin; its scheme alone, where that
/// has no origin, or one that cannot be written there (IPv6, signs that part directives).
fn source(uri: &str) -> String {
    let Ok(url) = Url::parse(uri) else { return "'none'".to_owned() };
    let scheme = || format!("{}:", url.scheme());
    let Some(Host::Domain(_) | Host::Ipv4(_)) = url.host() else { return scheme() };
    let origin = url.origin().ascii_serialization();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:/-_".contains(&byte);
    if matches!(url.scheme(), "https" | "http") && origin.bytes().all(plain) { origin } else { scheme() }
}

/// Sends the browser on with GET, whatever it came with (RFC 9700 §4.12: never 307).
pub(super) fn see_other(to: &str) -> Response {
    let Ok(to) = HeaderValue::from_str(to) else {
        tracing::error!("a redirect could not be written");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = StatusCode::SEE_OTHER.into_response();
    guard(response.headers_mut(), None);
    response.headers_mut().insert(header::LOCATION, to);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_may_lead_to_one_origin_and_no_address_adds_to_the_policy() {
        for (uri, expected) in [
            ("https://app.example/cb?x=1", "https://app.example"),
            ("https://app.example:8443/cb", "https://app.example:8443"),
            ("http://127.0.0.1:3000/cb", "http://127.0.0.1:3000"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000/cb", "http:"),
            ("com.example.app:/cb", "com.example.app:"),
            ("com.example.app://cb", "com.example.app:"),
            ("https://app.example;script-src/cb", "https:"),
            ("https://app.example,x/cb", "https:"),
        ] {
            assert_eq!(source(uri), expected, "{uri}");
        }
    }

    #[test]
    fn the_style_asks_for_nothing_elsewhere() {
        for foreign in ["http:", "https:", "@import", "url(", "//"] {
            assert!(!STYLE.contains(foreign), "{foreign}");
        }
    }
}
