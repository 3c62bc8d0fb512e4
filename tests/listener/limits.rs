//! No caller holds a connection, a slot or a request for longer than the limits say.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mcp_authority::http::listen::{Limits, Stopped};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Certificate, LONG, Listener, SHORT, ask, reply, rest, send, spawn, until, within};

#[tokio::test]
async fn a_request_knows_the_other_end_of_its_connection() {
    let listener = Listener::start(None, Limits::default()).await;
    let mut stream = listener.connect().await;
    let own = stream.local_addr().unwrap().to_string();
    assert_eq!(ask(&mut stream, "/who").await, own);
    assert_eq!(ask(&mut stream, "/who").await, own);
    assert_eq!(listener.stopped().await, Stopped { cut: 0 });
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_cut() {
    let listener = Listener::start(None, Limits { header_read: SHORT, idle: LONG, ..Limits::default() }).await;
    for start in ["", "P", "GET /who HTTP/1.1\r\nhost: loc", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = listener.connect().await;
        stream.write_all(start.as_bytes()).await.unwrap();
        assert!(!rest(&mut stream).await.starts_with("HTTP/1.1 200"), "{start}");
    }
    // The second head of a connection is bounded as the first.
    let mut stream = listener.connect().await;
    ask(&mut stream, "/who").await;
    stream.write_all(b"GET /who HTTP/1.1\r\n").await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
    // And a drop now and then buys no time.
    let stream = listener.connect().await;
    let (mut reading, mut writing) = stream.into_split();
    let dripping = spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut heard = Vec::new();
    let _ = within(reading.read_to_end(&mut heard)).await;
    within(dripping).await.unwrap();
    assert!(heard.is_empty());
    listener.stopped().await;
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_come_is_cut() {
    let (files, _) = Certificate::new();
    let limits = Limits { tls_handshake: SHORT, header_read: LONG, ..Limits::default() };
    let listener = Listener::start(Some(files.load()), limits).await;
    let mut stream = listener.connect().await;
    stream.write_all(&[22, 3, 1]).await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
    // Plain HTTP is not answered there.
    let mut stream = listener.connect().await;
    send(&mut stream, "/who").await;
    assert!(!rest(&mut stream).await.contains("HTTP/1.1 200"));
    listener.stopped().await;
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_cut() {
    let listener = Listener::start(None, Limits { body_read: SHORT, ..Limits::default() }).await;
    let mut stream = listener.connect().await;
    stream.write_all(b"POST /length HTTP/1.1\r\nhost: l\r\ncontent-length: 9\r\n\r\nab").await.unwrap();
    let reply = rest(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
    listener.stopped().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let listener = Listener::start(None, Limits { header_bytes_max: 8_192, ..Limits::default() }).await;
    let mut stream = listener.connect().await;
    let head = format!("GET /who HTTP/1.1\r\nhost: l\r\nx: {}\r\n\r\n", "x".repeat(9_000));
    let _ = stream.write_all(head.as_bytes()).await;
    let reply = rest(&mut stream).await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 431"), "{reply}");
    let mut stream = listener.connect().await;
    let head = format!("GET /who HTTP/1.1\r\nhost: l\r\n{}\r\n", "x: y\r\n".repeat(101));
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431"));
    listener.stopped().await;
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let limits = Limits { header_read: Duration::from_millis(20), idle: SHORT, ..Limits::default() };
    let listener = Listener::start(None, limits).await;
    let mut stream = listener.connect().await;
    ask(&mut stream, "/who").await;
    assert_eq!(rest(&mut stream).await, "");
    listener.stopped().await;
}

#[tokio::test]
async fn a_long_request_outlives_the_idle_limit() {
    let limits = Limits { header_read: Duration::from_millis(5), idle: Duration::from_millis(5), ..Limits::default() };
    let listener = Listener::start(None, limits).await;
    let mut stream = listener.connect().await;
    send(&mut stream, "/wait").await;
    listener.has_entered(1).await;
    // Another connection comes and goes by the same limits: that is how much time passed.
    let mut other = listener.connect().await;
    ask(&mut other, "/who").await;
    rest(&mut other).await;
    listener.room.leave.add_permits(1);
    assert_eq!(reply(&mut stream).await, "done");
    listener.stopped().await;
}

#[tokio::test]
async fn a_reply_that_nobody_reads_is_cut() {
    let limits = Limits { header_read: Duration::from_millis(20), stalled: SHORT, ..Limits::default() };
    let listener = Listener::start(None, limits).await;
    let before = Arc::strong_count(&listener.room.leave);
    let mut stream = listener.connect().await;
    send(&mut stream, "/flood").await;
    listener.has_entered(1).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let unread = within(client.get(format!("http://{}/flood", listener.address)).send()).await.unwrap();
    listener.has_entered(2).await;
    // Each connection holds the routes, and each reply the room: in the end nobody does.
    until("both replies are given up", || Arc::strong_count(&listener.room.leave) <= before).await;
    drop((stream, unread));
    assert_eq!(listener.stopped().await, Stopped { cut: 0 });
}

#[tokio::test]
async fn no_more_connections_are_served_than_the_limit() {
    let listener = Listener::start(None, Limits { connections_max: 2, ..Limits::default() }).await;
    let mut first = listener.connect().await;
    let mut second = listener.connect().await;
    ask(&mut first, "/who").await;
    ask(&mut second, "/who").await;
    let mut third = listener.connect().await;
    send(&mut third, "/wait").await;
    // Many rounds of the others go by, and the third has not come in.
    for _ in 0..200 {
        ask(&mut first, "/who").await;
        ask(&mut second, "/who").await;
    }
    assert_eq!(listener.room.entered.load(Ordering::SeqCst), 0);
    drop(first);
    listener.has_entered(1).await;
    listener.room.leave.add_permits(1);
    assert_eq!(reply(&mut third).await, "done");
    listener.stopped().await;
}
