//! A plain OAuth 2 provider in GitHub's form, TLS and all: refusals with status 200, numbers as names, groups as lists.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use mcp_authority::providers::{CheckError, Provider, ProviderKind, UpstreamError};
use mcp_authority::types::id::RoleId;
use serde_json::{Value, json};

use crate::support::{CLIENT_ID, CLIENT_SECRET, Certificates, Ours, Server, callback, query};

#[derive(Default)]
struct Hub {
    /// The challenge of the one code there is.
    challenge: Mutex<String>,
    /// Replies other than the right ones, by path.
    says: Mutex<HashMap<&'static str, (u16, Value)>>,
    forms: Mutex<Vec<HashMap<String, String>>>,
}

fn reply(hub: &Hub, path: &'static str, right: Value) -> Response {
    let (status, body) = hub.says.lock().unwrap().get(path).cloned().unwrap_or((200, right));
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/json; charset=utf-8")], body.to_string())
        .into_response()
}

async fn token(State(hub): State<Arc<Hub>>, Form(form): Form<HashMap<String, String>>) -> Response {
    let challenge = oauth2::PkceCodeChallenge::from_code_verifier_sha256(&oauth2::PkceCodeVerifier::new(
        form.get("code_verifier").cloned().unwrap_or_else(|| "-".repeat(43)),
    ));
    let right = form.get("code").is_some_and(|code| code == "c1")
        && *hub.challenge.lock().unwrap() == challenge.as_str()
        && form["client_secret"] == CLIENT_SECRET;
    hub.forms.lock().unwrap().push(form);
    if right {
        let tokens = json!({"access_token": "gho_1", "token_type": "bearer", "scope": "read:org,read:user"});
        return reply(&hub, "/token", tokens);
    }
    reply(
        &hub,
        "/token",
        json!({"error": "bad_verification_code", "error_description": "The code passed is incorrect or expired."}),
    )
}

async fn user(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Response {
    // GitHub refuses whoever does not say who it is.
    assert!(headers.contains_key("user-agent"));
    if headers["authorization"] != "Bearer gho_1" {
        return (StatusCode::UNAUTHORIZED, Json(json!({"message": "Bad credentials"}))).into_response();
    }
    reply(&hub, "/user", json!({"login": "octocat", "id": 583_231, "email": null, "name": "The Octocat"}))
}

async fn teams(State(hub): State<Arc<Hub>>) -> Response {
    let team = |name: &str| json!({"slug": name, "organization": {"login": "acme"}});
    reply(&hub, "/user/teams", json!([team("admins"), team("staff")]))
}

/// The provider and its server, and what is asked of it.
async fn world() -> (Arc<Hub>, Server, Ours, Provider, RoleId) {
    let certificates = Certificates::make();
    let hub = Arc::new(Hub::default());
    let routes = Router::new().route("/token", post(token)).route("/user", get(user)).route("/user/teams", get(teams));
    let server = Server::start(&certificates, |_| routes.with_state(Arc::clone(&hub))).await;
    let ours = Ours::new(&certificates);
    let (origin, role) = (&server.origin, RoleId::random());
    let settings = json!({"authorization_endpoint": format!("{origin}/authorize"), "token_endpoint": format!("{origin}/token"),
        "userinfo_endpoint": format!("{origin}/user"), "groups_endpoint": format!("{origin}/user/teams?per_page=100"),
        "group_fields": ["organization.login", "slug"], "client_id": CLIENT_ID, "scopes": ["read:user", "read:org"]});
    let provider = ours.provider(ProviderKind::OAuth2, settings, &[("groups", Some("acme/admins"), role)]);
    (hub, server, ours, provider, role)
}

#[tokio::test]
async fn who_signs_in_is_known_by_the_number_that_never_changes() {
    let (hub, _server, ours, provider, role) = world().await;
    let begun = ours.begin(&provider).await;
    assert_eq!(query(&begun.url, "scope").as_deref(), Some("read:user read:org"));
    assert_eq!(query(&begun.url, "nonce"), None, "it has no ID token to stand in");
    *hub.challenge.lock().unwrap() = query(&begun.url, "code_challenge").unwrap();
    let mut back = callback();
    back.query_pairs_mut().append_pair("code", "c1");
    let person = ours.finish(&provider, &begun, &back).await.unwrap();
    assert_eq!((person.subject.as_str(), person.username.as_deref(), person.email), ("583231", Some("octocat"), None));
    assert_eq!(person.roles.iter().copied().collect::<Vec<_>>(), [role]);
    let form = hub.forms.lock().unwrap().pop().unwrap();
    assert_eq!((form["client_id"].as_str(), form["redirect_uri"].as_str()), (CLIENT_ID, callback().as_str()));

    let tokens = person.tokens.unwrap();
    let says = |path, status, body| hub.says.lock().unwrap().insert(path, (status, body));
    says("/user/teams", 200, json!([]));
    assert!(ours.upstream.check(&provider, &tokens).await.unwrap().roles.is_empty(), "no group, no role");
    says("/user/teams", 403, json!({"message": "Resource not accessible"}));
    assert_eq!(ours.upstream.check(&provider, &tokens).await.map(|_| ()), Err(CheckError::Unreachable));
    says("/user/teams", 200, json!([]));
    says("/user", 200, json!({"login": "octocat", "id": 7}));
    let other = ours.upstream.check(&provider, &tokens).await.map(|_| ());
    assert_eq!(other, Err(CheckError::Unreachable), "who took the name over is somebody else");
    says("/user", 401, json!({"message": "Bad credentials"}));
    assert_eq!(ours.upstream.check(&provider, &tokens).await.map(|_| ()), Err(CheckError::Gone));
}

#[tokio::test]
async fn a_refusal_with_status_200_is_a_refusal() {
    let (hub, _server, ours, provider, _) = world().await;
    let begun = ours.begin(&provider).await;
    let mut back = callback();
    back.query_pairs_mut().append_pair("code", "c1");
    // Another sign-in's code: its challenge is another.
    let found = ours.finish(&provider, &begun, &back).await.map(|person| person.subject);
    assert_eq!(found, Err(UpstreamError::Untrusted("code_refused")));
    for (error, expected) in [
        ("incorrect_client_credentials", UpstreamError::Misconfigured("client_refused")),
        ("redirect_uri_mismatch", UpstreamError::Misconfigured("redirect_uri_refused")),
    ] {
        hub.says.lock().unwrap().insert("/token", (200, json!({"error": error})));
        let found = ours.finish(&provider, &begun, &back).await.map(|person| person.subject);
        assert_eq!(found, Err(expected));
    }
}

#[tokio::test]
async fn what_is_no_description_of_a_person_is_nobody() {
    let (hub, _server, ours, provider, _) = world().await;
    let begun = ours.begin(&provider).await;
    *hub.challenge.lock().unwrap() = query(&begun.url, "code_challenge").unwrap();
    let mut back = callback();
    back.query_pairs_mut().append_pair("code", "c1");
    for (path, body, word) in [
        ("/user", json!({"login": "octocat"}), "subject"),
        ("/user", json!({"login": "octocat", "id": 1.5}), "subject"),
        ("/user", json!([1]), "subject"),
        ("/user", json!("octocat"), "subject"),
        ("/user/teams", json!({"message": "no"}), "groups_invalid"),
    ] {
        *hub.says.lock().unwrap() = HashMap::from([(path, (200, body.clone()))]);
        let found = ours.finish(&provider, &begun, &back).await.map(|person| person.subject);
        assert_eq!(found, Err(UpstreamError::Untrusted(word)), "{body}");
    }
}
