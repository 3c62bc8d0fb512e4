//! The mail server that owners are told through.

use std::borrow::Cow;

use url::{Host, Url};

use crate::types::redacted::Secret;

use super::draft::Draft;
use super::mistakes::shown;
use super::parse::{Parsed, Wrong};

/// The port of mail handed in over a connection that is TLS from its start (RFC 8314 §3.3), and of other mail handed in.
const PORT_TLS: u16 = 465;
const PORT: u16 = 587;

/// How to hand in mail.
#[derive(Debug, Clone)]
pub struct Smtp {
    /// The mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// User name and password.
    pub login: Option<(String, Secret<String>)>,
    /// Whom mail is from: an address, or a name and an address in angle brackets.
    pub from: String,
}

/// How a connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// TLS from the start: `smtps`.
    Wrapped,
    /// STARTTLS, and nothing without it: `smtp`.
    StartTls,
    /// None: `smtp` to this machine, unless `?tls=required` stands behind it.
    Loopback,
}

/// All but the sender.
struct Server {
    host: String,
    port: u16,
    tls: SmtpTls,
    login: Option<(String, Secret<String>)>,
}

/// What both settings say together: one without the other is a mistake.
pub(super) fn read(draft: &mut Draft) -> Option<Smtp> {
    let server = draft.read("smtp_url", server);
    let from = draft.read("mail_from", from);
    draft.both_or_neither("smtp_url", "mail_from");
    let Server { host, port, tls, login } = server?;
    Some(Smtp { host, port, tls, login, from: from? })
}

fn server(text: &str) -> Parsed<Server> {
    let mend = "Write it like smtps://user:password@mail.example.com, with special signs as %XX";
    // The text may hold a password: it is never shown.
    let wrong = |what: &str| Wrong(what.to_owned(), mend);
    let url = Url::parse(text).map_err(|_| wrong("is no URL"))?;
    let wrapped = match url.scheme() {
        "smtps" => true,
        "smtp" => false,
        _ => return Err(wrong("is neither smtp:// nor smtps://")),
    };
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("names no host"))?.to_owned();
    let loopback = is_loopback(&host);
    let required = match url.query() {
        None => false,
        Some("tls=required") => true,
        Some(_) => return Err(wrong("has a query other than ?tls=required")),
    };
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err(wrong("has a path or a fragment"));
    }
    let tls = match (wrapped, loopback && !required) {
        (true, _) => SmtpTls::Wrapped,
        (false, true) => SmtpTls::Loopback,
        (false, false) => SmtpTls::StartTls,
    };
    let decoded = |text: &str| {
        let bytes = percent_encoding::percent_decode_str(text);
        bytes.decode_utf8().map(Cow::into_owned).map_err(|_| wrong("has a user or password that is not UTF-8"))
    };
    let login = match (url.username(), url.password()) {
        ("", None) => None,
        (user, Some(password)) if !user.is_empty() => Some((decoded(user)?, Secret::new(decoded(password)?))),
        _ => return Err(wrong("has a user without a password, or a password without a user")),
    };
    let port = url.port().unwrap_or(if wrapped { PORT_TLS } else { PORT });
    Ok(Server { host: host.trim_matches(['[', ']']).to_owned(), port, tls, login })
}

/// URLs of schemes that browsers do not know hold their host as a text.
fn is_loopback(host: &str) -> bool {
    match Host::parse(host) {
        Ok(Host::Domain(name)) => name == "localhost",
        Ok(Host::Ipv4(address)) => address.is_loopback(),
        Ok(Host::Ipv6(address)) => address.is_loopback(),
        Err(_) => false,
    }
}

fn from(text: &str) -> Parsed<String> {
    let mend = "Write an address, or a name and an address: Authority <keys@example.com>";
    match text.parse::<lettre::message::Mailbox>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Wrong(format!("{} is no mail address", shown(text)), mend)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, u16, SmtpTls, bool)> {
        server(text).ok().map(|server| (server.host, server.port, server.tls, server.login.is_some()))
    }

    #[test]
    fn mail_leaves_this_machine_over_tls_only() {
        let of = |text: &str| read(text).unwrap();
        assert_eq!(of("smtps://mail.example.com"), ("mail.example.com".to_owned(), 465, SmtpTls::Wrapped, false));
        assert_eq!(of("smtp://u:p%40@mail.example.com").2, SmtpTls::StartTls);
        assert_eq!(of("smtp://127.0.0.1.example.com:25").2, SmtpTls::StartTls);
        assert_eq!(of("smtp://10.0.0.1").2, SmtpTls::StartTls);
        assert_eq!(of("smtp://localhost:2525"), ("localhost".to_owned(), 2525, SmtpTls::Loopback, false));
        assert_eq!(of("smtp://[::1]").2, SmtpTls::Loopback);
        assert_eq!(of("smtp://localhost?tls=required").2, SmtpTls::StartTls);
        assert_eq!(of("smtps://localhost").2, SmtpTls::Wrapped);
    }

    #[test]
    fn what_is_no_mail_server_is_refused_and_never_shown() {
        for text in [
            "mail.example.com",
            "http://mail.example.com",
            "smtp://",
            "smtp://user@mail.example.com",
            "smtp://:canary@mail.example.com",
            "smtp://u:canary@mail.example.com/path",
            "smtp://u:canary@mail.example.com?tls=none",
            "smtps://u:canary@mail.example.com#x",
        ] {
            let Err(Wrong(what, _)) = server(text) else { panic!("{text}") };
            assert!(!what.contains("canary"), "{what}");
        }
        assert!(from("Keys <keys@example.com>").is_ok() && from("keys@example.com").is_ok());
        assert!(from("keys").is_err() && from("a@b.example\r\nBcc: c@d.example").is_err());
    }
}
