//! Lists: bounded, newest first, each thing once however the list grows; cursors belong to one list and filter.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcp_authority::types::id::{ConsentId, FlowId, UserId};
use mcp_authority::types::keyring::Keyring;
use mcp_authority::types::page::LOOKED_AT_MAX;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor, Row};
use zeroize::Zeroizing;

use crate::support::actors::text;
use crate::support::description::operations;
use crate::support::{Node, Operator, TestDb};

const DAY: i64 = 86_400;

fn ids(listed: &Value) -> Vec<String> {
    let items = listed["items"].as_array().unwrap_or_else(|| panic!("no items in {listed}"));
    items.iter().map(|item| text(item, if item["id"].is_string() { "id" } else { "key_id" })).collect()
}

/// All pages of a list, after each of which something happens.
async fn walk(by: &Operator, node: &Node, path: &str, limit: usize, between: impl AsyncFn()) -> Vec<String> {
    let glue = if path.contains('?') { '&' } else { '?' };
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = by.get(node, &format!("{path}{glue}limit={limit}{cursor}")).await.ok();
        assert!(ids(&page).len() <= limit, "{path}");
        found.extend(ids(&page));
        let Some(next) = page["next_cursor"].as_str() else { return found };
        assert_eq!(ids(&page).len(), limit, "{path}: only the last page is short");
        cursor = format!("&cursor={next}");
        between().await;
    }
}

async fn agents(by: &Operator, node: &Node, count: usize) -> Vec<String> {
    let mut made = Vec::new();
    for _ in 0..count {
        made.insert(0, by.agent(node).await);
    }
    made
}

/// The paths of all lists that have cursors.
fn lists() -> Vec<String> {
    let all = operations().into_iter();
    let all: Vec<_> = all.filter(|operation| operation.query.contains(&"cursor".to_owned())).collect();
    assert!(all.len() >= 9, "{all:?}");
    all.into_iter().map(|operation| operation.path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_sees_everything_once_newest_first_while_the_list_grows() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    for (count, limit) in [(7, 3), (6, 3), (1, 1), (0, 1)] {
        db.execute("delete from agents").await;
        let made = agents(&operator, &node, count).await;
        let grow = async || drop(operator.agent(&node).await);
        assert_eq!(walk(&operator, &node, "/v1/agents", limit, grow).await, made, "{count} by {limit}");
    }
    // Many of one moment are told apart by their ids.
    agents(&operator, &node, 5).await;
    db.execute("update agents set created_at = '2026-01-01T00:00:00Z'").await;
    let mut found = walk(&operator, &node, "/v1/agents", 2, async || ()).await;
    let whole = ids(&operator.get(&node, "/v1/agents").await.ok());
    assert_eq!(found, whole);
    found.dedup();
    assert_eq!(found.len(), whole.len());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_can_be_walked_one_by_one() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let (mut last, mut webhook) = (None, String::new());
    for index in 0..3 {
        operator.server(&node).await;
        node.operator().await;
        let tools = format!("/v1/servers/{}/tools", server.id);
        operator.post(&node, &tools, json!({"name": format!("t{index}")})).await.created();
        operator.post(&node, "/v1/projects", json!({"name": format!("p{index}")})).await.created();
        let grants = json!([{"server_id": server.id, "permissions": ["tools/list"]}]);
        let role = json!({"name": format!("r{index}"), "grants": grants});
        let role = text(&operator.post(&node, "/v1/roles", role).await.created(), "id");
        let body = json!({"agent_id": operator.agent(&node).await, "environment": "prod", "roles": [role]});
        let key = operator.key_with(&node, body).await;
        key.session(&node, &server).await;
        operator.post(&node, "/v1/revocations", json!({"kind": "key", "id": key.id})).await.created();
        let client = json!({"client_name": "c", "redirect_uris": ["https://c.example.com/callback"]});
        operator.post(&node, "/v1/clients", client).await.created();
        let provider = json!({"name": format!("i{index}"), "title": "P", "kind": "demo"});
        let provider = text(&operator.post(&node, "/v1/providers", provider).await.created(), "id");
        let issuer = json!({"name": "CI", "issuer": format!("https://ci{index}.example.com")});
        operator.post(&node, "/v1/issuers", issuer).await.created();
        let told = json!({"name": "w", "url": "https://hooks.invalid/", "events": ["*"]});
        webhook = text(&operator.post(&node, "/v1/webhooks", told).await.created(), "id");
        let user = UserId::random();
        db.execute(&format!("insert into users (id, provider_id, subject) values ('{user}', '{provider}', 's')")).await;
        let allowed = text(&operator.get(&node, "/v1/clients?limit=1").await.ok()["items"][0], "id");
        db.execute(&format!(
            "insert into consents (id, user_id, client_id, server_id, permissions) values ('{}', '{user}', '{allowed}', '{}', '{{*}}')",
            ConsentId::random(),
            server.id
        ))
        .await;
        let flow = FlowId::random();
        db.execute(&format!(
            "insert into flows (id, client_id, expires_at) values ('{flow}', 'c', authority_now() + interval '1 day')"
        ))
        .await;
        last = Some(key);
    }
    assert!(last.is_some());
    for _ in 0..3 {
        operator.post(&node, &format!("/v1/webhooks/{webhook}/test"), json!({})).await.expect_status(202);
    }
    for path in lists() {
        let path = path.replace("/webhooks/{id}", &format!("/webhooks/{webhook}")).replace("{id}", &server.id);
        let path = if path == "/v1/audit" { "/v1/audit?action=key.issued".to_owned() } else { path };
        let glue = if path.contains('?') { '&' } else { '?' };
        let whole = ids(&operator.get(&node, &format!("{path}{glue}limit=200")).await.ok());
        assert!(whole.len() >= 3, "{path}: {whole:?}");
        assert_eq!(walk(&operator, &node, &path, 1, async || ()).await, whole, "{path}");
        assert_eq!(walk(&operator, &node, &path, 2, async || ()).await, whole, "{path}");
    }
    node.stop().await;
}

/// Keys from the newest to the oldest, more than a page looks at. All of them were used but those that are counted up.
async fn many_keys(db: &TestDb, agent: &str, unused: &[i64]) -> Vec<String> {
    let id = |n: &dyn std::fmt::Display| format!("'key_' || left(md5('k' || {n}), 12)");
    let numbers = unused.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    db.execute(&format!(
        "alter table keys disable trigger user;
         insert into keys (id, agent_id, name, environment, direct, expires_in_days, created_at)
         select {}, '{agent}', 'Key ' || n, case when n > {LOOKED_AT_MAX} then 'dev' else 'prod' end, true, 90, authority_now() - n * interval '1 minute'
           from generate_series(1, {LOOKED_AT_MAX} + 50) n;
         insert into secret_uses (owner, version, last_used_at)
         select {}, 1, authority_now() from generate_series(1, {LOOKED_AT_MAX} + 50) n where n not in ({numbers});
         analyze",
        id(&"n"),
        id(&"n"),
    ))
    .await;
    let mut connection = db.connection().await;
    let mut ids = Vec::new();
    for n in unused {
        let row = connection.fetch_one(AssertSqlSafe(format!("select {}", id(n)))).await.expect("an id");
        ids.push(row.get(0));
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_finds_little_among_many_goes_on_where_it_stopped_and_misses_nothing() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    // At the end of what the first page looks at, just behind it, and at the end of all.
    let at = [LOOKED_AT_MAX - 1, LOOKED_AT_MAX, LOOKED_AT_MAX + 1, LOOKED_AT_MAX + 2, LOOKED_AT_MAX + 50];
    let unused = many_keys(&db, &operator.agent(&node).await, &at).await;
    for limit in [1, 2, 3, 50] {
        let (mut found, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let path = format!("/v1/keys?last_used_before=2000-01-01T00:00:00Z&limit={limit}{cursor}");
            let page = operator.get(&node, &path).await.ok();
            found.extend(ids(&page));
            pages += 1;
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, unused, "{pages} pages of {limit}");
        assert!(pages >= 2, "one page does not look at all");
    }
    // What few keys have is found at once, however old they are.
    for few in ["environment=dev", "q=KEY%20100", "environment=dev&q=key&last_used_before=2100-01-01T00:00:00Z"] {
        let page = operator.get(&node, &format!("/v1/keys?limit=200&{few}")).await.ok();
        assert!(ids(&page).contains(&unused[4]), "{few}");
        assert!(page.get("next_cursor").is_none(), "{few}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_one_to_two_hundred_items_and_fifty_unless_said() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    agents(&operator, &node, 51).await;
    let page = operator.get(&node, "/v1/agents").await.ok();
    assert_eq!(ids(&page).len(), 50);
    assert!(page["next_cursor"].is_string());
    assert!(operator.get(&node, "/v1/agents?limit=200").await.ok().get("next_cursor").is_none(), "never null");
    for path in lists() {
        let webhook = path.replace("/webhooks/{id}", "/webhooks/whk_00000000000000000000000000000000");
        let path = webhook.replace("{id}", "srv_000000000000");
        for limit in ["0", "-1", "201", "abc", "1.5", "", "99999999999999999999"] {
            let refused = operator.get(&node, &format!("{path}?limit={limit}")).await.refused(400, "invalid_query");
            assert!(refused["detail"].as_str().unwrap().len() > 5);
        }
        for wrong in ["limit=1&limit=1", "cursor=&cursor=", "unknown=1", "Limit=1", "limit=1&q=%00", "%ff=1"] {
            operator.get(&node, &format!("{path}?{wrong}")).await.refused(400, "invalid_query");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_belongs_to_one_list_and_one_filter() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    agents(&operator, &node, 3).await;
    let page = operator.get(&node, "/v1/agents?limit=1&status=active").await.ok();
    let cursor = text(&page, "next_cursor");
    for other in
        ["/v1/agents?", "/v1/agents?status=disabled&", "/v1/agents?status=active&q=a&", "/v1/servers?status=active&"]
    {
        operator.get(&node, &format!("{other}cursor={cursor}")).await.refused(400, "cursor_mismatch");
    }
    let same = operator.get(&node, &format!("/v1/agents?limit=2&cursor={cursor}&status=active")).await.ok();
    assert_eq!(ids(&same).len(), 2, "the limit and the order of parameters do not matter");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_29_a_cursor_that_was_altered_or_made_elsewhere_is_refused() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    agents(&operator, &node, 2).await;
    let cursor = text(&operator.get(&node, "/v1/agents?limit=1").await.ok(), "next_cursor");
    let mut forged: Vec<String> =
        vec![String::new(), "x".to_owned(), "e30".to_owned(), "a".repeat(1_025), "'; drop table agents; --".to_owned()];
    for (index, old) in cursor.char_indices() {
        let new = if old == 'A' { 'B' } else { 'A' };
        forged.push(format!("{}{new}{}", &cursor[..index], &cursor[index + 1..]));
    }
    forged.push(format!("{cursor}A"));
    forged.push(cursor[..cursor.len() - 1].to_owned());
    // The same content under another key, as another installation would seal it.
    let sealed = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
    let content = node.app.live.keyring.open_cursor(&sealed).expect("that is how they are made");
    assert!(!sealed.windows(4).any(|bytes| bytes == b"agt_"), "it may name what the caller may not see");
    let foreign = Keyring::new(&[Zeroizing::new([7; 32])]).unwrap();
    let resealed = |content: &[u8], by: &Keyring| URL_SAFE_NO_PAD.encode(by.seal_cursor(content).unwrap());
    forged.push(resealed(&content, &foreign));
    forged.push(resealed(b"{}", &node.app.live.keyring));
    for wrong in forged {
        let request = node.request(Method::GET, "/v1/agents").query(&[("cursor", &wrong)]).bearer_auth(&operator.key);
        node.send(request).await.refused(400, "cursor_invalid");
    }
    // Sealed by us and beyond every bound: no failure of ours.
    for at in [i64::MIN, i64::MAX, -1] {
        let mut inside: Value = serde_json::from_slice(&content).unwrap();
        inside["a"] = json!(at);
        inside["i"] = json!("'; --");
        let made = resealed(inside.to_string().as_bytes(), &node.app.live.keyring);
        let reply = operator.get(&node, &format!("/v1/agents?cursor={made}")).await;
        assert!(reply.status.as_u16() < 500, "{}", reply.text);
    }
    assert_eq!(ids(&operator.get(&node, "/v1/agents").await.ok()).len(), 2, "all are still there");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_good_for_a_day() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    agents(&operator, &node, 2).await;
    let cursor = text(&operator.get(&node, "/v1/agents?limit=1").await.ok(), "next_cursor");
    let path = format!("/v1/agents?limit=1&cursor={cursor}");
    node.advance(&db, DAY - 3_600).await;
    operator.get(&node, &path).await.ok();
    node.advance(&db, 3_601).await;
    operator.get(&node, &path).await.refused(400, "cursor_expired");
    node.stop().await;
}
