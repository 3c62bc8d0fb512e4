//! `scan`: finds what is there, wherever it lies, says where, and shows none of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mcp_authority::types::credential::{Credential, Kind};
use mcp_authority::types::environment::Environment;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Private, Service, ended, operator, run, settings, stderr, stdout, with};

fn made(kind: Kind) -> Credential {
    Credential::generate(kind, b"0123456789ab")
}

fn scan(dir: &Path, more: &[&str]) -> Output {
    let mut arguments = vec!["scan", dir.to_str().unwrap(), "--output", "jsonl"];
    arguments.extend(more);
    run(&arguments, &settings(&[]))
}

fn findings(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Nothing of the secret part stands in what was said.
fn shows_nothing(output: &Output, of: &Credential) {
    let text = of.reveal();
    let secret = &text[text.len() - 40..text.len() - 10];
    assert!(!stdout(output).contains(secret) && !stderr(output).contains(secret), "{}", stdout(output));
}

fn git(dir: &Path, arguments: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false", "-C"])
        .arg(dir)
        .args(arguments)
        .stdout(Stdio::null())
        .status();
    assert!(done.unwrap().success(), "{arguments:?}");
}

#[test]
fn scan_says_which_key_stands_where_and_shows_none() {
    let dir = tempfile::tempdir().unwrap();
    ended(&scan(dir.path(), &[]), 0);
    let (key, admin) = (made(Kind::Key(Environment::Prod)), made(Kind::Admin));
    fs::create_dir(dir.path().join("deep")).unwrap();
    fs::write(dir.path().join("deep/.env"), format!("A=1\nKEY={}\n", key.reveal())).unwrap();
    let binary = [&[0, 0xff, 0xfe, b'\n'][..], admin.reveal().as_bytes(), &[0xff, 0]].concat();
    fs::write(dir.path().join("binary"), binary).unwrap();
    let wrong = key.reveal().replace("mcp_prod_", "mcp_dev_");
    fs::write(dir.path().join("wrong-checksum"), wrong).unwrap();
    let output = scan(dir.path(), &[]);
    ended(&output, 7);
    let mut found = findings(&output);
    found.sort_by_key(|finding| finding["kind"].to_string());
    let path = |name: &str| dir.path().join(name).display().to_string();
    assert_eq!(
        found,
        [
            json!({"kind": "admin", "id": "opr_0123456789ab", "hint": admin.hint(), "path": path("binary"), "line": 2}),
            json!({"kind": "prod", "id": "key_0123456789ab", "hint": key.hint(), "path": path("deep/.env"), "line": 2}),
        ]
    );
    for form in ["table", "json", "jsonl", "id"] {
        let output = run(&["scan", dir.path().to_str().unwrap(), "--output", form], &settings(&[]));
        ended(&output, 7);
        shows_nothing(&output, &key);
        shows_nothing(&output, &admin);
        if form == "json" {
            let document: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(document["items"].as_array().unwrap().len(), 2);
        }
    }
}

#[test]
fn scan_finds_what_was_deleted_from_git_and_what_no_branch_reaches() {
    let dir = tempfile::tempdir().unwrap();
    let (deleted, amended) = (made(Kind::Key(Environment::Prod)), made(Kind::Server));
    git(dir.path(), &["init", "-q", "-b", "main"]);
    fs::write(dir.path().join("app.conf"), format!("\n\n{}\n", deleted.reveal())).unwrap();
    git(dir.path(), &["add", "."]);
    git(dir.path(), &["commit", "-qm", "first"]);
    fs::write(dir.path().join("app.conf"), "clean\n").unwrap();
    git(dir.path(), &["commit", "-qam", "second"]);
    fs::write(dir.path().join("other"), amended.reveal()).unwrap();
    git(dir.path(), &["add", "."]);
    git(dir.path(), &["commit", "-qm", "third"]);
    git(dir.path(), &["reset", "-q", "--hard", "HEAD~1"]);
    git(dir.path(), &["reflog", "expire", "--expire=now", "--all"]);
    let output = scan(dir.path(), &[]);
    ended(&output, 7);
    let mut found = findings(&output);
    found.sort_by_key(|finding| finding["kind"].to_string());
    assert_eq!(found.len(), 2, "{found:?}");
    let first = Command::new("git").arg("-C").arg(dir.path()).args(["rev-parse", "HEAD~1"]).output().unwrap();
    assert_eq!(found[0]["commit"], stdout(&first).trim());
    assert_eq!(found[0]["path"], dir.path().join("app.conf").display().to_string());
    assert_eq!(found[0]["line"], 3);
    assert_eq!(found[1]["hint"], amended.hint());
    shows_nothing(&output, &deleted);
    // Packed is no hiding place, and the files alone are clean.
    git(dir.path(), &["gc", "-q", "--prune=now"]);
    assert_eq!(findings(&scan(dir.path(), &[])).len(), 1);
    ended(&scan(dir.path(), &["--no-history"]), 0);
}

#[test]
fn scan_walks_no_loop_and_tells_what_it_could_not_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    symlink(dir.path(), dir.path().join("in/loop")).unwrap();
    let output = scan(dir.path(), &[]);
    ended(&output, 0);
    assert!(stderr(&output).contains("1 links and special files passed over"), "{}", stderr(&output));
    // A repository that git refuses is not the same as one without a finding.
    fs::create_dir(dir.path().join(".git")).unwrap();
    let output = scan(dir.path(), &[]);
    ended(&output, 1);
    assert!(stderr(&output).contains("cannot read"), "{}", stderr(&output));
    ended(&run(&["scan", "/no/such/place"], &settings(&[])), 1);
    ended(&run(&["scan"], &settings(&[])), 2);
}

#[test]
fn scan_of_a_huge_file_takes_no_more_memory_than_of_a_small_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::create(dir.path().join("huge")).unwrap();
    // Sparse: a gigabyte to read, nothing to store.
    file.set_len(1 << 30).unwrap();
    // More address space than the program and its buffers need, less than the file.
    let script = "ulimit -v 900000; exec \"$0\" scan \"$1\"";
    let output = Command::new("sh").args(["-c", script, crate::support::BINARY]).arg(dir.path()).output().unwrap();
    ended(&output, 0);
    assert!(stderr(&output).contains("1073741824 bytes"), "{}", stderr(&output));
}

#[test]
fn a_secret_in_an_argument_is_refused_with_the_reason() {
    let key = made(Kind::Admin);
    for arguments in [vec!["scan", key.reveal()], vec!["doctor", "--key", key.reveal()]] {
        let output = run(&arguments, &settings(&[]));
        ended(&output, 2);
        assert!(stderr(&output).contains("an argument holds a secret"), "{}", stderr(&output));
        shows_nothing(&output, &key);
    }
}

async fn an_agents_key(service: &Service, operator: &str) -> String {
    let (_, server) =
        service.post(operator, "/v1/servers", &json!({"name": "s", "resource": "https://mcp.example.com/s"})).await;
    let (_, agent) = service.post(operator, "/v1/agents", &json!({"name": "a"})).await;
    let grants = json!([{"server_id": server["id"], "permissions": ["tools/call"]}]);
    let key = json!({"agent_id": agent["id"], "environment": "prod", "grants": grants});
    let (status, key) = service.post(operator, "/v1/keys", &key).await;
    assert_eq!(status, 201, "{key}");
    key["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn scan_report_revokes_each_key_by_itself_and_only_when_told_to() {
    let private = Private::new();
    let service = Service::start(&private.settings).await;
    let key = an_agents_key(&service, &operator(&private.settings)).await;
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("leaked"), format!("{key}\n{key}\n")).unwrap();
    let unknown = made(Kind::Key(Environment::Dev));
    fs::write(dir.path().join("unknown"), unknown.reveal()).unwrap();
    let path = dir.path().to_str().unwrap();
    let is_alive = async || {
        let reply = service.client.get(service.url("/v1/keys/self")).bearer_auth(&key).send().await;
        reply.unwrap().status().is_success()
    };
    let desk = with(&settings(&[]), &[("MCPA_URL", &service.url(""))]);
    ended(&run(&["scan", path, "--report"], &settings(&[])), 2);
    let dry = run(&["scan", path, "--report"], &desk);
    ended(&dry, 7);
    assert!(stderr(&dry).contains("would be revoked") && is_alive().await);
    let really = run(&["scan", path, "--report", "--yes"], &desk);
    ended(&really, 7);
    assert_eq!(stderr(&really).matches("is revoked").count(), 1, "{}", stderr(&really));
    assert!(stderr(&really).contains("key_0123456789ab is not a living key there"), "{}", stderr(&really));
    assert!(!is_alive().await);
}
