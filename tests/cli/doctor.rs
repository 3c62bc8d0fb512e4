//! `doctor` on a database: each finding is made to happen, and found with its mend.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use mcp_authority::db::embedded::find_programs;
use serde_json::Value;
use sqlx::{ConnectOptions, Executor};

use crate::support::{
    Diagnosis, OTHER_KEY, Private, SECRET_KEY, Service, TestDb, ended, free_port, operator, run, stderr, stdout, until,
    with,
};

#[tokio::test]
async fn a_sound_service_is_found_sound_beside_it_and_without_it() {
    let private = Private::new();
    let fresh = Diagnosis::of(&private.settings);
    assert_eq!(fresh.code, 0, "{:#}", fresh.document);
    assert!(!private.data().exists(), "it makes nothing");
    let service = Service::start(&private.settings).await;
    let beside = Diagnosis::of(&private.settings);
    assert_eq!((beside.code, &beside.document["status"]), (0, &Value::from("ok")), "{:#}", beside.document);
    let expected = [
        "settings",
        "data_directory",
        "database",
        "durability",
        "standbys",
        "schema",
        "clock",
        "secret_keys",
        "signing_keys",
        "audit_checkpoint",
        "audit_chain",
        "jobs",
        "service",
        "public_url",
        "issuer",
    ];
    let checks = beside.document["checks"].as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, expected);
    assert!(service.stop().await.success());
    let without = Diagnosis::of(&private.settings);
    assert_eq!(without.code, 0, "{:#}", without.document);
    without.says("audit_chain", "ok", &["as they were written"]);
    without.says("service", "warning", &["nothing answers", "mcp-authority serve"]);
    let lines = run(&["doctor"], &private.settings);
    ended(&lines, 0);
    let text = stdout(&lines);
    assert!(
        text.contains("ok       schema: version")
            && text.contains("warning  service: ")
            && text.contains("\n         → ")
    );
}

#[test]
fn wrong_usage_is_told_from_a_finding() {
    ended(&run(&["doctor", "--no-such-flag"], &Vec::new()), 2);
}

#[tokio::test]
async fn a_database_that_is_away_or_refuses_is_found() {
    let db = TestDb::new().await;
    let nowhere = format!("postgres://authority:canary@127.0.0.1:{}/authority", free_port());
    let away = Diagnosis::of(&with(&db.settings, &[("MCPA_DATABASE_URL", &nowhere)]));
    away.says("database", "failure", &["cannot be reached", "MCPA_DATABASE_URL"]);
    assert!(!away.document.to_string().contains("canary"), "{:#}", away.document);
    assert!(away.all("schema").is_empty() && away.all("secret_keys").is_empty());
    let mut url = db.options.to_url_lossy();
    url.set_password(Some("canary")).unwrap();
    let refused = Diagnosis::of(&with(&db.settings, &[("MCPA_DATABASE_URL", url.as_str())]));
    refused.says("database", "failure", &["password authentication failed"]);
    assert!(!refused.document.to_string().contains("canary"), "{:#}", refused.document);
}

#[tokio::test]
async fn a_schema_that_is_behind_or_ahead_is_found_with_both_versions() {
    let db = TestDb::new().await;
    let ours = db.count("select max(version) from _sqlx_migrations").await;
    db.execute("insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9876, 'later', true, '', 0)").await;
    let ahead = Diagnosis::of(&db.settings);
    ahead.says("schema", "failure", &["9876", &format!("knows {ours}"), "Run the release that made it"]);
    db.execute(&format!("delete from _sqlx_migrations where version >= {ours}")).await;
    let behind = Diagnosis::of(&db.settings);
    behind.says("schema", "failure", &[&(ours - 1).to_string(), &format!("needs {ours}"), "mcp-authority migrate"]);
    assert!(behind.all("clock").is_empty(), "what hangs on the schema is left out");
}

#[tokio::test]
async fn a_wrong_secret_key_is_found_and_an_old_one_may_go_when_no_row_needs_it() {
    let db = TestDb::new().await;
    operator(&db.settings);
    let wrong = Diagnosis::of(&with(&db.settings, &[("MCPA_SECRET_KEYS", OTHER_KEY)]));
    wrong.says("secret_keys", "failure", &["is not among MCPA_SECRET_KEYS", "1 rows need it", "Put that key back"]);
    let both = with(&db.settings, &[("MCPA_SECRET_KEYS", &format!("{OTHER_KEY},{SECRET_KEY}"))]);
    let needed = Diagnosis::of(&both);
    needed.says("secret_keys", "ok", &["is older; 1 rows still need it", "ends on", "then it may go"]);
    needed.says("secret_keys", "ok", &["is the newest and seals; 0 rows"]);
    // What has expired needs no key: the database's clock moves past the end of the operator's key.
    db.shift_clock(100 * 86_400).await;
    let over = Diagnosis::of(&both);
    over.says("secret_keys", "ok", &["no row needs it: it may go from MCPA_SECRET_KEYS"]);
    let gone = Diagnosis::of(&with(&db.settings, &[("MCPA_SECRET_KEYS", OTHER_KEY)]));
    assert!(gone.all("secret_keys").iter().all(|(status, ..)| status == "ok"), "{:#}", gone.document);
}

#[tokio::test]
async fn a_node_that_lacks_a_secret_key_is_found() {
    let db = TestDb::new().await;
    let service = Service::start(&db.settings).await;
    let both = with(&db.settings, &[("MCPA_SECRET_KEYS", &format!("{OTHER_KEY},{SECRET_KEY}"))]);
    let diagnosis = Diagnosis::of(&both);
    diagnosis.says("secret_keys", "warning", &[&service.address, "does not know", "same MCPA_SECRET_KEYS"]);
}

#[tokio::test]
async fn a_clock_apart_from_the_databases_is_found() {
    let db = TestDb::new().await;
    Diagnosis::of(&db.settings).says("clock", "ok", &[]);
    db.shift_clock(-3).await;
    Diagnosis::of(&db.settings).says("clock", "warning", &["behind", "NTP"]);
    db.shift_clock(60).await;
    Diagnosis::of(&db.settings).says("clock", "failure", &["ahead of", "NTP"]);
}

#[tokio::test]
async fn a_database_that_may_lose_what_it_acknowledged_is_found() {
    // The cluster of the tests gives up exactly this for speed.
    let db = TestDb::new().await;
    Diagnosis::of(&db.settings).says("durability", "failure", &["fsync and full_page_writes off", "postgresql.conf"]);
}

#[tokio::test]
async fn an_asynchronous_standby_is_found() {
    let db = TestDb::new().await;
    Diagnosis::of(&db.settings).says("standbys", "ok", &["none"]);
    let log = tempfile::tempdir().unwrap();
    let socket = db.options.get_socket().unwrap();
    let password = std::fs::read_to_string(db.data.join("postgres.superuser.password")).unwrap();
    let mut standby = Command::new(receiver())
        .args(["--no-loop", "--username=postgres", "--directory"])
        .arg(log.path())
        .arg("--host")
        .arg(socket)
        .arg(format!("--port={}", db.options.get_port()))
        .env("PGPASSWORD", password.trim())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("it copies", async || db.count("select count(*) from pg_stat_replication").await == 1).await;
    let diagnosis = Diagnosis::of(&db.settings);
    standby.kill().unwrap();
    standby.wait().unwrap();
    let said = ["1 connected", "may lose acknowledged revocations", "synchronous_standby_names", "after-restore"];
    diagnosis.says("standbys", "warning", &said);
}

/// What copies a database's log: it stands beside the server's own programs, wherever links to those may lie.
fn receiver() -> PathBuf {
    let server = find_programs().unwrap().bin.join("postgres").canonicalize().unwrap();
    let beside = server.with_file_name("pg_receivewal");
    if beside.exists() { beside } else { PathBuf::from("pg_receivewal") }
}

#[tokio::test]
async fn signing_keys_that_are_missing_late_or_changed_are_found() {
    let db = TestDb::new().await;
    Diagnosis::of(&db.settings).says(
        "signing_keys",
        "warning",
        &["none signs: EdDSA for session", "Start the service"],
    );
    let service = Service::start(&db.settings).await;
    Diagnosis::of(&db.settings).says("signing_keys", "ok", &["2 sign"]);
    assert!(service.stop().await.success());
    db.execute("update signing_keys set signs_from = authority_now() - interval '31 days' where purpose = 'session'")
        .await;
    Diagnosis::of(&db.settings).says("signing_keys", "warning", &["due to be replaced: EdDSA for session"]);
    db.execute("insert into nodes (id, history, applied, version, address, secret_keys, feed_kinds) values (gen_random_uuid(), 1, 0, '0', 'elsewhere', '{}', '{}')").await;
    db.execute("delete from signing_keys where purpose = 'checkpoint'").await;
    let log = ["none signs: EdDSA for checkpoint", "job `signing_keys`"];
    Diagnosis::of(&db.settings).says("signing_keys", "failure", &log);
    db.execute("update signing_keys set private = private || '\\x00'").await;
    Diagnosis::of(&db.settings).says("signing_keys", "failure", &["changed or moved"]);
}

#[tokio::test]
async fn a_late_checkpoint_is_found() {
    let db = TestDb::new().await;
    operator(&db.settings);
    Diagnosis::of(&db.settings).says("audit_checkpoint", "ok", &["the oldest entry"]);
    db.shift_clock(3600).await;
    Diagnosis::of(&db.settings).says("audit_checkpoint", "warning", &["late", "Start the service"]);
    db.execute("insert into nodes (id, history, applied, version, address, secret_keys, feed_kinds) values (gen_random_uuid(), 1, 0, '0', 'elsewhere', '{}', '{}')").await;
    Diagnosis::of(&db.settings).says("audit_checkpoint", "failure", &["late", "job `audit_checkpoint`"]);
}

#[tokio::test]
async fn a_late_job_is_found_by_whoever_looks() {
    let db = TestDb::new().await;
    Diagnosis::of(&db.settings).says("jobs", "ok", &["none of 6 is late"]);
    let node = "insert into nodes (id, history, applied, version, address, secret_keys, feed_kinds) values (gen_random_uuid(), 1, 0, '0', 'elsewhere', '{}', '{}')";
    db.execute(node).await;
    db.shift_clock(86_400).await;
    Diagnosis::of(&db.settings).says(
        "jobs",
        "warning",
        &["the job audit_checkpoint is late", "5 more", "Start the service"],
    );
    db.execute("update nodes set beat_at = authority_now()").await;
    let never = ["is late", "and 5 more", "GET /v1/jobs", "restart the node"];
    Diagnosis::of(&db.settings).says("jobs", "failure", &never);
    db.execute("insert into jobs (name, last_success_at, last_error) select n, case when n <> 'expire' then authority_now() end, 'no room'
                  from unnest(array['audit_checkpoint', 'audit_verify', 'signing_keys', 'partitions', 'expire', 'keys']) as n").await;
    Diagnosis::of(&db.settings).says("jobs", "ok", &[]);
    db.execute("update jobs set created_at = created_at - interval '1 day'").await;
    Diagnosis::of(&db.settings).says("jobs", "failure", &["the job expire is late by 86", "no room"]);
}

#[tokio::test]
async fn a_broken_audit_is_found_and_named() {
    let db = TestDb::new().await;
    for _ in 0..3 {
        operator(&db.settings);
    }
    Diagnosis::of(&db.settings).says("audit_chain", "ok", &["3 entries of 1 chains"]);
    let tamper = "update audit_entries set body = (body::jsonb || '{\"actor\": \"fake\"}')::json where position = 2";
    db.execute(tamper).await;
    let said = ["entry 2 of changes", "is not what was written", "audit verify"];
    Diagnosis::of(&db.settings).says("audit_chain", "failure", &said);
    let verify = run(&["audit", "verify"], &db.settings);
    ended(&verify, 7);
    assert!(stdout(&verify).contains("entry 2 of changes"), "{}", stderr(&verify));
    let other = TestDb::new().await;
    let service = Service::start(&other.settings).await;
    operator(&other.settings);
    until("a checkpoint", async || other.count("select count(*) from audit_checkpoints").await > 0).await;
    assert!(service.stop().await.success());
    Diagnosis::of(&other.settings).says("audit_chain", "ok", &[]);
    other.execute("update audit_checkpoints set jws = replace(jws, '.', '.A')").await;
    Diagnosis::of(&other.settings).says("audit_chain", "failure", &["checkpoint 1"]);
}

#[tokio::test]
async fn a_lost_lease_is_found() {
    let db = TestDb::new().await;
    let service = Service::start(&db.settings).await;
    Diagnosis::of(&db.settings).says("service", "ok", &["ready"]);
    let mut holder = db.options.connect().await.unwrap();
    holder.execute("begin; lock table nodes in exclusive mode").await.unwrap();
    until("the lease is over", async || {
        let ready = service.client.get(service.url("/health/ready")).send().await.unwrap();
        ready.status().as_u16() == 503
    })
    .await;
    Diagnosis::of(&db.settings).says("lease", "failure", &["lease is lost", "answers 503", "locks"]);
    holder.execute("rollback").await.unwrap();
}

#[tokio::test]
async fn a_public_url_that_leads_elsewhere_is_found() {
    let (db, another) = (TestDb::new().await, TestDb::new().await);
    let (service, elsewhere) = (Service::start(&db.settings).await, Service::start(&another.settings).await);
    let nowhere = format!("http://localhost:{}", free_port());
    let diagnosis = Diagnosis::of(&with(&db.settings, &[("MCPA_PUBLIC_URL", &nowhere)]));
    diagnosis.says("public_url", "failure", &["does not lead to this service", "Set MCPA_PUBLIC_URL"]);
    assert!(diagnosis.all("issuer").is_empty());
    let theirs = format!("http://{}", elsewhere.address);
    let diagnosis = Diagnosis::of(&with(&db.settings, &[("MCPA_PUBLIC_URL", &theirs)]));
    diagnosis.says("public_url", "failure", &["another authority", "none of our signing keys"]);
    // The same service under another name: it is reached, but its tokens would name another issuer.
    let named = format!("http://{}", service.address);
    let diagnosis = Diagnosis::of(&with(&db.settings, &[("MCPA_PUBLIC_URL", &named)]));
    diagnosis.says("public_url", "ok", &[]);
    diagnosis.says("issuer", "failure", &[&format!("{named}/oauth"), "byte for byte", "http://localhost:"]);
}
