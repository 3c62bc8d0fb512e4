//! `serve` as a process: its first key, its end by a signal, its neighbours, its recovery, its silence about secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    Private, SECRET_KEY, Service, TestDb, command, ended, operator, run, settings, signal_to, stderr, until, with,
};

#[tokio::test]
async fn without_a_terminal_the_first_key_goes_to_a_private_file_and_nowhere_else() {
    let private = Private::new();
    let service = Service::start(&private.settings).await;
    let file = private.data().join("operator.key");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let key = fs::read_to_string(&file).unwrap().trim().to_owned();
    assert_eq!(service.post(&key, "/v1/agents", &json!({"name": "researcher"})).await.0, 201);
    assert_eq!(service.stdout(), "");
    assert!(
        service.stderr().contains("operator.key") && !service.stderr().contains("mcp_admin_"),
        "{}",
        service.stderr()
    );
    assert!(service.stop().await.success());
    // The second start makes no second operator.
    fs::remove_file(&file).unwrap();
    let service = Service::start(&private.settings).await;
    assert!(!file.exists());
    assert!(service.stop().await.success());
}

#[tokio::test]
async fn at_a_terminal_the_first_key_is_shown_once_and_not_written() {
    let private = Private::new();
    let line = format!("{} serve", crate::support::BINARY);
    let mut terminal = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .envs(command(&[], &private.settings).get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null())
        .stdout(fs::File::create(private.dir.path().join("screen")).unwrap())
        .spawn()
        .expect("script of util-linux");
    let screen = || fs::read_to_string(private.dir.path().join("screen")).unwrap();
    until("the key is shown", async || screen().contains("Three lines to begin")).await;
    let shown = screen();
    let key: String = shown.split("mcp_admin_").nth(1).unwrap().chars().take(61).collect();
    assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{shown}");
    assert!(!private.data().join("operator.key").exists());
    let lock = fs::read_to_string(private.data().join("service.lock")).unwrap();
    until("it serves", async || screen().contains("serving")).await;
    signal_to(lock.split(' ').nth(1).unwrap().parse().unwrap(), Signal::TERM);
    let mut status = None;
    until("it ends", async || {
        status = terminal.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert!(status.unwrap().success(), "{}", screen());
}

#[tokio::test]
async fn a_running_request_is_finished_when_the_service_is_told_to_stop() {
    let db = TestDb::new().await;
    let mut service = Service::start(&db.settings).await;
    let key = operator(&db.settings);
    until("the key is known", async || service.post(&key, "/v1/agents", &json!({"name": "first"})).await.0 == 201)
        .await;
    let body = json!({"name": "last"}).to_string();
    let mut connection = TcpStream::connect(&service.address).await.unwrap();
    let head = format!(
        "POST /v1/agents HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    connection.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n", "the handler waits for the body now");
    service.signal(Signal::TERM);
    until("it says so", async || service.stderr().contains("stopping")).await;
    connection.write_all(body.as_bytes()).await.unwrap();
    let mut reply = String::new();
    connection.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 201 "), "{reply}");
    assert!(service.ended().await.success());
    assert_eq!(db.count("select count(*) from agents where name = 'last'").await, 1);
    assert!(TcpStream::connect(&service.address).await.is_err());
    assert_eq!(db.count("select count(*) from nodes").await, 0, "its row is gone");
}

#[tokio::test]
async fn two_services_on_one_data_directory_are_refused() {
    let private = Private::new();
    let service = Service::start(&private.settings).await;
    let listen = format!("127.0.0.1:{}", crate::support::free_port());
    let second = run(&["serve"], &with(&private.settings, &[("MCPA_LISTEN", &listen)]));
    ended(&second, 1);
    let said = stderr(&second);
    assert!(said.contains(&service.child.id().to_string()) && said.contains("MCPA_DATA_DIR"), "{said}");
    assert!(service.client.get(service.url("/health/ready")).send().await.unwrap().status().is_success());
}

#[tokio::test]
async fn after_a_kill_the_next_start_has_all_that_was_acknowledged() {
    let private = Private::new();
    let mut service = Service::start(&private.settings).await;
    let key = fs::read_to_string(private.data().join("operator.key")).unwrap().trim().to_owned();
    let (status, agent) = service.post(&key, "/v1/agents", &json!({"name": "kept"})).await;
    assert_eq!(status, 201);
    service.signal(Signal::KILL);
    assert!(!service.ended().await.success());
    let again = Service::start(&private.settings).await;
    let path = format!("/v1/agents/{}", agent["id"].as_str().unwrap());
    let found = again.client.get(again.url(&path)).bearer_auth(&key).send().await.unwrap();
    assert_eq!(found.status().as_u16(), 200);
    assert!(again.stop().await.success());
    ended(&run(&["audit", "verify"], &private.settings), 0);
}

#[tokio::test]
async fn nothing_secret_is_printed_or_logged() {
    let db = TestDb::new().await;
    let service = Service::start(&with(&db.settings, &[("MCPA_LOG", "debug")])).await;
    let admin = operator(&db.settings);
    until("the key is known", async || service.post(&admin, "/v1/agents", &json!({"name": "a"})).await.0 == 201).await;
    let made = async |path: &str, body: Value| {
        let (status, reply) = service.post(&admin, path, &body).await;
        assert_eq!(status, 201, "{reply}");
        reply
    };
    let word = |reply: &Value, member: &str| reply[member].as_str().unwrap().to_owned();
    let server = made("/v1/servers", json!({"name": "files", "resource": "https://files.example.com/mcp"})).await;
    let agent = made("/v1/agents", json!({"name": "researcher"})).await;
    let grants = json!([{"server_id": server["id"], "permissions": ["tools/call"]}]);
    let key =
        made("/v1/keys", json!({"agent_id": agent["id"], "environment": "prod", "grants": grants, "direct": true}))
            .await;
    let form = [("grant_type", "client_credentials"), ("resource", "https://files.example.com/mcp")];
    let request = service.client.post(service.url("/oauth/token")).basic_auth(word(&key, "id"), key["key"].as_str());
    let token = request.form(&form).send().await.unwrap().json::<Value>().await.unwrap();
    for presented in [word(&key, "key"), word(&token, "access_token")] {
        let request = service.client.post(service.url("/oauth/introspect"));
        let request = request.basic_auth(word(&server, "client_id"), server["client_secret"].as_str());
        let reply = request.form(&[("token", &presented)]).send().await.unwrap().json::<Value>().await.unwrap();
        assert_eq!(reply["active"], true, "{reply}");
    }
    // Secrets where they do not belong, and secrets that are wrong.
    let misplaced = format!("/v1/agents?token={}", word(&key, "key"));
    assert!(service.client.get(service.url(&misplaced)).send().await.unwrap().status().is_client_error());
    let mistyped = format!("{}x", word(&token, "access_token"));
    assert_eq!(service.post(&mistyped, "/v1/agents", &json!({"name": "b"})).await.0, 401);
    let secrets = [
        admin.clone(),
        word(&key, "key"),
        word(&server, "client_secret"),
        word(&token, "access_token"),
        mistyped,
        SECRET_KEY.to_owned(),
        db.options.to_url_lossy().password().unwrap().to_owned(),
    ];
    service.signal(Signal::TERM);
    let mut service = service;
    assert!(service.ended().await.success());
    let (out, log) = (service.stdout(), service.stderr());
    assert_eq!(out, "");
    assert!(log.contains("/v1/keys") || log.len() > 1000, "there is a log to look through: {log}");
    for secret in secrets {
        assert!(!log.contains(&secret), "a secret of {} characters is in the log", secret.len());
    }
}

#[test]
fn a_port_in_use_ends_the_start() {
    let private = Private::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = private.data();
    let settings = settings(&[
        ("MCPA_DATA_DIR", data.to_str().unwrap()),
        ("MCPA_LISTEN", &address),
        ("MCPA_METRICS_LISTEN", "off"),
    ]);
    let refused = run(&["serve"], &settings);
    ended(&refused, 1);
    assert!(stderr(&refused).contains("MCPA_LISTEN") && stderr(&refused).contains(&address), "{}", stderr(&refused));
}
