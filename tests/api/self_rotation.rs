//! `POST /v1/keys/self/rotate`: an agent renews its key with the key itself, and a thief gains little by it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::actors::text;
use crate::support::{Key, Reply, World};

const DAY: i64 = 86_400;
const PATH: &str = "/v1/keys/self/rotate";

async fn self_rotating(world: &World, more: Value) -> Key {
    let mut body = json!({"self_rotation": true});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.key_on(&[(&world.server, &["*"])], body).await
}

async fn renew(world: &World, credential: &str, body: Value) -> Reply {
    world.node.send(world.node.request(Method::POST, PATH).bearer_auth(credential).json(&body)).await
}

/// The key with the secret that the one shown made.
async fn next(world: &World, key: &Key) -> Key {
    let made = renew(world, &key.key, json!({})).await.ok();
    assert_eq!(made["id"], key.id);
    Key { key: text(&made, "key"), ..key.clone() }
}

async fn live_versions(world: &World, key: &Key) -> i64 {
    let live = "select count(*) from secrets where owner = '{}' and expires_at > authority_now()";
    world.db.count(&live.replace("{}", &key.id)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_renews_itself_and_the_audit_says_that_it_was_the_key() {
    let world = World::new().await;
    let key = self_rotating(&world, json!({})).await;
    assert!(world.accepts(&key.key).await);
    world.advance(80 * DAY).await;
    // Without a body too.
    let made = world.node.send(world.node.request(Method::POST, PATH).bearer_auth(&key.key)).await.enforced();
    let new = text(&made, "key");
    assert_eq!(made["previous"]["version"], 1);
    assert!(made["previous"]["last_used_at"].is_string(), "{made}");
    assert!(world.accepts(&key.key).await && world.accepts(&new).await);
    let recorded = format!(
        "select count(*) from audit_log where action = 'key.rotated' and actor = '{0}' and target = '{0}' and body ->> 'by' = 'key'",
        key.id
    );
    assert_eq!(world.db.count(&recorded).await, 1);
    world.advance(DAY).await;
    assert!(!world.accepts(&key.key).await && world.accepts(&new).await, "the policy's overlap is over");
    world.advance(80 * DAY).await;
    let key = next(&world, &Key { key: new, ..key }).await;
    assert!(world.accepts(&key.key).await, "and so on, unattended");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_19_only_a_key_that_may_rotates_itself_and_nothing_else_does() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    renew(&world, &key.key, json!({})).await.refused(403, "self_rotation_off");
    assert_eq!(live_versions(&world, &key).await, 1);
    world.patch(&format!("/v1/keys/{}", key.id), json!({"self_rotation": true})).await.ok();
    let session = world.session(&key).await;
    for other in [&session, &world.operator.key, &world.server.secret] {
        renew(&world, other, json!({})).await.refused(401, "unauthenticated");
    }
    renew(&world, &key.key, json!({"no_such_field": 1})).await.refused(422, "invalid_fields");
    next(&world, &key).await;
    world
        .node
        .until("what was refused is recorded", async || {
            let refused =
                "select count(*) from audit_log where action = 'key.rotated' and result = 'refused' and actor = '{}'";
            world.db.count(&refused.replace("{}", &key.id)).await == 2
        })
        .await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_19_no_key_shortens_the_overlap_of_its_own_rotation() {
    let world = World::new().await;
    let key = self_rotating(&world, json!({})).await;
    for grace in [0, 1, DAY - 1] {
        renew(&world, &key.key, json!({"grace_seconds": grace})).await.refused(422, "invalid_fields");
    }
    assert_eq!(live_versions(&world, &key).await, 1);
    let made = renew(&world, &key.key, json!({"grace_seconds": 2 * DAY})).await.ok();
    world.advance(2 * DAY - 60).await;
    assert!(world.accepts(&key.key).await && world.accepts(&text(&made, "key")).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_19_a_lost_answer_strands_nobody() {
    let world = World::new().await;
    let key = self_rotating(&world, json!({})).await;
    let first = renew(&world, &key.key, json!({})).await.ok();
    world.advance(540).await;
    let second = renew(&world, &key.key, json!({})).await.ok();
    assert_eq!(first["previous_expires_at"], second["previous_expires_at"], "asking again changes no end");
    let (lost, kept) = (text(&first, "key"), text(&second, "key"));
    assert!(!world.accepts(&lost).await, "what nobody ever used is replaced");
    assert!(world.accepts(&key.key).await && world.accepts(&kept).await);
    assert_eq!(live_versions(&world, &key).await, 2);
    renew(&world, &key.key, json!({})).await.refused(409, "not_newest");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_19_the_secret_before_rotates_only_for_ten_minutes_and_while_the_newest_was_never_used() {
    let world = World::new().await;
    let key = self_rotating(&world, json!({})).await;
    let new = next(&world, &key).await;
    world.advance(600).await;
    renew(&world, &key.key, json!({})).await.refused(409, "not_newest");
    assert!(world.accepts(&key.key).await && world.accepts(&new.key).await, "a refusal ends nothing");
    let other = self_rotating(&world, json!({})).await;
    let newer = next(&world, &other).await;
    // At the token endpoint: that is a use as any other.
    newer.session(&world.node, &world.server).await;
    renew(&world, &other.key, json!({})).await.refused(409, "not_newest");
    assert!(world.accepts(&newer.key).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_asks_is_used_and_is_not_replaced_under_its_holder() {
    let world = World::new().await;
    let key = self_rotating(&world, json!({})).await;
    let new = next(&world, &key).await;
    // It arrived, or it could not be shown; so it is not one whose answer was lost.
    renew(&world, &new.key, json!({})).await.refused(409, "overlap_running");
    assert!(world.accepts(&key.key).await && world.accepts(&new.key).await);
    world.advance(DAY).await;
    let newest = next(&world, &new).await;
    assert!(world.accepts(&new.key).await && world.accepts(&newest.key).await);
    assert_eq!(live_versions(&world, &key).await, 2);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_19_holders_who_renew_at_the_same_time_leave_two_secrets_and_a_way_on() {
    let world = World::new().await;
    let key = self_rotating(&world, json!({})).await;
    let all = futures_util::future::join_all((0..6).map(|_| renew(&world, &key.key, json!({})))).await;
    assert_eq!(live_versions(&world, &key).await, 2);
    let mut working = 0;
    for reply in all {
        working += i32::from(world.accepts(&text(&reply.ok(), "key")).await);
    }
    assert_eq!(working, 1, "the last one");
    assert!(world.accepts(&key.key).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_work_there_does_not_rotate_there() {
    let world = World::new().await;
    let elsewhere = self_rotating(&world, json!({"allowed_cidrs": ["192.0.2.0/24"]})).await;
    let disabled = self_rotating(&world, json!({})).await;
    world.patch(&format!("/v1/keys/{}", disabled.id), json!({"disabled": true})).await.enforced();
    let revoked = self_rotating(&world, json!({})).await;
    world.post(&format!("/v1/keys/{}/revoke", revoked.id), json!({})).await.enforced();
    let agent = self_rotating(&world, json!({})).await;
    world.patch(&format!("/v1/agents/{}", agent.agent), json!({"disabled": true})).await.enforced();
    for key in [&elsewhere, &disabled, &revoked, &agent] {
        renew(&world, &key.key, json!({})).await.refused(401, "unauthenticated");
        let versions = world.db.count(&format!("select count(*) from secrets where owner = '{}'", key.id)).await;
        assert_eq!(versions, 1);
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_comes_back_to_life_by_an_operator_and_never_by_itself() {
    let world = World::new().await;
    let key = self_rotating(&world, json!({"expires_in_days": 1})).await;
    world.advance(DAY).await;
    renew(&world, &key.key, json!({})).await.refused(401, "unauthenticated");
    assert_eq!(live_versions(&world, &key).await, 0);
    let made = world.post(&format!("/v1/keys/{}/rotate", key.id), json!({})).await.ok();
    assert!(world.accepts(&text(&made, "key")).await && !world.accepts(&key.key).await);
    renew(&world, &key.key, json!({})).await.refused(401, "unauthenticated");
    world.node.stop().await;
}
