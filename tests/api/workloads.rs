//! Workload identity (RFC 7523 §2.1 by a platform's token): a workload without any secret of its own gets what a client has.

use mcp_authority::outbound::RENEWED_AFTER;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::actors::text;
use crate::support::jwt::{assemble, assert_members, claims as claims_of};
use crate::support::node::PUBLIC_URL;
use crate::support::{Elsewhere, Node, Reply, Signing, TestDb, World};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const SUBJECT: &str = "repo:acme/notes:ref:refs/heads/main";

/// A platform that vouches for workloads, and a client that one of them acts as.
struct Platform {
    elsewhere: Elsewhere,
    world: World,
    key: Signing,
    issuer: String,
    /// Its path in the API.
    path: String,
    client: String,
}

async fn client(world: &World, permissions: &[&str]) -> String {
    let grants = json!([{"server_id": world.server.id, "permissions": permissions}]);
    let body = json!({"client_name": "Job", "grant_types": [JWT_BEARER], "token_endpoint_auth_method": "none", "grants": grants});
    text(&world.post("/v1/clients", body).await.created(), "id")
}

impl Platform {
    async fn new() -> Self {
        let elsewhere = Elsewhere::start().await;
        let world = elsewhere.world().await;
        let key = Signing::new("ES256", "k1");
        let issuer = elsewhere.url("");
        // As platforms publish it: nobody signs in there.
        elsewhere.put(
            "/.well-known/openid-configuration",
            &json!({"issuer": issuer, "jwks_uri": elsewhere.url("/jwks"), "id_token_signing_alg_values_supported": ["ES256"]}),
        );
        elsewhere.put("/jwks", &Signing::set(&[&key]));
        let client = client(&world, &["tools/call", "tools/list"]).await;
        let rules = json!([{"claims": {"sub": "repo:acme/notes:*"}, "client_id": client}]);
        let made = world.post("/v1/issuers", json!({"name": "CI", "issuer": issuer, "rules": rules})).await.created();
        let path = format!("/v1/issuers/{}", text(&made, "id"));
        Self { elsewhere, world, key, issuer, path, client }
    }

    fn node(&self) -> &Node {
        &self.world.node
    }

    /// Good claims; each call has another `jti`.
    fn claims(&self) -> Value {
        let now = self.world.now();
        let jti = uuid::Uuid::new_v4().to_string();
        json!({"iss": self.issuer, "sub": SUBJECT, "aud": format!("{PUBLIC_URL}/oauth"), "iat": now, "exp": now + 300, "jti": jti})
    }

    fn token(&self, changes: &Value) -> String {
        self.key.jwt(&json!({"alg": "ES256", "kid": "k1", "typ": "JWT"}), &over(self.claims(), changes))
    }

    async fn shows(&self, token: &str, more: &[(&str, &str)]) -> Reply {
        shows(self.node(), token, more).await
    }

    /// A session token for a workload with these claims.
    async fn session(&self, changes: &Value) -> String {
        self.shows(&self.token(changes), &[]).await.issued()
    }

    /// It gets nothing, and the audit says why; the workload learns only that.
    async fn refuses(&self, token: &str, more: &[(&str, &str)], cause: &str) {
        let reply = self.shows(token, more).await;
        assert_eq!(reply.headers["cache-control"], "no-store");
        let body = reply.refused(400, "invalid_grant");
        assert_eq!(body["error_description"], "the code or token is not good, or not for this client", "{cause}");
        recorded(&self.world, cause).await;
    }
}

/// Shows an assertion, without any other word of who it is.
async fn shows(node: &Node, token: &str, more: &[(&str, &str)]) -> Reply {
    let mut form = vec![("grant_type", JWT_BEARER), ("assertion", token)];
    form.extend_from_slice(more);
    node.send(node.request(Method::POST, "/oauth/token").form(&form)).await
}

/// The audit has a refusal for this cause.
async fn recorded(world: &World, cause: &str) {
    let sql =
        format!("select count(*) from audit_entries where action = 'session.refused' and body ->> 'cause' = '{cause}'");
    world.node.until(cause, async || world.db.count(&sql).await > 0).await;
}

/// `changes` over `right`; null takes a member away.
fn over(mut right: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            right.as_object_mut().expect("an object").remove(name);
        } else {
            right[name] = value.clone();
        }
    }
    right
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_without_a_secret_gets_exactly_what_its_client_has() {
    let platform = Platform::new().await;
    let world = &platform.world;
    let reply = platform.shows(&platform.token(&json!({})), &[("resource", &world.server.resource)]).await;
    assert_eq!(reply.headers["cache-control"], "no-store");
    let body = reply.ok();
    assert_members(&body, &["access_token", "token_type", "expires_in", "scope"]);
    assert_eq!(body["scope"], "tools/call tools/list");
    let told = world.server.introspect(platform.node(), &text(&body, "access_token")).await;
    assert_eq!((&told["sub"], &told["client_id"]), (&json!(platform.client), &json!(platform.client)));
    assert_eq!(
        (&told["aud"], &told["permissions"]),
        (&json!(world.server.resource), &json!(["tools/call", "tools/list"]))
    );
    // Its only server when none is named, less when less is asked for, the client's name beside the token.
    let less =
        platform.shows(&platform.token(&json!({})), &[("scope", "tools/list"), ("client_id", &platform.client)]).await;
    assert_eq!(less.ok()["scope"], "tools/list");
    let more = [("scope", "tools/list prompts/list")];
    assert_eq!(platform.shows(&platform.token(&json!({})), &more).await.ok()["scope"], "tools/list", "attack 24");
    for (more, error) in [
        ([("resource", "https://unknown.example.com/mcp")], "invalid_target"),
        ([("resource", world.operator.server(platform.node()).await.resource.as_str())], "invalid_target"),
        ([("scope", "prompts/list")], "invalid_scope"),
        ([("scope", "no:such:scope")], "invalid_scope"),
    ] {
        platform.shows(&platform.token(&json!({})), &more).await.refused(400, error);
    }
    let by_whom = format!(
        "select count(*) from audit_entries where action = 'assertion.accepted' and target = '{}' and body::text like '%{SUBJECT}%'",
        platform.client
    );
    platform.node().until("the audit says for whom", async || world.db.count(&by_whom).await == 3).await;
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_name_the_grant_while_an_issuer_is_trusted_and_never_which() {
    let platform = Platform::new().await;
    let world = &platform.world;
    let told = async || {
        let reply =
            world.node.send(world.node.request(Method::GET, "/.well-known/oauth-authorization-server/oauth")).await;
        assert!(!reply.text.contains("localhost:") || !reply.text.contains(&platform.issuer), "{}", reply.text);
        let metadata = reply.ok();
        assert!(metadata.get("authorization_grant_profiles_supported").is_none(), "nobody vouches for people here");
        metadata["grant_types_supported"].as_array().expect("a list").contains(&json!(JWT_BEARER))
    };
    world.node.until("it works, and they say so", told).await;
    world.patch(&platform.path, json!({"disabled": true})).await.enforced();
    world.node.until("it does not, and they do not", async || !told().await).await;
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_13_a_workload_token_without_one_of_its_claims_or_with_a_wrong_one_gets_nothing() {
    let platform = Platform::new().await;
    let now = platform.world.now();
    for (changes, cause) in [
        (json!({"iss": null}), "assertion_malformed"),
        (json!({"iss": "https://untrusted.example"}), "assertion_issuer"),
        (json!({"iss": format!("{}/", platform.issuer)}), "assertion_issuer"),
        (json!({"iss": "a\u{0}b"}), "assertion_malformed"),
        (json!({"iss": "x".repeat(600)}), "assertion_malformed"),
        (json!({"sub": null}), "assertion_subject"),
        (json!({"sub": "a\u{0}b"}), "assertion_subject"),
        (json!({"aud": null}), "assertion_audience"),
        (json!({"exp": null}), "assertion_malformed"),
        (json!({"iat": null}), "assertion_malformed"),
        (json!({"jti": null}), "assertion_id"),
        (json!({"exp": now}), "assertion_expired"),
        (json!({"exp": now - 3_600, "iat": now - 3_900}), "assertion_expired"),
        (json!({"exp": now + 4_000}), "assertion_too_long"),
        (json!({"iat": now + 120, "exp": now + 300}), "assertion_not_yet"),
        (json!({"nbf": now + 120}), "assertion_not_yet"),
        (json!({"sub": "repo:acme/other:ref:refs/heads/main"}), "workload_no_rule"),
        (json!({"sub": "repo:acme/notes"}), "workload_no_rule"),
    ] {
        platform.refuses(&platform.token(&changes), &[], cause).await;
    }
    platform.session(&json!({})).await;
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_16_a_workload_token_is_for_us_alone() {
    let platform = Platform::new().await;
    let (own, endpoint) = (format!("{PUBLIC_URL}/oauth"), format!("{PUBLIC_URL}/oauth/token"));
    for right in [json!(own), json!([own]), json!(endpoint), json!([endpoint])] {
        platform.session(&json!({"aud": right})).await;
    }
    for wrong in [
        json!([own, "https://evil.example"]),
        json!([own, endpoint]),
        json!([]),
        json!({}),
        json!(""),
        json!(format!("{own}/")),
        json!(own.to_uppercase()),
        json!(PUBLIC_URL),
        json!("https://evil.example"),
        json!(format!("{own} https://evil.example")),
    ] {
        platform.refuses(&platform.token(&json!({"aud": wrong})), &[], "assertion_audience").await;
    }
    // What an operator names instead is the only one then.
    platform.world.patch(&platform.path, json!({"audience": "api://acme"})).await.enforced();
    platform.session(&json!({"aud": "api://acme"})).await;
    platform.refuses(&platform.token(&json!({"aud": own})), &[], "assertion_audience").await;
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_17_a_workload_token_is_good_once_on_whatever_node_and_at_whatever_moment() {
    let platform = Platform::new().await;
    let settings = platform.elsewhere.settings();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let other = Node::start_with(&platform.world.db, &settings).await;
    let token = platform.token(&json!({}));
    platform.shows(&token, &[]).await.ok();
    platform.refuses(&token, &[], "assertion_replayed").await;
    shows(&other, &token, &[]).await.refused(400, "invalid_grant");
    for _ in 0..3 {
        let token = platform.token(&json!({}));
        let all = (0..8).map(|index| shows(if index % 2 == 0 { platform.node() } else { &other }, &token, &[]));
        let replies = futures_util::future::join_all(all).await;
        let got = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!((got, replies.iter().filter(|reply| reply.status == 400).count()), (1, 7));
    }
    // What was refused for something else was not used up, and a new row of the same issuer brings nothing back.
    let token = platform.token(&json!({}));
    shows(&other, &token, &[("scope", "prompts/list")]).await.refused(400, "invalid_scope");
    platform.shows(&token, &[]).await.ok();
    platform.world.operator.delete(platform.node(), &platform.path).await.enforced();
    let rules = json!([{"claims": {"sub": "repo:acme/notes:*"}, "client_id": platform.client}]);
    platform
        .world
        .post("/v1/issuers", json!({"name": "CI", "issuer": platform.issuer, "rules": rules}))
        .await
        .created();
    platform.refuses(&token, &[], "assertion_replayed").await;
    // It is remembered until it is over, and not for ever.
    platform.world.advance(240).await;
    mcp_authority::jobs::run_all(&platform.node().app).await.expect("the jobs run");
    platform.refuses(&token, &[], "assertion_replayed").await;
    platform.world.advance(3_600).await;
    let forgotten = async || platform.world.db.count("select count(*) from used_assertions").await == 0;
    platform.node().until("used assertions are forgotten", forgotten).await;
    other.stop().await;
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_12_only_the_issuers_published_keys_sign() {
    let platform = Platform::new().await;
    let claims = platform.claims();
    let stranger = Signing::new("ES256", "k1");
    let header = json!({"alg": "ES256", "kid": "k1"});
    let brings =
        over(header.clone(), &json!({"jwk": stranger.jwk, "jku": "https://localhost:1", "x5u": "https://localhost:1"}));
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, platform.key.jwk.to_string().as_bytes());
    let hmac = |text: &[u8]| aws_lc_rs::hmac::sign(&secret, text).as_ref().to_vec();
    let signed = |changes: &Value| platform.key.jwt(&over(header.clone(), changes), &claims);
    for (token, cause) in [
        (stranger.jwt(&header, &claims), "token_signature"),
        (stranger.jwt(&brings, &claims), "token_signature"),
        (assemble(&json!({"alg": "none"}), &claims, |_| Vec::new()), "token_algorithm"),
        (assemble(&json!({"alg": "HS256", "kid": "k1"}), &claims, hmac), "token_algorithm"),
        (signed(&json!({"alg": "RS256"})), "unknown_key"),
        (signed(&json!({"kid": "k2"})), "unknown_key"),
        (signed(&json!({"crit": ["exp"]})), "token_algorithm"),
        (signed(&json!({"typ": "at+jwt"})), "assertion_type"),
        (signed(&json!({"typ": "dpop+jwt"})), "assertion_type"),
        (format!("{}A", signed(&json!({}))), "token_malformed"),
        ("a.b.c".to_owned(), "token_algorithm"),
        ("a".to_owned(), "token_malformed"),
        ("x".repeat(60_000), "token_too_large"),
    ] {
        platform.refuses(&token, &[], cause).await;
    }
    assert!(platform.elsewhere.asked("/jwks") <= 2, "made-up keys make nobody ask again and again");
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_10_no_other_token_is_a_workload_token() {
    let platform = Platform::new().await;
    let key = platform.world.key(&["tools/call"]).await;
    let session = platform.session(&json!({})).await;
    for wrong in [&session, &key.key, &platform.world.operator.key, &platform.world.server.secret] {
        platform.shows(wrong, &[]).await.refused(400, "invalid_grant");
    }
    assert!(!platform.world.accepts(&platform.token(&json!({}))).await, "nor is one of these a session token");
    let held = [("client_id", key.id.as_str()), ("client_secret", key.key.as_str())];
    platform.shows(&platform.token(&json!({})), &held).await.refused(400, "unauthorized_client");
    let none = [("grant_type", JWT_BEARER)];
    let none = platform.node().request(Method::POST, "/oauth/token").form(&none);
    platform.node().send(none).await.refused(400, "invalid_request");
    let twice = format!("grant_type={JWT_BEARER}&assertion=a&assertion=b");
    let twice = platform.node().request(Method::POST, "/oauth/token").body(twice);
    let twice = twice.header("content-type", "application/x-www-form-urlencoded");
    platform.node().send(twice).await.refused(400, "invalid_request");
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_new_is_fetched_once_and_one_that_is_gone_proves_nothing() {
    let platform = Platform::new().await;
    platform.session(&json!({})).await;
    let new = Signing::new("RS256", "k2");
    platform.elsewhere.put("/jwks", &Signing::set(&[&new]));
    let of_new = || new.jwt(&json!({"alg": "RS256", "kid": "k2"}), &platform.claims());
    // The set is young: whoever shows a made-up key does not make us ask again and again.
    platform.refuses(&of_new(), &[], "unknown_key").await;
    let seconds = i64::try_from(RENEWED_AFTER.as_secs()).expect("seconds");
    platform.world.advance(seconds).await;
    platform.shows(&of_new(), &[]).await.ok();
    platform.refuses(&platform.token(&json!({})), &[], "unknown_key").await;
    assert_eq!(platform.elsewhere.asked("/jwks"), 2);
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_several_clients_need_a_name_and_their_order_decides_nothing() {
    let platform = Platform::new().await;
    let other = client(&platform.world, &["prompts/list"]).await;
    let one = json!({"claims": {"sub": "repo:acme/notes:*"}, "client_id": platform.client});
    let two = json!({"claims": {"sub": SUBJECT}, "client_id": other});
    for rules in [json!([one, two]), json!([two, one])] {
        platform.world.patch(&platform.path, json!({"rules": rules})).await.ok();
        platform.refuses(&platform.token(&json!({})), &[], "workload_several_clients").await;
        for (named, scope) in [(&platform.client, "tools/call tools/list"), (&other, "prompts/list")] {
            let reply = platform.shows(&platform.token(&json!({})), &[("client_id", named)]).await;
            assert_eq!(reply.ok()["scope"], scope);
        }
    }
    let stranger = client(&platform.world, &["*"]).await;
    platform.refuses(&platform.token(&json!({})), &[("client_id", &stranger)], "workload_other_client").await;
    platform.refuses(&platform.token(&json!({})), &[("client_id", "nonsense")], "workload_other_client").await;
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_authenticates_beside_the_token_must_be_the_one_and_itself() {
    let platform = Platform::new().await;
    let grants = json!([{"server_id": platform.world.server.id, "permissions": ["tools/call"]}]);
    let body = json!({"client_name": "Job", "grant_types": ["client_credentials", JWT_BEARER], "token_endpoint_auth_method": "client_secret_post", "grants": grants});
    let made = platform.world.post("/v1/clients", body).await.created();
    let (id, secret) = (text(&made, "id"), text(&made, "client_secret"));
    let with = [("client_id", id.as_str()), ("client_secret", secret.as_str())];
    platform.refuses(&platform.token(&json!({})), &with, "workload_other_client").await;
    let rules = json!([{"claims": {"sub": SUBJECT}, "client_id": id}]);
    platform.world.patch(&platform.path, json!({"rules": rules})).await.enforced();
    platform.shows(&platform.token(&json!({})), &with).await.ok();
    let wrong = [("client_id", id.as_str()), ("client_secret", "wrong")];
    platform.shows(&platform.token(&json!({})), &wrong).await.refused(401, "invalid_client");
    // Only named: the token proves which workload it is, and the rules which client that is.
    platform.shows(&platform.token(&json!({})), &[("client_id", &id)]).await.ok();
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_14_what_a_workload_got_ends_with_its_client_its_rule_and_its_issuer() {
    let platform = Platform::new().await;
    let world = &platform.world;
    let client = format!("/v1/clients/{}", platform.client);
    let rules = json!([{"claims": {"sub": "repo:acme/notes:*"}, "client_id": platform.client}]);
    let [narrower, none] = [json!([{"claims": {"sub": SUBJECT}, "client_id": platform.client}]), json!([])];
    // What is done, what the next token gets, and what brings it back.
    for (path, done, refused, undone) in [
        (&client, json!({"disabled": true}), Some("client_disabled"), json!({"disabled": false})),
        (&platform.path, json!({"disabled": true}), Some("assertion_issuer"), json!({"disabled": false})),
        (&platform.path, json!({"rules": none}), Some("workload_no_rule"), json!({"rules": rules})),
        (&platform.path, json!({"rules": narrower}), None, json!({"rules": rules})),
    ] {
        let held = platform.session(&json!({})).await;
        assert!(world.accepts(&held).await);
        world.patch(path, done.clone()).await.enforced();
        assert!(!world.accepts(&held).await, "{done}");
        match refused {
            Some(cause) => platform.refuses(&platform.token(&json!({})), &[], cause).await,
            None => drop(platform.session(&json!({})).await),
        }
        world.patch(path, undone).await.ok();
        assert!(!world.accepts(&held).await, "{done}: what died stays dead");
    }
    let held = platform.session(&json!({})).await;
    world.revoke(json!({"kind": "client", "id": platform.client})).await;
    assert!(!world.accepts(&held).await);
    let held = platform.session(&json!({})).await;
    let narrowed = json!({"grants": [{"server_id": world.server.id, "permissions": ["tools/list"]}]});
    world.patch(&client, narrowed).await.enforced();
    assert_eq!(world.server.introspect(platform.node(), &held).await["permissions"], json!(["tools/list"]));
    world.operator.delete(platform.node(), &platform.path).await.enforced();
    assert!(!world.accepts(&held).await);
    platform.refuses(&platform.token(&json!({})), &[], "assertion_issuer").await;
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_no_longer_takes_the_grant_or_is_gone_gets_nothing_by_its_rule() {
    let platform = Platform::new().await;
    let other = client(&platform.world, &["tools/call"]).await;
    let rules = json!([{"claims": {"sub": SUBJECT}, "client_id": other}]);
    platform.world.patch(&platform.path, json!({"rules": rules})).await.enforced();
    let path = format!("/v1/clients/{other}");
    let change =
        json!({"grant_types": ["authorization_code"], "redirect_uris": ["https://c.example.com"], "grants": []});
    platform.world.patch(&path, change).await.ok();
    platform.shows(&platform.token(&json!({})), &[]).await.refused(400, "unauthorized_client");
    recorded(&platform.world, "client_grant").await;
    platform.world.operator.delete(platform.node(), &path).await.enforced();
    platform.refuses(&platform.token(&json!({})), &[], "client_gone").await;
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_an_issuers_keys_are_fetched_from_where_they_may_be_and_no_redirect_is_followed() {
    let elsewhere = Elsewhere::start().await;
    // This node may not ask its own machine, nor any inner network.
    let db = TestDb::new().await;
    let world = World { node: Node::start(&db).await, db, ..elsewhere.world().await };
    let operator = world.node.operator().await;
    let key = Signing::new("ES256", "k1");
    for (index, host) in
        ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "0x7f.1", "2130706433", "10.0.0.1"]
            .iter()
            .enumerate()
    {
        let issuer = format!("https://w{index}.example.com");
        let body = json!({"name": "CI", "issuer": issuer, "jwks_uri": format!("https://{host}:{}/jwks", elsewhere.url("").rsplit(':').next().expect("a port"))});
        operator.post(&world.node, "/v1/issuers", body).await.created();
        let now = world.now();
        let claims = json!({"iss": issuer, "sub": SUBJECT, "aud": format!("{PUBLIC_URL}/oauth"), "iat": now, "exp": now + 60, "jti": "j"});
        let token = key.jwt(&json!({"alg": "ES256", "kid": "k1"}), &claims);
        shows(&world.node, &token, &[]).await.refused(400, "invalid_grant");
    }
    recorded(&world, "address_refused").await;
    assert_eq!(elsewhere.asked("/jwks"), 0);
    world.node.stop().await;

    let platform = Platform::new().await;
    platform.elsewhere.put_status("/moved", 302, &platform.elsewhere.url("/jwks"));
    let moved = json!({"jwks_uri": platform.elsewhere.url("/moved")});
    platform.world.patch(&platform.path, moved).await.enforced();
    platform.refuses(&platform.token(&json!({})), &[], "redirected").await;
    assert_eq!(platform.elsewhere.asked("/jwks"), 0);
    let somebody_else = json!({"issuer": "https://other.example", "jwks_uri": platform.elsewhere.url("/jwks")});
    platform.elsewhere.put("/.well-known/openid-configuration", &somebody_else);
    platform.world.patch(&platform.path, json!({"jwks_uri": null})).await.enforced();
    platform.refuses(&platform.token(&json!({})), &[], "issuer_mismatch").await;
    // A host that cannot be heard is no word against the workload.
    platform.elsewhere.put_status("/busy", 503, "");
    platform.world.patch(&platform.path, json!({"jwks_uri": platform.elsewhere.url("/busy")})).await.enforced();
    platform.shows(&platform.token(&json!({})), &[]).await.refused(503, "temporarily_unavailable");
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spiffe_workload_is_known_by_keys_at_the_address_that_is_named() {
    let platform = Platform::new().await;
    let domain = "spiffe://trust.example";
    let rules = json!([{"claims": {"sub": "spiffe://trust.example/ns/jobs/*"}, "client_id": platform.client}]);
    let body = json!({"name": "Mesh", "issuer": domain, "jwks_uri": platform.elsewhere.url("/jwks"), "rules": rules});
    platform.world.post("/v1/issuers", body).await.created();
    let token = |sub: &str| {
        let claims = over(platform.claims(), &json!({"iss": domain, "sub": sub}));
        platform.key.jwt(&json!({"alg": "ES256", "kid": "k1"}), &claims)
    };
    let issued = platform.shows(&token("spiffe://trust.example/ns/jobs/nightly"), &[]).await.issued();
    assert_eq!(claims_of(&issued)["client_id"], json!(platform.client));
    platform.refuses(&token("spiffe://trust.example/ns/other/nightly"), &[], "workload_no_rule").await;
    platform.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_27_no_assertion_is_kept_and_whoever_guesses_waits() {
    let platform = Platform::new().await;
    let token = platform.token(&json!({"canary": "canary-of-the-assertion"}));
    platform.shows(&token, &[]).await.ok();
    let wrong = &token[..token.len() - 4];
    platform.shows(wrong, &[]).await.refused(400, "invalid_grant");
    let mut slowed = false;
    for _ in 0..200 {
        slowed = platform.shows(wrong, &[]).await.status.as_u16() == 429;
        if slowed {
            break;
        }
    }
    assert!(slowed, "whoever guesses waits");
    platform.shows(&platform.token(&json!({})), &[]).await.ok();
    let body = token.split('.').nth(1).expect("claims");
    for kept in [body, "canary-of-the-assertion"] {
        let found =
            platform.world.db.count(&format!("select count(*) from audit_log where body::text like '%{kept}%'")).await;
        assert_eq!(found, 0);
    }
    platform.world.node.stop().await;
}
