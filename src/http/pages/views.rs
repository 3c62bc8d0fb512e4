//! What the pages show; each has its template in `templates/`.

use askama::Template;

use super::STYLE_PATH;
use super::words::Line;

/// May this application do this there?
#[derive(Template)]
#[template(path = "consent.html")]
pub(in crate::http) struct Consent {
    /// The flow, for the operator whom somebody asks.
    pub(in crate::http) flow: String,
    /// What the application calls itself.
    pub(in crate::http) name: String,
    /// The host that its description lies on; `None`: it only says about itself who it is.
    pub(in crate::http) client_host: Option<String>,
    /// An operator has entered it.
    pub(in crate::http) registered: bool,
    /// Where the browser goes afterwards.
    pub(in crate::http) target: Target,
    /// The server's name.
    pub(in crate::http) server: String,
    /// The server's address.
    pub(in crate::http) resource: String,
    /// What is asked for; `None`: all that the person's roles give.
    pub(in crate::http) asked: Option<Vec<Line>>,
    /// It also wants to go on while the person is away.
    pub(in crate::http) offline: bool,
    /// Who is signed in, and with whom.
    pub(in crate::http) account: Option<(String, String)>,
}

/// Where a browser goes, as people can judge it.
pub(in crate::http) enum Target {
    /// A host on the web.
    Host(String),
    /// A program on the person's own machine: anybody's.
    ThisMachine(String),
    /// Whatever program has claimed the scheme.
    Scheme(String),
}

/// With whom do you sign in?
#[derive(Template)]
#[template(path = "sign-in.html")]
pub(in crate::http) struct SignIn {
    /// The flow.
    pub(in crate::http) flow: String,
    /// What the application calls itself.
    pub(in crate::http) name: String,
    /// Links and what stands on them.
    pub(in crate::http) providers: Vec<(String, String)>,
}

/// The sign-in that lets anybody in.
#[derive(Template)]
#[template(path = "demo.html")]
pub(in crate::http) struct Demo {
    /// The flow.
    pub(in crate::http) flow: String,
    /// Where its form goes.
    pub(in crate::http) action: String,
    /// What the provider is called.
    pub(in crate::http) title: String,
}

/// It does not go on.
#[derive(Template)]
#[template(path = "refused.html")]
pub(in crate::http) struct Refused {
    /// In a few words.
    pub(in crate::http) title: String,
    /// What is wrong.
    pub(in crate::http) detail: String,
    /// What would have been right.
    pub(in crate::http) expected: Vec<String>,
    /// What the person can do.
    pub(in crate::http) help: String,
    /// The stable code, and the flow, for the operator.
    pub(in crate::http) code: &'static str,
    /// The flow, if there is one.
    pub(in crate::http) flow: Option<String>,
    /// Where the person may go on to: as it can be judged, and the address.
    pub(in crate::http) onward: Option<(Target, String)>,
}

macro_rules! styled {
    ($($view:ty),+) => { $(impl $view {
        /// Where the style sheet is.
        fn style(&self) -> &str {
            &STYLE_PATH
        }
    })+ };
}

styled!(Consent, SignIn, Demo, Refused);
