//! Receivers that are down, slow, broken, gone, or somewhere they must not be.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sqlx::ConnectOptions;

use crate::support::node::{PUBLIC_URL, SECRET_KEY};
use crate::support::{Answer, Elsewhere, Node, Receiver, TestDb, World, text};
use crate::webhooks::{LOOPBACK, first, told};

/// How long after each attempt the next one is, in seconds, with all the jitter there may be.
const WAITS: [i64; 9] = [6, 360, 2_160, 8_640, 21_600, 43_200, 60_480, 86_400, 103_680];

/// The only delivery of a webhook.
async fn delivery(world: &World, path: &str) -> Value {
    let list = world.operator.get(&world.node, &format!("{path}/deliveries")).await.ok();
    list["items"][0].clone()
}

/// Waits until so many attempts were made and noted.
async fn attempts(world: &World, path: &str, count: i64) -> Value {
    world
        .node
        .until("the attempt is noted", async || {
            let found = delivery(world, path).await;
            found["attempts"] == count && found.get("last_error").is_some()
        })
        .await;
    delivery(world, path).await
}

async fn tested(world: &World, receiver: &Receiver) -> String {
    let made = told(world, receiver, json!({"events": ["webhook.test"]})).await;
    let path = format!("/v1/webhooks/{}", text(&made, "id"));
    world.post(&format!("{path}/test"), json!({})).await.expect_status(202);
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_gets_the_same_message_again_until_it_takes_it() {
    let world = World::with(&LOOPBACK).await;
    let receiver = Receiver::start().await;
    receiver.answers(Answer::Status(500));
    let path = tested(&world, &receiver).await;
    let failed = attempts(&world, &path, 1).await;
    assert_eq!((&failed["status"], &failed["last_status"]), (&json!("pending"), &json!(500)), "{failed}");
    assert!(world.operator.get(&world.node, &path).await.ok()["failing_since"].is_string());
    receiver.answers(Answer::Status(200));
    world.advance(WAITS[0]).await;
    world.node.until("it is delivered", async || delivery(&world, &path).await["status"] == "delivered").await;
    let got = receiver.got();
    assert_eq!(got.len(), 2);
    assert_eq!((got[0].id(), &got[0].body), (got[1].id(), &got[1].body), "the same message");
    assert_ne!(got[0].header("webhook-timestamp"), got[1].header("webhook-timestamp"), "another attempt");
    let read = world.operator.get(&world.node, &path).await.ok();
    assert!(read.get("failing_since").is_none(), "{read}");
    // What came through can be sent again too, as the same message.
    let id = text(&delivery(&world, &path).await, "id");
    world.post(&format!("{path}/deliveries/{id}/resend"), json!({})).await.expect_status(202);
    world.node.until("it came again", async || receiver.got().len() == 3).await;
    assert_eq!(receiver.got()[2].id(), got[0].id());
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_comes_through_is_dead_after_ten_attempts_and_can_be_sent_again() {
    let world = World::with(&LOOPBACK).await;
    let receiver = Receiver::start().await;
    let place = receiver.url("").replace("http://", "");
    let made = told(&world, &receiver, json!({"events": ["webhook.test"]})).await;
    let path = format!("/v1/webhooks/{}", text(&made, "id"));
    drop(receiver);
    world.node.until("nobody listens there", async || tokio::net::TcpListener::bind(&place).await.is_ok()).await;
    world.post(&format!("{path}/test"), json!({})).await.expect_status(202);
    for (index, wait) in WAITS.into_iter().enumerate() {
        let number = i64::try_from(index).expect("few") + 1;
        let failed = attempts(&world, &path, number).await;
        assert_eq!((&failed["status"], &failed["last_error"]), (&json!("pending"), &json!("unreachable")), "{failed}");
        assert!(failed.get("last_status").is_none(), "{failed}");
        world.advance(wait).await;
    }
    world.node.until("it is dead", async || delivery(&world, &path).await["status"] == "dead").await;
    let dead = delivery(&world, &path).await;
    assert_eq!(dead["attempts"], 10, "{dead}");
    let list = world.operator.get(&world.node, &format!("{path}/deliveries?status=dead")).await.ok();
    assert_eq!(list["items"], json!([dead]));
    let none = world.operator.get(&world.node, &format!("{path}/deliveries?status=pending")).await.ok();
    assert_eq!(none["items"], json!([]));
    let receiver = Receiver::start_at(&place).await;
    let again = world.post(&format!("{path}/deliveries/{}/resend", text(&dead, "id")), json!({})).await;
    assert_eq!(again.expect_status(202).json["status"], "pending");
    let got = first(&world, &receiver, "webhook.test").await;
    assert_eq!(got.id(), text(&dead, "event_id"));
    let rendered = world.node.app.metrics.render();
    for result in ["failed", "dead", "delivered"] {
        let series = format!("mcpa_webhook_deliveries_total{{result=\"{result}\"}}");
        world.node.until(&series, async || world.node.app.metrics.render().contains(&series)).await;
    }
    assert!(rendered.contains("mcpa_webhook_deliveries_total"));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_19_a_redirect_is_not_followed() {
    let world = World::with(&LOOPBACK).await;
    let (receiver, aim) = (Receiver::start().await, Receiver::start().await);
    receiver.answers(Answer::Redirect(aim.url("/")));
    let path = tested(&world, &receiver).await;
    let failed = attempts(&world, &path, 1).await;
    assert_eq!((&failed["status"], &failed["last_error"]), (&json!("pending"), &json!("redirected")), "{failed}");
    assert_eq!((receiver.got().len(), aim.got().len()), (1, 0));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_19_an_address_that_is_not_public_is_refused_when_it_is_named_and_when_it_is_told() {
    let elsewhere = Elsewhere::start().await;
    elsewhere.put("/hook", &json!({}));
    let world = elsewhere.world().await;
    let refused = async |url: &str, code: &str| {
        let body = json!({"name": "w", "url": url, "events": ["*"]});
        let refused = world.post("/v1/webhooks", body).await.refused(422, "invalid_fields");
        assert_eq!(
            (&refused["errors"][0]["pointer"], &refused["errors"][0]["code"]),
            (&json!("/url"), &json!(code)),
            "{url}"
        );
    };
    for url in ["https://10.0.0.1/", "https://169.254.169.254/latest", "https://[fd00:ec2::254]/", "https://0.0.0.0/"] {
        refused(url, "address_refused").await;
    }
    refused("https://user:password@hooks.example.com/", "address_refused").await;
    for url in
        ["http://hooks.example.com/", "ftp://hooks.example.com/", "hooks.example.com", "https://h.example/#x", ""]
    {
        refused(url, "invalid").await;
    }
    let body = json!({"name": "w", "url": elsewhere.url("/hook"), "events": ["webhook.test"]});
    let path = format!("/v1/webhooks/{}", text(&world.post("/v1/webhooks", body.clone()).await.created(), "id"));
    world.post(&format!("{path}/test"), json!({})).await.expect_status(202);
    world.node.until("it is told", async || elsewhere.asked("/hook") == 1).await;
    // What may be asked is decided anew at each attempt: this node may not ask its own machine, whatever was registered.
    let World { db, node, operator, server } = world;
    node.stop().await;
    let world = World { node: Node::start(&db).await, db, operator, server };
    world.post("/v1/webhooks", body.clone()).await.refused(422, "invalid_fields");
    world.patch(&path, json!({"url": elsewhere.url("/other")})).await.refused(422, "invalid_fields");
    world.post(&format!("{path}/test"), json!({})).await.expect_status(202);
    let failed = attempts(&world, &path, 1).await;
    assert_eq!(failed["last_error"], "address_refused", "{failed}");
    assert_eq!(elsewhere.asked("/hook"), 1);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_is_told_nothing_more_and_the_others_learn_of_it() {
    let world = World::with(&LOOPBACK).await;
    let (gone, other) = (Receiver::start().await, Receiver::start().await);
    told(&world, &other, json!({"events": ["webhook.disabled"]})).await;
    gone.answers(Answer::Status(410));
    let path = tested(&world, &gone).await;
    let event = first(&world, &other, "webhook.disabled").await.json();
    assert_eq!((&event["data"]["reason"], &event["data"]["actor"]), (&json!("gone"), &json!("system")), "{event}");
    let read = world.operator.get(&world.node, &path).await.ok();
    assert_eq!((&read["disabled"], &read["disabled_for"]), (&json!(true), &json!("gone")));
    assert_eq!(delivery(&world, &path).await["status"], "dead");
    gone.answers(Answer::Status(204));
    let again = world.patch(&path, json!({"disabled": false})).await.ok();
    assert!(again.get("disabled_for").is_none(), "{again}");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_for_five_days_is_switched_off_and_goes_on_when_it_is_switched_on() {
    let world = World::with(&LOOPBACK).await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    told(&world, &other, json!({"events": ["webhook.disabled"]})).await;
    receiver.answers(Answer::Status(503));
    let path = tested(&world, &receiver).await;
    attempts(&world, &path, 1).await;
    world.advance(5 * 86_400 - 60).await;
    attempts(&world, &path, 2).await;
    assert_eq!(world.operator.get(&world.node, &path).await.ok()["disabled"], false);
    world.advance(WAITS[1]).await;
    let event = first(&world, &other, "webhook.disabled").await.json();
    assert_eq!(event["data"]["reason"], "failing", "{event}");
    receiver.answers(Answer::Status(204));
    world.advance(WAITS[2]).await;
    let waits = delivery(&world, &path).await;
    assert_eq!(waits["status"], "pending", "what was under way waits: {waits}");
    let before = receiver.got().len();
    world.patch(&path, json!({"disabled": false})).await.ok();
    world.node.until("it is delivered", async || delivery(&world, &path).await["status"] == "delivered").await;
    assert_eq!(receiver.got().len(), before + 1);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_holds_up_nobody_else() {
    let world = World::with(&LOOPBACK).await;
    let (slow, quick) = (Receiver::start().await, Receiver::start().await);
    slow.answers(Answer::Hold);
    told(&world, &slow, json!({"events": ["key.issued"]})).await;
    told(&world, &quick, json!({"events": ["key.issued"]})).await;
    for _ in 0..8 {
        world.key(&["*"]).await;
    }
    world.node.until("the quick one has all", async || quick.got().len() == 8).await;
    let held = "select count(*) from deliveries where status = 'pending'";
    assert_eq!(world.db.count(held).await, 8, "the slow one has answered nothing yet");
    assert!(slow.got().len() <= 4, "and has no more than four at once");
    slow.answers(Answer::Status(204));
    world.node.until("the slow one has all", async || world.db.count(held).await == 0).await;
    world.node.stop().await;
}

/// A node in a process of its own, which can be killed.
fn process(db: &TestDb) -> std::process::Child {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    Command::new(env!("CARGO_BIN_EXE_mcp-authority"))
        .arg("serve")
        .env("MCPA_DATABASE_URL", db.options.to_url_lossy().as_str())
        .env("MCPA_SECRET_KEYS", SECRET_KEY)
        .env("MCPA_PUBLIC_URL", PUBLIC_URL)
        .env("MCPA_LISTEN", format!("127.0.0.1:{port}"))
        .env("MCPA_METRICS_LISTEN", "off")
        .env("MCPA_OUTBOUND_LOOPBACK", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_in_the_middle_of_a_delivery_loses_none() {
    let world = World::with(&LOOPBACK).await;
    let receiver = Receiver::start().await;
    receiver.answers(Answer::Hold);
    told(&world, &receiver, json!({"events": ["key.revoked"]})).await;
    let key = world.key(&["*"]).await;
    let World { db, node, operator, server } = world;
    node.stop().await;
    let mut first_life = process(&db);
    let row = format!(
        "insert into deliveries (id, event_id, type, webhook_id, body)
         select 'dlv_' || md5('1'), 'evt_' || md5('1'), 'key.revoked', id, '{{\"type\":\"key.revoked\",\"data\":{{\"key_id\":\"{}\"}}}}' from webhooks",
        key.id
    );
    db.execute(&row).await;
    let began = std::time::Instant::now();
    while receiver.got().is_empty() {
        assert!(began.elapsed().as_secs() < 60, "the process delivers");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    first_life.kill().expect("killed");
    first_life.wait().expect("gone");
    assert_eq!(db.count("select count(*) from deliveries where status = 'pending' and attempts = 1").await, 1);
    receiver.answers(Answer::Status(204));
    let world = World { node: Node::start_with(&db, &LOOPBACK).await, db, operator, server };
    world.advance(61).await;
    let delivered = "select count(*) from deliveries where status = 'delivered' and attempts = 2";
    world.node.until("it is delivered", async || world.db.count(delivered).await == 1).await;
    let got = receiver.got();
    assert!(got.len() == 2 && got[0].id() == got[1].id() && got[0].body == got[1].body, "told again as the same");
    world.node.stop().await;
}
