//! Metadata (RFC 8414), the key set, and which routes pages of other origins may use.

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::support::jwt::{claims, has_null};
use crate::support::node::PUBLIC_URL;
use crate::support::people::Person;
use crate::support::{Node, Reply, World};

const PLACES: [&str; 4] = [
    "/.well-known/oauth-authorization-server/oauth",
    "/oauth/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration/oauth",
    "/oauth/.well-known/openid-configuration",
];

async fn get(node: &Node, path: &str) -> Reply {
    node.send(node.request(Method::GET, path)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_is_the_same_in_its_four_places_and_nowhere_else() {
    let world = World::new().await;
    let first = get(&world.node, PLACES[0]).await;
    for place in PLACES {
        let reply = get(&world.node, place).await.expect_status(200);
        assert_eq!(reply.text, first.text, "{place}");
        assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json", "{place}");
    }
    let elsewhere = [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server/other",
        "/.well-known/oauth-authorization-server/oauth/",
        "/.well-known/",
        "/.well-known/oauth-protected-resource",
        "/oauth/.well-known/jwks.json",
        "/oauth/.well-known",
    ];
    for path in elsewhere {
        get(&world.node, path).await.refused(404, "route_not_found");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_names_our_issuer_byte_for_byte_and_only_what_works() {
    let world = World::new().await;
    let metadata = get(&world.node, PLACES[0]).await.ok();
    assert!(!has_null(&metadata), "{metadata}");
    let key = world.key(&["*"]).await;
    let token = world.session(&key).await;
    assert_eq!(metadata["issuer"], claims(&token)["iss"]);
    assert_eq!(metadata["issuer"], world.server.introspect(&world.node, &token).await["iss"]);
    assert_eq!(metadata["issuer"], format!("{PUBLIC_URL}/oauth"));
    assert_eq!(metadata["response_types_supported"], json!([]));
    let grants = json!(["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"]);
    assert_eq!(metadata["grant_types_supported"], grants);
    assert!(metadata.get("registration_endpoint").is_none() && metadata.get("scopes_supported").is_none());
    let endpoints: Vec<(&String, &str)> = metadata
        .as_object()
        .expect("an object")
        .iter()
        .filter(|(name, _)| name.ends_with("_endpoint") || *name == "jwks_uri")
        .map(|(name, url)| (name, url.as_str().expect("a text")))
        .collect();
    assert_eq!(endpoints.len(), 5, "{endpoints:?}");
    answered(&world.node, endpoints).await;
    world.node.stop().await;
}

/// Each of them is there.
async fn answered(node: &Node, endpoints: Vec<(&String, &str)>) {
    for (name, url) in endpoints {
        let path = url.strip_prefix(PUBLIC_URL).expect("on our own host");
        let method =
            if ["jwks_uri", "authorization_endpoint"].contains(&name.as_str()) { Method::GET } else { Method::POST };
        let status = node.send(node.request(method, path)).await.status.as_u16();
        assert!([200, 400, 401, 415].contains(&status), "{name}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a2_a5_a7_a8_with_a_provider_the_metadata_offers_what_people_s_clients_need() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let metadata = get(&world.node, PLACES[0]).await.ok();
    assert!(!has_null(&metadata), "{metadata}");
    assert_eq!(metadata["response_types_supported"], json!(["code"]));
    assert_eq!(metadata["response_modes_supported"], json!(["query"]));
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
    assert_eq!(metadata["client_id_metadata_document_supported"], true);
    assert_eq!(metadata["scopes_supported"], json!(["offline_access"]));
    assert_eq!(metadata["protected_resources"], json!([world.server.resource]));
    let grants = json!([
        "authorization_code",
        "refresh_token",
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "urn:ietf:params:oauth:grant-type:device_code"
    ]);
    assert_eq!(metadata["grant_types_supported"], grants);
    let methods = json!(["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]);
    assert_eq!(metadata["token_endpoint_auth_methods_supported"], methods);
    assert_eq!(metadata["token_endpoint_auth_signing_alg_values_supported"], json!(["EdDSA", "ES256", "RS256"]));
    let endpoints: Vec<(&String, &str)> = metadata
        .as_object()
        .expect("an object")
        .iter()
        .filter(|(name, _)| name.ends_with("_endpoint"))
        .map(|(name, url)| (name, url.as_str().expect("a text")))
        .collect();
    assert_eq!(endpoints.len(), 7, "{endpoints:?}");
    answered(&world.node, endpoints).await;
    world.patch("/v1/settings", json!({"dynamic_registration": "off"})).await.ok();
    assert!(get(&world.node, PLACES[0]).await.ok().get("registration_endpoint").is_none());
    world.db.execute(&format!("update providers set disabled = true where id = '{}'", person.provider)).await;
    let none = async || get(&world.node, PLACES[0]).await.ok()["response_types_supported"] == json!([]);
    world.node.until("nobody can sign in, and nothing says so", none).await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_s_setup_is_what_it_has_to_serve_and_to_ask_and_holds_no_secret() {
    let world = World::new().await;
    let body = json!({"name": "Notes", "resource": "https://notes.example.com/v1/mcp", "token_alg": "RS256",
                      "scopes": [{"name": "notes:read", "description": "Read", "permissions": ["tools/list"]}]});
    let server = world.post("/v1/servers", body).await.created();
    let setup = world.operator.get(&world.node, &format!("/v1/servers/{}/setup", server["id"].as_str().unwrap())).await;
    assert!(!setup.text.contains(server["client_secret"].as_str().unwrap()) && !setup.text.contains("mcp_server_"));
    let setup = setup.ok();
    let issuer = format!("{PUBLIC_URL}/oauth");
    let document = json!({"resource": "https://notes.example.com/v1/mcp", "authorization_servers": [issuer],
                          "scopes_supported": ["notes:read"], "bearer_methods_supported": ["header"], "resource_name": "Notes"});
    assert_eq!(setup["protected_resource_metadata"], document);
    let place = "https://notes.example.com/.well-known/oauth-protected-resource/v1/mcp";
    assert_eq!(setup["protected_resource_metadata_url"], place);
    assert_eq!(setup["www_authenticate"], format!("Bearer resource_metadata=\"{place}\", scope=\"notes:read\""));
    assert_eq!((&setup["issuer"], &setup["token_alg"]), (&json!(issuer), &json!("RS256")));
    assert_eq!(setup["environment"]["CLIENT_ID"], server["id"]);
    let metadata = get(&world.node, PLACES[0]).await.ok();
    for same in ["introspection_endpoint", "revocation_endpoint", "jwks_uri"] {
        assert_eq!(setup[same], metadata[same], "{same}");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuer_follows_the_public_url() {
    let world = World::with(&[("MCPA_PUBLIC_URL", "http://127.0.0.1:9443")]).await;
    let metadata = get(&world.node, PLACES[3]).await.ok();
    let token = world.session(&world.key(&["*"]).await).await;
    assert_eq!(metadata["issuer"], "http://127.0.0.1:9443/oauth");
    assert_eq!(claims(&token)["iss"], "http://127.0.0.1:9443/oauth");
    assert_eq!(metadata["token_endpoint"], "http://127.0.0.1:9443/oauth/token");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_set_may_be_kept_five_minutes_and_names_the_key_of_each_token() {
    let world = World::new().await;
    let reply = get(&world.node, "/oauth/jwks").await.expect_status(200);
    assert_eq!(reply.headers[header::CACHE_CONTROL], "public, max-age=300");
    let keys: Vec<Value> = reply.json["keys"].as_array().expect("a list").clone();
    let token = world.session(&world.key(&["*"]).await).await;
    let head = crate::support::jwt::header(&token);
    assert!(keys.iter().any(|key| key["kid"] == head["kid"] && key["alg"] == head["alg"]), "{keys:?}");
    world.node.stop().await;
}

async fn preflight(node: &Node, path: &str, method: &str) -> Reply {
    let request = node.request(Method::OPTIONS, path).header("origin", "https://app.example.com");
    let request = request.header("access-control-request-method", method);
    node.send(request.header("access-control-request-headers", "authorization")).await
}

fn cors(reply: &Reply) -> bool {
    reply.headers.keys().any(|name| name.as_str().starts_with("access-control-"))
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_may_use_the_open_routes_and_no_other() {
    let world = World::new().await;
    let node = &world.node;
    let origin = ("origin", "https://app.example.com");
    let mut open = vec![("/oauth/token", "POST"), ("/oauth/revoke", "POST"), ("/oauth/jwks", "GET")];
    open.extend(PLACES.map(|place| (place, "GET")));
    for (path, method) in open {
        let asked = preflight(node, path, method).await.expect_status(200);
        assert_eq!(asked.headers["access-control-allow-origin"], "*", "{path}");
        let used = node.request(method.parse().expect("a method"), path).header(origin.0, origin.1);
        let used = node.send(used).await;
        assert_eq!(used.headers["access-control-allow-origin"], "*", "{path}");
        assert!(!used.headers.contains_key("access-control-allow-credentials"), "{path}");
    }
    let closed = [
        ("/oauth/introspect", "POST"),
        ("/oauth/authorize", "GET"),
        ("/v1/keys", "GET"),
        ("/v1/keys", "POST"),
        ("/v1/keys/self", "GET"),
        ("/v1/keys/self/rotate", "POST"),
        ("/v1/keys/self/revoke", "POST"),
        ("/health/ready", "GET"),
    ];
    for (path, method) in closed {
        let asked = preflight(node, path, method).await;
        assert!(!cors(&asked), "{path}: {:?}", asked.headers);
        let used = node.request(method.parse().expect("a method"), path).header(origin.0, origin.1);
        let used = node.send(used.bearer_auth(&world.operator.key)).await;
        assert!(!cors(&used), "{path}: {:?}", used.headers);
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_sign_in_and_the_page_says_so_and_redirects_nowhere() {
    let world = World::new().await;
    let query = "response_type=code&client_id=x&redirect_uri=https%3A%2F%2Fevil.example.com&state=%3Cscript%3E";
    let reply = get(&world.node, &format!("/oauth/authorize?{query}")).await.expect_status(400);
    assert!(!reply.headers.contains_key(header::LOCATION));
    assert!(reply.headers[header::CONTENT_TYPE].to_str().expect("text").starts_with("text/html"));
    assert!(reply.headers.contains_key(header::CONTENT_SECURITY_POLICY));
    assert!(!reply.text.contains("evil") && !reply.text.contains("script"), "{}", reply.text);
    world.node.stop().await;
}
