//! Mail to the owner of a key: short, plain, and what to do.

use std::fmt::Write;
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde_json::Value;

use crate::config::{Smtp, SmtpTls};
use crate::webhooks::EventType;

/// Of each step of the dialogue with the mail server.
const STEP_MAX: Duration = Duration::from_secs(5);
/// Of all of it.
const SENDING_MAX: Duration = Duration::from_secs(30);
/// Characters of a name or a reason in a mail. Whoever chose them is not believed to be brief.
const WORDS_MAX: usize = 200;

/// The mail server cannot be used as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum CannotMail {
    /// The file went away since the settings were read, or is no certificate.
    #[error("MCPA_OUTBOUND_CA: no PEM certificate that can be trusted")]
    Ca,
    /// The TLS library refuses.
    #[error("MCPA_SMTP_URL: {0}")]
    Tls(#[from] lettre::transport::smtp::Error),
    /// No address to send from.
    #[error("MCPA_MAIL_FROM: {0}")]
    From(#[from] lettre::address::AddressError),
}

/// Why a mail was not sent: one word, and never anything that the other side said.
pub(super) struct NotSent {
    pub(super) status: Option<u16>,
    pub(super) word: &'static str,
}

/// Sends mail.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    /// Where the reader may look.
    about: String,
}

impl Mailer {
    /// From the settings. `ca`: PEM certificates that are trusted beside the system's. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// The certificates or the address cannot be used.
    pub fn new(smtp: &Smtp, ca: Option<&[u8]>, about: &str) -> Result<Self, CannotMail> {
        let parameters = || -> Result<TlsParameters, CannotMail> {
            let mut builder = TlsParameters::builder(smtp.host.clone()).certificate_store(CertificateStore::Default);
            if let Some(ca) = ca {
                builder = builder.add_root_certificate(Certificate::from_pem(ca).map_err(|_| CannotMail::Ca)?);
            }
            Ok(builder.build_rustls()?)
        };
        let tls = match smtp.tls {
            SmtpTls::Wrapped => Tls::Wrapper(parameters()?),
            SmtpTls::StartTls => Tls::Required(parameters()?),
            SmtpTls::Loopback => Tls::None,
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(smtp.host.as_str())
            .port(smtp.port)
            .tls(tls)
            .timeout(Some(STEP_MAX));
        if let Some((user, password)) = &smtp.login {
            transport = transport.credentials(Credentials::new(user.clone(), password.reveal().clone()));
        }
        Ok(Self { transport: transport.build(), from: smtp.from.parse()?, about: about.to_owned() })
    }

    /// Sends what an event says to an owner. The message's id is the event's, so that one that comes twice can be told.
    pub(super) async fn send(&self, owner: &str, event: &str, body: &str) -> Result<(), NotSent> {
        let not = |word| NotSent { status: None, word };
        let owner: Address = owner.parse().map_err(|_| not("address_refused"))?;
        let message = self.message(owner, event, body).ok_or_else(|| not("no_text"))?;
        match tokio::time::timeout(SENDING_MAX, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                let status = error.status().map(u16::from);
                tracing::info!(%error, "a mail was not sent");
                let word = match () {
                    () if status.is_some() => "status",
                    () if error.is_timeout() => "timeout",
                    () if error.is_tls() => "tls",
                    () => "unreachable",
                };
                Err(NotSent { status, word })
            }
            Err(_) => Err(not("timeout")),
        }
    }

    fn message(&self, owner: Address, event: &str, body: &str) -> Option<Message> {
        let (subject, text) = words(body, &self.about)?;
        let domain = self.from.email.domain();
        MessageBuilder::new()
            .from(self.from.clone())
            .to(Mailbox::new(None, owner))
            .message_id(Some(format!("<{event}@{domain}>")))
            .subject(subject)
            .header(ContentType::TEXT_PLAIN)
            .body(text)
            .ok()
    }
}

/// Subject and text. `None`: the body is not one of ours.
fn words(body: &str, about: &str) -> Option<(String, String)> {
    let body: Value = serde_json::from_str(body).ok()?;
    let kind = EventType::parse(body.get("type")?.as_str()?)?;
    let data = body.get("data")?;
    let of = |name: &str| data.get(name).and_then(Value::as_str).map(plain);
    let key = of("key_id").or_else(|| of("id")).unwrap_or_default();
    let called = of("key_name").map_or_else(|| key.clone(), |name| format!("{name} ({key})"));
    let (happened, to_do) = sentences(kind);
    let mut text = format!("{} {happened}\n\n{to_do}\n\n", if key.is_empty() { "A key" } else { called.as_str() });
    let lines = [
        ("Key", Some(key.clone())),
        ("Agent", of("agent_name")),
        ("Project", of("project")),
        ("Environment", of("environment")),
        ("Works until", of("expires_at")),
        ("Reason", of("reason")),
        ("Found in", of("source")),
        ("Done by", of("actor")),
        ("Happened at", body.get("timestamp").and_then(Value::as_str).map(plain)),
    ];
    for (name, value) in lines.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let _ = writeln!(text, "{name}: {value}");
    }
    let _ = write!(text, "\nSent by {about}, because you own the agent.\n");
    Some((format!("[mcp-authority] {called} {}", happened.trim_end_matches('.')), text))
}

/// What happened to the key, and what its owner should do.
const fn sentences(kind: EventType) -> (&'static str, &'static str) {
    match kind {
        EventType::KeyDue => (
            "must be rotated soon.",
            "Rotate it and put the new secret where the old one is. Both work during the overlap.",
        ),
        EventType::KeyReminder => (
            "ends soon.",
            "Rotate it now, or replace the old secret wherever it is still used. After its end it is refused.",
        ),
        EventType::KeyExpired => (
            "has ended.",
            "It is refused from now on. If it is still needed, an operator can rotate it: that brings it back to life.",
        ),
        EventType::KeyRevoked => {
            ("was revoked.", "It is refused for good. If the agent is still needed, ask an operator for another key.")
        }
        EventType::KeyLeaked => (
            "was found where it must not be.",
            "Take it out of there, look at what was done with it, and replace it wherever it is used.",
        ),
        EventType::KeyRotated => (
            "has a new secret.",
            "If that was not the agent itself, revoke the key at once: somebody else holds its secret.",
        ),
        EventType::KeyClaimed => (
            "was handed over: somebody opened its link.",
            "If that was not you or whom you meant, revoke the key at once.",
        ),
        _ => ("was changed.", "Nothing needs to be done, unless you did not expect it."),
    }
}

/// One line, of bounded length.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mailer() -> Mailer {
        let smtp = Smtp {
            host: "localhost".to_owned(),
            port: 25,
            tls: SmtpTls::Loopback,
            login: None,
            from: "Keys <keys@example.com>".to_owned(),
        };
        Mailer::new(&smtp, None, "https://authority.example.com").unwrap()
    }

    fn body(name: &str) -> String {
        let data = json!({"key_id": "key_0123456789ab", "key_name": name, "reason": "found\r\nBcc: c@example.com"});
        json!({"type": "key.leaked", "timestamp": "2026-11-23T00:00:00.000Z", "data": data}).to_string()
    }

    #[test]
    fn a_name_adds_no_header_and_no_line() {
        let name = "a\r\nBcc: b@example.com\r\n\r\nbody";
        let sent = mailer().message("owner@example.com".parse().unwrap(), "evt_1", &body(name)).unwrap().formatted();
        let sent = String::from_utf8(sent).unwrap();
        let (head, text) = sent.split_once("\r\n\r\n").unwrap();
        assert!(!head.lines().chain(text.lines()).any(|line| line.starts_with("Bcc")), "{sent}");
        assert!(head.contains("To: owner@example.com"), "{sent}");
        assert!(head.contains("Message-ID: <evt_1@example.com>"), "{sent}");
    }

    #[test]
    fn what_is_no_address_gets_no_mail() {
        for bad in ["", "team", "a@b@c", "a@b\r\nRCPT TO:<c@d>", "<a@b>", "a b@example.com", "a@exa mple.com"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_long_name_stays_short() {
        let (subject, text) = words(&body(&"x".repeat(10_000)), "us").unwrap();
        assert!(subject.len() < 400 && text.len() < 1_500);
    }
}
