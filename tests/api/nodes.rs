//! Several nodes on one database: when a revoking call returns, no node answers "active" any more.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::actors::{Server, text};
use crate::support::{Node, Operator, Proxy, Reply, Road, TestDb};

/// States of the nodes in a receipt, in the order of their ids.
fn states(reply: &Value) -> Vec<(String, String)> {
    let nodes = reply["enforced"]["nodes"].as_array().unwrap_or_else(|| panic!("no receipt in {reply}"));
    let mut states: Vec<_> = nodes.iter().map(|node| (text(node, "id"), text(node, "state"))).collect();
    states.sort();
    states
}

fn id(node: &Node) -> String {
    node.app.feed.node().simple().to_string()
}

fn all_acknowledged(reply: &Value, nodes: &[&Node]) {
    let mut expected: Vec<_> = nodes.iter().map(|node| (id(node), "acknowledged".to_owned())).collect();
    expected.sort();
    assert_eq!(states(reply), expected, "{reply}");
    assert_eq!(reply["enforced"]["complete"], true, "{reply}");
}

async fn ready(node: &Node) -> Reply {
    node.send(node.request(reqwest::Method::GET, "/health/ready")).await
}

fn unavailable(reply: &Reply) {
    assert_eq!(reply.status.as_u16(), 503, "{}", reply.text);
    assert_eq!(reply.json["error"], "temporarily_unavailable", "{}", reply.text);
    assert!(reply.headers.contains_key("retry-after"), "{:?}", reply.headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_1_a_key_revoked_on_one_node_is_dead_on_every_other_when_the_call_returns() {
    let db = TestDb::new().await;
    let (one, two, three) = (Node::start(&db).await, Node::start(&db).await, Node::start(&db).await);
    let nodes = [&one, &two, &three];
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    for round in 0..12 {
        let (here, there) = (nodes[round % 3], nodes[(round + 1) % 3]);
        let key = operator.key(here, &server, &["tools/call"]).await;
        let token = key.session(there, &server).await;
        assert!(server.accepts(there, &key.key).await && server.accepts(here, &token).await);
        let path = format!("/v1/keys/{}/revoke", key.id);
        let receipt = operator.post(here, &path, json!({"reason": "test"})).await.enforced();
        for node in nodes {
            assert!(!server.accepts(node, &key.key).await && !server.accepts(node, &token).await, "round {round}");
            key.session_with(node, &[("resource", &server.resource)]).await.refused(401, "invalid_client");
        }
        all_acknowledged(&receipt, &nodes);
        // A repeated revocation is no error, and says the same.
        let again = operator.post(there, &path, json!({})).await.enforced();
        assert_eq!(again["enforced"]["complete"], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_13_a_token_is_good_on_another_node_at_once_and_a_cut_off_on_one_kills_it_on_all() {
    let db = TestDb::new().await;
    let (one, two) = (Node::start(&db).await, Node::start(&db).await);
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let key = operator.key(&one, &server, &["tools/call"]).await;
    for _ in 0..10 {
        // The change moves the feed on; the token then names a number that node two may not have reached.
        operator.patch(&one, &format!("/v1/keys/{}", key.id), json!({"name": "again"})).await.ok();
        let before = key.session(&one, &server).await;
        assert!(server.accepts(&two, &before).await, "accepted at once");
        let cut = json!({"kind": "agent", "id": key.agent});
        let receipt = operator.post(&two, "/v1/revocations", cut).await.created();
        all_acknowledged(&receipt, &[&one, &two]);
        assert!(!server.accepts(&one, &before).await && !server.accepts(&two, &before).await);
        let after = key.session(&one, &server).await;
        assert!(server.accepts(&two, &after).await, "what is issued after a cut-off is good");
    }
}

/// A second node whose road to the database is blocked, while the first goes on.
async fn blocked(road: Road) {
    let db = TestDb::new().await;
    let one = Node::start(&db).await;
    let proxy = Proxy::start(&db).await;
    let two = Node::start_at(&db, proxy.options(&db), &[]).await;
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let key = operator.key(&one, &server, &["tools/call"]).await;
    two.until("node two knows the key", async || server.accepts(&two, &key.key).await).await;
    let (was, alone) = (id(&two), id(&one));
    proxy.set(road);
    let path = format!("/v1/keys/{}/revoke", key.id);
    let revoking = operator.post(&one, &path, json!({}));
    // Node two still answers from memory while its lease runs; it must have stopped when the call returns.
    let receipt = revoking.await.enforced();
    for _ in 0..50 {
        unavailable(&server.ask(&two, &[("token", &key.key)]).await);
    }
    assert!(!server.accepts(&one, &key.key).await);
    let found = states(&receipt);
    assert!(found.contains(&(alone, "acknowledged".to_owned())), "{receipt}");
    // It is waited out; or the others have watched it say nothing for as long already, and removed its row.
    let other = found.iter().find(|(id, _)| *id == was).map(|(_, state)| state.as_str());
    assert!(matches!(other, Some("waited_out" | "gone")), "{receipt}");
    let readiness = ready(&two).await;
    assert_eq!((readiness.status.as_u16(), readiness.json["feed"].as_str()), (503, Some("lost")), "{}", readiness.text);
    let rows = format!("select count(*) from nodes where id = '{was}'");
    one.until("the silent node's row is removed", async || db.count(&rows).await == 0).await;
    // Nobody waits for it any more.
    let next = operator.key(&one, &server, &["tools/call"]).await;
    let receipt = operator.post(&one, &format!("/v1/keys/{}/revoke", next.id), json!({})).await.enforced();
    all_acknowledged(&receipt, &[&one]);
    proxy.set(Road::Open);
    two.until("node two is back", async || server.ask(&two, &[("token", &key.key)]).await.status == 200).await;
    assert!(!server.accepts(&two, &key.key).await && !server.accepts(&two, &next.key).await);
    assert_ne!(id(&two), was, "it joined under a new id");
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_6_a_node_whose_connections_are_cut_answers_503_and_the_revoking_call_waits_it_out() {
    blocked(Road::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_6_a_node_whose_connections_hang_answers_503_and_the_revoking_call_waits_it_out() {
    blocked(Road::Frozen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_6_a_node_that_beats_and_does_not_apply_is_waited_out() {
    let db = TestDb::new().await;
    let one = Node::start(&db).await;
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let key = operator.key(&one, &server, &["tools/call"]).await;
    let slow = uuid::Uuid::new_v4();
    db.execute(&format!(
        "insert into nodes (id, history, applied, version, address, secret_keys, feed_kinds)
         select '{slow}', 1, 0, version, address, secret_keys, feed_kinds from nodes"
    ))
    .await;
    let beating = async {
        loop {
            db.execute(&format!("update nodes set beat = beat + 1 where id = '{slow}'")).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let path = format!("/v1/keys/{}/revoke", key.id);
    let receipt = tokio::select! {
        receipt = operator.post(&one, &path, json!({})) => receipt.enforced(),
        () = beating => unreachable!("it beats for ever"),
    };
    assert!(states(&receipt).contains(&(slow.simple().to_string(), "waited_out".to_owned())), "{receipt}");
    let waited =
        receipt["enforced"]["nodes"].as_array().expect("nodes").iter().filter_map(|node| node["after_ms"].as_u64());
    assert!(waited.max() >= Some(1_150), "a whole lease and its margin: {receipt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_6_while_revocations_go_on_a_node_that_falters_never_answers_active_after_one() {
    let db = TestDb::new().await;
    let one = Node::start(&db).await;
    let proxy = Proxy::start(&db).await;
    let two = Node::start_at(&db, proxy.options(&db), &[]).await;
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    for round in 0..8 {
        let key = operator.key(&one, &server, &["tools/call"]).await;
        // Cut at another moment each time: before the commit, while it waits, hardly at all.
        let faults = async {
            tokio::time::sleep(Duration::from_millis(round)).await;
            proxy.set(if round % 2 == 0 { Road::Cut } else { Road::Frozen });
            tokio::time::sleep(Duration::from_millis(40 * round)).await;
            proxy.set(Road::Open);
        };
        let path = format!("/v1/keys/{}/revoke", key.id);
        let (revoked, ()) = tokio::join!(operator.post(&one, &path, json!({})), faults);
        revoked.enforced();
        let reply = server.ask(&two, &[("token", &key.key)]).await;
        assert_ne!(reply.json["active"], true, "round {round}");
        two.until("it is back", async || server.ask(&two, &[("token", &key.key)]).await.status == 200).await;
        assert!(!server.accepts(&two, &key.key).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_3_a_node_whose_row_was_removed_stops_and_joins_under_a_new_id() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let was = node.app.feed.node();
    db.execute("delete from nodes").await;
    node.until("it has a new id", async || node.app.feed.node() != was).await;
    node.until("it answers again", async || node.app.live.answer(|_| ()).is_ok()).await;
    let rows = format!("select count(*) from nodes where id = '{}'", node.app.feed.node());
    assert_eq!(db.count(&rows).await, 1);
    // Somebody else's beat on its row is as good as no row.
    let was = node.app.feed.node();
    db.execute("update nodes set beat = beat + 7").await;
    node.until("it has a new id", async || node.app.feed.node() != was).await;
    node.until("it answers again", async || node.app.live.answer(|_| ()).is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_2_a_node_that_stops_removes_its_row_and_is_not_waited_for() {
    let db = TestDb::new().await;
    let (one, two) = (Node::start(&db).await, Node::start(&db).await);
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let key = operator.key(&one, &server, &["tools/call"]).await;
    two.stop().await;
    assert_eq!(db.count("select count(*) from nodes").await, 1);
    let receipt = operator.post(&one, &format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
    all_acknowledged(&receipt, &[&one]);
    one.stop().await;
    assert_eq!(db.count("select count(*) from nodes").await, 0);
    let again = Node::start(&db).await;
    assert!(!server.accepts(&again, &key.key).await, "a restart brings nothing back to life");
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_16_an_entry_of_an_unknown_kind_ends_the_lease_for_good() {
    let db = TestDb::new().await;
    let (one, two) = (Node::start(&db).await, Node::start(&db).await);
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let key = operator.key(&one, &server, &["tools/call"]).await;
    let head = db.count("select number from feed_head").await;
    db.execute("select feed_draw('from_a_later_release', 'x')").await;
    for node in [&one, &two] {
        node.until("it is dead", async || ready(node).await.json["feed"] == "dead").await;
        assert_eq!(ready(node).await.status.as_u16(), 503);
        unavailable(&server.ask(node, &[("token", &key.key)]).await);
    }
    let acknowledged = format!("select count(*) from nodes where applied > {head}");
    assert_eq!(db.count(&acknowledged).await, 0, "never acknowledged");
    // It would be easy to go on now, and wrong: what the entry took away is not known.
    db.execute("delete from feed where kind = 'from_a_later_release'").await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        unavailable(&server.ask(&one, &[("token", &key.key)]).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_6_a_lease_that_was_just_lengthened_is_waited_out_whole() {
    let db = TestDb::new().await;
    let one = Node::start(&db).await;
    let proxy = Proxy::start(&db).await;
    let two = Node::start_at(&db, proxy.options(&db), &[]).await;
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let key = operator.key(&one, &server, &["tools/call"]).await;
    two.until("node two knows the key", async || server.accepts(&two, &key.key).await).await;
    // Node one has not read the new lease when it revokes: its follower stands at the row it may not renew.
    let mut hold = db.connection().await;
    let lock = format!("begin; select 1 from nodes where id = '{}' for update", one.app.feed.node());
    sqlx::Executor::execute(&mut hold, sqlx::AssertSqlSafe(lock)).await.expect("held");
    db.execute("update settings set lease_ms = 3000, updated_at = authority_now()").await;
    two.until("node two is under the new lease", async || two.app.live.round().lease.as_millis() == 3_000).await;
    proxy.set(Road::Frozen);
    let receipt = operator.post(&one, &format!("/v1/keys/{}/revoke", key.id), json!({})).await;
    assert_ne!(server.ask(&two, &[("token", &key.key)]).await.json["active"], true, "{}", receipt.text);
    drop(hold);
}

/// What each narrowing call must make inactive on the other node, when it returns.
struct Narrowed<'a> {
    one: &'a Node,
    two: &'a Node,
    operator: &'a Operator,
    server: &'a Server,
}

impl Narrowed<'_> {
    /// The call's receipt names both nodes, and the credential is dead on the other node at once.
    async fn by(&self, what: &str, reply: Reply, credentials: &[&str]) {
        assert_eq!(reply.status.as_u16(), 200, "{what}: {}", reply.text);
        all_acknowledged(&reply.json, &[self.one, self.two]);
        for credential in credentials {
            assert!(!self.server.accepts(self.two, credential).await, "{what}");
        }
    }

    async fn patched(&self, what: &str, path: &str, body: Value, credentials: &[&str]) {
        let reply = self.operator.patch(self.one, path, body).await;
        self.by(&format!("{what} {path}"), reply, credentials).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one list of routes")]
async fn guarantee_8_every_narrowing_by_every_route_waits_until_it_holds() {
    let db = TestDb::new().await;
    let (one, two) = (Node::start(&db).await, Node::start(&db).await);
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let narrowed = Narrowed { one: &one, two: &two, operator: &operator, server: &server };
    let key = operator.key(&one, &server, &["tools/call", "tools/list"]).await;
    let path = format!("/v1/keys/{}", key.id);
    let token = key.session(&one, &server).await;
    narrowed.patched("to addresses", &path, json!({"allowed_cidrs": ["192.0.2.0/24"]}), &[&key.key, &token]).await;
    operator.patch(&one, &path, json!({"allowed_cidrs": null})).await.ok();
    narrowed.patched("not direct", &path, json!({"direct": false}), &[&key.key]).await;
    operator.patch(&one, &path, json!({"direct": true})).await.ok();
    let fewer = json!({"grants": [{"server_id": server.id, "permissions": ["tools/list"]}]});
    narrowed.patched("fewer permissions", &path, fewer, &[]).await;
    assert_eq!(server.introspect(&two, &token).await["permissions"], json!(["tools/list"]));
    narrowed.patched("disabled", &path, json!({"disabled": true}), &[&key.key, &token]).await;
    operator.patch(&one, &path, json!({"disabled": false})).await.ok();
    let token = key.session(&one, &server).await;
    narrowed.patched("no grants", &path, json!({"grants": []}), &[&key.key, &token]).await;

    let key = operator.key(&one, &server, &["tools/call"]).await;
    let rotated = operator.post(&one, &format!("/v1/keys/{}/rotate", key.id), json!({"grace_seconds": 0})).await;
    narrowed.by("rotate", rotated, &[&key.key]).await;
    let key = operator.key(&one, &server, &["tools/call"]).await;
    let withdrawn = operator.delete(&one, &format!("/v1/servers/{}/grants/{}", server.id, key.id)).await;
    narrowed.by("withdraw", withdrawn, &[&key.key]).await;

    let grants = json!([{"server_id": server.id, "permissions": ["tools/call"]}]);
    let role = operator.post(&one, "/v1/roles", json!({"name": "callers", "grants": grants})).await.created();
    let (role, agent) = (text(&role, "id"), operator.agent(&one).await);
    let with_role = json!({"agent_id": agent, "environment": "prod", "roles": [role], "direct": false});
    let key = operator.key_with(&one, with_role).await;
    let token = key.session(&one, &server).await;
    assert!(server.accepts(&two, &token).await);
    narrowed.patched("a role's grants", &format!("/v1/roles/{role}"), json!({"grants": []}), &[&token]).await;
    operator.patch(&one, &format!("/v1/roles/{role}"), json!({"grants": grants})).await.ok();
    let token = key.session(&one, &server).await;
    narrowed.patched("a key's roles", &format!("/v1/keys/{}", key.id), json!({"roles": []}), &[&token]).await;

    let key = operator.key(&one, &server, &["tools/call"]).await;
    let token = key.session(&one, &server).await;
    let session = text(&server.introspect(&one, &token).await, "jti");
    let revoked = operator.post(&one, &format!("/v1/sessions/{session}/revoke"), json!({})).await;
    narrowed.by("a session", revoked, &[&token]).await;
    let token = key.session(&one, &server).await;
    let agent = format!("/v1/agents/{}", key.agent);
    narrowed.patched("an agent", &agent, json!({"disabled": true}), &[&key.key, &token]).await;
    operator.patch(&one, &agent, json!({"disabled": false})).await.ok();
    assert!(server.accepts(&one, &key.key).await);
    narrowed.by("delete agent", operator.delete(&one, &agent).await, &[&key.key]).await;

    let settings = operator.patch(&one, "/v1/settings", json!({"session_ttl_seconds": 600})).await;
    narrowed.by("settings", settings, &[]).await;
    let other = one.operator().await;
    let path = format!("/v1/operators/{}", other.id);
    narrowed.patched("an operator's scopes", &path, json!({"scopes": ["keys:read"]}), &[]).await;
    other.get(&two, "/v1/agents").await.refused(403, "missing_scope");
    narrowed.by("an operator", operator.post(&one, &format!("{path}/revoke"), json!({})).await, &[]).await;
    other.get(&two, "/v1/keys").await.refused(401, "unauthenticated");

    let rotated = operator.post(&one, &format!("/v1/servers/{}/rotate", server.id), json!({"grace_seconds": 0})).await;
    narrowed.by("a server's secret", rotated, &[]).await;
    server.ask(&two, &[("token", "x")]).await.refused(401, "invalid_client");
    let last = operator.server(&one).await;
    let gone = operator.delete(&one, &format!("/v1/servers/{}", last.id)).await;
    narrowed.by("delete server", gone, &[]).await;
    last.ask(&two, &[("token", "x")]).await.refused(401, "invalid_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_was_added_on_one_node_is_there_on_the_other_when_the_call_returns() {
    let db = TestDb::new().await;
    let (one, two) = (Node::start(&db).await, Node::start(&db).await);
    let operator = one.operator().await;
    // A call that only adds waits a moment, but not for a node that is away; so it is polled, and normally true at once.
    let mut late = 0;
    for _ in 0..10 {
        let server = operator.server(&one).await;
        let key = operator.key(&one, &server, &["tools/list"]).await;
        late += usize::from(server.ask(&two, &[("token", &key.key)]).await.json["active"] != true);
        two.until("the key", async || server.ask(&two, &[("token", &key.key)]).await.json["active"] == true).await;
        let more = json!({"grants": [{"server_id": server.id, "permissions": ["tools/call"]}]});
        operator.patch(&one, &format!("/v1/keys/{}", key.id), more).await.ok();
        two.until("the grant", async || {
            server.introspect(&two, &key.key).await["permissions"] == json!(["tools/call"])
        })
        .await;
    }
    assert!(late < 10, "it never waited");
}
