//! What a client may ask with: who is told what is wrong, and that nobody is sent where nobody should go.

use reqwest::Method;
use serde_json::json;

use crate::support::browser::{Asked, Browser, SignIns, WEB, answer, client, code, error, flow, leads_to};
use crate::support::node::PUBLIC_URL;
use crate::support::{Reply, World};

/// A page for people: it sends nobody anywhere, and names the flow for the operator.
fn page_says(reply: &Reply, status: u16, said: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    assert!(reply.headers.get("location").is_none());
    assert!(reply.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(reply.text.contains(said) && reply.text.contains("flw_"), "{said}: {}", reply.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a11_a_wrong_client_is_told_to_the_person_and_nobody_is_sent_anywhere() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let get = async |asked: Asked| browser.get(scene.node(), &asked.path()).await;
    for unknown in
        ["cli_00000000000000000000000000000000", "nobody", "https://", "http://app.example.com/client.json", "\u{1}"]
    {
        let reply = get(scene.asked().with("client_id", unknown)).await;
        assert!(matches!(reply.status.as_u16(), 400 | 502), "{unknown}: {}", reply.text);
        page_says(&reply, reply.status.as_u16(), "This application cannot sign you in");
    }
    page_says(&get(scene.asked().without("client_id")).await, 400, "client_missing");
    page_says(&get(scene.asked().with("client_id", "")).await, 400, "client_missing");
    page_says(&get(scene.asked().and("client_id", &scene.client)).await, 400, "doubled_parameter");
    let path = format!("/v1/clients/{}", scene.client);
    scene.world.patch(&path, json!({"disabled": true})).await.enforced();
    page_says(&get(scene.asked()).await, 400, "client_disabled");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a11_and_attack_21_only_exactly_the_clients_own_redirect_uris_are_gone_to() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let get = async |asked: Asked| browser.get(scene.node(), &asked.path()).await;
    for wrong in [
        "https://app.example.com/callback/",
        "https://app.example.com/Callback",
        "https://APP.example.com/callback",
        "https://app.example.com:443/callback",
        "https://app.example.com/callback?x=1",
        "https://app.example.com/callback#x",
        "https://app.example.com/callback/..;/x",
        "https://app.example.com/callback/../x",
        "https://app.example.com/%63allback",
        "https://app.example.com\\@evil.example/callback",
        "https://app.example.com@evil.example/callback",
        "https://user@app.example.com/callback",
        "https://app-example.com/callback",
        "https://appXexample.com/callback",
        "https://app.example.com.evil.example/callback",
        "https://\u{430}pp.example.com/callback",
        "http://app.example.com/callback",
        "https://app.example.com/callback ",
        "//app.example.com/callback",
        "javascript:alert(1)",
        "http://127.0.0.1/callback",
    ] {
        let reply = get(scene.asked().with("redirect_uri", wrong)).await;
        page_says(&reply, 400, "redirect_mismatch");
        assert!(reply.text.contains(&format!("<code>{WEB}</code>")), "and says which was expected");
        assert!(!reply.text.contains("evil.example"), "and repeats nothing that was sent");
    }
    page_says(&get(scene.asked().and("redirect_uri", "https://evil.example/")).await, 400, "doubled_parameter");
    // OAuth 2.1 §4.1.1: with one only it may be left out; with two it may not.
    leads_to(&get(scene.asked().without("redirect_uri")).await);
    let two = client(&scene.world, json!({"redirect_uris": [WEB, "https://app.example.com/other"]})).await;
    page_says(&get(Asked::new(&two, "", &scene.world.server)).await, 400, "redirect_missing");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a12_on_this_machine_any_port_will_do_and_nothing_else_may_differ() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let to = json!({"redirect_uris": ["http://localhost/callback", "http://127.0.0.1:33418", "http://[::1]/cb"]});
    let native = client(&scene.world, to).await;
    let get = async |to: &str| browser.get(scene.node(), &Asked::new(&native, to, &scene.world.server).path()).await;
    for right in [
        "http://localhost:51234/callback",
        "http://localhost/callback",
        "http://127.0.0.1:1/",
        "http://127.0.0.1:33418/",
        "http://[::1]:8080/cb",
    ] {
        leads_to(&get(right).await);
    }
    for wrong in [
        "http://127.0.0.1:51234/callback",
        "http://localhost:51234/callback/x",
        "http://localhost:51234",
        "https://localhost/callback",
        "http://localhost.evil.example/callback",
        "http://127.0.0.2:33418/",
        "http://localhost:0/callback",
    ] {
        page_says(&get(wrong).await, 400, "redirect_mismatch");
    }
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a6_and_attack_25_whoever_does_without_pkce_gets_no_code() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let confidential = client(&scene.world, json!({"token_endpoint_auth_method": "client_secret_basic"})).await;
    for id in [&scene.client, &confidential] {
        let asked = || scene.asked().with("client_id", id);
        for wrong in [
            asked().without("code_challenge"),
            asked().without("code_challenge").without("code_challenge_method"),
            asked().without("code_challenge_method"),
            asked().with("code_challenge_method", "plain"),
            asked().with("code_challenge_method", "s256"),
            asked().with("code_challenge", "short"),
            asked().with("code_challenge", ""),
            asked().with("code_challenge", &"=".repeat(43)),
        ] {
            error(&browser.get(scene.node(), &wrong.path()).await, "invalid_request");
        }
    }
    // The verifier is that of the request that the code came of, and of no other.
    let (one, other) = (scene.asked(), scene.asked());
    let shown = code(&scene.whole(&browser, &one).await);
    scene.redeem(&other, &shown).await.refused(400, "invalid_grant");
    scene.redeem(&one, &shown).await.ok();
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a7_every_error_goes_to_the_client_with_its_state_and_who_says_so() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let long = "a".repeat(5_000);
    for (wrong, expected) in [
        (scene.asked().without("response_type"), "invalid_request"),
        (scene.asked().with("response_type", "token"), "unsupported_response_type"),
        (scene.asked().with("response_type", "code id_token"), "unsupported_response_type"),
        (scene.asked().with("response_mode", "fragment"), "invalid_request"),
        (scene.asked().with("request", "eyJ"), "request_not_supported"),
        (scene.asked().with("request_uri", "https://app.example.com/request"), "request_uri_not_supported"),
        (scene.asked().with("scope", "nonsense"), "invalid_scope"),
        (scene.asked().with("scope", "tools/list  tools/call"), "invalid_scope"),
        (scene.asked().with("scope", &long), "invalid_scope"),
        (scene.asked().with("max_age", "-1"), "invalid_request"),
    ] {
        let told = error(&browser.get(scene.node(), &wrong.path()).await, expected);
        assert_eq!(told["state"], "the-state", "{expected}");
        assert!(told.keys().all(|name| ["error", "error_description", "iss", "state"].contains(&name.as_str())));
        let flow = told["error_description"].rsplit('(').next().unwrap().trim_end_matches(')').to_owned();
        assert_eq!(scene.steps(&flow).await, [("request".to_owned(), Some(expected.to_owned()))]);
    }
    let odd = scene.asked().with("state", "a\u{1}b");
    assert!(!error(&browser.get(scene.node(), &odd.path()).await, "invalid_request").contains_key("state"));
    let with_query = client(&scene.world, json!({"redirect_uris": ["https://app.example.com/cb?tenant=1"]})).await;
    let asked = Asked::new(&with_query, "https://app.example.com/cb?tenant=1", &scene.world.server);
    let reply = browser.get(scene.node(), &asked.with("prompt", "none").path()).await;
    assert_eq!(answer(&reply)["tenant"], "1");
    let odd_state = "a b+c&d=e%20ü\"{}";
    let told = browser.get(scene.node(), &scene.asked().with("prompt", "none").with("state", odd_state).path()).await;
    assert_eq!(answer(&told)["state"], odd_state, "as it came");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_22_a_doubled_parameter_is_refused_and_an_unknown_one_ignored() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    for doubled in
        ["response_type", "state", "code_challenge", "code_challenge_method", "scope", "prompt", "login_hint", "x"]
    {
        let asked = scene.asked().with(doubled, "x").and(doubled, "y");
        let told = error(&browser.get(scene.node(), &asked.path()).await, "invalid_request");
        assert_eq!(told.contains_key("state"), doubled != "state", "which of two states is nobody's to choose");
    }
    leads_to(&browser.get(scene.node(), &scene.asked().with("unheard_of", "x").path()).await);
    let many = (0..70).fold(scene.asked(), |asked, number| asked.with(&format!("p{number}"), "x"));
    browser.get(scene.node(), &many.path()).await.expect_status(400);
    let long = scene.asked().with("x", &"a".repeat(17_000));
    browser.get(scene.node(), &long.path()).await.expect_status(400);
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a16_a_token_is_for_the_one_server_that_was_named_however_it_is_spelt() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let resource = scene.world.server.resource.clone();
    let host = resource.trim_start_matches("https://").trim_end_matches("/mcp").to_owned();
    let get = async |asked: Asked| browser.get(scene.node(), &asked.path()).await;
    for same in
        [format!("{resource}/"), format!("HTTPS://{}/mcp", host.to_uppercase()), format!("https://{host}:443/mcp")]
    {
        leads_to(&get(scene.asked().with("resource", &same)).await);
    }
    for other in ["https://elsewhere.example.com/mcp", &format!("https://{host}"), &format!("{resource}#x"), "nonsense"]
    {
        error(&get(scene.asked().with("resource", other)).await, "invalid_target");
    }
    error(&get(scene.asked().and("resource", "https://elsewhere.example.com")).await, "invalid_target");
    // Not named, it is the only one; of two it is none.
    leads_to(&get(scene.asked().without("resource")).await);
    let second = scene.world.operator.server(scene.node()).await;
    error(&get(scene.asked().without("resource")).await, "invalid_target");
    scene.world.patch(&format!("/v1/servers/{}", second.id), json!({"disabled": true})).await.enforced();
    error(&get(scene.asked().with("resource", &second.resource)).await, "invalid_target");
    // What comes of it is good there, and there only (RFC 8707 §2.2).
    let asked = scene.asked().with("resource", &format!("{resource}/"));
    let tokens = scene.redeem(&asked, &code(&scene.whole(&browser, &asked).await)).await.ok();
    let said = crate::support::jwt::claims(tokens["access_token"].as_str().unwrap());
    assert_eq!(said["aud"], resource);
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_asks_for_no_more_than_an_operator_bound_it_to() {
    let scene = SignIns::new(&["tools/call", "tools/list", "prompts/list"]).await;
    let browser = Browser::default();
    let bound = client(&scene.world, json!({"scope": "tools/list unheard_of"})).await;
    let asked = Asked::new(&bound, WEB, &scene.world.server);
    error(&browser.get(scene.node(), &asked.clone().with("scope", "prompts/list").path()).await, "invalid_scope");
    let (_, shown) = scene.opened(&browser, &asked.with("scope", "tools/list prompts/list")).await;
    assert!(shown.text.contains("See which tools there are.") && !shown.text.contains("prompts"));
    let no_codes = client(
        &scene.world,
        json!({"grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_basic"}),
    )
    .await;
    let asked = Asked::new(&no_codes, WEB, &scene.world.server);
    error(&browser.get(scene.node(), &asked.path()).await, "unauthorized_client");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_as_a_form_goes_on_with_get_and_keeps_the_browser() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    code(&scene.whole(&browser, &scene.asked()).await);
    let asked = scene.asked();
    // As another site's form arrives: without cookies.
    let request = || scene.node().request(Method::POST, "/oauth/authorize").header("sec-fetch-site", "cross-site");
    let reply = scene.node().send(request().form(&asked.parameters)).await;
    let to = leads_to(&reply);
    assert!(to.starts_with("/oauth/authorize?client_id=") && !to.contains("the-state"), "{to}");
    let shown = code(&browser.get(scene.node(), &to).await);
    scene.redeem(&asked, &shown).await.ok();
    browser.get(scene.node(), &to).await.expect_status(400);
    let wrong = scene.asked().with("redirect_uri", "https://evil.example/");
    page_says(&scene.node().send(request().form(&wrong.parameters)).await, 400, "redirect_mismatch");
    let wrong = scene.asked().with("response_type", "token");
    error(&scene.node().send(request().form(&wrong.parameters)).await, "unsupported_response_type");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_request_is_its_clients_once_and_for_a_minute() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let push = async |asked: &Asked| {
        scene.node().send(scene.node().request(Method::POST, "/oauth/par").form(&asked.parameters)).await
    };
    let by = |client: &str, reference: &str| {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("client_id", client), ("request_uri", reference)])
            .finish();
        format!("/oauth/authorize?{query}")
    };
    let asked = scene.asked();
    let pushed = push(&asked).await;
    assert_eq!(pushed.headers["cache-control"], "no-store");
    let pushed = pushed.created();
    assert_eq!(pushed["expires_in"], 60);
    let reference = pushed["request_uri"].as_str().unwrap();
    assert!(reference.starts_with("urn:ietf:params:oauth:request_uri:"));
    // Another client's attempt neither works nor spends it.
    let other = client(&scene.world, json!({})).await;
    page_says(&browser.get(scene.node(), &by(&other, reference)).await, 400, "request_uri_unknown");
    let began = browser.get(scene.node(), &by(&scene.client, reference)).await;
    let page = leads_to(&began);
    browser.get(scene.node(), &page).await.expect_status(200);
    page_says(&browser.get(scene.node(), &by(&scene.client, reference)).await, 400, "request_uri_unknown");
    let ways = leads_to(&scene.approve(&browser, &page).await);
    let shown = code(&scene.demo(&browser, &ways).await);
    scene.redeem(&asked, &shown).await.ok();
    let late = push(&scene.asked()).await.created();
    scene.world.advance(61).await;
    let late = by(&scene.client, late["request_uri"].as_str().unwrap());
    page_says(&browser.get(scene.node(), &late).await, 400, "request_uri_unknown");
    // What was right when it was pushed may be wrong by now.
    let then = push(&scene.asked()).await.created();
    scene
        .world
        .patch(&format!("/v1/clients/{}", scene.client), json!({"redirect_uris": ["https://app.example.com/new"]}))
        .await
        .ok();
    let then = by(&scene.client, then["request_uri"].as_str().unwrap());
    page_says(&browser.get(scene.node(), &then).await, 400, "redirect_mismatch");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_27_what_is_sent_as_a_client_id_is_neither_kept_as_a_secret_nor_stops_the_audit() {
    let scene = SignIns::new(&["tools/call"]).await;
    let key = scene.world.key(&["tools/call"]).await;
    for odd in [key.key.as_str(), "a\u{0}b", &"a".repeat(9_000)] {
        for path in ["/oauth/par", "/oauth/authorize", "/oauth/token"] {
            let form = scene.asked().with("client_id", odd).parameters;
            let reply = scene.node().send(scene.node().request(Method::POST, path).form(&form)).await;
            assert!(matches!(reply.status.as_u16(), 400 | 401), "{path}: {}", reply.text);
        }
    }
    scene.world.node.until("all is written", async || scene.world.node.app.recorder.waiting() == 0).await;
    scene.world.post("/v1/agents", json!({"name": "the audit goes on"})).await.created();
    for (table, column) in [("flows", "client_id"), ("audit_entries", "body::text"), ("flow_steps", "detail")] {
        let sql = format!(
            "select count(*) from {table} where strpos({column}, '{}') > 0 or length({column}) > 2000",
            key.key
        );
        assert_eq!(scene.world.db.count(&sql).await, 0, "{table}");
    }
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_checked_and_so_is_who_pushes_it() {
    let scene = SignIns::new(&["tools/call"]).await;
    let push = async |asked: &Asked| {
        scene.node().send(scene.node().request(Method::POST, "/oauth/par").form(&asked.parameters)).await
    };
    for (wrong, code) in [
        (scene.asked().with("redirect_uri", "https://evil.example/"), "invalid_request"),
        (scene.asked().without("code_challenge"), "invalid_request"),
        (scene.asked().with("resource", "https://elsewhere.example.com"), "invalid_target"),
        (scene.asked().with("scope", "nonsense"), "invalid_scope"),
        (scene.asked().with("request_uri", "urn:ietf:params:oauth:request_uri:x"), "invalid_request"),
        (scene.asked().and("scope", "a").and("scope", "b"), "invalid_request"),
    ] {
        push(&wrong).await.refused(400, code);
    }
    push(&scene.asked().with("client_id", "cli_00000000000000000000000000000000")).await.refused(401, "invalid_client");
    push(&scene.asked().without("client_id")).await.refused(401, "invalid_client");
    let body = json!({"client_name": "Secret", "redirect_uris": [WEB]});
    let made = scene.world.post("/v1/clients", body).await.created();
    let (id, secret) = (made["client_id"].as_str().unwrap(), made["client_secret"].as_str().unwrap());
    let asked = Asked::new(id, WEB, &scene.world.server);
    push(&asked).await.refused(401, "invalid_client");
    let request = scene.node().request(Method::POST, "/oauth/par").basic_auth(id, Some(secret)).form(&asked.parameters);
    scene.node().send(request).await.created();
    let stored =
        scene.world.db.count("select count(*) from authorization_requests where request::text like '%client_secret%'");
    assert_eq!(stored.await, 0);
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anybody_to_sign_in_with_the_page_says_so() {
    let world = World::new().await;
    let browser = Browser::default();
    let id = client(&world, json!({})).await;
    let asked = Asked::new(&id, WEB, &world.server);
    let reply = browser.get(&world.node, &asked.path()).await.expect_status(400);
    assert!(reply.text.contains("No sign-in is configured") && reply.headers.get("location").is_none());
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_lets_nobody_in_where_others_than_this_machines_users_come() {
    let scene = SignIns::new(&["tools/call"]).await;
    let public = crate::support::Node::start_with(
        &scene.world.db,
        &[
            ("MCPA_PUBLIC_URL", "https://auth.example.com"),
            ("MCPA_BEHIND_TLS_PROXY", "true"),
            ("MCPA_TRUSTED_PROXIES", "127.0.0.1"),
        ],
    )
    .await;
    let browser = Browser::default();
    let reply = browser.get(&public, &scene.asked().path()).await.expect_status(400);
    assert!(reply.text.contains("No sign-in is configured"));
    // A flow that began elsewhere comes no further here either.
    let (page, _) = scene.opened(&browser, &scene.asked()).await;
    scene.approve(&browser, &page).await;
    browser.set("__Host-mcpa-browser", &browser.cookie("mcpa-browser").unwrap());
    let way = format!("/oauth/sign-in/{}/demo", flow(&page));
    let request = public.request(Method::POST, &way).header("sec-fetch-site", "same-origin");
    browser.send(&public, request.form(&[("x", "")])).await.expect_status(400);
    assert_eq!(scene.world.db.count("select count(state) from authorization_requests").await, 0);
    assert!(PUBLIC_URL.starts_with("http://localhost"));
    public.stop().await;
    scene.world.node.stop().await;
}
