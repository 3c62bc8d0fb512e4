//! The service and its PostgreSQL are killed again and again while things change. What was acknowledged is there after
//! the restart, what was not is there whole or not at all, and nothing that was taken away comes back.
//!
//! `TEST_KILLS` is how often the service is killed (40 unless set), a fourth as often its PostgreSQL;
//! `TEST_SEED` chooses the moments.
#![cfg(test)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const KILLS: u32 = 40;
/// A restart, recovery included, takes no longer.
const PATIENCE: Duration = Duration::from_mins(1);
/// The stream runs this long at most before the next kill.
const MILLIS_BETWEEN_MAX: u64 = 350;

/// A fixed sequence of numbers (xorshift).
struct Moments(u64);

impl Moments {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// The service in a process of its own, with its private PostgreSQL.
struct Service {
    child: Child,
    data: PathBuf,
    url: String,
    client: Client,
}

impl Service {
    async fn start(data: &Path, port: u16) -> Self {
        let log = File::options().create(true).append(true).open(data.with_extension("log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_mcp-authority"))
            .arg("serve")
            .env("MCPA_DATA_DIR", data)
            .env("MCPA_LISTEN", format!("127.0.0.1:{port}"))
            .env("MCPA_METRICS_LISTEN", "off")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().expect("a client");
        let mut service = Self { child, data: data.to_owned(), url: format!("http://127.0.0.1:{port}"), client };
        service.ready().await;
        service
    }

    async fn ready(&mut self) {
        let began = Instant::now();
        loop {
            let reply = self.client.get(format!("{}/health/ready", self.url)).send().await;
            if reply.is_ok_and(|reply| reply.status() == StatusCode::OK) {
                return;
            }
            let ended = self.child.try_wait().expect("a child");
            let log = || fs::read_to_string(self.data.with_extension("log")).unwrap_or_default();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "not ready ({ended:?}):\n{}", log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    fn kill_postgres(&self) {
        let file = fs::read_to_string(self.data.join("cluster/postmaster.pid")).expect("its process id");
        let pid: i32 = file.lines().next().and_then(|line| line.trim().parse().ok()).expect("a process id");
        kill_process(Pid::from_raw(pid).expect("a process"), Signal::KILL).expect("killed");
    }

    /// A reply, or nothing when it broke off or the service could not say whether it was done.
    async fn call(&self, key: &str, method: Method, path: &str, body: Value) -> Option<Value> {
        let request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(key);
        let request = if body.is_null() { request } else { request.json(&body) };
        let reply = request.send().await.ok()?;
        let status = reply.status();
        let text = reply.text().await.ok()?;
        assert!(status.is_success() || status.as_u16() >= 500, "{path}: {status} {text}");
        if status.is_success() { Some(serde_json::from_str(&text).expect("JSON")) } else { None }
    }

    /// Waits until the node has applied all that the database holds. Before that it may answer from memory as it was before the
    /// crash, for as long as its lease runs: what was never acknowledged may look undone then, and be done.
    async fn current(&self, operator: &str) {
        let began = Instant::now();
        loop {
            let nodes = self.read(operator, "/v1/nodes").await;
            if nodes["items"].as_array().expect("a list").iter().all(|node| node["behind"] == 0) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{nodes}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What a path holds. A node that comes back from a database that crashed says for a moment that it is not current.
    async fn read(&self, key: &str, path: &str) -> Value {
        let began = Instant::now();
        loop {
            if let Some(found) = self.call(key, Method::GET, path, Value::Null).await {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "{path} cannot be read");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn accepts(&self, server: &(String, String), token: &str) -> bool {
        let began = Instant::now();
        loop {
            let url = format!("{}/oauth/introspect", self.url);
            let request = self.client.post(url).basic_auth(&server.0, Some(&server.1));
            let reply = request.form(&[("token", token)]).send().await.expect("an answer");
            if reply.status() == StatusCode::OK {
                return reply.json::<Value>().await.expect("JSON")["active"] == true;
            }
            let waits = reply.status() == StatusCode::SERVICE_UNAVAILABLE && began.elapsed() < PATIENCE;
            assert!(waits, "{}", reply.status());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn verify_audit(&self) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-authority"));
        command.args(["audit", "verify"]).env("MCPA_DATA_DIR", &self.data);
        let output = command.output().await.expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

impl Drop for Service {
    /// PostgreSQL goes with the service when it is told to end.
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// What is known of a key's secret from the replies.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Good,
    Dead,
    /// A call that would have ended it was not answered: it is one or the other, and stays so.
    Either,
}

/// What the replies said.
#[derive(Default)]
struct Told {
    operator: String,
    server: (String, String),
    server_id: String,
    agents: Vec<String>,
    /// Key id, its newest secret that was shown, and what is known of it.
    keys: Vec<(String, String, Known)>,
    /// Secrets that were rotated away or revoked, acknowledged.
    dead: Vec<String>,
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}")).to_owned()
}

impl Told {
    /// Makes one change after another until one is not answered, or until it is told to stop: changes that meet a dead
    /// PostgreSQL wait a moment for the next one.
    async fn stream(&mut self, service: &Service, moments: &mut Moments, stop: &AtomicBool) {
        while self.change(service, moments).await.is_some() && !stop.load(Ordering::Relaxed) {}
    }

    async fn change(&mut self, service: &Service, moments: &mut Moments) -> Option<()> {
        let operator = self.operator.clone();
        let chosen = usize::try_from(moments.next(self.keys.len().max(1) as u64)).expect("small");
        let good = self.keys.get(chosen).is_some_and(|key| key.2 == Known::Good);
        match moments.next(5) {
            0 => {
                let made = service.call(&operator, Method::POST, "/v1/agents", json!({"name": "a"})).await?;
                self.agents.push(text(&made, "id"));
            }
            1 if good => {
                let (id, secret, _) = self.keys[chosen].clone();
                self.keys[chosen].2 = Known::Either;
                let path = format!("/v1/keys/{id}/rotate");
                let made = service.call(&operator, Method::POST, &path, json!({"grace_seconds": 0})).await?;
                self.keys[chosen] = (id, text(&made, "key"), Known::Good);
                self.dead.push(secret);
            }
            2 if good => {
                let (id, secret, _) = self.keys[chosen].clone();
                self.keys[chosen].2 = Known::Either;
                service.call(&operator, Method::POST, &format!("/v1/keys/{id}/revoke"), json!({})).await?;
                self.keys[chosen].2 = Known::Dead;
                self.dead.push(secret);
            }
            _ => {
                let grants = json!([{"server_id": self.server_id, "permissions": ["tools/call", "tools/list"]}]);
                let agent = self.agents.last().expect("an agent").clone();
                let body = json!({"agent_id": agent, "environment": "prod", "grants": grants});
                let made = service.call(&operator, Method::POST, "/v1/keys", body).await?;
                self.keys.push((text(&made, "id"), text(&made, "key"), Known::Good));
            }
        }
        Some(())
    }

    /// Compares with what the service says now; what was open is settled by it.
    async fn holds(&mut self, service: &Service, seed: &str) {
        for (id, secret, known) in &mut self.keys {
            let now = if service.accepts(&self.server, secret).await { Known::Good } else { Known::Dead };
            assert!(*known == Known::Either || *known == now, "{seed}: {id} was {known:?} and is {now:?}");
            if now == Known::Dead && *known == Known::Either {
                self.dead.push(secret.clone());
            }
            *known = now;
        }
        for secret in &self.dead {
            assert!(!service.accepts(&self.server, secret).await, "{seed}: a dead secret came back");
        }
        // Nothing is there by half: each agent is found, each key has a secret and its grants.
        for agent in self.agents.iter().rev().take(3) {
            let found = service.read(&self.operator, &format!("/v1/agents/{agent}")).await;
            assert_eq!(found["id"], **agent, "{seed}");
        }
        let listed = service.read(&self.operator, "/v1/keys?limit=100").await;
        for key in listed["items"].as_array().expect("keys") {
            let path = format!("/v1/keys/{}", text(key, "id"));
            let key = service.read(&self.operator, &path).await;
            assert_eq!(key["grants"][0]["permissions"], json!(["tools/call", "tools/list"]), "{seed}: {key}");
            assert!(!key["secrets"].as_array().expect("secrets").is_empty(), "{seed}: {key}");
        }
        // The oldest keys tell no more than the youngest.
        self.keys.drain(..self.keys.len().saturating_sub(40));
        self.dead.drain(..self.dead.len().saturating_sub(60));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

#[expect(clippy::disallowed_methods, reason = "not a setting of the service, but of this test")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// First start: the operator's key and the secret keys are for their owner's eyes only, and in no log.
async fn first_start(service: &Service) -> Told {
    let file = service.data.join("operator.key");
    let operator = fs::read_to_string(&file).expect("the operator's key").trim().to_owned();
    assert_eq!((mode(&file), mode(&service.data.join("secret.keys"))), (0o600, 0o600));
    let secret_keys = fs::read_to_string(service.data.join("secret.keys")).expect("the secret keys");
    let log = fs::read_to_string(service.data.with_extension("log")).expect("the log");
    assert!(!log.contains(&operator[23..60]) && !log.contains(secret_keys.trim()), "{log}");
    let body = json!({"name": "s", "resource": "https://crash.example.com/mcp"});
    let server = service.call(&operator, Method::POST, "/v1/servers", body).await.expect("a server");
    let agent = service.call(&operator, Method::POST, "/v1/agents", json!({"name": "a"})).await.expect("an agent");
    Told {
        operator,
        server: (text(&server, "id"), text(&server, "client_secret")),
        server_id: text(&server, "id"),
        agents: vec![text(&agent, "id")],
        ..Told::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_8_what_was_acknowledged_survives_every_kill_and_what_was_taken_away_stays_dead() {
    let seed = number("TEST_SEED", 20_261_123);
    let kills = u32::try_from(number("TEST_KILLS", KILLS.into())).expect("a number");
    let mut moments = Moments(seed | 1);
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("open to PostgreSQL's user");
    let (data, port) = (dir.path().join("data"), free_port());
    let mut service = Service::start(&data, port).await;
    let mut told = first_start(&service).await;
    for turn in 0..kills + kills / 4 {
        let name = format!("seed {seed}, kill {turn}");
        let postgres = turn % 5 == 4;
        let wait = Duration::from_millis(20 + moments.next(MILLIS_BETWEEN_MAX));
        let mut stream_moments = Moments(moments.next(u64::MAX) | 1);
        {
            let stop = AtomicBool::new(false);
            let stream = told.stream(&service, &mut stream_moments, &stop);
            tokio::pin!(stream);
            assert!(tokio::time::timeout(wait, &mut stream).await.is_err(), "{name}: the stream broke off by itself");
            if postgres {
                service.kill_postgres();
            } else {
                kill_process(Pid::from_child(&service.child), Signal::KILL).expect("killed");
            }
            stop.store(true, Ordering::Relaxed);
            tokio::time::timeout(PATIENCE, stream).await.expect("the stream breaks off");
        }
        if postgres {
            service.ready().await;
            service.current(&told.operator).await;
        } else {
            service.kill();
            service = Service::start(&data, port).await;
        }
        told.holds(&service, &name).await;
        if turn % 10 == 9 {
            service.verify_audit().await;
        }
    }
    service.verify_audit().await;
    let log = fs::read_to_string(data.with_extension("log")).expect("the log");
    assert!(!log.contains(&told.operator[23..60]), "no secret in the log");
}
