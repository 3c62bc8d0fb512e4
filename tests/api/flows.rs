//! The trace of a flow: every refusal leaves a step with a stable code, nothing in it is a secret, and operators find it.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::browser::{Asked, Browser, SignIns, WEB, client, code, error, flow, leads_to};
use crate::support::dpop::asked as proofs_shown;
use crate::support::{Reply, text};

/// What happened in a flow, as an operator reads it.
async fn trace(scene: &SignIns, flow: &str) -> Value {
    scene.world.operator.get(scene.node(), &format!("/v1/flows/{flow}")).await.ok()
}

/// How a flow ended: its last step, code and reason.
async fn end(scene: &SignIns, flow: &str) -> (String, String, String) {
    let trace = trace(scene, flow).await;
    let last = trace["steps"].as_array().and_then(|steps| steps.last()).unwrap_or_else(|| panic!("no step in {trace}"));
    assert_eq!(trace["result"], "refused", "{trace}");
    (text(last, "step"), text(last, "code"), text(last, "reason"))
}

/// The flow that a page or a redirect names.
fn named(reply: &Reply) -> String {
    let whole = reply.headers.get("location").map_or(&*reply.text, |to| to.to_str().expect("text"));
    let at = whole.find("flw_").unwrap_or_else(|| panic!("no flow in {} {whole}", reply.status));
    whole[at..at + 36].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_tells_an_operator_who_asked_for_what_and_how_far_it_came() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let asked = scene.asked();
    let (page, _) = scene.opened(&browser, &asked).await;
    let id = flow(&page);
    let began = trace(&scene, &id).await;
    assert_eq!((&began["result"], &began["client_id"]), (&json!("open"), &json!(scene.client)));
    assert!(began.get("user_id").is_none());
    let ways = leads_to(&scene.approve(&browser, &page).await);
    let code = code(&scene.demo(&browser, &ways).await);
    let tokens = scene.redeem(&asked, &code).await.ok();
    let told = trace(&scene, &id).await;
    assert_eq!((&told["result"], &told["client_name"]), (&json!("done"), &json!("Editor")));
    assert_eq!((&told["server_id"], &told["server_name"]), (&json!(scene.world.server.id), &json!("server")));
    assert_eq!((&told["username"], &told["project"]), (&json!("demo"), &json!("default")));
    let steps: Vec<&str> =
        told["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["request", "consent", "provider", "sign_in", "consent", "code", "token"]);
    let secrets = [&code, &asked.verifier, &text(&tokens, "access_token"), &text(&tokens, "refresh_token")];
    for secret in secrets.into_iter().chain(&[browser.cookie("mcpa-login").unwrap()]) {
        assert!(!told.to_string().contains(secret.as_str()), "no secret is in it");
    }
    let users = text(&told, "user_id");
    let list = async |query: &str| {
        let listed = scene.world.operator.get(scene.node(), &format!("/v1/flows?{query}")).await.ok();
        listed["items"].as_array().unwrap().iter().map(|flow| text(flow, "id")).collect::<Vec<_>>()
    };
    scene.opened(&Browser::default(), &scene.asked()).await;
    assert_eq!(list(&format!("user_id={users}")).await, std::slice::from_ref(&id));
    assert_eq!(list("result=done").await, [id]);
    assert_eq!(list(&format!("client_id={}", scene.client)).await.len(), 2);
    assert_eq!(list("result=refused").await, [] as [String; 0]);
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_the_authorization_endpoint_is_a_step_with_a_stable_code() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let asked = || scene.asked();
    let web = json!({"grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_basic"});
    let service = client(&scene.world, web).await;
    let cases = [
        (asked().with("client_id", "cli_00000000000000000000000000000000"), "client_unknown"),
        (asked().without("client_id"), "client_missing"),
        (asked().and("client_id", "x"), "doubled_parameter"),
        (asked().with("client_id", "https://127.0.0.1/client.json"), "client_document"),
        (asked().with("redirect_uri", "https://evil.example"), "redirect_mismatch"),
        (asked().with("padding", &"x".repeat(17_000)), "unreadable"),
        (asked().with("request_uri", "urn:ietf:params:oauth:request_uri:x"), "request_uri_unknown"),
        (asked().with("resource", "https://unknown.example.com"), "invalid_target"),
        (asked().with("scope", "no such scope!"), "invalid_scope"),
        (asked().without("code_challenge"), "invalid_request"),
        (asked().with("response_type", "token"), "unsupported_response_type"),
        (asked().with("prompt", "none"), "login_required"),
        (Asked::new(&service, WEB, &scene.world.server), "unauthorized_client"),
    ];
    for (asked, code) in cases {
        let reply = browser.get(scene.node(), &asked.path()).await;
        let id = named(&reply);
        assert!(reply.status == 303 || reply.text.contains(&format!("<code>{id}</code>")), "the page shows it");
        let (step, found, reason) = end(&scene, &id).await;
        assert_eq!((step.as_str(), found.as_str()), ("request", code), "{reason}");
        assert!(reason.len() > 10, "and says why: {reason}");
    }
    scene.world.patch(&format!("/v1/providers/{}", scene.provider), json!({"disabled": true})).await.ok();
    let nobody = browser.get(scene.node(), &asked().path()).await.expect_status(400);
    assert_eq!(end(&scene, &named(&nobody)).await.1, "no_sign_in");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_on_the_way_through_the_pages_is_a_step_with_a_stable_code() {
    let scene = SignIns::new(&["tools/call"]).await;
    let mut seen = BTreeMap::new();
    let mut noted = async |id: String| {
        let (step, code, _) = end(&scene, &id).await;
        seen.insert(code, step);
    };
    let node = scene.node();
    let opened = async |browser: &Browser| scene.opened(browser, &scene.asked()).await.0;
    let browser = Browser::default();
    let page = opened(&browser).await;
    error(&browser.submit(node, &page, &[("decision", "deny")]).await, "access_denied");
    noted(flow(&page)).await;
    browser.submit(node, &page, &[("decision", "approve")]).await.expect_status(400);
    noted(flow(&page)).await;
    let page = opened(&browser).await;
    browser.submit(node, &page, &[]).await.expect_status(400);
    noted(flow(&page)).await;
    let foreign = node.request(Method::POST, &page).header("sec-fetch-site", "cross-site");
    browser.send(node, foreign.form(&[("decision", "approve")])).await.expect_status(403);
    noted(flow(&page)).await;
    Browser::default().get(node, &page).await.expect_status(400);
    noted(flow(&page)).await;
    let ways = leads_to(&scene.approve(&browser, &page).await);
    browser.get(node, &format!("{ways}/other")).await.expect_status(400);
    noted(flow(&page)).await;
    let back = leads_to(&browser.submit(node, &format!("{ways}/demo"), &[]).await);
    Browser::default().get(node, &back).await.expect_status(400);
    noted(flow(&page)).await;
    let page = opened(&browser).await;
    let ways = leads_to(&scene.approve(&browser, &page).await);
    let back = leads_to(&browser.submit(node, &format!("{ways}/demo"), &[]).await);
    error(&browser.get(node, &back.replace("/callback/demo", "/callback/other")).await, "server_error");
    noted(flow(&page)).await;
    let page = opened(&browser).await;
    scene.world.patch(&format!("/v1/clients/{}", scene.client), json!({"disabled": true})).await.ok();
    scene.approve(&browser, &page).await.expect_status(400);
    noted(flow(&page)).await;
    let expected = [
        ("access_denied", "consent"),
        ("client_changed", "consent"),
        ("cross_site", "consent"),
        ("no_cookie", "consent"),
        ("no_decision", "consent"),
        ("not_waiting", "consent"),
        ("other_browser", "sign_in"),
        ("provider_unknown", "provider"),
        ("server_error", "sign_in"),
    ];
    assert_eq!(seen, expected.map(|(code, step)| (code.to_owned(), step.to_owned())).into());
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_request_that_is_refused_is_a_flow_that_ended_where_it_began() {
    let scene = SignIns::new(&["tools/call"]).await;
    let node = scene.node();
    let form = [
        ("client_id", scene.client.as_str()),
        ("response_type", "code"),
        ("code_challenge", &"x".repeat(43)),
        ("code_challenge_method", "plain"),
        ("redirect_uri", "http://127.0.0.1/callback"),
    ];
    let pushed = node.send(node.request(Method::POST, "/oauth/par").form(&form)).await;
    let said = pushed.refused(400, "invalid_request");
    let flows = scene.world.operator.get(node, "/v1/flows").await.ok();
    let id = text(&flows["items"][0], "id");
    assert_eq!(flows["items"][0]["client_id"], scene.client.as_str());
    let (step, code, why) = end(&scene, &id).await;
    assert_eq!((step.as_str(), code.as_str()), ("request", "invalid_request"));
    assert_eq!(said["error_description"], why.as_str());
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_the_token_endpoint_is_a_step_of_the_flow_that_it_belongs_to() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let node = scene.node();
    let asked = scene.asked();
    scene.whole(&browser, &asked).await;
    // Agreed to and signed in, a code comes at once; its flow is the newest.
    let newest = async || text(&scene.world.operator.get(node, "/v1/flows?limit=1").await.ok()["items"][0], "id");
    let again = async || {
        let code = code(&browser.get(node, &asked.path()).await);
        (newest().await, code)
    };
    let refused = async |id: &str, step: &str, code: &str, reason: &str| {
        let found = end(&scene, id).await;
        assert_eq!((found.0.as_str(), found.1.as_str(), found.2.as_str()), (step, code, reason));
    };
    let redeem = async |code: &str, more: &[(&str, &str)]| {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", scene.client.as_str()),
            ("code", code),
            ("code_verifier", asked.verifier.as_str()),
        ];
        form.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        form.extend_from_slice(more);
        node.send(node.request(Method::POST, "/oauth/token").form(&form)).await
    };
    let (id, shown) = again().await;
    redeem(&shown, &[("code_verifier", &"x".repeat(43))]).await.refused(400, "invalid_grant");
    refused(&id, "token", "invalid_grant", "code_verifier_or_redirect_uri").await;
    redeem(&shown, &[("resource", "https://other.example.com")]).await.refused(400, "invalid_target");
    assert_eq!(end(&scene, &id).await.1, "invalid_target");
    redeem(&shown, &[("scope", "prompts/list")]).await.refused(400, "invalid_scope");
    assert_eq!(end(&scene, &id).await.1, "invalid_scope");
    let tokens = redeem(&shown, &[]).await.ok();
    assert_eq!(trace(&scene, &id).await["result"], "done");
    redeem(&shown, &[]).await.refused(400, "invalid_grant");
    refused(&id, "token", "invalid_grant", "code_replayed").await;
    let refresh = async |token: &str, client: &str| {
        let form = [("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", token)];
        node.send(node.request(Method::POST, "/oauth/token").form(&form)).await
    };
    refresh(&text(&tokens, "refresh_token"), &scene.client).await.refused(400, "invalid_grant");
    refused(&id, "refresh", "invalid_grant", "over").await;
    let (id, shown) = again().await;
    let other = client(&scene.world, json!({})).await;
    redeem(&shown, &[("client_id", &other)]).await.refused(400, "invalid_grant");
    refused(&id, "token", "invalid_grant", "code_of_another_client").await;
    let (id, shown) = again().await;
    let tokens = redeem(&shown, &[]).await.ok();
    refresh(&text(&tokens, "refresh_token"), &other).await.refused(400, "invalid_grant");
    refused(&id, "refresh", "invalid_grant", "token_of_another_client").await;
    let (id, shown) = again().await;
    let user = text(&trace(&scene, &id).await, "user_id");
    scene.world.revoke(json!({"kind": "user", "id": user})).await;
    redeem(&shown, &[]).await.refused(400, "invalid_grant");
    refused(&id, "token", "invalid_grant", "revoked").await;
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_before_anybody_looks_at_the_code_is_a_step_of_its_flow_too() {
    let scene = SignIns::new(&["tools/call"]).await;
    let (browser, node, asked) = (Browser::default(), scene.node(), scene.asked());
    scene.whole(&browser, &asked).await;
    let shown = code(&browser.get(node, &asked.path()).await);
    let id = text(&scene.world.operator.get(node, "/v1/flows?limit=1").await.ok()["items"][0], "id");
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("client_id", scene.client.as_str()),
        ("code", shown.as_str()),
        ("code_verifier", asked.verifier.as_str()),
    ];
    proofs_shown(node, &["not.a.proof"], &form).await.refused(400, "invalid_dpop_proof");
    assert_eq!(end(&scene, &id).await.1, "invalid_dpop_proof");
    form.push(("client_secret", "wrong"));
    proofs_shown(node, &[], &form).await.refused(401, "invalid_client");
    let (step, error, why) = end(&scene, &id).await;
    assert_eq!((step.as_str(), error.as_str(), why.as_str()), ("token", "invalid_client", "wrong_secret"));
    form.pop();
    proofs_shown(node, &[], &form).await.ok();
    assert_eq!(trace(&scene, &id).await["result"], "done", "it made no difference to the code");
    scene.world.node.stop().await;
}
