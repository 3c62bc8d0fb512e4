//! No address that is not of the public Internet is connected to, however it is written or found.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mcp_authority::config::OutboundSettings;
use mcp_authority::outbound::{Error, Limits, Outbound};
use url::Url;

use crate::support::{HOST, Names, Reply, Server, Trap, patient, within};

/// Hosts of this machine, of its networks and of what lies beside them, in the forms in which URLs can hold them.
const HOSTS: &str = "127.0.0.1 127.0.0.2 127.255.255.254 127.1 127.0.1 0 0.0.0.0 0x0 2130706433 0x7f000001 017700000001 \
    0x7f.0.0.1 0x7f.1 0177.0.0.1 0177.1 127.0.0.1. 127.0x0.0.01 00000177.0.0.1 %31%32%37.0.0.1 \u{ff11}\u{ff12}\u{ff17}.0.0.1 \
    \u{2460}\u{2461}\u{2466}.0.0.1 127\u{3002}0\u{3002}0\u{3002}1 \
    [::1] [::] [0:0:0:0:0:0:0:1] [0000::0001] [::127.0.0.1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:0:127.0.0.1] \
    [64:ff9b::127.0.0.1] [64:ff9b:1::127.0.0.1] [2002:7f00:1::] [2001:0:7f00:1::] [fe80::1] [fec0::1] [fc00::1] [fd00:ec2::254] \
    [ff02::1] [100::1] [2001:db8::1] [3fff::1] [5f00::1] [::ffff:169.254.169.254] [64:ff9b::a9fe:a9fe] \
    169.254.169.254 0xa9fea9fe 2852039166 0251.0376.0251.0376 10.0.0.1 172.16.0.1 192.168.0.1 192.168.257 100.64.0.1 100.100.100.200 \
    192.0.0.1 192.0.0.9 192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255 \
    168.63.129.16";

/// Names that the system's own resolver knows to be this machine.
const NAMES: &str = "localhost LOCALHOST";

fn strict(limits: Limits) -> Outbound {
    Outbound::new(&OutboundSettings::default(), limits).unwrap()
}

async fn ask(outbound: &Outbound, url: &str) -> Error {
    within(outbound.get_json(&Url::parse(url).unwrap(), 1_024)).await.unwrap_err()
}

#[tokio::test]
async fn attack_18_no_socket_is_opened_to_an_address_that_is_not_public() {
    let trap = Trap::set();
    let outbound = strict(patient());
    for host in HOSTS.split_whitespace() {
        let url = format!("https://{host}:{}/client.json", trap.port());
        assert_eq!(ask(&outbound, &url).await, Error::AddressRefused, "{url}");
        assert_eq!(trap.caught(), 0, "{url}");
    }
    for host in NAMES.split_whitespace() {
        let url = format!("https://{host}:{}/client.json", trap.port());
        assert_eq!(ask(&outbound, &url).await, Error::AddressRefused, "{url}");
        assert_eq!(trap.caught(), 0, "{url}");
    }
    // The trap works: a developer's client walks into it.
    let open = Outbound::new(
        &OutboundSettings { loopback: true, ca: None },
        Limits { total: Duration::from_secs(1), ..patient() },
    );
    assert_eq!(ask(&open.unwrap(), &format!("https://127.0.0.1:{}/", trap.port())).await, Error::Timeout);
    assert_eq!(trap.caught(), 1);
}

#[tokio::test]
async fn attack_18_a_name_that_leads_to_this_machine_opens_no_socket() {
    let trap = Trap::set();
    let url = format!("https://{HOST}:{}/client.json", trap.port());
    for answer in [
        &["127.0.0.1"][..],
        &["::1"],
        &["::ffff:127.0.0.1"],
        &["0.0.0.0"],
        &["::"],
        &["10.0.0.1", "127.0.0.1", "::1", "169.254.169.254"],
    ] {
        let names = Names::always(answer);
        let outbound = Outbound::with_names(&OutboundSettings::default(), patient(), names.clone()).unwrap();
        assert_eq!(ask(&outbound, &url).await, Error::AddressRefused, "{answer:?}");
        assert_eq!((names.asked.load(Ordering::SeqCst), trap.caught()), (1, 0), "{answer:?}");
    }
}

#[tokio::test]
async fn the_exception_for_development_is_for_loopback_alone() {
    let trap = Trap::set();
    let outbound = Outbound::new(&OutboundSettings { loopback: true, ca: None }, patient()).unwrap();
    for host in [
        "0.0.0.0",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "[fe80::1]",
    ] {
        let url = format!("https://{host}:{}/", trap.port());
        assert_eq!(ask(&outbound, &url).await, Error::AddressRefused, "{url}");
    }
    assert_eq!(trap.caught(), 0);
}

#[tokio::test]
async fn attack_19_the_connection_goes_to_the_address_that_was_checked() {
    // Two servers with one port; the name moves from the first to the second after each look-up.
    let (first, second) = loop {
        let first = Server::start().await;
        if let Ok(second) = Server::start_at(&format!("127.0.0.2:{}", first.address.port())).await {
            break (first, second);
        }
    };
    let names = Names::then(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let outbound = Outbound::with_names(&first.settings(), patient(), names.clone()).unwrap();
    within(outbound.get_json(&first.url("/a"), 1_024)).await.unwrap();
    assert_eq!((first.asked(), second.asked(), names.asked.load(Ordering::SeqCst)), (1, 0, 1));
    // No connection is kept: the next request looks and checks again, and finds a server that it does not trust.
    assert_eq!(within(outbound.get_json(&first.url("/a"), 1_024)).await.unwrap_err(), Error::Tls);
    assert_eq!((first.asked(), second.asked(), names.asked.load(Ordering::SeqCst)), (1, 0, 2));
}

#[tokio::test]
async fn attack_19_a_name_that_moves_to_this_machine_is_refused_there() {
    let trap = Trap::set();
    let names = Names::then(&[&["10.0.0.1"], &["127.0.0.1"], &["::1", "127.0.0.1"]]);
    let outbound = Outbound::with_names(&OutboundSettings::default(), patient(), names.clone()).unwrap();
    for _ in 0..4 {
        let url = format!("https://{HOST}:{}/client.json", trap.port());
        assert_eq!(ask(&outbound, &url).await, Error::AddressRefused);
    }
    assert_eq!((names.asked.load(Ordering::SeqCst), trap.caught()), (4, 0));
}

#[tokio::test]
async fn attack_19_no_redirect_is_followed() {
    let (server, trap) = (Server::start().await, Trap::set());
    let outbound = server.outbound(patient());
    let elsewhere = [
        format!("https://127.0.0.1:{}/", trap.port()),
        format!("http://127.0.0.1:{}/", trap.port()),
        server.url("/other").to_string(),
        "/other".to_owned(),
        String::new(),
    ];
    let mut asked = 0;
    for status in [300, 301, 302, 303, 304, 307, 308, 399] {
        for location in &elsewhere {
            server.replies(Reply::status(status).with("location", location));
            let error = within(outbound.get_json(&server.url("/client.json"), 1_024)).await.unwrap_err();
            assert_eq!(error, Error::Redirected, "{status} {location}");
            asked += 1;
        }
    }
    assert_eq!((server.asked(), trap.caught()), (asked, 0));
}

#[tokio::test]
async fn only_https_without_a_user_is_asked() {
    let trap = Trap::set();
    let outbound = Outbound::new(&OutboundSettings { loopback: true, ca: None }, patient()).unwrap();
    for (scheme, error) in
        [("http", Error::NotHttps), ("ftp", Error::NotHttps), ("ws", Error::NotHttps), ("file", Error::NotHttps)]
    {
        assert_eq!(
            ask(&outbound, &format!("{scheme}://localhost:{}/", trap.port()).replace("file://localhost:", "file:///"))
                .await,
            error
        );
    }
    for user in ["u", "u:p", ":p"] {
        assert_eq!(ask(&outbound, &format!("https://{user}@127.0.0.1:{}/", trap.port())).await, Error::AddressRefused);
    }
    assert_eq!(trap.caught(), 0);
}
