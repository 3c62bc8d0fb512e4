//! OAuth clients: what operators register, how each shows who it is, and what describes itself elsewhere.

use mcp_authority::clients;
use mcp_authority::types::caller::Caller;
use mcp_authority::types::clock::BootInstant;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::actors::pointers;
use crate::support::jwt::{assert_members, has_null};
use crate::support::{Elsewhere, Node, Reply, World, text};

const CALLBACK: &str = "https://app.example/callback";

/// A client that people sign in to, which authenticates in this way.
fn described(method: &str) -> Value {
    json!({"client_name": "App", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": method})
}

/// Asks for a token with a refresh token that nobody has. An authenticated client is told that; another, who it is not.
pub async fn asks(node: &Node, form: &[(&str, &str)], basic: Option<(&str, &str)>) -> Reply {
    let mut whole = vec![("grant_type", "refresh_token"), ("refresh_token", "nobodys")];
    whole.extend_from_slice(form);
    let request = node.request(Method::POST, "/oauth/token").form(&whole);
    node.send(if let Some((id, secret)) = basic { request.basic_auth(id, Some(secret)) } else { request }).await
}

/// What happens when a person agrees to a client: its row's id, or none when nobody can.
pub async fn settle(world: &World, client_id: &str) -> Option<String> {
    let app = &world.node.app;
    let application = app.clients.resolve(&app.db, client_id, BootInstant::now()).await.ok()?;
    let mut tx = app.db.begin().await.expect("a transaction");
    let settled = clients::settle(&mut tx, &Caller::nobody("usr_test".to_owned()), &application).await.ok();
    app.db.commit_change(tx).await.expect("committed");
    settled.map(|id| id.to_string())
}

impl Reply {
    /// The client was who it said: what it asked for is what was wrong.
    pub fn authenticated(self) {
        assert_eq!(self.status.as_u16(), 400, "{}", self.text);
        assert_ne!(self.json["error"], "invalid_client", "{}", self.text);
        assert_ne!(self.json["error"], "invalid_request", "{}", self.text);
    }

    /// It was not, and learns no more than that.
    pub fn not_authenticated(self) {
        let told = json!({"error": "invalid_client", "error_description": "the client could not be authenticated"});
        assert!(self.headers.contains_key("www-authenticate"));
        assert_eq!((self.status.as_u16(), self.json), (401, told));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_registers_a_client_of_each_method_and_a_secret_is_shown_once_where_there_is_one() {
    let world = World::new().await;
    let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]});
    for method in ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"] {
        let mut body = described(method);
        if method == "private_key_jwt" {
            body["jwks"] = jwks.clone();
        }
        let made = world.post("/v1/clients", body).await.created();
        let secret = method.starts_with("client_secret");
        assert_eq!(made.get("client_secret").is_some(), secret, "{made}");
        let mut members = vec![
            "id",
            "client_id",
            "kind",
            "project",
            "client_name",
            "redirect_uris",
            "grant_types",
            "response_types",
            "token_endpoint_auth_method",
            "grants",
            "disabled",
            "created_at",
        ];
        members.extend(secret.then_some("client_secret"));
        members.extend((method == "private_key_jwt").then_some("jwks"));
        assert_members(&made, &members);
        assert_eq!(
            (&made["id"], &made["kind"], &made["project"]),
            (&made["client_id"], &json!("registered"), &json!("default"))
        );
        assert_eq!(made["grant_types"], json!(["authorization_code"]), "{made}");

        let read = world.operator.get(&world.node, &format!("/v1/clients/{}", text(&made, "id"))).await.ok();
        assert!(read.get("client_secret").is_none() && !has_null(&read), "{read}");
        assert_eq!(read.get("secrets").is_some(), secret, "{read}");
        for (name, value) in made.as_object().unwrap().iter().filter(|(name, _)| *name != "client_secret") {
            assert_eq!(read[name], *value, "{name}");
        }
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_client_is_said_with_its_place() {
    let world = World::new().await;
    let grants = json!([{"server_id": world.server.id, "permissions": ["tools/list"]}]);
    for (members, pointer) in [
        (json!({"client_name": null}), "/client_name"),
        (json!({"client_name": 1}), "/client_name"),
        (json!({"client_name": "a\u{202e}b"}), "/client_name"),
        (json!({"redirect_uris": []}), "/redirect_uris"),
        (json!({"redirect_uris": "https://app.example"}), "/redirect_uris"),
        (json!({"redirect_uris": ["https://app.example/", "javascript:alert(1)"]}), "/redirect_uris/1"),
        (json!({"redirect_uris": ["http://localhost/cb"], "application_type": "web"}), "/redirect_uris/0"),
        (json!({"application_type": "other"}), "/application_type"),
        (json!({"token_endpoint_auth_method": "client_secret_jwt"}), "/token_endpoint_auth_method"),
        (json!({"token_endpoint_auth_method": "private_key_jwt"}), "/jwks_uri"),
        (json!({"jwks_uri": "http://app.example/jwks"}), "/jwks_uri"),
        (json!({"jwks_uri": "https://app.example/jwks", "jwks": {"keys": []}}), "/jwks"),
        (json!({"jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}}), "/jwks"),
        (json!({"scope": "a\"b"}), "/scope"),
        (json!({"grants": grants}), "/grants"),
        (json!({"grant_types": ["client_credentials"], "token_endpoint_auth_method": "none"}), "/grant_types"),
        (json!({"nonsense": 1}), "/nonsense"),
        (json!({"client_id": "cli_1"}), "/client_id"),
        (json!({"project": "nowhere"}), "/project"),
    ] {
        let mut body = described("client_secret_basic");
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        let refused = world.post("/v1/clients", body).await.refused(422, "invalid_fields");
        assert_eq!(pointers(&refused), [pointer], "{members}: {refused}");
    }
    assert_eq!(world.operator.get(&world.node, "/v1/clients").await.ok(), json!({"items": []}));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_listed_by_project_kind_state_and_name() {
    let world = World::new().await;
    world.post("/v1/projects", json!({"name": "blue"})).await.created();
    let mut body = described("none");
    body["project"] = json!("blue");
    body["client_name"] = json!("Blue app");
    let blue = text(&world.post("/v1/clients", body).await.created(), "id");
    let other = text(&world.post("/v1/clients", described("none")).await.created(), "id");
    world.patch(&format!("/v1/clients/{other}"), json!({"disabled": true})).await.enforced();
    let dynamic = world.node.request(Method::POST, "/oauth/register");
    let dynamic = dynamic.json(&json!({"redirect_uris": ["http://localhost/cb"], "client_name": "Bluebird"}));
    let dynamic = text(&world.node.send(dynamic).await.created(), "client_id");
    let found = async |query: &str| {
        let page = world.operator.get(&world.node, &format!("/v1/clients?{query}")).await.ok();
        let items = page["items"].as_array().unwrap().iter().map(|item| text(item, "id"));
        items.collect::<Vec<_>>()
    };
    assert_eq!(found("").await, [&*dynamic, &other, &blue]);
    assert_eq!(found("project=blue").await, [&*blue]);
    assert_eq!(found("kind=dynamic").await, [&*dynamic]);
    assert_eq!(found("kind=registered").await, [&*other, &blue]);
    assert_eq!(found("kind=document").await, [""; 0]);
    assert_eq!(found("status=disabled").await, [&*other]);
    assert_eq!(found("status=active").await, [&*dynamic, &blue]);
    assert_eq!(found("q=BLUE").await, [&*dynamic, &blue]);
    assert_eq!(found("q=BLUE&kind=registered&project=blue&status=active").await, [&*blue]);
    world.operator.get(&world.node, "/v1/clients?kind=other").await.refused(400, "invalid_query");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_changed_under_its_tag_and_what_never_changes_is_said() {
    let world = World::new().await;
    let made = world.post("/v1/clients", described("client_secret_post")).await.created();
    let path = format!("/v1/clients/{}", text(&made, "id"));
    let read = world.operator.get(&world.node, &path).await;
    let tag = read.headers["etag"].to_str().unwrap().to_owned();
    let change = json!({"client_name": "Other", "scope": "notes:read", "grant_types": ["authorization_code", "refresh_token", "magic"]});
    let request = world.node.request(Method::PATCH, &path).bearer_auth(&world.operator.key).header("if-match", &tag);
    let changed = world.node.send(request.json(&change)).await.ok();
    assert_eq!((&changed["client_name"], &changed["scope"]), (&json!("Other"), &json!("notes:read")));
    assert_eq!(changed["grant_types"], json!(["authorization_code", "refresh_token"]));
    assert_eq!(changed["redirect_uris"], json!([CALLBACK]), "what is not mentioned stays");
    assert!(changed.get("enforced").is_none() && !has_null(&changed), "{changed}");
    let request = world.node.request(Method::PATCH, &path).bearer_auth(&world.operator.key).header("if-match", &tag);
    world.node.send(request.json(&change)).await.refused(412, "precondition_failed");
    let cleared = world.patch(&path, json!({"scope": null})).await.ok();
    assert!(cleared.get("scope").is_none(), "{cleared}");
    for member in ["token_endpoint_auth_method", "project"] {
        world.patch(&path, json!({member: "none"})).await.refused(422, "immutable_field");
    }
    for (change, pointer) in [
        (json!({"client_name": null}), "/client_name"),
        (json!({"redirect_uris": null}), "/redirect_uris"),
        (json!({"redirect_uris": ["http://app.example"]}), "/redirect_uris/0"),
        (json!({"id": "x"}), "/id"),
    ] {
        let refused = world.patch(&path, change.clone()).await.refused(422, "invalid_fields");
        assert_eq!(pointers(&refused), [pointer], "{change}");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_own_grants_need_the_right_to_give_them() {
    let world = World::new().await;
    let grants = json!([{"server_id": world.server.id, "permissions": ["tools/list"]}]);
    let body = json!({"client_name": "Job", "grant_types": ["client_credentials"], "grants": grants});
    let without = world.node.operator_with(&["clients:write"], None).await;
    without.post(&world.node, "/v1/clients", body.clone()).await.refused(403, "missing_scope");
    let giver = world.node.operator_with(&["clients:write", "grants:write"], None).await;
    let made = giver.post(&world.node, "/v1/clients", body).await.created();
    assert_eq!(made["grants"], grants);
    let path = format!("/v1/clients/{}", text(&made, "id"));
    let wider = json!([{"server_id": world.server.id, "permissions": ["*"]}]);
    without.patch(&world.node, &path, json!({"grants": wider})).await.refused(403, "missing_scope");
    let less = without.patch(&world.node, &path, json!({"grants": []})).await.enforced();
    assert_eq!(less["grants"], json!([]));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_authenticates_in_exactly_the_way_that_it_registered() {
    let world = World::new().await;
    let make = async |method: &str| {
        let made = world.post("/v1/clients", described(method)).await.created();
        (text(&made, "id"), made["client_secret"].as_str().unwrap_or("mcp_client_x").to_owned())
    };
    let (public, made_up) = make("none").await;
    let (basic, basic_secret) = make("client_secret_basic").await;
    let (post, post_secret) = make("client_secret_post").await;
    let node = &world.node;
    asks(node, &[("client_id", &public)], None).await.authenticated();
    asks(node, &[], Some((&basic, &basic_secret))).await.authenticated();
    asks(node, &[("client_id", &basic)], Some((&basic, &basic_secret))).await.authenticated();
    asks(node, &[("client_id", &post), ("client_secret", &post_secret)], None).await.authenticated();
    for (what, form, header) in [
        ("a public client with a secret", vec![("client_id", &*public), ("client_secret", &made_up)], None),
        ("a public client with another's", vec![("client_id", &*public), ("client_secret", &post_secret)], None),
        ("a public client in the header", vec![], Some((&*public, ""))),
        ("basic in the body", vec![("client_id", &*basic), ("client_secret", &basic_secret)], None),
        ("post in the header", vec![], Some((&*post, &*post_secret))),
        ("a confidential client without a credential", vec![("client_id", &*basic)], None),
        ("the same of post", vec![("client_id", &*post)], None),
        ("another's secret", vec![("client_id", &*post), ("client_secret", &basic_secret)], None),
        ("a secret without an id", vec![("client_secret", &*post_secret)], None),
        ("an unknown id", vec![("client_id", "cli_00000000000000000000000000000000")], None),
        ("no id at all", vec![("client_id", "nobody")], None),
        ("a secret of nobody", vec![], Some(("cli_00000000000000000000000000000000", &*basic_secret))),
    ] {
        let reply = asks(node, &form, header).await;
        assert_eq!(reply.status.as_u16(), 401, "{what}: {}", reply.text);
        reply.not_authenticated();
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_credentials_are_read_raw_and_form_encoded() {
    let world = World::new().await;
    let made = world.post("/v1/clients", described("client_secret_basic")).await.created();
    let (id, secret) = (text(&made, "id"), text(&made, "client_secret"));
    let encoded = |text: &str| {
        percent_encoding::percent_encode(text.as_bytes(), percent_encoding::NON_ALPHANUMERIC)
            .to_string()
            .replace('0', "%30")
    };
    asks(&world.node, &[], Some((&id, &secret))).await.authenticated();
    asks(&world.node, &[], Some((&encoded(&id), &encoded(&secret)))).await.authenticated();
    asks(&world.node, &[], Some((&id, &secret.replace('_', "%5F")))).await.authenticated();
    asks(&world.node, &[], Some((&encoded(&encoded(&id)), &encoded(&secret)))).await.not_authenticated();
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_22_two_ways_at_once_two_clients_and_doubled_parameters_are_refused() {
    let world = World::new().await;
    let made = world.post("/v1/clients", described("client_secret_basic")).await.created();
    let (id, secret) = (text(&made, "id"), text(&made, "client_secret"));
    let header = Some((&*id, &*secret));
    for form in [
        vec![("client_id", &*id), ("client_secret", &*secret)],
        vec![("client_assertion", "a.b.c"), ("client_assertion_type", "x")],
        vec![("client_id", "cli_00000000000000000000000000000000")],
        vec![("client_id", &*id), ("client_id", &*id)],
        vec![("scope", "a"), ("scope", "a")],
        vec![("refresh_token", "a")],
    ] {
        asks(&world.node, &form, header).await.refused(400, "invalid_request");
    }
    let both = [("client_id", &*id), ("client_secret", &*secret), ("client_assertion", "a.b.c")];
    asks(&world.node, &both, None).await.refused(400, "invalid_request");
    let untyped = [("client_id", &*id), ("client_assertion", "a.b.c")];
    asks(&world.node, &untyped, None).await.refused(400, "invalid_request");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_an_unknown_client_costs_what_a_known_one_does() {
    let world = World::new().await;
    let made = world.post("/v1/clients", described("client_secret_post")).await.created();
    let wrong = text(&world.post("/v1/clients", described("client_secret_post")).await.created(), "client_secret");
    let work = async |id: &str| {
        let before = world.node.app.live.keyring.digests_made();
        asks(&world.node, &[("client_id", id), ("client_secret", &wrong)], None).await.not_authenticated();
        world.node.app.live.keyring.digests_made() - before
    };
    assert_eq!(work(&text(&made, "id")).await, 1);
    assert_eq!(work("cli_00000000000000000000000000000000").await, 1);
    assert_eq!(work("cli_nothing").await, 1);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_with_an_overlap_or_without() {
    let world = World::new().await;
    let made = world.post("/v1/clients", described("client_secret_post")).await.created();
    let (id, first) = (text(&made, "id"), text(&made, "client_secret"));
    let path = format!("/v1/clients/{id}/rotate");
    let shows = async |secret: &str| asks(&world.node, &[("client_id", &id), ("client_secret", secret)], None).await;
    shows(&first).await.authenticated();
    let rotated = world.post(&path, json!({})).await.enforced();
    assert_members(&rotated, &["id", "client_secret", "hint", "previous_expires_at", "enforced"]);
    let second = text(&rotated, "client_secret");
    shows(&first).await.authenticated();
    shows(&second).await.authenticated();
    world.post(&path, json!({})).await.refused(409, "overlap_running");
    let third = text(&world.post(&path, json!({"grace_seconds": 0})).await.enforced(), "client_secret");
    shows(&first).await.not_authenticated();
    shows(&second).await.not_authenticated();
    shows(&third).await.authenticated();
    let public = text(&world.post("/v1/clients", described("none")).await.created(), "id");
    world.post(&format!("/v1/clients/{public}/rotate"), json!({})).await.refused(404, "not_found");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_33_a_disabled_client_is_not_revived_and_a_deleted_one_is_gone_for_good() {
    let elsewhere = Elsewhere::start().await;
    let world = elsewhere.world().await;
    let node = &world.node;
    let registration = json!({"redirect_uris": ["http://localhost/cb"], "token_endpoint_auth_method": "none"});
    let register =
        async || node.send(node.request(Method::POST, "/oauth/register").json(&registration)).await.created();
    let dynamic = text(&register().await, "client_id");
    let document = elsewhere.url("/client.json");
    elsewhere.put_with(
        "/client.json",
        &json!({"client_id": document, "client_name": "A", "redirect_uris": ["http://localhost/cb"]}),
        "no-store",
    );
    let settled = settle(&world, &document).await.expect("a row");
    for (id, client_id) in [(&dynamic, &dynamic), (&settled, &document)] {
        asks(node, &[("client_id", client_id)], None).await.authenticated();
        let path = format!("/v1/clients/{id}");
        let disabled = world.patch(&path, json!({"disabled": true})).await.enforced();
        assert_eq!(disabled["disabled"], true);
        let asked = elsewhere.asked("/client.json");
        asks(node, &[("client_id", client_id)], None).await.not_authenticated();
        assert_eq!(elsewhere.asked("/client.json"), asked, "whoever is switched off is not asked");
        // Whatever it does itself, it stays so.
        assert_ne!(text(&register().await, "client_id"), *client_id);
        assert!(settle(&world, client_id).await.is_none(), "nobody can agree to it");
        asks(node, &[("client_id", client_id)], None).await.not_authenticated();
        assert!(world.patch(&path, json!({"disabled": false})).await.ok().get("enforced").is_none());
        asks(node, &[("client_id", client_id)], None).await.authenticated();
        world.operator.delete(node, &path).await.enforced();
        asks(node, &[("client_id", client_id)], None).await.not_authenticated();
        assert!(settle(&world, client_id).await.is_none());
        world.operator.get(node, &path).await.refused(404, "not_found");
        world.patch(&path, json!({"disabled": false})).await.refused(404, "not_found");
    }
    world.node.stop().await;
}
