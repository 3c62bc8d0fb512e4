//! What is measured: a private PostgreSQL, a node, an operator, a server that asks, an agent with a key.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mcp_authority::db::Db;
use mcp_authority::db::embedded::{Embedded, Role};
use mcp_authority::gate::Claims;
use mcp_authority::operators::{self, NewOperator};
use mcp_authority::secrets::Sealing;
use mcp_authority::signing::{self, Purpose};
use mcp_authority::types::alg::Alg;
use mcp_authority::types::caller::{Caller, EVERYTHING};
use mcp_authority::types::id::SessionId;
use mcp_authority::types::keyring::Keyring;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use zeroize::Zeroizing;

use crate::process::{Guard, Node, family_cpu};

/// The one secret key of the bench; its database lives as long as the bench.
const SECRET_KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
/// What all nodes say they are called; they listen elsewhere.
const PUBLIC_URL: &str = "http://localhost:8080";
/// No single request takes longer, however many keys there are.
const REQUEST_MAX: Duration = Duration::from_mins(1);
/// How often something is looked at that comes true by itself.
const POLL: Duration = Duration::from_millis(10);

/// PostgreSQL, and what all databases on it share.
pub(crate) struct Machine {
    cluster: Embedded,
    pub(crate) guard: Guard,
    pub(crate) folder: PathBuf,
    pub(crate) client: Client,
    pub(crate) keyring: Arc<Keyring>,
    binary: PathBuf,
}

/// A database, and what is done to the nodes on it.
pub(crate) struct World<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) database: String,
    pub(crate) db: Db,
}

/// A registered server, and how it authenticates.
pub(crate) struct Asker {
    pub(crate) id: String,
    pub(crate) resource: String,
    pub(crate) authorization: String,
}

/// An issued key.
pub(crate) struct Issued {
    pub(crate) id: String,
    pub(crate) key: String,
}

impl Machine {
    /// Starts PostgreSQL, durable as in earnest, below the build folder: a folder in memory would make commits free.
    pub(crate) async fn new(binary: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?.keep();
        let cluster = Embedded::start(&folder.join("data"), Role::Service).await?;
        let guard = Guard::new(cluster.postmaster_pid().context("its process")?, &folder)?;
        let keyring = Arc::new(Keyring::new(&[Zeroizing::new(SECRET_KEY)]).context("the secret key")?);
        let client = Client::builder().no_proxy().tls_certs_only(std::iter::empty()).timeout(REQUEST_MAX).build()?;
        Ok(Self { cluster, guard, folder, client, keyring, binary: binary.to_owned() })
    }

    /// Stops everything and removes it.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.cluster.stop().await?;
        self.guard.end()
    }

    /// A new database, empty.
    pub(crate) async fn world(&self, database: &str) -> anyhow::Result<World<'_>> {
        let mut connection = self.superuser()?.connect().await?;
        connection.execute(AssertSqlSafe(format!("create database {database} owner authority"))).await?;
        connection.close().await?;
        let db = Db::new(self.cluster.connect_options().database(database));
        Ok(World { machine: self, database: database.to_owned(), db })
    }

    /// Has PostgreSQL write to disk what it holds back, so that nobody measures the writing of what came before.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let mut connection = self.superuser()?.connect().await?;
        connection.execute("checkpoint").await?;
        connection.close().await?;
        Ok(())
    }

    /// How to do what the service's own role may not.
    pub(crate) fn superuser(&self) -> anyhow::Result<PgConnectOptions> {
        let password = fs::read_to_string(self.folder.join("data/postgres.superuser.password"))?;
        Ok(self.cluster.connect_options().username("postgres").password(password.trim()).database("postgres"))
    }

    /// What PostgreSQL calls its version.
    pub(crate) async fn postgres_version(&self) -> anyhow::Result<String> {
        let mut connection = self.superuser()?.connect().await?;
        let row = connection.fetch_one("show server_version").await?;
        Ok(row.try_get(0)?)
    }

    /// The processor time that PostgreSQL's processes have used so far.
    pub(crate) fn postgres_cpu(&self) -> anyhow::Result<Duration> {
        family_cpu(self.cluster.postmaster_pid().context("its process")?)
    }
}

impl World<'_> {
    /// A node of the service, ready.
    pub(crate) async fn node(&self) -> anyhow::Result<Node> {
        let url = self.machine.cluster.connect_options().database(&self.database).to_url_lossy();
        let mut command: Command = self.machine.guard.command(&self.machine.binary);
        command
            .env("MCPA_DATABASE_URL", url.as_str())
            .env("MCPA_SECRET_KEYS", STANDARD.encode(SECRET_KEY))
            .env("MCPA_PUBLIC_URL", PUBLIC_URL);
        Node::start(command, &self.machine.client, &self.machine.folder.join("node.log")).await
    }

    /// The id of the secret key that digests are made under.
    pub(crate) fn secret_key(&self) -> anyhow::Result<String> {
        self.machine.keyring.ids().into_iter().next().context("one key")
    }

    /// An operator with all rights, known to the node.
    pub(crate) async fn operator(&self, node: &Node) -> anyhow::Result<String> {
        let new = NewOperator {
            name: "bench".to_owned(),
            scopes: vec![EVERYTHING.to_owned()],
            projects: None,
            expires_in_days: None,
            allowed_cidrs: None,
        };
        let secret_key = self.secret_key()?;
        let sealing = Sealing { keyring: &self.machine.keyring, secret_key: &secret_key };
        let made = operators::create(&self.db, sealing, &Caller::machine(), new).await;
        let (_, issued, _) = made.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        let key = issued.credential.reveal().to_owned();
        // Made beside the node, so it is known there a little later.
        while self.machine.client.get(node.process.url("/v1/agents")).bearer_auth(&key).send().await?.status()
            != StatusCode::OK
        {
            tokio::time::sleep(POLL).await;
        }
        Ok(key)
    }

    /// A change by the operator, which must succeed.
    pub(crate) async fn post(&self, node: &Node, operator: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        let request =
            self.machine.client.request(Method::POST, node.process.url(path)).bearer_auth(operator).json(&body);
        let reply = request.send().await?;
        let status = reply.status();
        let text = reply.text().await?;
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// A server of this name.
    pub(crate) async fn asker(&self, node: &Node, operator: &str, name: &str) -> anyhow::Result<Asker> {
        let body = json!({"name": name, "resource": format!("https://{name}.example.com/mcp")});
        let made = self.post(node, operator, "/v1/servers", body).await?;
        let (id, secret) = (text(&made, "id")?, text(&made, "client_secret")?);
        let authorization = basic(&id, &secret);
        Ok(Asker { id, resource: text(&made, "resource")?, authorization })
    }

    /// A key with one grant of two permissions.
    pub(crate) async fn key(&self, node: &Node, operator: &str, agent: &str, asker: &Asker) -> anyhow::Result<Issued> {
        let grants = json!([{"server_id": asker.id, "permissions": ["tools/list", "tools/call:read_*"]}]);
        let body = json!({"agent_id": agent, "environment": "prod", "grants": grants});
        let made = self.post(node, operator, "/v1/keys", body).await?;
        Ok(Issued { id: text(&made, "id")?, key: text(&made, "key")? })
    }

    pub(crate) async fn agent(&self, node: &Node, operator: &str) -> anyhow::Result<String> {
        text(&self.post(node, operator, "/v1/agents", json!({"name": "agent"})).await?, "id")
    }

    /// A session token of a key.
    pub(crate) async fn session(&self, node: &Node, key: &Issued, asker: &Asker) -> anyhow::Result<String> {
        let form = [("grant_type", "client_credentials"), ("resource", &asker.resource)];
        let request =
            self.machine.client.post(node.process.url("/oauth/token")).basic_auth(&key.id, Some(&key.key)).form(&form);
        let reply = request.send().await?.error_for_status()?;
        text(&reply.json().await?, "access_token")
    }

    /// The reply to a question, as bytes.
    pub(crate) async fn ask(&self, node: &Node, asker: &Asker, token: &str) -> anyhow::Result<Vec<u8>> {
        let request = self
            .machine
            .client
            .post(node.process.url("/oauth/introspect"))
            .header("Authorization", &asker.authorization);
        let reply = request.form(&[("token", token)]).send().await?.error_for_status()?;
        Ok(reply.bytes().await?.to_vec())
    }

    /// How many questions the node has answered so far, and how many of them with "active". Returns when nothing moves any
    /// more: what was under way when the load ended is among them.
    pub(crate) async fn answered(&self, node: &Node) -> anyhow::Result<(u64, u64)> {
        let mut before = self.counted(node).await?;
        loop {
            tokio::time::sleep(POLL).await;
            let now = self.counted(node).await?;
            if now == before {
                return Ok(now);
            }
            before = now;
        }
    }

    async fn counted(&self, node: &Node) -> anyhow::Result<(u64, u64)> {
        let text = self.machine.client.get(format!("http://{}/metrics", node.metrics)).send().await?.text().await?;
        let count = |series: &str| -> u64 {
            let lines = text.lines().filter(|line| line.starts_with(series));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
        };
        Ok((count("mcpa_introspections_total{"), count("mcpa_introspections_total{result=\"active\"}")))
    }

    /// Makes tokens like this one, with the service's own signing key: as good as issued ones, and never seen by a node.
    pub(crate) async fn mint(&self, like: &str) -> anyhow::Result<impl Fn() -> anyhow::Result<String>> {
        let loaded = signing::load(&mut *self.db.reads().acquire().await?, &self.machine.keyring).await?;
        let claims = claims(like)?;
        Ok(move || {
            let now = mcp_authority::types::clock::Timestamp::from_seconds(claims.iat);
            let signer = loaded.signers.current(Purpose::Session, Alg::EdDsa, now).context("a signing key")?;
            Ok(signer.session(&Claims { jti: SessionId::random(), ..claims.clone() })?)
        })
    }
}

/// The header of a client with its secret.
pub(crate) fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

/// A member that must be a text.
pub(crate) fn text(value: &Value, member: &str) -> anyhow::Result<String> {
    Ok(value.get(member).and_then(Value::as_str).with_context(|| format!("no {member} in {value}"))?.to_owned())
}

/// What a session token says.
pub(crate) fn claims(token: &str) -> anyhow::Result<Claims> {
    let payload = token.split('.').nth(1).context("claims")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?)
}
