//! The pages: whose browser, whose word, whose frame; and what a provider's answer must be.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::browser::{Asked, Browser, SignIns, WEB, answer, client, code, error, flow, leads_to};
use crate::support::node::PUBLIC_URL;
use crate::support::{Node, Reply, text};

/// What keeps a page of ours to itself.
fn assert_kept(reply: &Reply, what: &str) {
    let policy = reply.headers["content-security-policy"].to_str().unwrap();
    for directive in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
        assert!(policy.split("; ").any(|one| one.starts_with(directive)), "{what}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("script-src") && !policy.contains('*'), "{what}: {policy}");
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("referrer-policy", "same-origin"),
    ] {
        assert_eq!(reply.headers[name], value, "{what}");
    }
    assert!(reply.headers.get("access-control-allow-origin").is_none(), "{what}: no CORS here (A22)");
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a20_no_page_can_be_framed_kept_or_made_to_run_anything() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let began = browser.get(scene.node(), &scene.asked().path()).await;
    assert_kept(&began, "the redirect");
    let (page, shown) = scene.opened(&browser, &scene.asked()).await;
    let ways = leads_to(&scene.approve(&browser, &page).await);
    let chooser = browser.get(scene.node(), &ways).await;
    let demo = browser.get(scene.node(), &format!("{ways}/demo")).await;
    let wrong = browser.get(scene.node(), "/oauth/authorize").await;
    let style = {
        let from = shown.text.split("rel=\"stylesheet\" href=\"").nth(1).unwrap();
        from.split('"').next().unwrap().to_owned()
    };
    for (what, reply) in [("consent", &shown), ("ways", &chooser), ("demo", &demo), ("wrong", &wrong)] {
        assert_kept(reply, what);
        let html = &reply.text;
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"), "{what}");
        for part in ["<main>", "<h1>", "<title>", "width=device-width", style.as_str()] {
            assert_eq!(html.matches(part).count(), 1, "{what}: {part}");
        }
        for active in ["<script", "javascript:", " style=", "<iframe", "<img", "onclick", "http-equiv"] {
            assert!(!html.contains(active), "{what}: {active}");
        }
    }
    assert!(demo.text.contains("lets anybody in"), "the demo says what it is");
    let css = browser.get(scene.node(), &style).await.expect_status(200);
    assert_eq!(css.headers["cache-control"], "public, max-age=31536000, immutable");
    assert!(css.headers["content-type"].to_str().unwrap().starts_with("text/css"));
    let old = browser.get(scene.node(), "/oauth/pages/style-00000000.css").await.expect_status(200);
    assert_eq!(old.headers["cache-control"], "no-store");
    browser.get(scene.node(), "/oauth/pages/other.css").await.expect_status(404);
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a20_only_our_own_page_in_the_same_browser_answers_for_the_person() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let (page, _) = scene.opened(&browser, &scene.asked()).await;
    let forms: [&[(&str, &str)]; 7] = [
        &[],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site"), ("origin", PUBLIC_URL)],
    ];
    for headers in forms {
        for path in [page.clone(), format!("/oauth/sign-in/{}/demo", flow(&page))] {
            let request = scene.node().request(Method::POST, &path).form(&[("decision", "approve")]);
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let reply = browser.send(scene.node(), request).await.expect_status(403);
            assert!(reply.text.contains("cross_site"), "{headers:?}");
        }
    }
    // Another browser, even one that began the same: not its flow.
    let (stranger, thief) = (Browser::default(), Browser::default());
    scene.opened(&thief, &scene.asked()).await;
    for other in [&stranger, &thief] {
        scene.approve(other, &page).await.expect_status(400);
        other.get(scene.node(), &page).await.expect_status(400);
        other.get(scene.node(), &format!("/oauth/sign-in/{}/demo", flow(&page))).await.expect_status(400);
    }
    // Browsers that do not say where a form comes from name the origin.
    let request = scene.node().request(Method::POST, &page).header("origin", PUBLIC_URL);
    let approved = browser.send(scene.node(), request.form(&[("decision", "approve")])).await;
    assert!(leads_to(&approved).starts_with("/oauth/sign-in/"));
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a20_cookies_are_bound_to_the_host_and_no_script_sees_them() {
    let scene = SignIns::new(&["tools/call"]).await;
    let attributes = |line: &str| line.split("; ").skip(1).map(str::to_owned).collect::<BTreeSet<_>>();
    let browser = Browser::default();
    let began = browser.get(scene.node(), &scene.asked().path()).await;
    let line = began.headers["set-cookie"].to_str().unwrap().to_owned();
    let here = ["Path=/", "Max-Age=3600", "HttpOnly", "SameSite=Lax"].map(str::to_owned);
    assert_eq!(attributes(&line), BTreeSet::from(here), "on this machine without TLS: {line}");
    let told = scene.whole(&browser, &scene.asked()).await;
    let login = told.headers["set-cookie"].to_str().unwrap();
    assert!(
        login.starts_with("mcpa-login=") && login.contains("Max-Age=43200") && login.contains("HttpOnly"),
        "{login}"
    );
    // At rest there is only what the cookie hashes to.
    let value = browser.cookie("mcpa-login").unwrap();
    let digest = mcp_authority::types::opaque::sha256(&value).iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write;
        write!(text, "{byte:02x}").expect("text");
        text
    });
    let found = |digest: &str| format!("select count(*) from logins where encode(digest, 'hex') = '{digest}'");
    assert_eq!(scene.world.db.count(&found(&digest)).await, 1);
    // Elsewhere the prefix, and TLS.
    let path = format!("/v1/providers/{}", scene.provider);
    scene.world.patch(&path, json!({"rules": []})).await.ok();
    let openid = json!({"name": "company", "kind": "openid", "settings": {"issuer": "https://login.example.com", "client_id": "c"}});
    scene.world.post("/v1/providers", openid).await.created();
    let tls = Node::start_with(
        &scene.world.db,
        &[("MCPA_PUBLIC_URL", "https://auth.example.com"), ("MCPA_BEHIND_TLS_PROXY", "true")],
    )
    .await;
    let began = Browser::default().get(&tls, &scene.asked().path()).await;
    let line = began.headers["set-cookie"].to_str().unwrap();
    assert!(line.starts_with("__Host-mcpa-browser="), "{line}");
    let there = ["Path=/", "Max-Age=3600", "HttpOnly", "SameSite=Lax", "Secure"].map(str::to_owned);
    assert_eq!(attributes(line), BTreeSet::from(there));
    tls.stop().await;
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_say_of_themselves_is_shown_as_text() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let name = "<img src=x onerror=alert(1)> & \"Co\"";
    let odd = client(&scene.world, json!({"client_name": name})).await;
    let server = format!("/v1/servers/{}", scene.world.server.id);
    let scopes = json!([{"name": "s", "description": "</li><script>alert(1)</script>", "permissions": ["tools/call"]}]);
    scene.world.patch(&server, json!({"name": "<b>server</b>", "scopes": scopes})).await.ok();
    let asked = Asked::new(&odd, WEB, &scene.world.server).with("login_hint", "<i>").with("scope", "s tools/call:<u>");
    let (page, shown) = scene.opened(&browser, &asked).await;
    let ways = leads_to(&scene.approve(&browser, &page).await);
    let listed = browser.get(scene.node(), &ways).await;
    for html in [&shown.text, &listed.text] {
        for raw in ["<img", "<b>", "<script", "<i>", "<u>", "\"Co\""] {
            assert!(!html.contains(raw), "{raw}");
        }
    }
    assert!(shown.text.contains("&#60;img src=x onerror=alert(1)&#62;"));
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn must_a20_a_providers_answer_is_good_once_in_time_and_in_its_own_browser() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    // Goes as far as to the provider, which answers with this address.
    let departed = async |browser: &Browser| {
        let (page, _) = scene.opened(browser, &scene.asked()).await;
        let ways = leads_to(&scene.approve(browser, &page).await);
        let gone = browser.submit(scene.node(), &format!("{ways}/demo"), &[]).await;
        (page, leads_to(&gone))
    };
    let says = |reply: Reply, word: &str| {
        assert!(reply.status == 400 && reply.text.contains(word), "{word}: {}", reply.text);
    };
    let (_, back) = departed(&browser).await;
    assert!(back.starts_with("/oauth/callback/demo?"), "{back}");
    // Another browser with the right answer: that of an attacker who had somebody else begin, or the other way round.
    says(Browser::default().get(scene.node(), &back).await, "other_browser");
    says(browser.get(scene.node(), &back).await, "state_unknown");
    let (_, back) = departed(&browser).await;
    code(&browser.get(scene.node(), &back).await);
    says(browser.get(scene.node(), &back).await, "state_unknown");
    let (_, back) = departed(&browser_anew(&browser)).await;
    scene.world.advance(601).await;
    says(browser.get(scene.node(), &back).await, "state_unknown");
    for (query, word) in [
        ("", "state_missing"),
        ("?code=x", "state_missing"),
        ("?state=x&code=x", "state_unknown"),
        ("?state=x&state=y", "unreadable"),
    ] {
        says(browser.get(scene.node(), &format!("/oauth/callback/demo{query}")).await, word);
    }
    // Going there twice: the first question is void.
    let browser = Browser::default();
    let (page, first) = departed(&browser).await;
    let second = leads_to(&browser.submit(scene.node(), &format!("/oauth/sign-in/{}/demo", flow(&page)), &[]).await);
    says(browser.get(scene.node(), &first).await, "state_unknown");
    code(&browser.get(scene.node(), &second).await);
    let states = "select count(*) from authorization_requests where state is not null and expires_at > authority_now() + interval '10 minutes'";
    assert_eq!(scene.world.db.count(states).await, 0);
    scene.world.node.stop().await;
}

/// The same browser, signed out.
fn browser_anew(browser: &Browser) -> Browser {
    let other = Browser::default();
    other.set("mcpa-browser", &browser.cookie("mcpa-browser").expect("known"));
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_by_way_of_another_provider_counts_for_nothing() {
    let scene = SignIns::new(&["tools/call"]).await;
    scene.world.post("/v1/providers", json!({"name": "second", "title": "Second", "kind": "demo"})).await.created();
    let browser = Browser::default();
    let (page, _) = scene.opened(&browser, &scene.asked()).await;
    let ways = leads_to(&scene.approve(&browser, &page).await);
    let shown = browser.get(scene.node(), &ways).await;
    assert!(shown.headers.get("refresh").is_none(), "with two ways nobody is sent on");
    for way in ["demo", "second"] {
        assert!(shown.text.contains(&format!("href=\"{ways}/{way}\"")));
    }
    let back = leads_to(&browser.submit(scene.node(), &format!("{ways}/demo"), &[]).await);
    let mixed = back.replace("/callback/demo", "/callback/second");
    error(&browser.get(scene.node(), &mixed).await, "server_error");
    assert_eq!(scene.world.db.count("select count(*) from users").await, 0);
    let steps = scene.steps(&flow(&page)).await;
    assert_eq!(steps.last().unwrap(), &("sign_in".to_owned(), Some("server_error".to_owned())));
    scene
        .world
        .node
        .until("it is recorded", async || {
            let audit = scene.world.operator.get(scene.node(), "/v1/audit?action=user.refused").await.ok();
            audit["items"].as_array().is_some_and(|items| !items.is_empty())
        })
        .await;
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_14_whoever_is_switched_off_signs_in_nowhere_and_gets_nothing() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let asked = scene.asked();
    let token = text(&scene.redeem(&asked, &code(&scene.whole(&browser, &asked).await)).await.ok(), "access_token");
    assert!(scene.world.accepts(&token).await);
    let users = scene.world.operator.get(scene.node(), "/v1/users").await.ok();
    let user = format!("/v1/users/{}", text(&users["items"][0], "id"));
    let changed = scene.world.patch(&user, json!({"disabled": true})).await.enforced();
    assert_eq!(changed["disabled"], true);
    assert!(!scene.world.accepts(&token).await);
    // The browser is signed out, and the provider's word lets nobody in.
    error(&browser.get(scene.node(), &scene.asked().with("prompt", "none").path()).await, "login_required");
    error(&scene.whole(&browser, &scene.asked()).await, "access_denied");
    scene.world.patch(&user, json!({"disabled": false})).await.ok();
    assert!(!scene.world.accepts(&token).await, "what was issued before stays dead");
    code(&scene.whole(&browser, &scene.asked()).await);
    let provider = format!("/v1/providers/{}", scene.provider);
    let stays = scene.world.post("/v1/providers", json!({"name": "second", "kind": "demo"})).await;
    stays.created();
    scene.world.patch(&provider, json!({"disabled": true})).await.enforced();
    error(&browser.get(scene.node(), &scene.asked().with("prompt", "none").path()).await, "login_required");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_what_a_browser_would_get_new_tokens_by() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let none = || scene.asked().with("prompt", "none");
    code(&scene.whole(&browser, &scene.asked()).await);
    let users = scene.world.operator.get(scene.node(), "/v1/users").await.ok();
    let user = text(&users["items"][0], "id");
    scene.world.revoke(json!({"kind": "user", "id": user})).await;
    error(&browser.get(scene.node(), &none().path()).await, "login_required");
    // The entry is forgotten after an hour or so: what it ended does not come back.
    mcp_authority::jobs::run_all(&scene.world.node.app).await.expect("they run");
    scene.world.advance(2 * 3_600).await;
    mcp_authority::jobs::run_all(&scene.world.node.app).await.expect("they run");
    assert_eq!(scene.world.db.count("select count(*) from revocations where kind = 'user'").await, 0);
    error(&browser.get(scene.node(), &none().path()).await, "login_required");
    // What was allowed and revoked is asked for again.
    code(&scene.whole(&browser, &scene.asked()).await);
    code(&browser.get(scene.node(), &none().path()).await);
    let row =
        sqlx::Executor::fetch_one(&mut scene.world.db.connection().await, "select id from consents").await.unwrap();
    let consent: String = sqlx::Row::get(&row, 0);
    scene.world.revoke(json!({"kind": "grant", "id": consent})).await;
    error(&browser.get(scene.node(), &none().path()).await, "consent_required");
    let (page, _) = scene.opened(&browser, &scene.asked()).await;
    code(&scene.approve(&browser, &page).await);
    code(&browser.get(scene.node(), &none().path()).await);
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_a_provider_takes_away_are_gone_when_the_sign_in_is_answered() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let asked = scene.asked();
    let token = text(&scene.redeem(&asked, &code(&scene.whole(&browser, &asked).await)).await.ok(), "access_token");
    scene.world.patch(&format!("/v1/providers/{}", scene.provider), json!({"rules": []})).await.ok();
    assert!(scene.world.accepts(&token).await, "a rule counts with the next sign-in or renewal");
    error(&scene.whole(&browser, &scene.asked().with("prompt", "login")).await, "access_denied");
    assert!(!scene.world.accepts(&token).await, "and then everywhere, when that is answered");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tabs_of_one_browser_go_on_side_by_side_and_a_button_pressed_twice_counts_once() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let (one, _) = scene.opened(&browser, &scene.asked()).await;
    let (other, _) = scene.opened(&browser, &scene.asked().with("state", "second")).await;
    let ways = leads_to(&scene.approve(&browser, &one).await);
    assert_eq!(leads_to(&browser.get(scene.node(), &one).await), ways, "going back leads on");
    code(&scene.demo(&browser, &ways).await);
    let all = futures_util::future::join_all((0..8).map(|_| scene.approve(&browser, &other))).await;
    let codes = all.iter().filter(|reply| reply.status == 303).count();
    assert_eq!(codes, 1, "one answer of eight");
    let told = all.iter().find(|reply| reply.status == 303).unwrap();
    assert_eq!(answer(told)["state"], "second");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_ins_and_consents_are_in_the_audit_without_any_secret() {
    let scene = SignIns::new(&["tools/call"]).await;
    let browser = Browser::default();
    let shown = code(&scene.whole(&browser, &scene.asked()).await);
    let audit = scene.world.operator.get(scene.node(), "/v1/audit?limit=200").await.ok();
    let entries = audit["items"].as_array().unwrap();
    let of = |action: &str| -> Vec<&Value> {
        entries.iter().map(|entry| &entry["event"]).filter(|event| event["action"] == action).collect()
    };
    let (signed_in, agreed) = (of("user.signed_in"), of("consent.given"));
    assert_eq!((signed_in.len(), agreed.len()), (1, 1), "{audit}");
    assert!(signed_in[0]["actor"].as_str().unwrap().starts_with("usr_"));
    assert_eq!(agreed[0]["server_id"], scene.world.server.id);
    let whole = audit.to_string();
    for secret in [shown, browser.cookie("mcpa-login").unwrap(), browser.cookie("mcpa-browser").unwrap()] {
        assert!(!whole.contains(&secret));
    }
    scene.world.node.stop().await;
}
