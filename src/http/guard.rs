//! Layers around every route: no secret in a URL, no change that dies with its caller, no refused change unrecorded.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;

use crate::app::AppState;
use crate::audit::Entry;
use crate::http::problem::{Problem, ProblemCode};
use crate::refusal::{Code, Refused};
use crate::types::caller::Caller;
use crate::types::credential;

/// Parameters that hold secrets in OAuth and must be in the body (RFC 6750 §2.3, RFC 6749 §2.3.1).
const SECRET_PARAMETERS: [&str; 6] = ["access_token", "token", "client_secret", "subject_token", "actor_token", "key"];

/// Refuses secrets in the URL: URLs end up in logs, histories and `Referer`.
pub(super) async fn no_secret_in_query(request: Request, next: Next) -> Result<Response, Problem> {
    let uri = request.uri();
    let named = uri.query().unwrap_or_default().split('&').any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        SECRET_PARAMETERS.contains(&name)
    });
    if named || credential::looks_like_one(&uri.to_string()) {
        let detail = "A secret stands in the URL. Send it in the body or in a header, and replace it: URLs are logged.";
        return Err(Refused::new(Code::SecretInQuery, detail).into());
    }
    Ok(next.run(request).await)
}

/// Runs what may change something as a task of its own, so that a caller who hangs up cancels nothing half way.
pub(super) async fn tracked(State(app): AppState, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    let span = tracing::Span::current();
    let running = app.changes.spawn(tracing::Instrument::instrument(async move { next.run(request).await }, span));
    running.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request panicked");
        internal()
    })
}

/// A fault of ours, told without its cause.
pub(super) fn internal() -> Response {
    Problem::from(Refused::new(Code::Internal, "Something went wrong here. It was logged under this request's id."))
        .into_response()
}

/// Records refused changes of `/v1`; the successful ones recorded themselves in their transaction. While nothing can be
/// recorded, nothing is changed.
pub(super) async fn recorded(State(app): AppState, request: Request, next: Next) -> Result<Response, Problem> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(next.run(request).await);
    }
    if !app.recorder.can_record() {
        app.metrics.audit_write_failure();
        return Err(Refused::new(Code::AuditUnavailable, "The audit cannot be written, so nothing is changed.").into());
    }
    let caller = request.extensions().get::<Caller>().cloned();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let action = format!("{} {route}", request.method());
    let target = request.uri().path().chars().take(200).collect::<String>();
    let response = next.run(request).await;
    let code = response.extensions().get::<ProblemCode>();
    if let (Some(code), Some(caller)) = (code, caller) {
        let entry = Entry::new(&caller, &action).on(&target).refused(&code.0);
        if !app.recorder.record(entry) {
            app.metrics.audit_write_failure();
        }
    }
    Ok(response)
}
