//! TLS: both versions of HTTP, certificates that change, break and do not fit.

use std::time::Duration;

use mcp_authority::http::listen::{Limits, Stopped};
use mcp_authority::http::tls::{Reload, Tls};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::support::{Certificate, Listener, ask, connect_tls, shown, spawn, within};

#[tokio::test]
async fn http2_is_spoken_over_tls() {
    let (files, _) = Certificate::new();
    let listener = Listener::start(Some(files.load()), Limits::default()).await;
    let root = reqwest::Certificate::from_pem(&std::fs::read(files.cert()).unwrap()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([root])
        .resolve("localhost", listener.address)
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("https://localhost:{}", listener.address.port());
    let reply = within(client.get(format!("{url}/who")).send()).await.unwrap();
    assert_eq!(reply.version(), reqwest::Version::HTTP_2);
    assert!(within(reply.text()).await.unwrap().starts_with("127.0.0.1:"));
    let sent = vec![b'x'; 300_000];
    let reply = within(client.post(format!("{url}/length")).body(sent).send()).await.unwrap();
    assert_eq!(within(reply.text()).await.unwrap(), "300000");
    assert_eq!(listener.stopped().await, Stopped { cut: 0 });
}

#[tokio::test]
async fn a_certificate_is_replaced_while_a_connection_is_open() {
    let (files, first) = Certificate::new();
    let tls = files.load();
    let listener = Listener::start(Some(tls.clone()), Limits::default()).await;
    let watching = spawn(tls.watch(Duration::from_millis(5), listener.stop.clone()));
    let mut open = connect_tls(&listener, &[&first]).await.unwrap();
    assert_eq!(shown(&open), first);
    ask(&mut open, "/who").await;

    let second = files.renew();
    let trusted = [&first, &second];
    let noticed = async {
        let mut next = connect_tls(&listener, &trusted).await.unwrap();
        while shown(&next) != second {
            next = connect_tls(&listener, &trusted).await.unwrap();
        }
        next
    };
    let mut next = within(noticed).await;
    ask(&mut next, "/who").await;
    // The one that was open goes on under the certificate that it saw.
    ask(&mut open, "/who").await;
    assert_eq!(shown(&open), first);
    drop((open, next));
    listener.stopped().await;
    within(watching).await.unwrap();
}

#[tokio::test]
async fn a_broken_certificate_file_keeps_the_old_one_and_is_told_once_per_change() {
    let (files, first) = Certificate::new();
    let tls = files.load();
    let listener = Listener::start(Some(tls.clone()), Limits::default()).await;
    let good = std::fs::read(files.cert()).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let broken: [&[u8]; 4] = [b"", b"garbage", &good[..good.len() / 2], other.as_bytes()];
    for content in broken {
        std::fs::write(files.cert(), content).unwrap();
        assert!(matches!(tls.reload().await, Reload::Refused(_)));
        assert!(matches!(tls.reload().await, Reload::Unchanged));
        assert_eq!(shown(&connect_tls(&listener, &[&first]).await.unwrap()), first);
    }
    std::fs::remove_file(files.cert()).unwrap();
    assert!(matches!(tls.reload().await, Reload::Refused(_)));
    assert!(matches!(tls.reload().await, Reload::Unchanged));
    assert_eq!(shown(&connect_tls(&listener, &[&first]).await.unwrap()), first);

    let second = files.renew();
    assert!(matches!(tls.reload().await, Reload::Replaced));
    assert_eq!(shown(&connect_tls(&listener, &[&second]).await.unwrap()), second);
    listener.stopped().await;
}

#[test]
fn a_service_does_not_start_with_a_certificate_it_cannot_use() {
    let (files, _) = Certificate::new();
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(files.key(), stranger.signing_key.serialize_pem()).unwrap();
    let error = Tls::load(&files.cert(), &files.key()).unwrap_err().to_string();
    assert!(error.contains("cannot be used together"), "{error}");
    // The files swapped: neither is what it should be, and the message shows nothing of the key.
    let error = Tls::load(&files.key(), &files.cert()).unwrap_err().to_string();
    assert!(error.contains("no readable PEM certificate"), "{error}");
    assert!(CertificateDer::from_pem_file(files.cert()).is_ok());
}
