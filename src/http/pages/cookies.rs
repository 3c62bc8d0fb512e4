//! Our cookies: which browser a flow belongs to, and who is signed in there.
//!
//! Both arrive with top-level navigations from other sites, which is how clients and providers send people here, and with
//! nothing else from there (`SameSite=Lax`). `__Host-` keeps other hosts from setting them (RFC 6265bis §4.1.3.2).

use http::{HeaderMap, HeaderValue, header};

use crate::app::App;
use crate::types::opaque;
use crate::users::LOGIN_SECONDS;

/// How long a browser is known as the one that a flow began in. Longer than any flow takes.
const BROWSER_SECONDS: i32 = 3_600;

/// A cookie of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Cookie {
    /// Which browser it is.
    Browser,
    /// Who is signed in.
    Login,
}

impl Cookie {
    /// Browsers take the prefix over TLS only; without TLS we are on this machine (the settings see to that).
    fn name(self, app: &App) -> String {
        let name = match self {
            Self::Browser => "mcpa-browser",
            Self::Login => "mcpa-login",
        };
        if app.config.public_url.is_https() { format!("__Host-{name}") } else { name.to_owned() }
    }

    const fn seconds(self) -> i32 {
        match self {
            Self::Browser => BROWSER_SECONDS,
            Self::Login => LOGIN_SECONDS,
        }
    }

    /// Its value, if the browser sent one that may be ours. Two different ones are none: nobody knows which is whose.
    pub(in crate::http) fn read<'a>(self, app: &App, headers: &'a HeaderMap) -> Option<&'a str> {
        let name = self.name(app);
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(found, value)| *found == name && opaque::is_one(value)).map(|(_, value)| value);
        let first = values.next()?;
        values.all(|other| other == first).then_some(first)
    }

    /// Gives the browser a value. JavaScript never sees it.
    pub(in crate::http) fn set(self, app: &App, headers: &mut HeaderMap, value: &str) {
        self.write(app, headers, value, self.seconds());
    }

    /// Has the browser forget it.
    pub(in crate::http) fn remove(self, app: &App, headers: &mut HeaderMap) {
        self.write(app, headers, "", 0);
    }

    fn write(self, app: &App, headers: &mut HeaderMap, value: &str, seconds: i32) {
        let secure = if app.config.public_url.is_https() { "; Secure" } else { "" };
        let cookie = format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", self.name(app));
        if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
            cookie.set_sensitive(true);
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}
