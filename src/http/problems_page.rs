//! `/docs/problems`: the page that explains each code, as `type` of a problem points to it.

use axum::response::{IntoResponse, Response};
use http::header;

const PAGE: &str = include_str!("../../docs/problems.md");

/// The page, as it stands in the repository.
pub(super) async fn get() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/markdown; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, PAGE).into_response()
}
