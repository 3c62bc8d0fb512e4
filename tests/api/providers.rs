//! Identity providers over the API: who may add them, what never shows and never changes, and what ends with them.

use serde_json::{Value, json};

use crate::support::actors::{pointers, text};
use crate::support::elsewhere::Elsewhere;
use crate::support::keys::Signing;
use crate::support::people::Person;
use crate::support::{Node, TestDb, World};

const ISSUER: &str = "https://login.example.com";

fn openid(name: &str) -> Value {
    json!({"name": name, "kind": "openid", "settings": {"issuer": ISSUER, "client_id": "authority"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_added_read_changed_and_removed_and_its_secret_never_shows() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let role = text(&by.post(&node, "/v1/roles", json!({"name": "staff"})).await.created(), "id");
    let mut body = openid("company");
    body["client_secret"] = json!("canary-of-the-client-secret");
    body["rules"] = json!([{"claim": "groups", "value": "staff", "role_id": role}]);
    let made = by.post(&node, "/v1/providers", body).await.created();
    let path = format!("/v1/providers/{}", text(&made, "id"));
    assert_eq!(
        (&made["title"], &made["has_client_secret"], &made["disabled"]),
        (&json!("company"), &json!(true), &json!(false))
    );
    assert_eq!(by.get(&node, &path).await.ok(), made);
    assert_eq!(by.get(&node, "/v1/providers").await.ok()["items"], json!([made]));
    by.post(&node, "/v1/providers", openid("company")).await.refused(409, "name_taken");

    let change = json!({"title": "Company", "settings": {"scopes": ["openid", "groups"], "username_claim": "email"}});
    let changed = by.patch(&node, &path, change).await.ok();
    assert_eq!(changed["settings"]["scopes"], json!(["openid", "groups"]));
    assert_eq!(changed["settings"]["issuer"], json!(ISSUER), "what is not named stays");
    assert_eq!((&changed["title"], &changed["has_client_secret"]), (&json!("Company"), &json!(true)));
    let cleared =
        by.patch(&node, &path, json!({"title": null, "client_secret": null, "settings": {"scopes": null}})).await.ok();
    assert_eq!((&cleared["title"], &cleared["has_client_secret"]), (&json!("company"), &json!(false)));
    assert!(cleared["settings"].get("scopes").is_none());
    for (body, code) in [
        (json!({"name": "other"}), "immutable_field"),
        (json!({"kind": "oauth2"}), "immutable_field"),
        (json!({"settings": {"issuer": "https://other.example"}}), "immutable_field"),
        (json!({"settings": {"issuer": null}}), "invalid_fields"),
        (json!({"settings": []}), "invalid_fields"),
    ] {
        by.patch(&node, &path, body).await.refused(422, code);
    }

    by.delete(&node, &format!("/v1/roles/{role}")).await.refused(409, "in_use");
    by.delete(&node, &path).await.enforced();
    by.get(&node, &path).await.refused(404, "not_found");
    by.delete(&node, &format!("/v1/roles/{role}")).await.enforced();
    by.post(&node, "/v1/providers", openid("company")).await.created();
    assert_eq!(db.count("select count(*) from audit_log where body::text like '%provider.deleted%'").await, 1);
    for table in ["audit_log", "providers", "idempotency_keys"] {
        let found = db.count(&format!("select count(*) from {table} t where t::text like '%canary%'")).await;
        assert_eq!(found, 0, "{table}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_providers_are_told_what_is_wrong_with_them() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let by = node.operator().await;
    let with = |name: &str, value: Value| {
        let mut body = openid("p");
        body[name] = value;
        body
    };
    let rule = json!({"claim": "groups", "role_id": "rol_00000000000000000000000000000000"});
    for (body, pointer) in [
        (with("name", json!("Company")), "/name"),
        (with("name", json!("-a")), "/name"),
        (with("name", json!("a".repeat(33))), "/name"),
        (with("title", json!("")), "/title"),
        (with("kind", json!("saml")), "/kind"),
        (with("settings", json!({"issuer": "http://login.example.com", "client_id": "c"})), "/settings/issuer"),
        (with("settings", json!({"issuer": ISSUER})), "/settings"),
        (with("client_secret", json!("")), "/client_secret"),
        (with("client_secret", json!("größe")), "/client_secret"),
        (with("rules", json!([rule])), "/rules/0/role_id"),
        (
            with("rules", json!([{"claim": "a..b", "role_id": "rol_00000000000000000000000000000000"}])),
            "/rules/0/claim",
        ),
        (with("rules", json!([["groups", null, "rol_00000000000000000000000000000000"]])), "/rules/0"),
        (with("extra", json!(1)), "/extra"),
    ] {
        let refused = by.post(&node, "/v1/providers", body.clone()).await.refused(422, "invalid_fields");
        assert!(pointers(&refused)[0].starts_with(pointer), "{body}: {refused}");
    }
    assert_eq!(by.get(&node, "/v1/providers").await.ok()["items"], json!([]));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_22_a_rule_gives_away_what_its_role_grants() {
    let world = World::new().await;
    let grants = json!([{"server_id": world.server.id, "permissions": ["*"]}]);
    let role = text(&world.post("/v1/roles", json!({"name": "all", "grants": grants})).await.created(), "id");
    let rules = json!([{"claim": "sub", "role_id": role}]);
    let mut body = openid("p");
    let lesser = world.node.operator_with(&["providers:write", "roles:read"], None).await;
    let made = lesser.post(&world.node, "/v1/providers", body.clone()).await.created();
    let path = format!("/v1/providers/{}", text(&made, "id"));
    lesser.patch(&world.node, &path, json!({"rules": rules})).await.refused(403, "beyond_own_rights");
    body["name"] = json!("q");
    body["rules"] = rules.clone();
    lesser.post(&world.node, "/v1/providers", body).await.refused(403, "beyond_own_rights");
    world.patch(&path, json!({"rules": rules})).await.ok();
    // What somebody else gave stays when another field changes.
    lesser.patch(&world.node, &path, json!({"title": "P", "rules": rules})).await.ok();
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_provider_is_refused_where_others_may_come() {
    let db = TestDb::new().await;
    let here = Node::start(&db).await;
    let by = here.operator().await;
    let demo = |name: &str| json!({"name": name, "kind": "demo"});
    by.post(&here, "/v1/providers", demo("demo")).await.created();
    let settings = [("MCPA_PUBLIC_URL", "https://authority.example.com"), ("MCPA_BEHIND_TLS_PROXY", "true")];
    let there = Node::start_with(&db, &settings).await;
    let refused = by.post(&there, "/v1/providers", demo("other")).await.refused(422, "invalid_fields");
    assert_eq!(pointers(&refused), ["/kind"]);
    there.stop().await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_14_with_a_provider_goes_what_its_people_hold() {
    let world = World::new().await;
    for deleted in [false, true] {
        let person = Person::new(&world, &["tools/call"]).await;
        let tokens = person.tokens(&world).await;
        assert!(world.server.accepts(&world.node, &tokens.access).await);
        let path = format!("/v1/providers/{}", person.provider);
        let done = if deleted {
            world.operator.delete(&world.node, &path).await
        } else {
            world.patch(&path, json!({"disabled": true})).await
        };
        done.enforced();
        assert!(!world.server.accepts(&world.node, &tokens.access).await);
        person.refresh(&world.node, &tokens.refresh, &[]).await.refused(400, "invalid_grant");
        if !deleted {
            world.patch(&path, json!({"disabled": false})).await.ok();
            assert!(!world.server.accepts(&world.node, &tokens.access).await, "what died stays dead");
            person.refresh(&world.node, &tokens.refresh, &[]).await.refused(400, "invalid_grant");
        }
    }
    world.node.stop().await;
}

/// A provider elsewhere, and a person of it who holds tokens.
struct Signed {
    key: Signing,
    person: Person,
    issuer: String,
    path: String,
}

impl Signed {
    async fn new(world: &World, elsewhere: &Elsewhere) -> Self {
        let (key, issuer) = (Signing::new("ES256", "k1"), elsewhere.url(""));
        elsewhere.put("/keys", &Signing::set(&[&key]));
        let configuration = json!({"issuer": issuer, "authorization_endpoint": elsewhere.url("/authorize"),
            "token_endpoint": elsewhere.url("/token"), "jwks_uri": elsewhere.url("/keys"), "response_types_supported": ["code"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]});
        elsewhere.put("/.well-known/openid-configuration", &configuration);
        let settings = json!({"issuer": issuer, "client_id": "authority"});
        let body = json!({"name": "company", "kind": "openid", "settings": settings});
        let provider = text(&world.post("/v1/providers", body).await.created(), "id");
        let person = Person::new(world, &["tools/call"]).await;
        world.db.execute(&format!("update users set provider_id = '{provider}' where id = '{}'", person.user)).await;
        Self { key, person, issuer, path: "/oauth/backchannel_logout/company".to_owned() }
    }

    fn token(&self, world: &World, jti: &str, subject: &str) -> String {
        let now = world.node.app.live.now().seconds();
        let header = json!({"alg": "ES256", "typ": "logout+jwt", "kid": "k1"});
        let claims = json!({"iss": self.issuer, "aud": "authority", "iat": now, "exp": now + 120, "jti": jti, "sub": subject,
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}}});
        self.key.jwt(&header, &claims)
    }

    async fn tell(&self, node: &Node, token: &str) -> crate::support::Reply {
        node.send(node.request(reqwest::Method::POST, &self.path).form(&[("logout_token", token)])).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_at_the_provider_ends_what_the_person_holds_on_every_node_once() {
    let elsewhere = Elsewhere::start().await;
    let world = elsewhere.world().await;
    let settings = elsewhere.settings();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let other = Node::start_with(&world.db, &settings).await;
    let signed = Signed::new(&world, &elsewhere).await;
    let held = signed.person.tokens(&world).await;
    assert!(world.server.accepts(&other, &held.access).await);
    let told = signed.tell(&world.node, &signed.token(&world, "j1", "s")).await;
    assert_eq!(told.headers["cache-control"], "no-store");
    assert_eq!(told.status.as_u16(), 200, "{}", told.text);
    for node in [&world.node, &other] {
        assert!(!world.server.accepts(node, &held.access).await);
    }
    let recorded = "select count(*) from audit_entries where chain = 'changes' and action = 'provider.logged_out'";
    assert_eq!(world.db.count(recorded).await, 1);
    signed.person.refresh(&other, &held.refresh, &[]).await.refused(400, "invalid_grant");
    // Shown again, to whichever node, it ends nothing that came later.
    let later = signed.person.tokens(&world).await;
    let token = signed.token(&world, "j1", "s");
    for node in [&world.node, &other] {
        let refused = signed.tell(node, &token).await;
        assert_eq!(refused.headers["cache-control"], "no-store");
        refused.refused(400, "invalid_request");
    }
    // Of somebody unknown there is nothing to end, which is no mistake.
    assert_eq!(signed.tell(&world.node, &signed.token(&world, "j2", "nobody")).await.status.as_u16(), 200);
    assert!(world.server.accepts(&world.node, &later.access).await);
    other.stop().await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_logout_token_is_refused_recorded_and_slowed_down() {
    let elsewhere = Elsewhere::start().await;
    let world = elsewhere.world().await;
    let signed = Signed::new(&world, &elsewhere).await;
    let held = signed.person.tokens(&world).await;
    let good = signed.token(&world, "j1", "s");
    let missing =
        world.node.request(reqwest::Method::POST, "/oauth/backchannel_logout/other").form(&[("logout_token", &good)]);
    world.node.send(missing).await.refused(400, "invalid_request");
    let empty: [(&str, &str); 0] = [];
    let empty = world.node.request(reqwest::Method::POST, &signed.path).form(&empty);
    world.node.send(empty).await.refused(400, "invalid_request");
    signed.tell(&world.node, &good[..good.len() - 4]).await.refused(400, "invalid_request");
    assert!(world.server.accepts(&world.node, &held.access).await);
    let mut slowed = false;
    for _ in 0..100 {
        slowed = signed.tell(&world.node, "x.y.z").await.status.as_u16() == 429;
        if slowed {
            break;
        }
    }
    assert!(slowed, "whoever guesses waits");
    let recorded = async || {
        world.db.count("select count(*) from audit_log where body::text like '%provider.logout_refused%'").await > 0
    };
    world.node.until("the refusal is recorded", recorded).await;
    world.node.stop().await;
}
