//! An error before the person did anything: who is sent on by itself, and who is asked.

use reqwest::Method;
use serde_json::json;
use url::Url;

use crate::support::browser::{Asked, Browser, SignIns, WEB, error, leads_to};
use crate::support::node::PUBLIC_URL;
use crate::support::people::{REDIRECT_URI, public_client};
use crate::support::{Elsewhere, Reply};

/// The link of a page that sends nobody anywhere by itself.
fn onward(reply: &Reply) -> Url {
    assert_eq!(reply.status.as_u16(), 400, "{}", reply.text);
    assert!(reply.headers.get("location").is_none() && reply.headers.get("refresh").is_none());
    assert!(reply.text.contains("You were not sent back automatically"), "{}", reply.text);
    let href = reply.text.split("<a href=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a link");
    Url::parse(&href.replace("&#38;", "&")).expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a11_nobody_is_sent_by_itself_to_an_application_that_only_made_itself_known() {
    let elsewhere = Elsewhere::start().await;
    let scene = SignIns::at(elsewhere.world().await, &["tools/call"]).await;
    let browser = Browser::default();
    let document = elsewhere.url("/client.json");
    let said = json!({"client_id": document, "client_name": "Notes", "redirect_uris": [WEB], "token_endpoint_auth_method": "none"});
    elsewhere.put("/client.json", &said);
    let dynamic = public_client(&scene.world, json!(["authorization_code"])).await;
    let server = &scene.world.server;
    for (client, redirect_uri, host) in
        [(document.as_str(), WEB, "app.example.com"), (dynamic.as_str(), REDIRECT_URI, "127.0.0.1")]
    {
        let asked = || Asked::new(client, redirect_uri, server);
        for (asked, code) in [
            (asked().with("scope", "no such scope!"), "invalid_scope"),
            (asked().with("resource", "https://unknown.example.com"), "invalid_target"),
            (asked().with("code_challenge_method", "plain"), "invalid_request"),
            (asked().with("prompt", "none"), "login_required"),
        ] {
            let shown = browser.get(scene.node(), &asked.path()).await;
            let to = onward(&shown);
            assert!(shown.text.contains(&format!("<strong class=\"host\">{host}</strong>")), "it names the host");
            assert!(to.as_str().starts_with(&format!("{redirect_uri}?")), "{to}");
            let told: Vec<_> = to.query_pairs().into_owned().collect();
            for (name, value) in [("error", code), ("state", "the-state"), ("iss", &format!("{PUBLIC_URL}/oauth"))] {
                assert!(told.contains(&(name.to_owned(), value.to_owned())), "{name}: {to}");
            }
        }
        // Once the person has said something, the answer goes where it was promised to go.
        let (page, _) = scene.opened(&browser, &asked()).await;
        let denied = browser.submit(scene.node(), &page, &[("decision", "deny")]).await;
        error(&denied, "access_denied");
    }
    // Whom an operator registered is told at once, also in a frame that nobody sees.
    error(&browser.get(scene.node(), &scene.asked().with("prompt", "none").path()).await, "login_required");
    error(&browser.get(scene.node(), &scene.asked().with("scope", "no such scope!").path()).await, "invalid_scope");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a11_a_form_and_a_pushed_request_are_no_way_around_it() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let dynamic = public_client(&scene.world, json!(["authorization_code"])).await;
    let asked = Asked::new(dynamic.as_str(), REDIRECT_URI, &scene.world.server);
    let node = scene.node();
    let wrong = asked.clone().with("response_type", "token");
    onward(&node.send(node.request(Method::POST, "/oauth/authorize").form(&wrong.parameters)).await);
    let silent = asked.with("prompt", "none");
    let posted = node.send(node.request(Method::POST, "/oauth/authorize").form(&silent.parameters)).await;
    onward(&browser.get(node, &leads_to(&posted)).await);
    let pushed = node.send(node.request(Method::POST, "/oauth/par").form(&silent.parameters)).await.created();
    let query =
        [("client_id", dynamic.as_str()), ("request_uri", pushed["request_uri"].as_str().expect("a reference"))];
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    onward(&browser.get(node, &format!("/oauth/authorize?{query}")).await);
    scene.world.node.stop().await;
}
