//! Clients that describe themselves at an address of their own: what people are shown, and what becomes of what they say.

use serde_json::json;

use crate::support::browser::{Asked, Browser, SignIns, WEB, answer, code, flow, leads_to};
use crate::support::{Elsewhere, text};

#[tokio::test(flavor = "multi_thread")]
async fn must_a18_people_see_where_a_client_is_described_and_where_it_leads_to() {
    let elsewhere = Elsewhere::start().await;
    let scene = SignIns::at(elsewhere.world().await, &["tools/call"]).await;
    let browser = Browser::default();
    let id = elsewhere.url("/client.json");
    let document = |redirects: &[&str]| json!({"client_id": id, "client_name": "Notes", "redirect_uris": redirects, "token_endpoint_auth_method": "none"});
    elsewhere.put("/client.json", &document(&[WEB]));
    let asked = Asked::new(&id, WEB, &scene.world.server);
    let (page, shown) = scene.opened(&browser, &asked).await;
    let host = id.trim_start_matches("https://").trim_end_matches("/client.json");
    assert!(shown.text.contains(&format!("described at <strong class=\"host\">{host}</strong>")), "{}", shown.text);
    assert!(shown.text.contains("<strong class=\"host\">app.example.com</strong>"));
    assert!(!shown.text.contains("Any program on your device"));
    let rows = async || scene.world.db.count("select count(*) from clients where kind = 'document'").await;
    assert_eq!(rows().await, 0, "nobody agreed to it yet");
    let ways = leads_to(&scene.approve(&browser, &page).await);
    let shown = code(&scene.demo(&browser, &ways).await);
    assert_eq!(rows().await, 1);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", id.as_str()),
        ("code", shown.as_str()),
        ("code_verifier", asked.verifier.as_str()),
        ("redirect_uri", WEB),
    ];
    let tokens = scene.node().request(reqwest::Method::POST, "/oauth/token").form(&form);
    let tokens = scene.node().send(tokens).await.ok();
    assert!(scene.world.accepts(&text(&tokens, "access_token")).await);
    // Agreed to and signed in: nothing is asked; with programs of this machine it always is.
    code(&browser.get(scene.node(), &asked.path()).await);
    let native = elsewhere.url("/native.json");
    let redirects = ["http://localhost/callback", "http://127.0.0.1/callback"];
    elsewhere.put(
        "/native.json",
        &json!({"client_id": native, "client_name": "Editor", "redirect_uris": redirects, "token_endpoint_auth_method": "none"}),
    );
    let asked = Asked::new(&native, "http://127.0.0.1:50123/callback", &scene.world.server);
    for _ in 0..2 {
        let (page, shown) = scene.opened(&browser, &asked).await;
        assert!(shown.text.contains("Any program on your device can say that it is Editor."));
        assert!(shown.text.contains("<strong class=\"host\">127.0.0.1:50123</strong>"));
        assert_eq!(answer(&scene.approve(&browser, &page).await)["state"], "the-state");
    }
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_20_a_document_that_lies_about_itself_or_is_not_there_sends_nobody_anywhere() {
    let elsewhere = Elsewhere::start().await;
    let scene = SignIns::at(elsewhere.world().await, &["tools/call"]).await;
    let browser = Browser::default();
    let (missing, lying) = (elsewhere.url("/missing.json"), elsewhere.url("/lying.json"));
    elsewhere.put(
        "/lying.json",
        &json!({"client_id": "https://app.example.com/client.json", "client_name": "Other", "redirect_uris": [WEB]}),
    );
    for (id, status) in [(missing, 502), (lying, 400), ("https://192.168.0.1/client.json".to_owned(), 502)] {
        let asked = Asked::new(&id, WEB, &scene.world.server);
        let reply = browser.get(scene.node(), &asked.path()).await.expect_status(status);
        assert!(reply.headers.get("location").is_none() && reply.text.contains("client_document"), "{id}");
        let found = reply.text.split("<code>").find(|part| part.starts_with("flw_")).unwrap();
        let steps = scene.steps(&flow(found.split('<').next().unwrap())).await;
        assert_eq!(steps, [("request".to_owned(), Some("client_document".to_owned()))]);
    }
    scene.world.node.stop().await;
}
