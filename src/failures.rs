//! Slows those down who guess, or make us work for nobody: failed authentications are counted per address and per named client. Successful callers
//! are never held up. A guard of this process only; nothing that is promised rests on it.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

/// Failures of one address that are answered as such at once; they come back one by one over a minute.
const PER_ADDRESS_A_MINUTE: u32 = 60;
/// The same for one named client, from wherever.
const PER_CLIENT_A_MINUTE: u32 = 120;
/// Addresses and clients remembered at once; past that the ones that are quiet are forgotten.
const REMEMBERED_MAX: usize = 100_000;

/// Clients that one address may register at once; they come back one by one over a minute.
const REGISTRATIONS_A_MINUTE: u32 = 30;
/// Sign-ins that one address may begin at once; a company may be behind it.
const SIGN_INS_A_MINUTE: u32 = 600;
/// Documents that one address may make us fetch at once. Those that are kept cost nothing.
const FETCHES_A_MINUTE: u32 = 30;
/// Proofs of possession that one address may send at once without anything else that it proves; each is remembered for a while.
const PROOFS_A_MINUTE: u32 = 600;

/// Device codes that may be typed from one address at once.
const CODES_A_MINUTE: u32 = 30;
/// The same by one person who is signed in, from wherever.
const CODES_OF_A_PERSON_A_MINUTE: u32 = 10;

type Keyed = RateLimiter<String, DashMapStateStore<String>, DefaultClock>;

/// The counts.
pub struct Failures {
    addresses: Keyed,
    clients: Keyed,
}

impl Default for Failures {
    fn default() -> Self {
        Self { addresses: keyed(PER_ADDRESS_A_MINUTE), clients: keyed(PER_CLIENT_A_MINUTE) }
    }
}

fn keyed(a_minute: u32) -> Keyed {
    RateLimiter::dashmap(Quota::per_minute(NonZeroU32::new(a_minute).unwrap_or(NonZeroU32::MIN)))
}

/// Bounds what somebody whom nobody knows makes us do, by address. Those whose address is not known share one.
pub struct Strangers {
    registrations: Keyed,
    fetches: Keyed,
    sign_ins: Keyed,
    codes: Keyed,
    codes_of_people: Keyed,
    proofs: Keyed,
}

impl Default for Strangers {
    fn default() -> Self {
        Self {
            registrations: keyed(REGISTRATIONS_A_MINUTE),
            fetches: keyed(FETCHES_A_MINUTE),
            sign_ins: keyed(SIGN_INS_A_MINUTE),
            codes: keyed(CODES_A_MINUTE),
            codes_of_people: keyed(CODES_OF_A_PERSON_A_MINUTE),
            proofs: keyed(PROOFS_A_MINUTE),
        }
    }
}

impl Strangers {
    /// Whether this address may register one more client now.
    ///
    /// # Errors
    ///
    /// How long to wait.
    pub fn register(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        check(&self.registrations, &network_of(address))
    }

    /// Whether this address may make us fetch one more document now.
    ///
    /// # Errors
    ///
    /// How long to wait.
    pub fn fetch(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        check(&self.fetches, &network_of(address))
    }

    /// Whether one more sign-in may be begun from this address now: each leaves a trace in the database.
    ///
    /// # Errors
    ///
    /// How long to wait.
    pub fn sign_in(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        check(&self.sign_ins, &network_of(address))
    }

    /// Whether one more device code may be typed from this address, and by this person if one is signed in there.
    ///
    /// # Errors
    ///
    /// How long to wait.
    pub fn type_code(&self, address: Option<IpAddr>, person: Option<&str>) -> Result<(), Duration> {
        let by_address = check(&self.codes, &network_of(address));
        let by_person = person.map_or(Ok(()), |person| check(&self.codes_of_people, &person.to_owned()));
        by_address.and(by_person)
    }

    /// Whether one more proof of possession of this address can be remembered now.
    ///
    /// # Errors
    ///
    /// How long to wait.
    pub fn prove(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        check(&self.proofs, &address.map(network).unwrap_or_default())
    }
}

impl Failures {
    /// Counts a failure of this address, and of this client if it named one. `Err` says how long to wait when there were
    /// too many: the caller then answers 429 in place of 401.
    ///
    /// # Errors
    ///
    /// There were too many.
    pub fn count(&self, address: Option<IpAddr>, client: Option<&str>) -> Result<(), Duration> {
        let address = network_of(address);
        let by_address = check(&self.addresses, &address);
        let by_client = client.map_or(Ok(()), |client| check(&self.clients, &client.chars().take(64).collect()));
        by_address.and(by_client)
    }
}

fn check(limiter: &Keyed, key: &String) -> Result<(), Duration> {
    if limiter.len() > REMEMBERED_MAX {
        limiter.retain_recent();
    }
    if limiter.len() > REMEMBERED_MAX {
        // Whoever sends from so many addresses gains nothing by it: the secrets are 256 bits, and what strangers make us
        // do is bounded as a whole too.
        return Ok(());
    }
    limiter.check_key(key).map_err(|until| until.wait_time_from(DefaultClock::default().now()))
}

/// The network that somebody asks from, as it is counted. Those whose address is not known share one.
pub(crate) fn network_of(address: Option<IpAddr>) -> String {
    address.map(network).unwrap_or_default()
}

/// One home has a whole /64 of IPv6.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            ipnet::Ipv6Net::new(address, 64).map_or_else(|_| address.to_string(), |net| net.trunc().to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_failures_of_an_address_are_told_to_wait_and_others_are_not() {
        let failures = Failures::default();
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let refused = (0..200).filter(|_| failures.count(Some(one), None).is_err()).count();
        assert!((100..=140).contains(&refused), "{refused}");
        assert!(failures.count(Some("192.0.2.2".parse().unwrap()), None).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ffff:1".parse().unwrap()));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1");
    }
}
