//! Rotation: two secrets work for a while, never three, and the old one ends when it was said.

use serde_json::{Value, json};

use crate::support::actors::{Key, Server, text};
use crate::support::{Node, Operator, Reply, TestDb};

const DAY: i64 = 86_400;

struct Story {
    db: TestDb,
    node: Node,
    operator: Operator,
    server: Server,
    key: Key,
}

impl Story {
    async fn of_a_key(more: Value) -> Self {
        let db = TestDb::new().await;
        let node = Node::start(&db).await;
        let operator = node.operator().await;
        let server = operator.server(&node).await;
        let grants = json!([{"server_id": server.id, "permissions": ["*"]}]);
        let mut body = json!({"agent_id": operator.agent(&node).await, "environment": "prod", "grants": grants});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let key = operator.key_with(&node, body).await;
        Self { db, node, operator, server, key }
    }

    async fn rotate(&self, body: Value) -> Reply {
        self.operator.post(&self.node, &format!("/v1/keys/{}/rotate", self.key.id), body).await
    }

    /// The key with its next secret, and the whole reply.
    async fn next(&self, body: Value) -> (Key, Value) {
        let made = self.rotate(body).await.ok();
        assert_eq!(made["id"], self.key.id, "the id stays");
        (Key { key: text(&made, "key"), ..self.key.clone() }, made)
    }

    async fn read(&self) -> Value {
        self.operator.get(&self.node, &format!("/v1/keys/{}", self.key.id)).await.ok()
    }

    async fn accepts(&self, token: &str) -> bool {
        self.server.accepts(&self.node, token).await
    }

    async fn live_versions(&self) -> i64 {
        let live = "select count(*) from secrets where owner = '{}' and expires_at > authority_now()";
        self.db.count(&live.replace("{}", &self.key.id)).await
    }

    async fn use_it(&self, key: &Key) {
        assert!(self.accepts(&key.key).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_secrets_work_until_the_overlap_ends_and_then_only_the_new_one() {
    let story = Story::of_a_key(json!({})).await;
    let old = &story.key;
    let old_session = old.session(&story.node, &story.server).await;
    let (new, made) = story.next(json!({"grace_seconds": 600})).await;
    assert_ne!(new.key, old.key);
    let new_session = new.session(&story.node, &story.server).await;
    for token in [&old.key, &new.key, &old_session, &new_session] {
        assert!(story.accepts(token).await);
    }
    let read = story.read().await;
    assert_eq!(read["status"], "overlap");
    assert_eq!(read["expires_at"], made["expires_at"], "a key ends with its newest version");
    assert_eq!(read["secrets"][0]["version"], 2);
    assert_eq!(read["secrets"][1]["expires_at"], made["previous_expires_at"]);
    let exp = async |key: &Key| story.server.introspect(&story.node, &key.key).await["exp"].as_i64().unwrap();
    let (old_end, new_end) = (exp(old).await, exp(&new).await);
    assert!(new_end - old_end > 80 * DAY, "each version has its own end: {old_end} {new_end}");

    story.node.advance(&story.db, 600).await;
    assert!(!story.accepts(&old.key).await);
    assert!(!story.accepts(&old_session).await, "a token lives no longer than the version it came from");
    assert!(story.accepts(&new.key).await && story.accepts(&new_session).await);
    assert_eq!(story.read().await["status"], "active");
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overlap_is_a_day_unless_said_and_never_outlives_the_old_secret() {
    let story = Story::of_a_key(json!({"expires_in_days": 2})).await;
    let before = story.read().await;
    let (new, made) = story.next(json!({"grace_seconds": 10 * DAY})).await;
    assert_eq!(made["previous_expires_at"], before["expires_at"], "its own end");
    story.use_it(&new).await;
    story.node.advance(&story.db, 2 * DAY + 60).await;
    assert!(!story.accepts(&story.key.key).await && !story.accepts(&new.key).await, "both ended on their day");
    let (newest, _) = story.next(json!({})).await;
    assert!(story.accepts(&newest.key).await);
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_rotation_leaves_the_old_secret_one_day() {
    let story = Story::of_a_key(json!({})).await;
    let (new, _) = story.next(json!({})).await;
    story.node.advance(&story.db, DAY - 60).await;
    assert!(story.accepts(&story.key.key).await && story.accepts(&new.key).await);
    story.node.advance(&story.db, 61).await;
    assert!(!story.accepts(&story.key.key).await && story.accepts(&new.key).await);
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_8_a_grace_of_zero_kills_every_older_secret_at_once_with_its_tokens() {
    let story = Story::of_a_key(json!({})).await;
    let session = story.key.session(&story.node, &story.server).await;
    let (second, _) = story.next(json!({"grace_seconds": 3_600})).await;
    let second_session = second.session(&story.node, &story.server).await;
    let reply = story.rotate(json!({"grace_seconds": 0})).await.enforced();
    for dead in [&story.key.key, &session, &second.key, &second_session] {
        assert!(!story.accepts(dead).await);
    }
    assert!(story.accepts(&text(&reply, "key")).await);
    assert_eq!(story.live_versions().await, 1);
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_never_used_is_replaced_and_the_older_keeps_its_end() {
    let story = Story::of_a_key(json!({})).await;
    let (lost, first) = story.next(json!({"grace_seconds": 3_600})).await;
    let (kept, second) = story.next(json!({"grace_seconds": 7_200})).await;
    assert_eq!(first["previous_expires_at"], second["previous_expires_at"], "a lost answer changes no end");
    assert!(!story.accepts(&lost.key).await, "replaced");
    assert!(story.accepts(&story.key.key).await && story.accepts(&kept.key).await);
    assert_eq!(story.live_versions().await, 2);
    story.node.advance(&story.db, 3_600).await;
    assert!(!story.accepts(&story.key.key).await && story.accepts(&kept.key).await);
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_19_once_the_newest_was_used_no_third_secret_comes_to_life() {
    let story = Story::of_a_key(json!({})).await;
    let (second, _) = story.next(json!({"grace_seconds": 3_600})).await;
    story.use_it(&second).await;
    // At once: that the use is written behind must not matter.
    story.rotate(json!({})).await.refused(409, "overlap_running");
    story.rotate(json!({"grace_seconds": 1})).await.refused(409, "overlap_running");
    assert!(story.accepts(&story.key.key).await && story.accepts(&second.key).await, "a refusal ends nothing");
    assert_eq!(story.live_versions().await, 2);
    story.node.advance(&story.db, 3_600).await;
    let (third, _) = story.next(json!({})).await;
    assert!(story.accepts(&second.key).await && story.accepts(&third.key).await);
    assert_eq!(story.live_versions().await, 2);
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_use_at_the_token_endpoint_counts_as_one() {
    let story = Story::of_a_key(json!({"direct": false})).await;
    let (second, _) = story.next(json!({"grace_seconds": 3_600})).await;
    second.session(&story.node, &story.server).await;
    story.rotate(json!({})).await.refused(409, "overlap_running");
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_at_the_same_time_never_leave_three_secrets() {
    let story = Story::of_a_key(json!({})).await;
    let all = futures_util::future::join_all((0..6).map(|_| story.rotate(json!({"grace_seconds": 3_600})))).await;
    assert!(all.iter().all(|reply| reply.status == 200), "none was used in between");
    assert_eq!(story.live_versions().await, 2);
    let mut working = 0;
    for reply in &all {
        working += i32::from(story.accepts(&text(&reply.json, "key")).await);
    }
    assert_eq!(working, 1, "the last one");
    assert!(story.accepts(&story.key.key).await);
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_comes_back_to_life_by_rotation_alone() {
    let story = Story::of_a_key(json!({"expires_in_days": 1})).await;
    let session = story.key.session(&story.node, &story.server).await;
    story.node.advance(&story.db, DAY + 1).await;
    assert!(!story.accepts(&story.key.key).await && !story.accepts(&session).await);
    assert_eq!(story.read().await["status"], "expired");
    let (new, made) = story.next(json!({})).await;
    assert!(story.accepts(&new.key).await);
    assert!(!story.accepts(&story.key.key).await && !story.accepts(&session).await, "the old secret stays dead");
    assert_eq!(story.read().await["status"], "active");
    assert_eq!(story.read().await["expires_at"], made["expires_at"]);
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_gives_no_longer_life_than_the_policy_has_now() {
    let story = Story::of_a_key(json!({})).await;
    let change = json!({"key_policies": {"prod": {"max_age_days": 3}}});
    story.operator.patch(&story.node, "/v1/settings", change).await.ok();
    let (new, _) = story.next(json!({})).await;
    story.node.advance(&story.db, 3 * DAY + 1).await;
    assert!(!story.accepts(&new.key).await);
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grace_is_bounded() {
    let story = Story::of_a_key(json!({})).await;
    for wrong in [json!(-1), json!(90 * DAY + 1), json!("1"), json!(1e30), json!(i64::MIN)] {
        story.rotate(json!({"grace_seconds": wrong})).await.refused(422, "invalid_fields");
    }
    assert!(story.accepts(&story.key.key).await);
    assert_eq!(story.live_versions().await, 1);
    story.node.stop().await;
}
