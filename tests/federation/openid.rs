//! A real OpenID Connect provider: who signs in is who it is, and stays as long as the provider says.

use mcp_authority::outbound::RENEWED_AFTER;
use mcp_authority::providers::{CheckError, ProviderKind, Settings, SignInWish, UpstreamError};
use mcp_authority::types::id::RoleId;
use serde_json::json;

use crate::browser::Browser;
use crate::program::Program;
use crate::support::{Certificates, Ours, callback, query};

#[tokio::test]
async fn who_signs_in_has_a_name_and_the_roles_of_the_rules() {
    let certificates = Certificates::make();
    let (program, ours) = (Program::start(&certificates, None), Ours::new(&certificates));
    let (staff, admins, all, unchecked) = (RoleId::random(), RoleId::random(), RoleId::random(), RoleId::random());
    let mut provider = ours.openid(
        &program.issuer,
        &[
            ("groups", Some("staff"), staff),
            ("groups", Some("admins"), admins),
            ("sub", None, all),
            ("email", Some("bob@example.com"), unchecked),
        ],
    );
    // The provider names groups only to those who ask, and only at userinfo.
    provider.settings = asking(&program.issuer, "openid profile email groups", &[]);
    let begun = ours.begin(&provider).await;
    for (name, expected) in [("response_type", "code"), ("code_challenge_method", "S256"), ("client_id", "authority")] {
        assert_eq!(query(&begun.url, name).as_deref(), Some(expected), "{name}");
    }
    assert_eq!(query(&begun.url, "state").as_ref(), Some(begun.state.reveal()));
    assert!(query(&begun.url, "nonce").is_some_and(|nonce| nonce.len() >= 20));
    let back = Browser::new(&certificates).signs_in(&begun.url, "alice").await;
    assert_eq!(query(&back, "state").as_ref(), Some(begun.state.reveal()));
    assert_eq!(query(&back, "iss").as_ref(), Some(&program.issuer), "RFC 9207");
    let alice = ours.finish(&provider, &begun, &back).await.unwrap();
    assert_eq!((alice.subject.as_str(), alice.username.as_deref()), ("alice", Some("Alice")));
    assert_eq!(alice.email.as_deref(), Some("alice@example.com"));
    assert_eq!(alice.roles.iter().copied().collect::<Vec<_>>(), sorted([staff, admins, all]));
    // A code is good once, and the provider says so.
    let again = ours.finish(&provider, &begun, &back).await.map(|_| ());
    assert_eq!(again, Err(UpstreamError::Untrusted("code_refused")));

    let begun = ours.begin(&provider).await;
    let back = Browser::new(&certificates).signs_in(&begun.url, "bob").await;
    let bob = ours.finish(&provider, &begun, &back).await.unwrap();
    assert_eq!(bob.roles.iter().copied().collect::<Vec<_>>(), [all], "no group, and an address that nobody checked");
    assert_eq!(bob.email, None);
}

#[tokio::test]
async fn wishes_reach_the_provider_and_a_renewed_sign_in_asks_anew() {
    let certificates = Certificates::make();
    let (program, ours) = (Program::start(&certificates, None), Ours::new(&certificates));
    let provider = ours.openid(&program.issuer, &[]);
    let mut browser = Browser::new(&certificates);
    let first = ours.begin(&provider).await;
    let back = browser.signs_in(&first.url, "alice").await;
    ours.finish(&provider, &first, &back).await.unwrap();
    // The browser is signed in there: without the wish nobody would be asked, and alice came back.
    let wish = SignInWish { again: true, choose: false, login_hint: Some("bob".to_owned()) };
    let again = ours.upstream.begin(&provider, &callback(), &wish).await.unwrap();
    assert_eq!(query(&again.url, "prompt").as_deref(), Some("login"));
    assert_eq!(query(&again.url, "login_hint").as_deref(), Some("bob"));
    let back = browser.signs_in(&again.url, "bob").await;
    assert_eq!(ours.finish(&provider, &again, &back).await.unwrap().subject, "bob");
}

#[tokio::test]
async fn a_check_sees_removed_groups_and_people_who_left() {
    let certificates = Certificates::make();
    let (mut program, ours) = (Program::start(&certificates, None), Ours::new(&certificates));
    let (staff, admins) = (RoleId::random(), RoleId::random());
    let mut provider =
        ours.openid(&program.issuer, &[("groups", Some("staff"), staff), ("groups", Some("admins"), admins)]);
    let prompt = [("prompt", "consent")];
    provider.settings = asking(&program.issuer, "openid profile groups offline_access", &prompt);
    let begun = ours.begin(&provider).await;
    let back = Browser::new(&certificates).signs_in(&begun.url, "alice").await;
    let person = ours.finish(&provider, &begun, &back).await.unwrap();
    assert_eq!(person.roles.len(), 2);
    let tokens = person.tokens.unwrap();
    assert!(serde_json::to_value(&tokens).unwrap().get("refresh_token").is_some());

    let same = ours.upstream.check(&provider, &tokens).await.unwrap();
    assert_eq!((same.subject.as_str(), same.roles.len()), ("alice", 2));
    program.claims("alice", &json!({"preferred_username": "Alicia", "groups": ["staff"]}));
    let tokens = same.tokens.unwrap();
    let less = ours.upstream.check(&provider, &tokens).await.unwrap();
    assert_eq!(less.roles.into_iter().collect::<Vec<_>>(), [staff]);
    assert_eq!(less.username.as_deref(), Some("Alicia"));

    let tokens = less.tokens.unwrap();
    // Switched off here: gone, without a question.
    let mut off = provider.clone();
    off.disabled = true;
    assert_eq!(ours.upstream.check(&off, &tokens).await.map(|_| ()), Err(CheckError::Gone));
    let issuer = program.issuer.clone();
    program.removes("alice");
    assert_eq!(ours.upstream.check(&provider, &tokens).await.map(|_| ()), Err(CheckError::Gone));
    drop(program);
    let lost = ours.upstream.check(&provider, &tokens).await.map(|_| ());
    assert_eq!(lost, Err(CheckError::Unreachable), "{issuer} is away, which is no no");
}

#[tokio::test]
async fn without_a_refresh_token_userinfo_is_asked_while_the_access_token_lives() {
    let certificates = Certificates::make();
    let (mut program, ours) = (Program::start(&certificates, None), Ours::new(&certificates));
    let staff = RoleId::random();
    let mut provider = ours.openid(&program.issuer, &[("groups", Some("staff"), staff)]);
    provider.settings = asking(&program.issuer, "openid profile groups", &[]);
    let begun = ours.begin(&provider).await;
    let back = Browser::new(&certificates).signs_in(&begun.url, "alice").await;
    let tokens = ours.finish(&provider, &begun, &back).await.unwrap().tokens.unwrap();
    assert_eq!(ours.upstream.check(&provider, &tokens).await.unwrap().roles.into_iter().collect::<Vec<_>>(), [staff]);
    program.removes("alice");
    assert_eq!(ours.upstream.check(&provider, &tokens).await.map(|_| ()), Err(CheckError::Gone), "401 at userinfo");
    ours.advance(601);
    let over = ours.upstream.check(&provider, &tokens).await.map(|_| ());
    assert_eq!(over, Err(CheckError::Unreachable), "an access token that is over says nothing of its person");
}

#[tokio::test]
async fn a_provider_that_changes_its_keys_is_understood_at_once() {
    let certificates = Certificates::make();
    let (mut program, ours) = (Program::start(&certificates, None), Ours::new(&certificates));
    let provider = ours.openid(&program.issuer, &[]);
    for rotated in [false, true] {
        if rotated {
            program.rotates();
            // Keys were fetched a moment ago; they are not fetched again before so long.
            ours.advance(RENEWED_AFTER.as_secs());
        }
        let begun = ours.begin(&provider).await;
        let back = Browser::new(&certificates).signs_in(&begun.url, "alice").await;
        assert_eq!(ours.finish(&provider, &begun, &back).await.unwrap().subject, "alice", "rotated: {rotated}");
    }
}

/// Settings that ask for these scopes.
pub(crate) fn asking(issuer: &str, scopes: &str, parameters: &[(&str, &str)]) -> Settings {
    let scopes: Vec<&str> = scopes.split(' ').collect();
    let parameters: serde_json::Map<_, _> =
        parameters.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let settings =
        json!({"issuer": issuer, "client_id": crate::support::CLIENT_ID, "scopes": scopes, "parameters": parameters});
    Settings::read(ProviderKind::OpenId, settings).unwrap()
}

fn sorted<const N: usize>(mut roles: [RoleId; N]) -> Vec<RoleId> {
    roles.sort_unstable();
    roles.to_vec()
}
