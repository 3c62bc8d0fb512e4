//! `/v1/users`: people as operators see them, and switch them off.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::browser::{Browser, SignIns, code};
use crate::support::people::Person;
use crate::support::{World, text};

#[tokio::test(flavor = "multi_thread")]
async fn people_are_listed_narrowed_and_read() {
    let world = World::new().await;
    for number in 0..3 {
        Person::new(&world, &["tools/call"]).await;
        world.db.execute(&format!("update users set username = 'Ada{number}' where username = 'ada'")).await;
    }
    let list =
        async |query: &str| -> Value { world.operator.get(&world.node, &format!("/v1/users{query}")).await.ok() };
    let all = list("").await;
    let items = all["items"].as_array().unwrap();
    let names: Vec<&str> = items.iter().map(|user| user["username"].as_str().unwrap()).collect();
    assert_eq!(names, ["Ada2", "Ada1", "Ada0"], "newest first");
    let one = text(&items[1], "id");
    let read = world.operator.get(&world.node, &format!("/v1/users/{one}")).await;
    assert!(read.headers.contains_key("etag"));
    assert_eq!(read.ok(), items[1]);
    let mut members: Vec<&String> = items[1].as_object().unwrap().keys().collect();
    members.sort();
    let expected = ["created_at", "disabled", "id", "provider_id", "roles", "signed_in_at", "subject", "username"];
    assert_eq!(members, expected, "no tokens, no nulls");
    let ids = |listed: &Value| -> Vec<String> {
        listed["items"].as_array().unwrap().iter().map(|user| text(user, "id")).collect()
    };
    let provider = text(&items[1], "provider_id");
    assert_eq!(ids(&list(&format!("?provider_id={provider}")).await), std::slice::from_ref(&one));
    assert_eq!(ids(&list("?q=aDA1").await), std::slice::from_ref(&one));
    assert_eq!(ids(&list("?q=nobody").await).len(), 0);
    world.patch(&format!("/v1/users/{one}"), json!({"disabled": true})).await.enforced();
    assert_eq!(ids(&list("?status=disabled").await), std::slice::from_ref(&one));
    assert_eq!(ids(&list("?status=active").await).len(), 2);
    let first = list("?limit=2").await;
    assert_eq!(ids(&first).len(), 2);
    let rest = list(&format!("?limit=2&cursor={}", text(&first, "next_cursor"))).await;
    assert_eq!((ids(&rest).len(), rest.get("next_cursor")), (1, None));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whether_a_person_is_on_can_be_changed_and_only_by_who_reaches_everything() {
    let world = World::new().await;
    let person = Person::new(&world, &["tools/call"]).await;
    let tokens = person.tokens(&world).await;
    let path = format!("/v1/users/{}", person.user);
    for body in [json!({"username": "x"}), json!({"roles": []}), json!({"disabled": "yes"})] {
        world.patch(&path, body).await.refused(422, "invalid_fields");
    }
    let tag = world.operator.get(&world.node, &path).await.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(world.patch(&path, json!({})).await.ok()["disabled"], false);
    let red = world.node.operator_with(&["users:write"], Some(&["default"])).await;
    red.patch(&world.node, &path, json!({"disabled": true})).await.refused(403, "beyond_own_rights");
    assert!(world.accepts(&tokens.access).await);
    let changed = world.patch(&path, json!({"disabled": true})).await.enforced();
    assert_eq!((&changed["id"], &changed["disabled"]), (&json!(person.user), &json!(true)));
    assert!(!world.accepts(&tokens.access).await);
    person.refresh(&world.node, &tokens.refresh, &[]).await.refused(400, "invalid_grant");
    let request = world.node.request(Method::PATCH, &path).bearer_auth(&world.operator.key).header("if-match", tag);
    world.node.send(request.json(&json!({"disabled": false}))).await.refused(412, "precondition_failed");
    assert!(world.patch(&path, json!({"disabled": false})).await.ok().get("enforced").is_none());
    assert!(!world.accepts(&tokens.access).await, "tokens from before stay dead");
    let nobody = "/v1/users/usr_00000000000000000000000000000000";
    world.operator.get(&world.node, nobody).await.refused(404, "not_found");
    world.patch(nobody, json!({"disabled": true})).await.refused(404, "not_found");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_a_person_is_is_the_providers_subject_and_never_a_name_or_an_address() {
    use mcp_authority::providers::Person as Vouched;
    use mcp_authority::types::caller::Caller;
    use mcp_authority::users;
    let scene = SignIns::new(&["tools/call"]).await;
    let other =
        text(&scene.world.post("/v1/providers", json!({"name": "other", "kind": "demo"})).await.created(), "id");
    let app = &scene.node().app;
    let sign_in = async |provider: &str, subject: &str, username: &str| {
        let person = Vouched {
            subject: subject.to_owned(),
            username: Some(username.to_owned()),
            email: Some("ada@example.com".to_owned()),
            roles: std::collections::BTreeSet::new(),
            sid: Some("s".to_owned()),
            tokens: None,
        };
        let secret_key = app.feed.secret_key();
        let mut tx = app.db.begin().await.unwrap();
        let provider = provider.parse().unwrap();
        let by = Caller::machine();
        let user = users::sign_in(&mut tx, &by, app.sealing(&secret_key), provider, &person).await.map(|user| user.id);
        let cookie = match &user {
            Ok(user) => Some(users::log_in(&mut tx, *user, person.sid.as_deref()).await.unwrap()),
            Err(_) => None,
        };
        app.feed.spread(app.db.commit(tx).await.unwrap()).await;
        (user.map_err(|refused| refused.detail), cookie.map(|cookie| cookie.reveal().clone()))
    };
    let (ada, cookie) = sign_in(&scene.provider, "1", "ada").await;
    let (again, _) = sign_in(&scene.provider, "1", "ada.lovelace\u{7}").await;
    assert_eq!(ada, again, "renamed, and the same");
    let read = scene.world.operator.get(scene.node(), &format!("/v1/users/{}", again.unwrap())).await.ok();
    assert_eq!(read["username"], "ada.lovelace");
    let (same_name, _) = sign_in(&scene.provider, "2", "ada").await;
    let (elsewhere, _) = sign_in(&other, "1", "ada").await;
    assert!(ada != same_name && ada != elsewhere && same_name != elsewhere);
    for subject in [String::new(), "a".repeat(513), "a\0b".to_owned()] {
        assert!(sign_in(&scene.provider, &subject, "x").await.0.is_err());
    }
    // What a provider ends: a session of the person, or all of them; and nobody else's.
    let there = async |cookie: &Option<String>| {
        let mut conn = app.db.reads().acquire().await.unwrap();
        users::logged_in(&mut conn, cookie.as_deref().unwrap()).await.unwrap().is_some()
    };
    let (_, elsewheres) = sign_in(&other, "1", "ada").await;
    let end = async |subject: Option<&str>, sid: Option<&str>| {
        let mut tx = app.db.begin().await.unwrap();
        let ended = users::end_logins(&mut tx, scene.provider.parse().unwrap(), subject, sid).await.unwrap();
        mcp_authority::db::commit(tx).await.unwrap();
        ended
    };
    assert!(end(None, Some("another")).await.is_empty() && end(Some("nobody"), None).await.is_empty());
    assert!(end(None, None).await.is_empty() && there(&cookie).await);
    assert_eq!(end(Some("1"), Some("another")).await, std::slice::from_ref(ada.as_ref().unwrap()));
    assert!(there(&cookie).await, "another of its sessions");
    assert_eq!(end(Some("1"), None).await, [ada.unwrap()]);
    assert!(!there(&cookie).await && there(&elsewheres).await);
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_is_signed_in_in_twenty_browsers_at_most() {
    let scene = SignIns::new(&["tools/call"]).await;
    let first = Browser::default();
    code(&scene.whole(&first, &scene.asked()).await);
    let user = "(select id from users)";
    scene
        .world
        .db
        .execute(&format!(
            "insert into logins (digest, user_id, expires_at) select sha256(n::text::bytea), {user}, authority_now() + interval '1 hour' from generate_series(1, 30) n"
        ))
        .await;
    let last = Browser::default();
    code(&scene.whole(&last, &scene.asked()).await);
    assert_eq!(scene.world.db.count("select count(*) from logins").await, 20);
    code(&last.get(scene.node(), &scene.asked().path()).await);
    scene.world.node.stop().await;
}
