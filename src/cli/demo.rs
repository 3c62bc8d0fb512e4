//! `demo`: the tour without hands, against a throw-away instance of this same binary.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::cli::Failure;

/// A first start makes a PostgreSQL cluster; on a slow disk that takes a while.
const READY_SECONDS_MAX: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const STOP_SECONDS_MAX: Duration = Duration::from_secs(45);
const REQUEST_SECONDS_MAX: Duration = Duration::from_secs(20);
/// Characters of a credential that are shown: all of them are dead when the tour ends, but habits form early.
const SHOWN_CHARS: usize = 26;

pub(super) async fn run() -> Result<(), Failure> {
    let dir = directory()?;
    let toured = async {
        let mut instance = Instance::start(&dir).await?;
        let toured = tour(&instance, &dir).await;
        instance.stop().await?;
        toured
    }
    .await;
    std::fs::remove_dir_all(&dir).with_context(|| format!("{} stays behind", dir.display()))?;
    toured?;
    writeln!(std::io::stdout(), "\nEvery reply was the right one. The instance and its data are gone.")?;
    Ok(())
}

/// A directory of our own below the system's temporary one.
fn directory() -> anyhow::Result<std::path::PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let dir = std::env::temp_dir().join(format!("mcp-authority-demo-{}", uuid::Uuid::new_v4().simple()));
    std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
    Ok(dir)
}

/// The service under the tour.
struct Instance {
    child: Child,
    url: String,
    client: Client,
}

impl Instance {
    async fn start(dir: &Path) -> anyhow::Result<Self> {
        let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let url = format!("http://localhost:{}", listen.port());
        let log = std::fs::File::create(dir.join("log"))?;
        writeln!(std::io::stdout(), "Starting a throw-away instance at {url} …")?;
        let child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .env_clear()
            .env("PATH", search_path())
            .env("MCPA_LISTEN", listen.to_string())
            .env("MCPA_METRICS_LISTEN", "off")
            .env("MCPA_DATA_DIR", dir.join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let client = Client::builder().timeout(REQUEST_SECONDS_MAX).no_proxy().build()?;
        let mut instance = Self { child, url, client };
        instance.ready(dir).await?;
        Ok(instance)
    }

    async fn ready(&mut self, dir: &Path) -> anyhow::Result<()> {
        let began = Instant::now();
        let said = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        loop {
            let answered = self.client.get(format!("{}/health/ready", self.url)).send().await;
            if answered.is_ok_and(|reply| reply.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("the instance ended with {status}:\n{}", said());
            }
            ensure!(
                began.elapsed() < READY_SECONDS_MAX,
                "the instance is not ready after {READY_SECONDS_MAX:?}:\n{}",
                said()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let ended =
            tokio::time::timeout(STOP_SECONDS_MAX, self.child.wait()).await.context("the instance does not stop")??;
        ensure!(ended.success(), "the instance ended with {ended}");
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }
}

#[expect(clippy::disallowed_methods, reason = "the instance finds PostgreSQL where this process would")]
fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// One step: what is sent, and what must come back.
struct Step<'a> {
    what: &'a str,
    line: String,
    request: RequestBuilder,
    status: u16,
}

impl Step<'_> {
    async fn take(self) -> anyhow::Result<Value> {
        let mut out = std::io::stdout();
        writeln!(out, "\n# {}\n{}", self.what, self.line)?;
        let reply = self.request.send().await?;
        let (status, text) = (reply.status().as_u16(), reply.text().await?);
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        writeln!(out, "→ {status} {}", shortened(&body))?;
        ensure!(status == self.status, "{}: {status} instead of {}: {text}", self.what, self.status);
        Ok(body)
    }
}

async fn tour(instance: &Instance, dir: &Path) -> anyhow::Result<()> {
    let operator = std::fs::read_to_string(dir.join("data/operator.key"))?.trim().to_owned();
    let admin = async |what: &str, path: &str, body: Value, status: u16| {
        let line = format!("POST {path} {}", shortened(&body));
        let request = instance.request(Method::POST, path).bearer_auth(&operator).json(&body);
        Step { what, line, request, status }.take().await
    };
    let server_body = json!({"name": "files", "resource": "https://files.example.com/mcp"});
    let server = admin("Register an MCP server", "/v1/servers", server_body, 201).await?;
    let agent = admin("Register an agent", "/v1/agents", json!({"name": "researcher"}), 201).await?;
    let grants = json!([{"server_id": text(&server, "id")?, "permissions": ["tools/list", "tools/call:read_*"]}]);
    let key_body = json!({"agent_id": text(&agent, "id")?, "environment": "prod", "grants": grants});
    let key = admin("Issue the agent a key", "/v1/keys", key_body, 201).await?;
    let actors = Actors { instance, server: &server, key: &key };
    let session = actors.session().await?;
    let (api_key, token) = (text(&key, "key")?, text(&session, "access_token")?);
    ensure!(actors.active("The server asks about the key", api_key).await?, "the key must be active");
    ensure!(actors.active("The server asks about the session token", token).await?, "the token must be active");
    let smaller = actors.exchange(token).await?;
    ensure!(text(&smaller, "scope")? == "tools/call:read_notes", "an exchange narrows: {smaller}");
    let revoke = format!("/v1/keys/{}/revoke", text(&key, "id")?);
    let revoked =
        admin("Revoke the key; the reply is the receipt", &revoke, json!({"reason": "the tour ends"}), 200).await?;
    ensure!(
        revoked.pointer("/enforced/complete") == Some(&json!(true)),
        "the revocation must hold everywhere: {revoked}"
    );
    for (what, credential) in [
        ("The server asks about the key again", api_key),
        ("The server asks about the session token again", token),
        ("The server asks about the narrowed token", text(&smaller, "access_token")?),
    ] {
        ensure!(!actors.active(what, credential).await?, "{what}: it must be inactive");
    }
    Ok(())
}

/// The server and the holder of the key.
struct Actors<'a> {
    instance: &'a Instance,
    server: &'a Value,
    key: &'a Value,
}

impl Actors<'_> {
    async fn session(&self) -> anyhow::Result<Value> {
        let resource = text(self.server, "resource")?;
        let form = [("grant_type", "client_credentials"), ("resource", resource)];
        let (id, secret) = (text(self.key, "id")?, text(self.key, "key")?);
        let request = self.instance.request(Method::POST, "/oauth/token").basic_auth(id, Some(secret)).form(&form);
        let line = format!("POST /oauth/token (Basic {id}:…) grant_type=client_credentials resource={resource}");
        Step { what: "Exchange the key for a session token", line, request, status: 200 }.take().await
    }

    async fn exchange(&self, token: &str) -> anyhow::Result<Value> {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("scope", "tools/call:read_notes"),
        ];
        let request = self.instance.request(Method::POST, "/oauth/token").form(&form);
        let line =
            "POST /oauth/token grant_type=…token-exchange subject_token=… scope=tools/call:read_notes".to_owned();
        Step { what: "Narrow it for a sub-agent", line, request, status: 200 }.take().await
    }

    async fn active(&self, what: &str, credential: &str) -> anyhow::Result<bool> {
        let (id, secret) = (text(self.server, "client_id")?, text(self.server, "client_secret")?);
        let request = self.instance.request(Method::POST, "/oauth/introspect").basic_auth(id, Some(secret));
        let line = format!("POST /oauth/introspect (Basic {id}:…) token={}", short(credential));
        let request = request.form(&[("token", credential)]);
        let answer = Step { what, line, request, status: 200 }.take().await?;
        let active = answer.get("active") == Some(&json!(true));
        ensure!(active || answer == json!({"active": false}), "an inactive credential has no other member");
        Ok(active)
    }
}

fn text<'a>(value: &'a Value, member: &str) -> anyhow::Result<&'a str> {
    value.get(member).and_then(Value::as_str).with_context(|| format!("no `{member}` in {value}"))
}

/// A body with its credentials shortened.
fn shortened(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with("mcp_") || text.starts_with("eyJ") => json!(short(text)),
        Value::Array(items) => items.iter().map(shortened).collect(),
        Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), shortened(member))).collect(),
        other => other.clone(),
    }
}

fn short(text: &str) -> String {
    format!("{}…", text.chars().take(SHOWN_CHARS).collect::<String>())
}
