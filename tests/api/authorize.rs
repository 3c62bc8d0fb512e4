//! From a client's request to its code: the order that protects people, what is remembered, what is not asked again.

use reqwest::Method;
use serde_json::json;

use crate::support::browser::{Asked, Browser, SignIns, WEB, answer, client, code, error, flow, leads_to};
use crate::support::jwt::claims;
use crate::support::node::PUBLIC_URL;
use crate::support::text;

#[tokio::test(flavor = "multi_thread")]
async fn a_person_agrees_signs_in_and_the_client_gets_a_token_for_it() {
    let scene = SignIns::new(&["tools/call:search_*", "tools/list"]).await;
    let browser = Browser::default();
    let asked = scene.asked().with("scope", "tools/list tools/call:search_a offline_access");
    let (page, shown) = scene.opened(&browser, &asked).await;
    for said in ["Editor", "app.example.com", &scene.world.server.resource, "See which tools there are.", "search_a"] {
        assert!(shown.text.contains(said), "the page says {said}: {}", shown.text);
    }
    let ways = leads_to(&scene.approve(&browser, &page).await);
    let told = scene.demo(&browser, &ways).await;
    // A7: `iss`, byte for byte the issuer.
    let answer = answer(&told);
    assert_eq!(answer.keys().collect::<Vec<_>>(), ["code", "iss", "state"]);
    assert_eq!((answer["state"].as_str(), answer["iss"].clone()), ("the-state", format!("{PUBLIC_URL}/oauth")));
    let tokens = scene.redeem(&asked, &answer["code"]).await.ok();
    assert_eq!(tokens["scope"], "tools/call:search_a tools/list");
    assert!(tokens.get("refresh_token").is_some());
    let said = claims(&text(&tokens, "access_token"));
    assert_eq!((&said["aud"], &said["client_id"]), (&json!(scene.world.server.resource), &json!(scene.client)));
    let users = scene.world.operator.get(scene.node(), "/v1/users").await.ok();
    let user = &users["items"][0];
    assert_eq!((&user["id"], &user["username"], &user["roles"]), (&said["sub"], &json!("demo"), &json!([scene.role])));
    let stages = ["request", "consent", "provider", "sign_in", "consent", "code"];
    let steps = scene.steps(&flow(&page)).await;
    let steps: Vec<&str> = steps.iter().filter(|(_, code)| code.is_none()).map(|(step, _)| step.as_str()).collect();
    assert_eq!(steps[..stages.len()], stages);
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a19_nothing_goes_to_a_provider_before_the_person_agreed_for_this_client() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let (page, _) = scene.opened(&browser, &scene.asked()).await;
    let flow = flow(&page);
    let states = || scene.world.db.count("select count(state) from authorization_requests");
    for path in [format!("/oauth/sign-in/{flow}"), format!("/oauth/sign-in/{flow}/demo")] {
        assert_eq!(leads_to(&browser.get(scene.node(), &path).await), page, "back to the page that asks");
    }
    let pressed = browser.submit(scene.node(), &format!("/oauth/sign-in/{flow}/demo"), &[]).await;
    assert_eq!(leads_to(&pressed), page);
    assert_eq!(states().await, 0, "and no state was made");
    scene.approve(&browser, &page).await.expect_status(303);
    assert_eq!(states().await, 0, "nor with the consent");
    browser.submit(scene.node(), &format!("/oauth/sign-in/{flow}/demo"), &[]).await.expect_status(303);
    assert_eq!(states().await, 1, "but on the way to the provider");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a19_what_was_agreed_for_one_client_is_asked_again_for_another() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    code(&scene.whole(&browser, &scene.asked()).await);
    // The same client again: signed in and agreed to, so that nothing is asked.
    code(&browser.get(scene.node(), &scene.asked().path()).await);
    let other = client(&scene.world, json!({"client_name": "Other"})).await;
    let (page, shown) = scene.opened(&browser, &Asked::new(&other, WEB, &scene.world.server)).await;
    assert!(shown.text.contains("Other") && shown.text.contains("signed in with Demo"));
    // Signed in, the answer to the form is the client's; its origin alone stands in the policy.
    let policy = shown.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.ends_with("form-action 'self' https://app.example.com"), "{policy}");
    code(&scene.approve(&browser, &page).await);
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_is_asked_for_step_by_step_and_what_was_given_stays() {
    let scene = SignIns::new(&["tools/call", "tools/list", "prompts/list"]).await;
    let browser = Browser::default();
    code(&scene.whole(&browser, &scene.asked().with("scope", "tools/list")).await);
    // More than was agreed to: asked again; then both are agreed to.
    let more = scene.asked().with("scope", "tools/call:a");
    let (page, _) = scene.opened(&browser, &more).await;
    let tokens = scene.redeem(&more, &code(&scene.approve(&browser, &page).await)).await.ok();
    assert_eq!(tokens["scope"], "tools/call:a");
    let both = scene.asked().with("scope", "tools/list tools/call:a");
    let tokens = scene.redeem(&both, &code(&browser.get(scene.node(), &both.path()).await)).await.ok();
    assert_eq!(tokens["scope"], "tools/call:a tools/list");
    assert_eq!(scene.world.db.count("select count(*) from consents").await, 1);
    // Asked for beyond what the roles give: the part that they give, of which nothing is new.
    let beyond = both.with("scope", "tools/list resources/list");
    let tokens = scene.redeem(&beyond, &code(&browser.get(scene.node(), &beyond.path()).await)).await.ok();
    assert_eq!(tokens["scope"], "tools/list");
    let nothing = scene.asked().with("scope", "resources/list");
    let (page, _) = scene.opened(&browser, &nothing).await;
    error(&scene.approve(&browser, &page).await, "access_denied");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_says_no_sends_the_client_away_and_is_asked_again_next_time() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let (page, _) = scene.opened(&browser, &scene.asked()).await;
    let told = error(&browser.submit(scene.node(), &page, &[("decision", "deny")]).await, "access_denied");
    assert_eq!(told["state"], "the-state");
    scene.approve(&browser, &page).await.expect_status(400);
    browser.get(scene.node(), &page).await.expect_status(400);
    assert_eq!(scene.world.db.count("select count(*) from users").await, 0);
    scene.opened(&browser, &scene.asked()).await;
    assert_eq!(
        scene.steps(&flow(&page)).await[1],
        ("consent".to_owned(), Some("access_denied".to_owned())),
        "and its trace says so"
    );
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_say_how_the_person_is_asked() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let prompted = |prompt: &str| scene.asked().with("prompt", prompt);
    error(&browser.get(scene.node(), &prompted("none").path()).await, "login_required");
    code(&scene.whole(&browser, &scene.asked()).await);
    code(&browser.get(scene.node(), &prompted("none").path()).await);
    let other = client(&scene.world, json!({"client_name": "Other"})).await;
    let none = Asked::new(&other, WEB, &scene.world.server).with("prompt", "none");
    error(&browser.get(scene.node(), &none.path()).await, "consent_required");
    // Agreed to before, and yet to be asked.
    let (_, shown) = scene.opened(&browser, &prompted("consent")).await;
    assert!(shown.text.contains("signed in with Demo"));
    for anew in ["login", "select_account", "login consent"] {
        let (page, shown) = scene.opened(&browser, &prompted(anew)).await;
        assert!(!shown.text.contains("signed in with"), "{anew}");
        assert!(leads_to(&scene.approve(&browser, &page).await).starts_with("/oauth/sign-in/"), "{anew}");
    }
    error(&browser.get(scene.node(), &prompted("none login").path()).await, "invalid_request");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_good_for_twelve_hours_and_for_as_long_as_a_client_allows() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let no_older = |seconds: &str| scene.asked().with("max_age", seconds);
    code(&scene.whole(&browser, &scene.asked()).await);
    scene.world.advance(100).await;
    code(&browser.get(scene.node(), &no_older("3600").path()).await);
    let (page, _) = scene.opened(&browser, &no_older("60")).await;
    assert!(leads_to(&scene.approve(&browser, &page).await).starts_with("/oauth/sign-in/"));
    error(&browser.get(scene.node(), &no_older("60").with("prompt", "none").path()).await, "login_required");
    error(&browser.get(scene.node(), &no_older("soon").path()).await, "invalid_request");
    scene.world.advance(12 * 3_600 - 100).await;
    error(&browser.get(scene.node(), &scene.asked().with("prompt", "none").path()).await, "login_required");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_can_be_somebody_else_before_agreeing() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    code(&scene.whole(&browser, &scene.asked()).await);
    let (page, shown) = scene.opened(&browser, &scene.asked().with("prompt", "consent")).await;
    assert!(shown.text.contains("Sign in as somebody else"));
    assert_eq!(leads_to(&browser.submit(scene.node(), &page, &[("decision", "other")]).await), page);
    let shown = browser.get(scene.node(), &page).await.expect_status(200);
    assert!(!shown.text.contains("signed in with"));
    let ways = leads_to(&scene.approve(&browser, &page).await);
    code(&scene.demo(&browser, &ways).await);
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_program_on_the_persons_machine_no_code_goes_without_a_page() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let to = json!({"redirect_uris": ["http://127.0.0.1/callback", "com.example.app:/callback"]});
    let native = client(&scene.world, to).await;
    for (redirect_uri, said) in [
        ("http://127.0.0.1:51234/callback", "a program on your own computer"),
        ("com.example.app:/callback", "com.example.app:"),
    ] {
        let asked = Asked::new(&native, redirect_uri, &scene.world.server);
        let (page, shown) = scene.opened(&browser, &asked).await;
        assert!(
            shown.text.contains(said) && shown.text.contains("Any program on your device can say"),
            "{redirect_uri}"
        );
        let answer = scene.approve(&browser, &page).await;
        let answer = if answer.headers["location"].to_str().unwrap().starts_with("/oauth/sign-in/") {
            scene.demo(&browser, &leads_to(&answer)).await
        } else {
            answer
        };
        assert!(answer.headers["location"].to_str().unwrap().starts_with(&format!("{redirect_uri}?code=")));
        // Agreed and signed in, and still asked.
        scene.opened(&browser, &asked).await;
        let none = asked.with("prompt", "none");
        error(&browser.get(scene.node(), &none.path()).await, "interaction_required");
    }
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_scope_the_servers_own_scopes_are_asked_for_and_without_those_what_the_roles_give() {
    let scene = SignIns::new(&["tools/call", "tools/list", "prompts/list"]).await;
    let browser = Browser::default();
    let (_, shown) = scene.opened(&browser, &scene.asked()).await;
    assert!(shown.text.contains("Do everything there that your roles allow."));
    let all = scene.asked();
    let tokens = scene.redeem(&all, &code(&scene.whole(&browser, &all).await)).await.ok();
    assert_eq!(tokens["scope"], "prompts/list tools/call tools/list");
    let scopes = json!([{"name": "notes:read", "description": "Read <your> notes", "permissions": ["tools/list"]},
                        {"name": "admin", "description": "", "permissions": ["resources/list"]}]);
    scene.world.patch(&format!("/v1/servers/{}", scene.world.server.id), json!({"scopes": scopes})).await.ok();
    let other = Browser::default();
    let (_, shown) = scene.opened(&other, &scene.asked()).await;
    assert!(shown.text.contains("Read &#60;your&#62; notes"), "in the server's words, escaped: {}", shown.text);
    let tokens = scene.redeem(&all, &code(&scene.whole(&other, &all).await)).await.ok();
    assert_eq!(tokens["scope"], "tools/list notes:read", "of what was asked for, what the roles give");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_9_and_must_a22_a_code_is_one_clients_one_minutes_and_good_once() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let asked = scene.asked();
    let shown = code(&scene.whole(&browser, &asked).await);
    assert_eq!(
        scene
            .world
            .db
            .count(
                "select count(*) from authorization_codes where expires_at <= authority_now() + interval '60 seconds'"
            )
            .await,
        1
    );
    let form = [
        ("grant_type", "authorization_code"),
        ("code", shown.as_str()),
        ("code_verifier", asked.verifier.as_str()),
        ("redirect_uri", WEB),
    ];
    let other = client(&scene.world, json!({})).await;
    let by = async |client: &str| {
        let whole: Vec<(&str, &str)> = form.into_iter().chain([("client_id", client)]).collect();
        scene.node().send(scene.node().request(Method::POST, "/oauth/token").form(&whole)).await
    };
    by(&other).await.refused(400, "invalid_grant");
    let late = code(&browser.get(scene.node(), &asked.path()).await);
    scene.world.advance(61).await;
    scene.redeem(&asked, &late).await.refused(400, "invalid_grant");
    let good = code(&browser.get(scene.node(), &asked.path()).await);
    scene.redeem(&asked, &good).await.ok();
    scene.redeem(&asked, &good).await.refused(400, "invalid_grant");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_goes_and_traces_have_a_bound() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    code(&scene.whole(&browser, &scene.asked()).await);
    scene.opened(&browser, &scene.asked().with("prompt", "consent")).await;
    let count = async |table: &str| scene.world.db.count(&format!("select count(*) from {table}")).await;
    assert_eq!((count("flows").await, count("logins").await, count("authorization_requests").await), (2, 1, 1));
    scene.world.advance(601).await;
    let expire = async || mcp_authority::jobs::run_all(&scene.world.node.app).await.expect("they run");
    expire().await;
    assert_eq!((count("authorization_requests").await, count("logins").await, count("flows").await), (0, 1, 2));
    scene.world.advance(86_400).await;
    expire().await;
    assert_eq!((count("logins").await, count("authorization_codes").await, count("flows").await), (0, 0, 2));
    scene.world.advance(7 * 86_400).await;
    expire().await;
    assert_eq!((count("flows").await, count("flow_steps").await), (0, 0));
    scene.world.node.stop().await;
}
