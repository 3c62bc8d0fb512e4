//! Three nodes on one database: one reached directly, one behind a proxy, one as a process of its own behind a proxy.

use std::time::{Duration, Instant};

use mcp_authority::types::switches::{Protection, set};
use reqwest::Client;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Mutex, MutexGuard};

use crate::process::Process;
use crate::support::{Key, Node, Operator, Proxy, Server, TestDb, text};

/// Protections are the process's own: one story at a time.
static ONE: Mutex<()> = Mutex::const_new(());
/// A question that is not answered by then counts as not answered.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Some node does what is asked within this, whatever else happens.
const TAKEN_MAX: Duration = Duration::from_mins(3);
/// A revoking call that has not answered by then is made elsewhere; with a lease of a second it answers long before, unless
/// its node cannot reach the database.
const REVOKE_MAX: Duration = Duration::from_secs(4);

/// This process without some protections, until it is dropped.
pub struct Without {
    off: Vec<Protection>,
    _one: MutexGuard<'static, ()>,
}

impl Without {
    pub async fn these(off: &[Protection]) -> Self {
        let one = ONE.lock().await;
        for protection in off {
            set(*protection, false);
        }
        Self { off: off.to_vec(), _one: one }
    }
}

impl Drop for Without {
    fn drop(&mut self) {
        for protection in &self.off {
            set(*protection, true);
        }
    }
}

/// What a node said about a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Active,
    Inactive,
    /// 503: it cannot prove that it is current.
    Unavailable,
    /// No whole answer in time.
    Nothing,
}

/// Something that can be revoked.
#[derive(Clone, Debug)]
pub enum Credential {
    Key(Key),
    Token(String),
}

impl Credential {
    pub fn text(&self) -> &str {
        match self {
            Self::Key(key) => &key.key,
            Self::Token(token) => token,
        }
    }
}

/// The three nodes and who talks to them.
pub struct Fleet {
    pub db: TestDb,
    pub proxy: Proxy,
    pub direct: Node,
    pub behind: Node,
    pub process: Process,
    pub operator: Operator,
    pub server: Server,
    pub key: Key,
    pub client: Client,
    off: Without,
}

impl Fleet {
    /// With these protections out on all nodes.
    pub async fn start(off: &[Protection]) -> Self {
        let without = Without::these(off).await;
        Self::on(TestDb::new().await, without).await
    }

    pub async fn on(db: TestDb, off: Without) -> Self {
        let proxy = Proxy::start(&db).await;
        let direct = Node::start(&db).await;
        let behind = Node::start_at(&db, proxy.options(&db), &[]).await;
        let client = client();
        let mut process = Process::start(&proxy.options(&db), &off.off);
        process.ready(&client).await;
        let operator = direct.operator().await;
        let server = operator.server(&direct).await;
        let key = operator.key(&direct, &server, &["tools/call"]).await;
        let fleet = Self { db, proxy, direct, behind, process, operator, server, key, client, off };
        for url in fleet.doors() {
            fleet.until("it knows the key", async || fleet.ask(&url, &fleet.key.key).await == Said::Active).await;
        }
        fleet
    }

    /// Takes out one more protection of the nodes in this process.
    pub fn also_without(&mut self, protection: Protection) {
        set(protection, false);
        self.off.off.push(protection);
    }

    /// The three addresses.
    pub fn doors(&self) -> [String; 3] {
        [self.direct.url(""), self.behind.url(""), self.process.url.clone()]
    }

    /// The database as the process reaches it.
    pub fn options(&self) -> PgConnectOptions {
        self.proxy.options(&self.db)
    }

    pub async fn ask(&self, url: &str, token: &str) -> Said {
        ask(&self.client, &self.server, url, token).await
    }

    /// Polls until it is so.
    pub async fn until(&self, what: &str, so: impl AsyncFnMut() -> bool) {
        self.direct.until(what, so).await;
    }

    /// A token of the fleet's key, or a key of its own. Asked for again while no node can make it.
    pub async fn credential(&self, key: bool) -> Credential {
        if !key {
            let form = [("grant_type", "client_credentials"), ("resource", self.server.resource.as_str())];
            let token = self
                .made("a token", |url| {
                    let request = self.client.post(format!("{url}/oauth/token"));
                    request.basic_auth(&self.key.id, Some(&self.key.key)).form(&form)
                })
                .await;
            return Credential::Token(text(&token, "access_token"));
        }
        let make = async |path: &str, body: Value| {
            self.made(path, |url| {
                self.client.post(format!("{url}/v1/{path}")).bearer_auth(&self.operator.key).json(&body)
            })
            .await
        };
        let agent = text(&make("agents", json!({"name": "agent"})).await, "id");
        let grants = json!([{"server_id": self.server.id, "permissions": ["tools/call"]}]);
        let issued = make("keys", json!({"agent_id": agent, "environment": "prod", "grants": grants})).await;
        Credential::Key(Key { id: text(&issued, "id"), agent, key: text(&issued, "key") })
    }

    /// What one of the nodes made.
    async fn made(&self, what: &str, request: impl Fn(&str) -> reqwest::RequestBuilder) -> Value {
        let doors = self.doors();
        let (mut at, began) = (0, Instant::now());
        loop {
            let sent = request(&doors[at % doors.len()]).send().await;
            if let Some(reply) = sent.ok().filter(|reply| reply.status().is_success())
                && let Ok(made) = reply.json().await
            {
                return made;
            }
            assert!(began.elapsed() < TAKEN_MAX, "no node makes {what}");
            at += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Revokes at one node. True when the reply says that it holds everywhere.
    pub async fn revoke(&self, url: &str, credential: &Credential) -> bool {
        let request = match credential {
            Credential::Key(key) => {
                let request = self.client.post(format!("{url}/v1/keys/{}/revoke", key.id));
                request.bearer_auth(&self.operator.key).json(&json!({}))
            }
            Credential::Token(token) => {
                let request = self.client.post(format!("{url}/oauth/revoke"));
                request.basic_auth(&self.server.id, Some(&self.server.secret)).form(&[("token", token)])
            }
        };
        let Ok(reply) = request.timeout(REVOKE_MAX).send().await else { return false };
        let done = reply.status() == 200;
        // The reply is read whole: only then may anything be counted.
        reply.bytes().await.is_ok() && done
    }

    /// Revokes somewhere: here, or at the next node until one says that it holds. Revoking again is safe.
    pub async fn revoke_somewhere(&self, first: usize, credential: &Credential) {
        let doors = self.doors();
        let (mut at, began) = (first, Instant::now());
        while !self.revoke(&doors[at % doors.len()], credential).await {
            assert!(began.elapsed() < TAKEN_MAX, "no node takes a revocation");
            at += 1;
        }
    }
}

/// A client that gives up.
pub fn client() -> Client {
    Client::builder()
        .no_proxy()
        .tls_certs_only(std::iter::empty::<reqwest::Certificate>())
        .timeout(ANSWER_MAX)
        .build()
        .expect("a client")
}

/// Asks one node about a credential, as a server.
pub async fn ask(client: &Client, server: &Server, url: &str, token: &str) -> Said {
    let request = client.post(format!("{url}/oauth/introspect")).basic_auth(&server.id, Some(&server.secret));
    let Ok(reply) = request.form(&[("token", token)]).send().await else { return Said::Nothing };
    let status = reply.status().as_u16();
    let Ok(body) = reply.bytes().await else { return Said::Nothing };
    match status {
        200 => {
            let answer: Value = serde_json::from_slice(&body).expect("JSON");
            if answer["active"] == true { Said::Active } else { Said::Inactive }
        }
        503 => Said::Unavailable,
        // A node that is still empty knows no server; it must not have answered at all.
        other => panic!("{url}: {other} {}", String::from_utf8_lossy(&body)),
    }
}
