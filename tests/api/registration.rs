//! Dynamic registration: what real clients send, what is refused, what is bounded, and what is forgotten.

use mcp_authority::clients::UNUSED_MAX;
use mcp_authority::jobs;
use reqwest::Method;
use serde_json::{Value, json};

use crate::clients::{asks, settle};
use crate::support::jwt::{assert_members, has_null};
use crate::support::{Node, Reply, World, text};

async fn register(node: &Node, body: &Value) -> Reply {
    node.send(node.request(Method::POST, "/oauth/register").json(body)).await
}

fn native() -> Value {
    json!({"client_name": "App", "redirect_uris": ["http://127.0.0.1/callback"], "token_endpoint_auth_method": "none"})
}

async fn allow(world: &World, who: &str) {
    world.patch("/v1/settings", json!({"dynamic_registration": who})).await.enforced();
}

/// What the SDKs of MCP send, member by member.
fn of_sdks() -> [(&'static str, Value); 4] {
    let python = json!({"client_name": "Python", "redirect_uris": ["http://localhost:3030/callback"], "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "scope": "notes:read", "token_endpoint_auth_method": "client_secret_post", "application_type": "native"});
    let typescript = json!({"client_name": "TypeScript", "redirect_uris": ["http://localhost:8090/callback"], "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "client_secret_basic", "contacts": [], "software_id": "x", "software_version": "1"});
    let rust = json!({"client_name": "rmcp", "redirect_uris": ["http://127.0.0.1:9999/callback"], "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "none", "response_types": ["code"], "application_type": "native"});
    let device = json!({"client_name": "CLI", "redirect_uris": ["http://[::1]/cb"], "grant_types": ["authorization_code", "urn:ietf:params:oauth:grant-type:jwt-bearer", "client_credentials"], "token_endpoint_auth_method": "none"});
    [("mcp", python), ("sdk", typescript), ("rmcp", rust), ("more than it may", device)]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sdks_send_is_registered_and_the_reply_has_what_they_read() {
    let world = World::new().await;
    for (who, body) in of_sdks() {
        let reply = register(&world.node, &body).await;
        assert_eq!(reply.headers["cache-control"], "no-store");
        let made = reply.created();
        assert!(!has_null(&made), "{who}: {made}");
        for echoed in ["client_name", "redirect_uris", "token_endpoint_auth_method"] {
            assert_eq!(made[echoed], body[echoed], "{who}: {echoed}");
        }
        assert_eq!(made.get("application_type"), body.get("application_type"), "{who}");
        assert_eq!(made["response_types"], json!(["code"]), "{who}");
        let refreshes = body["grant_types"].as_array().unwrap().contains(&json!("refresh_token"));
        let grants =
            if refreshes { json!(["authorization_code", "refresh_token"]) } else { json!(["authorization_code"]) };
        assert_eq!(made["grant_types"], grants, "{who}: what a stranger may have");
        let now = world.now();
        assert!((now - 60..=now + 1).contains(&made["client_id_issued_at"].as_i64().unwrap()), "{made}");
        let id = text(&made, "client_id");
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "nothing in it must be encoded");
        let public = body["token_endpoint_auth_method"] == "none";
        assert_eq!(made.get("client_secret").is_none(), public, "{made}");
        assert_eq!(made.get("client_secret_expires_at"), (!public).then_some(&json!(0)), "{made}");
        match (&body["token_endpoint_auth_method"], made["client_secret"].as_str()) {
            (method, Some(secret)) if method == "client_secret_post" => {
                asks(&world.node, &[("client_id", &id), ("client_secret", secret)], None).await.authenticated();
            }
            (_, Some(secret)) => asks(&world.node, &[], Some((&id, secret))).await.authenticated(),
            (_, None) => asks(&world.node, &[("client_id", &id)], None).await.authenticated(),
        }
    }
    let bare = register(&world.node, &json!({"redirect_uris": ["http://localhost/cb"]})).await.created();
    let members = [
        "client_id",
        "client_id_issued_at",
        "client_secret",
        "client_secret_expires_at",
        "redirect_uris",
        "grant_types",
        "response_types",
        "token_endpoint_auth_method",
    ];
    assert_members(&bare, &members);
    assert_eq!(bare["token_endpoint_auth_method"], "client_secret_basic", "RFC 7591 §2");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_registered_is_refused_by_its_code() {
    let world = World::new().await;
    allow(&world, "on").await;
    for (members, code) in [
        (json!({"redirect_uris": null}), "invalid_redirect_uri"),
        (json!({"redirect_uris": []}), "invalid_redirect_uri"),
        (json!({"redirect_uris": ["http://app.example/cb"]}), "invalid_redirect_uri"),
        (json!({"redirect_uris": ["javascript:alert(1)"]}), "invalid_redirect_uri"),
        (json!({"redirect_uris": ["https://app.example/cb#x"]}), "invalid_redirect_uri"),
        (json!({"redirect_uris": ["https://app.example@evil.example/cb"]}), "invalid_redirect_uri"),
        (json!({"redirect_uris": ["http://localhost/cb"], "application_type": "web"}), "invalid_redirect_uri"),
        (json!({"redirect_uris": ["https://localhost/cb"], "application_type": "web"}), "invalid_redirect_uri"),
        (json!({"redirect_uris": ["com.example.app:/cb"], "application_type": "web"}), "invalid_redirect_uri"),
        (json!({"application_type": "desktop"}), "invalid_client_metadata"),
        (json!({"redirect_uris": "http://localhost/cb"}), "invalid_redirect_uri"),
        (json!({"client_name": "\u{202e}"}), "invalid_client_metadata"),
        (json!({"grant_types": ["client_credentials"]}), "invalid_client_metadata"),
        (json!({"grant_types": ["implicit"]}), "invalid_client_metadata"),
        (json!({"token_endpoint_auth_method": "client_secret_jwt"}), "invalid_client_metadata"),
        (json!({"token_endpoint_auth_method": "private_key_jwt"}), "invalid_client_metadata"),
        (json!({"jwks": {"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}]}}), "invalid_client_metadata"),
        (json!({"jwks": {"keys": [{"kty": "RSA", "x": "\u{0}"}]}}), "invalid_client_metadata"),
        (json!({"jwks_uri": "file:///etc/passwd"}), "invalid_client_metadata"),
    ] {
        let mut body = native();
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        let refused = register(&world.node, &body).await.refused(400, code);
        let says = text(&refused, "error_description");
        assert!(
            says.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\'),
            "RFC 6749 §5.2: {says}"
        );
    }
    let send = async |kind: &str, body: Vec<u8>| {
        let request = world.node.request(Method::POST, "/oauth/register").header("content-type", kind);
        world.node.send(request.body(body)).await
    };
    send("application/json", b"[]".to_vec()).await.refused(400, "invalid_client_metadata");
    send("application/json", b"{\"redirect_uris\":".to_vec()).await.refused(400, "invalid_client_metadata");
    send("application/json", b"\xff".to_vec()).await.refused(400, "invalid_client_metadata");
    send("text/plain", b"{}".to_vec()).await.refused(415, "invalid_request");
    for bytes in [65 * 1024, 300 * 1024] {
        send("application/json", vec![b' '; bytes]).await.refused(413, "invalid_request");
    }
    assert_eq!(world.operator.get(&world.node, "/v1/clients").await.ok(), json!({"items": []}));
    let recorded = async || {
        let page = world.operator.get(&world.node, "/v1/audit?action=client.registration_refused").await.ok();
        page["items"].as_array().unwrap().len()
    };
    world.node.until("attack 28: each refusal is recorded", async || recorded().await >= 19).await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_register_is_a_setting_and_unless_it_is_changed_no_code_goes_to_a_strangers_host() {
    let world = World::new().await;
    let with = |uris: &[&str]| json!({"redirect_uris": uris, "token_endpoint_auth_method": "none"});
    let here = with(&["http://localhost/cb", "http://127.0.0.1:1/cb", "http://[::1]/cb"]);
    let scheme = with(&["com.example.app:/cb"]);
    let remote = with(&["https://evil.example/cb"]);
    let mixed = with(&["http://localhost/cb", "https://evil.example/cb"]);
    assert_eq!(world.operator.get(&world.node, "/v1/settings").await.ok()["dynamic_registration"], "loopback");
    register(&world.node, &here).await.created();
    for body in [&scheme, &remote, &mixed] {
        register(&world.node, body).await.refused(400, "invalid_redirect_uri");
    }
    allow(&world, "on").await;
    for body in [&here, &scheme, &remote, &mixed] {
        register(&world.node, body).await.created();
    }
    allow(&world, "off").await;
    register(&world.node, &here).await.refused(403, "access_denied");
    world.patch("/v1/settings", json!({"dynamic_registration": "maybe"})).await.refused(422, "invalid_fields");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_registers_a_bounded_number_and_others_are_not_held_up() {
    let world = World::with(&[("MCPA_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let from = async |address: &str| {
        let request = world.node.request(Method::POST, "/oauth/register").header("x-forwarded-for", address);
        world.node.send(request.json(&native())).await
    };
    let mut refused = None;
    for _ in 0..100 {
        let reply = from("192.0.2.1").await;
        if reply.status.as_u16() != 201 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("not without end");
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() <= 60);
    refused.refused(429, "temporarily_unavailable");
    from("192.0.2.2").await.created();
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_nobody_agrees_to_are_bounded_and_forgotten_and_others_never_are() {
    let world = World::new().await;
    let make = async || {
        let made = register(&world.node, &json!({"redirect_uris": ["http://localhost/cb"]})).await.created();
        (text(&made, "client_id"), text(&made, "client_secret"))
    };
    let ((unused, unused_secret), (used, secret)) = (make().await, make().await);
    // To show that it is there is free, and is no use.
    asks(&world.node, &[], Some((&unused, &unused_secret))).await.authenticated();
    let operators =
        world.post("/v1/clients", json!({"client_name": "A", "redirect_uris": ["https://app.example"]})).await;
    let operators = text(&operators.created(), "id");
    assert_eq!(settle(&world, &used).await.as_deref(), Some(&*used));
    let day = 86_400;
    world.advance(6 * day).await;
    jobs::run_all(&world.node.app).await.unwrap();
    let there = async |id: &str| world.operator.get(&world.node, &format!("/v1/clients/{id}")).await.status.as_u16();
    assert_eq!(there(&unused).await, 200);
    world.advance(2 * day).await;
    let sweep = async || jobs::run_all(&world.node.app).await.unwrap();
    world
        .node
        .until("the unused client is forgotten", async || {
            sweep().await;
            there(&unused).await == 404
        })
        .await;
    asks(&world.node, &[], Some((&unused, &secret))).await.not_authenticated();
    assert_eq!((there(&used).await, there(&operators).await), (200, 200));
    asks(&world.node, &[], Some((&used, &secret))).await.authenticated();
    let left = world.db.count(&format!("select count(*) from secrets where owner = '{unused}'")).await;
    assert_eq!(left, 0, "its secret goes with it");

    // Somebody registers without end.
    world.db.execute("alter table clients disable trigger user").await;
    let flood = |count: i64| {
        format!(
            "insert into clients (id, kind, client_id, metadata, created_at)
             select id, 'dynamic', id, '{{}}', authority_now() from (select 'cli_' || md5('flood' || n) as id from generate_series(1, {count}) n) as flood"
        )
    };
    world.db.execute(&flood(UNUSED_MAX)).await;
    let refused = register(&world.node, &native()).await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.refused(429, "temporarily_unavailable");
    world.db.execute("alter table clients enable trigger user").await;
    world.advance(3_700).await;
    let unused = "select count(*) from clients where kind = 'dynamic' and last_used_at is null";
    world
        .node
        .until("the flood has run off", async || {
            sweep().await;
            world.db.count(unused).await <= UNUSED_MAX / 2
        })
        .await;
    world
        .node
        .until("somebody may register", async || register(&world.node, &native()).await.status.as_u16() == 201)
        .await;
    world
        .node
        .until("the others are there", async || (there(&used).await, there(&operators).await) == (200, 200))
        .await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_may_register() {
    let world = World::new().await;
    let preflight = world.node.request(Method::OPTIONS, "/oauth/register").header("origin", "http://localhost:6274");
    let preflight = preflight.header("access-control-request-method", "POST");
    let preflight = preflight.header("access-control-request-headers", "content-type,mcp-protocol-version");
    let reply = world.node.send(preflight).await;
    assert_eq!(reply.status.as_u16(), 200);
    assert_eq!(reply.headers["access-control-allow-origin"], "*");
    assert!(reply.headers["access-control-allow-headers"].to_str().unwrap().contains("content-type"));
    let request = world.node.request(Method::POST, "/oauth/register").header("origin", "http://localhost:6274");
    let reply = world.node.send(request.json(&native())).await;
    assert_eq!(reply.headers["access-control-allow-origin"], "*");
    reply.created();
    world.node.stop().await;
}
