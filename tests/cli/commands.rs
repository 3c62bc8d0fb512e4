//! Each command: what it prints where, with which exit code, beside a running service and without it.

use rustix::process::Signal;
use serde_json::json;
use sqlx::ConnectOptions;

use crate::support::{
    Private, SECRET_KEY, Service, TestDb, ended, free_port, operator, run, settings, stderr, stdout, with,
};

/// Every command, by its words.
const COMMANDS: [&[&str]; 24] = [
    &["keys"],
    &["keys", "list"],
    &["keys", "get"],
    &["keys", "issue"],
    &["keys", "rotate"],
    &["keys", "revoke"],
    &["keys", "export"],
    &["jobs"],
    &["jobs", "list"],
    &["jobs", "get"],
    &["jobs", "run"],
    &["completions"],
    &["scan"],
    &["serve"],
    &["migrate"],
    &["admin"],
    &["audit"],
    &["admin", "create-key"],
    &["admin", "after-restore"],
    &["audit", "verify"],
    &["openapi"],
    &["doctor"],
    &["healthcheck"],
    &["demo"],
];

/// The prefix of operators' keys, and 61 characters of base62.
fn is_operator_key(text: &str) -> bool {
    text.strip_prefix("mcp_admin_")
        .is_some_and(|rest| rest.len() == 61 && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[tokio::test]
async fn create_key_prints_only_the_key_without_a_service_and_beside_it() {
    let private = Private::new();
    let alone = run(&["admin", "create-key", "--name", "ops"], &private.settings);
    ended(&alone, 0);
    let key = stdout(&alone).strip_suffix('\n').unwrap().to_owned();
    assert!(is_operator_key(&key), "{key:?}");
    assert_eq!(stderr(&alone), "");
    let service = Service::start(&private.settings).await;
    let beside = run(&["admin", "create-key", "--name", "beside", "--scope", "agents:write"], &private.settings);
    ended(&beside, 0);
    let narrow = stdout(&beside).trim().to_owned();
    assert!(is_operator_key(&narrow) && narrow != key);
    assert_eq!(stderr(&beside), "");
    for key in [&key, &narrow] {
        let (status, _) = service.post(key, "/v1/agents", &json!({"name": "researcher"})).await;
        assert_eq!(status, 201, "the command ended when the service knew its key");
    }
    let (status, _) = service.post(&narrow, "/v1/projects", &json!({"name": "payments"})).await;
    assert_eq!(status, 403, "the scope given is the only one");
    let refused = run(&["admin", "create-key", "--name", "ops", "--scope", "no-such:scope"], &private.settings);
    ended(&refused, 1);
    assert_eq!(stdout(&refused), "");
    ended(&run(&["admin", "create-key"], &private.settings), 2);
}

#[tokio::test]
async fn create_key_says_when_a_node_does_not_know_the_key_yet() {
    let private = Private::new();
    let service = Service::start(&private.settings).await;
    service.signal(Signal::STOP);
    let told = run(&["admin", "create-key", "--name", "ops"], &private.settings);
    service.signal(Signal::CONT);
    ended(&told, 0);
    let key = stdout(&told).trim().to_owned();
    assert!(is_operator_key(&key), "{key:?}");
    assert!(stderr(&told).contains("a node does not know it yet"), "{}", stderr(&told));
    crate::support::until("the service knows the key", async || {
        service.post(&key, "/v1/agents", &json!({"name": "researcher"})).await.0 == 201
    })
    .await;
}

#[tokio::test]
async fn migrate_brings_a_database_to_its_schema_and_can_be_run_again() {
    let db = TestDb::empty().await;
    let refused = run(&["serve"], &with(&db.settings, &[("MCPA_MIGRATE", "false")]));
    ended(&refused, 1);
    assert!(stderr(&refused).contains("mcp-authority migrate"), "{}", stderr(&refused));
    assert_eq!(db.count("select count(*) from pg_tables where schemaname = 'public'").await, 0);
    for _ in 0..2 {
        let done = run(&["migrate"], &db.settings);
        ended(&done, 0);
        assert_eq!(stdout(&done), "");
    }
    let service = Service::start(&with(&db.settings, &[("MCPA_MIGRATE", "false")])).await;
    assert!(service.stop().await.success());
}

#[tokio::test]
async fn a_database_newer_than_the_binary_is_refused_with_both_versions() {
    let db = TestDb::new().await;
    let ours = db.count("select max(version) from _sqlx_migrations").await;
    db.execute("insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9876, 'later', true, '', 0)").await;
    for command in [&["serve"][..], &["migrate"], &["admin", "create-key", "--name", "x"], &["audit", "verify"]] {
        let refused = run(command, &db.settings);
        ended(&refused, 1);
        let said = stderr(&refused);
        assert!(said.contains("9876") && said.contains(&format!("knows {ours}")), "{said}");
        assert_eq!(stdout(&refused), "");
    }
}

#[test]
fn all_mistakes_of_the_settings_are_told_at_once() {
    let wrong = [
        ("MCPA_LISTEN", "everywhere"),
        ("MCPA_PUBLIC_URL", "http://authority.example.com"),
        ("MCPA_SHUTDOWN_SECONDS", "never"),
        ("MCPA_LOGS", "info"),
        ("MCPA_SECRET_KEYS", "canary"),
    ];
    for command in [&["serve"][..], &["migrate"], &["healthcheck"], &["audit", "verify"]] {
        let refused = run(command, &settings(&wrong));
        ended(&refused, 2);
        let said = stderr(&refused);
        assert!(wrong.iter().all(|(name, _)| said.contains(name)), "{said}");
        assert!(said.contains("5 mistakes") && !said.contains("canary"), "{said}");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_told_from_a_refusal() {
    let db = TestDb::new().await;
    let nowhere = format!("postgres://authority:canary@127.0.0.1:{}/authority", free_port());
    let away = run(&["migrate"], &with(&db.settings, &[("MCPA_DATABASE_URL", &nowhere)]));
    ended(&away, 6);
    assert!(stderr(&away).contains("cannot be reached") && !stderr(&away).contains("canary"), "{}", stderr(&away));
}

#[tokio::test]
async fn healthcheck_tells_ready_from_away() {
    let db = TestDb::new().await;
    let service = Service::start(&db.settings).await;
    let ready = run(&["healthcheck"], &db.settings);
    ended(&ready, 0);
    assert_eq!((stdout(&ready), stderr(&ready)), (String::new(), String::new()));
    assert!(service.stop().await.success());
    let away = run(&["healthcheck"], &db.settings);
    ended(&away, 6);
    assert_ne!(stderr(&away), "");
}

#[tokio::test]
async fn audit_verify_says_what_it_read() {
    let db = TestDb::new().await;
    operator(&db.settings);
    let whole = run(&["audit", "verify"], &db.settings);
    ended(&whole, 0);
    assert!(stdout(&whole).contains("1 entries in 1 chains"), "{}", stdout(&whole));
}

#[tokio::test]
async fn a_secret_key_that_rows_need_is_asked_back() {
    let db = TestDb::new().await;
    operator(&db.settings);
    let other = with(&db.settings, &[("MCPA_SECRET_KEYS", crate::support::OTHER_KEY)]);
    let refused = run(&["serve"], &other);
    ended(&refused, 1);
    let said = stderr(&refused);
    assert!(said.contains("MCPA_SECRET_KEYS lacks the key") && said.contains("1 rows need"), "{said}");
    assert!(!said.contains(SECRET_KEY) && !said.contains(db.options.to_url_lossy().password().unwrap()));
}

#[test]
fn openapi_prints_the_committed_description() {
    let printed = run(&["openapi"], &Vec::new());
    ended(&printed, 0);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/authority.json");
    assert!(stdout(&printed) == std::fs::read_to_string(path).unwrap(), "run `make fix`");
}

#[test]
fn every_help_has_two_examples_and_the_first_the_exit_codes() {
    for words in COMMANDS {
        let arguments: Vec<&str> = words.iter().copied().chain(["--help"]).collect();
        let help = run(&arguments, &Vec::new());
        ended(&help, 0);
        let text = stdout(&help);
        let (_, examples) =
            text.split_once("Examples:\n").unwrap_or_else(|| panic!("{words:?} has no examples:\n{text}"));
        let command = format!("mcp-authority {}", words.join(" "));
        let found = examples.lines().filter(|line| line.contains(&command)).count();
        assert!(found >= 2, "{words:?} has {found} examples:\n{text}");
    }
    let text = stdout(&run(&["--help"], &Vec::new()));
    for line in ["  0  ", "  1  ", "  2  ", "  6  ", "  7  "] {
        assert!(text.split("Exit codes:").nth(1).unwrap().contains(line), "{text}");
    }
    for (name, _) in commands_of(&text) {
        assert!(COMMANDS.iter().any(|words| words[0] == name) || name == "help", "`{name}` is not among the tested");
    }
}

/// The commands that a help lists, with what it says of them.
pub(crate) fn commands_of(help: &str) -> Vec<(String, String)> {
    let listed = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    let parts = listed.filter_map(|line| line.trim().split_once("  "));
    parts.map(|(name, text)| (name.to_owned(), text.trim().to_owned())).collect()
}
