//! A shutdown finishes what runs, takes nothing new, and ends in any case.

use std::sync::Arc;

use mcp_authority::http::listen::{Limits, Stopped};

use crate::support::{Certificate, LONG, Listener, SHORT, connect_tls, reply, rest, send, spawn, within};

#[tokio::test]
async fn a_shutdown_finishes_what_runs_and_takes_no_more() {
    let (files, first) = Certificate::new();
    for tls in [false, true] {
        let tls = tls.then(|| files.load());
        let encrypted = tls.is_some();
        let listener = Listener::start(tls, Limits { grace: LONG, ..Limits::default() }).await;
        let mut plain = listener.connect().await;
        let mut sealed = if encrypted { Some(connect_tls(&listener, &[&first]).await.unwrap()) } else { None };
        // A second connection rests, a third has said nothing yet: neither may hold the shutdown up.
        let _silent = listener.connect().await;
        match &mut sealed {
            Some(stream) => send(stream, "/wait").await,
            None => send(&mut plain, "/wait").await,
        }
        listener.has_entered(1).await;
        listener.stop.cancel();
        listener.is_closed().await;
        assert!(!listener.running.is_finished());
        listener.room.leave.add_permits(1);
        let answer = match &mut sealed {
            Some(stream) => reply(stream).await,
            None => reply(&mut plain).await,
        };
        assert_eq!(answer, "done");
        assert_eq!(listener.stopped().await, Stopped { cut: 0 });
    }
}

#[tokio::test]
async fn a_shutdown_finishes_what_runs_on_http2() {
    let listener = Listener::start(None, Limits { grace: LONG, ..Limits::default() }).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let asked = spawn(client.get(format!("http://{}/wait", listener.address)).send());
    listener.has_entered(1).await;
    listener.stop.cancel();
    listener.is_closed().await;
    listener.room.leave.add_permits(1);
    let reply = within(asked).await.unwrap().unwrap();
    assert_eq!(reply.version(), reqwest::Version::HTTP_2);
    assert_eq!(within(reply.text()).await.unwrap(), "done");
    assert_eq!(listener.stopped().await, Stopped { cut: 0 });
}

#[tokio::test]
async fn a_shutdown_ends_though_a_request_does_not() {
    let listener = Listener::start(None, Limits { grace: SHORT, ..Limits::default() }).await;
    let mut stream = listener.connect().await;
    send(&mut stream, "/wait").await;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let asked = spawn(client.get(format!("http://{}/wait", listener.address)).send());
    listener.has_entered(2).await;
    let handlers = Arc::downgrade(&listener.room.leave);
    assert_eq!(listener.stopped().await, Stopped { cut: 2 });
    assert_eq!(rest(&mut stream).await, "");
    assert!(within(asked).await.unwrap().is_err());
    // No handler is left running behind the closed door, on HTTP/1.1 or HTTP/2.
    assert_eq!(handlers.strong_count(), 0);
}
