//! Whose address counts (`MCPA_TRUSTED_PROXIES`): direct, behind one proxy, behind two, and forged. One rule for address
//! lists, sessions and the audit.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::jwt::claims;
use crate::support::{Key, World, text};

const CALLER: &str = "203.0.113.9";
const OTHER: &str = "198.51.100.7";

/// A caller with these headers, as seen by a node with these settings.
struct Case {
    settings: &'static [(&'static str, &'static str)],
    headers: &'static [(&'static str, &'static str)],
    /// The address that counts; `None`: unknown.
    address: Option<&'static str>,
}

const DIRECT: &[(&str, &str)] = &[];
const ONE: &[(&str, &str)] = &[("MCPA_TRUSTED_PROXIES", "127.0.0.1")];
const TWO: &[(&str, &str)] = &[("MCPA_TRUSTED_PROXIES", "127.0.0.0/8,10.0.0.0/8")];
const ELSEWHERE: &[(&str, &str)] = &[("MCPA_TRUSTED_PROXIES", "10.0.0.1")];
const UNKNOWN: &[(&str, &str)] = &[("MCPA_BEHIND_TLS_PROXY", "true")];

const fn case(
    settings: &'static [(&'static str, &'static str)],
    headers: &'static [(&'static str, &'static str)],
    address: Option<&'static str>,
) -> Case {
    Case { settings, headers, address }
}

const CASES: [Case; 18] = [
    case(DIRECT, &[], Some("127.0.0.1")),
    case(DIRECT, &[("x-forwarded-for", CALLER)], Some("127.0.0.1")),
    case(DIRECT, &[("forwarded", "for=203.0.113.9"), ("x-real-ip", CALLER)], Some("127.0.0.1")),
    case(ELSEWHERE, &[("x-forwarded-for", CALLER)], Some("127.0.0.1")),
    case(UNKNOWN, &[], None),
    case(UNKNOWN, &[("x-forwarded-for", CALLER)], None),
    case(ONE, &[], None),
    case(ONE, &[("x-forwarded-for", CALLER)], Some(CALLER)),
    case(ONE, &[("forwarded", "for=203.0.113.9;proto=https")], Some(CALLER)),
    case(ONE, &[("x-forwarded-for", "198.51.100.7, 203.0.113.9")], Some(CALLER)),
    case(ONE, &[("x-forwarded-for", "203.0.113.9, 10.0.0.2")], Some("10.0.0.2")),
    case(ONE, &[("forwarded", "for=203.0.113.9"), ("x-forwarded-for", OTHER)], None),
    case(ONE, &[("x-forwarded-for", "unknown")], None),
    case(ONE, &[("x-real-ip", CALLER)], None),
    case(TWO, &[("x-forwarded-for", "203.0.113.9, 10.0.0.2")], Some(CALLER)),
    case(TWO, &[("x-forwarded-for", "198.51.100.7, 203.0.113.9, 10.0.0.2")], Some(CALLER)),
    case(TWO, &[("forwarded", "for=203.0.113.9, for=10.0.0.2")], Some(CALLER)),
    case(TWO, &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], None),
];

async fn listed(world: &World, address: &str) -> Key {
    world.key_on(&[(&world.server, &["*"])], json!({"allowed_cidrs": [address]})).await
}

fn send(world: &World, path: &str, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let mut request = world.node.request(Method::POST, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
}

async fn plays(world: &World, case: &Case) {
    let story = format!("{:?} {:?}", case.settings, case.headers);
    let form = [("grant_type", "client_credentials")];
    for address in [CALLER, OTHER, "127.0.0.1", "10.0.0.2"] {
        let key = listed(world, address).await;
        let request = send(world, "/oauth/token", case.headers).basic_auth(&key.id, Some(&key.key)).form(&form);
        let status = world.node.send(request).await.status.as_u16();
        assert_eq!(status, if case.address == Some(address) { 200 } else { 401 }, "{story}: a list of {address}");
    }
    let anywhere = world.key(&["*"]).await;
    let request = send(world, "/oauth/token", case.headers).basic_auth(&anywhere.id, Some(&anywhere.key)).form(&form);
    let token = world.node.send(request).await.issued();
    let path = format!("/v1/sessions/{}", text(&claims(&token), "jti"));
    let session = world.operator.get(&world.node, &path).await.ok();
    assert_eq!(session.get("client_ip").and_then(Value::as_str), case.address, "{story}: the session");
    let made = send(world, "/v1/agents", case.headers).bearer_auth(&world.operator.key).json(&json!({"name": "a"}));
    let agent = text(&world.node.send(made).await.created(), "id");
    let entries = world.operator.get(&world.node, &format!("/v1/audit?target={agent}")).await.ok();
    let address = entries["items"][0]["event"].get("client_ip").and_then(Value::as_str);
    assert_eq!(address, case.address, "{story}: the audit {entries}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_21_the_address_that_counts_is_never_a_forged_one() {
    let mut worlds: Vec<(&[(&str, &str)], World)> = Vec::new();
    for settings in [DIRECT, ONE, TWO, ELSEWHERE, UNKNOWN] {
        worlds.push((settings, World::with(settings).await));
    }
    for case in &CASES {
        let (_, world) = worlds.iter().find(|(settings, _)| *settings == case.settings).expect("its world");
        plays(world, case).await;
    }
    for (_, world) in worlds {
        world.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_holds_for_the_session_tokens_of_a_key_also_when_it_is_changed() {
    let world = World::new().await;
    let list = |networks: &[&str]| json!({"allowed_cidrs": networks});
    let key = world.key_on(&[(&world.server, &["*"])], list(&["127.0.0.0/8", "2001:db8::/32"])).await;
    let token = world.session(&key).await;
    let active = async |address: Option<&str>| {
        let mut form = vec![("token", token.as_str())];
        form.extend(address.map(|address| ("client_ip", address)));
        world.server.ask(&world.node, &form).await.ok()["active"] == true
    };
    assert!(active(Some("127.1.2.3")).await && active(Some("2001:db8:1::9")).await);
    assert!(!active(None).await && !active(Some(CALLER)).await && !active(Some("2001:db9::1")).await);
    let path = format!("/v1/keys/{}", key.id);
    world.patch(&path, list(&["203.0.113.0/24"])).await.enforced();
    assert!(active(Some(CALLER)).await && !active(Some("127.1.2.3")).await);
    key.session_with(&world.node, &[]).await.refused(401, "invalid_client");
    world.patch(&path, json!({"allowed_cidrs": null})).await.ok();
    assert!(active(None).await && active(Some("192.0.2.1")).await);
    world.node.stop().await;
}
