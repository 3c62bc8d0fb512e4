//! Refresh tokens: good once, told again while nothing came of them, and dead with their family when one was stolen.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::jwt::claims;
use crate::support::people::{Person, Tokens, public_client};
use crate::support::{Node, World, text};

/// What a node saw is written behind; a story does not wait for that.
async fn write_what_was_seen(node: &Node) {
    node.app.observations.flush(&node.app.db, node.app.live.now(), true).await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_gives_a_new_pair_and_keeps_what_the_person_agreed_to() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call", "tools/list"]).await;
    let first = person.tokens(&world).await;
    world.advance(600).await;
    let reply = person.refresh(&world.node, &first.refresh, &[]).await;
    assert_eq!(reply.headers["cache-control"], "no-store");
    let second = Tokens::of(&reply.ok());
    assert!(second.refresh != first.refresh && second.access != first.access);
    let (before, after) = (claims(&first.access), claims(&second.access));
    for same in ["iss", "sub", "aud", "client_id", "permissions", "srv", "environment"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert!(world.accepts(&first.access).await && world.accepts(&second.access).await);
    world.advance(301).await;
    assert!(!world.accepts(&first.access).await, "its own time is over");
    assert!(world.accepts(&second.access).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_told_again_the_same_refresh_token_and_the_same_session() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let first = person.tokens(&world).await;
    let lost = Tokens::of(&person.refresh(&world.node, &first.refresh, &[]).await.ok());
    let other = Node::start(&world.db).await;
    for node in [&world.node, &other] {
        let again = person.refresh(node, &first.refresh, &[]).await.ok();
        assert_eq!(again["refresh_token"], lost.refresh.as_str());
        assert_eq!(claims(&text(&again, "access_token"))["jti"], claims(&lost.access)["jti"]);
        let left = again["expires_in"].as_i64().expect("an integer");
        assert!((1..=900).contains(&left), "it is the same token, so it ends when it would have: {left}");
    }
    // Also after the session token's end: a machine that slept has lost nothing.
    world.advance(1_000).await;
    let late = Tokens::of(&person.refresh(&world.node, &first.refresh, &[]).await.ok());
    assert_eq!(late.refresh, lost.refresh);
    assert!(world.accepts(&late.access).await && !world.accepts(&lost.access).await);
    let next = Tokens::of(&person.refresh(&world.node, &lost.refresh, &[]).await.ok());
    assert!(world.accepts(&next.access).await);
    other.stop().await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_7_a_replay_after_the_successor_was_used_ends_the_family_on_every_node() {
    let world = World::new().await;
    let other = Node::start(&world.db).await;
    let person = Person::new(&world, &["tools/call"]).await;
    let stranger = person.tokens(&world).await;
    let first = person.tokens(&world).await;
    let second = Tokens::of(&person.refresh(&world.node, &first.refresh, &[]).await.ok());
    let third = Tokens::of(&person.refresh(&world.node, &second.refresh, &[]).await.ok());
    person.refresh(&other, &first.refresh, &[]).await.refused(400, "invalid_grant");
    for node in [&world.node, &other] {
        for dead in [&first, &second, &third] {
            assert!(!world.server.accepts(node, &dead.access).await, "a session token of the family");
            person.refresh(node, &dead.refresh, &[]).await.refused(400, "invalid_grant");
        }
        assert!(
            world.server.accepts(node, &stranger.access).await,
            "another sign-in of the same person is not touched"
        );
    }
    person.refresh(&other, &stranger.refresh, &[]).await.ok();
    other.stop().await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_7_a_replay_after_the_session_token_was_used_ends_the_family() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let first = person.tokens(&world).await;
    let second = Tokens::of(&person.refresh(&world.node, &first.refresh, &[]).await.ok());
    assert!(world.accepts(&second.access).await);
    write_what_was_seen(&world.node).await;
    person.refresh(&world.node, &first.refresh, &[]).await.refused(400, "invalid_grant");
    assert!(!world.accepts(&second.access).await);
    person.refresh(&world.node, &second.refresh, &[]).await.refused(400, "invalid_grant");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_7_two_hundred_at_once_on_three_nodes_leave_at_most_one_living_branch() {
    let world = World::new().await;
    let (second, third) = (Node::start(&world.db).await, Node::start(&world.db).await);
    let nodes = [&world.node, &second, &third];
    let person = Person::new(&world, &["tools/call"]).await;
    let first = person.tokens(&world).await;
    let all = (0..200).map(|at| person.refresh(nodes[at % 3], &first.refresh, &[]));
    let replies = join_all(all).await;
    let mut branches = BTreeSet::new();
    for reply in replies {
        match reply.status.as_u16() {
            200 => drop(branches.insert(text(&reply.json, "refresh_token"))),
            // So many at once may be told to come back; none is told anything else.
            503 => assert!(reply.headers.contains_key("retry-after")),
            other => panic!("{other}: {}", reply.text),
        }
    }
    assert_eq!(branches.len(), 1, "{branches:?}");
    let living = world.db.count("select count(*) from refresh_tokens where used_at is null").await;
    assert_eq!(living, 1);
    third.stop().await;
    second.stop().await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_8_what_was_used_stays_used_after_a_restart() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let first = person.tokens(&world).await;
    let second = Tokens::of(&person.refresh(&world.node, &first.refresh, &[]).await.ok());
    let third = Tokens::of(&person.refresh(&world.node, &second.refresh, &[]).await.ok());
    world.node.stop().await;
    let node = Node::start(&world.db).await;
    person.refresh(&node, &first.refresh, &[]).await.refused(400, "invalid_grant");
    assert!(!world.server.accepts(&node, &third.access).await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_9_another_client_gets_nothing_and_the_family_ends() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let tokens = person.tokens(&world).await;
    let other = public_client(&world, json!(["refresh_token"])).await;
    let reply = person.refresh(&world.node, &tokens.refresh, &[("client_id", other.as_str())]).await;
    reply.refused(400, "invalid_grant");
    assert!(!world.accepts(&tokens.access).await);
    person.refresh(&world.node, &tokens.refresh, &[]).await.refused(400, "invalid_grant");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_11_a_changed_refresh_token_is_nobody_s_and_harms_nobody() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let tokens = person.tokens(&world).await;
    let mut wrong = tokens.refresh.clone().into_bytes();
    wrong[40] = if wrong[40] == b'a' { b'b' } else { b'a' };
    let signed = String::from_utf8_lossy(&wrong[..wrong.len() - 6]).into_owned();
    let checksum = mcp_authority::types::base62::encode_u32(crc32fast::hash(signed.as_bytes()));
    for changed in [&tokens.refresh[1..], &format!("{}0", tokens.refresh), &format!("{signed}{checksum}"), "x"] {
        person.refresh(&world.node, changed, &[]).await.refused(400, "invalid_grant");
    }
    assert!(world.accepts(&tokens.access).await);
    person.refresh(&world.node, &tokens.refresh, &[]).await.ok();
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_24_a_renewal_never_widens_and_may_narrow() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call:read_*", "tools/list"]).await;
    let first = person.tokens(&world).await;
    let narrowed = person.refresh(&world.node, &first.refresh, &[("scope", "tools/list")]).await.ok();
    assert_eq!(narrowed["scope"], "tools/list");
    let tokens = Tokens::of(&narrowed);
    person.refresh(&world.node, &tokens.refresh, &[("scope", "prompts/get")]).await.refused(400, "invalid_scope");
    let asked = [("scope", "tools/call tools/list offline_access")];
    let whole = person.refresh(&world.node, &tokens.refresh, &asked).await.ok();
    assert_eq!(whole["scope"], "tools/call:read_* tools/list", "what was agreed to is still there, and no more");
    let tokens = Tokens::of(&whole);
    person
        .refresh(&world.node, &tokens.refresh, &[("resource", "https://other.example.com/mcp")])
        .await
        .refused(400, "invalid_target");
    // A refused request used nothing up.
    person.refresh(&world.node, &tokens.refresh, &[]).await.ok();
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_ends_when_nobody_used_it_for_long_and_after_ninety_days() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let (idle, mut used) = (person.tokens(&world).await, person.tokens(&world).await);
    for _ in 0..4 {
        world.advance(22 * 86_400).await;
        used = Tokens::of(&person.refresh(&world.node, &used.refresh, &[]).await.ok());
    }
    person.refresh(&world.node, &idle.refresh, &[]).await.refused(400, "invalid_grant");
    world.advance(3 * 86_400).await;
    person.refresh(&world.node, &used.refresh, &[]).await.refused(400, "invalid_grant");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_be_asked_is_waited_for_as_long_as_the_grace_and_by_nobody_for_longer() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let user = person.user;
    let mut tokens = person.tokens(&world).await;
    world.patch("/v1/settings", json!({"provider_grace_seconds": 3_600})).await.ok();
    world.db.execute(&format!("insert into user_checks (user_id) values ('{user}')")).await;
    world.advance(3_500).await;
    tokens = Tokens::of(&person.refresh(&world.node, &tokens.refresh, &[]).await.ok());
    world.advance(200).await;
    // While somebody else asks the provider, its answer is waited for: it is no way around the question.
    let asks = |until: &str| format!("update user_checks set asking_until = {until} where user_id = '{user}'");
    world.db.execute(&asks("authority_now() + interval '30 seconds'")).await;
    let reply = person.refresh(&world.node, &tokens.refresh, &[]).await;
    assert_eq!(reply.headers["retry-after"], "1");
    reply.refused(503, "temporarily_unavailable");
    world.db.execute(&asks("null")).await;
    let both = join_all((0..2).map(|_| person.refresh(&world.node, &tokens.refresh, &[]))).await;
    assert!(both.iter().all(|reply| reply.status != 200), "{both:?}");
    person.refresh(&world.node, &tokens.refresh, &[]).await.refused(400, "invalid_grant");
    // The provider is back, and vouches.
    world.db.execute(&format!("update user_checks set checked_at = authority_now() where user_id = '{user}'")).await;
    person.refresh(&world.node, &tokens.refresh, &[]).await.ok();
    world.node.stop().await;
}
