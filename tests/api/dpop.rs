//! Tokens that are bound to a key (`DPoP`, RFC 9449): what proves something at the token endpoint, and what is told of it.

use mcp_authority::jobs;
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::support::dpop::{Prover, asked};
use crate::support::jwt::{assert_members, claims, with};
use crate::support::{Key, Node, Reply, World, exchange, text};

/// The form of a key's own request.
fn form<'a>(world: &'a World, key: &'a Key) -> [(&'static str, &'a str); 4] {
    [
        ("grant_type", "client_credentials"),
        ("client_id", &key.id),
        ("client_secret", &key.key),
        ("resource", &world.server.resource),
    ]
}

async fn bound(world: &World, key: &Key, prover: &Prover) -> Value {
    asked(&world.node, &[&prover.proof(&world.node)], &form(world, key)).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_asked_for_with_a_proof_is_bound_to_its_key_and_one_without_is_as_before() {
    let world = World::new().await;
    let (key, prover) = (world.key(&["tools/call"]).await, Prover::new());
    let reply = bound(&world, &key, &prover).await;
    assert_eq!(reply["token_type"], "DPoP");
    let token = text(&reply, "access_token");
    assert_eq!(claims(&token)["cnf"], json!({"jkt": prover.jkt()}), "who checks offline sees it too");
    let told = world.server.introspect(&world.node, &token).await;
    assert_eq!(told["active"], true);
    assert_eq!(told["token_type"], "DPoP");
    assert_eq!(told["cnf"], json!({"jkt": prover.jkt()}));
    let plain = asked(&world.node, &[], &form(&world, &key)).await.ok();
    assert_eq!(plain["token_type"], "Bearer");
    let plain = text(&plain, "access_token");
    assert!(claims(&plain).get("cnf").is_none());
    let told = world.server.introspect(&world.node, &plain).await;
    assert_eq!(told["token_type"], "Bearer");
    let usual = "active iss sub client_id aud scope permissions exp iat jti token_type agent_id environment key_id";
    assert_members(&told, &usual.split(' ').collect::<Vec<_>>());
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bound_is_revoked_as_everything_is() {
    let world = World::new().await;
    let (key, prover) = (world.key(&["tools/call"]).await, Prover::new());
    let token = text(&bound(&world, &key, &prover).await, "access_token");
    // Who ends a token need not have its key: a server that closes a connection has not.
    world.server.revoke(&world.node, &token).await.expect_status(200);
    assert!(!world.accepts(&token).await);
    let token = text(&bound(&world, &key, &prover).await, "access_token");
    world.revoke(json!({"kind": "key", "id": key.id})).await;
    assert!(!world.accepts(&token).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_proves_nothing_gets_no_token_and_the_audit_says_why() {
    let world = World::new().await;
    let (key, prover, other) = (world.key(&["tools/call"]).await, Prover::new(), Prover::new());
    let node = &world.node;
    let good = Prover::claims(node, "/oauth/token");
    let proof = |member: &str, value: Value| prover.sign(&with(&good, member, value));
    let signed = prover.sign(&good);
    let foreign = format!("{}.{}", signed.rsplit_once('.').unwrap().0, other.sign(&good).rsplit_once('.').unwrap().1);
    let cases: Vec<(&str, Vec<String>)> = vec![
        ("proof_several", vec![proof("jti", json!("a")), proof("jti", json!("b"))]),
        ("proof_several", vec![signed.clone(), signed.clone()]),
        ("proof_malformed", vec![String::new()]),
        ("proof_malformed", vec!["x".to_owned()]),
        ("proof_malformed", vec![proof("jti", json!("a".repeat(513)))]),
        ("proof_malformed", vec![proof("x", json!("a".repeat(8 * 1024)))]),
        ("proof_signature", vec![foreign]),
        ("proof_method", vec![proof("htm", json!("GET"))]),
        ("proof_uri", vec![proof("htu", json!("http://localhost:8080/oauth/par"))]),
        ("proof_uri", vec![proof("htu", json!(node.url("/oauth/token")))]),
        ("proof_time", vec![proof("iat", json!(world.now() - 400))]),
        ("proof_time", vec![proof("iat", json!(world.now() + 400))]),
        ("proof_token", vec![proof("ath", json!("AAAA"))]),
    ];
    let mut wanted = Vec::new();
    for (cause, proofs) in &cases {
        let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
        asked(node, &proofs, &form(&world, &key)).await.refused(400, "invalid_dpop_proof");
        wanted.push(*cause);
    }
    // None of them used anything up.
    asked(node, &[&signed], &form(&world, &key)).await.ok();
    let recorded = async || {
        let page = world.operator.get(node, "/v1/audit?action=session.refused&limit=50").await.ok();
        let entries = page["items"].as_array().expect("a list").clone();
        let mut found: Vec<Value> = entries.iter().map(|entry| entry["event"]["cause"].clone()).collect();
        found.reverse();
        found == wanted.iter().map(|cause| json!(cause)).collect::<Vec<_>>()
    };
    node.until("each refusal stands in the audit with its cause", recorded).await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_17_a_proof_is_good_once_on_whatever_node_and_when_many_show_it_at_once() {
    let world = World::new().await;
    let other = Node::start(&world.db).await;
    let (key, prover) = (world.key(&["tools/call"]).await, Prover::new());
    other
        .until("the other node knows the key", async || {
            other.app.live.memory().keys.get(&key.id.parse().expect("an id")).is_some()
        })
        .await;
    for _ in 0..3 {
        let (proof, form) = (prover.proof(&world.node), form(&world, &key));
        let both = [&world.node, &other];
        let all = (0..16).map(|at| {
            let (node, proof, form) = (both[at % 2], &proof, &form);
            async move { asked(node, &[proof], form).await }
        });
        let replies = futures_util::future::join_all(all).await;
        let mut good = replies.iter().filter(|reply| reply.status == 200).count();
        // So many at once may be told to come back; none is told anything else.
        let others = replies.iter().filter(|reply| reply.status != 200);
        assert!(
            { others }.all(|reply| reply.status == 503 || reply.json["error"] == "invalid_dpop_proof"),
            "{replies:?}"
        );
        let spent = async || {
            let reply = asked(&other, &[&proof], &form).await;
            good += usize::from(reply.status == 200);
            reply.json["error"] == "invalid_dpop_proof"
        };
        other.until("the proof is spent", spent).await;
        assert!(good <= 1, "{good}");
    }
    // Two keys may choose the same id.
    let claims = Prover::claims(&world.node, "/oauth/token");
    for prover in [Prover::new(), Prover::new()] {
        asked(&world.node, &[&prover.sign(&claims)], &form(&world, &key)).await.ok();
    }
    other.stop().await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_are_forgotten_only_once_nobody_can_use_them_any_more() {
    let world = World::new().await;
    let (key, prover) = (world.key(&["tools/call"]).await, Prover::new());
    let proof = prover.proof(&world.node);
    asked(&world.node, &[&proof], &form(&world, &key)).await.ok();
    let kept = async || world.db.count("select count(*) from proofs").await;
    world.advance(290).await;
    asked(&world.node, &[&proof], &form(&world, &key)).await.refused(400, "invalid_dpop_proof");
    jobs::run_all(&world.node.app).await.expect("it runs");
    assert_eq!(kept().await, 1);
    world.advance(620).await;
    jobs::run_all(&world.node.app).await.expect("it runs");
    assert_eq!(kept().await, 0);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_else_can_make_us_remember_only_so_many_proofs() {
    let world = World::new().await;
    let prover = Prover::new();
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")];
    let ask = async || asked(&world.node, &[&prover.proof(&world.node)], &form).await;
    ask().await.refused(400, "invalid_request");
    let address = Some(std::net::IpAddr::from([127, 0, 0, 1]));
    let held_back = async || {
        // One comes back every tenth of a second, which may pass before the request is there.
        while world.node.app.strangers.prove(address).is_ok() {}
        let reply = ask().await;
        let held_back = reply.status == 429;
        assert_eq!(held_back, reply.headers.contains_key(header::RETRY_AFTER));
        held_back
    };
    world.node.until("there is an end to it", held_back).await;
    // Nor is whoever gave himself a secret.
    let himself = json!({"redirect_uris": ["http://127.0.0.1/back"], "token_endpoint_auth_method": "client_secret_post",
        "grant_types": ["authorization_code", "refresh_token"], "client_name": "App"});
    let register = world.node.request(Method::POST, "/oauth/register").json(&himself);
    let made = world.node.send(register).await.created();
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let form =
        [("grant_type", "refresh_token"), ("client_id", &id), ("client_secret", &secret), ("refresh_token", "none")];
    let held_back = async || {
        while world.node.app.strangers.prove(address).is_ok() {}
        asked(&world.node, &[&prover.proof(&world.node)], &form).await.status == 429
    };
    world.node.until("a secret of his own is no way around it", held_back).await;
    // A request without a proof is not meant.
    asked(&world.node, &[], &form).await.refused(400, "invalid_grant");
    // Whoever has a credential is not held up.
    let key = world.key(&["tools/call"]).await;
    bound(&world, &key, &prover).await;
    world.node.stop().await;
}

fn nonce(reply: &Reply) -> String {
    reply.headers["dpop-nonce"].to_str().expect("a text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nonces_are_demanded_when_an_operator_says_so_and_read_by_every_node_for_a_while() {
    let world = World::new().await;
    let other = Node::start(&world.db).await;
    let (key, prover) = (world.key(&["tools/call"]).await, Prover::new());
    let (node, form) = (&world.node, form(&world, &key));
    let without = asked(node, &[&prover.proof(node)], &form).await;
    assert!(without.headers.get("dpop-nonce").is_none(), "nobody asked for one");
    without.ok();
    // One that is sent is looked at all the same.
    let refused = asked(node, &[&prover.proof_with(node, "made up")], &form).await;
    let first = nonce(&refused);
    refused.refused(400, "use_dpop_nonce");
    asked(node, &[&prover.proof_with(node, &first)], &form).await.ok();

    world.patch("/v1/settings", json!({"dpop_nonce_required": true})).await.enforced();
    let refused = asked(node, &[&prover.proof(node)], &form).await;
    let told = nonce(&refused);
    refused.refused(400, "use_dpop_nonce");
    for node in [node, &other] {
        let reply = asked(node, &[&prover.proof_with(node, &told)], &form).await;
        assert!(!nonce(&reply).is_empty(), "each answer has the next one");
        assert_eq!(reply.ok()["token_type"], "DPoP");
    }
    let refused =
        asked(node, &[&prover.proof_with(node, &told)], &[&form[..], &[("scope", "nonsense")]].concat()).await;
    assert!(!nonce(&refused).is_empty(), "a refusal has it too");
    refused.refused(400, "invalid_scope");
    // Who sends no proof is not asked for anything.
    let plain = asked(node, &[], &form).await;
    assert!(plain.headers.get("dpop-nonce").is_none());
    assert_eq!(plain.ok()["token_type"], "Bearer");
    world.advance(150).await;
    asked(node, &[&prover.proof_with(node, &told)], &form).await.ok();
    world.advance(151).await;
    let refused = asked(node, &[&prover.proof_with(node, &told)], &form).await;
    assert_ne!(nonce(&refused), told);
    refused.refused(400, "use_dpop_nonce");
    other.stop().await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_sep_1932_the_metadata_names_asymmetric_algorithms_only_and_pages_may_use_them() {
    let world = World::new().await;
    let path = "/.well-known/oauth-authorization-server/oauth";
    let metadata = world.node.send(world.node.request(Method::GET, path)).await.ok();
    let algs = metadata["dpop_signing_alg_values_supported"].as_array().expect("sep-1932-as-metadata-alg-values");
    assert_eq!(json!(algs), json!(["ES256", "ES384", "EdDSA", "PS256", "RS256"]));
    assert!(
        !algs.iter().any(|alg| alg == "none" || alg.as_str().unwrap().starts_with("HS")),
        "sep-1932-as-no-none-alg"
    );
    let (key, prover) = (world.key(&["tools/call"]).await, Prover::new());
    let reply = bound(&world, &key, &prover).await;
    assert_eq!(reply["token_type"], "DPoP", "sep-1932-as-token-binding");
    assert_eq!(claims(&text(&reply, "access_token"))["cnf"]["jkt"], prover.jkt(), "sep-1932-as-token-binding");

    let page = |request: reqwest::RequestBuilder| request.header(header::ORIGIN, "https://app.example.com");
    let preflight = page(world.node.request(Method::OPTIONS, "/oauth/token"))
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "dpop");
    let reply = world.node.send(preflight).await;
    let listed = |reply: &Reply, name: header::HeaderName| reply.headers[name].to_str().unwrap().to_owned();
    assert!(listed(&reply, header::ACCESS_CONTROL_ALLOW_HEADERS).contains("dpop"), "{:?}", reply.headers);
    let asking = page(world.node.request(Method::POST, "/oauth/token")).form(&form(&world, &key));
    let reply = world.node.send(asking.header("DPoP", prover.proof(&world.node))).await;
    assert!(listed(&reply, header::ACCESS_CONTROL_EXPOSE_HEADERS).contains("dpop-nonce"));
    assert_eq!(reply.ok()["token_type"], "DPoP");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exchanged_stays_bound_and_is_shown_by_whoever_has_its_key() {
    let world = World::new().await;
    let (key, prover, thief) = (world.key(&["tools/call", "tools/list"]).await, Prover::new(), Prover::new());
    let node = &world.node;
    let token = text(&bound(&world, &key, &prover).await, "access_token");
    let subject = |token: &str| {
        let kind = "urn:ietf:params:oauth:token-type:access_token";
        [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token_type", kind),
            ("scope", "tools/list"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
        .chain([("subject_token".to_owned(), token.to_owned())])
        .collect::<Vec<_>>()
    };
    let send = async |proof: &str, token: &str| {
        let form = subject(token);
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        asked(node, &[proof], &form).await
    };
    let refused = exchange(node, &token, &[]).await.refused(400, "invalid_request");
    assert!(text(&refused, "error_description").contains("DPoP"), "{refused}");
    send(&thief.proof(node), &token).await.refused(400, "invalid_request");
    let smaller = send(&prover.proof(node), &token).await.ok();
    assert_eq!((&smaller["token_type"], &smaller["scope"]), (&json!("DPoP"), &json!("tools/list")));
    assert_eq!(claims(&text(&smaller, "access_token"))["cnf"]["jkt"], prover.jkt());
    // A proof made for this token is none for another.
    let ath = |token: &str| crate::support::jwt::encode(mcp_authority::types::opaque::sha256(token));
    let of = |token: &str| prover.sign(&with(&Prover::claims(node, "/oauth/token"), "ath", ath(token)));
    send(&of(&token), &token).await.ok();
    send(&of(&text(&smaller, "access_token")), &token).await.refused(400, "invalid_dpop_proof");
    // One that was not bound can be given to a key; an actor shows its own as the subject does.
    let plain = world.session(&key).await;
    assert_eq!(send(&thief.proof(node), &plain).await.ok()["token_type"], "DPoP");
    let actor =
        [("actor_token", token.as_str()), ("actor_token_type", "urn:ietf:params:oauth:token-type:access_token")];
    exchange(node, &plain, &actor).await.refused(400, "invalid_request");
    world.node.stop().await;
}
