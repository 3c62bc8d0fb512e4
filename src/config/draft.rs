//! The settings while they are checked: each alone, then against each other.
//!
//! What is wrong in itself is told once and left out of the comparisons, so that one mistake never shows as two.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::mistakes::Mistakes;
use super::parse::{self, Parsed, Wrong};
use super::public_url::PublicUrl;
use super::sources::{PREFIX, ReadFile, Values};
use super::{OutboundSettings, TlsFiles};

const MEND_PLAIN_HTTP: &str = "Set MCPA_TLS_CERT and MCPA_TLS_KEY, or MCPA_BEHIND_TLS_PROXY=true if a proxy in front \
     speaks TLS, or listen on 127.0.0.1";

/// What was given, and what was found wrong with it so far.
pub(super) struct Draft {
    pub(super) values: Values,
    pub(super) mistakes: Mistakes,
}

impl Draft {
    /// The value of a setting; `None` when it is not given or wrong, the latter noted.
    pub(super) fn read<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Parsed<T>) -> Option<T> {
        let given = self.values.get(name)?;
        let text = given.text.as_ref()?.trim();
        // An empty text is what a forgotten variable of a compose file becomes. Only a list may be empty.
        let parsed = if text.is_empty() && !["trusted_proxies", "provider_networks"].contains(&name) {
            Err(Wrong("is empty".to_owned(), "Give it a value or remove it"))
        } else {
            parse(text)
        };
        parsed.map_err(|Wrong(what, mend)| self.mistakes.add(given.origin.as_str(), what, mend)).ok()
    }

    /// Both files of the certificate, known to be readable, or neither.
    pub(super) fn tls(&mut self, read_file: ReadFile<'_>) -> Option<TlsFiles> {
        let cert = self.path_to("tls_cert", read_file);
        let key = self.path_to("tls_key", read_file);
        self.both_or_neither("tls_cert", "tls_key");
        Some(TlsFiles { cert: cert?, key: key? })
    }

    /// One of them alone says nothing.
    pub(super) fn both_or_neither(&mut self, first: &str, second: &str) {
        for (one, other) in [(first, second), (second, first)] {
            if self.is_given(one) && !self.is_given(other) {
                let wrong = format!("is not set, but {} is", variable(one));
                self.mistakes.add(variable(other), wrong, "Set both or neither");
            }
        }
    }

    /// Whether TLS is meant to be spoken here, rightly configured or not.
    pub(super) fn serves_tls(&self) -> bool {
        self.is_given("tls_cert") || self.is_given("tls_key")
    }

    /// Plain HTTP stays on the machine.
    pub(super) fn no_plain_http(&mut self, name: &'static str, address: Option<SocketAddr>, secured: bool) {
        if let Some(address) = address
            && !secured
            && !address.ip().to_canonical().is_loopback()
        {
            self.add(name, format!("{address} would serve other machines without TLS"), MEND_PLAIN_HTTP);
        }
    }

    /// The service and its metrics need an address each.
    pub(super) fn no_shared_port(&mut self, listen: Option<SocketAddr>, metrics: Option<SocketAddr>) {
        if let (Some(listen), Some(metrics)) = (listen, metrics)
            && listen.port() == metrics.port()
            && listen.port() != 0
            && (listen.ip() == metrics.ip() || listen.ip().is_unspecified() || metrics.ip().is_unspecified())
        {
            let wrong = format!("{metrics} is the address of {} too", variable("listen"));
            self.add("metrics_listen", wrong, "Choose another port, or off");
        }
    }

    /// The public address; unless given, this machine's with the port of `listen`.
    pub(super) fn public_url(&mut self, listen: Option<SocketAddr>, secured: bool) -> Option<PublicUrl> {
        let tls = self.serves_tls();
        if self.is_given("public_url") {
            let url = self.read("public_url", parse::public_url)?;
            if url.is_https() && !secured {
                let wrong = format!("{url} is https, but nothing here speaks TLS");
                let mend = "Set MCPA_TLS_CERT and MCPA_TLS_KEY, or MCPA_BEHIND_TLS_PROXY=true if a proxy in front does";
                self.add("public_url", wrong, mend);
            } else if !url.is_https() && tls {
                self.add("public_url", format!("{url} is http, but the service speaks TLS"), "Write https");
            }
            return Some(url);
        }
        let port = listen?.port();
        if port == 0 {
            let wrong = "is not set, and the port of MCPA_LISTEN is not known before the start";
            self.add("public_url", wrong, "Set it, or choose a port");
            return None;
        }
        PublicUrl::parse(&format!("{}://localhost:{port}", if tls { "https" } else { "http" })).ok()
    }

    /// The exceptions for development. Asking loopback addresses is safe only where all callers are on this machine.
    pub(super) fn outbound(&mut self, is_local: bool, read_file: ReadFile<'_>) -> Option<OutboundSettings> {
        let loopback = self.read("outbound_loopback", parse::choice);
        let ca = self.path_to("outbound_ca", read_file);
        if loopback == Some(true) && !is_local {
            let wrong = "is true, but the service can be reached from other machines";
            self.add("outbound_loopback", wrong, "Remove it; it is for development on one machine");
        }
        Some(OutboundSettings { loopback: loopback?, ca })
    }

    /// A database that others can read needs keys that outlive this machine.
    pub(super) fn keys_for_a_database(&mut self) {
        if self.is_given("database_url") && !self.is_given("secret_keys") {
            let wrong = "is not set, but a database is";
            let mend = "Set the same keys on all nodes; `openssl rand -base64 32` makes one";
            self.add("secret_keys", wrong, mend);
        }
    }

    fn path_to(&mut self, name: &'static str, read_file: ReadFile<'_>) -> Option<PathBuf> {
        self.read(name, |text| match read_file(Path::new(text)).map(Zeroizing::new) {
            Ok(_) => Ok(PathBuf::from(text)),
            Err(error) => Err(Wrong(format!("names a file that cannot be read ({error})"), "Name a readable PEM file")),
        })
    }

    fn is_given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Notes a mistake under the name that the setting was given by, or the variable that it lacks.
    fn add(&mut self, name: &'static str, wrong: impl Into<String>, mend: &str) {
        let origin = self.values.get(name).map_or_else(|| variable(name), |given| given.origin.clone());
        self.mistakes.add(origin, wrong, mend);
    }
}

fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase())
}
