//! Codes and refresh tokens that are bound to a key (RFC 9449 §5, §10): worth nothing to who lacks it, and not his to end.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::browser::{Asked, Browser, SignIns, WEB, answer, client, code, error, leads_to};
use crate::support::dpop::{Prover, asked, of_code, of_refresh, posted};
use crate::support::jwt::claims;
use crate::support::people::{Person, Tokens};
use crate::support::{Node, World, text};

async fn bound(world: &World, person: &Person, prover: &Prover) -> Tokens {
    let reply = prover.redeem(&world.node, person, &person.code(world).await).await.ok();
    assert_eq!(reply["token_type"], "DPoP");
    Tokens::of(&reply)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_refresh_token_is_renewed_by_its_key_alone_and_who_lacks_it_ends_nothing() {
    let world = World::new().await;
    let (person, prover, thief) = (Person::new(&world, &["tools/call"]).await, Prover::new(), Prover::new());
    let node = &world.node;
    let first = bound(&world, &person, &prover).await;
    for _ in 0..2 {
        person.refresh(node, &first.refresh, &[]).await.refused(400, "invalid_dpop_proof");
        thief.refresh(node, &person, &first.refresh).await.refused(400, "invalid_grant");
    }
    assert!(world.accepts(&first.access).await);
    let reply = prover.refresh(node, &person, &first.refresh).await.ok();
    assert_eq!(reply["token_type"], "DPoP");
    let second = Tokens::of(&reply);
    assert_eq!(claims(&second.access)["cnf"]["jkt"], prover.jkt());
    assert_eq!(world.server.introspect(node, &second.access).await["cnf"], json!({"jkt": prover.jkt()}));
    // The old one is spent; the thief still ends nothing with it, whatever was used since.
    prover.refresh(node, &person, &second.refresh).await.ok();
    person.refresh(node, &first.refresh, &[]).await.refused(400, "invalid_dpop_proof");
    thief.refresh(node, &person, &first.refresh).await.refused(400, "invalid_grant");
    assert!(world.accepts(&second.access).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_told_again_to_the_same_key_also_after_a_restart() {
    let world = World::new().await;
    let (person, prover) = (Person::new(&world, &["tools/call"]).await, Prover::new());
    let first = bound(&world, &person, &prover).await;
    let lost = Tokens::of(&prover.refresh(&world.node, &person, &first.refresh).await.ok());
    world.node.stop().await;
    let node = Node::start(&world.db).await;
    let again = prover.refresh(&node, &person, &first.refresh).await.ok();
    assert_eq!(again["token_type"], "DPoP");
    assert_eq!(again["refresh_token"], lost.refresh.as_str());
    assert_eq!(claims(&text(&again, "access_token")), claims(&lost.access), "the same token, bound to the same key");
    Prover::new().refresh(&node, &person, &lost.refresh).await.refused(400, "invalid_grant");
    // Once the session token is over another comes with the same successor, bound as before.
    node.advance(&world.db, 1_000).await;
    let late = Tokens::of(&prover.refresh(&node, &person, &first.refresh).await.ok());
    assert_eq!(late.refresh, lost.refresh);
    assert_eq!(claims(&late.access)["cnf"]["jkt"], prover.jkt());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_7_who_has_the_key_and_replays_what_was_used_ends_the_family() {
    let world = World::new().await;
    let (person, prover) = (Person::new(&world, &["tools/call"]).await, Prover::new());
    let first = bound(&world, &person, &prover).await;
    let second = Tokens::of(&prover.refresh(&world.node, &person, &first.refresh).await.ok());
    let third = Tokens::of(&prover.refresh(&world.node, &person, &second.refresh).await.ok());
    prover.refresh(&world.node, &person, &first.refresh).await.refused(400, "invalid_grant");
    for dead in [&first, &second, &third] {
        assert!(!world.accepts(&dead.access).await);
        prover.refresh(&world.node, &person, &dead.refresh).await.refused(400, "invalid_grant");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_7_a_token_without_a_key_is_not_taken_over_by_who_binds_it_first() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    // The owner has no key; a thief uses the token with one. What comes is the thief's alone, so the owner's own attempt shows that
    // there are two.
    for owner in [None, Some(Prover::new())] {
        let (first, thief) = (person.tokens(&world).await, Prover::new());
        let stolen = Tokens::of(&thief.refresh(&world.node, &person, &first.refresh).await.ok());
        person.refresh(&world.node, &stolen.refresh, &[]).await.refused(400, "invalid_dpop_proof");
        let reply = match &owner {
            None => person.refresh(&world.node, &first.refresh, &[]).await,
            Some(owner) => owner.refresh(&world.node, &person, &first.refresh).await,
        };
        reply.refused(400, "invalid_grant");
        assert!(!world.accepts(&stolen.access).await);
        thief.refresh(&world.node, &person, &stolen.refresh).await.refused(400, "invalid_grant");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_7_many_at_once_with_the_key_leave_one_living_branch() {
    let world = World::new().await;
    let other = Node::start(&world.db).await;
    let (person, prover) = (Person::new(&world, &["tools/call"]).await, Prover::new());
    let first = bound(&world, &person, &prover).await;
    let nodes = [&world.node, &other];
    let replies = join_all((0..40).map(|at| prover.refresh(nodes[at % 2], &person, &first.refresh))).await;
    let mut branches = BTreeSet::new();
    for reply in replies {
        match reply.status.as_u16() {
            200 => drop(branches.insert(text(&reply.json, "refresh_token"))),
            503 => assert!(reply.headers.contains_key("retry-after")),
            other => panic!("{other}: {}", reply.text),
        }
    }
    assert_eq!(branches.len(), 1, "{branches:?}");
    other.stop().await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_authenticates_may_change_its_key_with_each_renewal() {
    let scene = SignIns::new(&["tools/call"]).await;
    let body = json!({"client_name": "Secret", "redirect_uris": [WEB], "grant_types": ["authorization_code", "refresh_token"]});
    let made = scene.world.post("/v1/clients", body).await.created();
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let asking = Asked::new(&id, WEB, &scene.world.server);
    let shown = code(&scene.whole(&Browser::default(), &asking).await);
    let send = async |proof: Option<String>, form: &[(&str, &str)]| {
        let request = scene.node().request(Method::POST, "/oauth/token").basic_auth(&id, Some(&secret)).form(form);
        let request = proof.into_iter().fold(request, |request, proof| request.header("DPoP", proof));
        scene.node().send(request).await
    };
    let redeemed =
        [("grant_type", "authorization_code"), ("code", shown.as_str()), ("code_verifier", &asking.verifier)];
    let mut tokens = Tokens::of(&send(Some(Prover::new().proof(scene.node())), &redeemed).await.ok());
    for prover in [Prover::new(), Prover::new()] {
        let form = [("grant_type", "refresh_token"), ("refresh_token", tokens.refresh.as_str())];
        let reply = send(Some(prover.proof(scene.node())), &form).await.ok();
        assert_eq!(claims(&text(&reply, "access_token"))["cnf"]["jkt"], prover.jkt());
        tokens = Tokens::of(&reply);
    }
    let form = [("grant_type", "refresh_token"), ("refresh_token", tokens.refresh.as_str())];
    assert_eq!(send(None, &form).await.ok()["token_type"], "Bearer");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_does_without_a_proof_gets_nothing_without_one() {
    let scene = SignIns::new(&["tools/call"]).await;
    let node = scene.node();
    let always = json!({"dpop_bound_access_tokens": true});
    let id = client(&scene.world, always.clone()).await;
    let told = scene.world.operator.get(node, &format!("/v1/clients/{id}")).await.ok();
    assert!(told.to_string().contains("\"dpop_bound_access_tokens\":true"), "{told}");
    let asking = Asked::new(&id, WEB, &scene.world.server);
    let shown = code(&scene.whole(&Browser::default(), &asking).await);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", &id),
        ("code", &shown),
        ("code_verifier", &asking.verifier),
    ];
    asked(node, &[], &form).await.refused(400, "invalid_dpop_proof");
    let prover = Prover::new();
    let tokens = Tokens::of(&asked(node, &[&prover.proof(node)], &form).await.ok());
    let form = [("grant_type", "refresh_token"), ("client_id", &id), ("refresh_token", &tokens.refresh)];
    asked(node, &[], &form).await.refused(400, "invalid_dpop_proof");
    // RFC 9449 §5.2: also what registers itself is told so, and bound to it.
    let mut body =
        json!({"client_name": "App", "redirect_uris": ["http://127.0.0.1/cb"], "token_endpoint_auth_method": "none"});
    body["dpop_bound_access_tokens"] = true.into();
    let made = node.send(node.request(Method::POST, "/oauth/register").json(&body)).await.created();
    assert_eq!(made["dpop_bound_access_tokens"], true);
    let form =
        [("grant_type", "refresh_token"), ("client_id", made["client_id"].as_str().unwrap()), ("refresh_token", "x")];
    asked(node, &[], &form).await.refused(400, "invalid_dpop_proof");
    body["dpop_bound_access_tokens"] = "yes".into();
    node.send(node.request(Method::POST, "/oauth/register").json(&body)).await.refused(400, "invalid_client_metadata");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_9_a_code_bound_to_a_key_is_redeemed_by_that_key_alone() {
    let scene = SignIns::new(&["tools/call"]).await;
    let (node, browser, prover, thief) = (scene.node(), Browser::default(), Prover::new(), Prover::new());
    let asking = scene.asked().with("dpop_jkt", &prover.jkt());
    let shown = code(&scene.whole(&browser, &asking).await);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", &scene.client),
        ("code", &shown),
        ("code_verifier", &asking.verifier),
    ];
    asked(node, &[], &form).await.refused(400, "invalid_dpop_proof");
    asked(node, &[&thief.proof(node)], &form).await.refused(400, "invalid_grant");
    let reply = asked(node, &[&prover.proof(node)], &form).await.ok();
    assert_eq!(reply["token_type"], "DPoP", "who lacks the key has ended nothing");
    let (token, refresh) = (text(&reply, "access_token"), text(&reply, "refresh_token"));
    let form_of_refresh = [("grant_type", "refresh_token"), ("client_id", &scene.client), ("refresh_token", &refresh)];
    asked(node, &[&thief.proof(node)], &form_of_refresh).await.refused(400, "invalid_grant");
    for (step, times) in [("token", 2), ("refresh", 1)] {
        let tried =
            format!("select count(*) from flow_steps where step = '{step}' and detail = 'bound_to_another_key'");
        assert_eq!(scene.world.db.count(&tried).await, times, "an operator can see that somebody tried");
    }
    // Shown again without the key it still ends nothing; with it, what came of it dies.
    asked(node, &[&thief.proof(node)], &form).await.refused(400, "invalid_grant");
    assert!(scene.world.accepts(&token).await);
    asked(node, &[&prover.proof(node)], &form).await.refused(400, "invalid_grant");
    assert!(!scene.world.accepts(&token).await);
    for wrong in ["x", &"A".repeat(44), &prover.jkt()[1..], &format!("{}=", prover.jkt())] {
        let reply = browser.get(node, &scene.asked().with("dpop_jkt", wrong).path()).await;
        error(&reply, "invalid_request");
    }
    error(&browser.get(node, &asking.and("dpop_jkt", &thief.jkt()).path()).await, "invalid_request");
    scene.world.node.stop().await;
}

/// A pushed request, followed to its code.
async fn pushed(scene: &SignIns, asking: &Asked, proofs: &[&str]) -> String {
    let form: Vec<(&str, &str)> =
        asking.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let reference = text(&posted(scene.node(), "/oauth/par", proofs, &form).await.created(), "request_uri");
    let browser = Browser::default();
    let query = [("client_id", scene.client.as_str()), ("request_uri", &reference)];
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let page = leads_to(&browser.get(scene.node(), &format!("/oauth/authorize?{query}")).await);
    let ways = leads_to(&scene.approve(&browser, &page).await);
    let answered = scene.demo(&browser, &ways).await;
    assert_eq!(answer(&answered)["state"], "the-state");
    code(&answered)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_with_a_pushed_request_binds_the_code_to_its_key() {
    let scene = SignIns::new(&["tools/call"]).await;
    let (node, prover, other) = (scene.node(), Prover::new(), Prover::new());
    let proof = || prover.sign(&Prover::claims(node, "/oauth/par"));
    let named = scene.asked().with("dpop_jkt", &prover.jkt());
    for asking in [scene.asked(), named.clone()] {
        let shown = pushed(&scene, &asking, &[&proof()]).await;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", &scene.client),
            ("code", &shown),
            ("code_verifier", &asking.verifier),
        ];
        asked(node, &[&other.proof(node)], &form).await.refused(400, "invalid_grant");
        asked(node, &[&prover.proof(node)], &form).await.ok();
    }
    let refused = async |asking: &Asked, proofs: &[&str], error: &str| {
        let form: Vec<(&str, &str)> =
            asking.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let reply = posted(node, "/oauth/par", proofs, &form).await;
        let nonce = reply.headers.get("dpop-nonce").map(|nonce| nonce.to_str().unwrap().to_owned());
        reply.refused(400, error);
        nonce
    };
    let (used, elsewhere) = (proof(), prover.proof(node));
    pushed(&scene, &scene.asked(), &[&used]).await;
    for proofs in [[used.as_str()].as_slice(), &[&elsewhere], &["x"], &[&proof(), &proof()]] {
        refused(&scene.asked(), proofs, "invalid_dpop_proof").await;
    }
    let foreign = other.sign(&Prover::claims(node, "/oauth/par"));
    refused(&named, &[&foreign], "invalid_dpop_proof").await;
    scene.world.patch("/v1/settings", json!({"dpop_nonce_required": true})).await.enforced();
    let nonce = refused(&named, &[&proof()], "use_dpop_nonce").await.expect("a nonce");
    let mut claims = Prover::claims(node, "/oauth/par");
    claims["nonce"] = Value::from(nonce);
    pushed(&scene, &named, &[&prover.sign(&claims)]).await;
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_request_that_is_sent_again_ends_nothing() {
    let world = World::new().await;
    let (person, prover) = (Person::new(&world, &["tools/call"]).await, Prover::new());
    let (node, code) = (&world.node, person.code(&world).await);
    let proof = prover.proof(node);
    let first = Tokens::of(&asked(node, &[&proof], &of_code(&person, &code)).await.ok());
    asked(node, &[&proof], &of_code(&person, &code)).await.refused(400, "invalid_dpop_proof");
    let proof = prover.proof(node);
    let second = Tokens::of(&asked(node, &[&proof], &of_refresh(&person, &first.refresh)).await.ok());
    prover.refresh(node, &person, &second.refresh).await.ok();
    asked(node, &[&proof], &of_refresh(&person, &first.refresh)).await.refused(400, "invalid_dpop_proof");
    assert!(world.accepts(&second.access).await, "without a proof of its own it would have been a replay");
    world.node.stop().await;
}
