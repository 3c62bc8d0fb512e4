//! Enterprise-managed authorization: a company's provider signs identity assertions (ID-JAG), and clients get tokens for its
//! people without anybody being asked.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::actors::{pointers, text};
use crate::support::company::{Company, TYPE, role};
use crate::support::dpop::{Prover, asked};
use crate::support::jwt::{assemble, assert_members};
use crate::support::node::PUBLIC_URL;
use crate::support::platform::{JWT_BEARER, over, recorded};
use crate::support::{Node, Server, Signing};

const PROFILE: &str = "urn:ietf:params:oauth:grant-profile:id-jag";

#[tokio::test(flavor = "multi_thread")]
async fn ema_metadata_name_the_profile_while_a_provider_has_it_and_never_which() {
    let company = Company::new(&["tools/call"]).await;
    let told = async || {
        let reply = company
            .node()
            .send(company.node().request(Method::GET, "/.well-known/oauth-authorization-server/oauth"))
            .await;
        assert!(!reply.text.contains(&company.issuer), "{}", reply.text);
        let metadata = reply.ok();
        let grants = metadata["grant_types_supported"].as_array().expect("a list").contains(&json!(JWT_BEARER));
        let profile = metadata.get("authorization_grant_profiles_supported") == Some(&json!([PROFILE]));
        assert_eq!(grants, profile);
        profile
    };
    company.node().until("it works, and they say so", told).await;
    company.world.patch(&company.path, json!({"enterprise_managed": false})).await.enforced();
    company.node().until("it does not, and they do not", async || !told().await).await;
    company.refuses(&company.jag(&json!({})), "assertion_issuer").await;
    company.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ema_an_assertion_gets_a_token_for_a_person_whom_nobody_asked() {
    let company = Company::new(&["tools/call", "tools/list"]).await;
    let named = json!({"preferred_username": "Ada", "email": "ada@example.com"});
    let reply = company.shows(&company.jag(&named), &[]).await;
    assert_eq!(reply.headers["cache-control"], "no-store");
    let body = reply.ok();
    // No refresh token: the company is asked again each time.
    assert_members(&body, &["access_token", "token_type", "expires_in", "scope"]);
    assert_eq!((&body["token_type"], &body["scope"]), (&json!("Bearer"), &json!("tools/call tools/list")));
    let told = company.world.server.introspect(company.node(), &text(&body, "access_token")).await;
    let person = company.person().await;
    assert_eq!((&told["sub"], &told["client_id"]), (&person["id"], &json!(company.client)));
    assert_eq!(
        (&told["aud"], &told["scope"]),
        (&json!(company.world.server.resource), &json!("tools/call tools/list"))
    );
    assert_eq!((&told["username"], &person["email"]), (&json!("Ada"), &json!("ada@example.com")));
    assert_eq!((&person["subject"], told["exp"].as_i64().is_some()), (&json!("U019488227"), true));
    // The same person the next time, and what an assertion does not say stays.
    let again = company.session(&json!({})).await;
    let told = company.world.server.introspect(company.node(), &again).await;
    assert_eq!((&told["sub"], &told["username"]), (&person["id"], &json!("Ada")));
    // The audit names the provider as who agreed, and who vouched.
    let provider = company.path.rsplit('/').next().expect("an id");
    for action in ["consent.given", "user.vouched_for"] {
        let sql = format!(
            "select count(*) from audit_entries where chain = 'changes' and action = '{action}' and actor = '{provider}'"
        );
        assert_eq!(company.world.db.count(&sql).await, 1, "{action}");
    }
    let accepted =
        format!("select count(*) from audit_entries where action = 'assertion.accepted' and actor = '{provider}'");
    company.node().until("each is recorded", async || company.world.db.count(&accepted).await == 2).await;
    company.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ema_resource_is_what_the_client_asks_for_within_what_the_assertion_names() {
    let company = Company::new(&["tools/call"]).await;
    let Company { world, .. } = &company;
    let other = world.operator.server(company.node()).await;
    let of = |server: &Server| json!([server.resource]);
    let (first, second) = (of(&world.server), of(&other));
    let both = json!([world.server.resource, other.resource]);
    let upper = world.server.resource.replace("https://", "HTTPS://");
    for (claim, asked, expected) in [
        (json!(world.server.resource), None, Ok(())),
        (first.clone(), None, Ok(())),
        (json!(upper), None, Ok(())),
        (json!(world.server.resource), Some(&world.server.resource), Ok(())),
        (both.clone(), Some(&world.server.resource), Ok(())),
        (Value::Null, Some(&world.server.resource), Ok(())),
        (json!([world.server.resource, "https://unknown.example.com/mcp"]), None, Ok(())),
        (both, None, Err("invalid_target")),
        (Value::Null, None, Err("invalid_target")),
        (second, Some(&world.server.resource), Err("invalid_target")),
        (first, Some(&other.resource), Err("invalid_target")),
        (json!("https://unknown.example.com/mcp"), None, Err("invalid_target")),
        (json!("not a resource"), None, Err("invalid_target")),
    ] {
        let more: Vec<(&str, &str)> = asked.iter().map(|asked| ("resource", asked.as_str())).collect();
        let reply = company.shows(&company.jag(&json!({"resource": claim})), &more).await;
        match expected {
            Ok(()) => assert_eq!(
                world.server.introspect(company.node(), &reply.issued()).await["aud"],
                json!(world.server.resource)
            ),
            Err(error) => drop(reply.refused(400, error)),
        }
    }
    company.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_24_ema_scope_is_the_part_of_what_is_asked_for_that_assertion_and_roles_allow() {
    let company = Company::new(&["tools/call", "tools/list"]).await;
    for (claim, asked, expected) in [
        (json!("tools/list"), None, Ok("tools/list")),
        (json!("tools/list tools/call"), Some("tools/call"), Ok("tools/call")),
        (json!("tools/list"), Some("tools/list tools/call"), Ok("tools/list")),
        (Value::Null, Some("tools/call:read_*"), Ok("tools/call:read_*")),
        (json!("tools/call prompts/list"), None, Ok("tools/call")),
        (json!("tools/list offline_access"), None, Ok("tools/list")),
        (json!("tools/list"), Some("tools/call"), Err("invalid_scope")),
        (json!("prompts/list"), None, Err("invalid_scope")),
        (json!("no:such:scope"), None, Err("invalid_scope")),
        (Value::Null, Some("no:such:scope"), Err("invalid_scope")),
        (json!("offline_access"), None, Err("invalid_scope")),
        (json!(""), None, Err("invalid_scope")),
    ] {
        let more: Vec<(&str, &str)> = asked.iter().map(|asked| ("scope", *asked)).collect();
        let reply = company.shows(&company.jag(&json!({"scope": claim})), &more).await;
        match expected {
            Ok(scope) => assert_eq!(reply.ok()["scope"], scope, "{claim} {asked:?}"),
            Err(error) => drop(reply.refused(400, error)),
        }
    }
    // What an operator bound the client to binds here too.
    let bound = json!({"scope": "tools/list"});
    company.world.patch(&format!("/v1/clients/{}", company.client), bound).await.ok();
    assert_eq!(company.shows(&company.jag(&json!({})), &[]).await.ok()["scope"], "tools/list");
    company.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_13_ema_an_assertion_that_is_wrong_in_one_thing_gets_nothing() {
    let company = Company::new(&["tools/call"]).await;
    let now = company.world.now();
    let own = format!("{PUBLIC_URL}/oauth");
    for (changes, cause) in [
        (json!({"iss": null}), "assertion_malformed"),
        (json!({"iss": "https://untrusted.example"}), "assertion_issuer"),
        (json!({"iss": format!("{}/", company.issuer)}), "assertion_issuer"),
        (json!({"sub": null}), "assertion_subject"),
        (json!({"aud": null}), "assertion_audience"),
        (json!({"aud": [own, "https://other.example"]}), "assertion_audience"),
        (json!({"aud": format!("{own}/token")}), "assertion_audience"),
        (json!({"aud": "https://other.example"}), "assertion_audience"),
        (json!({"client_id": null}), "assertion_client"),
        (json!({"client_id": "cli_00000000000000000000000000000000"}), "assertion_client"),
        (json!({"exp": null}), "assertion_malformed"),
        (json!({"iat": null}), "assertion_malformed"),
        (json!({"jti": null}), "assertion_id"),
        (json!({"exp": now}), "assertion_expired"),
        (json!({"exp": now + 4_000}), "assertion_too_long"),
        (json!({"iat": now + 120, "exp": now + 300}), "assertion_not_yet"),
        (json!({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}), "assertion_bound"),
        (json!({"tenant": "acme"}), "assertion_not_understood"),
        (json!({"authorization_details": [{"type": "x"}]}), "assertion_not_understood"),
    ] {
        company.refuses(&company.jag(&changes), cause).await;
    }
    company.session(&json!({"aud": [own]})).await;
    company.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ema_an_assertion_bound_to_a_key_counts_with_a_proof_of_that_key_and_so_does_its_token() {
    let company = Company::new(&["tools/call"]).await;
    let (node, holder, thief) = (company.node(), Prover::new(), Prover::new());
    let shown_with = async |jag: &str, prover: &Prover| {
        let form = [
            ("grant_type", JWT_BEARER),
            ("assertion", jag),
            ("client_id", &company.client),
            ("client_secret", &company.secret),
        ];
        asked(node, &[&prover.proof(node)], &form).await
    };
    let bound = company.jag(&json!({"cnf": {"jkt": holder.jkt()}}));
    company.refuses(&bound, "assertion_bound").await;
    shown_with(&bound, &thief).await.refused(400, "invalid_grant");
    // Two keys, or another kind of binding, is something that nothing here proves.
    let other = company.jag(&json!({"cnf": {"jkt": holder.jkt(), "x5t#S256": holder.jkt()}}));
    shown_with(&other, &holder).await.refused(400, "invalid_grant");
    let issued = shown_with(&bound, &holder).await.ok();
    assert_eq!(issued["token_type"], "DPoP");
    let told = company.world.server.introspect(node, &text(&issued, "access_token")).await;
    assert_eq!((&told["token_type"], &told["cnf"]), (&json!("DPoP"), &json!({"jkt": holder.jkt()})));
    // A proof beside an assertion that asks for none binds what comes of it.
    let free = shown_with(&company.jag(&json!({})), &thief).await.ok();
    let told = company.world.server.introspect(node, &text(&free, "access_token")).await;
    assert_eq!(told["cnf"], json!({"jkt": thief.jkt()}));
    company.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_12_ema_only_the_provider_signs_and_only_as_what_it_is() {
    let company = Company::new(&["tools/call"]).await;
    let (claims, stranger) = (company.claims(), Signing::new("ES256", "k1"));
    let header = json!({"alg": "ES256", "kid": "k1", "typ": TYPE});
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, company.secret.as_bytes());
    let hmac = |text: &[u8]| aws_lc_rs::hmac::sign(&secret, text).as_ref().to_vec();
    for (jag, cause) in [
        (stranger.jwt(&header, &claims), "token_signature"),
        (stranger.jwt(&over(header.clone(), &json!({"jwk": stranger.jwk})), &claims), "token_signature"),
        (assemble(&over(header.clone(), &json!({"alg": "none"})), &claims, |_| Vec::new()), "token_algorithm"),
        (assemble(&over(header.clone(), &json!({"alg": "HS256"})), &claims, hmac), "token_algorithm"),
        (company.signed(&json!({"kid": "unpublished"}), &claims), "unknown_key"),
        (company.signed(&json!({"crit": ["exp"]}), &claims), "token_algorithm"),
        // An ID token of the same provider, and whatever else it signs, is no identity assertion.
        (company.signed(&json!({"typ": "JWT"}), &claims), "assertion_issuer"),
        (company.signed(&json!({"typ": null}), &claims), "assertion_issuer"),
        (company.signed(&json!({"typ": "at+jwt"}), &claims), "assertion_type"),
        (company.signed(&json!({"typ": "logout+jwt"}), &claims), "assertion_type"),
    ] {
        company.refuses(&jag, cause).await;
    }
    let typed = company.signed(&json!({"typ": "application/OAuth-ID-JAG+jwt"}), &claims);
    company.shows(&typed, &[]).await.ok();
    company.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_17_ema_an_assertion_is_good_once_on_whatever_node() {
    let company = Company::new(&["tools/call"]).await;
    let settings = company.elsewhere.settings();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let other = Node::start_with(&company.world.db, &settings).await;
    let jag = company.jag(&json!({}));
    company.shows(&jag, &[]).await.ok();
    company.refuses(&jag, "assertion_replayed").await;
    company.shows_to(&other, &jag, &[]).await.refused(400, "invalid_grant");
    for _ in 0..3 {
        let jag = company.jag(&json!({}));
        let all = (0..8).map(|index| company.shows_to(if index % 2 == 0 { company.node() } else { &other }, &jag, &[]));
        let replies = futures_util::future::join_all(all).await;
        let got = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!((got, replies.iter().filter(|reply| reply.status == 400).count()), (1, 7));
    }
    let jag = company.jag(&json!({}));
    company.shows(&jag, &[("scope", "no:such:scope")]).await.refused(400, "invalid_scope");
    company.shows(&jag, &[]).await.ok();
    other.stop().await;
    company.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ema_only_a_client_that_authenticates_and_registered_for_it_shows_assertions() {
    let company = Company::new(&["tools/call"]).await;
    let jag = || company.jag(&json!({}));
    let send = async |form: &[(&str, &str)]| {
        company.node().send(company.node().request(Method::POST, "/oauth/token").form(form)).await
    };
    send(&[("grant_type", JWT_BEARER), ("assertion", &jag())]).await.refused(401, "invalid_client");
    let named = jag();
    send(&[("grant_type", JWT_BEARER), ("assertion", &named), ("client_id", &company.client)])
        .await
        .refused(401, "invalid_client");
    let body = json!({"client_name": "Page", "grant_types": [JWT_BEARER], "token_endpoint_auth_method": "none"});
    let public = text(&company.world.post("/v1/clients", body).await.created(), "client_id");
    let of_public = company.jag(&json!({"client_id": public}));
    send(&[("grant_type", JWT_BEARER), ("assertion", &of_public), ("client_id", &public)])
        .await
        .refused(400, "unauthorized_client");
    recorded(&company.world, "client_public").await;
    let body = json!({"client_name": "Web", "redirect_uris": ["https://web.example.com"], "token_endpoint_auth_method": "client_secret_post"});
    let made = company.world.post("/v1/clients", body).await.created();
    let (other, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let of_other = company.jag(&json!({"client_id": other}));
    send(&[("grant_type", JWT_BEARER), ("assertion", &of_other), ("client_id", &other), ("client_secret", &secret)])
        .await
        .refused(400, "unauthorized_client");
    recorded(&company.world, "client_grant").await;
    // Attack 9: another client's assertion.
    let change = json!({"grant_types": ["authorization_code", JWT_BEARER]});
    company.world.patch(&format!("/v1/clients/{other}"), change).await.ok();
    let leaked = jag();
    send(&[("grant_type", JWT_BEARER), ("assertion", &leaked), ("client_id", &other), ("client_secret", &secret)])
        .await
        .refused(400, "invalid_grant");
    company.shows(&leaked, &[]).await.ok();
    company.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ema_a_client_with_a_metadata_document_shows_assertions_and_signs_itself() {
    let company = Company::new(&["tools/call"]).await;
    let own = Signing::new("ES256", "c1");
    let id = company.elsewhere.url("/client.json");
    company.elsewhere.put("/client-keys", &Signing::set(&[&own]));
    company.elsewhere.put(
        "/client.json",
        &json!({"client_id": id, "client_name": "Assistant", "redirect_uris": ["https://assistant.example.com/callback"],
            "grant_types": ["authorization_code", JWT_BEARER], "token_endpoint_auth_method": "private_key_jwt",
            "jwks_uri": company.elsewhere.url("/client-keys")}),
    );
    let now = company.world.now();
    let claims = json!({"iss": id, "sub": id, "aud": format!("{PUBLIC_URL}/oauth"), "exp": now + 60, "jti": "a"});
    let proof = own.jwt(&json!({"alg": "ES256", "kid": "c1"}), &claims);
    let form = [
        ("grant_type", JWT_BEARER),
        ("assertion", &*company.jag(&json!({"client_id": id}))),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", &proof),
    ];
    let token = company.node().send(company.node().request(Method::POST, "/oauth/token").form(&form)).await.issued();
    assert_eq!(company.world.server.introspect(company.node(), &token).await["client_id"], json!(id));
    company.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_those_that_an_assertion_tells_and_else_those_that_were_known_a_moment_ago() {
    let company = Company::new(&["tools/list"]).await;
    let everybody = company.world.operator.get(company.node(), &company.path).await.ok()["rules"][0]["role_id"].clone();
    let staff = role(&company.world, "staff", &["tools/call"]).await;
    let rules =
        json!([{"claim": "sub", "role_id": everybody}, {"claim": "groups", "value": "staff", "role_id": staff}]);
    company.world.patch(&company.path, json!({"rules": rules})).await.ok();
    let scope = async |changes: Value| company.shows(&company.jag(&changes), &[]).await.ok()["scope"].clone();
    assert_eq!(scope(json!({})).await, "tools/list", "nothing is known of the groups of somebody new");
    assert_eq!(scope(json!({"groups": ["staff"]})).await, "tools/call tools/list");
    assert_eq!(scope(json!({})).await, "tools/call tools/list", "what is not told takes nothing away");
    let held = company.session(&json!({"groups": ["staff"]})).await;
    assert_eq!(scope(json!({"groups": []})).await, "tools/list", "what is told counts at once");
    let told = company.world.server.introspect(company.node(), &held).await;
    assert_eq!(told["permissions"], json!(["tools/list"]), "for what was issued before too");
    assert_eq!(scope(json!({"groups": ["staff"]})).await, "tools/call tools/list");
    // Nobody has said so for longer than the grace, and there is nothing to ask the provider with.
    company.world.advance(3_700).await;
    assert_eq!(scope(json!({})).await, "tools/list", "what was known long ago is not known");
    company.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_14_what_an_assertion_got_ends_with_its_person_its_client_and_its_provider() {
    let company = Company::new(&["tools/call"]).await;
    let Company { world, .. } = &company;
    company.session(&json!({})).await;
    let user = text(&company.person().await, "id");
    let (person, client) = (format!("/v1/users/{user}"), format!("/v1/clients/{}", company.client));
    for path in [&person, &client, &company.path] {
        let (held, before) = (company.session(&json!({})).await, company.jag(&json!({})));
        assert!(world.accepts(&held).await);
        company.later().await;
        world.patch(path, json!({"disabled": true})).await.enforced();
        assert!(!world.accepts(&held).await, "{path}");
        let status = company.shows(&company.jag(&json!({})), &[]).await.status.as_u16();
        assert!([400, 401].contains(&status), "{path}: {status}");
        world.patch(path, json!({"disabled": false})).await.ok();
        assert!(!world.accepts(&held).await, "{path}: what died stays dead");
        company.refuses(&before, "assertion_before_revocation").await;
        company.later().await;
        company.session(&json!({})).await;
    }
    let kinds = [("user", user.as_str()), ("server", &world.server.id), ("project", "default"), ("all", "all")];
    for (kind, id) in kinds {
        let (held, before) = (company.session(&json!({})).await, company.jag(&json!({})));
        company.later().await;
        world.revoke(json!({"kind": kind, "id": id})).await;
        assert!(!world.accepts(&held).await, "{kind}");
        company.refuses(&before, "assertion_before_revocation").await;
        company.later().await;
        assert!(world.accepts(&company.session(&json!({})).await).await, "{kind}: what is said later counts");
    }
    let held = company.session(&json!({})).await;
    world.patch(&company.path, json!({"enterprise_managed": false})).await.enforced();
    assert!(!world.accepts(&held).await);
    company.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_provider_of_an_issuer_at_most_has_its_assertions_and_only_an_openid_one() {
    let company = Company::new(&["tools/call"]).await;
    let settings = json!({"issuer": company.issuer, "client_id": "other"});
    let body = |managed: bool| json!({"name": "second", "kind": "openid", "settings": settings, "enterprise_managed": managed});
    let refused = company.world.post("/v1/providers", body(true)).await.refused(422, "invalid_fields");
    assert_eq!(pointers(&refused), ["/enterprise_managed"]);
    let made = company.world.post("/v1/providers", body(false)).await.created();
    let path = format!("/v1/providers/{}", text(&made, "id"));
    let refused = company.world.patch(&path, json!({"enterprise_managed": true})).await.refused(422, "invalid_fields");
    assert_eq!(pointers(&refused), ["/enterprise_managed"]);
    company.world.operator.delete(company.node(), &company.path).await.enforced();
    assert_eq!(company.world.patch(&path, json!({"enterprise_managed": true})).await.ok()["enterprise_managed"], true);
    let demo = json!({"name": "demo", "kind": "demo", "enterprise_managed": true});
    let refused = company.world.post("/v1/providers", demo).await.refused(422, "invalid_fields");
    assert_eq!(pointers(&refused), ["/enterprise_managed"]);
    company.world.node.stop().await;
}
