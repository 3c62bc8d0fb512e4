//! `healthcheck`: asks the service on this machine whether it is ready. For containers, which have no other program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::cli::Failure;
use crate::config::Config;

const SECONDS_MAX: Duration = Duration::from_secs(5);

pub(super) async fn run(config: &Config) -> Result<(), Failure> {
    let url = ready_url(config);
    let response = client()?.get(&url).send().await.map_err(|error| Failure::new(6, error))?;
    if response.status().is_success() {
        return Ok(());
    }
    Err(Failure::new(
        6,
        anyhow::anyhow!("{url} answered {}: {}", response.status(), response.text().await.unwrap_or_default()),
    ))
}

/// Where the service on this machine says whether it is ready.
pub(super) fn ready_url(config: &Config) -> String {
    format!("{}://{}/health/ready", if config.tls.is_some() { "https" } else { "http" }, local(config.listen))
}

/// For the service on this machine only: the certificate is for the public name, and the connection never leaves here.
pub(super) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().timeout(SECONDS_MAX).tls_danger_accept_invalid_certs(true).no_proxy().build()
}

/// An address that listens everywhere is reached at loopback.
fn local(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
