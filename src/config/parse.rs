//! From the text of a setting to its value: one function a kind, each with the words for its refusal.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ipnet::{IpNet, Ipv4Net};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use url::Url;
use zeroize::Zeroizing;

use crate::types::keyring::SECRET_KEY_BYTES;
use crate::types::redacted::Secret;

use super::SecretKeyBytes;
use super::mistakes::shown;
use super::public_url::PublicUrl;

/// Seconds that a shutdown may be given.
const SHUTDOWN_SECONDS: std::ops::RangeInclusive<u64> = 1..=600;
/// Seconds that load balancers may be given before that.
const DRAIN_SECONDS_MAX: u64 = 600;
/// More secret keys than any rotation needs are a mistake.
const SECRET_KEYS_MAX: usize = 16;
/// Networks are compared one after the other, those of trusted proxies at each request.
const NETWORKS_MAX: usize = 256;

/// With or without the padding: tools differ, and nothing else can be meant.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What is wrong with a value, and how to mend it.
pub(super) struct Wrong(pub(super) String, pub(super) &'static str);

pub(super) type Parsed<T> = Result<T, Wrong>;

pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    let mend = "Write an IP address and a port, such as 127.0.0.1:8080 or [::]:8080";
    text.parse().map_err(|_| Wrong(format!("{} is not an address with a port", shown(text)), mend))
}

pub(super) fn address_or_off(text: &str) -> Parsed<Option<SocketAddr>> {
    if text == "off" { Ok(None) } else { address(text).map(Some) }
}

pub(super) fn public_url(text: &str) -> Parsed<PublicUrl> {
    let mend = "Write it like https://authority.example.com or http://localhost:8080";
    PublicUrl::parse(text).map_err(|reason| {
        // What stands before an @ may be a password.
        let what = if text.contains('@') { "the value".to_owned() } else { shown(text) };
        Wrong(format!("{what} cannot be the public address: {reason}"), mend)
    })
}

pub(super) fn database_url(text: &str) -> Parsed<Secret<String>> {
    let mend = "Write it like postgres://user:password@host/database, with special signs as %XX";
    let postgres = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "postgres" | "postgresql"));
    if postgres { Ok(Secret::new(text.to_owned())) } else { Err(Wrong("is not a PostgreSQL URL".to_owned(), mend)) }
}

pub(super) fn secret_keys(text: &str) -> Parsed<Vec<SecretKeyBytes>> {
    let mend = "Make one with `openssl rand -base64 32`, and separate several by commas";
    let mut keys: Vec<SecretKeyBytes> = Vec::new();
    for (index, part) in text.split(',').enumerate() {
        let place = index + 1;
        let key =
            secret_key(part.trim()).ok_or_else(|| Wrong(format!("key {place} is not 32 bytes in base64"), mend))?;
        if keys.iter().any(|known| known.reveal() == key.reveal()) {
            return Err(Wrong(format!("key {place} stands there twice"), "Remove one of the two"));
        }
        keys.push(key);
        if keys.len() > SECRET_KEYS_MAX {
            return Err(Wrong(format!("holds more than {SECRET_KEYS_MAX} keys"), "Remove the ones that no row names"));
        }
    }
    Ok(keys)
}

fn secret_key(text: &str) -> Option<SecretKeyBytes> {
    let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
    let key: Zeroizing<[u8; SECRET_KEY_BYTES]> = Zeroizing::new(bytes.as_slice().try_into().ok()?);
    Some(Secret::new(*key))
}

pub(super) fn choice(text: &str) -> Parsed<bool> {
    let wrong = || Wrong(format!("{} is neither true nor false", shown(text)), "Write true or false");
    text.parse().map_err(|_| wrong())
}

pub(super) fn shutdown(text: &str) -> Parsed<Duration> {
    let seconds = text.parse().ok().filter(|seconds| SHUTDOWN_SECONDS.contains(seconds));
    let wrong = || {
        Wrong(format!("{} is not a number of seconds from 1 to 600", shown(text)), "Write a whole number, such as 30")
    };
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

pub(super) fn drain(text: &str) -> Parsed<Duration> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= DRAIN_SECONDS_MAX);
    let wrong = || {
        Wrong(format!("{} is not a number of seconds from 0 to 600", shown(text)), "Write a whole number, such as 10")
    };
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

pub(super) fn networks(text: &str) -> Parsed<Vec<IpNet>> {
    let too_wide = Wrong("would believe everybody's headers".to_owned(), "Name the proxies' own addresses or networks");
    several(text, 1, &too_wide)
}

/// Networks of one's own. The widest that the registries have for such are 10.0.0.0/8 and `fc00::/7`.
pub(super) fn inner_networks(text: &str) -> Parsed<Vec<IpNet>> {
    let too_wide =
        Wrong("is wider than a network of one's own".to_owned(), "Name the networks that the providers are in");
    several(text, 7, &too_wide)
}

fn several(text: &str, prefix_min: u8, too_wide: &Wrong) -> Parsed<Vec<IpNet>> {
    let mend = "Write addresses and networks separated by commas, such as 10.0.0.7,192.168.0.0/16";
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut networks = Vec::new();
    for part in text.split(',').map(str::trim) {
        let network = network(part).ok_or_else(|| Wrong(format!("{} is no address or network", shown(part)), mend))?;
        if network.prefix_len() < prefix_min {
            return Err(Wrong(format!("{} {}", shown(part), too_wide.0), too_wide.1));
        }
        networks.push(network);
        if networks.len() > NETWORKS_MAX {
            return Err(Wrong(format!("holds more than {NETWORKS_MAX} entries"), "Join them into networks"));
        }
    }
    Ok(networks)
}

/// An address or network without host bits; IPv4 written as IPv6 becomes IPv4, as callers' addresses do.
fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    if let IpNet::V6(v6) = network
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(prefix) = v6.prefix_len().checked_sub(96)
    {
        return Ipv4Net::new(v4, prefix).ok().map(|v4| IpNet::V4(v4.trunc()));
    }
    Some(network.trunc())
}

pub(super) fn log(text: &str) -> Parsed<String> {
    let mend = "Write a level, such as info, or parts with levels, such as info,mcp_authority::feed=debug";
    // The filter takes a mistyped level for the name of a part and logs all of that part, so each needs its level.
    let is_level = |part: &str| !part.trim().is_empty() && part.trim().parse::<LevelFilter>().is_ok();
    let bare = |part: &&str| !part.contains(['=', '[', ']', '{', '}']) && !is_level(part);
    if let Some(part) = text.split(',').find(bare) {
        return Err(Wrong(format!("{} is no level", shown(part)), mend));
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Wrong(format!("{} is no filter ({error})", shown(text)), mend)),
    }
}
