//! A running node, in this process, on an address of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use mcp_authority::app::{App, Running};
use mcp_authority::config::Config;
use mcp_authority::db::{self, Db};
use mcp_authority::http::listen::{Limits, serve};
use mcp_authority::operators::{self, NewOperator};
use mcp_authority::secrets::Sealing;
use mcp_authority::signing::{self, Purpose};
use mcp_authority::types::alg::Alg;
use mcp_authority::types::caller::Caller;
use mcp_authority::{http, jobs};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{Operator, TestDb};

/// One secret key of 32 bytes, base64.
pub const SECRET_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// What all nodes of a test say they are called; they listen elsewhere.
pub const PUBLIC_URL: &str = "http://localhost:8080";
/// Whatever must come true does so within this; it is never waited for when it does.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node.
pub struct Node {
    pub app: Arc<App>,
    pub address: SocketAddr,
    client: reqwest::Client,
    running: Running,
    // A test that ends without `stop` still must not leave a node that answers.
    stop: DropGuard,
    tasks: TaskTracker,
}

/// A reply, read whole.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: http_types::HeaderMap,
    pub text: String,
    pub json: Value,
}

use http as authority_http;
use reqwest::header as http_types;

impl Node {
    pub async fn start(db: &TestDb) -> Self {
        Self::start_with(db, &[]).await
    }

    /// With settings beside the usual ones, as environment variables.
    pub async fn start_with(db: &TestDb, settings: &[(&str, &str)]) -> Self {
        Self::start_at(db, db.options.clone(), settings).await
    }

    /// With a way to the database of its own.
    pub async fn start_at(db: &TestDb, options: PgConnectOptions, settings: &[(&str, &str)]) -> Self {
        Self::begin(db, options, settings, true).await
    }

    /// As if the scheduler of its jobs had never started.
    pub async fn start_without_jobs(db: &TestDb) -> Self {
        Self::begin(db, db.options.clone(), &[], false).await
    }

    async fn begin(db: &TestDb, options: PgConnectOptions, settings: &[(&str, &str)], scheduled: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut env = vec![
            ("MCPA_DATABASE_URL", "postgres://unused@localhost/unused"),
            ("MCPA_SECRET_KEYS", SECRET_KEY),
            ("MCPA_PUBLIC_URL", PUBLIC_URL),
        ];
        env.retain(|(name, _)| !settings.iter().any(|(other, _)| other == name));
        env.extend_from_slice(settings);
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::from_sources(env, &|path| std::fs::read_to_string(path)).expect("right settings");
        prepare(db, &config).await;
        let running = Running::start(config, Db::new(options), &address.to_string()).expect("it starts");
        let app = Arc::clone(&running.app);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        if scheduled {
            jobs::start(&app, &tasks, &stop);
        }
        let served = serve(
            listener,
            None,
            authority_http::service(&app),
            stop.clone(),
            Limits::with_grace(Duration::from_secs(5)),
        );
        tasks.spawn(served);
        let client = reqwest::Client::builder()
            .no_proxy()
            // Nothing here speaks TLS; reading the machine's certificates would hold up every other story of the task.
            .tls_certs_only(std::iter::empty::<reqwest::Certificate>())
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_mins(1))
            .build()
            .expect("a client");
        let node = Self { app, address, client, running, stop: stop.drop_guard(), tasks };
        node.until("the first round is through", async || node.app.live.answer(|_| ()).is_ok()).await;
        node
    }

    /// Stops it as a signal would: requests end, what was counted is written, its row goes.
    pub async fn stop(self) {
        let Self { app, running, stop, tasks, .. } = self;
        drop(stop);
        tasks.close();
        tasks.wait().await;
        // The service's own handle must be the last.
        drop(app);
        running.stop().await;
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub async fn send(&self, request: RequestBuilder) -> Reply {
        let response = request.send().await.expect("the node answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes: Bytes = response.bytes().await.expect("a whole reply");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Reply { status, headers, text, json }
    }

    /// An operator with all rights, made on the machine, known to this node.
    pub async fn operator(&self) -> Operator {
        self.operator_with(&["*"], None).await
    }

    /// An operator with these scopes on these projects.
    pub async fn operator_with(&self, scopes: &[&str], projects: Option<&[&str]>) -> Operator {
        let new = NewOperator {
            name: "test".to_owned(),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            projects: projects.map(|projects| projects.iter().map(ToString::to_string).collect()),
            expires_in_days: None,
            allowed_cidrs: None,
        };
        let secret_key = self.app.feed.secret_key();
        let sealing = Sealing { keyring: &self.app.live.keyring, secret_key: &secret_key };
        let made = operators::create(&self.app.db, sealing, &Caller::machine(), new).await.expect("an operator");
        let (operator, issued, done) = made;
        assert!(self.app.feed.reaches(done.position, PATIENCE).await, "the node knows it");
        Operator { id: operator.id, key: issued.credential.reveal().to_owned() }
    }

    /// Moves the database's clock on, and waits until this node has noticed.
    pub async fn advance(&self, db: &TestDb, seconds: i64) {
        let before = self.app.live.now().seconds();
        let shifted = db.count("select extract(epoch from authority_now() - statement_timestamp())::bigint").await;
        db.shift_clock(shifted + seconds).await;
        self.until("the node sees the new time", async || {
            // A round reads the clock; it need not be waited for.
            self.app.db.told().here.notify_one();
            self.app.live.now().seconds() >= before + seconds
        })
        .await;
    }

    /// Polls until it is so.
    pub async fn until(&self, what: &str, mut so: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        while !so().await {
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What `serve` does before it listens.
async fn prepare(db: &TestDb, config: &Config) {
    let pool = db.db();
    db::partitions::ahead_at_start(&pool).await.expect("partitions");
    let keyring = mcp_authority::app::keyring(config).expect("keys");
    let newest = keyring.ids().first().expect("one").clone();
    let sealing = Sealing { keyring: &keyring, secret_key: &newest };
    let mut tx = pool.begin().await.expect("a transaction");
    for purpose in [Purpose::Session, Purpose::Checkpoint] {
        signing::ensure(&mut tx, sealing, purpose, Alg::EdDsa).await.expect("a signing key");
    }
    db::commit(tx).await.expect("committed");
    pool.close().await;
}
