//! One request of somebody's browser, and how it ends when it does not go on.

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sqlx::PgConnection;

use super::consent::target;
use crate::app::App;
use crate::audit::Entry;
use crate::authorizations::{self, Purpose, Request, Waiting};
use crate::clients::{Application, ClientKind};
use crate::db;
use crate::gate::Stale;
use crate::http::caller::Origin;
use crate::http::oauth::client::Asking;
use crate::http::pages::cookies::Cookie;
use crate::http::pages::{page, see_other, views};
use crate::refusal::{Code, Refused};
use crate::types::caller::Caller;
use crate::types::id::FlowId;
use crate::users::{self, Login};

/// A stage of a flow, as its trace names it.
pub(in crate::http::oauth) mod stage {
    /// The client's request was looked at.
    pub(in crate::http::oauth) const REQUEST: &str = "request";
    /// Somebody typed the code of a device.
    pub(in crate::http::oauth) const DEVICE: &str = "device";
    /// The person was asked.
    pub(in crate::http::oauth) const CONSENT: &str = "consent";
    /// The browser was sent to a provider.
    pub(in crate::http::oauth) const PROVIDER: &str = "provider";
    /// The provider has answered.
    pub(in crate::http::oauth) const SIGN_IN: &str = "sign_in";
    /// The client gets a code.
    pub(in crate::http::oauth) const CODE: &str = "code";
}

/// A request of a browser.
pub(in crate::http::oauth) struct Visit {
    /// The service.
    pub(in crate::http::oauth) app: Arc<App>,
    /// The request's headers.
    pub(in crate::http::oauth) headers: HeaderMap,
    /// From where, for what is recorded.
    pub(in crate::http::oauth) asking: Asking,
    /// For the audit: nobody in particular, from somewhere.
    pub(in crate::http::oauth) by: Caller,
}

impl Visit {
    /// Of a request with these headers.
    pub(in crate::http::oauth) fn new(app: Arc<App>, headers: HeaderMap, origin: Origin) -> Self {
        let asking = Asking { address: origin.address(&app, &headers), request_id: origin.id };
        let by = asking.by("unknown".to_owned());
        Self { app, headers, asking, by }
    }

    /// A connection for what needs no transaction.
    pub(in crate::http::oauth) async fn connection(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>, End> {
        self.app.db.reads().acquire().await.map_err(|error| End::failed(db::Error::from(error).into()))
    }

    /// Who is signed in in this browser.
    pub(in crate::http::oauth) async fn login(&self, conn: &mut PgConnection) -> Result<Option<Login>, End> {
        match Cookie::Login.read(&self.app, &self.headers) {
            Some(cookie) => Ok(users::logged_in(conn, cookie).await.map_err(Refused::from)?),
            None => Ok(None),
        }
    }

    /// The request of a flow that waits in this browser, and in no other.
    pub(in crate::http::oauth) async fn waiting(&self, conn: &mut PgConnection, flow: &str) -> Result<Waiting, End> {
        let gone = |code, detail: &str| {
            End::page(stage::CONSENT, code, "This sign-in cannot go on", detail).of(flow).help(START_ANEW)
        };
        let Some(browser) = Cookie::Browser.read(&self.app, &self.headers) else {
            return Err(gone("no_cookie", "Your browser did not send the cookie that it was given when this began."));
        };
        let waiting = authorizations::waiting(conn, flow, browser).await.map_err(Refused::from)?;
        waiting.ok_or_else(|| gone("not_waiting", "It is over, took too long, or was begun in another browser."))
    }

    /// Notes that a stage went well. The flow goes on if that cannot be written: its trace is nobody's right.
    pub(in crate::http::oauth) async fn passed(&self, conn: &mut PgConnection, flow: &str, stage: &'static str) {
        if let Err(error) = authorizations::step(conn, flow, stage, None).await {
            tracing::warn!(%error, flow, "a step of a flow was not written");
        }
    }
}

/// What a person can do whose sign-in is over.
pub(in crate::http::oauth) const START_ANEW: &str = "Go back to the application and start again there.";
/// What a person can do about an application that asks wrongly.
pub(super) const TELL_ITS_MAKERS: &str =
    "This is a fault of the application that sent you here, or of how it was set up. You were not sent back to it.";
/// Why a person is not sent back to such an application.
const NOT_BY_ITSELF: &str = "You were not sent back automatically, because nobody here has checked this application.";

/// How a request ends that does not go on: told to the person, or by redirect to the client.
#[derive(Debug)]
pub(in crate::http::oauth) struct End {
    stage: &'static str,
    code: &'static str,
    detail: String,
    flow: Option<String>,
    /// The flow is not in the database yet; for whom it was.
    unopened: Option<String>,
    to: Box<To>,
}

#[derive(Debug)]
enum To {
    Person {
        status: StatusCode,
        title: String,
        expected: Vec<String>,
        help: String,
    },
    Client {
        redirect_uri: String,
        state: Option<String>,
    },
    /// The client, if the person goes on to it.
    ByLink {
        redirect_uri: String,
        state: Option<String>,
    },
    Unwell(Refused),
    Wait(u64),
}

impl End {
    fn new(stage: &'static str, code: &'static str, detail: impl Into<String>, to: To) -> Self {
        Self { stage, code, detail: detail.into(), flow: None, unopened: None, to: Box::new(to) }
    }

    /// A page that says so, with status 400.
    pub(in crate::http::oauth) fn page(
        stage: &'static str,
        code: &'static str,
        title: &str,
        detail: impl Into<String>,
    ) -> Self {
        let to = To::Person {
            status: StatusCode::BAD_REQUEST,
            title: title.to_owned(),
            expected: Vec::new(),
            help: TELL_ITS_MAKERS.to_owned(),
        };
        Self::new(stage, code, detail, to)
    }

    /// The error goes to the client (RFC 6749 §4.1.2.1); where none waits in this browser, to the person.
    pub(in crate::http::oauth) fn client(
        stage: &'static str,
        error: &'static str,
        detail: impl Into<String>,
        request: &Request,
    ) -> Self {
        if request.purpose == Purpose::Client {
            return Self::redirect(stage, (error, detail.into()), request.redirect_uri.clone(), request.state.clone());
        }
        let help = if request.purpose == Purpose::OwnPage { "Try again." } else { "You can close this page." };
        let title = if error == "access_denied" { "This was not allowed" } else { "This does not work now" };
        Self::page(stage, error, title, format!("Here is why: {}.", detail.into())).help(help)
    }

    /// The same, of a request that was not read whole.
    pub(super) fn redirect(
        during: &'static str,
        (error, detail): (&'static str, String),
        redirect_uri: String,
        state: Option<String>,
    ) -> Self {
        Self::new(during, error, detail, To::Client { redirect_uri, state })
    }

    /// The same before the person did anything. Nobody is sent on by itself to an application that only made itself known:
    /// else we would be the trusted address in front of anybody's page (A11, RFC 9700 §4.11.2).
    pub(super) fn before_the_person(mut self, client: &Application) -> Self {
        *self.to = match *self.to {
            To::Client { redirect_uri, state } if client.kind != ClientKind::Registered => {
                To::ByLink { redirect_uri, state }
            }
            to => to,
        };
        self
    }

    /// Something here, or the database, does not work.
    pub(in crate::http::oauth) fn failed(refused: Refused) -> Self {
        Self::new(stage::REQUEST, refused.code.as_str(), refused.detail.clone(), To::Unwell(refused))
    }

    /// Too much came from there.
    pub(in crate::http::oauth) fn wait(seconds: u64) -> Self {
        Self::new(stage::REQUEST, "too_many_failures", "Too much was asked from your network.", To::Wait(seconds))
    }

    /// In this flow.
    pub(in crate::http::oauth) fn of(mut self, flow: &str) -> Self {
        self.flow.get_or_insert_with(|| flow.to_owned());
        self
    }

    /// In this flow, which is opened for that: for the client that was named.
    pub(super) fn opening(mut self, flow: &str, client_id: &str) -> Self {
        self.unopened = Some(client_id.to_owned());
        self.of(flow)
    }

    /// In a flow of its own, where a page is shown and there is no flow yet: so that the person has something to tell.
    pub(super) fn told_in_a_flow(self, client_id: &str) -> Self {
        let shown = matches!(*self.to, To::Person { .. }) && self.flow.is_none();
        if shown { self.opening(FlowId::random().as_str(), client_id) } else { self }
    }

    /// What the person can do.
    pub(in crate::http::oauth) fn help(mut self, words: &str) -> Self {
        if let To::Person { help, .. } = &mut *self.to {
            words.clone_into(help);
        }
        self
    }

    /// What would have been right.
    pub(super) fn expected(mut self, these: &[String]) -> Self {
        if let To::Person { expected, .. } = &mut *self.to {
            expected.extend_from_slice(these);
        }
        self
    }

    /// With another status than 400.
    pub(in crate::http::oauth) fn status(mut self, new: StatusCode) -> Self {
        if let To::Person { status, .. } = &mut *self.to {
            *status = new;
        }
        self
    }

    /// Writes it into the trace and the audit, and answers. What goes to a person counts against who sends too much.
    pub(in crate::http::oauth) async fn answer(self, visit: &Visit) -> Response {
        let told = match &*self.to {
            To::Person { .. } | To::ByLink { .. } => visit.app.failures.count(visit.by.address, None),
            _ => Ok(()),
        };
        if let Err(wait) = told {
            return Self::wait(wait.as_secs() + 1).into_response(&visit.app);
        }
        if let Err(error) = self.write(visit).await {
            tracing::warn!(%error, code = self.code, "the end of a flow was not written");
        }
        self.into_response(&visit.app)
    }

    async fn write(&self, visit: &Visit) -> db::Result<()> {
        let Some(flow) = &self.flow else { return Ok(()) };
        if self.stage != stage::REQUEST {
            let entry = Entry::new(&visit.by, "authorization.refused").on(flow).refused(self.code);
            if !visit.app.recorder.record(entry.with("stage", self.stage)) {
                visit.app.metrics.audit_write_failure();
            }
        }
        let mut conn = visit.app.db.reads().acquire().await?;
        if let Some(client_id) = &self.unopened {
            authorizations::open(&mut conn, flow, client_id, None).await?;
        }
        authorizations::step(&mut conn, flow, self.stage, Some((self.code, &self.detail))).await
    }

    fn into_response(self, app: &App) -> Response {
        let view = |title: &str, help: &str| views::Refused {
            title: title.to_owned(),
            detail: self.detail.clone(),
            expected: Vec::new(),
            help: help.to_owned(),
            code: self.code,
            flow: self.flow.clone(),
            onward: None,
        };
        match &*self.to {
            To::Person { status, title, expected, help } => {
                page(*status, &views::Refused { expected: expected.clone(), ..view(title, help) }, None)
            }
            To::Client { redirect_uri, state } => see_other(&self.told(app, redirect_uri, state.as_deref())),
            To::ByLink { redirect_uri, state } => {
                let onward = Some((target(redirect_uri), self.told(app, redirect_uri, state.as_deref())));
                let view = view("This application asked for what cannot be done", NOT_BY_ITSELF);
                page(StatusCode::BAD_REQUEST, &views::Refused { onward, ..view }, None)
            }
            To::Wait(seconds) => {
                let view = view("Please wait", "Try again in a minute.");
                after(page(StatusCode::TOO_MANY_REQUESTS, &view, None), *seconds)
            }
            To::Unwell(cause) => {
                if let Some(error) = &cause.cause {
                    tracing::error!(%error, code = cause.code.as_str(), "the database failed a sign-in");
                }
                let status = if cause.code == Code::Internal {
                    StatusCode::INTERNAL_SERVER_ERROR
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                after(page(status, &view("This does not work now", "Try again in a moment."), None), 1)
            }
        }
    }

    /// Where a client is told of it.
    fn told(&self, app: &App, redirect_uri: &str, state: Option<&str>) -> String {
        let flow = self.flow.as_ref().map(|flow| format!(" ({flow})")).unwrap_or_default();
        let description = described(&format!("{}{flow}", self.detail));
        let parameters = [("error", self.code), ("error_description", description.as_str())];
        to_client(app, redirect_uri, &parameters, state)
    }
}

impl From<Refused> for End {
    fn from(refused: Refused) -> Self {
        Self::failed(refused)
    }
}

impl From<db::Error> for End {
    fn from(error: db::Error) -> Self {
        Self::failed(error.into())
    }
}

impl From<Stale> for End {
    fn from(_: Stale) -> Self {
        let detail = "This node cannot prove that it is current; try again.";
        Self::failed(Refused::new(Code::TemporarilyUnavailable, detail))
    }
}

fn after(mut response: Response, seconds: u64) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The address of an answer to a client: what is told, its `state`, and who tells it (RFC 9207), after what its redirect URI
/// has already (RFC 6749 §3.1.2). The URI itself stays as it was asked for, byte for byte.
pub(super) fn to_client(app: &App, redirect_uri: &str, told: &[(&str, &str)], state: Option<&str>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(told);
    if let Some(state) = state {
        query.append_pair("state", state);
    }
    query.append_pair("iss", &app.config.public_url.issuer());
    let glue = match redirect_uri.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{redirect_uri}{glue}{}", query.finish())
}

/// Only what an `error_description` may hold (RFC 6749 §4.1.2.1).
fn described(text: &str) -> String {
    let allowed = |sign: &char| matches!(sign, ' '..='!' | '#'..='[' | ']'..='~');
    text.chars().map(|sign| if sign == '"' { '\'' } else { sign }).filter(allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::described;

    #[test]
    fn a_description_holds_only_what_it_may() {
        assert_eq!(described("a \"b\" \\ ö\n(c)"), "a 'b'  (c)");
    }
}
