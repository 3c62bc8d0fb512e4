//! Issuers of workload tokens over the API: who may trust them, what a rule must name, and what ends when a way is gone.

use serde_json::{Value, json};

use crate::support::actors::{pointers, text};
use crate::support::platform::client;
use crate::support::{Node, TestDb, World};

const ISSUER: &str = "https://ci.example.com";

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_added_read_changed_and_removed() {
    let world = World::new().await;
    let client = client(&world, &["tools/call"]).await;
    let rules = json!([{"claims": {"sub": "repo:acme/notes:*", "environment": "prod"}, "client_id": client}]);
    let body = json!({"name": "CI", "issuer": ISSUER, "rules": rules});
    let made = world.post("/v1/issuers", body.clone()).await.created();
    let path = format!("/v1/issuers/{}", text(&made, "id"));
    assert!(made.get("jwks_uri").is_none() && made.get("audience").is_none(), "{made}");
    assert_eq!((&made["rules"], &made["disabled"]), (&rules, &json!(false)));
    assert_eq!(world.operator.get(&world.node, &path).await.ok(), made);
    assert_eq!(world.operator.get(&world.node, "/v1/issuers").await.ok()["items"], json!([made]));
    world.post("/v1/issuers", body.clone()).await.refused(409, "name_taken");
    let change = json!({"name": "Builds", "jwks_uri": "https://keys.example.com/jwks", "audience": "acme"});
    let changed = world.patch(&path, change).await.enforced();
    assert_eq!((&changed["name"], &changed["audience"]), (&json!("Builds"), &json!("acme")));
    let cleared = world.patch(&path, json!({"jwks_uri": null, "audience": null})).await.enforced();
    assert!(cleared.get("jwks_uri").is_none() && cleared.get("audience").is_none(), "{cleared}");
    world.patch(&path, json!({"issuer": "https://other.example.com"})).await.refused(422, "immutable_field");
    let renamed = world.patch(&path, json!({"name": "CI"})).await.ok();
    assert!(renamed.get("enforced").is_none(), "a name takes nothing away");
    world.operator.delete(&world.node, &path).await.enforced();
    world.operator.get(&world.node, &path).await.refused(404, "not_found");
    world.post("/v1/issuers", body).await.created();
    let recorded = "select count(*) from audit_entries where chain = 'changes' and action = 'issuer.deleted' and body::text like '%repo:acme/notes:*%'";
    assert_eq!(world.db.count(recorded).await, 1, "what went stands in the audit");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_issuers_are_told_what_is_wrong_with_them() {
    let world = World::new().await;
    let good = client(&world, &["tools/call"]).await;
    let other = json!({"client_name": "c", "redirect_uris": ["https://c.example.com/callback"]});
    let other = text(&world.post("/v1/clients", other).await.created(), "id");
    let dynamic = json!({"redirect_uris": ["http://127.0.0.1/callback"], "token_endpoint_auth_method": "none"});
    let dynamic = world.node.request(reqwest::Method::POST, "/oauth/register").json(&dynamic);
    let dynamic = text(&world.node.send(dynamic).await.json, "client_id");
    let with = |name: &str, value: Value| {
        let mut body = json!({"name": "CI", "issuer": ISSUER});
        body[name] = value;
        body
    };
    let rule = |claims: Value, client: &str| json!([{"claims": claims, "client_id": client}]);
    let sub = json!({"sub": "a"});
    let nobody = "cli_00000000000000000000000000000000";
    for (body, pointer) in [
        (with("name", json!("")), "/name"),
        (with("issuer", json!("http://ci.example.com")), "/issuer"),
        (with("issuer", json!("http://localhost:1")), "/issuer"),
        (with("issuer", json!("https://ci.example.com/?x")), "/issuer"),
        (with("issuer", json!("https://user@ci.example.com")), "/issuer"),
        (with("issuer", json!("urn:ci")), "/issuer"),
        (with("issuer", json!("spiffe://trust.example")), "/jwks_uri"),
        (with("issuer", json!(format!("https://{}.example", "a".repeat(512)))), "/issuer"),
        (with("jwks_uri", json!("http://ci.example.com/jwks")), "/jwks_uri"),
        (with("jwks_uri", json!("file:///etc/passwd")), "/jwks_uri"),
        (with("audience", json!("")), "/audience"),
        (with("audience", json!("a b")), "/audience"),
        (with("rules", rule(json!({}), &good)), "/rules/0/claims"),
        (with("rules", rule(json!({"sub": "*"}), &good)), "/rules/0/claims"),
        (with("rules", rule(json!({"aud": "a"}), &good)), "/rules/0/claims"),
        (with("rules", rule(sub.clone(), nobody)), "/rules/0/client_id"),
        (with("rules", rule(sub.clone(), &other)), "/rules/0/client_id"),
        (with("rules", rule(sub.clone(), &dynamic)), "/rules/0/client_id"),
        (with("rules", json!([{"client_id": good}])), "/rules/0/claims"),
        (with("rules", json!([[sub, good]])), "/rules/0"),
        (with("algorithms", json!(["none"])), "/algorithms"),
    ] {
        let refused = world.post("/v1/issuers", body.clone()).await.refused(422, "invalid_fields");
        assert!(pointers(&refused)[0].starts_with(pointer), "{body}: {refused}");
    }
    assert_eq!(world.operator.get(&world.node, "/v1/issuers").await.ok()["items"], json!([]));
    let spiffe =
        json!({"name": "Mesh", "issuer": "spiffe://trust.example", "jwks_uri": "https://spire.example.com/keys"});
    world.post("/v1/issuers", spiffe).await.created();
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_22_a_rule_gives_away_what_its_client_has() {
    let world = World::new().await;
    let client = client(&world, &["*"]).await;
    let rules = json!([{"claims": {"sub": "a"}, "client_id": client}]);
    let lesser = world.node.operator_with(&["issuers:write", "clients:read"], None).await;
    let with_rules = json!({"name": "CI", "issuer": ISSUER, "rules": rules});
    lesser.post(&world.node, "/v1/issuers", with_rules).await.refused(403, "beyond_own_rights");
    let made = lesser.post(&world.node, "/v1/issuers", json!({"name": "CI", "issuer": ISSUER})).await.created();
    let path = format!("/v1/issuers/{}", text(&made, "id"));
    lesser.patch(&world.node, &path, json!({"rules": rules})).await.refused(403, "beyond_own_rights");
    world.patch(&path, json!({"rules": rules})).await.ok();
    // What somebody else gave stays when another field changes.
    lesser.patch(&world.node, &path, json!({"name": "Builds", "rules": rules})).await.ok();
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_an_end_to_issuers() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    db.execute(
        "insert into issuers (id, name, issuer) select 'iss_' || md5(n::text), 'i', 'https://i' || n || '.example' from generate_series(1, 100) n",
    )
    .await;
    let one_more = by.post(&node, "/v1/issuers", json!({"name": "CI", "issuer": ISSUER})).await;
    assert_eq!(pointers(&one_more.refused(422, "invalid_fields")), ["/issuer"]);
    node.stop().await;
}
