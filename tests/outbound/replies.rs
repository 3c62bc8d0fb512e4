//! What is taken from whom is asked: a bounded number of bytes in a bounded time, of the kind that was asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mcp_authority::config::OutboundSettings;
use mcp_authority::outbound::{Error, FRESH_MAX, Keep, Limits, Outbound, STALE_MAX};

use crate::support::{BOUND, Names, Reply, Server, Silence, Trap, patient, until, within};

const MAX: usize = 5 * 1024;

#[tokio::test]
async fn a_good_reply_is_its_bytes_and_how_long_they_are_good() {
    let server = Server::start().await;
    server.replies(Reply::json("{\"a\":1}").with("cache-control", "max-age=86400"));
    let reply = within(server.outbound(patient()).get_json(&server.url("/a"), MAX)).await.unwrap();
    assert_eq!((&*reply.bytes, reply.keep), (&b"{\"a\":1}"[..], Keep { fresh: FRESH_MAX, stale: STALE_MAX }));
}

#[tokio::test]
async fn a_request_tells_nothing_but_the_question() {
    let server = Server::start().await;
    server.replies(Reply::json("{}").with("set-cookie", "a=canary; Path=/"));
    let outbound = server.outbound(patient());
    for _ in 0..2 {
        within(outbound.get_json(&server.url("/a"), MAX)).await.unwrap();
    }
    let heads = server.room.heads.lock().unwrap().clone();
    assert_eq!(heads.len(), 2);
    for head in heads {
        let mut names: Vec<_> = head.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "host", "user-agent"]);
        assert_eq!(head["accept"], "application/json");
    }
}

#[tokio::test]
async fn no_proxy_of_the_environment_is_asked() {
    let trap = Trap::set();
    let proxy = format!("http://127.0.0.1:{}", trap.port());
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "replies::a_good_reply_is_its_bytes_and_how_long_they_are_good"]);
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"] {
        again.env(name, &proxy);
    }
    let run = tokio::task::spawn_blocking(move || again.env_remove("NO_PROXY").env_remove("no_proxy").output());
    let caught = async {
        let run = run.await.unwrap().unwrap();
        assert!(run.status.success() && String::from_utf8_lossy(&run.stdout).contains("1 passed"), "{run:?}");
    };
    tokio::time::timeout(2 * BOUND, caught).await.unwrap();
    assert_eq!(trap.caught(), 0);
}

#[tokio::test]
async fn cimd_a_body_is_counted_while_it_is_read() {
    let server = Server::start().await;
    let outbound = server.outbound(patient());
    for path in ["/chunked", "/with-length"] {
        server.replies(Reply::json(vec![b' '; MAX]));
        assert_eq!(within(outbound.get_json(&server.url(path), MAX)).await.unwrap().bytes.len(), MAX);
        server.replies(Reply::json(vec![b' '; MAX + 1]));
        assert_eq!(within(outbound.get_json(&server.url(path), MAX)).await.unwrap_err(), Error::TooLarge, "{path}");
    }
    // One that never ends is given up as soon as it is too large, not when the time is over.
    let outbound = server.outbound(patient());
    server.replies(Reply { drips: true, ..Reply::json("") });
    assert_eq!(within(outbound.get_json(&server.url("/a"), 10)).await.unwrap_err(), Error::TooLarge);
}

#[tokio::test]
async fn cimd_only_json_with_status_200_is_a_document() {
    let server = Server::start().await;
    let outbound = server.outbound(patient());
    for status in [201, 203, 204, 206, 400, 401, 404, 410, 429, 500, 503] {
        // A page that explains the error may be of any size.
        server.replies(Reply { body: vec![b'x'; 2 * MAX], ..Reply::status(status) });
        let error = within(outbound.get_json(&server.url("/a"), MAX)).await.unwrap_err();
        assert_eq!(error, Error::Status(status));
        assert_eq!(error.is_passing(), [429, 500, 503].contains(&status));
    }
    for kind in ["text/html", "text/plain", "application/octet-stream", "application/javascript", ""] {
        server.replies(Reply::json("{}").with("content-type", kind));
        assert_eq!(within(outbound.get_json(&server.url("/a"), MAX)).await.unwrap_err(), Error::NotJson, "{kind}");
    }
    // Nothing is unpacked: a small body cannot become a large one.
    for encoding in ["gzip", "br", "deflate", "zstd"] {
        server.replies(Reply::json("{}").with("content-encoding", encoding));
        assert_eq!(within(outbound.get_json(&server.url("/a"), MAX)).await.unwrap_err(), Error::NotJson, "{encoding}");
    }
    server.replies(Reply::json("{}").with("content-type", "application/jwk-set+json; charset=utf-8"));
    within(outbound.get_json(&server.url("/a"), MAX)).await.unwrap();
}

#[tokio::test]
async fn a_reply_that_drips_is_given_up() {
    let server = Server::start().await;
    server.replies(Reply { drips: true, ..Reply::json("") });
    let outbound = server.outbound(Limits { total: Duration::from_secs(1), ..patient() });
    let started = Instant::now();
    assert_eq!(within(outbound.get_json(&server.url("/a"), MAX)).await.unwrap_err(), Error::Timeout);
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_server_that_takes_the_connection_and_says_nothing_is_given_up() {
    let (server, silent) = (Server::start().await, Trap::set());
    let url = format!("https://127.0.0.1:{}/", silent.port()).parse().unwrap();
    let connect = Limits { connect: Duration::from_millis(200), ..patient() };
    assert_eq!(within(server.outbound(connect).get_json(&url, MAX)).await.unwrap_err(), Error::Timeout);
    // So is a name that nobody answers for.
    let silence = Outbound::with_names(&server.settings(), connect, Arc::new(Silence)).unwrap();
    assert_eq!(within(silence.get_json(&server.url("/a"), MAX)).await.unwrap_err(), Error::Timeout);
    // One that speaks TLS and then says nothing is a matter of the whole time.
    let total = Limits { total: Duration::from_millis(500), ..patient() };
    let error = within(server.outbound(total).get_json(&server.url("/wait"), MAX)).await.unwrap_err();
    assert_eq!(error, Error::Timeout);
}

#[tokio::test]
async fn a_host_is_who_its_certificate_says_it_is() {
    let (server, stranger) = (Server::start().await, Server::start().await);
    let asks = |settings: &OutboundSettings, url: &str| {
        let outbound = Outbound::with_names(settings, patient(), Names::always(&["127.0.0.1"])).unwrap();
        let url = url.parse().unwrap();
        async move { within(outbound.get_json(&url, MAX)).await.map(|_| ()) }
    };
    let trusting = server.settings();
    assert_eq!(asks(&trusting, server.url("/a").as_str()).await, Ok(()));
    assert_eq!(asks(&trusting, stranger.url("/a").as_str()).await, Err(Error::Tls));
    let other = format!("https://other.example:{}/a", server.address.port());
    assert_eq!(asks(&trusting, &other).await, Err(Error::Tls));
    let plain = OutboundSettings { loopback: true, ca: None };
    assert_eq!(asks(&plain, server.url("/a").as_str()).await, Err(Error::Tls));
    assert_eq!((server.asked(), stranger.asked()), (1, 0));
}

#[tokio::test]
async fn a_client_needs_a_certificate_where_one_is_named() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let settings = OutboundSettings { loopback: false, ca: Some(file.clone()) };
    assert!(Outbound::new(&settings, patient()).is_err());
    for content in ["", "canary", "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&file, content).unwrap();
        let error = Outbound::new(&settings, patient()).err().unwrap().to_string();
        assert!(!error.contains("canary"), "{error}");
    }
    std::fs::copy(server.ca(), &file).unwrap();
    Outbound::new(&settings, patient()).unwrap();
}

#[tokio::test]
async fn nobody_answers_where_nobody_listens() {
    let port = Trap::set().port();
    let server = Server::start().await;
    let url = format!("https://127.0.0.1:{port}/").parse().unwrap();
    assert_eq!(within(server.outbound(patient()).get_json(&url, MAX)).await.unwrap_err(), Error::Unreachable);
    let nowhere = Outbound::with_names(&server.settings(), patient(), Names::always(&[])).unwrap();
    assert_eq!(within(nowhere.get_json(&server.url("/a"), MAX)).await.unwrap_err(), Error::Unreachable);
}

#[tokio::test]
async fn a_slow_host_keeps_its_places_and_no_others() {
    let (server, other) = (Server::start().await, Server::start().await);
    let settings = OutboundSettings { ca: Some(both(&server, &other)), ..server.settings() };
    let limits = Limits { at_once: 4, at_once_per_host: 2, crowd: 3, wait: Duration::from_millis(200), ..patient() };
    let outbound = Outbound::with_names(&settings, limits, Names::always(&["127.0.0.1"])).unwrap();
    let slow = server.url("/wait");
    let waiting: Vec<_> = (0..2).map(|_| outbound.get_json(&slow, MAX)).collect();
    let waiting = futures_util::future::join_all(waiting);
    let others = async {
        until("both places are taken", || server.asked() == 2).await;
        // A third waits for its turn, and not for long; meanwhile a fourth would be too many in all.
        let (third, fourth) = tokio::join!(outbound.get_json(&slow, MAX), async {
            tokio::task::yield_now().await;
            outbound.get_json(&slow, MAX).await
        });
        assert_eq!((third.unwrap_err(), fourth.unwrap_err()), (Error::Busy, Error::Busy));
        // Another host has places of its own.
        let elsewhere = format!("https://127.0.0.1:{}/a", other.address.port()).parse().unwrap();
        outbound.get_json(&elsewhere, MAX).await.unwrap();
        server.room.leave.add_permits(2);
    };
    let (done, ()) = Box::pin(within(async { tokio::join!(waiting, others) })).await;
    assert!(done.into_iter().all(|reply| reply.is_ok()));
    assert_eq!((server.asked(), other.asked()), (2, 1));
    // And the places are free again.
    server.room.leave.add_permits(1);
    within(outbound.get_json(&slow, MAX)).await.unwrap();
}

#[tokio::test]
async fn no_more_are_asked_at_once_than_the_limit() {
    let server = Server::start().await;
    let limits = Limits { at_once: 1, wait: Duration::from_millis(200), ..patient() };
    let outbound = server.outbound(limits);
    let slow = server.url("/wait");
    let others = async {
        until("the place is taken", || server.asked() == 1).await;
        let elsewhere = format!("https://127.0.0.1:{}/a", server.address.port()).parse().unwrap();
        assert_eq!(outbound.get_json(&elsewhere, MAX).await.unwrap_err(), Error::Busy);
        server.room.leave.add_permits(1);
    };
    let (done, ()) = within(async { tokio::join!(outbound.get_json(&slow, MAX), others) }).await;
    done.unwrap();
    assert_eq!(server.asked(), 1);
}

/// A file that trusts the authorities of both.
fn both(one: &Server, other: &Server) -> std::path::PathBuf {
    let bundle = one.ca().with_file_name("both.pem");
    let texts = [one.ca(), other.ca()].map(|path| std::fs::read_to_string(path).unwrap());
    std::fs::write(&bundle, texts.concat()).unwrap();
    bundle
}
