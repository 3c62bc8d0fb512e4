//! `jobs …` over REST: what it prints, with which exit code.

use std::process::Output;

use serde_json::Value;

use crate::support::{
    Private, Service, Settings, TestDb, ended, free_port, operator, run, settings, stderr, stdout, with,
};

struct Desk {
    private: Private,
    settings: Settings,
    _service: Service,
}

impl Desk {
    async fn new() -> Self {
        let private = Private::new();
        let service = Service::start(&private.settings).await;
        let key = operator(&private.settings);
        let settings = settings(&[("MCPA_URL", &service.url("")), ("MCPA_OPERATOR_KEY", &key)]);
        Self { private, settings, _service: service }
    }

    /// As [`run_now`], as JSON.
    fn ran(&self, arguments: &[&str]) -> Value {
        let output = run_now(arguments, &with(&self.settings, &[("MCPA_OUTPUT", "json")]));
        ended(&output, 0);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = run(arguments, &with(&self.settings, &[("MCPA_OUTPUT", "json")]));
        ended(&output, 0);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What it ends with for an operator with these scopes.
    fn as_narrow(&self, scope: &str, arguments: &[&str], code: i32) {
        let key = run(&["admin", "create-key", "--name", "n", "--scope", scope], &self.private.settings);
        ended(&key, 0);
        ended(&run(arguments, &with(&self.settings, &[("MCPA_OPERATOR_KEY", stdout(&key).trim())])), code);
    }
}

/// The service runs the same jobs by itself: what is told that the job runs already, asks again.
fn run_now(arguments: &[&str], settings: &Settings) -> Output {
    loop {
        let output = run(arguments, settings);
        if !stderr(&output).contains("job_running") {
            return output;
        }
    }
}

#[tokio::test]
async fn jobs_are_listed_shown_and_run_over_rest() {
    let desk = Desk::new().await;
    let listed = run(&["jobs", "list"], &desk.settings);
    ended(&listed, 0);
    assert!(stdout(&listed).starts_with("NAME\tLATE\tLAG_SECONDS\t"), "{}", stdout(&listed));
    assert!(stdout(&listed).lines().any(|row| row.starts_with("keys\tfalse\t0\t")), "{}", stdout(&listed));
    let document = desk.json(&["jobs", "list"]);
    let names: Vec<&str> =
        document["items"].as_array().unwrap().iter().filter_map(|job| job["name"].as_str()).collect();
    let ids = run(&["jobs", "list", "--output", "id"], &desk.settings);
    assert_eq!(stdout(&ids).lines().collect::<Vec<_>>(), names, "a job is addressed by its name");
    let shown = desk.json(&["jobs", "get", "signing_keys"]);
    assert_eq!((&shown["name"], &shown["late"]), (&Value::from("signing_keys"), &Value::from(false)), "{shown}");
    let dry = desk.ran(&["jobs", "run", "expire", "--dry-run"]);
    assert_eq!((&dry["dry_run"], &dry["succeeded"]), (&Value::from(true), &Value::from(true)), "{dry}");
    let ran = desk.ran(&["jobs", "run", "expire"]);
    assert_eq!((&ran["dry_run"], &ran["succeeded"]), (&Value::from(false), &Value::from(true)), "{ran}");
    let row = run_now(&["jobs", "run", "expire"], &desk.settings);
    assert!(stdout(&row).contains("expire\tfalse\ttrue\t"), "{}", stdout(&row));
}

#[tokio::test]
async fn the_exit_code_says_why_a_job_was_not_shown_or_run() {
    let desk = Desk::new().await;
    let unknown = run(&["jobs", "get", "key"], &desk.settings);
    ended(&unknown, 2);
    assert!(stderr(&unknown).contains("keys"), "it says which there are: {}", stderr(&unknown));
    ended(&run(&["jobs", "run"], &desk.settings), 2);
    ended(&run(&["jobs", "list"], &with(&desk.settings, &[("MCPA_OPERATOR_KEY", "x")])), 4);
    ended(&run(&["jobs", "list"], &settings(&[("MCPA_URL", "http://127.0.0.1:1")])), 4);
    desk.as_narrow("keys:read", &["jobs", "list"], 5);
    desk.as_narrow("jobs:read", &["jobs", "list"], 0);
    desk.as_narrow("jobs:read", &["jobs", "run", "expire", "--dry-run"], 5);
    let away = with(&desk.settings, &[("MCPA_URL", &format!("http://127.0.0.1:{}", free_port()))]);
    ended(&run(&["jobs", "list"], &away), 6);
}

#[tokio::test]
async fn a_job_that_failed_is_printed_and_ends_with_one() {
    let db = TestDb::new().await;
    let service = Service::start(&db.settings).await;
    let key = operator(&db.settings);
    let settings = settings(&[("MCPA_URL", &service.url("")), ("MCPA_OPERATOR_KEY", &key), ("MCPA_OUTPUT", "json")]);
    db.execute("alter table revocations rename to revocations_away").await;
    let output = run_now(&["jobs", "run", "expire"], &settings);
    db.execute("alter table revocations_away rename to revocations").await;
    ended(&output, 1);
    let ran: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(ran["succeeded"], false, "{ran}");
    assert!(stderr(&output).contains("the job failed"), "{}", stderr(&output));
}
