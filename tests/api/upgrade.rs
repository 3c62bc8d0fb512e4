//! A database that an earlier release filled goes on under this one: every credential answers what it answered, what was
//! revoked stays so, the audit's chain holds, and changes go on.
//!
//! `tests/upgrade/fill.py` made the dump and wrote down what each credential must answer. The clock is set back to the
//! moment of the dump: tokens live an hour at most.

use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::ConnectOptions;

use crate::support::{Key, Node, Operator, Server, TestDb, text};

const DUMP: &str = include_str!("../upgrade/0.1.0.dump");
const TOLD: &str = include_str!("../upgrade/0.1.0.json");

struct Upgraded {
    db: TestDb,
    node: Node,
    operator: Operator,
    told: Value,
}

impl Upgraded {
    async fn new() -> Self {
        let told: Value = serde_json::from_str(TOLD).expect("JSON");
        let db = TestDb::empty().await;
        db.execute(DUMP).await;
        let now = db.count("select extract(epoch from statement_timestamp())::bigint").await;
        db.shift_clock(told["dumped_at"].as_i64().expect("a time") - now).await;
        let pool = db.db();
        pool.migrate().await.expect("this release brings the schema to its own");
        pool.close().await;
        let secret_keys = text(&told, "test_secret_keys");
        let node = Node::start_with(&db, &[("MCPA_SECRET_KEYS", &secret_keys)]).await;
        let operator = Operator { id: String::new(), key: first_operator(&told) };
        Self { db, node, operator, told }
    }

    fn servers(&self) -> Vec<(String, Server)> {
        let servers = self.told["servers"].as_object().expect("servers");
        let server = |server: &Value| Server {
            id: text(server, "id"),
            secret: text(server, "secret"),
            resource: text(server, "resource"),
        };
        servers.iter().map(|(name, found)| (name.clone(), server(found))).collect()
    }

    /// Every credential at every server: the whole answer is what it was.
    async fn answers(&self) {
        let servers = self.servers();
        for credential in self.told["credentials"].as_array().expect("credentials") {
            for (name, server) in &servers {
                let mut form = vec![("token", text(credential, "token"))];
                let fields = credential["fields"].as_object().expect("fields");
                form.extend(
                    fields.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("text").to_owned())),
                );
                let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let reply = server.ask(&self.node, &form).await;
                let expected = &credential["answers"][name];
                let what = format!("{} at {name}", credential["what"]);
                assert_eq!(Value::from(reply.status.as_u16()), expected["status"], "{what}: {}", reply.text);
                assert_eq!(reply.json, expected["body"], "{what}");
            }
        }
    }

    /// What a list held is there: each member that was told, unchanged. Later releases may add members.
    async fn listed(&self, what: &str) {
        let told = self.told[what].as_array().expect("a list");
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.operator.get(&self.node, &format!("/v1/{what}?limit=200{cursor}")).await.ok();
            found.extend(page["items"].as_array().expect("items").clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found.len(), told.len(), "{what}");
        for expected in told {
            let item = found.iter().find(|item| item["id"] == expected["id"]);
            let item = item.unwrap_or_else(|| panic!("{what}: {expected} is gone"));
            for (name, value) in expected.as_object().expect("an object") {
                assert_eq!(&item[name], value, "{what}: {name} of {}", expected["id"]);
            }
        }
    }

    fn audit_holds(&self) {
        let output = Command::new(env!("CARGO_BIN_EXE_mcp-authority"))
            .args(["audit", "verify"])
            .env_clear()
            .env("MCPA_DATABASE_URL", self.db.options.to_url_lossy().as_str())
            .env("MCPA_SECRET_KEYS", text(&self.told, "test_secret_keys"))
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }

    fn credential(&self, what: &str) -> &Value {
        let all = self.told["credentials"].as_array().expect("credentials");
        all.iter().find(|credential| credential["what"] == what).unwrap_or_else(|| panic!("no {what}"))
    }
}

fn first_operator(told: &Value) -> String {
    let operators = told["operators"].as_array().expect("operators");
    text(operators.iter().find(|operator| operator["what"] == "the first operator").expect("it"), "key")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_release_before_goes_on_with_its_keys_tokens_revocations_and_audit() {
    let it = Upgraded::new().await;
    it.answers().await;
    for operator in it.told["operators"].as_array().expect("operators") {
        let request = it.node.request(Method::GET, &text(operator, "path")).bearer_auth(text(operator, "key"));
        let reply = it.node.send(request).await;
        assert_eq!(Value::from(reply.status.as_u16()), operator["status"], "{}: {}", operator["what"], reply.text);
    }
    for what in ["keys", "sessions", "revocations", "agents"] {
        it.listed(what).await;
    }
    let settings = it.operator.get(&it.node, "/v1/settings").await.ok();
    for (name, value) in it.told["settings"].as_object().expect("settings") {
        if name != "key_policies" {
            assert_eq!(&settings[name], value, "{name}");
        }
    }
    // Policies have more members by now; what there was is as it was.
    for environment in ["prod", "dev"] {
        let (now, then) = (&settings["key_policies"][environment], &it.told["settings"]["key_policies"][environment]);
        assert_eq!(now["max_age_days"], then["max_age_days"], "{environment}");
        assert_eq!((&now["remind_days"], &now["overlap_seconds"]), (&json!([14, 7, 1]), &json!(86_400)));
    }
    it.audit_holds();
    // Started again, with the same memory.
    let Upgraded { db, node, operator, told } = it;
    node.stop().await;
    let secret_keys = text(&told, "test_secret_keys");
    let node = Node::start_with(&db, &[("MCPA_SECRET_KEYS", &secret_keys)]).await;
    let it = Upgraded { db, node, operator, told };
    it.answers().await;
    it.audit_holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_database_of_the_release_before_issuing_rotating_and_revoking_go_on() {
    let it = Upgraded::new().await;
    let servers = it.servers();
    let files = &servers.iter().find(|(name, _)| name == "files").expect("files").1;
    // A key of before: a new token, a rotation, a revocation.
    let old = it.credential("a key");
    let reply = &old["answers"]["files"]["body"];
    let key = Key { id: text(reply, "key_id"), agent: text(reply, "agent_id"), key: text(old, "token") };
    let token = key.session(&it.node, files).await;
    assert!(files.accepts(&it.node, &token).await && files.accepts(&it.node, &key.key).await);
    let rotated = it.operator.post(&it.node, &format!("/v1/keys/{}/rotate", key.id), json!({"grace_seconds": 0})).await;
    let newer = text(&rotated.enforced(), "key");
    assert!(!files.accepts(&it.node, &key.key).await && files.accepts(&it.node, &newer).await);
    it.operator.post(&it.node, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
    let before = text(it.credential("its token"), "token");
    for dead in [&newer, &token, &before] {
        assert!(!files.accepts(&it.node, dead).await);
    }
    // A disabled key of before comes back, its token of before does not.
    let disabled = it.told["keys"].as_array().expect("keys").iter().find(|key| key["name"] == "disabled").expect("it");
    let path = format!("/v1/keys/{}", text(disabled, "id"));
    it.operator.patch(&it.node, &path, json!({"disabled": false})).await.expect_status(StatusCode::OK.as_u16());
    assert!(files.accepts(&it.node, &text(it.credential("a disabled key"), "token")).await);
    assert!(!files.accepts(&it.node, &text(it.credential("a token of a disabled key"), "token")).await);
    // What is revoked stays so, also when it is asked for again, with the first one's receipt.
    let dead = it.told["revocations"].as_array().expect("a list").iter().find(|one| one["kind"] == "key").expect("one");
    let again = json!({"kind": "key", "id": dead["target"]});
    let again = it.operator.post(&it.node, "/v1/revocations", again).await.created();
    assert_eq!((&again["id"], &again["sequence"]), (&dead["id"], &dead["sequence"]), "{again}");
    // New things stand beside the old ones, and everything that was issued before can still be cut off.
    let made = it.operator.key(&it.node, files, &["tools/call"]).await;
    let fresh = made.session(&it.node, files).await;
    assert!(files.accepts(&it.node, &fresh).await);
    it.operator.post(&it.node, "/v1/revocations", json!({"kind": "all"})).await.created();
    for credential in it.told["credentials"].as_array().expect("credentials") {
        if text(credential, "token").starts_with("ey") {
            assert!(!files.accepts(&it.node, &text(credential, "token")).await, "{}", credential["what"]);
        }
    }
    assert!(!files.accepts(&it.node, &fresh).await);
    it.audit_holds();
}
