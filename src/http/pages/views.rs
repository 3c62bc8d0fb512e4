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
    /// A device somewhere, that shows this code.
    Device(String),
}

/// With whom do you sign in?
#[derive(Template)]
#[template(path = "sign-in.html")]
pub(in crate::http) struct SignIn {
    /// The flow.
    pub(in crate::http) flow: String,
    /// What the application calls itself; `None`: there is none, a page of ours needs to know who it is.
    pub(in crate::http) name: Option<String>,
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

/// Characters of what was typed that are shown again.
pub(in crate::http) const CODE_CHARS_MAX: usize = 20;

/// Which code does the device show?
#[derive(Template)]
#[template(path = "device.html")]
pub(in crate::http) struct Device {
    /// What is in the field already.
    pub(in crate::http) code: String,
    /// What was typed is not good.
    pub(in crate::http) wrong: bool,
}

/// Back to the device.
#[derive(Template)]
#[template(path = "device-done.html")]
pub(in crate::http) struct DeviceDone;

/// What did I allow?
#[derive(Template)]
#[template(path = "grants.html")]
pub(in crate::http) struct Grants {
    /// Who is signed in, and with whom.
    pub(in crate::http) account: (String, String),
    /// What was taken back just now.
    pub(in crate::http) ended: Option<Ended>,
    /// What is allowed.
    pub(in crate::http) allowed: Vec<Granted>,
    /// There is more than is shown.
    pub(in crate::http) more: bool,
}

/// Somebody has to sign in first.
#[derive(Template)]
#[template(path = "grants-sign-in.html")]
pub(in crate::http) struct GrantsSignIn;

/// What was taken back.
pub(in crate::http) struct Ended {
    /// From which application.
    pub(in crate::http) name: String,
    /// On which server.
    pub(in crate::http) server: String,
    /// It holds on every node.
    pub(in crate::http) complete: bool,
}

/// What a person allowed an application.
pub(in crate::http) struct Granted {
    /// Its id.
    pub(in crate::http) id: String,
    /// What the application calls itself.
    pub(in crate::http) name: String,
    /// The host that its description lies on.
    pub(in crate::http) client_host: Option<String>,
    /// The server's name.
    pub(in crate::http) server: String,
    /// The server's address.
    pub(in crate::http) resource: String,
    /// What it may do.
    pub(in crate::http) lines: Vec<Line>,
    /// Since which day.
    pub(in crate::http) since: String,
    /// On which day it last got a token, if it did.
    pub(in crate::http) used: Option<String>,
}

/// Shall the secret be shown?
#[derive(Template)]
#[template(path = "claim.html")]
pub(in crate::http) struct Claim {
    /// The link, for the operator whom somebody asks.
    pub(in crate::http) id: String,
    /// The key's id.
    pub(in crate::http) key: String,
    /// The key's name.
    pub(in crate::http) name: Option<String>,
    /// `prod` or `dev`.
    pub(in crate::http) environment: String,
    /// What its agent is called.
    pub(in crate::http) agent: String,
    /// When the link's time is over.
    pub(in crate::http) ends: String,
}

/// The secret, this once.
#[derive(Template)]
#[template(path = "claimed.html")]
pub(in crate::http) struct Claimed {
    /// The key's id.
    pub(in crate::http) key: String,
    /// Its secret.
    pub(in crate::http) secret: String,
    /// When that ends.
    pub(in crate::http) ends: Option<String>,
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

styled!(Consent, SignIn, Demo, Refused, Device, DeviceDone, Grants, GrantsSignIn, Claim, Claimed);
