//! Tokens on a person's word: what they say, what they hang on, and what ends them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::jwt::{assert_members, claims};
use crate::support::people::{Code, Person, REDIRECT_URI, Tokens, public_client};
use crate::support::{Node, World, exchange, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_code_gives_a_token_that_says_for_whom_and_through_which_client() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call", "tools/list"]).await;
    let code = person.code(&world).await;
    let form = [("redirect_uri", REDIRECT_URI), ("resource", &*world.server.resource), ("scope", "tools/list")];
    let reply = person.redeem(&world.node, &code, &form).await;
    assert_eq!(reply.headers["cache-control"], "no-store");
    let body = reply.ok();
    assert_members(&body, &["access_token", "token_type", "expires_in", "scope", "refresh_token"]);
    assert_eq!(
        (&body["token_type"], &body["scope"], &body["expires_in"]),
        (&json!("Bearer"), &json!("tools/list"), &json!(900))
    );
    let tokens = Tokens::of(&body);
    let said = claims(&tokens.access);
    assert_eq!((&said["sub"], &said["client_id"]), (&json!(person.user), &json!(person.client)));
    assert!(said["anc"].to_string().contains(person.consent.as_str()), "{said}");
    for absent in ["agent_id", "key_id", "kv", "nbf", "act"] {
        assert!(said.get(absent).is_none(), "{absent}");
    }
    let told = world.server.introspect(&world.node, &tokens.access).await;
    let members = [
        "active",
        "iss",
        "sub",
        "client_id",
        "aud",
        "scope",
        "permissions",
        "exp",
        "iat",
        "jti",
        "token_type",
        "environment",
        "username",
    ];
    assert_members(&told, &members);
    assert_eq!((&told["sub"], &told["username"]), (&json!(person.user), &json!("ada")));
    let listed = world.operator.get(&world.node, &format!("/v1/sessions?user_id={}", person.user)).await.ok();
    let row = &listed["items"][0];
    assert_eq!(
        (&row["id"], &row["client_id"], &row["status"]),
        (&said["jti"], &json!(person.client), &json!("active"))
    );
    assert!(row.get("agent_id").is_none() && row.get("key_id").is_none());
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_25_a_code_needs_its_verifier_and_whoever_lacks_it_ends_nothing() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let code = person.code(&world).await;
    let wrong = |name: &'static str, value: &'static str| [(name, value)];
    person.redeem(&world.node, &code, &wrong("code_verifier", "")).await.refused(400, "invalid_request");
    for form in [
        wrong("code_verifier", "short"),
        wrong("code_verifier", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        wrong("redirect_uri", "http://127.0.0.1/other"),
    ] {
        person.redeem(&world.node, &code, &form).await.refused(400, "invalid_grant");
    }
    person
        .redeem(&world.node, &code, &wrong("resource", "https://other.example.com"))
        .await
        .refused(400, "invalid_target");
    let tokens = Tokens::of(&person.redeem(&world.node, &code, &[]).await.ok());
    // A22: whoever shows it again without being able to use it does not end what came of it.
    let other = Code { verifier: "B".repeat(43), ..code.clone() };
    person.redeem(&world.node, &other, &[]).await.refused(400, "invalid_grant");
    assert!(world.accepts(&tokens.access).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a22_a_code_is_good_once_and_shown_again_it_ends_what_came_of_it() {
    let world = World::new().await;
    let other = Node::start(&world.db).await;
    let person = Person::new(&world, &["tools/call"]).await;
    let code = person.code(&world).await;
    let first = Tokens::of(&person.redeem(&world.node, &code, &[]).await.ok());
    let second = Tokens::of(&person.refresh(&world.node, &first.refresh, &[]).await.ok());
    person.redeem(&other, &code, &[]).await.refused(400, "invalid_grant");
    for node in [&world.node, &other] {
        for dead in [&first, &second] {
            assert!(!world.server.accepts(node, &dead.access).await);
            person.refresh(node, &dead.refresh, &[]).await.refused(400, "invalid_grant");
        }
    }
    person.redeem(&world.node, &code, &[]).await.refused(400, "invalid_grant");
    other.stop().await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_redeemed_once_however_many_try_at_once() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let code = person.code(&world).await;
    let all = futures_util::future::join_all((0..20).map(|_| person.redeem(&world.node, &code, &[]))).await;
    assert!(all.iter().filter(|reply| reply.status == 200).count() <= 1);
    assert!(all.iter().all(|reply| matches!(reply.status.as_u16(), 200 | 400 | 503)));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_ends_after_a_minute() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let code = person.code(&world).await;
    world.advance(61).await;
    person.redeem(&world.node, &code, &[]).await.refused(400, "invalid_grant");
    person.redeem(&world.node, &Code { code: "A".repeat(43), ..code }, &[]).await.refused(400, "invalid_grant");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_9_a_code_shown_by_another_client_is_good_for_nobody() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let other = public_client(&world, json!(["authorization_code"])).await;
    let code = person.code(&world).await;
    person.redeem(&world.node, &code, &[("client_id", other.as_str())]).await.refused(400, "invalid_grant");
    person.redeem(&world.node, &code, &[]).await.refused(400, "invalid_grant");
    let code = person.code(&world).await;
    let tokens = Tokens::of(&person.redeem(&world.node, &code, &[]).await.ok());
    person.redeem(&world.node, &code, &[("client_id", other.as_str())]).await.refused(400, "invalid_grant");
    assert!(!world.accepts(&tokens.access).await, "what had come of it ends too");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_10_each_kind_of_token_is_good_only_where_it_belongs() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let tokens = person.tokens(&world).await;
    let code = person.code(&world).await;
    let key = world.key(&["tools/call"]).await;
    for wrong in [&tokens.access, &code.code, &key.key] {
        person.refresh(&world.node, wrong, &[]).await.refused(400, "invalid_grant");
    }
    for wrong in [&tokens.access, &tokens.refresh, &key.key] {
        let shown = Code { code: wrong.clone(), ..code.clone() };
        person.redeem(&world.node, &shown, &[]).await.refused(400, "invalid_grant");
    }
    assert!(!world.accepts(&tokens.refresh).await && !world.accepts(&code.code).await);
    exchange(&world.node, &tokens.refresh, &[]).await.refused(400, "invalid_request");
    let as_secret = world.node.request(Method::POST, "/oauth/token").basic_auth(person.client, Some(&tokens.refresh));
    world.node.send(as_secret.form(&[("grant_type", "client_credentials")])).await.refused(401, "invalid_client");
    let as_operator = world.node.request(Method::GET, "/v1/sessions").bearer_auth(&tokens.refresh);
    assert_eq!(world.node.send(as_operator).await.status, 401);
    assert!(world.accepts(&tokens.access).await, "and nobody was harmed");
    world.node.stop().await;
}

/// Everything of a person is refused on this node.
async fn dead(world: &World, person: &Person, tokens: &Tokens, why: &str) {
    assert!(!world.accepts(&tokens.access).await, "{why}: the session token");
    person.refresh(&world.node, &tokens.refresh, &[]).await.refused(400, "invalid_grant");
    exchange(&world.node, &tokens.access, &[]).await.refused(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_12_each_revocation_ends_what_was_issued_so_far_and_nothing_later() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let (user, client, grant, provider) = (person.user, person.client, person.consent, person.provider);
    let kinds = [
        ("user", user.to_string()),
        ("client", client.to_string()),
        ("grant", grant.to_string()),
        ("provider", provider.to_string()),
        ("server", world.server.id.clone()),
        ("project", "default".to_owned()),
        ("all", "all".to_owned()),
    ];
    for (kind, id) in kinds {
        let tokens = person.tokens(&world).await;
        assert!(world.accepts(&tokens.access).await);
        let code = person.code(&world).await;
        world.revoke(json!({"kind": kind, "id": id})).await;
        dead(&world, &person, &tokens, kind).await;
        person.redeem(&world.node, &code, &[]).await.refused(400, "invalid_grant");
        let status = world.operator.get(&world.node, &format!("/v1/sessions?user_id={user}")).await.ok();
        if kind != "project" {
            assert_eq!(status["items"][0]["status"], "revoked", "{kind}");
        }
    }
    let later = person.tokens(&world).await;
    assert!(world.accepts(&later.access).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_14_nothing_of_who_is_switched_off_works_and_nothing_comes_back_to_life() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let (user, client, provider) = (person.user, person.client, person.provider);
    for (table, id) in
        [("users", user.to_string()), ("clients", client.to_string()), ("providers", provider.to_string())]
    {
        let tokens = person.tokens(&world).await;
        let switched = async |off: bool| {
            let before = world.node.app.live.round().position;
            world.db.execute(&format!("update {table} set disabled = {off} where id = '{id}'")).await;
            world.node.until("the node knows", async || before.is_before(world.node.app.live.round().position)).await;
        };
        let code = person.code(&world).await;
        switched(true).await;
        assert!(!world.accepts(&tokens.access).await, "{table}");
        let refused = person.refresh(&world.node, &tokens.refresh, &[]).await;
        assert!(matches!(refused.status.as_u16(), 400 | 401), "{table}");
        assert!(matches!(person.redeem(&world.node, &code, &[]).await.status.as_u16(), 400 | 401), "{table}");
        switched(false).await;
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_12_a_token_has_what_the_person_has_now_and_no_more_than_was_agreed_to() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call", "tools/list"]).await;
    let tokens = person.tokens(&world).await;
    let grants = |permissions: Value| json!({"grants": [{"server_id": world.server.id, "permissions": permissions}]});
    let role = format!("/v1/roles/{}", person.role);
    world.patch(&role, grants(json!(["tools/list"]))).await.enforced();
    assert_eq!(world.server.introspect(&world.node, &tokens.access).await["permissions"], json!(["tools/list"]));
    world.patch(&role, grants(json!(["*"]))).await.ok();
    let told = world.server.introspect(&world.node, &tokens.access).await;
    assert_eq!(told["permissions"], json!(["tools/call", "tools/list"]), "never more than the person agreed to");
    let before = world.node.app.live.round().position;
    world.db.execute(&format!("delete from user_roles where user_id = '{}'", person.user)).await;
    world.node.until("the node knows", async || before.is_before(world.node.app.live.round().position)).await;
    assert!(!world.accepts(&tokens.access).await, "a person without roles has nothing");
    person.refresh(&world.node, &tokens.refresh, &[]).await.refused(400, "invalid_grant");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_20_an_exchange_of_a_person_s_token_keeps_the_person_and_names_who_acts() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call", "tools/list"]).await;
    let tokens = person.tokens(&world).await;
    let smaller = text(&exchange(&world.node, &tokens.access, &[("scope", "tools/list")]).await.ok(), "access_token");
    let said = claims(&smaller);
    assert_eq!((&said["sub"], &said["client_id"]), (&json!(person.user), &json!(person.client)));
    assert!(said.get("act").is_none());
    let agent = world.key(&["tools/call"]).await;
    let acted = world.node.request(Method::POST, "/oauth/token").basic_auth(&agent.id, Some(&agent.key)).form(&[
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", &tokens.access),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
    ]);
    let acted = text(&world.node.send(acted).await.ok(), "access_token");
    let told = world.server.introspect(&world.node, &acted).await;
    assert_eq!((&told["sub"], &told["permissions"]), (&json!(person.user), &json!(["tools/call"])));
    assert!(told["act"]["sub"].as_str().expect("an actor").starts_with("agt_"));
    let actor =
        [("actor_token", &*tokens.access), ("actor_token_type", "urn:ietf:params:oauth:token-type:access_token")];
    let session = world.session(&agent).await;
    exchange(&world.node, &session, &actor).await.refused(400, "invalid_request");
    world.revoke(json!({"kind": "grant", "id": person.consent})).await;
    for child in [&smaller, &acted] {
        assert!(!world.accepts(child).await, "what was exchanged hangs on what the person agreed to");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_client_without_offline_access_comes_alone() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let other = public_client(&world, json!(["authorization_code"])).await;
    let consent = person.agrees_to(&world, other).await;
    let code = person.code_for(&world, other, consent).await;
    let body = person.redeem(&world.node, &code, &[("client_id", other.as_str())]).await.ok();
    assert_members(&body, &["access_token", "token_type", "expires_in", "scope"]);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_is_remembered_as_long_as_the_refresh_tokens_that_it_ended() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let tokens = person.tokens(&world).await;
    world.revoke(json!({"kind": "user", "id": person.user})).await;
    for _ in 0..8 {
        world.advance(3 * 86_400).await;
        mcp_authority::jobs::run_all(&world.node.app).await.expect("the jobs run");
        person.refresh(&world.node, &tokens.refresh, &[]).await.refused(400, "invalid_grant");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_ends_its_own_tokens_and_a_refresh_token_takes_all_of_its_authorization_with_it() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let other = public_client(&world, json!(["authorization_code"])).await;
    let (one, two) = (person.tokens(&world).await, person.tokens(&world).await);
    let revoke = async |client: &str, token: &str| {
        let form = [("client_id", client), ("token", token)];
        world.node.send(world.node.request(Method::POST, "/oauth/revoke").form(&form)).await
    };
    revoke(other.as_str(), &one.refresh).await.refused(400, "invalid_request");
    revoke(other.as_str(), &one.access).await.refused(400, "invalid_request");
    let renewed = Tokens::of(&person.refresh(&world.node, &one.refresh, &[]).await.ok());
    revoke(person.client.as_str(), &renewed.refresh).await.expect_status(200);
    for dead in [&one, &renewed] {
        assert!(!world.accepts(&dead.access).await);
        person.refresh(&world.node, &dead.refresh, &[]).await.refused(400, "invalid_grant");
    }
    assert!(world.accepts(&two.access).await, "another authorization goes on");
    revoke(person.client.as_str(), &two.access).await.expect_status(200);
    assert!(!world.accepts(&two.access).await);
    person.refresh(&world.node, &two.refresh, &[]).await.ok();
    revoke(person.client.as_str(), &renewed.refresh).await.expect_status(200);
    revoke(person.client.as_str(), "nothing").await.expect_status(200);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_credential_asks_about_its_own_tokens_and_a_public_one_is_no_caller() {
    let world = World::new().await;
    let body = json!({"client_name": "Worker", "grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_basic",
                      "grants": [{"server_id": world.server.id, "permissions": ["tools/call"]}]});
    let made = world.post("/v1/clients", body).await.created();
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let of = |path: &str, form: &[(&str, &str)]| {
        world.node.send(world.node.request(Method::POST, path).basic_auth(&id, Some(&secret)).form(form))
    };
    let token = of("/oauth/token", &[("grant_type", "client_credentials"), ("scope", "tools/call:read_*")]).await.ok();
    assert_members(&token, &["access_token", "token_type", "expires_in", "scope"]);
    let token = text(&token, "access_token");
    let told = world.server.introspect(&world.node, &token).await;
    assert_eq!(
        (&told["sub"], &told["client_id"], &told["permissions"]),
        (&json!(id), &json!(id), &json!(["tools/call:read_*"]))
    );
    let own = of("/oauth/introspect", &[("token", &token)]).await.ok();
    assert_eq!((&own["active"], &own["aud"]), (&json!(true), &json!(world.server.resource)));
    let person = Person::new(&world, &["tools/call"]).await;
    let foreign = person.tokens(&world).await;
    for wrong in [&foreign.access, &foreign.refresh, &"x".to_owned()] {
        assert_eq!(of("/oauth/introspect", &[("token", wrong)]).await.ok(), json!({"active": false}));
    }
    let public = [("client_id", person.client.as_str()), ("token", &*foreign.access)];
    world
        .node
        .send(world.node.request(Method::POST, "/oauth/introspect").form(&public))
        .await
        .refused(401, "invalid_client");
    world.node.stop().await;
}
