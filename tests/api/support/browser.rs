//! A person's browser: it keeps cookies, follows redirects among our own pages, and says where a form comes from.

use std::collections::BTreeMap;
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcp_authority::types::opaque;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use url::Url;

use super::node::PUBLIC_URL;
use super::{Node, Reply, Server, World};

/// More redirects than this are a loop.
const REDIRECTS_MAX: usize = 10;
/// A client's page on the web.
pub const WEB: &str = "https://app.example.com/callback";

/// A browser with its cookies.
#[derive(Debug, Default)]
pub struct Browser {
    cookies: Mutex<BTreeMap<String, String>>,
}

impl Browser {
    pub async fn get(&self, node: &Node, path: &str) -> Reply {
        self.send(node, node.request(Method::GET, path)).await
    }

    /// Sends a form from one of our own pages.
    pub async fn submit(&self, node: &Node, path: &str, form: &[(&str, &str)]) -> Reply {
        let request = node.request(Method::POST, path).header("sec-fetch-site", "same-origin").form(form);
        self.send(node, request).await
    }

    /// Sends a request with the cookies, and keeps those that come.
    pub async fn send(&self, node: &Node, request: RequestBuilder) -> Reply {
        let cookies = self.cookies();
        let request = if cookies.is_empty() { request } else { request.header("cookie", cookies) };
        let reply = node.send(request).await;
        for line in reply.headers.get_all("set-cookie") {
            let line = line.to_str().expect("text");
            let (name, value) = line.split(';').next().and_then(|pair| pair.split_once('=')).expect("a pair");
            self.cookies.lock().expect("a jar").insert(name.to_owned(), value.to_owned());
        }
        reply
    }

    /// Follows redirects for as long as they lead to our own pages.
    pub async fn follow(&self, node: &Node, mut reply: Reply) -> Reply {
        for _ in 0..REDIRECTS_MAX {
            let Some(path) = own_path(&reply) else { return reply };
            reply = self.get(node, &path).await;
        }
        panic!("a loop: {reply:?}");
    }

    /// The cookie line.
    pub fn cookies(&self) -> String {
        let jar = self.cookies.lock().expect("a jar");
        jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.lock().expect("a jar").get(name).cloned()
    }

    pub fn set(&self, name: &str, value: &str) {
        self.cookies.lock().expect("a jar").insert(name.to_owned(), value.to_owned());
    }
}

/// Where a redirect leads, if to one of our own pages.
fn own_path(reply: &Reply) -> Option<String> {
    let to = reply.headers.get("location")?.to_str().expect("text");
    assert_eq!(reply.status.as_u16(), 303, "only with GET: {to}");
    let path = to.strip_prefix(PUBLIC_URL).unwrap_or(to);
    path.starts_with('/').then(|| path.to_owned())
}

/// The path of the page that a reply leads to.
pub fn leads_to(reply: &Reply) -> String {
    own_path(reply).unwrap_or_else(|| panic!("it leads to no page of ours: {} {}", reply.status, reply.text))
}

/// The query of an answer that goes to a client.
pub fn answer(reply: &Reply) -> BTreeMap<String, String> {
    assert_eq!(reply.status.as_u16(), 303, "{}", reply.text);
    let to = reply.headers["location"].to_str().expect("text");
    let url = Url::parse(to).unwrap_or_else(|_| panic!("it does not go to a client: {to}"));
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let answer: BTreeMap<String, String> = pairs.iter().cloned().collect();
    assert_eq!(answer.len(), pairs.len(), "each once: {to}");
    answer
}

/// The code of an answer.
pub fn code(reply: &Reply) -> String {
    let answer = answer(reply);
    answer.get("code").cloned().unwrap_or_else(|| panic!("no code: {answer:?}"))
}

/// An answer that is an error: with this code, its `state`, and who says so.
pub fn error(reply: &Reply, expected: &str) -> BTreeMap<String, String> {
    let answer = answer(reply);
    assert_eq!(answer.get("error").map(String::as_str), Some(expected), "{answer:?}");
    assert_eq!(answer["iss"], format!("{PUBLIC_URL}/oauth"));
    assert!(answer["error_description"].contains("flw_"), "{answer:?}");
    answer
}

/// What a client asks with.
#[derive(Clone, Debug)]
pub struct Asked {
    pub parameters: Vec<(String, String)>,
    pub verifier: String,
}

impl Asked {
    pub fn new(client: &str, redirect_uri: &str, server: &Server) -> Self {
        let verifier = opaque::random().reveal().clone();
        let challenge = URL_SAFE_NO_PAD.encode(opaque::sha256(&verifier));
        let parameters = [
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", redirect_uri),
            ("state", "the-state"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("resource", &server.resource),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { parameters, verifier }
    }

    /// With another value, or one more parameter.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self.and(name, value)
    }

    /// With one more parameter, although it is there.
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self
    }

    pub fn path(&self) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.parameters).finish();
        format!("/oauth/authorize?{query}")
    }
}

/// A world with the demo provider, whose user has a role, and a client on the web.
pub struct SignIns {
    pub world: World,
    pub provider: String,
    pub role: String,
    pub client: String,
}

impl SignIns {
    /// The role gives these permissions on the world's server.
    pub async fn new(permissions: &[&str]) -> Self {
        Self::at(World::new().await, permissions).await
    }

    pub async fn at(world: World, permissions: &[&str]) -> Self {
        let grants = json!([{"server_id": world.server.id, "permissions": permissions}]);
        let role = super::text(&world.post("/v1/roles", json!({"name": "r", "grants": grants})).await.created(), "id");
        let rules = json!([{"claim": "sub", "role_id": role}]);
        let demo = json!({"name": "demo", "title": "Demo", "kind": "demo", "rules": rules});
        let provider = super::text(&world.post("/v1/providers", demo).await.created(), "id");
        let client = client(&world, json!({})).await;
        Self { world, provider, role, client }
    }

    pub fn node(&self) -> &Node {
        &self.world.node
    }

    /// What the client asks with.
    pub fn asked(&self) -> Asked {
        Asked::new(&self.client, WEB, &self.world.server)
    }

    /// Opens the page that asks, and returns its path and itself.
    pub async fn opened(&self, browser: &Browser, asked: &Asked) -> (String, Reply) {
        let began = browser.get(self.node(), &asked.path()).await;
        let path = leads_to(&began);
        assert!(path.starts_with("/oauth/authorize/flw_"), "{path}");
        (path.clone(), browser.get(self.node(), &path).await.expect_status(200))
    }

    /// Agrees on the page that asks.
    pub async fn approve(&self, browser: &Browser, page: &str) -> Reply {
        browser.submit(self.node(), page, &[("decision", "approve")]).await
    }

    /// Signs in as the demo user, from the page that lists the ways. Returns the answer to the client.
    pub async fn demo(&self, browser: &Browser, ways: &str) -> Reply {
        let page = browser.get(self.node(), ways).await.expect_status(200);
        let refresh = page.headers["refresh"].to_str().expect("text").to_owned();
        let way = refresh.strip_prefix("0; url=").expect("a way");
        assert!(page.text.contains(&format!("href=\"{way}\"")), "and a link for whoever does not go by itself");
        browser.get(self.node(), way).await.expect_status(200);
        let gone = browser.submit(self.node(), way, &[]).await;
        browser.follow(self.node(), gone).await
    }

    /// All of it: what the client gets in the end.
    pub async fn whole(&self, browser: &Browser, asked: &Asked) -> Reply {
        let (page, _) = self.opened(browser, asked).await;
        let approved = self.approve(browser, &page).await;
        let ways = leads_to(&approved);
        assert!(ways.starts_with("/oauth/sign-in/flw_"), "{ways}");
        self.demo(browser, &ways).await
    }

    /// Redeems a code.
    pub async fn redeem(&self, asked: &Asked, code: &str) -> Reply {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", &self.client),
            ("code", code),
            ("code_verifier", &asked.verifier),
            ("redirect_uri", WEB),
        ];
        self.node().send(self.node().request(Method::POST, "/oauth/token").form(&form)).await
    }

    /// The steps of a flow: stage and code, in order.
    pub async fn steps(&self, flow: &str) -> Vec<(String, Option<String>)> {
        use sqlx::{AssertSqlSafe, Executor, Row};
        let sql = format!("select step, code from flow_steps where flow_id = '{flow}' order by number");
        let rows = self.world.db.connection().await.fetch_all(AssertSqlSafe(sql)).await.expect("the steps");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

/// A public client that an operator registered, on the web unless `more` says otherwise.
pub async fn client(world: &World, more: Value) -> String {
    let mut body = json!({"client_name": "Editor", "redirect_uris": [WEB], "token_endpoint_auth_method": "none",
                          "grant_types": ["authorization_code", "refresh_token"]});
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    super::text(&world.post("/v1/clients", body).await.created(), "client_id")
}

/// The id of a flow, from the path of one of its pages.
pub fn flow(path: &str) -> String {
    path.split('/').find(|part| part.starts_with("flw_")).unwrap_or_else(|| panic!("no flow in {path}")).to_owned()
}
