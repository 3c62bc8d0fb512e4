//! Workload identity (RFC 7523 §2.1 by a platform's token): a workload without any secret of its own gets what a client has.

use reqwest::Method;
use serde_json::json;

use crate::support::actors::text;
use crate::support::dpop::{Prover, asked};
use crate::support::jwt::{assert_members, claims as claims_of};
use crate::support::platform::{JWT_BEARER, Platform, SUBJECT, client, over, recorded};

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
async fn a_workload_that_shows_a_proof_gets_a_bound_token_and_a_client_that_wants_one_gets_none_without() {
    let platform = Platform::new().await;
    let (node, prover) = (platform.node(), Prover::new());
    let with_proof = async |token: &str| {
        let form = [("grant_type", JWT_BEARER), ("assertion", token)];
        asked(node, &[&prover.proof(node)], &form).await
    };
    let issued = with_proof(&platform.token(&json!({}))).await.ok();
    assert_eq!(issued["token_type"], "DPoP");
    let told = platform.world.server.introspect(node, &text(&issued, "access_token")).await;
    assert_eq!(told["cnf"], json!({"jkt": prover.jkt()}));
    let path = format!("/v1/clients/{}", platform.client);
    platform.world.patch(&path, json!({"dpop_bound_access_tokens": true})).await.ok();
    let token = platform.token(&json!({}));
    platform.shows(&token, &[]).await.refused(400, "invalid_dpop_proof");
    // What was refused is not used up.
    assert_eq!(with_proof(&token).await.ok()["token_type"], "DPoP");
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
    let smaller = json!({"grants": [{"server_id": world.server.id, "permissions": ["tools/list"]}]});
    world.patch(&client, smaller).await.enforced();
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
