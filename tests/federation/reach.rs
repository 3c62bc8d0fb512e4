//! Where providers may be, and how much of them is waited for.

use std::time::Duration;

use mcp_authority::config::OutboundSettings;
use mcp_authority::outbound::{Error, Limits, Outbound};
use mcp_authority::providers::{CheckError, ProviderKind, SignInWish, UpstreamError, UpstreamTokens};
use serde_json::json;

use crate::rogue::{Everywhere, Rogue, Words};
use crate::support::{Certificates, Ours, callback};

fn everywhere(how: Everywhere) -> Words {
    Words { everywhere: Some(how), ..Words::default() }
}

fn tokens() -> UpstreamTokens {
    serde_json::from_value(json!({"subject": "carol", "access_token": "a1", "ends_at": null})).unwrap()
}

#[tokio::test]
async fn a_host_that_fails_is_not_followed_not_read_on_and_not_waited_for() {
    for (how, error, passing) in [
        (Everywhere::Elsewhere, UpstreamError::Misconfigured("redirected"), false),
        (Everywhere::Huge, UpstreamError::Misconfigured("too_large"), false),
        (Everywhere::Broken, UpstreamError::Away(Error::Status(502)), true),
    ] {
        let certificates = Certificates::make();
        let (rogue, _server) = Rogue::start(&certificates).await;
        let ours = Ours::new(&certificates);
        let provider = ours.openid(&rogue.issuer, &[]);
        let found = rogue.signs_in(&ours, &provider, everywhere(how)).await.map(|person| person.subject);
        assert_eq!(found, Err(error));
        assert_eq!(error.is_passing(), passing);
        let checked = ours.upstream.check(&provider, &tokens()).await.map(|person| person.subject);
        assert_eq!(checked, Err(CheckError::Unreachable), "no failure is taken for a no");
    }
}

#[tokio::test]
async fn a_provider_that_never_answers_is_given_up() {
    let certificates = Certificates::make();
    let (rogue, _server) = Rogue::start(&certificates).await;
    let settings = OutboundSettings { loopback: true, ca: Some(certificates.file("ca.pem")) };
    let limits = Limits { total: Duration::from_millis(100), ..Limits::default() };
    let ours = Ours::with(Outbound::new(&settings, limits).unwrap(), false);
    let provider = ours.openid(&rogue.issuer, &[]);
    let found = rogue.signs_in(&ours, &provider, everywhere(Everywhere::Never)).await.map(|person| person.subject);
    assert_eq!(found, Err(UpstreamError::Away(Error::Timeout)));
}

#[tokio::test]
async fn a_provider_whose_certificate_nobody_vouches_for_is_away() {
    let certificates = Certificates::make();
    let (rogue, _server) = Rogue::start(&certificates).await;
    let other = Certificates::make();
    let settings = OutboundSettings { loopback: true, ca: Some(other.file("ca.pem")) };
    let ours = Ours::with(Outbound::new(&settings, Limits::default()).unwrap(), false);
    let provider = ours.openid(&rogue.issuer, &[]);
    let found = rogue.signs_in(&ours, &provider, Words::default()).await.map(|person| person.subject);
    assert_eq!(found, Err(UpstreamError::Away(Error::Tls)));
}

#[tokio::test]
async fn providers_are_on_the_internet_or_in_the_networks_that_the_settings_name() {
    let networks = ["10.20.0.0/16", "127.0.0.0/8", "169.254.0.0/16"].map(|text| text.parse().unwrap());
    let limits = Limits { connect: Duration::from_millis(50), total: Duration::from_millis(50), ..Limits::default() };
    let plain = OutboundSettings::default();
    let (closed, open) = (Outbound::new(&plain, limits).unwrap(), Outbound::within(&plain, &networks, limits).unwrap());
    for (issuer, within) in [
        ("https://10.20.0.1", true),
        ("https://10.21.0.1", false),
        ("https://127.0.0.1", false),
        ("https://169.254.169.254", false),
        ("https://[::ffff:10.20.0.1]", false),
    ] {
        for (outbound, allowed) in [(&closed, false), (&open, within)] {
            let ours = Ours::with(outbound.clone(), false);
            let provider = ours.openid(issuer, &[]);
            let found =
                ours.upstream.begin(&provider, &callback(), &SignInWish::default()).await.map(|begun| begun.url);
            let refused = found == Err(UpstreamError::Misconfigured("address_refused"));
            assert_eq!(refused, !allowed, "{issuer}: {found:?}");
        }
    }
}

#[tokio::test]
async fn without_tls_only_this_machine_is_asked_and_only_where_the_settings_say_so() {
    for (loopback, issuer, asked) in [
        (true, "http://127.0.0.1:1", true),
        (true, "http://localhost:1", true),
        (true, "http://other.example", false),
        (false, "http://127.0.0.1:1", false),
    ] {
        let settings = OutboundSettings { loopback, ..OutboundSettings::default() };
        let ours = Ours::with(Outbound::within(&settings, &[], Limits::default()).unwrap(), false);
        let provider = ours.openid(issuer, &[]);
        let found = ours.upstream.begin(&provider, &callback(), &SignInWish::default()).await.map(|begun| begun.url);
        let away = matches!(found, Err(UpstreamError::Away(Error::Unreachable)));
        assert_eq!(away, asked, "{issuer}: {found:?}");
    }
}

#[tokio::test]
async fn the_demo_provider_works_on_this_machine_alone() {
    for (local, works) in [(true, true), (false, false)] {
        let ours = Ours::with(Outbound::new(&OutboundSettings::default(), Limits::default()).unwrap(), local);
        let provider = ours.provider(ProviderKind::Demo, json!({}), &[]);
        assert_eq!(ours.upstream.offers(&provider), works);
        let begun = ours.upstream.begin(&provider, &callback(), &SignInWish::default()).await;
        if !works {
            assert_eq!(begun.map(|begun| begun.url), Err(UpstreamError::Misconfigured("provider_disabled")));
            let checked = ours.upstream.check(&provider, &tokens()).await.map(|person| person.subject);
            assert_eq!(checked, Err(CheckError::Gone), "a database that moved to another machine lets nobody in");
            continue;
        }
        let begun = begun.unwrap();
        assert!(begun.url.as_str().starts_with(callback().as_str()), "the browser goes straight back");
        let person = ours.finish(&provider, &begun, &begun.url).await.unwrap();
        assert_eq!(person.subject, "demo");
        assert!(ours.upstream.check(&provider, &person.tokens.unwrap()).await.is_ok());
    }
}
