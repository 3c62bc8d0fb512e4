//! No secret leaves through a side door: each kind is made and shown in every way, right and wrong; then every place that
//! is written to is searched. A test program of its own, because it listens to everything that the process logs.
#![cfg(test)]
#![expect(unreachable_pub, reason = "the modules of a test crate are its only users")]

#[expect(dead_code, unused_imports, reason = "this story needs a part of it")]
#[path = "api/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mcp_authority::http::metrics_router;
use mcp_authority::jobs;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor, Row};
use support::actors::{Server, exchange, text};
use support::{Node, Operator, Proxy, Reply, Road, TestDb};
use tower::ServiceExt;

/// Everything that is logged, by whatever part of the process, at every level.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the sink").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A secret, and the one reply that may show it.
struct Canary {
    what: String,
    /// The forms in which it must not be found.
    forms: Vec<String>,
}

impl Canary {
    fn new(what: &str, secret: &str, whole: &str) -> Self {
        let hex = secret.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        // In Basic credentials it stands behind an id and a colon, at whatever place of a base64 group.
        let inside = |skip: usize| {
            let padded = format!("{}{whole}", "x".repeat(skip));
            let text = STANDARD.encode(padded);
            text.get(16..text.len() - 8).unwrap_or_default().to_owned()
        };
        let mut forms = vec![secret.to_owned(), hex];
        forms.extend((0..3).map(inside));
        forms.retain(|form| form.len() >= 20);
        Self { what: what.to_owned(), forms }
    }

    /// `mcp_{kind}_{id:12}{secret:43}{crc:6}`
    fn credential(what: &str, credential: &str) -> Self {
        let body = credential.rsplit('_').next().expect("a body");
        Self::new(what, &body[12..55], credential)
    }

    /// The signature of a token: without it the rest is worth nothing.
    fn token(what: &str, token: &str) -> Self {
        Self::new(what, token.rsplit('.').next().expect("a signature"), token)
    }

    fn found_in(&self, place: &str) -> bool {
        self.forms.iter().any(|form| place.contains(form.as_str()))
    }
}

struct Story {
    node: Node,
    operator: Operator,
    server: Server,
    canaries: Vec<Canary>,
    /// Bodies and headers of replies that must show no secret.
    said: String,
}

impl Story {
    fn hears(&mut self, reply: &Reply) {
        writeln!(self.said, "{:?}\n{}", reply.headers, reply.text).expect("memory");
    }

    async fn send(&mut self, request: RequestBuilder) -> Reply {
        let reply = self.node.send(request).await;
        self.hears(&reply);
        reply
    }

    /// A reply that shows a secret, this once.
    async fn shown(&mut self, path: &str, body: Value, member: &str) -> (Value, String) {
        let reply = self.operator.post(&self.node, path, body).await;
        assert!(reply.status.is_success(), "{}", reply.text);
        let secret = text(&reply.json, member);
        self.canaries.push(Canary::credential(&format!("{member} of {path}"), &secret));
        (reply.json, secret)
    }

    /// A secret in every odd place of a request.
    #[expect(clippy::too_many_lines, reason = "one list of places")]
    async fn misused(&mut self, secret: &str) {
        let url = |path: String| format!("{path}{secret}");
        for path in [
            url("/v1/keys/".into()),
            url("/v1/keys?q=".into()),
            url("/v1/keys?cursor=".into()),
            url("/v1/audit?actor=".into()),
            url("/oauth/introspect?token=".into()),
            url("/nowhere/".into()),
            url("/oauth/authorize?code=".into()),
        ] {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let request = self.node.request(method, &path).bearer_auth(&self.operator.key);
                self.send(request).await;
            }
        }
        for header in [
            "x-request-id",
            "if-match",
            "idempotency-key",
            "authorization",
            "x-forwarded-for",
            "forwarded",
            "content-type",
            "user-agent",
            "cookie",
            "accept",
        ] {
            for method in [Method::POST, Method::PATCH] {
                let request = self.node.request(method, "/v1/settings").header(header, secret);
                let request = if header == "authorization" { request } else { request.bearer_auth(&self.operator.key) };
                self.send(request.body(r#"{"no_such_field": 1}"#)).await;
            }
        }
        let bodies = [
            json!({secret: 1}),
            json!({"agent_id": secret}),
            json!({"agent_id": {secret: secret}}),
            json!({"environment": secret}),
            json!({"name": "x", "resource": secret}),
            json!({"kind": secret, "id": secret}),
            json!({"kind": "key", "id": secret}),
            json!({"kind": "token", "id": secret}),
            json!({"kind": "signing_key", "id": secret}),
            json!({"scopes": [secret], "name": "x"}),
            json!({"grants": [{"server_id": secret, "permissions": [secret]}]}),
            json!([secret]),
            json!(secret),
        ];
        for path in ["/v1/keys", "/v1/servers", "/v1/revocations", "/v1/operators", "/v1/roles", "/v1/agents"] {
            for body in &bodies {
                let request = self.node.request(Method::POST, path).bearer_auth(&self.operator.key).json(body);
                self.send(request).await;
            }
            let broken = format!("{{\"name\": \"{secret}");
            let request = self.node.request(Method::POST, path).bearer_auth(&self.operator.key);
            self.send(request.header("content-type", "application/json").body(broken)).await;
        }
        for path in ["/oauth/token", "/oauth/introspect", "/oauth/revoke"] {
            for name in [
                "token",
                "grant_type",
                "scope",
                "resource",
                "client_id",
                "client_secret",
                "subject_token",
                "actor_token",
                "subject_token_type",
                "token_type_hint",
                "client_ip",
                "code",
                "assertion",
            ] {
                let form = [("grant_type", "client_credentials"), (name, secret)];
                let server = (self.server.id.clone(), self.server.secret.clone());
                let request = self.node.request(Method::POST, path);
                self.send(request.try_clone().expect("no body").basic_auth(server.0, Some(server.1)).form(&form)).await;
                self.send(request.try_clone().expect("no body").basic_auth(secret, Some(secret)).form(&form)).await;
                self.send(request.form(&form)).await;
            }
        }
        for method in [Method::GET, Method::POST] {
            let request = self.node.request(method, "/v1/keys/self").bearer_auth(secret);
            self.send(request).await;
        }
    }
}

/// All rows of all tables, bytes in hex.
async fn dump(db: &TestDb) -> String {
    let mut connection = db.connection().await;
    let tables = "select tablename::text from pg_tables where schemaname = 'public' order by tablename";
    let mut whole = String::new();
    for table in connection.fetch_all(tables).await.expect("tables") {
        let table: String = table.get(0);
        let rows = connection.fetch_all(AssertSqlSafe(format!("select t::text from {table} t"))).await.expect("rows");
        for row in rows {
            writeln!(whole, "{table} {}", row.get::<String, _>(0)).expect("memory");
        }
    }
    whole
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn attack_27_no_secret_is_found_in_logs_metrics_audit_errors_or_any_table() {
    let logs = Sink::default();
    let writer = logs.clone();
    let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    lines.with_ansi(false).init();

    let db = TestDb::new().await;
    let proxy = Proxy::start(&db).await;
    let node = Node::start_at(&db, proxy.options(&db), &[]).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let mut story = Story { node, operator, server, canaries: Vec::new(), said: String::new() };
    let s = &mut story;
    s.canaries.push(Canary::credential("the first operator's key", &s.operator.key));
    s.canaries.push(Canary::credential("the server's secret", &s.server.secret));
    s.canaries.push(Canary::new("MCPA_SECRET_KEYS", support::node::SECRET_KEY, support::node::SECRET_KEY));
    let raw = String::from_utf8(STANDARD.decode(support::node::SECRET_KEY).expect("base64")).expect("text");
    s.canaries.push(Canary::new("the secret key itself", &raw, &raw));
    let url = sqlx::ConnectOptions::to_url_lossy(&db.options);
    let password = url.password().expect("a password").to_owned();
    s.canaries.push(Canary::new("the database's password", &password, &password));

    // Every kind, by every route that makes one.
    let (made, _) = s.shown("/v1/operators", json!({"name": "o", "scopes": ["*"]}), "key").await;
    s.shown(&format!("/v1/operators/{}/rotate", text(&made, "id")), json!({}), "key").await;
    let (made, _) = s
        .shown("/v1/servers", json!({"name": "s", "resource": "https://canary.example.com/mcp"}), "client_secret")
        .await;
    s.shown(&format!("/v1/servers/{}/rotate", text(&made, "id")), json!({}), "client_secret").await;
    let agent = s.operator.agent(&s.node).await;
    let grants = json!([{"server_id": s.server.id, "permissions": ["tools/call"]}]);
    let body = json!({"agent_id": agent, "environment": "prod", "grants": grants, "self_rotation": true});
    let (made, _) = s.shown("/v1/keys", body.clone(), "key").await;
    let (_, key) = s.shown(&format!("/v1/keys/{}/rotate", text(&made, "id")), json!({}), "key").await;
    // One whose outcome is kept for repetition.
    let request =
        s.node.request(Method::POST, "/v1/keys").bearer_auth(&s.operator.key).header("idempotency-key", "once");
    let kept = s.node.send(request.try_clone().expect("no body").json(&body)).await.created();
    s.canaries.push(Canary::credential("a key made with an Idempotency-Key", &text(&kept, "key")));
    let repeated = s.send(request.json(&body)).await;
    assert_eq!(repeated.json["secret_already_shown"], true, "{}", repeated.text);
    let holder = support::actors::Key { id: text(&made, "id"), agent, key: key.clone() };
    let session = holder.session(&s.node, &s.server).await;
    s.canaries.push(Canary::token("a session token", &session));
    let smaller = exchange(&s.node, &session, &[("scope", "tools/call")]).await.issued();
    s.canaries.push(Canary::token("an exchanged token", &smaller));

    // Shown rightly.
    for credential in [&key, &session, &smaller] {
        let reply = s.server.ask(&s.node, &[("token", credential)]).await;
        s.hears(&reply);
        assert_eq!(reply.json["active"], true, "{}", reply.text);
    }
    // Shown wrongly, everywhere; and while the database is away or its answers are lost.
    let typo = format!("{}{}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' });
    let secrets = [key.clone(), session.clone(), s.operator.key.clone(), s.server.secret.clone(), typo];
    for secret in &secrets {
        s.misused(secret).await;
    }
    proxy.set(Road::LoseAnswers);
    for path in ["/v1/operators", "/v1/keys"] {
        let reply = s.operator.post(&s.node, path, body.clone()).await;
        s.hears(&reply);
    }
    proxy.set(Road::Cut);
    let request = s.node.request(Method::POST, "/v1/keys").bearer_auth(&s.operator.key).json(&body);
    let reply = s.send(request).await;
    assert!(!reply.status.is_success());
    proxy.set(Road::Open);
    s.node.until("it is back", async || s.server.ask(&s.node, &[("token", &key)]).await.json["active"] == true).await;
    s.node
        .until("all is recorded", async || s.node.app.recorder.waiting() == 0 && s.node.app.recorder.can_record())
        .await;
    jobs::run_all(&s.node.app).await.expect("the jobs run");
    s.node.app.observations.flush(&s.node.app.db, s.node.app.live.now(), true).await.expect("written");

    let request = axum::extract::Request::builder().uri("/metrics").body(axum::body::Body::empty()).expect("a request");
    let metrics = metrics_router(&s.node.app).oneshot(request).await.expect("metrics");
    let metrics = axum::body::to_bytes(metrics.into_body(), usize::MAX).await.expect("whole");
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let logged = String::from_utf8_lossy(&logs.0.lock().expect("the sink")).into_owned();
    assert!(logged.contains("TRACE") && logged.len() > 10_000 && metrics.contains("mcpa") && s.said.len() > 10_000);
    let tables = dump(&db).await;
    assert!(tables.contains("audit_entries") && tables.contains("secrets "));
    let places = [("the logs", &logged), ("the metrics", &metrics), ("the replies", &s.said), ("the tables", &tables)];
    let mut leaks = Vec::new();
    for canary in &s.canaries {
        for (place, content) in &places {
            if canary.found_in(content) {
                let lines = content.lines().filter(|line| canary.found_in(line)).take(2);
                leaks.extend(
                    lines.map(|line| {
                        format!("{} in {place}: {}", canary.what, line.chars().take(400).collect::<String>())
                    }),
                );
            }
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}
