//! Tokens of workloads: each wrong one, each used once, keys that change, and where keys are never fetched from.

use mcp_authority::outbound::RENEWED_AFTER;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::jwt::assemble;
use crate::support::node::PUBLIC_URL;
use crate::support::platform::{JWT_BEARER, Platform, SUBJECT, over, recorded, shows};
use crate::support::{Elsewhere, Node, Signing, TestDb, World};

#[tokio::test(flavor = "multi_thread")]
async fn attack_13_a_workload_token_without_one_of_its_claims_or_with_a_wrong_one_gets_nothing() {
    let platform = Platform::new().await;
    let now = platform.world.now();
    for (changes, cause) in [
        (json!({"iss": null}), "assertion_malformed"),
        (json!({"iss": "https://untrusted.example"}), "assertion_issuer"),
        (json!({"iss": format!("{}/", platform.issuer)}), "assertion_issuer"),
        (json!({"iss": "a\u{0}b"}), "assertion_malformed"),
        (json!({"iss": "x".repeat(600)}), "assertion_malformed"),
        (json!({"sub": null}), "assertion_subject"),
        (json!({"sub": "a\u{0}b"}), "assertion_subject"),
        (json!({"aud": null}), "assertion_audience"),
        (json!({"exp": null}), "assertion_malformed"),
        (json!({"iat": null}), "assertion_malformed"),
        (json!({"jti": null}), "assertion_id"),
        (json!({"exp": now}), "assertion_expired"),
        (json!({"exp": now - 3_600, "iat": now - 3_900}), "assertion_expired"),
        (json!({"exp": now + 4_000}), "assertion_too_long"),
        (json!({"iat": now + 120, "exp": now + 300}), "assertion_not_yet"),
        (json!({"nbf": now + 120}), "assertion_not_yet"),
        (json!({"sub": "repo:acme/other:ref:refs/heads/main"}), "workload_no_rule"),
        (json!({"sub": "repo:acme/notes"}), "workload_no_rule"),
    ] {
        platform.refuses(&platform.token(&changes), &[], cause).await;
    }
    platform.session(&json!({})).await;
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_16_a_workload_token_is_for_us_alone() {
    let platform = Platform::new().await;
    let (own, endpoint) = (format!("{PUBLIC_URL}/oauth"), format!("{PUBLIC_URL}/oauth/token"));
    for right in [json!(own), json!([own]), json!(endpoint), json!([endpoint])] {
        platform.session(&json!({"aud": right})).await;
    }
    for wrong in [
        json!([own, "https://evil.example"]),
        json!([own, endpoint]),
        json!([]),
        json!({}),
        json!(""),
        json!(format!("{own}/")),
        json!(own.to_uppercase()),
        json!(PUBLIC_URL),
        json!("https://evil.example"),
        json!(format!("{own} https://evil.example")),
    ] {
        platform.refuses(&platform.token(&json!({"aud": wrong})), &[], "assertion_audience").await;
    }
    // What an operator names instead is the only one then.
    platform.world.patch(&platform.path, json!({"audience": "api://acme"})).await.enforced();
    platform.session(&json!({"aud": "api://acme"})).await;
    platform.refuses(&platform.token(&json!({"aud": own})), &[], "assertion_audience").await;
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_17_a_workload_token_is_good_once_on_whatever_node_and_at_whatever_moment() {
    let platform = Platform::new().await;
    let settings = platform.elsewhere.settings();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let other = Node::start_with(&platform.world.db, &settings).await;
    let token = platform.token(&json!({}));
    platform.shows(&token, &[]).await.ok();
    platform.refuses(&token, &[], "assertion_replayed").await;
    shows(&other, &token, &[]).await.refused(400, "invalid_grant");
    for _ in 0..3 {
        let token = platform.token(&json!({}));
        let all = (0..8).map(|index| shows(if index % 2 == 0 { platform.node() } else { &other }, &token, &[]));
        let replies = futures_util::future::join_all(all).await;
        let got = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!((got, replies.iter().filter(|reply| reply.status == 400).count()), (1, 7));
    }
    // What was refused for something else was not used up, and a new row of the same issuer brings nothing back.
    let token = platform.token(&json!({}));
    shows(&other, &token, &[("scope", "prompts/list")]).await.refused(400, "invalid_scope");
    platform.shows(&token, &[]).await.ok();
    platform.world.operator.delete(platform.node(), &platform.path).await.enforced();
    let rules = json!([{"claims": {"sub": "repo:acme/notes:*"}, "client_id": platform.client}]);
    platform
        .world
        .post("/v1/issuers", json!({"name": "CI", "issuer": platform.issuer, "rules": rules}))
        .await
        .created();
    platform.refuses(&token, &[], "assertion_replayed").await;
    // It is remembered until it is over, and not for ever.
    platform.world.advance(240).await;
    mcp_authority::jobs::run_all(&platform.node().app).await.expect("the jobs run");
    platform.refuses(&token, &[], "assertion_replayed").await;
    platform.world.advance(3_600).await;
    let forgotten = async || platform.world.db.count("select count(*) from used_assertions").await == 0;
    platform.node().until("used assertions are forgotten", forgotten).await;
    other.stop().await;
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_12_only_the_issuers_published_keys_sign() {
    let platform = Platform::new().await;
    let claims = platform.claims();
    let stranger = Signing::new("ES256", "k1");
    let header = json!({"alg": "ES256", "kid": "k1"});
    let brings =
        over(header.clone(), &json!({"jwk": stranger.jwk, "jku": "https://localhost:1", "x5u": "https://localhost:1"}));
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, platform.key.jwk.to_string().as_bytes());
    let hmac = |text: &[u8]| aws_lc_rs::hmac::sign(&secret, text).as_ref().to_vec();
    let signed = |changes: &Value| platform.key.jwt(&over(header.clone(), changes), &claims);
    for (token, cause) in [
        (stranger.jwt(&header, &claims), "token_signature"),
        (stranger.jwt(&brings, &claims), "token_signature"),
        (assemble(&json!({"alg": "none"}), &claims, |_| Vec::new()), "token_algorithm"),
        (assemble(&json!({"alg": "HS256", "kid": "k1"}), &claims, hmac), "token_algorithm"),
        (signed(&json!({"alg": "RS256"})), "unknown_key"),
        (signed(&json!({"kid": "k2"})), "unknown_key"),
        (signed(&json!({"crit": ["exp"]})), "token_algorithm"),
        (signed(&json!({"typ": "at+jwt"})), "assertion_type"),
        (signed(&json!({"typ": "dpop+jwt"})), "assertion_type"),
        (format!("{}A", signed(&json!({}))), "token_signature"),
        ("a.b.c".to_owned(), "token_malformed"),
        ("a".to_owned(), "token_malformed"),
        ("x".repeat(60_000), "token_too_large"),
    ] {
        platform.refuses(&token, &[], cause).await;
    }
    assert!(platform.elsewhere.asked("/jwks") <= 2, "made-up keys make nobody ask again and again");
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_10_no_other_token_is_a_workload_token() {
    let platform = Platform::new().await;
    let key = platform.world.key(&["tools/call"]).await;
    let session = platform.session(&json!({})).await;
    for wrong in [&session, &key.key, &platform.world.operator.key, &platform.world.server.secret] {
        platform.shows(wrong, &[]).await.refused(400, "invalid_grant");
    }
    assert!(!platform.world.accepts(&platform.token(&json!({}))).await, "nor is one of these a session token");
    let held = [("client_id", key.id.as_str()), ("client_secret", key.key.as_str())];
    platform.shows(&platform.token(&json!({})), &held).await.refused(400, "unauthorized_client");
    let none = [("grant_type", JWT_BEARER)];
    let none = platform.node().request(Method::POST, "/oauth/token").form(&none);
    platform.node().send(none).await.refused(400, "invalid_request");
    let twice = format!("grant_type={JWT_BEARER}&assertion=a&assertion=b");
    let twice = platform.node().request(Method::POST, "/oauth/token").body(twice);
    let twice = twice.header("content-type", "application/x-www-form-urlencoded");
    platform.node().send(twice).await.refused(400, "invalid_request");
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_new_is_fetched_once_and_one_that_is_gone_proves_nothing() {
    let platform = Platform::new().await;
    platform.session(&json!({})).await;
    let new = Signing::new("RS256", "k2");
    platform.elsewhere.put("/jwks", &Signing::set(&[&new]));
    let of_new = || new.jwt(&json!({"alg": "RS256", "kid": "k2"}), &platform.claims());
    // The set is young: whoever shows a made-up key does not make us ask again and again.
    platform.refuses(&of_new(), &[], "unknown_key").await;
    let seconds = i64::try_from(RENEWED_AFTER.as_secs()).expect("seconds");
    platform.world.advance(seconds).await;
    platform.shows(&of_new(), &[]).await.ok();
    platform.refuses(&platform.token(&json!({})), &[], "unknown_key").await;
    assert_eq!(platform.elsewhere.asked("/jwks"), 2);
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_an_issuers_keys_are_fetched_from_where_they_may_be_and_no_redirect_is_followed() {
    let elsewhere = Elsewhere::start().await;
    // This node may not ask its own machine, nor any inner network.
    let db = TestDb::new().await;
    let world = World { node: Node::start(&db).await, db, ..elsewhere.world().await };
    let operator = world.node.operator().await;
    let key = Signing::new("ES256", "k1");
    for (index, host) in
        ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "0x7f.1", "2130706433", "10.0.0.1"]
            .iter()
            .enumerate()
    {
        let issuer = format!("https://w{index}.example.com");
        let body = json!({"name": "CI", "issuer": issuer, "jwks_uri": format!("https://{host}:{}/jwks", elsewhere.url("").rsplit(':').next().expect("a port"))});
        operator.post(&world.node, "/v1/issuers", body).await.created();
        let now = world.now();
        let claims = json!({"iss": issuer, "sub": SUBJECT, "aud": format!("{PUBLIC_URL}/oauth"), "iat": now, "exp": now + 60, "jti": "j"});
        let token = key.jwt(&json!({"alg": "ES256", "kid": "k1"}), &claims);
        shows(&world.node, &token, &[]).await.refused(400, "invalid_grant");
    }
    recorded(&world, "address_refused").await;
    assert_eq!(elsewhere.asked("/jwks"), 0);
    world.node.stop().await;

    let platform = Platform::new().await;
    platform.elsewhere.put_status("/moved", 302, &platform.elsewhere.url("/jwks"));
    let moved = json!({"jwks_uri": platform.elsewhere.url("/moved")});
    platform.world.patch(&platform.path, moved).await.enforced();
    platform.refuses(&platform.token(&json!({})), &[], "redirected").await;
    assert_eq!(platform.elsewhere.asked("/jwks"), 0);
    let somebody_else = json!({"issuer": "https://other.example", "jwks_uri": platform.elsewhere.url("/jwks")});
    platform.elsewhere.put("/.well-known/openid-configuration", &somebody_else);
    platform.world.patch(&platform.path, json!({"jwks_uri": null})).await.enforced();
    platform.refuses(&platform.token(&json!({})), &[], "issuer_mismatch").await;
    // A host that cannot be heard is no word against the workload.
    platform.elsewhere.put_status("/busy", 503, "");
    platform.world.patch(&platform.path, json!({"jwks_uri": platform.elsewhere.url("/busy")})).await.enforced();
    platform.shows(&platform.token(&json!({})), &[]).await.refused(503, "temporarily_unavailable");
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_27_no_assertion_is_kept_and_whoever_guesses_waits() {
    let platform = Platform::new().await;
    let token = platform.token(&json!({"canary": "canary-of-the-assertion"}));
    platform.shows(&token, &[]).await.ok();
    let wrong = &token[..token.len() - 4];
    platform.shows(wrong, &[]).await.refused(400, "invalid_grant");
    let mut slowed = false;
    for _ in 0..200 {
        slowed = platform.shows(wrong, &[]).await.status.as_u16() == 429;
        if slowed {
            break;
        }
    }
    assert!(slowed, "whoever guesses waits");
    platform.shows(&platform.token(&json!({})), &[]).await.ok();
    let body = token.split('.').nth(1).expect("claims");
    for kept in [body, "canary-of-the-assertion"] {
        let found =
            platform.world.db.count(&format!("select count(*) from audit_log where body::text like '%{kept}%'")).await;
        assert_eq!(found, 0);
    }
    platform.world.node.stop().await;
}
