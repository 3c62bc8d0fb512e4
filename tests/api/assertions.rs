//! Clients that sign: assertions by each algorithm, each wrong one, each used once, and keys that change.

use mcp_authority::clients::{ASSERTION_TYPE, Assertion, Shown};
use mcp_authority::outbound::RENEWED_AFTER;
use mcp_authority::types::clock::BootInstant;
use serde_json::{Value, json};

use crate::clients::asks;
use crate::support::{Elsewhere, Node, Operator, Reply, Signing, TestDb, World, text};

const ISSUER: &str = "http://localhost:8080/oauth";

/// Shows an assertion, without any other word of who it is.
async fn shows(node: &Node, assertion: &str) -> Reply {
    asks(node, &[("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)], None).await
}

async fn register(node: &Node, operator: &Operator, members: Value) -> String {
    let mut body = json!({"client_name": "Signer", "redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": "private_key_jwt"});
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    text(&operator.post(node, "/v1/clients", body).await.created(), "client_id")
}

/// Good claims of a client; each call has another `jti`.
fn claims(node: &Node, client_id: &str) -> Value {
    let now = node.app.live.now().seconds();
    let jti = uuid::Uuid::new_v4().to_string();
    json!({"iss": client_id, "sub": client_id, "aud": ISSUER, "iat": now, "exp": now + 300, "jti": jti})
}

fn with(mut value: Value, changes: &Value) -> Value {
    for (name, change) in changes.as_object().unwrap() {
        if change.is_null() {
            value.as_object_mut().unwrap().remove(name);
        } else {
            value[name] = change.clone();
        }
    }
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_signs_with_each_algorithm_by_keys_of_either_place() {
    let elsewhere = Elsewhere::start().await;
    let world = elsewhere.world().await;
    for alg in ["EdDSA", "ES256", "RS256"] {
        let key = Signing::new(alg, "k1");
        elsewhere.put(&format!("/{alg}/jwks"), &Signing::set(&[&key]));
        for keys in
            [json!({"jwks": Signing::set(&[&key])}), json!({"jwks_uri": elsewhere.url(&format!("/{alg}/jwks"))})]
        {
            let id = register(&world.node, &world.operator, keys).await;
            for header in [
                json!({"alg": alg, "kid": "k1", "typ": "JWT"}),
                json!({"alg": alg}),
                json!({"alg": alg, "typ": "client-authentication+jwt"}),
            ] {
                let assertion = key.jwt(&header, &claims(&world.node, &id));
                shows(&world.node, &assertion).await.authenticated();
            }
            let assertion = key.jwt(&json!({"alg": alg}), &claims(&world.node, &id));
            let named =
                [("client_id", &*id), ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", &assertion)];
            asks(&world.node, &named, None).await.authenticated();
            asks(&world.node, &[("client_id", &id)], None).await.not_authenticated();
            asks(&world.node, &[("client_id", &id), ("client_secret", "x")], None).await.not_authenticated();
        }
        assert_eq!(elsewhere.asked(&format!("/{alg}/jwks")), 1, "keys are kept");
    }
    world.node.stop().await;
}

fn wrong_claims(now: i64, another: &str) -> Vec<Value> {
    vec![
        json!({"iss": another}),
        json!({"iss": null}),
        json!({"sub": another}),
        json!({"sub": another, "iss": another}),
        json!({"sub": null}),
        json!({"sub": "cli_00000000000000000000000000000000", "iss": "cli_00000000000000000000000000000000"}),
        json!({"aud": null}),
        json!({"exp": null}),
        json!({"exp": "soon"}),
        json!({"exp": now}),
        json!({"exp": now - 1}),
        json!({"exp": now + 660}),
        json!({"exp": 1e300}),
        json!({"exp": -1}),
        json!({"jti": null}),
        json!({"jti": ""}),
        json!({"jti": 7}),
        json!({"jti": "x".repeat(513)}),
        json!({"iat": now + 120}),
        json!({"nbf": now + 120}),
        json!({"nbf": "now"}),
    ]
}

fn wrong_headers() -> Vec<Value> {
    vec![
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "RS256"}),
        json!({"alg": "EdDSA"}),
        json!({"alg": "ES384"}),
        json!({"alg": null}),
        json!({"kid": "k2"}),
        json!({"crit": ["exp"]}),
        json!({"b64": false, "crit": ["b64"]}),
        json!({"typ": "at+jwt"}),
        json!({"typ": "oauth-id-jag+jwt"}),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_that_is_wrong_in_one_thing_proves_nothing() {
    let world = World::with(&[("MCPA_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let node = &world.node;
    let (key, other) = (Signing::new("ES256", "k1"), Signing::new("ES256", "k1"));
    let id = register(node, &world.operator, json!({"jwks": Signing::set(&[&key])})).await;
    let another = register(node, &world.operator, json!({"jwks": Signing::set(&[&other])})).await;
    let now = node.app.live.now().seconds();
    let header = json!({"alg": "ES256", "kid": "k1"});
    let good = || claims(node, &id);
    shows(node, &key.jwt(&header, &good())).await.authenticated();
    for changes in wrong_claims(now, &another) {
        let reply = shows(node, &key.jwt(&header, &with(good(), &changes))).await;
        assert_eq!(reply.status.as_u16(), 401, "{changes}: {}", reply.text);
        reply.not_authenticated();
    }
    for changes in wrong_headers() {
        let reply = shows(node, &key.jwt(&with(header.clone(), &changes), &good())).await;
        assert_eq!(reply.status.as_u16(), 401, "{changes}: {}", reply.text);
        reply.not_authenticated();
    }
    // Keys that the header itself brings are nobody's.
    let brings = with(
        header.clone(),
        &json!({"jwk": other.jwk, "jku": "https://localhost:1/jwks", "x5u": "https://localhost:1"}),
    );
    shows(node, &other.jwt(&brings, &good())).await.not_authenticated();
    shows(node, &other.jwt(&header, &good())).await.not_authenticated();
    let whole = key.jwt(&header, &good());
    for text in [
        "",
        "a",
        "a.b",
        "a.b.c",
        &whole[..whole.len() - 1],
        &format!("{whole}A"),
        &format!("{whole}.x"),
        &"x".repeat(9_000),
    ] {
        if !text.is_empty() {
            shows(node, text).await.not_authenticated();
        }
    }
    shows(node, &whole).await.authenticated();
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_12_a_public_key_is_no_secret_to_sign_with() {
    let world = World::new().await;
    let key = Signing::new("RS256", "k1");
    let id = register(&world.node, &world.operator, json!({"jwks": Signing::set(&[&key])})).await;
    let public = key.jwk["n"].as_str().unwrap();
    let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
    let forged =
        crate::support::jwt::assemble(&json!({"alg": "HS256", "kid": "k1"}), &claims(&world.node, &id), |text| {
            aws_lc_rs::hmac::sign(&hmac, text).as_ref().to_vec()
        });
    shows(&world.node, &forged).await.not_authenticated();
    let unsigned = crate::support::jwt::assemble(&json!({"alg": "none"}), &claims(&world.node, &id), |_| Vec::new());
    shows(&world.node, &unsigned).await.not_authenticated();
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_algorithm_is_the_one_that_was_registered() {
    let world = World::new().await;
    let (rsa, ec) = (Signing::new("RS256", "r"), Signing::new("ES256", "e"));
    let keys = Signing::set(&[&rsa, &ec]);
    let id =
        register(&world.node, &world.operator, json!({"jwks": keys, "token_endpoint_auth_signing_alg": "RS256"})).await;
    shows(&world.node, &rsa.jwt(&json!({"alg": "RS256"}), &claims(&world.node, &id))).await.authenticated();
    shows(&world.node, &ec.jwt(&json!({"alg": "ES256"}), &claims(&world.node, &id))).await.not_authenticated();
    let mut for_encryption = rsa.jwk.clone();
    for_encryption["use"] = json!("enc");
    let id = register(&world.node, &world.operator, json!({"jwks": {"keys": [for_encryption]}})).await;
    shows(&world.node, &rsa.jwt(&json!({"alg": "RS256"}), &claims(&world.node, &id))).await.not_authenticated();
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_16_an_assertion_is_for_our_issuer_and_for_nobody_else() {
    let world = World::new().await;
    let key = Signing::new("EdDSA", "k1");
    let id = register(&world.node, &world.operator, json!({"jwks": Signing::set(&[&key])})).await;
    let token_endpoint = format!("{ISSUER}/token");
    let shown = async |audience: Value| {
        let claims = with(claims(&world.node, &id), &json!({"aud": audience}));
        shows(&world.node, &key.jwt(&json!({"alg": "EdDSA"}), &claims)).await
    };
    let wrong = [
        json!([ISSUER]),
        json!([ISSUER, "https://evil.example"]),
        json!([]),
        json!({}),
        json!(format!("{ISSUER}/")),
        json!(ISSUER.to_uppercase()),
        json!("http://localhost:8080"),
        json!(format!("{ISSUER} https://evil.example")),
        json!("https://evil.example"),
        json!([token_endpoint]),
        json!(format!("{token_endpoint}/")),
        json!(""),
    ];
    for audience in &wrong {
        shown(audience.clone()).await.not_authenticated();
    }
    shown(json!(token_endpoint)).await.not_authenticated();
    shown(json!(ISSUER)).await.authenticated();
    // For clients that know only the older custom, where an operator says so.
    let settings = json!({"assertion_audience_token_endpoint": true});
    assert_eq!(world.patch("/v1/settings", settings).await.enforced()["assertion_audience_token_endpoint"], true);
    shown(json!(token_endpoint)).await.authenticated();
    shown(json!(ISSUER)).await.authenticated();
    for audience in &wrong {
        shown(audience.clone()).await.not_authenticated();
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_17_an_assertion_is_good_once_on_whatever_node_and_at_whatever_moment() {
    let db = TestDb::new().await;
    let (one, two) = (Node::start(&db).await, Node::start(&db).await);
    let operator = one.operator().await;
    let key = Signing::new("EdDSA", "k1");
    let id = register(&one, &operator, json!({"jwks": Signing::set(&[&key])})).await;
    let header = json!({"alg": "EdDSA"});
    let assertion = key.jwt(&header, &claims(&one, &id));
    shows(&one, &assertion).await.authenticated();
    shows(&one, &assertion).await.not_authenticated();
    shows(&two, &assertion).await.not_authenticated();
    for _ in 0..5 {
        let assertion = key.jwt(&header, &claims(&one, &id));
        let all = (0..8).map(|index| shows(if index % 2 == 0 { &one } else { &two }, &assertion));
        let replies = futures_util::future::join_all(all).await;
        let proved = replies.iter().filter(|reply| reply.status.as_u16() == 400).count();
        let refused = replies.iter().filter(|reply| reply.status.as_u16() == 401).count();
        assert_eq!((proved, refused), (1, 7));
    }
    // Whoever cannot sign uses up nobody's, and another client's is its own.
    let stranger = Signing::new("EdDSA", "k1");
    let claims_ = claims(&one, &id);
    shows(&two, &stranger.jwt(&header, &claims_)).await.not_authenticated();
    let other = register(&one, &operator, json!({"jwks": Signing::set(&[&key])})).await;
    let same_jti = with(claims(&one, &other), &json!({"jti": claims_["jti"]}));
    shows(&two, &key.jwt(&header, &same_jti)).await.authenticated();
    shows(&one, &key.jwt(&header, &claims_)).await.authenticated();

    // It is remembered until it is over, and not for ever.
    one.advance(&db, 240).await;
    mcp_authority::jobs::run_all(&one.app).await.unwrap();
    shows(&one, &key.jwt(&header, &claims_)).await.not_authenticated();
    one.advance(&db, 3_600).await;
    one.until("used assertions are forgotten", async || db.count("select count(*) from client_assertions").await == 0)
        .await;
    two.stop().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_new_is_fetched_once_and_keys_that_are_gone_prove_nothing() {
    let elsewhere = Elsewhere::start().await;
    let world = elsewhere.world().await;
    let (old, new, never) =
        (Signing::new("RS256", "old"), Signing::new("RS256", "new"), Signing::new("RS256", "never"));
    elsewhere.put("/jwks", &Signing::set(&[&old]));
    let id = register(&world.node, &world.operator, json!({"jwks_uri": elsewhere.url("/jwks")})).await;
    assert_eq!(elsewhere.asked("/jwks"), 0, "attack 18: only when an assertion must be checked");
    let signed = async |key: &Signing, kid: &str| {
        shows(&world.node, &key.jwt(&json!({"alg": "RS256", "kid": kid}), &claims(&world.node, &id))).await
    };
    signed(&old, "old").await.authenticated();
    assert_eq!(elsewhere.asked("/jwks"), 1);
    elsewhere.put("/jwks", &Signing::set(&[&new]));
    signed(&old, "old").await.authenticated();
    // The set is young: whoever shows a made-up key does not make us ask again and again.
    for _ in 0..5 {
        signed(&never, "never").await.not_authenticated();
    }
    assert_eq!(elsewhere.asked("/jwks"), 1);
    // The same a moment later, by the clock that documents are kept by.
    let app = &world.node.app;
    let application = app.clients.resolve(&app.db, &id, BootInstant::now()).await.unwrap();
    let later = BootInstant::now().plus(RENEWED_AFTER);
    let proved = async |key: &Signing, kid: &str| {
        let text = key.jwt(&json!({"alg": "RS256", "kid": kid}), &claims(&world.node, &id));
        let shown = Shown { issuer: ISSUER, token_endpoint: "", now: app.live.now(), instant: later };
        app.clients.prove(&app.db, &application, &Assertion::read(&text).unwrap(), &shown).await
    };
    proved(&new, "new").await.unwrap();
    assert_eq!(elsewhere.asked("/jwks"), 2);
    assert_eq!(proved(&old, "old").await.unwrap_err().code(), "assertion_key");
    for _ in 0..5 {
        assert_eq!(proved(&never, "never").await.unwrap_err().code(), "assertion_key");
    }
    assert_eq!(elsewhere.asked("/jwks"), 2);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_had_now_are_no_reason_to_forget_the_client() {
    let elsewhere = Elsewhere::start().await;
    let world = elsewhere.world().await;
    let key = Signing::new("ES256", "k1");
    for (status, expected) in [(503, 503), (500, 503), (404, 401), (301, 401)] {
        let path = format!("/{status}/jwks");
        elsewhere.put_status(&path, status, &elsewhere.url("/good"));
        elsewhere.put("/good", &Signing::set(&[&key]));
        let id = register(&world.node, &world.operator, json!({"jwks_uri": elsewhere.url(&path)})).await;
        let reply = shows(&world.node, &key.jwt(&json!({"alg": "ES256"}), &claims(&world.node, &id))).await;
        assert_eq!(reply.status.as_u16(), expected, "{status}: {}", reply.text);
    }
    assert_eq!(elsewhere.asked("/good"), 0, "attack 19: nothing is followed");
    let private = json!({"keys": [{"kty": "oct", "k": "AAAA"}]});
    elsewhere.put("/private", &private);
    let id = register(&world.node, &world.operator, json!({"jwks_uri": elsewhere.url("/private")})).await;
    shows(&world.node, &key.jwt(&json!({"alg": "ES256"}), &claims(&world.node, &id))).await.not_authenticated();
    world.node.stop().await;
}
