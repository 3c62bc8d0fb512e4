//! What is told of keys while they come to their end: each notice once, whatever happens to the job.

use mcp_authority::jobs;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor, Row};

use crate::support::{Key, Node, Operator, Reply, Server, TestDb};

const DAY: i64 = 86_400;
/// More than two batches of the job.
const KEYS: i64 = 450;

struct Story {
    db: TestDb,
    node: Node,
    server: Server,
}

impl Story {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let node = Node::start_without_jobs(&db).await;
        let server = node.operator().await.server(&node).await;
        Self { db, node, server }
    }

    /// A new one each time: operators' keys end too.
    async fn by(&self) -> Operator {
        self.node.operator().await
    }

    async fn key(&self, more: Value) -> Key {
        let agent = self.by().await.agent(&self.node).await;
        let mut body = json!({"agent_id": agent, "environment": "prod", "grants": [{"server_id": self.server.id, "permissions": ["*"]}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.by().await.key_with(&self.node, body).await
    }

    /// Many keys of an agent, each with its secret, that end in so many days.
    async fn many(&self, number: i64, days: i64) {
        let agent = self.by().await.agent(&self.node).await;
        self.db
            .execute(&format!(
                "insert into keys (id, agent_id, environment, direct, expires_in_days) select 'key_' || left(md5('m' || n), 12), '{agent}', 'prod', true, 90 from generate_series(1, {number}) n;
                 insert into secrets (owner, version, secret_key, digest, hint, created_at, expires_at)
                   select 'key_' || left(md5('m' || n), 12), 1, 'k', sha256(n::text::bytea), 'abcd', authority_now() - interval '60 days', authority_now() + interval '{days} days'
                     from generate_series(1, {number}) n;"
            ))
            .await;
    }

    async fn run(&self, body: Value) -> Value {
        self.by().await.post(&self.node, "/v1/jobs/keys/run", body).await.ok()
    }

    /// Runs the job twice, so that what is told twice is seen.
    async fn look(&self) {
        assert_eq!(self.run(json!({})).await["succeeded"], true);
        assert_eq!(self.run(json!({})).await["counts"], json!({}));
    }

    async fn advance(&self, seconds: i64) {
        self.node.advance(&self.db, seconds).await;
        self.look().await;
    }

    /// What was told of a key, in order.
    async fn told(&self, key: &str) -> Vec<String> {
        let sql = format!(
            "select action || case when (body ->> 'old_secret')::boolean then ' old' else '' end as told from audit_log
             where target = '{key}' and actor = 'system' order by at, position"
        );
        let rows = self.db.connection().await.fetch_all(AssertSqlSafe(sql)).await.expect("told");
        rows.iter().map(|row| row.get("told")).collect()
    }

    async fn rotate(&self, key: &Key, body: Value) -> Reply {
        self.by().await.post(&self.node, &format!("/v1/keys/{}/rotate", key.id), body).await
    }

    /// Uses a key, and has it written.
    async fn used(&self, key: &Key) {
        assert!(self.server.accepts(&self.node, &key.key).await);
        self.node.app.observations.flush(&self.node.app.db, self.node.app.live.now(), true).await.expect("written");
    }

    /// A receiver of everything, so that events are kept.
    async fn webhook(&self) {
        self.db.execute("insert into webhooks (id, name, url, events, signature) values ('whk_00000000000000000000000000000000', 'w', 'https://w.example.com', '{*}', 'v1a')").await;
    }

    /// The events of a type about a key, oldest first.
    async fn events(&self, kind: &str, key: &str) -> Vec<Value> {
        let sql = format!(
            "select body from deliveries where type = '{kind}' and body::json #>> '{{data,key_id}}' = '{key}' order by created_at"
        );
        let rows = self.db.connection().await.fetch_all(AssertSqlSafe(sql)).await.expect("events");
        rows.iter().map(|row| serde_json::from_str::<Value>(row.get("body")).expect("JSON")["data"].clone()).collect()
    }

    async fn distinct(&self) -> (i64, i64) {
        let notices = "from audit_log where actor = 'system' and action like 'key.%'";
        let all = self.db.count(&format!("select count(*) {notices}")).await;
        (all, self.db.count(&format!("select count(distinct (target, action, body ->> 'version')) {notices}")).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_due_then_reminded_of_then_expired_each_once() {
    let story = Story::new().await;
    story.webhook().await;
    let key = story.key(json!({})).await;
    story.look().await;
    assert!(story.told(&key.id).await.is_empty());
    story.advance(75 * DAY).await;
    assert!(story.told(&key.id).await.is_empty());
    story.advance(DAY).await;
    assert_eq!(story.told(&key.id).await, ["key.due"]);
    story.advance(7 * DAY).await;
    story.advance(6 * DAY).await;
    assert_eq!(story.told(&key.id).await, ["key.due", "key.reminder", "key.reminder"]);
    story.advance(DAY).await;
    assert_eq!(story.told(&key.id).await, ["key.due", "key.reminder", "key.reminder", "key.expired"]);
    let due = story.events("key.due", &key.id).await;
    assert_eq!(due.len(), 1);
    assert!((13 * DAY..=14 * DAY).contains(&due[0]["seconds_left"].as_i64().unwrap()), "{due:?}");
    assert_eq!(
        (story.events("key.reminder", &key.id).await.len(), story.events("key.expired", &key.id).await.len()),
        (2, 1)
    );
    story.advance(365 * DAY).await;
    assert_eq!(story.told(&key.id).await.len(), 4);
    story.rotate(&key, json!({})).await.ok();
    story.look().await;
    assert_eq!(story.told(&key.id).await.len(), 4, "that an old secret ended was told when it was the newest");
    story.advance(80 * DAY).await;
    assert_eq!(story.told(&key.id).await[4..], ["key.due"], "the new version has notices of its own");
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_secret_is_reminded_of_while_it_is_used_and_told_when_it_ends() {
    let story = Story::new().await;
    story.webhook().await;
    let (lazy, swift) = (story.key(json!({})).await, story.key(json!({})).await);
    for key in [&lazy, &swift] {
        story.used(key).await;
        story.node.advance(&story.db, 60).await;
        story.rotate(key, json!({})).await.ok();
    }
    story.advance(11 * 3_600).await;
    story.used(&lazy).await;
    story.advance(2 * 3_600).await;
    assert_eq!(story.told(&lazy.id).await, ["key.reminder old"], "half of the overlap is over");
    assert!(story.told(&swift.id).await.is_empty(), "nobody uses the old secret");
    let reminded = story.events("key.reminder", &lazy.id).await;
    let [reminder] = &reminded[..] else { panic!("one event: {reminded:?}") };
    assert_eq!(
        (&reminder["old_secret"], &reminder["still_used"], &reminder["version"]),
        (&json!(true), &json!(true), &json!(1))
    );
    assert!(reminder["last_used_at"].is_string() && reminder["agent_id"] == lazy.agent, "{reminder}");
    story.advance(11 * 3_600).await;
    assert_eq!(story.told(&lazy.id).await, ["key.reminder old", "key.retired old"]);
    assert_eq!(story.told(&swift.id).await, ["key.retired old"]);
    story.rotate(&lazy, json!({"grace_seconds": 0})).await.ok();
    story.look().await;
    assert_eq!(story.told(&lazy.id).await[2..], ["key.retired old"], "an overlap of nothing ends at once");
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_of_keys_that_are_revoked_or_switched_off() {
    let story = Story::new().await;
    let (revoked, off) = (story.key(json!({})).await, story.key(json!({})).await);
    story.look().await;
    story.by().await.post(&story.node, &format!("/v1/keys/{}/revoke", revoked.id), json!({})).await.ok();
    let switch = async |disabled: bool| {
        let path = format!("/v1/keys/{}", off.id);
        let changed = story.by().await.patch(&story.node, &path, json!({"disabled": disabled})).await;
        assert!(changed.status.is_success(), "{}", changed.text);
    };
    switch(true).await;
    story.advance(80 * DAY).await;
    assert!(story.told(&revoked.id).await.is_empty() && story.told(&off.id).await.is_empty());
    assert_eq!(story.db.count(&format!("select count(*) from key_notices where key_id = '{}'", revoked.id)).await, 0);
    switch(false).await;
    story.advance(DAY).await;
    assert_eq!(story.told(&off.id).await, ["key.due"]);
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_breaks_off_in_the_middle_is_gone_on_with_and_each_notice_is_told_once() {
    let story = Story::new().await;
    story.look().await;
    story.many(KEYS, 10).await;
    // The third batch fails.
    story.db.execute(
        "create function no() returns trigger language plpgsql as $$ begin
             if (select count(*) from key_notices where told_seconds is not null) >= 400 then raise exception 'broken'; end if;
             return new; end $$;
         create trigger no before update on key_notices for each row execute function no();",
    )
    .await;
    let broken = story.run(json!({})).await;
    assert!(broken["succeeded"] == false && broken["error"].as_str().unwrap().contains("broken"), "{broken}");
    assert_eq!(story.distinct().await, (400, 400), "what was committed is told");
    story.db.execute("drop trigger no on key_notices").await;
    let other = Node::start_without_jobs(&story.db).await;
    let done = other.operator().await.post(&other, "/v1/jobs/keys/run", json!({})).await.ok();
    assert_eq!(done["counts"]["key.due"], KEYS - 400, "{done}");
    assert_eq!(story.distinct().await, (KEYS, KEYS));
    other.stop().await;
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_lost_the_job_commits_nothing_more() {
    let story = Story::new().await;
    story.look().await;
    story.many(KEYS, 10).await;
    // In the middle of the run another node takes the job, as it would after the lease has ended.
    story.db.execute(
        "create function taken() returns trigger language plpgsql as $$ begin
             update jobs set run = run + 1 where name = 'keys' and (select count(*) from key_notices where told_seconds is not null) >= 200;
             return new; end $$;
         create trigger taken after insert on audit_log for each row when (new.actor = 'system') execute function taken();",
    )
    .await;
    let lost = story.run(json!({})).await;
    assert!(lost["error"].as_str().unwrap().contains("another node"), "{lost}");
    assert_eq!(story.distinct().await, (200, 200), "the batch that was not this node's any more is taken back");
    story.db.execute("drop trigger taken on audit_log").await;
    story.node.advance(&story.db, 31).await;
    assert_eq!(story.run(json!({})).await["counts"]["key.due"], KEYS - 200);
    assert_eq!(story.distinct().await, (KEYS, KEYS));
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_nobody() {
    let story = Story::new().await;
    story.look().await;
    story.many(KEYS, 10).await;
    let dry = story.run(json!({"dry_run": true})).await;
    assert_eq!((&dry["counts"]["key.due"], &dry["more"]), (&json!(200), &json!(true)), "{dry}");
    assert_eq!(dry["examples"].as_array().unwrap().len(), 20);
    assert_eq!(story.distinct().await, (0, 0));
    assert_eq!(story.run(json!({})).await["counts"]["key.due"], KEYS);
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_from_before_the_notices_are_taken_up_and_what_ended_before_is_not_told() {
    let story = Story::new().await;
    story.many(KEYS, 10).await;
    story.db.execute("update secrets set expires_at = authority_now() - interval '1 day' where owner in (select owner from secrets where owner like 'key%' order by owner limit 50); delete from key_notices").await;
    let done = story.run(json!({})).await;
    assert_eq!(
        (&done["counts"]["looked_at_anew"], &done["counts"]["key.due"]),
        (&json!(KEYS), &json!(KEYS - 50)),
        "{done}"
    );
    assert_eq!(story.db.count("select count(*) from key_notices where next_at = 'infinity'").await, 50);
    story.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_that_run_the_jobs_tell_each_notice_once() {
    let db = TestDb::new().await;
    let nodes = [Node::start(&db).await, Node::start(&db).await, Node::start(&db).await];
    let by = nodes[0].operator().await;
    let server = by.server(&nodes[0]).await;
    let key = by.key(&nodes[0], &server, &["*"]).await;
    let told = async || {
        db.count(&format!("select count(*) from audit_log where target = '{}' and actor = 'system'", key.id)).await
    };
    for (days, notices) in [(76, 1), (7, 2), (6, 3), (1, 4), (1, 4)] {
        nodes[0].advance(&db, days * DAY).await;
        jobs::run_all(&nodes[1].app).await.expect("they run");
        jobs::run_all(&nodes[2].app).await.expect("they run");
        assert_eq!(told().await, notices);
    }
    for node in nodes {
        node.stop().await;
    }
}
