//! From names to addresses that may be connected to: what was checked here is what the connection goes to.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use url::Host;

use super::address::{is_of_a_network, is_public};
use super::error::{NoPlace, NoPublicAddress};

/// Look-ups at once. The system's resolver cannot be told to stop: what is not awaited any more still holds its place.
const LOOKUPS_MAX: usize = 32;
/// How long a look-up waits for its place among them.
const LOOKUP_WAIT_MAX: Duration = Duration::from_secs(1);
/// Addresses of one name that are looked at. Nobody may keep us busy with a list.
const ADDRESSES_READ_MAX: usize = 64;
/// Addresses of one name that are tried.
const ADDRESSES_TRIED_MAX: usize = 4;

/// Which addresses may be connected to.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed {
    /// This machine's own loopback addresses too.
    pub(super) loopback: bool,
    /// Those without TLS.
    pub(super) plain: bool,
    /// Those of these networks too.
    pub(super) networks: Arc<[IpNet]>,
}

impl Allowed {
    fn address(&self, address: IpAddr) -> bool {
        is_public(address)
            || (self.loopback && address.is_loopback())
            || (is_of_a_network(address) && self.networks.iter().any(|network| network.contains(&address)))
    }

    /// Whether a host may be asked for. Of names that is known only when they are resolved.
    pub(super) fn host<S>(&self, host: &Host<S>) -> bool {
        match host {
            Host::Domain(_) => true,
            Host::Ipv4(address) => self.address(IpAddr::V4(*address)),
            Host::Ipv6(address) => self.address(IpAddr::V6(*address)),
        }
    }
}

/// Passes on only what may be connected to. The connection is made to one of these addresses, and no name is looked up
/// a second time in between: an answer that changes changes nothing.
pub(super) struct Guard {
    pub(super) names: Arc<dyn Resolve>,
    pub(super) allowed: Allowed,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, allowed) = (self.names.resolve(name), self.allowed.clone());
        Box::pin(async move {
            let found: Vec<SocketAddr> = found.await?.take(ADDRESSES_READ_MAX).collect();
            let none = found.is_empty();
            // Only the address is taken over: the port is the URL's, and no scope chooses an interface.
            let kept: Vec<_> = found
                .into_iter()
                .filter(|found| allowed.address(found.ip()))
                .take(ADDRESSES_TRIED_MAX)
                .map(|found| SocketAddr::new(found.ip(), 0))
                .collect();
            if kept.is_empty() && !none {
                return Err(NoPublicAddress.into());
            }
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

/// The system's resolver.
pub(super) struct System(Arc<Semaphore>);

impl Default for System {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS_MAX)))
    }
}

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        let lookups = Arc::clone(&self.0);
        Box::pin(async move {
            let place = tokio::time::timeout(LOOKUP_WAIT_MAX, lookups.acquire_owned()).await.map_err(|_| NoPlace)??;
            let look_up = move || {
                let _place = place;
                (name.as_str(), 0).to_socket_addrs()
            };
            Ok(Box::new(tokio::task::spawn_blocking(look_up).await??) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Always(Vec<&'static str>);

    impl Resolve for Always {
        fn resolve(&self, _: Name) -> Resolving {
            let found: Vec<SocketAddr> = self.0.iter().map(|text| text.parse().unwrap()).collect();
            Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) })
        }
    }

    async fn kept(answer: &[&'static str], loopback: bool) -> Option<Vec<String>> {
        kept_by(answer, Allowed { loopback, ..Allowed::default() }).await
    }

    async fn kept_by(answer: &[&'static str], allowed: Allowed) -> Option<Vec<String>> {
        let guard = Guard { names: Arc::new(Always(answer.to_vec())), allowed };
        match guard.resolve("client.example".parse().unwrap()).await {
            Ok(addresses) => Some(addresses.map(|address| address.to_string()).collect()),
            Err(error) => {
                assert!(error.is::<NoPublicAddress>());
                None
            }
        }
    }

    #[tokio::test]
    async fn only_addresses_that_may_be_connected_to_are_passed_on() {
        let mixed = ["127.0.0.1:1", "8.8.8.8:2", "[::1]:3", "[::ffff:8.8.4.4]:4", "[2606:4700::1111]:5", "10.0.0.1:6"];
        assert_eq!(kept(&mixed, false).await.unwrap(), ["8.8.8.8:0", "[2606:4700::1111]:0"]);
        assert_eq!(kept(&mixed, true).await.unwrap().len(), 4);
        assert_eq!(kept(&["127.0.0.1:1", "10.0.0.1:1", "[::ffff:127.0.0.1]:1"], false).await, None);
        assert_eq!(kept(&["10.0.0.1:1", "[::ffff:127.0.0.1]:1", "0.0.0.0:1"], true).await, None);
        assert_eq!(kept(&[], false).await.unwrap(), [""; 0]);
    }

    #[tokio::test]
    async fn addresses_of_networks_that_were_named_are_passed_on_and_no_others() {
        let networks = ["10.1.0.0/16", "169.254.0.0/16", "fd00::/8"].map(|text| text.parse().unwrap());
        let allowed = || Allowed { networks: Arc::from(networks.as_slice()), ..Allowed::default() };
        let answer = [
            "10.1.2.3:1",
            "10.2.0.1:1",
            "169.254.169.254:1",
            "[fd12::1]:1",
            "[fd00:ec2::254]:1",
            "[::ffff:10.1.2.3]:1",
        ];
        assert_eq!(kept_by(&answer, allowed()).await.unwrap(), ["10.1.2.3:0", "[fd12::1]:0"]);
        assert!(allowed().host(&"10.1.2.3".parse::<std::net::Ipv4Addr>().map(Host::<String>::Ipv4).unwrap()));
        assert!(!allowed().host(&"10.2.2.3".parse::<std::net::Ipv4Addr>().map(Host::<String>::Ipv4).unwrap()));
    }

    #[tokio::test]
    async fn a_long_answer_is_cut() {
        assert_eq!(kept(&["8.8.8.8:1"; 50], false).await.unwrap().len(), ADDRESSES_TRIED_MAX);
        let mut long = vec!["10.0.0.1:1"; ADDRESSES_READ_MAX];
        long.push("8.8.8.8:1");
        assert_eq!(kept(&long, false).await, None);
    }
}
