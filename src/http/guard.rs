//! Layers around every route: no secret in a URL, no change that dies with its caller, no refused change unrecorded.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;
use percent_encoding::percent_decode_str;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use crate::app::AppState;
use crate::audit::Entry;
use crate::http::problem::{Problem, ProblemCode};
use crate::refusal::{Code, Refused};
use crate::types::caller::Caller;
use crate::types::credential;

/// Parameters that hold secrets in OAuth and must be in the body (RFC 6750 §2.3, RFC 6749 §2.3.1).
const SECRET_PARAMETERS: [&str; 6] = ["access_token", "token", "client_secret", "subject_token", "actor_token", "key"];

/// Where a browser changes something by going there: that is how OAuth sends people on.
const CHANGED_BY_GET: [&str; 3] = ["/oauth/authorize", "/oauth/sign-in/", "/oauth/callback/"];

/// Refuses secrets in the URL: URLs end up in logs, histories and `Referer`.
pub(super) async fn no_secret_in_query(request: Request, next: Next) -> Result<Response, Problem> {
    let uri = request.uri();
    let named = uri.query().unwrap_or_default().split('&').any(|pair| {
        let name = percent_decode_str(pair.split('=').next().unwrap_or_default()).decode_utf8_lossy();
        SECRET_PARAMETERS.contains(&name.as_ref())
    });
    if named || credential::looks_like_one(&percent_decode_str(&uri.to_string()).decode_utf8_lossy()) {
        let detail = "A secret stands in the URL. Send it in the body or in a header, and replace it: URLs are logged.";
        return Err(Refused::new(Code::SecretInQuery, detail).into());
    }
    Ok(next.run(request).await)
}

/// The routes that can be asked something in their query, by the API's own description.
pub(super) fn asking(api: &OpenApi) -> Arc<HashSet<String>> {
    let in_query = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query);
    let asks = |operation: &Operation| operation.parameters.iter().flatten().any(in_query);
    let paths = api.paths.paths.iter().filter(|(_, item)| item.get.as_ref().is_some_and(asks));
    Arc::new(paths.map(|(path, _)| path.clone()).collect())
}

/// Refuses a query where none is read: nobody shall think that it counted.
pub(super) async fn no_unknown_query(
    State(asking): State<Arc<HashSet<String>>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let known = reads && asking.contains(route);
    if !known && request.uri().query().is_some_and(|query| !query.is_empty()) {
        return Err(Refused::new(Code::InvalidQuery, "This route takes no parameters in the query.").into());
    }
    Ok(next.run(request).await)
}

/// Runs what may change something as a task of its own, so that a caller who hangs up cancels nothing half way.
pub(super) async fn tracked(State(app): AppState, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads && !CHANGED_BY_GET.iter().any(|prefix| request.uri().path().starts_with(prefix)) {
        return next.run(request).await;
    }
    let span = tracing::Span::current();
    let running = app.changes.spawn(tracing::Instrument::instrument(async move { next.run(request).await }, span));
    running.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request panicked");
        internal()
    })
}

/// What a request is answered whose handler panicked.
pub(super) fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    tracing::error!("a request panicked");
    internal()
}

/// A fault of ours, told without its cause.
fn internal() -> Response {
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
