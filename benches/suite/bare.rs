//! The ceilings: a bare axum route and a bare hyper route that read a form and answer the bytes they were given.
//!
//! They run in a process of their own, like the service. Its standard input is the reply's body; it prints its port.

use std::convert::Infallible;
use std::io::Read;

use anyhow::Context;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Form, Router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bare {
    Axum,
    Hyper,
}

impl Bare {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Axum => "axum",
            Self::Hyper => "hyper",
        }
    }
}

/// The form of a question, as the service's own clients send it.
#[derive(serde::Deserialize)]
struct Question {
    token: String,
}

/// Serves until it is killed.
#[tokio::main]
pub(crate) async fn serve(bare: Bare) -> anyhow::Result<()> {
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body)?;
    let body = Bytes::from(body);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    match bare {
        Bare::Axum => {
            let router = Router::new().route("/oauth/introspect", post(answer)).with_state(body);
            axum::serve(listener, router).await.context("axum ended")
        }
        Bare::Hyper => hyper(listener, body).await,
    }
}

async fn answer(State(body): State<Bytes>, Form(question): Form<Question>) -> impl IntoResponse {
    std::hint::black_box(&question.token);
    (HEADERS, body)
}

/// Those of the service's reply.
const HEADERS: [(http::HeaderName, HeaderValue); 2] = [
    (CONTENT_TYPE, HeaderValue::from_static("application/json")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

async fn hyper(listener: TcpListener, body: Bytes) -> anyhow::Result<()> {
    let connections = TaskTracker::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let body = body.clone();
            async move {
                let form =
                    request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                let token = url::form_urlencoded::parse(&form).find(|(name, _)| name == "token");
                std::hint::black_box(&token);
                let mut response = Response::new(Full::new(body));
                response.headers_mut().extend(HEADERS);
                Ok::<_, Infallible>(response)
            }
        });
        connections.spawn(async move {
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A client that goes away ends its connection, and nothing else.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
