//! What handlers answer with: a thing and its tag, a new thing and where it is, a change and its receipt.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::db::Done;
use crate::feed::{Enforced, Feed};
use crate::types::patch::etag;

/// A thing, with its strong entity tag.
pub struct Tagged<T>(pub T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let tag = etag(&self.0);
        tagged(Json(self.0).into_response(), &tag)
    }
}

fn tagged(mut response: Response, tag: &str) -> Response {
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// A new thing at its place. Replies with a secret are not to be kept.
pub struct Created<T> {
    /// Its path.
    pub location: String,
    /// It.
    pub thing: T,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, Json(self.thing)).into_response();
        let headers = response.headers_mut();
        if let Ok(location) = HeaderValue::from_str(&self.location) {
            headers.insert(header::LOCATION, location);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// A thing, and the receipt of what was taken away.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Receipted<T> {
    /// The thing as it is now.
    #[serde(flatten)]
    pub thing: T,
    /// Where it holds; absent when nothing was taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforced: Option<Enforced>,
}

impl<T: Serialize> Receipted<T> {
    /// Waits until the change is enforced everywhere; or, when it only adds, a moment.
    pub async fn wait(feed: &Feed, thing: T, done: Done, narrowed: bool) -> Self {
        if narrowed {
            let enforced = Some(feed.enforced(done).await);
            return Self { thing, enforced };
        }
        feed.spread(done).await;
        Self { thing, enforced: None }
    }

    /// The status: 202 while some node may still answer from before.
    #[must_use]
    pub fn status(&self, whole: StatusCode) -> StatusCode {
        let complete = self.enforced.as_ref().is_none_or(|enforced| enforced.complete);
        if complete { whole } else { StatusCode::ACCEPTED }
    }
}

impl<T: Serialize> IntoResponse for Receipted<T> {
    fn into_response(self) -> Response {
        let status = self.status(StatusCode::OK);
        let tag = etag(&self.thing);
        let mut response = tagged((status, Json(self)).into_response(), &tag);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// A member of a reply, beside those that are always so, that is shown once: a repeated request does not get it.
#[derive(Clone, Copy)]
pub struct ShownOnce(pub &'static str);

/// Nothing but a receipt.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Nothing {}
