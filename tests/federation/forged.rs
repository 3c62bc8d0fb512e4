//! What a provider, or somebody in its place, might send: each thing is refused, for its own reason.

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mcp_authority::providers::{Answer, CheckError, Provider, UpstreamError};
use mcp_authority::types::id::RoleId;
use serde_json::{Value, json};

use crate::rogue::{KID, Key, Rogue, Words, basic, header};
use crate::support::{CLIENT_ID, CLIENT_SECRET, Certificates, Ours, Server, callback};

/// A provider, and what asks it.
async fn world() -> (std::sync::Arc<Rogue>, Server, Ours, Provider) {
    let certificates = Certificates::make();
    let (rogue, server) = Rogue::start(&certificates).await;
    let ours = Ours::new(&certificates);
    let provider = ours.openid(&rogue.issuer, &[]);
    (rogue, server, ours, provider)
}

fn claims(claims: Value) -> Words {
    Words { claims, ..Words::default() }
}

#[tokio::test]
async fn a_sign_in_shows_the_provider_our_secret_and_the_verifier_and_nothing_is_printed() {
    let (rogue, _server, ours, provider) = world().await;
    let person = rogue.signs_in(&ours, &provider, Words::default()).await.unwrap();
    assert_eq!((person.subject.as_str(), person.username.as_deref()), ("carol", Some("Carol")));
    let forms = rogue.forms.lock().unwrap();
    let (form, authorization) = forms.first().unwrap();
    assert_eq!(authorization.as_deref(), Some(basic().as_str()));
    assert_eq!((form["grant_type"].as_str(), form["code"].as_str()), ("authorization_code", "c1"));
    assert_eq!(form["redirect_uri"], callback().as_str());
    assert!(form["code_verifier"].len() >= 43 && !form.contains_key("client_secret"));
    assert!(!format!("{person:?} {provider:?}").contains("canary"));
}

#[tokio::test]
async fn attack_13_an_id_token_without_one_of_its_claims_or_with_a_wrong_one_is_refused() {
    let (rogue, _server, ours, provider) = world().await;
    let now = ours.now();
    let long = "x".repeat(256);
    let cases = [
        (json!({"iss": null}), "id_token_malformed"),
        (json!({"sub": null}), "id_token_malformed"),
        (json!({"aud": null}), "id_token_audience"),
        (json!({"exp": null}), "id_token_malformed"),
        (json!({"iat": null}), "id_token_malformed"),
        (json!({"nonce": null}), "id_token_nonce"),
        (json!({"nonce": "another"}), "id_token_nonce"),
        (json!({"iss": "https://other.example"}), "id_token_issuer"),
        (json!({"iss": format!("{}/", rogue.issuer)}), "id_token_issuer"),
        (json!({"aud": "somebody-else"}), "id_token_audience"),
        (json!({"aud": []}), "id_token_audience"),
        (json!({"aud": [CLIENT_ID, "somebody-else"]}), "id_token_audience"),
        (json!({"azp": "somebody-else"}), "id_token_azp"),
        (json!({"azp": 7}), "id_token_malformed"),
        (json!({"exp": now}), "id_token_time"),
        (json!({"exp": now - 1}), "id_token_time"),
        (json!({"exp": 0}), "id_token_time"),
        // Another machine's clock may go before ours by a minute, not by an hour.
        (json!({"iat": now + 3_600, "exp": now + 7_200}), "id_token_time"),
        (json!({"sub": ""}), "subject"),
        (json!({"sub": long}), "subject"),
        (json!({"sub": "a\u{0}b"}), "subject"),
    ];
    for (changed, word) in cases {
        let found = rogue.signs_in(&ours, &provider, claims(changed.clone())).await.map(|person| person.subject);
        assert_eq!(found, Err(UpstreamError::Untrusted(word)), "{changed}");
    }
    for right in
        [json!({"aud": [CLIENT_ID]}), json!({"azp": CLIENT_ID}), json!({"iat": now + 30}), json!({"iat": now - 9_999})]
    {
        rogue
            .signs_in(&ours, &provider, claims(right.clone()))
            .await
            .unwrap_or_else(|error| panic!("{right}: {error}"));
    }
}

/// ID tokens that nobody with the provider's key signed, or in a way that must not count.
fn forgeries(rogue: &Rogue) -> Vec<(&'static str, String, &'static str)> {
    let right = rogue.claims();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = |head: Value| format!("{}.{}.", part(&head), part(&right));
    let public = rogue.key.jwk(KID).to_string();
    let hs256 = |secret: &[u8]| {
        let header = Header { kid: Some(KID.to_owned()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &right, &EncodingKey::from_secret(secret)).unwrap()
    };
    let good = rogue.key.sign(&header(), &right);
    let [head, body, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let another = Key::new();
    let embedded = |name: &str, value: Value| {
        let head = json!({"alg": "ES256", "kid": KID, name: value});
        let with = another.sign(&header(), &right);
        format!("{}.{}.{}", part(&head), body, with.rsplit('.').next().unwrap())
    };
    let typed = |typ: &str| rogue.key.sign(&Header { typ: Some(typ.to_owned()), ..header() }, &right);
    vec![
        ("none", unsigned(json!({"alg": "none", "kid": KID})), "token_algorithm"),
        ("None", unsigned(json!({"alg": "None"})), "token_algorithm"),
        ("no algorithm", unsigned(json!({"kid": KID})), "token_algorithm"),
        ("no signature", format!("{head}.{body}."), "id_token_signature"),
        ("our secret as HMAC", hs256(CLIENT_SECRET.as_bytes()), "token_algorithm"),
        ("their public key as HMAC", hs256(public.as_bytes()), "token_algorithm"),
        ("another key under the same name", another.sign(&header(), &right), "id_token_signature"),
        ("another key, embedded", embedded("jwk", another.jwk(KID)), "id_token_signature"),
        ("another key, by address", embedded("jku", json!("https://other.example/keys")), "id_token_signature"),
        ("a certificate by address", embedded("x5u", json!("https://other.example/keys")), "id_token_signature"),
        ("a critical extension", embedded("crit", json!(["exp"])), "token_algorithm"),
        ("another algorithm's key", unsigned(json!({"alg": "RS256", "kid": KID})), "unknown_key"),
        (
            "an unknown key",
            rogue.key.sign(&Header { kid: Some("other".to_owned()), ..header() }, &right),
            "unknown_key",
        ),
        ("a changed payload", format!("{head}.{}.{signature}", part(&json!({"sub": "root"}))), "id_token_malformed"),
        ("a cut token", good[..good.len() - 2].to_owned(), "id_token_signature"),
        ("two tokens", format!("{good}.{body}"), "id_token_malformed"),
        ("an access token", typed("at+jwt"), "id_token_invalid"),
        ("a logout token", typed("logout+jwt"), "id_token_invalid"),
        ("nothing", String::new(), "token_malformed"),
        ("a long one", format!("{good}{}", "A".repeat(50_000)), "token_too_large"),
    ]
}

#[tokio::test]
async fn attack_12_only_the_providers_own_asymmetric_keys_sign() {
    let (rogue, _server, ours, provider) = world().await;
    rogue.signs_in(&ours, &provider, Words::default()).await.unwrap();
    let names: Vec<&str> = forgeries(&rogue).into_iter().map(|(name, ..)| name).collect();
    for (index, name) in names.into_iter().enumerate() {
        let begun = ours.begin(&provider).await;
        // The claims are right but for who signed them: the nonce is this sign-in's.
        rogue.expects(&ours, &begun);
        let (_, forged, word) = forgeries(&rogue).swap_remove(index);
        *rogue.words.lock().unwrap() = Words { id_token: Some(forged), ..Words::default() };
        let found = rogue.answers(&ours, &provider, &begun).await.map(|person| person.subject);
        assert_eq!(found, Err(UpstreamError::Untrusted(word)), "{name}");
    }
    assert!(rogue.keys_asked.load(Ordering::SeqCst) <= 2, "unknown keys make nobody ask again and again");
}

#[tokio::test]
async fn keys_that_are_for_something_else_sign_nothing() {
    for (changed, word) in [
        (json!({"use": "enc"}), "unknown_key"),
        (json!({"alg": "ES384"}), "unknown_key"),
        (json!({"kid": "other"}), "unknown_key"),
        (json!({"kty": "oct", "k": "c2VjcmV0"}), "unknown_key"),
    ] {
        let (rogue, _server, ours, provider) = world().await;
        let keys = json!({"keys": [crate::rogue::over(rogue.key.jwk(KID), &changed)]});
        let words = Words { keys: Some(keys), ..Words::default() };
        let found = rogue.signs_in(&ours, &provider, words).await.map(|person| person.subject);
        assert_eq!(found, Err(UpstreamError::Untrusted(word)), "{changed}");
    }
    let (rogue, _server, ours, provider) = world().await;
    let many: Vec<Value> = (0..101).map(|number| rogue.key.jwk(&number.to_string())).collect();
    let words = Words { keys: Some(json!({"keys": many})), ..Words::default() };
    let found = rogue.signs_in(&ours, &provider, words).await.map(|person| person.subject);
    assert_eq!(found, Err(UpstreamError::Misconfigured("key_set_invalid")));
}

#[tokio::test]
async fn an_answer_by_another_provider_is_none() {
    let (rogue, _server, ours, provider) = world().await;
    let begun = ours.begin(&provider).await;
    let other = ours.openid(&rogue.issuer, &[]);
    let answer = Answer { code: Some("c1"), ..Answer::default() };
    let finish = async |provider: &Provider, answer: Answer<'_>| {
        ours.upstream.finish(provider, &callback(), &begun.remember, &answer).await.map(|person| person.subject)
    };
    assert_eq!(finish(&other, answer).await, Err(UpstreamError::Untrusted("other_provider")));
    let named = Answer { iss: Some("https://other.example"), ..answer };
    assert_eq!(finish(&provider, named).await, Err(UpstreamError::Untrusted("iss_mismatch")));
    let error = Answer { error: Some("access_denied"), code: None, ..named };
    assert_eq!(finish(&provider, error).await, Err(UpstreamError::Untrusted("iss_mismatch")), "errors are answers too");
    assert_eq!(finish(&provider, Answer { iss: None, ..error }).await, Err(UpstreamError::Denied("access_denied")));
    for code in [None, Some("")] {
        let found = finish(&provider, Answer { code, ..answer }).await;
        assert_eq!(found, Err(UpstreamError::Untrusted("code_missing")));
    }
    assert!(rogue.forms.lock().unwrap().is_empty(), "no code was sent anywhere");
}

#[tokio::test]
async fn a_provider_that_names_itself_in_answers_must_do_so() {
    let (rogue, _server, ours, provider) = world().await;
    let words =
        || Words { configuration: json!({"authorization_response_iss_parameter_supported": true}), ..Words::default() };
    let found = rogue.signs_in(&ours, &provider, words()).await.map(|person| person.subject);
    assert_eq!(found, Err(UpstreamError::Untrusted("iss_missing")));
}

#[tokio::test]
async fn a_configuration_of_somebody_else_is_refused() {
    for (changed, error) in [
        (json!({"issuer": "https://other.example"}), UpstreamError::Untrusted("issuer_mismatch")),
        (json!({"issuer": null}), UpstreamError::Misconfigured("configuration_invalid")),
        (json!({"jwks_uri": null}), UpstreamError::Misconfigured("configuration_invalid")),
        (json!({"token_endpoint": null}), UpstreamError::Misconfigured("no_token_endpoint")),
        (json!({"authorization_endpoint": "javascript:alert(1)"}), UpstreamError::Misconfigured("endpoint_invalid")),
        (json!({"token_endpoint": "http://other.example/token"}), UpstreamError::Misconfigured("endpoint_invalid")),
    ] {
        let (rogue, _server, ours, provider) = world().await;
        let words = Words { configuration: changed.clone(), ..Words::default() };
        let found = rogue.signs_in(&ours, &provider, words).await.map(|person| person.subject);
        assert_eq!(found, Err(error), "{changed}");
    }
}

#[tokio::test]
async fn what_the_token_endpoint_refuses_is_told_apart() {
    let (rogue, _server, ours, provider) = world().await;
    let cases = [
        (400, json!({"error": "invalid_grant"}), UpstreamError::Untrusted("code_refused")),
        (401, json!({"error": "invalid_client"}), UpstreamError::Misconfigured("client_refused")),
        (400, json!({"error": "canary"}), UpstreamError::Misconfigured("token_request_refused")),
        (200, json!({"access_token": "canary"}), UpstreamError::Untrusted("token_reply")),
        (200, json!("canary"), UpstreamError::Untrusted("token_reply")),
        (
            200,
            json!({"access_token": "a", "token_type": "DPoP", "id_token": "x"}),
            UpstreamError::Untrusted("token_type"),
        ),
        (200, json!({"access_token": "a", "token_type": "Bearer"}), UpstreamError::Untrusted("id_token_missing")),
    ];
    for (status, body, error) in cases {
        let words = Words { tokens: Some((status, body.clone())), ..Words::default() };
        let found = rogue.signs_in(&ours, &provider, words).await.map(|person| person.subject);
        assert_eq!(found, Err(error), "{body}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}

#[tokio::test]
async fn userinfo_about_somebody_else_is_refused_and_never_asked_without_need() {
    let (rogue, _server, ours, mut provider) = world().await;
    let role = RoleId::random();
    let other =
        |sub: Value| Words { userinfo: Some((200, json!({"sub": sub, "groups": ["admins"]}))), ..Words::default() };
    rogue.signs_in(&ours, &provider, other(json!("mallory"))).await.expect("nothing was missing, so nobody was asked");
    provider.rules = ours.openid(&rogue.issuer, &[("groups", Some("admins"), role)]).rules;
    for sub in [json!("mallory"), json!(null), json!(7)] {
        let found = rogue.signs_in(&ours, &provider, other(sub)).await.map(|person| person.subject);
        assert_eq!(found, Err(UpstreamError::Untrusted("userinfo_subject")));
    }
    let person = rogue.signs_in(&ours, &provider, other(json!("carol"))).await.unwrap();
    assert_eq!(person.roles.into_iter().collect::<Vec<_>>(), [role]);
}

#[tokio::test]
async fn a_check_learns_of_the_same_person_or_nothing() {
    let (rogue, _server, ours, provider) = world().await;
    let granted = json!({"access_token": "a1", "token_type": "bearer", "refresh_token": "r1"});
    let begun = ours.begin(&provider).await;
    rogue.expects(&ours, &begun);
    let with_id_token = |claims: Value| {
        let mut reply = granted.clone();
        reply["id_token"] = json!(rogue.key.sign(&header(), &crate::rogue::over(rogue.claims(), &claims)));
        Words { tokens: Some((200, reply)), ..Words::default() }
    };
    *rogue.words.lock().unwrap() = with_id_token(json!({}));
    let tokens = rogue.answers(&ours, &provider, &begun).await.unwrap().tokens.unwrap();
    let cases = [
        (with_id_token(json!({"nonce": null})), Ok(())),
        (with_id_token(json!({"sub": "mallory"})), Err(CheckError::Unreachable)),
        (with_id_token(json!({"iss": "https://other.example"})), Err(CheckError::Unreachable)),
        (with_id_token(json!({"exp": 1})), Err(CheckError::Unreachable)),
        (Words { tokens: Some((400, json!({"error": "invalid_grant"}))), ..Words::default() }, Err(CheckError::Gone)),
        (
            Words { tokens: Some((401, json!({"error": "invalid_client"}))), ..Words::default() },
            Err(CheckError::Unreachable),
        ),
        (Words { tokens: Some((503, json!({}))), ..Words::default() }, Err(CheckError::Unreachable)),
        (Words { tokens: Some((429, json!({}))), ..Words::default() }, Err(CheckError::Unreachable)),
        // No ID token: then userinfo says who it is, or nobody does.
        (Words { tokens: Some((200, granted.clone())), ..Words::default() }, Ok(())),
        (
            Words { tokens: Some((200, granted.clone())), userinfo: Some((401, json!({}))), ..Words::default() },
            Err(CheckError::Gone),
        ),
        (
            Words { tokens: Some((200, granted.clone())), userinfo: Some((403, json!({}))), ..Words::default() },
            Err(CheckError::Unreachable),
        ),
        (
            Words {
                tokens: Some((200, granted.clone())),
                userinfo: Some((200, json!({"sub": "mallory"}))),
                ..Words::default()
            },
            Err(CheckError::Unreachable),
        ),
    ];
    for (index, (words, expected)) in cases.into_iter().enumerate() {
        *rogue.words.lock().unwrap() = words;
        let found = ours.upstream.check(&provider, &tokens).await.map(|person| assert_eq!(person.subject, "carol"));
        assert_eq!(found, expected, "case {index}");
    }
}
