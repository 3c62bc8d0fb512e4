//! `/oauth/grants`: a person sees what it allowed, and takes it back; operators read the same as consents.

use reqwest::Method;
use serde_json::json;

use crate::support::browser::{Asked, Browser, SignIns, WEB, client, code, leads_to};
use crate::support::node::PUBLIC_URL;
use crate::support::{Node, Reply, text};

const PATH: &str = "/oauth/grants";

/// Signs in on the page itself.
async fn sign_in(scene: &SignIns, browser: &Browser) -> Reply {
    let pressed = browser.submit(scene.node(), PATH, &[("action", "sign_in")]).await;
    let ways = leads_to(&pressed);
    assert!(ways.starts_with("/oauth/sign-in/flw_"), "{ways}");
    scene.demo(browser, &ways).await
}

/// The ids of what a page lists.
fn listed(reply: &Reply) -> Vec<String> {
    let forms = reply.text.split("action=\"/oauth/grants/").skip(1);
    forms.map(|rest| rest.split('"').next().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a23_a_person_sees_what_it_allowed_and_takes_it_back_everywhere() {
    let scene = SignIns::new(&["tools/call", "tools/list"]).await;
    let other = Node::start(&scene.world.db).await;
    let browser = Browser::default();
    let asked = scene.asked().with("scope", "tools/list tools/call:search_*");
    let tokens = scene.redeem(&asked, &code(&scene.whole(&browser, &asked).await)).await.ok();
    let second = client(&scene.world, json!({"client_name": "Second"})).await;
    let (page, _) = scene.opened(&browser, &Asked::new(&second, WEB, &scene.world.server)).await;
    code(&scene.approve(&browser, &page).await);
    let access = text(&tokens, "access_token");
    let shown = browser.get(scene.node(), PATH).await.expect_status(200);
    for said in [
        "Editor",
        "Second",
        &scene.world.server.resource,
        "See which tools there are.",
        "search_",
        "Last renewed",
        "demo",
        "Demo",
    ] {
        assert!(shown.text.contains(said), "{said}: {}", shown.text);
    }
    let policy = shown.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("frame-ancestors 'none'") && policy.ends_with("form-action 'self'"), "{policy}");
    assert!(!shown.text.contains("<script") && shown.headers["cache-control"] == "no-store");
    let ids = listed(&shown);
    assert_eq!(ids.len(), 2);
    let consents = scene.world.operator.get(scene.node(), "/v1/consents").await.ok();
    assert_eq!(consents["items"].as_array().unwrap().iter().map(|one| text(one, "id")).collect::<Vec<_>>(), ids);
    let id = ids
        .iter()
        .find(|id| {
            consents["items"]
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["id"] == **id && one["client_id"] == *scene.client)
        })
        .unwrap();
    assert!(scene.world.server.accepts(&other, &access).await);
    let ended = browser.submit(scene.node(), &format!("{PATH}/{id}"), &[]).await.expect_status(200);
    assert!(ended.text.contains("Taken back."), "{}", ended.text);
    for node in [scene.node(), &other] {
        assert!(!scene.world.server.accepts(node, &access).await, "when the page says so it holds");
    }
    assert_eq!(listed(&ended), ids.iter().filter(|other| *other != id).cloned().collect::<Vec<_>>());
    scene.world.operator.get(scene.node(), &format!("/v1/consents/{id}")).await.refused(404, "not_found");
    browser.submit(scene.node(), &format!("{PATH}/{id}"), &[]).await.expect_status(404);
    let by_the_person =
        "select count(*) from audit_entries where action = 'revocation.created' and actor like 'usr\\_%'";
    assert_eq!(scene.world.db.count(by_the_person).await, 1, "and the audit says who it was");
    // Asked again by that application, the person is asked again.
    scene.opened(&browser, &asked).await;
    other.stop().await;
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_signed_in_presses_a_button_signs_in_and_comes_back() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let first = browser.get(scene.node(), PATH).await.expect_status(200);
    assert!(first.text.contains("Sign in to see") && first.headers.get("refresh").is_none());
    assert_eq!(scene.world.db.count("select count(*) from flows").await, 0, "nothing begins by looking");
    let back = sign_in(&scene, &browser).await.expect_status(200);
    assert!(back.text.contains("You have allowed nothing"), "{}", back.text);
    let flows = scene.world.operator.get(scene.node(), "/v1/flows").await.ok();
    assert_eq!(flows["items"][0]["client_id"], json!(format!("{PUBLIC_URL}/oauth")));
    let steps: Vec<String> =
        scene.steps(&text(&flows["items"][0], "id")).await.into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, ["request", "provider", "sign_in"]);
    // What such a flow leads to is that page and nothing else.
    let flow = text(&flows["items"][0], "id");
    browser.get(scene.node(), &format!("/oauth/authorize/{flow}")).await.expect_status(400);
    let before = browser.cookie("mcpa-login").unwrap();
    let out = browser.submit(scene.node(), PATH, &[("action", "sign_out")]).await;
    assert_eq!(leads_to(&out), PATH);
    assert!(out.headers["set-cookie"].to_str().unwrap().starts_with("mcpa-login=; Path=/; Max-Age=0"));
    browser.set("mcpa-login", &before);
    let after = browser.get(scene.node(), PATH).await;
    assert!(after.text.contains("Sign in to see"), "the cookie itself is worth nothing any more");
    assert_eq!(scene.world.db.count("select count(*) from audit_entries where action = 'user.signed_out'").await, 1);
    browser.submit(scene.node(), PATH, &[]).await.expect_status(400);
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_elses_page_browser_or_person_takes_anything_back_or_signs_anybody_in() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    code(&scene.whole(&browser, &scene.asked()).await);
    let id = listed(&browser.get(scene.node(), PATH).await).remove(0);
    let one = format!("{PATH}/{id}");
    for (path, form) in
        [(one.as_str(), [("x", "y")]), (PATH, [("action", "sign_out")]), (PATH, [("action", "sign_in")])]
    {
        for headers in [&[][..], &[("sec-fetch-site", "cross-site")], &[("origin", "https://evil.example")]] {
            let request = scene.node().request(Method::POST, path).form(&form);
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            browser.send(scene.node(), request).await.expect_status(403);
        }
    }
    let stranger = Browser::default();
    assert_eq!(leads_to(&stranger.submit(scene.node(), &one, &[]).await), PATH, "nobody is signed in there");
    // Another person: signed in with a provider of its own.
    let user = mcp_authority::types::id::UserId::random();
    let cookie = mcp_authority::types::opaque::random();
    let digest = mcp_authority::types::opaque::sha256(cookie.reveal()).map(|byte| format!("{byte:02x}")).concat();
    scene
        .world
        .db
        .execute(&format!(
            "insert into users (id, provider_id, subject) values ('{user}', '{}', 'another');
             insert into logins (digest, user_id, expires_at) values ('\\x{digest}', '{user}', authority_now() + interval '1 hour')",
            scene.provider
        ))
        .await;
    stranger.set("mcpa-login", cookie.reveal());
    assert!(listed(&stranger.get(scene.node(), PATH).await).is_empty());
    stranger.submit(scene.node(), &one, &[]).await.expect_status(404);
    assert_eq!(listed(&browser.get(scene.node(), PATH).await), [id]);
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_find_what_people_allowed_and_end_it() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let asked = scene.asked();
    let tokens = scene.redeem(&asked, &code(&scene.whole(&browser, &asked).await)).await.ok();
    let find = async |query: &str| {
        let listed = scene.world.operator.get(scene.node(), &format!("/v1/consents?{query}")).await.ok();
        listed["items"].as_array().unwrap().clone()
    };
    let all = find("").await;
    let one = &all[0];
    assert_eq!((&one["server_id"], &one["permissions"]), (&json!(scene.world.server.id), &json!(["tools/call"])));
    for (name, value) in [
        ("user_id", text(one, "user_id")),
        ("client_id", scene.client.clone()),
        ("server_id", scene.world.server.id.clone()),
    ] {
        assert_eq!(find(&format!("{name}={value}")).await, all, "{name}");
    }
    let other = scene.world.operator.server(scene.node()).await;
    assert_eq!(find(&format!("server_id={}", other.id)).await, [] as [serde_json::Value; 0]);
    let id = text(one, "id");
    assert_eq!(&scene.world.operator.get(scene.node(), &format!("/v1/consents/{id}")).await.ok(), one);
    scene.world.revoke(json!({"kind": "grant", "id": id})).await;
    assert!(!scene.world.accepts(&text(&tokens, "access_token")).await);
    assert_eq!(find("").await, [] as [serde_json::Value; 0]);
    assert!(listed(&browser.get(scene.node(), PATH).await).is_empty(), "and the person sees that too");
    scene.world.node.stop().await;
}
