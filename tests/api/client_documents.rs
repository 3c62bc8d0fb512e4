//! Clients that describe themselves: the documents of real ones, and addresses that must not be asked.

use std::io::ErrorKind;
use std::net::TcpListener;

use mcp_authority::clients::{ASSERTION_TYPE, Unresolved};
use mcp_authority::types::clock::BootInstant;
use reqwest::Method;
use serde_json::{Value, json};

use crate::clients::{asks, settle};
use crate::support::{Elsewhere, Reply, Signing, World, text};

/// The documents that clients in the field show, member by member, each at the path of its own on this machine.
fn real(elsewhere: &Elsewhere) -> Vec<(&'static str, Value)> {
    let of = |path: &'static str, members: Value| {
        let mut document = members;
        document["client_id"] = json!(elsewhere.url(path));
        (path, document)
    };
    vec![
        of(
            "/oauth/claude-code-client-metadata",
            json!({"client_name": "Claude Code", "redirect_uris": ["http://localhost/callback", "http://127.0.0.1/callback"], "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "none"}),
        ),
        of(
            "/oauth/mcp-oauth-client-metadata",
            json!({"client_name": "Claude", "client_uri": "https://claude.ai", "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"], "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer"], "response_types": ["code"], "token_endpoint_auth_method": "none"}),
        ),
        of(
            "/oauth/client.json",
            json!({"client_name": "ChatGPT", "redirect_uris": ["https://chatgpt.com/connector_platform_oauth_redirect"], "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "RS256", "jwks_uri": elsewhere.url("/oauth/jwks.json")}),
        ),
        of(
            "/oauth/7f3a/client.json",
            json!({"client_name": "ChatGPT", "redirect_uris": ["https://chatgpt.com/connector_platform_oauth_redirect"], "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"], "jwks_uri": elsewhere.url("/oauth/jwks.json")}),
        ),
        of(
            "/oauth/client-metadata.json",
            json!({"client_name": "Visual Studio Code", "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"], "response_types": ["code"], "redirect_uris": ["http://127.0.0.1:33418", "https://vscode.dev/redirect"], "token_endpoint_auth_method": "none", "application_type": "native"}),
        ),
        of(
            "/oauth/opencode/client.json",
            json!({"client_name": "opencode", "redirect_uris": ["http://127.0.0.1:19876/mcp/oauth/callback"], "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "none"}),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_of_real_clients_are_taken_and_each_authenticates_as_it_says() {
    let elsewhere = Elsewhere::start().await;
    let world = elsewhere.world().await;
    let node = &world.node;
    let key = Signing::new("RS256", "2026-11");
    elsewhere.put("/oauth/jwks.json", &Signing::set(&[&key]));
    for (path, document) in real(&elsewhere) {
        elsewhere.put(path, &document);
        let id = text(&document, "client_id");
        if document.get("jwks_uri").is_none() {
            asks(node, &[("client_id", &id)], None).await.authenticated();
            asks(node, &[("client_id", &id), ("client_secret", "x")], None).await.not_authenticated();
        } else {
            let now = node.app.live.now().seconds();
            let jti = uuid::Uuid::new_v4().to_string();
            let claims =
                json!({"iss": id, "sub": id, "aud": "http://localhost:8080/oauth", "exp": now + 300, "jti": jti});
            let assertion = key.jwt(&json!({"alg": "RS256", "kid": "2026-11"}), &claims);
            let form = [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion.as_str())];
            asks(node, &form, None).await.authenticated();
            asks(node, &[("client_id", &id)], None).await.not_authenticated();
        }
        assert_eq!(elsewhere.asked(path), 1, "{path}: a document is kept");
        let row = settle(&world, &id).await.expect("somebody agreed");
        let read = world.operator.get(node, &format!("/v1/clients/{row}")).await.ok();
        assert_eq!(
            (&read["kind"], &read["client_id"], &read["client_name"]),
            (&json!("document"), &json!(id), &document["client_name"])
        );
        assert_eq!(read["redirect_uris"], document["redirect_uris"]);
        assert_eq!(settle(&world, &id).await, Some(row.clone()), "one row, however many agree");
        for change in
            [json!({"client_name": "Mine"}), json!({"redirect_uris": ["https://evil.example"]}), json!({"grants": []})]
        {
            world.patch(&format!("/v1/clients/{row}"), change).await.refused(422, "immutable_field");
        }
    }
    let settled = world.operator.get(node, "/v1/audit?action=client.settled").await.ok();
    assert_eq!(settled["items"].as_array().unwrap().len(), 6);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_20_a_document_that_speaks_for_another_or_is_too_large_is_nobodys() {
    let elsewhere = Elsewhere::start().await;
    let world = elsewhere.world().await;
    let (id, other) = (elsewhere.url("/client.json"), elsewhere.url("/other.json"));
    let good = json!({"client_id": id, "client_name": "A", "redirect_uris": ["https://app.example/cb"]});
    for (index, changes) in [
        json!({"client_id": other}),
        json!({"client_id": id.to_uppercase()}),
        json!({"client_id": format!("{id}?")}),
        json!({"client_name": null}),
        json!({"redirect_uris": []}),
        json!({"client_secret": "x"}),
        json!({"token_endpoint_auth_method": "client_secret_basic"}),
        json!({"padding": "x".repeat(5_200)}),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{index}/client.json");
        let mut document = good.clone();
        document["client_id"] = json!(elsewhere.url(&path));
        for (name, value) in changes.as_object().unwrap() {
            document[name] = value.clone();
        }
        elsewhere.put(&path, &document);
        asks(&world.node, &[("client_id", &elsewhere.url(&path))], None).await.not_authenticated();
        asks(&world.node, &[("client_id", &elsewhere.url(&path))], None).await.not_authenticated();
        assert_eq!(elsewhere.asked(&path), 1, "{changes}: what is wrong is not asked for again at once");
    }
    elsewhere.put_status("/moved/client.json", 302, &id);
    elsewhere.put("/client.json", &good);
    asks(&world.node, &[("client_id", &elsewhere.url("/moved/client.json"))], None).await.not_authenticated();
    assert_eq!(elsewhere.asked("/client.json"), 0, "nothing is followed");
    asks(&world.node, &[("client_id", &id)], None).await.authenticated();
    elsewhere.put_status("/away/client.json", 503, &id);
    asks(&world.node, &[("client_id", &elsewhere.url("/away/client.json"))], None)
        .await
        .refused(503, "temporarily_unavailable");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_20_an_address_makes_us_fetch_a_bounded_number_of_documents() {
    let elsewhere = Elsewhere::start().await;
    let settings = elsewhere.settings();
    let mut settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    settings.push(("MCPA_TRUSTED_PROXIES", "127.0.0.1"));
    let world = World::with(&settings).await;
    let known = elsewhere.url("/known.json");
    elsewhere.put(
        "/known.json",
        &json!({"client_id": known, "client_name": "A", "redirect_uris": ["https://app.example/cb"]}),
    );
    let from = async |address: &str, id: &str| {
        let request = world.node.request(Method::POST, "/oauth/token").header("x-forwarded-for", address);
        let form = [("grant_type", "refresh_token"), ("refresh_token", "x"), ("client_id", id)];
        world.node.send(request.form(&form)).await
    };
    from("192.0.2.1", &known).await.authenticated();
    let mut refused = false;
    for index in 0..60 {
        let reply = from("192.0.2.1", &elsewhere.url(&format!("/{index}/none.json"))).await;
        if reply.status.as_u16() == 503 {
            refused = true;
            assert_eq!(elsewhere.asked(&format!("/{index}/none.json")), 0);
            break;
        }
    }
    assert!(refused, "not without end");
    from("192.0.2.1", &known).await.authenticated();
    let other = elsewhere.url("/other/none.json");
    from("192.0.2.2", &other).await.not_authenticated();
    assert_eq!(elsewhere.asked("/other/none.json"), 1, "others are not held up");
    world.node.stop().await;
}

/// Takes connections on every address of this machine, and counts them.
struct Trap(TcpListener);

impl Trap {
    fn set() -> Self {
        let listener = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn caught(&self) -> usize {
        let mut caught = 0;
        loop {
            match self.0.accept() {
                Ok(_) => caught += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return caught,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// It was not authenticated; or, for a name that nobody answers for, not now.
fn not_now(reply: Reply) {
    if reply.status.as_u16() == 503 {
        reply.refused(503, "temporarily_unavailable");
    } else {
        reply.not_authenticated();
    }
}

/// Hosts that are this machine, its networks or a cloud's own services, however they are written.
const INSIDE: [&str; 22] = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "a.localhost",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:0:0:1]",
    "0.0.0.0",
    "[::]",
    "169.254.169.254",
    "[fe80::1]",
    "[fd00::1]",
    "10.0.0.1",
    "192.168.1.1",
    "[64:ff9b::7f00:1]",
];

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_no_address_of_this_machine_is_asked_by_whatever_way_it_is_named() {
    let world = World::with(&[("MCPA_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let node = &world.node;
    let trap = Trap::set();
    let port = trap.0.local_addr().unwrap().port();
    let key = Signing::new("ES256", "k1");
    world.patch("/v1/settings", json!({"dynamic_registration": "on"})).await.enforced();
    for (index, host) in INSIDE.into_iter().enumerate() {
        // Each from its own address, so that no bound on an address stands before the guard.
        let from = format!("192.0.2.{index}");
        let send = async |path: &str, json: Option<&Value>, form: &[(&str, &str)]| {
            let request = node.request(Method::POST, path).header("x-forwarded-for", &from);
            node.send(match json {
                Some(body) => request.json(body),
                None => request.form(form),
            })
            .await
        };
        let body = json!({"redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": format!("https://{host}:{port}/jwks")});
        let registered = send("/oauth/register", Some(&body), &[]).await;
        assert_eq!(trap.caught(), 0, "{host}: nothing is fetched for a registration");
        if registered.status.as_u16() == 201 {
            let id = text(&registered.json, "client_id");
            let now = node.app.live.now().seconds();
            let claims =
                json!({"iss": id, "sub": id, "aud": "http://localhost:8080/oauth", "exp": now + 300, "jti": "1"});
            let assertion = key.jwt(&json!({"alg": "ES256"}), &claims);
            let form = [
                ("grant_type", "refresh_token"),
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", &assertion),
            ];
            not_now(send("/oauth/token", None, &form).await);
        }
        let client_id = format!("https://{host}:{port}/client.json");
        let form = [("grant_type", "refresh_token"), ("client_id", client_id.as_str())];
        not_now(send("/oauth/token", None, &form).await);
        let resolved = node.app.clients.resolve(&node.app.db, &client_id, BootInstant::now()).await;
        assert!(matches!(resolved, Err(Unresolved::Document(_))), "{host}: {resolved:?}");
        assert_eq!(trap.caught(), 0, "{host}: no socket was opened");
    }
    world.node.stop().await;
}
