//! The settings of one node: read once, checked once, every mistake told at once.
//!
//! The environment stands over the file that `MCPA_CONFIG` names, the file over `config.default.toml`, which is
//! also the manual. Only this module reads the environment. What must be equal on all nodes is not here: it is in
//! the database, behind `/v1/settings`.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::types::keyring::SECRET_KEY_BYTES;
use crate::types::redacted::Secret;

mod desk;
mod draft;
mod mistakes;
mod parse;
mod public_url;
mod smtp;
mod sources;
#[cfg(test)]
mod tests;

pub use desk::{Desk, DeskError};
use draft::Draft;
pub use mistakes::{Mistake, Mistakes};
pub use public_url::{NotPublicUrl, PublicUrl};
pub use smtp::{Smtp, SmtpTls};
use sources::{PREFIX, ReadFile};

/// No file that a setting comes from is larger.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// One of `MCPA_SECRET_KEYS`; wiped from memory when dropped, never printed.
pub type SecretKeyBytes = Secret<[u8; SECRET_KEY_BYTES]>;

/// All settings, checked alone and against each other.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to serve. Not loopback only with `tls` or `behind_tls_proxy`.
    pub listen: SocketAddr,
    /// Where to serve the metrics; `None` when they are off. The rule of `listen` holds here too.
    pub metrics_listen: Option<SocketAddr>,
    /// The address under which callers reach the service.
    pub public_url: PublicUrl,
    /// The database; `None` means the private PostgreSQL.
    pub database_url: Option<Secret<String>>,
    /// Where the private PostgreSQL and the files that the service makes for itself live; perhaps relative.
    pub data_dir: PathBuf,
    /// The secret keys, the sealing one first, at least one. `None` only with the private PostgreSQL: made there.
    pub secret_keys: Option<Vec<SecretKeyBytes>>,
    /// Whether `serve` brings the database to its schema.
    pub migrate: bool,
    /// The files of the certificate; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// A proxy that speaks TLS stands before this node.
    pub behind_tls_proxy: bool,
    /// The proxies whose word on the caller's address counts; IPv4 is never written as IPv6.
    pub trusted_proxies: Vec<IpNet>,
    /// How addresses that others name are asked.
    pub outbound: OutboundSettings,
    /// The mail server that owners are told through; `None`: no mail is sent from this node.
    pub smtp: Option<Smtp>,
    /// Networks in which identity providers and receivers of webhooks may be, beside the public Internet.
    pub provider_networks: Vec<IpNet>,
    /// How long running requests may go on when the service is told to stop; 1 s to 600 s.
    pub shutdown: Duration,
    /// How long requests are still taken after SIGTERM, while readiness says that the node goes.
    pub drain: Duration,
    /// What is logged: the directives of a `tracing` filter, known to be good.
    pub log: String,
}

/// The PEM files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, the service's own first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What the client for addresses that others name may do beyond the rule; nothing, unless it is being developed with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboundSettings {
    /// Loopback addresses may be asked. Only with a `public_url` of this machine.
    pub loopback: bool,
    /// A PEM file with certificates that are trusted beside the system's.
    pub ca: Option<PathBuf>,
}

impl Config {
    /// Whether the service is for this machine only: nothing of it can be reached from another.
    #[must_use]
    pub fn is_local(&self) -> bool {
        is_local(Some(self.listen), Some(&self.public_url), self.behind_tls_proxy)
    }

    /// Reads the settings of this process.
    ///
    /// # Errors
    ///
    /// All mistakes that there are, each with its setting and its mend.
    pub fn load() -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        let environment = environment(&mut mistakes);
        Self::check(environment.into_iter(), &read_bounded, mistakes)
    }

    /// The same from a given environment, with a given way to read files.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn from_sources(
        environment: impl Iterator<Item = (String, String)>,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, Mistakes> {
        Self::check(environment, read_file, Mistakes::default())
    }

    fn check(
        environment: impl Iterator<Item = (String, String)>,
        read_file: ReadFile<'_>,
        mut mistakes: Mistakes,
    ) -> Result<Self, Mistakes> {
        let values = sources::gather(environment, read_file, &mut mistakes);
        let mut draft = Draft { values, mistakes };
        let listen = draft.read("listen", parse::address);
        let metrics_listen = draft.read("metrics_listen", parse::address_or_off);
        let tls = draft.tls(read_file);
        let behind_tls_proxy = draft.read("behind_tls_proxy", parse::choice);
        // Half-given or misspelt counts here: it is a mistake of its own, and need not cause others.
        let secured = draft.serves_tls() || behind_tls_proxy != Some(false);
        draft.no_plain_http("listen", listen, secured);
        draft.no_plain_http("metrics_listen", metrics_listen.flatten(), secured);
        draft.no_shared_port(listen, metrics_listen.flatten());
        let public_url = draft.public_url(listen, secured);
        let database_url = draft.read("database_url", parse::database_url);
        let secret_keys = draft.read("secret_keys", parse::secret_keys);
        draft.keys_for_a_database();
        let data_dir = draft.read("data_dir", |text| Ok(PathBuf::from(text)));
        let migrate = draft.read("migrate", parse::choice);
        let trusted_proxies = draft.read("trusted_proxies", parse::networks);
        let provider_networks = draft.read("provider_networks", parse::inner_networks);
        let is_local = is_local(listen, public_url.as_ref(), behind_tls_proxy == Some(true));
        let outbound = draft.outbound(is_local, read_file);
        let smtp = smtp::read(&mut draft);
        let shutdown = draft.read("shutdown_seconds", parse::shutdown);
        let drain = draft.read("drain_seconds", parse::drain);
        let log = draft.read("log", parse::log);
        let whole = (|| {
            Some(Self {
                listen: listen?,
                metrics_listen: metrics_listen?,
                public_url: public_url?,
                database_url,
                data_dir: data_dir?,
                secret_keys,
                migrate: migrate?,
                tls,
                behind_tls_proxy: behind_tls_proxy?,
                trusted_proxies: trusted_proxies?,
                outbound: outbound?,
                smtp,
                provider_networks: provider_networks?,
                shutdown: shutdown?,
                drain: drain?,
                log: log?,
            })
        })();
        whole.filter(|_| draft.mistakes.is_empty()).ok_or(draft.mistakes)
    }
}

/// What is not known, being wrong in itself, does not count.
fn is_local(listen: Option<SocketAddr>, public_url: Option<&PublicUrl>, behind_tls_proxy: bool) -> bool {
    listen.is_none_or(|listen| listen.ip().is_loopback())
        && !behind_tls_proxy
        && public_url.is_none_or(PublicUrl::is_loopback)
}

/// The variables of this process that begin with our prefix.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn environment(mistakes: &mut Mistakes) -> Vec<(String, String)> {
    let mut environment = Vec::new();
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        match value.into_string() {
            _ if !name.starts_with(PREFIX) => {}
            Ok(value) => environment.push((name, value)),
            Err(_) => mistakes.add(name, "is not UTF-8", "Write it as UTF-8"),
        }
    }
    environment
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(text)
}
