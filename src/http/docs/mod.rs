//! The readable page of the API at `/docs`: three files of our own, which show `/openapi.json`.
//!
//! Needs no network beyond this service. The policy allows its own script and style only, and nobody may frame it.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, StatusCode};

/// The page's policy (W3C Content Security Policy Level 3): what is not named is refused.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      frame-ancestors 'none'; form-action 'none'";

/// A browser may keep a file, and asks each time whether it is still the one: after an upgrade page, script and style
/// never come from different versions.
const CACHING: &str = "no-cache";

const PAGE: File = File::new("text/html; charset=utf-8", include_str!("page.html"));
const STYLE: File = File::new("text/css; charset=utf-8", include_str!("page.css"));
const SCRIPT: File = File::new("text/javascript; charset=utf-8", include_str!("page.js"));

/// `GET /docs`, `/docs/page.css` and `/docs/page.js`. They need no credential and hold nothing that is not public.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/docs", get(async |asked: HeaderMap| PAGE.answer(&asked)))
        .route("/docs/page.css", get(async |asked: HeaderMap| STYLE.answer(&asked)))
        .route("/docs/page.js", get(async |asked: HeaderMap| SCRIPT.answer(&asked)))
}

/// A file that is part of the program.
struct File {
    media_type: &'static str,
    text: &'static str,
}

impl File {
    const fn new(media_type: &'static str, text: &'static str) -> Self {
        Self { media_type, text }
    }

    /// The file, or 304 when the caller has this very text (RFC 9110 §13.1.2).
    fn answer(&self, asked: &HeaderMap) -> Response {
        let tag = format!("\"{:08x}-{:x}\"", crc32fast::hash(self.text.as_bytes()), self.text.len());
        let headers = [
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (CACHE_CONTROL, CACHING),
            (CONTENT_TYPE, self.media_type),
            (ETAG, tag.as_str()),
        ];
        let has = asked.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
        if has.is_some_and(|tags| tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, self.text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE, POLICY, SCRIPT, STYLE, routes};
    use axum::body::Body;
    use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS};
    use http::{Request, Response, StatusCode};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    /// The only places that the page may lead to, besides those within itself.
    const OWN_PATHS: [&str; 3] = ["/docs/page.css", "/docs/page.js", "/openapi.json"];

    async fn get(path: &str, tag: Option<&str>) -> Response<Body> {
        let request = Request::get(path);
        let request = if let Some(tag) = tag { request.header(IF_NONE_MATCH, tag) } else { request };
        routes::<()>().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// The values of an attribute in the page.
    fn values<'a>(html: &'a str, attribute: &str) -> Vec<&'a str> {
        let start = format!(" {attribute}=\"");
        html.split(start.as_str()).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
    }

    #[test]
    fn the_page_has_no_inline_script_or_style() {
        let html = PAGE.text;
        assert_eq!(html.matches("<script").count(), html.matches("></script>").count());
        assert!(!html.contains("<style") && !html.contains(" style=") && !html.contains("javascript:"));
        let handlers = html.split(' ').filter(|word| word.starts_with("on") && word.contains('='));
        assert_eq!(handlers.count(), 0);
    }

    #[test]
    fn the_page_leads_to_own_paths_only() {
        let places = [values(PAGE.text, "src"), values(PAGE.text, "href")].concat();
        assert_eq!(places.len(), 5);
        let (inside, outside): (Vec<&str>, Vec<&str>) = places.into_iter().partition(|place| place.starts_with('#'));
        assert!(outside.iter().all(|place| OWN_PATHS.contains(place)), "{outside:?}");
        assert!(inside.iter().all(|place| values(PAGE.text, "id").contains(&&place[1..])), "{inside:?}");
        for file in [PAGE, STYLE, SCRIPT] {
            for foreign in ["//cdn", "http:", "https:", "@import", "url("] {
                assert!(!file.text.contains(foreign), "{foreign}");
            }
        }
    }

    #[test]
    fn the_script_writes_text_never_markup() {
        let doors = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "new Function",
            "import(",
            "srcdoc",
            "setHTML",
            ".style",
            "localStorage",
            "document.cookie",
        ];
        for door in doors {
            assert!(!SCRIPT.text.contains(door), "{door}");
        }
    }

    #[test]
    fn the_script_knows_every_id_that_it_asks_for() {
        let asked = SCRIPT.text.split("byId(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        for id in asked {
            assert!(values(PAGE.text, "id").contains(&id), "{id}");
        }
    }

    #[tokio::test]
    async fn every_file_is_served_with_its_type_and_the_policy() {
        for (path, file) in [("/docs", PAGE), ("/docs/page.css", STYLE), ("/docs/page.js", SCRIPT)] {
            let answer = get(path, None).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()[CONTENT_TYPE], file.media_type);
            assert_eq!(answer.headers().get_all(CONTENT_TYPE).iter().count(), 1);
            assert_eq!(answer.headers()[CONTENT_SECURITY_POLICY], POLICY);
            assert_eq!(answer.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), file.text);
        }
    }

    #[tokio::test]
    async fn a_file_that_the_browser_has_is_not_sent_again() {
        let tag = get("/docs/page.js", None).await.headers()[ETAG].to_str().unwrap().to_owned();
        let answer = get("/docs/page.js", Some(&format!("\"old\", W/{tag}"))).await;
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
        assert_eq!(get("/docs/page.css", Some(&tag)).await.status(), StatusCode::OK);
    }
}
