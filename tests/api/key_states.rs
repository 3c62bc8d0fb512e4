//! The states of a key and its policy: what is due is seen before it ends, and the end holds at the moment of use.

use serde_json::{Value, json};

use crate::support::actors::pointers;
use crate::support::{Key, Node, TestDb, World};

const DAY: i64 = 86_400;

async fn read(world: &World, key: &Key) -> Value {
    world.operator.get(&world.node, &format!("/v1/keys/{}", key.id)).await.ok()
}

async fn listed(world: &World, status: &str) -> Vec<Value> {
    let page = world.operator.get(&world.node, &format!("/v1/keys?status={status}")).await.ok();
    page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect()
}

async fn all(world: &World, status: &str, expected: &[&Key]) {
    let expected: Vec<Value> = expected.iter().map(|key| json!(key.id)).collect();
    assert_eq!(listed(world, status).await, expected, "{status}");
}

async fn own(world: &World, key: &Key) -> Value {
    let request = world.node.request(reqwest::Method::GET, "/v1/keys/self").bearer_auth(&key.key);
    world.node.send(request).await.ok()
}

async fn policy(world: &World, prod: Value) -> Value {
    world.patch("/v1/settings", json!({"key_policies": {"prod": prod}})).await.enforced()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_due_from_its_first_reminder_on_and_everybody_is_told_the_same() {
    let mut world = World::new().await;
    let key = world.key(&["*"]).await;
    let short = world.key_on(&[(&world.server, &["*"])], json!({"expires_in_days": 80})).await;
    all(&world, "active", &[&short, &key]).await;
    world.advance(76 * DAY - 60).await;
    assert_eq!(read(&world, &key).await["status"], "active", "a minute before");
    world.advance(60).await;
    assert_eq!(read(&world, &key).await["status"], "due");
    assert_eq!(read(&world, &key).await["secrets"][0]["state"], "due");
    assert_eq!(own(&world, &key).await["state"], "due");
    all(&world, "due", &[&short, &key]).await;
    all(&world, "active", &[]).await;
    let counted = |state: &str, number: u64| format!("mcpa_keys{{environment=\"prod\",state=\"{state}\"}} {number}\n");
    mcp_authority::jobs::run_all(&world.node.app).await.expect("counted");
    let metrics = world.node.app.metrics.render();
    assert!(metrics.contains(&counted("due", 2)) && metrics.contains(&counted("active", 0)), "{metrics}");

    let rotated = world.post(&format!("/v1/keys/{}/rotate", key.id), json!({})).await.ok();
    assert_eq!(rotated["previous"]["state"], "superseded");
    let now = read(&world, &key).await;
    assert_eq!((&now["status"], &now["secrets"][0]["state"]), (&json!("overlap"), &json!("active")));
    assert_eq!(now["previous"], now["secrets"][1]);
    assert_eq!(own(&world, &key).await["state"], "overlap");
    assert_eq!(own(&world, &key).await["is_newest"], false);
    all(&world, "overlap", &[&key]).await;
    world.patch(&format!("/v1/keys/{}", short.id), json!({"disabled": true})).await.enforced();
    all(&world, "disabled", &[&short]).await;
    world.advance(DAY).await;
    let now = read(&world, &key).await;
    assert_eq!((&now["status"], &now["secrets"][1]["state"]), (&json!("active"), &json!("retired")));
    assert!(now.get("previous").is_none(), "nobody can use it any more");
    world.advance(90 * DAY).await;
    // The operator before has reached its end too.
    world.operator = world.node.operator().await;
    all(&world, "expired", &[&key]).await;
    assert_eq!(read(&world, &key).await["secrets"][0]["state"], "retired");
    mcp_authority::jobs::run_all(&world.node.app).await.expect("counted");
    let metrics = world.node.app.metrics.render();
    assert!(metrics.contains(&counted("expired", 1)) && metrics.contains(&counted("disabled", 1)), "{metrics}");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reminders_are_the_policys_and_none_is_older_than_the_secret() {
    let world = World::new().await;
    let week = world.key_on(&[(&world.server, &["*"])], json!({"expires_in_days": 7})).await;
    let day = world.key_on(&[(&world.server, &["*"])], json!({"expires_in_days": 1})).await;
    assert_eq!(read(&world, &week).await["status"], "active", "a week's secret is not due on its first day");
    let set = policy(&world, json!({"remind_days": [2, 5, 2]})).await;
    assert_eq!(set["key_policies"]["prod"]["remind_days"], json!([5, 2]), "sorted, once each");
    assert_eq!(set["key_policies"]["dev"]["remind_days"], json!([14, 7, 1]), "and only there");
    world.advance(DAY - 1).await;
    assert_eq!(read(&world, &day).await["status"], "active");
    world.advance(DAY + 1).await;
    assert_eq!(read(&world, &day).await["status"], "expired");
    assert_eq!(read(&world, &week).await["status"], "due");
    assert_eq!(own(&world, &week).await["state"], "due");
    policy(&world, json!({"remind_days": []})).await;
    assert_eq!(own(&world, &week).await["state"], "active", "known on the node when the reply is read");
    assert!(listed(&world, "due").await.is_empty());
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_bounded_and_above_ninety_days_somebody_says_why() {
    let world = World::new().await;
    let wrong = async |prod: Value, at: &str| {
        let refused = world.patch("/v1/settings", json!({"key_policies": {"prod": prod}})).await;
        let refused = refused.refused(422, "invalid_fields");
        assert_eq!(pointers(&refused), [format!("/key_policies/prod/{at}")], "{prod}");
    };
    wrong(json!({"max_age_days": 91}), "reason").await;
    wrong(json!({"max_age_days": 91, "reason": "  "}), "reason").await;
    wrong(json!({"max_age_days": 0}), "max_age_days").await;
    wrong(json!({"max_age_days": 3_651, "reason": "x"}), "max_age_days").await;
    wrong(json!({"reason": "x".repeat(501)}), "reason").await;
    wrong(json!({"remind_days": [0]}), "remind_days").await;
    wrong(json!({"remind_days": [1, 2, 3, 4, 5, 6, 7, 8, 9]}), "remind_days").await;
    wrong(json!({"overlap_seconds": 599}), "overlap_seconds").await;
    wrong(json!({"overlap_seconds": 90 * DAY + 1}), "overlap_seconds").await;
    let set = policy(&world, json!({"max_age_days": 400, "reason": "a printer"})).await;
    assert_eq!(set["key_policies"]["prod"]["reason"], "a printer");
    assert!(set["key_policies"]["dev"].get("reason").is_none());
    wrong(json!({"reason": null}), "reason").await;
    policy(&world, json!({"max_age_days": 90, "reason": null})).await;
    let recorded =
        "select count(*) from audit_entries where action = 'settings.changed' and body::text like '%a printer%'";
    assert_eq!(world.db.count(recorded).await, 1, "and the audit keeps it");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_usual_overlap_is_the_policys() {
    let world = World::new().await;
    policy(&world, json!({"overlap_seconds": 600})).await;
    let key = world.key(&["*"]).await;
    world.post(&format!("/v1/keys/{}/rotate", key.id), json!({})).await.ok();
    world.advance(540).await;
    assert!(world.accepts(&key.key).await);
    // More than a node's clock goes by itself until it has seen that the time was moved.
    world.advance(60).await;
    assert!(!world.accepts(&key.key).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stricter_policy_kills_no_key_silently_and_the_lists_say_which_exceed_it() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    assert_eq!(read(&world, &key).await["exceeds_policy"], false);
    policy(&world, json!({"max_age_days": 30})).await;
    assert_eq!(read(&world, &key).await["exceeds_policy"], true);
    let page = world.operator.get(&world.node, "/v1/keys").await.ok();
    assert_eq!(page["items"][0]["exceeds_policy"], true);
    world.advance(40 * DAY).await;
    assert!(world.accepts(&key.key).await, "it keeps what it was given");
    let rotated = world.post(&format!("/v1/keys/{}/rotate", key.id), json!({"grace_seconds": 60 * DAY})).await.ok();
    assert_eq!(rotated["previous_expires_at"], rotated["expires_at"], "and the old one does not outlive the new one");
    assert_eq!(read(&world, &key).await["exceeds_policy"], false);
    world.advance(30 * DAY).await;
    assert!(!world.accepts(&key.key).await && !world.accepts(rotated["key"].as_str().unwrap()).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_secret_holds_at_the_moment_of_use_on_a_node_without_any_job() {
    let db = TestDb::new().await;
    let nodes = [Node::start_without_jobs(&db).await, Node::start_without_jobs(&db).await];
    let operator = nodes[0].operator().await;
    let server = operator.server(&nodes[0]).await;
    let key = operator.key(&nodes[0], &server, &["*"]).await;
    let path = format!("/v1/keys/{}/rotate", key.id);
    let new = operator.post(&nodes[0], &path, json!({"grace_seconds": 3_600})).await.ok()["key"].clone();
    let new = new.as_str().unwrap();
    for node in &nodes {
        node.until("it knows both", async || server.accepts(node, new).await && server.accepts(node, &key.key).await)
            .await;
    }
    let advance = async |seconds: i64| {
        let now = nodes[1].app.live.now().seconds();
        nodes[0].advance(&db, seconds).await;
        nodes[1]
            .until("it sees the time", async || {
                nodes[1].app.db.told().here.notify_one();
                nodes[1].app.live.now().seconds() >= now + seconds
            })
            .await;
    };
    advance(3_600).await;
    for node in &nodes {
        assert!(!server.accepts(node, &key.key).await && server.accepts(node, new).await);
    }
    advance(90 * DAY).await;
    for node in &nodes {
        assert!(!server.accepts(node, new).await);
    }
    for node in nodes {
        node.stop().await;
    }
}
