//! Tests of client metadata: documents as they are in the field, and each rule with what breaks it.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use url::Url;

use super::document::{ClientUrl, NotClientUrl, read};
use super::metadata::*;
use crate::types::alg::Alg;

const ID: &str = "https://app.example/client.json";

fn document(members: &Value) -> Result<ClientMetadata, Mistake> {
    let id = members["client_id"].as_str().unwrap_or(ID);
    read(&Url::parse(id).unwrap(), members.to_string().as_bytes())
}

/// A good document with some members replaced; `null` takes one out.
fn with(changes: &Value) -> Value {
    let mut members = json!({"client_id": ID, "client_name": "App", "redirect_uris": ["https://app.example/cb"]});
    for (name, value) in changes.as_object().unwrap() {
        members[name] = value.clone();
    }
    members
}

/// Which member is refused.
fn refused(changes: &Value) -> String {
    let mistake = document(&with(changes)).unwrap_err();
    assert!(!mistake.to_string().contains("canary"), "{mistake}");
    mistake.member
}

fn registered(members: Value) -> Result<ClientMetadata, Mistake> {
    let Value::Object(members) = members else { panic!("no object") };
    ClientMetadata::read(members, Source::Registration)
}

#[test]
fn cimd_claude_code_is_accepted_with_any_port() {
    let client = document(&json!({
        "client_id": "https://claude.ai/oauth/claude-code-client-metadata",
        "client_name": "Claude Code",
        "client_uri": "https://claude.ai",
        "redirect_uris": ["http://localhost/callback", "http://127.0.0.1/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    }))
    .unwrap();
    assert!(!client.is_confidential() && client.is_loopback_only());
    assert!(client.has_redirect_uri("http://localhost:51234/callback"));
    assert!(client.has_redirect_uri("http://127.0.0.1:3118/callback"));
    assert!(!client.has_redirect_uri("http://[::1]:3118/callback"));
    assert_eq!(client.grant_types, [GrantType::AuthorizationCode, GrantType::RefreshToken]);
}

#[test]
fn cimd_claude_ai_is_accepted_though_it_lists_a_grant_that_it_may_not_use() {
    let client = document(&json!({
        "client_id": "https://claude.ai/oauth/mcp-oauth-client-metadata",
        "client_name": "Claude",
        "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"],
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:x:later"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    }))
    .unwrap();
    assert!(!client.is_confidential() && !client.is_loopback_only());
    assert!(client.has_redirect_uri("https://claude.ai/api/mcp/auth_callback"));
    assert_eq!(client.grant_types.len(), 3);
}

#[test]
fn cimd_chatgpt_is_accepted_and_must_authenticate() {
    for id in ["https://chatgpt.com/oauth/client.json", "https://chatgpt.com/oauth/a1B2c3/client.json"] {
        let mut members = json!({
            "client_id": id,
            "client_name": "ChatGPT",
            "redirect_uris": ["https://chatgpt.com/connector_platform_oauth_redirect"],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": "RS256",
            "jwks_uri": "https://chatgpt.com/oauth/jwks.json",
        });
        let client = document(&members).unwrap();
        assert!(client.is_confidential());
        assert_eq!(client.auth_signing_alg, Some(Alg::Rs256));
        assert_eq!(client.keys, Some(Keys::At("https://chatgpt.com/oauth/jwks.json".parse().unwrap())));
        // The newer form lists all that it can do; what it names as its method still is its method.
        members["token_endpoint_auth_methods_supported"] = json!(["none", "private_key_jwt"]);
        assert_eq!(document(&members).unwrap(), client);
        members["token_endpoint_auth_method"] = Value::Null;
        assert_eq!(document(&members).unwrap(), client);
    }
}

#[test]
fn cimd_vs_code_is_accepted_with_the_slash_that_it_sends() {
    let client = document(&json!({
        "client_id": "https://vscode.dev/oauth/client-metadata.json",
        "client_name": "Visual Studio Code",
        "redirect_uris": ["http://127.0.0.1:33418", "https://vscode.dev/redirect"],
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        "token_endpoint_auth_method": "none",
    }))
    .unwrap();
    assert!(
        client.has_redirect_uri("http://127.0.0.1:33418/") && client.has_redirect_uri("https://vscode.dev/redirect")
    );
    assert!(!client.has_redirect_uri("https://vscode.dev/redirect/") && !client.is_loopback_only());
}

#[test]
fn cimd_opencode_is_accepted() {
    let client = document(&json!({
        "client_id": "https://opencode.ai/oauth/opencode/client.json",
        "client_name": "OpenCode",
        "redirect_uris": ["http://127.0.0.1:19876/mcp/oauth/callback"],
        "token_endpoint_auth_method": "none",
    }))
    .unwrap();
    assert!(client.has_redirect_uri("http://127.0.0.1:40001/mcp/oauth/callback") && client.is_loopback_only());
    assert_eq!(client.grant_types, [GrantType::AuthorizationCode]);
}

#[test]
fn a18_a_document_speaks_for_its_own_address_alone() {
    let good = with(&json!({}));
    for other in [
        "https://app.example/client.json/",
        "https://app.example/client.jso",
        "https://app.example/client.json?",
        "https://evil.example/client.json",
    ] {
        let mistake = read(&Url::parse(other).unwrap(), good.to_string().as_bytes()).unwrap_err();
        assert_eq!(mistake.member, "client_id", "{other}");
    }
    for id in [Value::Null, json!(1), json!("https://APP.example/client.json"), json!("")] {
        let bytes = with(&json!({"client_id": id})).to_string();
        assert_eq!(read(&Url::parse(ID).unwrap(), bytes.as_bytes()).unwrap_err().member, "client_id");
    }
}

#[test]
fn a18_what_is_no_json_object_is_no_document() {
    let deep = "[".repeat(4_000);
    for text in ["", "null", "[]", "\"x\"", "{", "{}x", "<html>", &deep, "{\"client_id\": \"\u{0}\"}"] {
        assert_eq!(read(&Url::parse(ID).unwrap(), text.as_bytes()).unwrap_err().member, "document", "{text}");
    }
    assert_eq!(read(&Url::parse(ID).unwrap(), &[0xff, 0xfe]).unwrap_err().member, "document");
}

#[test]
fn a18_a_document_has_a_name_and_redirect_uris() {
    for name in [
        Value::Null,
        json!(""),
        json!(" \t"),
        json!("x".repeat(101)),
        json!("A\u{202e}ppA"),
        json!("A\u{200b}"),
        json!("A\nB"),
    ] {
        assert_eq!(refused(&json!({"client_name": name})), "client_name");
    }
    assert_eq!(document(&with(&json!({"client_name": " Zoë's 応用 "}))).unwrap().client_name.unwrap(), "Zoë's 応用");
    let many: Vec<_> = (0..33).map(|number| format!("https://app.example/{number}")).collect();
    for uris in [Value::Null, json!([]), json!(many)] {
        assert_eq!(refused(&json!({"redirect_uris": uris})), "redirect_uris");
    }
    let uris = json!(["https://app.example/cb", "http://canary.example/cb"]);
    assert_eq!(refused(&json!({"redirect_uris": uris})), "redirect_uris[1]");
    assert_eq!(document(&with(&json!({"redirect_uris": uris}))).unwrap_err().code(), "invalid_redirect_uri");
    assert_eq!(refused(&json!({"redirect_uris": "https://app.example/cb"})), "redirect_uris");
    assert_eq!(refused(&json!({"redirect_uris": [["canary"]]})), "redirect_uris[0]");
}

#[test]
fn a18_a_document_holds_no_secret() {
    for name in ["client_secret", "client_secret_expires_at", "client_secret_x"] {
        for value in [json!("canary"), json!(0), Value::Null] {
            assert_eq!(refused(&json!({name: value})), "client_secret");
        }
    }
    for method in ["client_secret_basic", "client_secret_post", "client_secret_jwt", "tls_client_auth", "", "NONE"] {
        assert_eq!(refused(&json!({"token_endpoint_auth_method": method})), "token_endpoint_auth_method", "{method}");
    }
    let only = json!(["client_secret_basic", "later"]);
    let member = "token_endpoint_auth_methods_supported";
    assert_eq!(refused(&json!({member: only})), member);
    let able = json!(["client_secret_basic", "none", "private_key_jwt"]);
    assert_eq!(document(&with(&json!({member: able}))).unwrap().auth_method, AuthMethod::None);
}

#[test]
fn private_key_jwt_needs_public_keys_in_one_place() {
    let key = json!({"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "kid": "1"});
    let jwt = |changes: &Value| {
        let mut members = with(&json!({"token_endpoint_auth_method": "private_key_jwt"}));
        for (name, value) in changes.as_object().unwrap() {
            members[name] = value.clone();
        }
        document(&members).map(|client| client.keys).map_err(|mistake| mistake.member)
    };
    assert_eq!(jwt(&json!({})), Err("jwks_uri".to_owned()));
    assert_eq!(jwt(&json!({"jwks": {"keys": [key]}})), Ok(Some(Keys::Inline(json!({"keys": [key]}).to_string()))));
    assert_eq!(jwt(&json!({"jwks": {"keys": [key]}, "jwks_uri": "https://app.example/k"})), Err("jwks".to_owned()));
    for set in [
        json!({}),
        json!([]),
        json!({"keys": []}),
        json!({"keys": [1]}),
        json!({"keys": [{}]}),
        json!({"keys": vec![key.clone(); 17]}),
    ] {
        assert_eq!(jwt(&json!({"jwks": set})), Err("jwks".to_owned()), "{set}");
    }
    for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        let mut leaked = key.clone();
        leaked[private] = json!("canary");
        assert_eq!(jwt(&json!({"jwks": {"keys": [key, leaked]}})), Err("jwks".to_owned()), "{private}");
    }
    assert_eq!(jwt(&json!({"jwks": {"keys": [{"kty": "oct"}]}})), Err("jwks".to_owned()));
    for uri in ["http://app.example/k", "https://u@app.example/k", "https://app.example/k#1", "k", "file:///k", ""] {
        assert_eq!(jwt(&json!({"jwks_uri": uri})), Err("jwks_uri".to_owned()), "{uri}");
    }
    for alg in ["HS256", "none", "RS512", ""] {
        let changes = json!({"jwks": {"keys": [key]}, "token_endpoint_auth_signing_alg": alg});
        assert_eq!(jwt(&changes), Err("token_endpoint_auth_signing_alg".to_owned()), "{alg}");
    }
    // Keys without a word on the method are meant to be used.
    let silent = document(&with(&json!({"jwks_uri": "https://app.example/k"}))).unwrap();
    assert_eq!(silent.auth_method, AuthMethod::PrivateKeyJwt);
}

#[test]
fn what_is_not_known_or_cannot_be_shown_is_left_out() {
    let client = document(&with(&json!({
        "software_statement": {"x": [1]},
        "client_name#de": "Anwendung",
        "grant_types": ["password", "implicit"],
        "client_uri": "https://app.example/",
        "logo_uri": "data:image/png;base64,AAAA",
        "tos_uri": "javascript:alert(1)",
        "policy_uri": format!("https://app.example/{}", "x".repeat(1_024)),
        "token_endpoint_auth_signing_alg": "HS256",
        "dpop_bound_access_tokens": true,
        "scope": null,
    })))
    .unwrap();
    assert_eq!(client.client_uri.as_deref(), Some("https://app.example/"));
    assert_eq!((client.logo_uri, client.tos_uri, client.policy_uri), (None, None, None));
    assert!(client.grant_types.is_empty() && client.dpop_bound_access_tokens);
    assert_eq!((client.auth_signing_alg, client.scope), (None, None));
}

#[test]
fn every_member_has_a_kind_and_a_bound() {
    for (name, value) in [
        ("grant_types", json!(vec!["x"; 33])),
        ("grant_types", json!("authorization_code")),
        ("token_endpoint_auth_methods_supported", json!(vec!["none"; 33])),
        ("scope", json!("x".repeat(2_049))),
        ("scope", json!("a\"b")),
        ("scope", json!("a\tb")),
        ("scope", json!(["a"])),
        ("client_name", json!({"a": "canary"})),
        ("client_uri", json!(1)),
        ("dpop_bound_access_tokens", json!("true")),
    ] {
        assert!(refused(&json!({name: value})).starts_with(name), "{name}");
    }
    let scope = with(&json!({"scope": "tools:read offline_access"}));
    assert_eq!(document(&scope).unwrap().scope.as_deref(), Some("tools:read offline_access"));
}

#[test]
fn a_registration_may_have_a_secret_and_needs_no_name() {
    let client = registered(json!({"redirect_uris": ["https://app.example/cb"]})).unwrap();
    assert_eq!((client.auth_method, client.client_name), (AuthMethod::ClientSecretBasic, None));
    let post = registered(json!({"token_endpoint_auth_method": "client_secret_post"})).unwrap();
    assert_eq!(post.auth_method, AuthMethod::ClientSecretPost);
    assert!(registered(json!({"redirect_uris": ["http://app.example/cb"]})).is_err());
    assert!(registered(json!({"token_endpoint_auth_method": "private_key_jwt"})).is_err());
    assert!(!ClientUrl::is_meant("mcpc_123") && ClientUrl::is_meant(ID));
}

#[test]
fn client_urls_have_one_spelling() {
    for good in [
        ID,
        "https://claude.ai/oauth/claude-code-client-metadata",
        "https://app.example:8443/c",
        "https://app.example/c?tenant=1",
        "https://app.example/",
        "https://app.example/a..b/.c/...",
        "https://app.example/%41",
        "https://app.example/a@b",
        "https://xn--pp-wia.example/c",
        "https://[2606:4700::1111]/c",
    ] {
        assert_eq!(ClientUrl::parse(good).unwrap().as_str(), good);
    }
    let long = format!("https://app.example/{}", "a".repeat(500));
    for (bad, why) in [
        ("", NotClientUrl::NotHttps),
        ("app", NotClientUrl::NotHttps),
        ("http://app.example/c", NotClientUrl::NotHttps),
        ("http://localhost/c", NotClientUrl::NotHttps),
        ("https://", NotClientUrl::NotHttps),
        ("file:///c", NotClientUrl::NotHttps),
        ("https://app.example", NotClientUrl::NotPlain),
        ("https://app.example?x", NotClientUrl::NotPlain),
        ("https://app.example/./c", NotClientUrl::NotPlain),
        ("https://app.example/a/../c", NotClientUrl::NotPlain),
        ("https://app.example/a/..", NotClientUrl::NotPlain),
        ("https://app.example/a/%2e%2E/c", NotClientUrl::NotPlain),
        ("https://app.example/a/.%2e/c", NotClientUrl::NotPlain),
        ("https://app.example/%2e", NotClientUrl::NotPlain),
        ("https://APP.example/c", NotClientUrl::NotPlain),
        ("HTTPS://app.example/c", NotClientUrl::NotPlain),
        ("https://app.example:443/c", NotClientUrl::NotPlain),
        ("https://app.example:/c", NotClientUrl::NotPlain),
        ("https://app.example\\c", NotClientUrl::NotPlain),
        ("https:app.example/c", NotClientUrl::NotPlain),
        ("https:///app.example/c", NotClientUrl::NotPlain),
        ("https://app.example/c ", NotClientUrl::NotPlain),
        ("https://app.exam\tple/c", NotClientUrl::NotPlain),
        ("https://äpp.example/c", NotClientUrl::NotPlain),
        ("https://app.example/ä", NotClientUrl::NotPlain),
        ("https://2130706433/c", NotClientUrl::NotPlain),
        ("https://0x7f.1/c", NotClientUrl::NotPlain),
        ("https://0177.0.0.1/c", NotClientUrl::NotPlain),
        ("https://[::ffff:127.0.0.1]/c", NotClientUrl::NotPlain),
        ("https://app.example/c#", NotClientUrl::Extra),
        ("https://app.example/c#x", NotClientUrl::Extra),
        ("https://u@app.example/c", NotClientUrl::Extra),
        ("https://u:p@app.example/c", NotClientUrl::Extra),
        ("https://:p@app.example/c", NotClientUrl::Extra),
        ("https://@app.example/c", NotClientUrl::Extra),
        (&long, NotClientUrl::TooLong),
    ] {
        assert_eq!(ClientUrl::parse(bad), Err(why), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is accepted has one spelling, no dot segment, nobody's name in it, and comes out as it went in.
    #[test]
    fn an_accepted_client_url_breaks_no_rule(text in "https:/{0,3}[a-c@:.%2eE\\[\\]]{0,8}[/\\\\?#@]{0,2}[a-c./%2eE\\\\?#@ ]{0,12}") {
        if let Ok(url) = ClientUrl::parse(&text) {
            prop_assert_eq!(url.as_str(), &text);
            let after = text.strip_prefix("https://").unwrap();
            let (authority, path) = after.split_at(after.find('/').unwrap());
            prop_assert!(!authority.contains('@') && !text.contains('#') && !text.contains('\\'));
            let path = path.split('?').next().unwrap().to_lowercase().replace("%2e", ".");
            prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."), "{}", path);
        }
    }

    /// Reading never panics, whatever stands in the members.
    #[test]
    fn any_member_of_any_kind_is_read_or_refused(name in "[a-z_]{1,8}|client_name|redirect_uris|jwks|jwks_uri|scope|grant_types", value in any_json()) {
        let mut members: Map<String, Value> = with(&json!({})).as_object().unwrap().clone();
        members.insert(name, value);
        let bytes = Value::Object(members).to_string();
        let _ = read(&Url::parse(ID).unwrap(), bytes.as_bytes());
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from);
        let object = prop::collection::btree_map("keys|kty|d|.{0,4}", inner, 0..4);
        prop_oneof![list, object.prop_map(|members| Value::Object(members.into_iter().collect()))]
    })
}
