//! Devices without a browser (RFC 8628): they ask, a person types their code somewhere else, and they get tokens once.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::browser::{Browser, SignIns, client, flow, leads_to};
use crate::support::dpop::{Prover, asked};
use crate::support::{Node, Reply, World, text};

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A scene, and a public client that may begin at a device.
struct Devices {
    scene: SignIns,
    client: String,
}

/// What a device was told.
struct Begun {
    device_code: String,
    user_code: String,
}

impl Devices {
    async fn new(permissions: &[&str]) -> Self {
        let scene = SignIns::at(World::new().await, permissions).await;
        let client = device_client(&scene.world).await;
        Self { scene, client }
    }

    fn node(&self) -> &Node {
        self.scene.node()
    }

    async fn ask(&self, client: &str, more: &[(&str, &str)]) -> Reply {
        let mut form = vec![("client_id", client), ("resource", &*self.scene.world.server.resource)];
        form.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        form.extend_from_slice(more);
        self.node().send(self.node().request(Method::POST, "/oauth/device_authorization").form(&form)).await
    }

    async fn begun(&self, more: &[(&str, &str)]) -> Begun {
        let told = self.ask(&self.client, more).await.ok();
        Begun { device_code: text(&told, "device_code"), user_code: text(&told, "user_code") }
    }

    async fn poll_as(&self, node: &Node, client: &str, begun: &Begun, more: &[(&str, &str)]) -> Reply {
        let mut form = vec![("grant_type", DEVICE), ("client_id", client), ("device_code", &*begun.device_code)];
        form.extend_from_slice(more);
        node.send(node.request(Method::POST, "/oauth/token").form(&form)).await
    }

    async fn poll(&self, begun: &Begun) -> Reply {
        self.poll_as(self.node(), &self.client, begun, &[]).await
    }

    /// Types a code; returns the reply.
    async fn types(&self, browser: &Browser, code: &str) -> Reply {
        browser.submit(self.node(), "/oauth/device", &[("user_code", code)]).await
    }

    /// The person types the code, agrees and signs in; returns the last page.
    async fn connects(&self, browser: &Browser, begun: &Begun) -> Reply {
        let page = leads_to(&self.types(browser, &begun.user_code).await);
        let approved = self.scene.approve(browser, &page).await;
        let ways = leads_to(&approved);
        if ways.starts_with("/oauth/sign-in/") {
            self.scene.demo(browser, &ways).await
        } else {
            browser.follow(self.node(), approved).await
        }
    }
}

async fn device_client(world: &World) -> String {
    client(world, json!({"client_name": "Television", "grant_types": ["authorization_code", "refresh_token", DEVICE]}))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_shows_a_code_a_person_agrees_elsewhere_and_the_device_gets_tokens_once() {
    let devices = Devices::new(&["tools/call", "tools/list"]).await;
    let reply = devices.ask(&devices.client, &[("scope", "tools/list offline_access")]).await;
    assert_eq!(reply.headers["cache-control"], "no-store");
    let told = reply.ok();
    assert_eq!((&told["expires_in"], &told["interval"]), (&json!(600), &json!(5)));
    let uri = text(&told, "verification_uri");
    assert!(uri.ends_with("/oauth/device"), "{uri}");
    let begun = Begun { device_code: text(&told, "device_code"), user_code: text(&told, "user_code") };
    assert_eq!(text(&told, "verification_uri_complete"), format!("{uri}?user_code={}", begun.user_code));
    let stored =
        format!("select count(*) from device_authorizations where device_code::text like '%{}%'", begun.device_code);
    assert_eq!(devices.scene.world.db.count(&stored).await, 0, "only its digest is kept");
    devices.poll(&begun).await.refused(400, "authorization_pending");
    let browser = Browser::default();
    let path = format!("/oauth/device?user_code={}", begun.user_code.to_lowercase());
    let first = browser.get(devices.node(), &path).await.expect_status(200);
    assert!(first.text.contains(&format!("value=\"{}\"", begun.user_code)), "the code is in the field");
    assert!(
        first.headers.get("refresh").is_none() && !first.text.contains("<script"),
        "and nothing sends it by itself"
    );
    let page = leads_to(&devices.types(&browser, &begun.user_code.to_lowercase().replace('-', " ")).await);
    let shown = browser.get(devices.node(), &page).await.expect_status(200);
    for said in ["Television", &begun.user_code, "If somebody sent you this code", "See which tools there are."] {
        assert!(shown.text.contains(said), "{said}: {}", shown.text);
    }
    let states = || devices.scene.world.db.count("select count(state) from authorization_requests");
    assert_eq!(states().await, 0, "nothing goes to a provider before the person agreed");
    let ways = leads_to(&devices.scene.approve(&browser, &page).await);
    let done = devices.scene.demo(&browser, &ways).await;
    assert!(done.text.contains("You can go back to your device."), "{}", done.text);
    let tokens = devices.poll(&begun).await.ok();
    assert_eq!(tokens["scope"], "tools/list");
    let access = text(&tokens, "access_token");
    let said = devices.scene.world.server.introspect(devices.node(), &access).await;
    assert_eq!((&said["client_id"], &said["username"]), (&json!(devices.client), &json!("demo")));
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", &*devices.client),
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
    ];
    devices.node().send(devices.node().request(Method::POST, "/oauth/token").form(&form)).await.ok();
    let steps: Vec<String> = devices.scene.steps(&flow(&page)).await.into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, ["request", "device", "consent", "provider", "sign_in", "consent", "code", "token"]);
    // Shown again, two have it: what came of it ends.
    devices.poll(&begun).await.refused(400, "invalid_grant");
    assert!(!devices.scene.world.accepts(&access).await);
    devices.scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_shows_a_proof_gets_tokens_that_are_bound_to_its_key() {
    let devices = Devices::new(&["tools/call"]).await;
    let (node, prover) = (devices.node(), Prover::new());
    let begun = devices.begun(&[]).await;
    devices.connects(&Browser::default(), &begun).await;
    let form = [("grant_type", DEVICE), ("client_id", &*devices.client), ("device_code", &*begun.device_code)];
    let tokens = asked(node, &[&prover.proof(node)], &form).await.ok();
    assert_eq!(tokens["token_type"], "DPoP");
    let told = devices.scene.world.server.introspect(node, &text(&tokens, "access_token")).await;
    assert_eq!(told["cnf"], json!({"jkt": prover.jkt()}));
    let refresh_token = text(&tokens, "refresh_token");
    let form = [("grant_type", "refresh_token"), ("client_id", &*devices.client), ("refresh_token", &*refresh_token)];
    asked(node, &[], &form).await.refused(400, "invalid_dpop_proof");
    asked(node, &[&prover.proof(node)], &form).await.ok();
    devices.scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_says_no_and_one_who_takes_too_long_end_it() {
    let devices = Devices::new(&["tools/call"]).await;
    let browser = Browser::default();
    let (no, late, agreed_late) = (devices.begun(&[]).await, devices.begun(&[]).await, devices.begun(&[]).await);
    let page = leads_to(&devices.types(&browser, &no.user_code).await);
    let told = browser.submit(devices.node(), &page, &[("decision", "deny")]).await.expect_status(400);
    assert!(told.text.contains("the person said no"), "{}", told.text);
    let other = leads_to(&devices.types(&browser, &agreed_late.user_code).await);
    devices.poll(&no).await.refused(400, "access_denied");
    devices.types(&browser, &no.user_code).await.expect_status(400);
    devices.scene.world.advance(601).await;
    devices.poll(&late).await.refused(400, "expired_token");
    devices.types(&browser, &late.user_code).await.expect_status(400);
    devices.scene.approve(&browser, &other).await.expect_status(400);
    devices.poll(&agreed_late).await.refused(400, "expired_token");
    let expire = async || mcp_authority::jobs::run_all(&devices.node().app).await.expect("they run");
    expire().await;
    let left = || devices.scene.world.db.count("select count(*) from device_authorizations");
    assert_eq!(left().await, 3, "for a day a code is known");
    devices.scene.world.advance(86_400).await;
    expire().await;
    assert_eq!(left().await, 0);
    devices.poll(&late).await.refused(400, "invalid_grant");
    devices.scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_asks_too_often_must_wait_five_seconds_more_each_time() {
    let devices = Devices::new(&["tools/call"]).await;
    let other = Node::start(&devices.scene.world.db).await;
    let begun = devices.begun(&[]).await;
    devices.poll(&begun).await.refused(400, "authorization_pending");
    devices.poll_as(&other, &devices.client, &begun, &[]).await.refused(400, "slow_down");
    devices.scene.world.advance(6).await;
    devices.poll(&begun).await.refused(400, "slow_down");
    devices.scene.world.advance(16).await;
    devices.poll(&begun).await.refused(400, "authorization_pending");
    let pace = || devices.scene.world.db.count("select pace::bigint from device_authorizations");
    assert_eq!(pace().await, 15, "kept for all nodes");
    for _ in 0..20 {
        devices.poll(&begun).await.refused(400, "slow_down");
    }
    assert_eq!(pace().await, 60, "and there is an end to it");
    // Once the person agreed the answer does not wait.
    devices.connects(&Browser::default(), &begun).await.expect_status(200);
    devices.poll_as(&other, &devices.client, &begun, &[]).await.ok();
    other.stop().await;
    devices.scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_9_a_device_code_shown_by_another_client_is_good_for_nobody() {
    let devices = Devices::new(&["tools/call"]).await;
    let browser = Browser::default();
    let other = device_client(&devices.scene.world).await;
    let begun = devices.begun(&[]).await;
    devices.poll_as(devices.node(), &other, &begun, &[]).await.refused(400, "invalid_grant");
    devices.types(&browser, &begun.user_code).await.expect_status(400);
    devices.poll(&begun).await.refused(400, "access_denied");
    let begun = devices.begun(&[]).await;
    devices.connects(&browser, &begun).await.expect_status(200);
    devices.poll_as(devices.node(), &other, &begun, &[]).await.refused(400, "invalid_grant");
    devices.poll(&begun).await.refused(400, "access_denied");
    let begun = devices.begun(&[]).await;
    devices.connects(&browser, &begun).await.expect_status(200);
    let access = text(&devices.poll(&begun).await.ok(), "access_token");
    devices.poll_as(devices.node(), &other, &begun, &[]).await.refused(400, "invalid_grant");
    assert!(!devices.scene.world.accepts(&access).await, "what had come of it ends too");
    devices.scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_code_is_redeemed_once_however_many_ask_at_once_on_whatever_node() {
    let devices = Devices::new(&["tools/call"]).await;
    let other = Node::start(&devices.scene.world.db).await;
    let begun = devices.begun(&[]).await;
    devices.connects(&Browser::default(), &begun).await.expect_status(200);
    let nodes = [devices.node(), &other];
    let all = (0..10).map(|n| devices.poll_as(nodes[n % 2], &devices.client, &begun, &[]));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().filter(|reply| reply.status == 200).count() <= 1);
    assert!(all.iter().all(|reply| matches!(reply.status.as_u16(), 200 | 400 | 503)));
    other.stop().await;
    devices.scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_24_a_device_gets_no_more_than_was_asked_for_agreed_to_and_held() {
    let devices = Devices::new(&["tools/call:read_*", "tools/list"]).await;
    let browser = Browser::default();
    let begun = devices.begun(&[("scope", "tools/call tools/list prompts/list")]).await;
    devices.connects(&browser, &begun).await.expect_status(200);
    devices
        .poll_as(devices.node(), &devices.client, &begun, &[("scope", "prompts/list")])
        .await
        .refused(400, "invalid_scope");
    let other = devices.scene.world.operator.server(devices.node()).await;
    let elsewhere = [("resource", other.resource.as_str())];
    devices.poll_as(devices.node(), &devices.client, &begun, &elsewhere).await.refused(400, "invalid_target");
    let tokens = devices.poll_as(devices.node(), &devices.client, &begun, &[("scope", "*")]).await.ok();
    assert_eq!(tokens["scope"], "tools/call:read_* tools/list", "of everything, what the roles give");
    let begun = devices.begun(&[("scope", "tools/list")]).await;
    devices.connects(&browser, &begun).await.expect_status(200);
    let tokens = devices.poll_as(devices.node(), &devices.client, &begun, &[("scope", "*")]).await.ok();
    assert_eq!(tokens["scope"], "tools/list", "of what was agreed to before, what this device asked for");
    // What an operator bound the client to holds here too.
    let bound = json!({"grant_types": ["authorization_code", DEVICE], "scope": "tools/list"});
    let bound = client(&devices.scene.world, bound).await;
    devices.ask(&bound, &[("scope", "tools/call:read_a")]).await.refused(400, "invalid_scope");
    devices.scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_that_have_the_grant_begin_and_what_is_wrong_is_told_as_elsewhere() {
    let devices = Devices::new(&["tools/call"]).await;
    let refused = async |client: &str, more: &[(&str, &str)], code: &str| {
        devices.ask(client, more).await.refused(400, code);
    };
    refused(&devices.scene.client, &[], "unauthorized_client").await;
    refused(&devices.client, &[("resource", "https://unknown.example.com")], "invalid_target").await;
    refused(&devices.client, &[("scope", "no such scope!")], "invalid_scope").await;
    refused(&devices.client, &[("scope", "tools/list"), ("scope", "tools/call")], "invalid_request").await;
    devices.ask("cli_00000000000000000000000000000000", &[]).await.refused(401, "invalid_client");
    let metadata = devices.node().request(Method::GET, "/.well-known/oauth-authorization-server/oauth");
    let metadata = devices.node().send(metadata).await.ok();
    assert!(text(&metadata, "device_authorization_endpoint").ends_with("/oauth/device_authorization"));
    assert!(metadata["grant_types_supported"].as_array().unwrap().contains(&json!(DEVICE)));
    let confidential =
        json!({"token_endpoint_auth_method": "client_secret_basic", "grant_types": [DEVICE], "client_name": "Box"});
    let made = devices.scene.world.post("/v1/clients", confidential).await.created();
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    refused_without_secret(&devices, &id).await;
    let form = [("resource", &*devices.scene.world.server.resource)];
    let asked = devices.node().request(Method::POST, "/oauth/device_authorization").basic_auth(&id, Some(&secret));
    devices.node().send(asked.form(&form)).await.ok();
    let flows = devices.scene.world.operator.get(devices.node(), "/v1/flows?result=refused").await.ok();
    assert_eq!(flows["items"].as_array().unwrap().len(), 3, "each refusal of a known client is a flow: {flows}");
    devices.scene.world.node.stop().await;
}

async fn refused_without_secret(devices: &Devices, id: &str) {
    devices.ask(id, &[]).await.refused(401, "invalid_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_registers_itself_may_begin_at_a_device_only_where_anybody_may_register() {
    let devices = Devices::new(&["tools/call"]).await;
    let body = json!({"client_name": "TV", "redirect_uris": ["http://127.0.0.1/callback"], "token_endpoint_auth_method": "none",
                      "grant_types": ["authorization_code", DEVICE]});
    let register = async |body: &Value| {
        devices.node().send(devices.node().request(Method::POST, "/oauth/register").json(body)).await
    };
    let made = register(&body).await.created();
    assert_eq!(made["grant_types"], json!(["authorization_code"]), "who asked may be on any machine");
    devices.ask(&text(&made, "client_id"), &[]).await.refused(400, "unauthorized_client");
    devices.scene.world.patch("/v1/settings", json!({"dynamic_registration": "on"})).await.ok();
    let made = register(&body).await.created();
    devices.ask(&text(&made, "client_id"), &[]).await.ok();
    let alone = json!({"client_name": "TV", "grant_types": [DEVICE], "token_endpoint_auth_method": "none"});
    let made = register(&alone).await.created();
    devices.ask(&text(&made, "client_id"), &[]).await.ok();
    devices.scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_codes_learns_nothing_and_is_stopped() {
    let devices = Devices::new(&["tools/call"]).await;
    let browser = Browser::default();
    let (used, live) = (devices.begun(&[]).await, devices.begun(&[]).await);
    devices.connects(&browser, &used).await.expect_status(200);
    devices.poll(&used).await.ok();
    // One that was used, one that never was, and one that cannot be: the same page but for what was typed.
    let page = async |code: &str| {
        let reply = devices.types(&Browser::default(), code).await.expect_status(400);
        reply.text.replace(code, "")
    };
    let pages = BTreeSet::from([page(&used.user_code).await, page("BCDF-GHJK").await, page("nonsense").await]);
    assert_eq!(pages.len(), 1);
    let (_, foreign) = (leads_to(&devices.types(&browser, &live.user_code).await), Browser::default());
    let from = devices.node().request(Method::POST, "/oauth/device").header("sec-fetch-site", "cross-site");
    foreign.send(devices.node(), from.form(&[("user_code", &live.user_code)])).await.expect_status(403);
    // Ten times, and it is good for nobody.
    devices.scene.world.db.execute("update device_authorizations set tries = 10 where state = 'pending'").await;
    devices.types(&Browser::default(), &live.user_code).await.expect_status(400);
    let mut refused = 0;
    for _ in 0..60 {
        let reply = devices.types(&Browser::default(), "BCDF-GHJK").await;
        refused += usize::from(reply.status == 429);
    }
    assert!(refused >= 25, "{refused}");
    let live = devices.begun(&[]).await;
    devices.types(&browser, &live.user_code).await.expect_status(429);
    devices.scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_that_wait_are_bounded_and_a_code_belongs_to_who_typed_it_last() {
    let devices = Devices::new(&["tools/call"]).await;
    let (first, second) = (Browser::default(), Browser::default());
    let begun = devices.begun(&[]).await;
    let page = leads_to(&devices.types(&first, &begun.user_code).await);
    assert_eq!(leads_to(&devices.types(&second, &begun.user_code).await), page);
    devices.scene.approve(&first, &page).await.expect_status(400);
    let approved = devices.scene.approve(&second, &page).await;
    devices.scene.demo(&second, &leads_to(&approved)).await.expect_status(200);
    devices.poll(&begun).await.ok();
    devices
        .scene
        .world
        .db
        .execute(
            "insert into device_authorizations (flow_id, device_code, user_code, client_id, request, address, pace, expires_at)
             select 'f' || n, sha256(n::text::bytea), translate(lpad(n::text, 8, '0'), '0123456789', 'BCDFGHJKLM'), 'other', '{}', '127.0.0.1', 5,
                    authority_now() + interval '10 minutes' from generate_series(1, 49) n",
        )
        .await;
    devices.begun(&[]).await;
    let full = devices.ask(&devices.client, &[]).await;
    assert!(full.headers.contains_key("retry-after"));
    full.refused(429, "temporarily_unavailable");
    devices.scene.world.db.execute("update device_authorizations set state = 'denied' where state = 'pending'").await;
    devices.ask(&devices.client, &[]).await.refused(429, "temporarily_unavailable");
    devices.scene.world.db.execute("update device_authorizations set state = 'redeemed' where state = 'denied'").await;
    devices.begun(&[]).await;
    devices.scene.world.node.stop().await;
}
