//! The service's side of a sign-in, and a TLS server of the test's own, certified by the test's own authority.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use mcp_authority::config::OutboundSettings;
use mcp_authority::gate::{Live, Round};
use mcp_authority::http::listen::{Limits as Listening, serve};
use mcp_authority::http::tls::Tls;
use mcp_authority::outbound::{Limits, Outbound};
use mcp_authority::providers::{
    Answer, Begun, ClientSecret, Person, Provider, ProviderKind, Rule, Settings, SignInWish, Upstream, UpstreamError,
};
use mcp_authority::secrets::Sealing;
use mcp_authority::telemetry::ProviderErrors;
use mcp_authority::types::clock::{BootInstant, Timestamp, wall_clock};
use mcp_authority::types::id::{ProviderId, RoleId};
use mcp_authority::types::keyring::Keyring;
use mcp_authority::types::redacted::Secret;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use url::Url;
use zeroize::Zeroizing;

/// Our client id at every provider.
pub(crate) const CLIENT_ID: &str = "authority";
/// Our secret there. RFC 6749 §2.3.1 wants it encoded in Basic, so that it matters.
pub(crate) const CLIENT_SECRET: &str = "canary secret: with+signs/and%";
/// Where providers send people back to. Nobody ever goes there.
pub(crate) const CALLBACK: &str = "https://authority.example/oauth/callback/p";

/// The service's limits without its times: no test depends on how fast the machine is.
fn patient() -> Limits {
    let hour = Duration::from_hours(1);
    Limits { connect: hour, total: hour, wait: hour, ..Limits::default() }
}

/// Certificates of this machine by an authority of the test's own.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn make() -> Self {
        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(files.path().join(name), text).unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A certificate with the name of its issuer counts as self-signed to some.
        ca.distinguished_name.push(DnType::CommonName, "Test authority");
        write("ca.pem", ca.self_signed(&ca_key).unwrap().pem());
        let key = KeyPair::generate().unwrap();
        let names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        write("cert.pem", cert.pem());
        write("key.pem", key.serialize_pem());
        Self(files)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A server of the test's own.
pub(crate) struct Server {
    /// Its address, as `https://localhost:<port>`.
    pub(crate) origin: String,
    _stop: DropGuard,
}

impl Server {
    pub(crate) async fn start(certificates: &Certificates, router: impl FnOnce(&str) -> Router) -> Self {
        let tls = Tls::load(&certificates.file("cert.pem"), &certificates.file("key.pem")).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let stop = CancellationToken::new();
        let limits = Listening { grace: Duration::from_millis(10), ..Listening::default() };
        TaskTracker::new().spawn(serve(listener, Some(tls), router(&origin), stop.clone(), limits));
        Self { origin, _stop: stop.drop_guard() }
    }
}

/// What asks the providers, with a clock that the test moves.
pub(crate) struct Ours {
    pub(crate) upstream: Upstream,
    live: Arc<Live>,
    keyring: Arc<Keyring>,
}

impl Ours {
    pub(crate) fn new(certificates: &Certificates) -> Self {
        let settings = OutboundSettings { loopback: true, ca: Some(certificates.file("ca.pem")) };
        Self::with(Outbound::within(&settings, &[], patient()).unwrap(), false)
    }

    pub(crate) fn with(outbound: Outbound, local: bool) -> Self {
        let keyring = Arc::new(Keyring::new(&[Zeroizing::new([7; 32])]).unwrap());
        let live = Arc::new(Live::new("https://authority.example/oauth", Arc::clone(&keyring)));
        let ours = Self {
            upstream: Upstream::new(outbound, Arc::clone(&live), local, ProviderErrors::default()),
            live,
            keyring,
        };
        ours.advance(0);
        ours
    }

    /// The database's clock is so many seconds after this machine's.
    pub(crate) fn advance(&self, seconds: u64) {
        let wall = wall_clock();
        let database =
            Timestamp::from_micros(i64::try_from(wall.as_micros()).unwrap()).plus(Duration::from_secs(seconds));
        self.live.publish(Round {
            sent: BootInstant::now(),
            wall,
            database,
            lease: Duration::from_hours(9),
            ..Round::NONE
        });
    }

    pub(crate) fn now(&self) -> i64 {
        self.live.now().seconds()
    }

    /// A provider with these settings.
    pub(crate) fn provider(
        &self,
        kind: ProviderKind,
        settings: Value,
        rules: &[(&str, Option<&str>, RoleId)],
    ) -> Provider {
        let id = ProviderId::random();
        let secret_key = &self.keyring.ids()[0];
        let sealing = Sealing { keyring: &self.keyring, secret_key };
        let secret = Secret::new(CLIENT_SECRET.to_owned());
        let rule = |(claim, value, role_id): &(&str, Option<&str>, RoleId)| Rule {
            claim: (*claim).to_owned(),
            value: value.map(str::to_owned),
            role_id: *role_id,
        };
        Provider {
            id,
            name: "p".to_owned(),
            title: "P".to_owned(),
            kind,
            enterprise_managed: false,
            disabled: false,
            settings: Settings::read(kind, settings).unwrap(),
            rules: rules.iter().map(rule).collect(),
            client_secret: Some(ClientSecret::seal(sealing, id, &secret).unwrap()),
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        }
    }

    pub(crate) fn openid(&self, issuer: &str, rules: &[(&str, Option<&str>, RoleId)]) -> Provider {
        self.provider(ProviderKind::OpenId, json!({"issuer": issuer, "client_id": CLIENT_ID}), rules)
    }

    pub(crate) async fn begin(&self, provider: &Provider) -> Begun {
        self.upstream.begin(provider, &callback(), &SignInWish::default()).await.unwrap()
    }

    /// Ends a sign-in with the address that the browser was sent back to.
    pub(crate) async fn finish(&self, provider: &Provider, begun: &Begun, back: &Url) -> Result<Person, UpstreamError> {
        let (code, iss, error) = (query(back, "code"), query(back, "iss"), query(back, "error"));
        let answer = Answer { code: code.as_deref(), iss: iss.as_deref(), error: error.as_deref() };
        self.upstream.finish(provider, &callback(), &begun.remember, &answer).await
    }
}

/// Nothing here takes this long unless it hangs.
pub(crate) async fn within<T>(task: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), task).await.expect("it took too long")
}

pub(crate) fn callback() -> Url {
    CALLBACK.parse().unwrap()
}

/// The one value of a parameter.
pub(crate) fn query(url: &Url, name: &str) -> Option<String> {
    let mut values = url.query_pairs().filter(|(found, _)| found == name).map(|(_, value)| value.into_owned());
    let first = values.next();
    assert!(values.next().is_none(), "{name} twice in {url}");
    first
}
