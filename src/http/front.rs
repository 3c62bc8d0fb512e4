//! Before the router: the two routes that agents and servers send all day are answered without it.
//!
//! Finding a route, running its layers and keeping a task apart for what may change something costs more than these answers
//! do. Their handlers are the router's own, so that there is one answer, wherever a request comes in; what the layers would
//! have done for them is done here. Everything unusual – another method, a query, a page of another origin – goes the long way.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::Either;
use http::{HeaderValue, Method, Request, header};
use tracing::Instrument;

use crate::app::App;
use crate::http::caller::Origin;
use crate::http::guard;
use crate::http::listen::{Answers, TimedBody};
use crate::http::oauth::form::Received;
use crate::http::oauth::{introspect, token};
use crate::http::request_id::UnderWay;

/// What is answered here.
#[derive(Clone, Copy)]
enum Route {
    Introspect,
    Token,
}

impl Route {
    /// The route of a request that needs nothing of what only the router's layers do.
    fn of(request: &Request<TimedBody>) -> Option<Self> {
        let plain = *request.method() == Method::POST
            && request.uri().query().is_none()
            // Cross-origin requests need the router's headers.
            && !request.headers().contains_key(header::ORIGIN);
        match request.uri().path() {
            introspect::PATH if plain => Some(Self::Introspect),
            token::PATH if plain => Some(Self::Token),
            _ => None,
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Introspect => introspect::PATH,
            Self::Token => token::PATH,
        }
    }

    async fn answer(self, app: &App, origin: Origin, request: Request<TimedBody>) -> Response {
        let (head, body) = request.into_parts();
        let answered = match Received::read(head.headers, origin, body).await {
            Err(refused) => Err(refused),
            Ok(received) => match self {
                Self::Introspect => introspect::answer(app, &received).await,
                // Kept apart: it is the larger by far, and whoever only asks would carry its room along.
                Self::Token => Box::pin(token::answer(app, &received)).await,
            },
        };
        answered.unwrap_or_else(IntoResponse::into_response)
    }
}

/// The service: these routes, and the router behind them.
#[derive(Clone)]
pub struct Front {
    app: Arc<App>,
    router: Router,
}

impl Front {
    /// Before `router`, which answers the same routes too.
    pub(super) const fn new(app: Arc<App>, router: Router) -> Self {
        Self { app, router }
    }
}

impl Answers for Front {
    fn answer(&self, peer: SocketAddr, request: Request<TimedBody>) -> impl Future<Output = Response> + Send {
        match Route::of(&request) {
            Some(route) => Either::Left(self.at_once(route, peer, request)),
            None => Either::Right(self.router.answer(peer, request)),
        }
    }
}

impl Front {
    async fn at_once(&self, route: Route, peer: SocketAddr, request: Request<TimedBody>) -> Response {
        let under_way = UnderWay::begin(request.headers(), request.method(), Some(route.path()));
        // A span for each answer would cost a tenth of it, and these log nothing while all is well.
        let span =
            tracing::debug_span!("request", id = %under_way.id, method = %request.method(), route = route.path());
        let origin = Origin { peer: Some(peer.ip()), id: Some(under_way.id) };
        let answer = std::panic::AssertUnwindSafe(route.answer(&self.app, origin, request)).catch_unwind();
        let answered = answer.instrument(span.clone()).await.unwrap_or_else(guard::panicked);
        let mut response = under_way.end(&self.app, &span, answered);
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
