//! Back-channel logout: a real provider's tokens are understood, and nothing else is taken for one.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Form, Router};
use jsonwebtoken::Header;
use mcp_authority::providers::{LOGOUT_AGE_MAX, UpstreamError};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::browser::Browser;
use crate::program::Program;
use crate::rogue::{Rogue, Words, header, over};
use crate::support::{CLIENT_ID, Certificates, Ours, Server, within};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

#[tokio::test]
async fn a_session_that_ends_at_the_provider_is_told_with_a_token_that_is_understood() {
    let certificates = Certificates::make();
    let (told, mut tokens) = mpsc::channel::<String>(10);
    let receive = async |State(told): State<Arc<mpsc::Sender<String>>>, Form(form): Form<Vec<(String, String)>>| {
        let (name, token) = form.into_iter().next().unwrap();
        assert_eq!(name, "logout_token");
        told.send(token).await.unwrap();
    };
    let router = Router::new().route("/logout", post(receive)).with_state(Arc::new(told));
    let server = Server::start(&certificates, |_| router).await;
    let program = Program::start(&certificates, Some(&format!("{}/logout", server.origin)));
    let ours = Ours::new(&certificates);
    let provider = ours.openid(&program.issuer, &[]);
    let begun = ours.begin(&provider).await;
    let mut browser = Browser::new(&certificates);
    let back = browser.signs_in(&begun.url, "alice").await;
    let person = ours.finish(&provider, &begun, &back).await.unwrap();
    assert!(person.sid.is_some());
    browser.signs_out(&program.issuer).await;
    let token = within(tokens.recv()).await.unwrap();
    let ended = ours.upstream.logged_out(&provider, &token).await.unwrap();
    assert_eq!((ended.subject.as_deref(), ended.sid), (Some("alice"), person.sid));
    assert!(!ended.jti.is_empty() && ended.ends_at.seconds() > ours.now());
    // The same token for another client of the provider, and later.
    let mut other = provider.clone();
    other.settings = crate::openid::asking(&program.issuer, "openid", &[]);
    if let mcp_authority::providers::Settings::OpenId(openid) = &mut other.settings {
        "another".clone_into(&mut openid.client_id);
    }
    let found = ours.upstream.logged_out(&other, &token).await;
    assert_eq!(found, Err(UpstreamError::Untrusted("logout_audience")));
    ours.advance(LOGOUT_AGE_MAX.as_secs());
    let late = ours.upstream.logged_out(&provider, &token).await;
    assert_eq!(late, Err(UpstreamError::Untrusted("logout_time")));
}

#[tokio::test]
async fn what_is_no_good_logout_token_ends_nothing() {
    let certificates = Certificates::make();
    let (rogue, _server) = Rogue::start(&certificates).await;
    let ours = Ours::new(&certificates);
    let provider = ours.openid(&rogue.issuer, &[]);
    rogue.signs_in(&ours, &provider, Words::default()).await.unwrap();
    let now = ours.now();
    let right = json!({"iss": rogue.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 120, "jti": "j1", "sub": "carol",
        "events": {EVENT: {}}});
    let of = |typ: Option<&str>, changed: &Value| {
        rogue.key.sign(&Header { typ: typ.map(str::to_owned), ..header() }, &over(right.clone(), changed))
    };
    let ask =
        async |token: &str| ours.upstream.logged_out(&provider, token).await.map(|ended| (ended.subject, ended.sid));
    for (typ, changed) in [
        (Some("logout+jwt"), json!({})),
        (Some("application/Logout+JWT"), json!({})),
        (Some("JWT"), json!({"exp": null})),
        (None, json!({"aud": ["other", CLIENT_ID]})),
    ] {
        assert_eq!(ask(&of(typ, &changed)).await, Ok((Some("carol".to_owned()), None)), "{typ:?} {changed}");
    }
    let both = ask(&of(None, &json!({"sub": null, "sid": "s1"}))).await;
    assert_eq!(both, Ok((None, Some("s1".to_owned()))));
    let cases = [
        (json!({"iss": null}), "logout_issuer"),
        (json!({"iss": "https://other.example"}), "logout_issuer"),
        (json!({"aud": null}), "logout_audience"),
        (json!({"aud": "other"}), "logout_audience"),
        (json!({"iat": null}), "logout_time"),
        (json!({"iat": "now"}), "logout_time"),
        (json!({"iat": now - 301}), "logout_time"),
        (json!({"iat": now + 3_600}), "logout_time"),
        (json!({"iat": 1e300}), "logout_time"),
        (json!({"exp": now}), "logout_time"),
        (json!({"exp": "later"}), "logout_time"),
        (json!({"nonce": "n"}), "logout_nonce"),
        (json!({"events": null}), "logout_event"),
        (json!({"events": {}}), "logout_event"),
        (json!({"events": {EVENT: true}}), "logout_event"),
        (json!({"events": EVENT}), "logout_event"),
        (json!({"jti": null}), "logout_id"),
        (json!({"jti": 1}), "logout_id"),
        (json!({"jti": "j".repeat(256)}), "logout_id"),
        (json!({"sub": null}), "logout_subject"),
        (json!({"sub": 7}), "logout_subject"),
        (json!({"sub": ""}), "logout_subject"),
    ];
    for (changed, word) in cases {
        assert_eq!(ask(&of(Some("logout+jwt"), &changed)).await, Err(UpstreamError::Untrusted(word)), "{changed}");
    }
    assert_eq!(ask(&of(Some("at+jwt"), &json!({}))).await, Err(UpstreamError::Untrusted("logout_type")));
    // An ID token of the same provider, which the browser's owner may have.
    let id_token = rogue.key.sign(&header(), &rogue.claims());
    assert_eq!(ask(&id_token).await, Err(UpstreamError::Untrusted("logout_nonce")));
    let forged = crate::rogue::Key::new().sign(&header(), &right);
    assert_eq!(ask(&forged).await, Err(UpstreamError::Untrusted("token_signature")));
    for text in ["", ".", "..", "a.b.c", "e30.e30."] {
        assert!(matches!(ask(text).await, Err(UpstreamError::Untrusted(_))), "{text}");
    }
}
