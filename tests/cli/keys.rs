//! `keys …` over REST: what it prints, with which exit code, and that no run of many loses a secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Private, Service, Settings, ended, free_port, operator, run, settings, stderr, stdout, with};

struct Desk {
    service: Service,
    settings: Settings,
    agent: String,
    server: String,
    private: Private,
}

impl Desk {
    async fn new() -> Self {
        let private = Private::new();
        let service = Service::start(&private.settings).await;
        let key = operator(&private.settings);
        let made = async |path: &str, body: Value| {
            let (status, made) = service.post(&key, path, &body).await;
            assert_eq!(status, 201, "{made}");
            made["id"].as_str().unwrap().to_owned()
        };
        let server = made("/v1/servers", json!({"name": "s", "resource": "https://mcp.example.com/s"})).await;
        let agent = made("/v1/agents", json!({"name": "a"})).await;
        let settings = settings(&[("MCPA_URL", &service.url("")), ("MCPA_OPERATOR_KEY", &key)]);
        Self { service, settings, agent, server, private }
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = run(arguments, &with(&self.settings, &[("MCPA_OUTPUT", "json")]));
        ended(&output, 0);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn issue(&self, name: &str) -> Value {
        let grant = format!("{}=tools/call tools/list", self.server);
        self.json(&[
            "keys",
            "issue",
            "--agent",
            &self.agent,
            "--environment",
            "prod",
            "--name",
            name,
            "--grant",
            &grant,
        ])
    }

    async fn is_alive(&self, key: &Value) -> bool {
        let request = self.service.client.get(self.service.url("/v1/keys/self")).bearer_auth(key.as_str().unwrap());
        request.send().await.unwrap().status().is_success()
    }
}

#[tokio::test]
async fn keys_are_issued_listed_rotated_and_revoked_over_rest() {
    let desk = Desk::new().await;
    let issued = desk.issue("first");
    let id = issued["id"].as_str().unwrap();
    assert!(desk.is_alive(&issued["key"]).await);
    let listed = run(&["keys", "list"], &desk.settings);
    ended(&listed, 0);
    let rows: Vec<String> = stdout(&listed).lines().map(str::to_owned).collect();
    assert!(
        rows[0].starts_with("ID\tNAME\t") && rows[1].starts_with(&format!("{id}\tfirst\tprod\tactive\t")),
        "{rows:?}"
    );
    assert_eq!(stdout(&run(&["keys", "list", "--output", "id"], &desk.settings)).trim(), id);
    assert_eq!(desk.json(&["keys", "get", id])["id"], id);
    let rotated = desk.json(&["keys", "rotate", id, "--grace-seconds", "0"]);
    assert!(desk.is_alive(&rotated["key"]).await && !desk.is_alive(&issued["key"]).await);
    for _ in 0..2 {
        desk.issue("more");
    }
    let exported = run(&["keys", "export"], &desk.settings);
    assert_eq!(stdout(&exported).lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 3);
    assert!(!stdout(&exported).contains("mcp_prod_"));
    assert_eq!(desk.json(&["keys", "list", "--limit", "2"])["items"].as_array().unwrap().len(), 2);
    let dry = run(&["keys", "revoke", id, "--dry-run"], &desk.settings);
    ended(&dry, 0);
    // Nobody can be asked here.
    let asked = run(&["keys", "revoke", id], &desk.settings);
    ended(&asked, 2);
    assert!(stderr(&asked).contains("nothing was done") && desk.is_alive(&rotated["key"]).await);
    ended(&run(&["keys", "revoke", id, "--yes", "--reason", "test"], &desk.settings), 0);
    assert!(!desk.is_alive(&rotated["key"]).await);
}

#[tokio::test]
async fn each_way_to_fail_has_its_exit_code() {
    let desk = Desk::new().await;
    let missing = run(&["keys", "get", "key_000000000000"], &desk.settings);
    ended(&missing, 3);
    assert!(
        stderr(&missing).contains("404 key_not_found") || stderr(&missing).contains("404 not_found"),
        "{}",
        stderr(&missing)
    );
    let bad = run(&["keys", "list", "--status", "asleep"], &desk.settings);
    assert_eq!((bad.status.code(), stderr(&bad).contains("request ")), (Some(1), true), "{}", stderr(&bad));
    let nobody = with(&desk.settings, &[("MCPA_OPERATOR_KEY", "x")]);
    ended(&run(&["keys", "list"], &nobody), 4);
    ended(&run(&["keys", "list"], &settings(&[("MCPA_URL", &desk.service.url(""))])), 4);
    let narrow = run(&["admin", "create-key", "--name", "n", "--scope", "agents:read"], &desk.private.settings);
    let narrow = with(&desk.settings, &[("MCPA_OPERATOR_KEY", stdout(&narrow).trim())]);
    ended(&run(&["keys", "list"], &narrow), 5);
    let away = with(&desk.settings, &[("MCPA_URL", &format!("http://127.0.0.1:{}", free_port()))]);
    ended(&run(&["keys", "list"], &away), 6);
    for url in ["http://authority.example.com", "https://authority.example.com/x", "authority"] {
        ended(&run(&["keys", "list"], &with(&desk.settings, &[("MCPA_URL", url)])), 2);
    }
    ended(&run(&["keys", "list"], &with(&desk.settings, &[("MCPA_OUTPUT", "yaml")])), 2);
    ended(&run(&["keys", "get", "agt_1"], &desk.settings), 2);
}

#[tokio::test]
async fn a_run_of_many_that_broke_off_is_gone_on_with_and_does_no_row_twice() {
    let desk = Desk::new().await;
    let dir = tempfile::tempdir().unwrap();
    let (csv, results) = (dir.path().join("new.csv"), dir.path().join("issued.jsonl"));
    let row = |name: &str| format!("{},prod,{name},{}=tools/call,\n", desk.agent, desk.server);
    let head = "agent_id,environment,name,grants,expires_in_days\n";
    fs::write(&csv, format!("{head}{}{}{}", row("one"), row("\"two, too\""), row("three"))).unwrap();
    let arguments = ["keys", "issue", "--csv", csv.to_str().unwrap(), "--results", results.to_str().unwrap()];
    ended(&run(&arguments, &desk.settings), 0);
    assert_eq!(fs::metadata(&results).unwrap().permissions().mode() & 0o777, 0o600);
    // As if it had died after the service did the third row, with half of the answer written.
    let whole = fs::read_to_string(&results).unwrap();
    let kept: Vec<&str> = whole.lines().take(3).collect();
    fs::write(&results, format!("{}\n{{\"row\":3,\"id\"", kept.join("\n"))).unwrap();
    ended(&run(&arguments, &desk.settings), 0);
    let text = fs::read_to_string(&results).unwrap();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(lines.iter().filter_map(|line| line["row"].as_u64()).collect::<Vec<_>>(), [1, 2, 3]);
    for line in lines.iter().filter(|line| line["row"].is_u64()) {
        assert!(desk.is_alive(&line["key"]).await, "{line}");
    }
    assert_eq!(desk.json(&["keys", "list"])["items"].as_array().unwrap().len(), 3, "no row was done twice");
    fs::set_permissions(&results, fs::Permissions::from_mode(0o644)).unwrap();
    ended(&run(&arguments, &desk.settings), 2);
    fs::write(&csv, format!("{head}{}agt_x,prod\n", row("four"))).unwrap();
    let other = dir.path().join("other.jsonl");
    ended(
        &run(&["keys", "issue", "--csv", csv.to_str().unwrap(), "--results", other.to_str().unwrap()], &desk.settings),
        2,
    );
    assert_eq!(desk.json(&["keys", "list"])["items"].as_array().unwrap().len(), 3, "all rows are looked at first");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = run(&["completions", shell], &settings(&[]));
        ended(&output, 0);
        assert!(["rotate", "scan", "jobs"].iter().all(|word| stdout(&output).contains(word)), "{shell}");
    }
}
