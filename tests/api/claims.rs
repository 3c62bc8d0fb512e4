//! Claim links: a person gets a key's new secret, once, and whoever comes later is told when it was taken, and from where.

use mcp_authority::jobs;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::actors::text;
use crate::support::node::PUBLIC_URL;
use crate::support::{Key, Reply, World};

struct Story {
    world: World,
    key: Key,
}

impl Story {
    async fn new() -> Self {
        let world = World::with(&[("MCPA_TRUSTED_PROXIES", "127.0.0.1")]).await;
        let key = world.key(&["*"]).await;
        Self { world, key }
    }

    async fn ask(&self, body: Value) -> Reply {
        self.world.post(&format!("/v1/keys/{}/claims", self.key.id), body).await
    }

    /// The path of a new link.
    async fn link(&self, body: Value) -> String {
        let made = self.ask(body).await.created();
        assert_eq!(made["enforced"]["complete"], true, "{made}");
        text(&made, "url").strip_prefix(PUBLIC_URL).expect("here").to_owned()
    }

    async fn look(&self, path: &str) -> Reply {
        let request = self.world.node.request(Method::GET, path).header("x-forwarded-for", "192.0.2.1");
        self.world.node.send(request).await
    }

    async fn press(&self, path: &str, from: &str) -> Reply {
        let request = self.world.node.request(Method::POST, path).header("x-forwarded-for", from);
        self.world.node.send(request.header("sec-fetch-site", "same-origin").form(&[("x", "y")])).await
    }

    async fn listed(&self) -> Vec<Value> {
        let path = format!("/v1/keys/{}/claims", self.key.id);
        self.world.operator.get(&self.world.node, &path).await.ok()["items"].as_array().unwrap().clone()
    }

    async fn sealed(&self) -> i64 {
        self.world.db.count("select count(*) from key_claims where secret is not null").await
    }
}

/// The secret on a page.
fn shown(reply: &Reply) -> Option<String> {
    let rest = reply.text.split_once("mcp_prod_")?.1;
    Some(format!("mcp_prod_{}", rest.split('<').next()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_shows_the_secret_once_and_says_afterwards_who_took_it() {
    let story = Story::new().await;
    let made = story.ask(json!({})).await.created();
    assert!(made.get("key").is_none() && !made.to_string().contains("mcp_prod_"), "{made}");
    let path = text(&made, "url").strip_prefix(PUBLIC_URL).unwrap().to_owned();
    assert_eq!(story.listed().await[0]["status"], "waiting");
    // Programs that show messages look at it, more than once.
    for _ in 0..3 {
        let page = story.look(&path).await.expect_status(200);
        assert!(page.text.contains("Show the secret") && shown(&page).is_none(), "{}", page.text);
        assert!(page.text.contains(&story.key.id) && !page.text.contains("<script"));
        assert_eq!(page.headers["cache-control"], "no-store");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && policy.ends_with("form-action 'self'"), "{policy}");
    }
    let page = story.press(&path, "192.0.2.44").await.expect_status(200);
    assert_eq!(page.headers["cache-control"], "no-store");
    let secret = shown(&page).expect("the secret");
    assert!(story.world.accepts(&secret).await);
    for again in [story.look(&path).await, story.press(&path, "192.0.2.66").await] {
        let again = again.expect_status(410);
        assert!(again.text.contains("opened before") && again.text.contains("192.0.2.44"), "{}", again.text);
        assert!(shown(&again).is_none());
    }
    let listed = &story.listed().await[0];
    assert_eq!((&listed["status"], &listed["opened_ip"]), (&json!("opened"), &json!("192.0.2.44")));
    assert!(listed["opened_at"].is_string() && listed["id"] == made["id"] && listed["version"] == made["version"]);
    assert_eq!(story.sealed().await, 0, "erased");
    let recorded =
        "select count(*) from audit_entries where action in ('key.claim_created', 'key.claimed') and result = 'done'";
    assert_eq!(story.world.db.count(recorded).await, 2);
    story.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_secret_nor_the_link_is_at_rest() {
    let story = Story::new().await;
    let path = story.link(json!({})).await;
    let token = path.rsplit('/').next().unwrap();
    assert_eq!(token.len(), 43, "256 bits");
    let columns = "id, key_id, encode(token_digest, 'escape'), secret_key, encode(secret, 'escape'), created_by";
    let at_rest = async |what: &str| {
        let rows = format!("select count(*) from key_claims where concat_ws(' ', {columns}) like '%{what}%'");
        let audit = format!("select count(*) from audit_entries where body::text like '%{what}%'");
        story.world.db.count(&rows).await + story.world.db.count(&audit).await
    };
    assert_eq!(at_rest(token).await, 0);
    assert_eq!(at_rest("mcp_prod_").await, 0);
    assert_eq!(story.sealed().await, 1);
    let secret = shown(&story.press(&path, "192.0.2.1").await.expect_status(200)).unwrap();
    assert_eq!(at_rest(&secret[9..]).await, 0);
    story.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_our_own_page_opens_a_link() {
    let story = Story::new().await;
    let path = story.link(json!({})).await;
    let post = || story.world.node.request(Method::POST, &path);
    for request in [
        post(),
        post().header("sec-fetch-site", "cross-site"),
        post().header("sec-fetch-site", "none"),
        post().header("origin", "https://evil.example"),
    ] {
        assert!(shown(&story.world.node.send(request).await.expect_status(403)).is_none());
    }
    assert_eq!(story.listed().await[0]["status"], "waiting");
    story.press(&path, "192.0.2.1").await.expect_status(200);
    story.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_after_an_hour_and_its_secret_is_erased() {
    let mut story = Story::new().await;
    let path = story.link(json!({})).await;
    story.world.advance(3_599).await;
    story.look(&path).await.expect_status(200);
    story.world.advance(1).await;
    for over in [story.look(&path).await, story.press(&path, "192.0.2.1").await] {
        let over = over.expect_status(410);
        assert!(over.text.contains("Nobody opened it") && shown(&over).is_none(), "{}", over.text);
    }
    assert_eq!(story.listed().await[0]["status"], "expired");
    jobs::run_all(&story.world.node.app).await.expect("every job");
    assert_eq!(story.sealed().await, 0);
    story.world.advance(91 * 86_400).await;
    // The operator before has reached its end too.
    story.world.operator = story.world.node.operator().await;
    jobs::run_all(&story.world.node.app).await.expect("every job");
    assert!(story.listed().await.is_empty(), "and forgotten one day");
    for (life, lives) in [(59, false), (60, true), (86_400, true), (86_401, false), (-1, false)] {
        let reply = story.ask(json!({"life_seconds": life})).await;
        assert_eq!(reply.status.as_u16(), if lives { 201 } else { 422 }, "{life}");
    }
    story.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_secret_and_a_revocation_end_the_links_before() {
    let story = Story::new().await;
    let first = story.link(json!({})).await;
    let second = story.link(json!({})).await;
    story.press(&first, "192.0.2.1").await.expect_status(410);
    let listed = story.listed().await;
    assert_eq!((&listed[0]["status"], &listed[1]["status"]), (&json!("waiting"), &json!("withdrawn")));
    assert_eq!(story.sealed().await, 1);
    story.world.post(&format!("/v1/keys/{}/revoke", story.key.id), json!({})).await.enforced();
    story.press(&second, "192.0.2.1").await.expect_status(410);
    story.ask(json!({})).await.refused(409, "key_revoked");
    story.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_nobody_had_ends_at_once_and_a_used_one_has_its_overlap() {
    let story = Story::new().await;
    let path = story.link(json!({"grace_seconds": 3_600})).await;
    assert!(!story.world.accepts(&story.key.key).await, "it was in the operator's reply, and in no program");
    let claimed = shown(&story.press(&path, "192.0.2.1").await.expect_status(200)).unwrap();
    assert!(story.world.accepts(&claimed).await);
    let made = story.ask(json!({"grace_seconds": 3_600})).await.created();
    assert!(made["previous"]["last_used_at"].is_string(), "{made}");
    let path = text(&made, "url").strip_prefix(PUBLIC_URL).unwrap().to_owned();
    let next = shown(&story.press(&path, "192.0.2.1").await.expect_status(200)).unwrap();
    assert!(story.world.accepts(&claimed).await && story.world.accepts(&next).await);
    story.world.advance(3_600).await;
    assert!(!story.world.accepts(&claimed).await && story.world.accepts(&next).await);
    story.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_open_a_link_at_the_same_time_one_sees_the_secret() {
    let story = Story::new().await;
    let path = story.link(json!({})).await;
    let pages = futures_util::future::join_all((0..8).map(|_| story.press(&path, "192.0.2.1"))).await;
    assert_eq!(pages.iter().filter(|page| shown(page).is_some()).count(), 1);
    assert_eq!(pages.iter().filter(|page| page.status.as_u16() == 410).count(), 7);
    story.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_links_is_told_to_wait() {
    let story = Story::new().await;
    let guess = format!("/claims/{}", "A".repeat(43));
    for path in [guess.as_str(), "/claims/x", "/claims/%00", "/claims/..%2f"] {
        assert!(story.look(path).await.status.is_client_error(), "{path}");
    }
    let mut waits = false;
    for _ in 0..200 {
        waits |= story.look(&guess).await.status.as_u16() == 429;
    }
    assert!(waits);
    let path = story.link(json!({})).await;
    story.press(&path, "192.0.2.1").await.expect_status(200);
    story.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_for_a_link_makes_one_and_shows_it_once() {
    let story = Story::new().await;
    let path = format!("/v1/keys/{}/claims", story.key.id);
    let send = async || {
        let request = story.world.node.request(Method::POST, &path).bearer_auth(&story.world.operator.key);
        story.world.node.send(request.header("idempotency-key", "once").json(&json!({}))).await
    };
    let (first, second) = (send().await.created(), send().await.created());
    assert_eq!(second["id"], first["id"]);
    assert!(second.get("url").is_none() && second["secret_already_shown"] == true, "{second}");
    let token = text(&first, "url").rsplit('/').next().unwrap().to_owned();
    let kept = format!("select count(*) from idempotency_keys where body like '%{token}%'");
    assert_eq!(story.world.db.count(&kept).await, 0);
    assert_eq!(story.listed().await.len(), 1);
    story.world.node.stop().await;
}
