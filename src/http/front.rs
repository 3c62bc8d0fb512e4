//! Before the router: the two routes that agents and servers send all day are answered without it.
//!
//! Finding a route, running its layers and keeping a task apart for what may change something costs more than these answers
//! do. Their handlers are the router's own, so that there is one answer, wherever a request comes in; what the layers would
//! have done for them is done here. Everything unusual – another method, a query, a page of another origin – goes the long way.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, State};
use axum::response::{IntoResponse, Response};
use axum::routing::future::RouteFuture;
use futures_util::FutureExt;
use futures_util::future::Either;
use http::{HeaderValue, Method, Request, header};
use tower::Service;

use crate::app::App;
use crate::http::oauth::form::Received;
use crate::http::oauth::{introspect, token};
use crate::http::{guard, request_id};

/// What is answered here.
#[derive(Clone, Copy)]
enum Route {
    Introspect,
    Token,
}

impl Route {
    /// The route of a request that needs nothing of what only the router's layers do.
    fn of(request: &Request<Body>) -> Option<Self> {
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

    async fn answer(self, app: Arc<App>, request: Request<Body>) -> Response {
        let received = match Received::from_request(request, &app).await {
            Ok(received) => received,
            Err(refused) => return refused.into_response(),
        };
        match self {
            Self::Introspect => introspect::post(State(app), received).await.into_response(),
            // Kept apart: it is the larger by far, and whoever only asks would carry its room along.
            Self::Token => Box::pin(token::post(State(app), received)).await.into_response(),
        }
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

type Answered = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl Service<Request<Body>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Answered, RouteFuture<Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match Route::of(&request) {
            Some(route) => Either::Left(Box::pin(answered(Arc::clone(&self.app), route, request))),
            None => Either::Right(self.router.call(request)),
        }
    }
}

async fn answered(app: Arc<App>, route: Route, request: Request<Body>) -> Result<Response, Infallible> {
    let answer = |request| {
        let answer = std::panic::AssertUnwindSafe(route.answer(Arc::clone(&app), request)).catch_unwind();
        answer.map(|answer| answer.unwrap_or_else(guard::panicked))
    };
    // A span for each answer would cost a tenth of it, and these log nothing while all is well.
    let span = |id: &str, method: &Method| tracing::debug_span!("request", id = %id, %method, route = route.path());
    let mut response = request_id::answered((&app, Some(route.path())), request, span, answer).await;
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
