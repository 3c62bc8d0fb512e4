//! Three nodes are replaced one after another under load, behind something that follows their readiness as a load
//! balancer does: no call is refused, and nothing revoked is active.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use crate::fleet::{Without, client};
use crate::process::Process;
use crate::support::{Key, Node, Server, TestDb, text};

/// How often a load balancer looks.
const LOOK: Duration = Duration::from_millis(50);
const CALLERS: usize = 4;
/// A revoking call answers within ten seconds.
const REVOKE_MAX: Duration = Duration::from_secs(20);

/// Knows which nodes are ready, and hands each call to the next of them. One that takes no connection is passed over:
/// nothing was sent to it.
struct Balancer {
    client: Client,
    doors: RefCell<Vec<String>>,
    ready: RefCell<Vec<String>>,
    next: Cell<usize>,
    refused: RefCell<Vec<String>>,
    over: Cell<bool>,
}

impl Balancer {
    async fn look(&self) {
        while !self.over.get() {
            let doors = self.doors.borrow().clone();
            let look = async |door: &String| {
                let reply = self.client.get(format!("{door}/health/ready")).send().await;
                reply.is_ok_and(|reply| reply.status().is_success()).then(|| door.clone())
            };
            let ready = join_all(doors.iter().map(look)).await;
            *self.ready.borrow_mut() = ready.into_iter().flatten().collect();
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn call(&self, request: impl Fn(&str) -> RequestBuilder) -> Option<Response> {
        let ready = self.ready.borrow().clone();
        for _ in 0..ready.len() {
            self.next.set(self.next.get() + 1);
            let door = &ready[self.next.get() % ready.len()];
            match request(door).send().await {
                Ok(reply) if reply.status().is_success() => return Some(reply),
                Err(error) if error.is_connect() => {}
                Ok(reply) => {
                    self.refused.borrow_mut().push(format!("{} {}", reply.status(), reply.url()));
                    return None;
                }
                Err(error) => {
                    self.refused.borrow_mut().push(format!("{error:?}"));
                    return None;
                }
            }
        }
        self.refused.borrow_mut().push("no node takes a connection".to_owned());
        None
    }

    async fn is_ready(&self, node: &Node, url: &str) {
        node.until("the balancer sees it", async || self.ready.borrow().iter().any(|door| door == url)).await;
    }
}

struct Callers<'a> {
    balancer: &'a Balancer,
    server: &'a Server,
    key: &'a Key,
    calls: Cell<usize>,
    violations: Cell<usize>,
}

impl Callers<'_> {
    /// A token, asked about, revoked, asked about: each call wherever it falls.
    async fn go_on(&self) {
        while !self.balancer.over.get() {
            let Some(token) = self.token().await else { continue };
            let before = self.active(&token).await;
            let revoked = self
                .balancer
                .call(|url| {
                    // A node that has just started waits a whole lease before it trusts what it sees of the others.
                    let request = self.balancer.client.post(format!("{url}/oauth/revoke")).timeout(REVOKE_MAX);
                    request.basic_auth(&self.server.id, Some(&self.server.secret)).form(&[("token", &token)])
                })
                .await;
            let Some(reply) = revoked else { continue };
            let _ = reply.bytes().await;
            for _ in 0..4 {
                if self.active(&token).await == Some(true) {
                    self.violations.set(self.violations.get() + 1);
                }
            }
            self.calls.set(self.calls.get() + usize::from(before == Some(true)));
        }
    }

    async fn token(&self) -> Option<String> {
        let form = [("grant_type", "client_credentials"), ("resource", self.server.resource.as_str())];
        let reply = self.balancer.call(|url| {
            let request = self.balancer.client.post(format!("{url}/oauth/token"));
            request.basic_auth(&self.key.id, Some(&self.key.key)).form(&form)
        });
        let body: Value = reply.await?.json().await.ok()?;
        Some(text(&body, "access_token"))
    }

    async fn active(&self, token: &str) -> Option<bool> {
        let reply = self.balancer.call(|url| {
            let request = self.balancer.client.post(format!("{url}/oauth/introspect"));
            request.basic_auth(&self.server.id, Some(&self.server.secret)).form(&[("token", token)])
        });
        let body: Value = reply.await?.json().await.ok()?;
        Some(body["active"] == true)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_are_replaced_one_after_another_and_no_call_is_refused() {
    let _without = Without::these(&[]).await;
    let db = TestDb::new().await;
    // A longer lease than the other stories have: a busy machine must not be taken for a refusing one.
    db.execute("update settings set lease_ms = 5000, previous_lease_ms = 5000").await;
    // Not behind the balancer: it only makes what the story needs.
    let maker = Node::start(&db).await;
    let operator = maker.operator().await;
    let server = operator.server(&maker).await;
    let key = operator.key(&maker, &server, &["tools/call"]).await;
    let balancer = Balancer {
        client: client(),
        doors: RefCell::default(),
        ready: RefCell::default(),
        next: Cell::new(0),
        refused: RefCell::default(),
        over: Cell::new(false),
    };
    let mut nodes: Vec<Process> = (0..3).map(|_| Process::start(&db.options, &[])).collect();
    for node in &mut nodes {
        node.ready(&balancer.client).await;
        balancer.doors.borrow_mut().push(node.url.clone());
    }
    let callers =
        Callers { balancer: &balancer, server: &server, key: &key, calls: Cell::new(0), violations: Cell::new(0) };
    let replacing = async {
        for node in &mut nodes {
            let mut new = Process::start(&db.options, &[]);
            new.ready(&balancer.client).await;
            balancer.doors.borrow_mut().push(new.url.clone());
            balancer.is_ready(&maker, &new.url).await;
            let calls = callers.calls.get();
            let old = std::mem::replace(node, new);
            let url = old.url.clone();
            old.terminate().await;
            balancer.doors.borrow_mut().retain(|door| *door != url);
            maker.until("calls go on", async || callers.calls.get() > calls + 10).await;
        }
        balancer.over.set(true);
    };
    let ready = async {
        for url in nodes_urls(&balancer) {
            balancer.is_ready(&maker, &url).await;
        }
        tokio::join!(join_all((0..CALLERS).map(|_| callers.go_on())), replacing);
    };
    tokio::join!(balancer.look(), ready);
    println!("{} tokens issued, asked about, revoked and asked about again", callers.calls.get());
    assert!(balancer.refused.borrow().is_empty(), "{:?}", balancer.refused.borrow());
    assert_eq!(callers.violations.get(), 0);
}

fn nodes_urls(balancer: &Balancer) -> Vec<String> {
    balancer.doors.borrow().clone()
}
