//! `MCPA_SECRET_KEYS`: a new one comes, the old one goes, and no credential notices.

use std::process::Command;

use mcp_authority::jobs;
use mcp_authority::providers;
use serde_json::json;
use sqlx::ConnectOptions;

use crate::support::node::SECRET_KEY;
use crate::support::{Node, TestDb};

/// Another secret key.
const YOUNGER: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

async fn start(db: &TestDb, keys: &str) -> Node {
    Node::start_with(db, &[("MCPA_SECRET_KEYS", keys)]).await
}

fn both() -> String {
    format!("{YOUNGER},{SECRET_KEY}")
}

/// Digests and sealed values under a secret key.
async fn under(db: &TestDb, id: &str) -> i64 {
    let sql = format!(
        "select (select count(*) from secrets where secret_key = '{id}')
              + (select count(*) from signing_keys where secret_key = '{id}' and private is not null)
              + (select count(*) from providers where secret_key = '{id}')"
    );
    db.count(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_18_a_new_secret_key_takes_over_at_next_use_and_the_old_one_can_go() {
    let db = TestDb::new().await;
    let node = start(&db, SECRET_KEY).await;
    let old = node.app.live.keyring.ids().remove(0);
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/call"]).await;
    let unused = operator.key(&node, &server, &["tools/call"]).await;
    let token = key.session(&node, &server).await;
    let body = json!({"name": "p", "kind": "openid", "settings": {"issuer": "https://login.example.com", "client_id": "c"},
        "client_secret": "canary"});
    let provider = crate::support::text(&operator.post(&node, "/v1/providers", body).await.created(), "id");
    node.stop().await;

    let node = start(&db, &both()).await;
    let new = node.app.live.keyring.ids().remove(0);
    assert_ne!(new, old);
    // Signing keys are sealed anew without anybody's doing; digests when their secret is shown.
    let sealed = format!("select count(*) from signing_keys where secret_key = '{new}' and private is not null");
    node.until("sealed values moved", async || db.count(&sealed).await == 2).await;
    let sealed = format!("select count(*) from providers where secret_key = '{new}'");
    node.until("the secret at a provider moved", async || db.count(&sealed).await == 1).await;
    let mut connection = node.app.db.reads().acquire().await.expect("a connection");
    let found =
        providers::by_id(&mut connection, provider.parse().expect("an id")).await.expect("read").expect("there");
    let secret = found.client_secret.expect("its secret").open(&node.app.live.keyring, found.id).expect("opened");
    assert_eq!(secret.reveal(), "canary");
    drop(connection);
    assert!(server.accepts(&node, &key.key).await, "the old one still opens");
    assert!(server.accepts(&node, &token).await);
    let fresh = operator.key(&node, &server, &["tools/call"]).await;
    let row =
        |owner: &str, id: &str| format!("select count(*) from secrets where owner = '{owner}' and secret_key = '{id}'");
    assert_eq!(db.count(&row(&fresh.id, &new)).await, 1, "the first of the list makes new digests");
    for owner in [&key.id, &server.id, &operator.id] {
        node.until("the used digest moved", async || db.count(&row(owner, &new)).await == 1).await;
    }
    assert_eq!(db.count(&row(&unused.id, &old)).await, 1, "what was not used stays");
    assert!(server.accepts(&node, &key.key).await, "after the move too");
    assert!(server.accepts(&node, &unused.key).await);
    node.until("nothing needs the old one", async || under(&db, &old).await == 0).await;
    node.stop().await;

    let node = start(&db, YOUNGER).await;
    for credential in [&key.key, &unused.key, &fresh.key, &token] {
        assert!(server.accepts(&node, credential).await);
    }
    assert!(server.accepts(&node, &key.session(&node, &server).await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_18_a_secret_key_is_used_only_when_every_node_announces_it() {
    let db = TestDb::new().await;
    let one = start(&db, SECRET_KEY).await;
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let before = operator.key(&one, &server, &["tools/call"]).await;
    let two = start(&db, &both()).await;
    let new = two.app.live.keyring.ids().remove(0);
    jobs::run_all(&two.app).await.expect("the jobs run");
    for _ in 0..5 {
        let key = operator.key(&two, &server, &["tools/call"]).await;
        one.until("node one can check it", async || {
            server.ask(&one, &[("token", &key.key)]).await.json["active"] == true
        })
        .await;
        assert!(server.accepts(&two, &before.key).await);
        assert!(server.accepts(&one, &key.session(&two, &server).await).await, "and what node two signs");
    }
    two.app.observations.flush(&two.app.db, two.app.live.now(), true).await.expect("written");
    assert_eq!(under(&db, &new).await, 0, "node one cannot open what is made under it");
    one.stop().await;
    let one = start(&db, &both()).await;
    two.until("all nodes know it", async || **two.app.feed.secret_key() == new).await;
    let key = operator.key(&two, &server, &["tools/call"]).await;
    one.until("node one can check it", async || server.ask(&one, &[("token", &key.key)]).await.json["active"] == true)
        .await;
    let made = format!("select count(*) from secrets where owner = '{}' and secret_key = '{new}'", key.id);
    assert_eq!(db.count(&made).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_18_a_missing_secret_key_refuses_the_start_and_is_named() {
    let db = TestDb::new().await;
    let node = start(&db, SECRET_KEY).await;
    let missing = node.app.live.keyring.ids().remove(0);
    let operator = node.operator().await;
    operator.server(&node).await;
    node.stop().await;
    for arguments in [&["serve"][..], &["admin", "create-key", "--name", "ops"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_mcp-authority"))
            .args(arguments)
            .env("MCPA_DATABASE_URL", db.options.to_url_lossy().as_str())
            .env("MCPA_SECRET_KEYS", YOUNGER)
            .env("MCPA_LISTEN", "127.0.0.1:0")
            .env("MCPA_PUBLIC_URL", "http://localhost:8080")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&missing) && said.contains("MCPA_SECRET_KEYS"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_18_a_sealed_value_opens_only_where_it_was_sealed() {
    let db = TestDb::new().await;
    let node = start(&db, SECRET_KEY).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let swapped = "update signing_keys k set private = o.private from signing_keys o where o.kid <> k.kid";
    db.execute(swapped).await;
    node.until("it does not go on with a moved key", async || server.ask(&node, &[("token", "x")]).await.status == 503)
        .await;
    db.execute(swapped).await;
    node.until("it goes on", async || server.ask(&node, &[("token", "x")]).await.status == 200).await;
    operator.post(&node, "/v1/agents", json!({"name": "a"})).await.created();
}
