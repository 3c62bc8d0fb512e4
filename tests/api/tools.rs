//! Tools of a server: registered one by one or as a whole, checked before they are stored, in every node's memory when the reply comes.

use std::sync::Arc;

use mcp_authority::gate;
use mcp_authority::gate::arguments::Checked;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::actors::{Server, pointers, text};
use crate::support::{Node, Operator, Reply, TestDb};

struct Scene {
    db: TestDb,
    node: Node,
    by: Operator,
    server: Server,
}

impl Scene {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let node = Node::start(&db).await;
        let by = node.operator().await;
        let server = by.server(&node).await;
        Self { db, node, by, server }
    }

    fn path(&self) -> String {
        format!("/v1/servers/{}/tools", self.server.id)
    }

    async fn register(&self, body: Value) -> Value {
        self.by.post(&self.node, &self.path(), body).await.created()
    }

    /// The places that are wrong with a tool.
    async fn refused(&self, body: Value) -> Vec<String> {
        let refused = self.by.post(&self.node, &self.path(), body).await.refused(422, "invalid_fields");
        pointers(&refused).into_iter().map(ToOwned::to_owned).collect()
    }

    async fn replace(&self, tools: Value) -> Value {
        self.put(json!({"tools": tools})).await.enforced()
    }

    async fn put(&self, body: Value) -> Reply {
        let request = self.node.request(Method::PUT, &self.path()).bearer_auth(&self.by.key);
        self.node.send(request.json(&body)).await
    }
}

/// The tools of a server in a node's memory.
fn known(node: &Node, server: &Server) -> Arc<gate::Tools> {
    let id = server.id.parse().unwrap();
    node.app.live.memory().servers.get(&id).map(|server| Arc::clone(&server.tools)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_is_what_it_was_registered_as_wherever_it_is_read() {
    let s = Scene::new().await;
    let schema = json!({"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]});
    let whole = json!({"name": "Größe prüfen", "description": "Looks.", "input_schema": schema, "price_micros": 250,
        "tags": ["read_only", "expensive"], "limits": {"calls_per_minute": 7}});
    let made = s.register(whole.clone()).await;
    for (member, value) in whole.as_object().unwrap() {
        assert_eq!(made[member], *value, "{member}");
    }
    let path = format!("{}/{}", s.path(), text(&made, "id"));
    assert_eq!(s.by.get(&s.node, &path).await.ok(), made);
    let bare = s.register(json!({"name": "bare"})).await;
    assert_eq!((&bare["price_micros"], &bare["tags"], &bare["limits"]), (&json!(0), &json!([]), &json!({})));
    assert!(bare.get("input_schema").is_none() && bare.get("description").is_none(), "{bare}");
    let listed = s.by.get(&s.node, &format!("{}?q=GR", s.path())).await.ok();
    assert_eq!(listed["items"], json!([made]));
    let page = s.by.get(&s.node, &format!("{}?limit=1", s.path())).await.ok();
    assert_eq!(page["items"], json!([bare]), "newest first");
    let next = format!("{}?limit=1&cursor={}", s.path(), text(&page, "next_cursor"));
    assert_eq!(s.by.get(&s.node, &next).await.ok()["items"], json!([made]));
    s.by.post(&s.node, &s.path(), json!({"name": "bare"})).await.refused(409, "name_taken");

    let other = Node::start(&s.db).await;
    for node in [&s.node, &other] {
        node.until("the tools are known", async || known(node, &s.server).len() == 2).await;
        let tools = known(node, &s.server);
        let tool = tools.get("Größe prüfen").unwrap();
        assert_eq!(
            (tool.price_micros, tool.read_only, tool.expensive, tool.calls_per_minute),
            (250, true, true, Some(7))
        );
        let schema = tool.schema.as_ref().unwrap().compiled().unwrap();
        assert_eq!(schema.check(&json!({"q": "x"})), Checked::Fits);
        assert!(matches!(schema.check(&json!({})), Checked::Refused(_)));
    }
    other.stop().await;
    s.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_tool_is_said_with_its_place_and_nothing_is_stored() {
    let s = Scene::new().await;
    let long = "x".repeat(129);
    for (body, place) in [
        (json!({"name": ""}), "/name"),
        (json!({"name": "a\nb"}), "/name"),
        (json!({"name": long}), "/name"),
        (json!({"name": "a", "price_micros": -1}), "/price_micros"),
        (json!({"name": "a", "limits": {"calls_per_minute": 0}}), "/limits/calls_per_minute"),
        (json!({"name": "a", "limits": {"calls_per_hour": 1}}), "/limits/calls_per_hour"),
        (json!({"name": "a", "tags": ["cheap"]}), "/tags/0"),
        (
            json!({"name": "a", "input_schema": {"properties": {"b": {"type": "nonsense"}}}}),
            "/input_schema/properties/b/type",
        ),
        (json!({"name": "a", "other": 1}), "/other"),
    ] {
        assert_eq!(s.refused(body.clone()).await, [place], "{body}");
    }
    let twice = json!({"tools": [{"name": "a"}, {"name": "a"}]});
    let put = s.put(twice).await;
    assert_eq!(pointers(&put.refused(422, "invalid_fields")), ["/tools/1/name"]);
    assert_eq!(s.by.get(&s.node, &s.path()).await.ok()["items"], json!([]));
    s.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_8_a_change_of_a_tool_holds_on_every_node_when_it_returns() {
    let s = Scene::new().await;
    let other = Node::start(&s.db).await;
    let made = s.register(json!({"name": "a", "description": "d", "limits": {"calls_per_minute": 9}})).await;
    let path = format!("{}/{}", s.path(), text(&made, "id"));
    let body = json!({"price_micros": 5, "description": null, "limits": {"calls_per_minute": null},
        "input_schema": {"type": "object", "additionalProperties": false}});
    let changed = s.by.patch(&s.node, &path, body).await.enforced();
    assert!(changed.get("description").is_none() && changed["limits"] == json!({}), "{changed}");
    for node in [&s.node, &other] {
        let tools = known(node, &s.server);
        let tool = tools.get("a").unwrap();
        assert_eq!((tool.price_micros, tool.calls_per_minute), (5, None));
        let schema = tool.schema.as_ref().unwrap().compiled().unwrap();
        assert!(matches!(schema.check(&json!({"b": 1})), Checked::Refused(_)));
    }
    s.by.delete(&s.node, &path).await.enforced();
    for node in [&s.node, &other] {
        assert!(known(node, &s.server).is_empty());
    }
    s.by.get(&s.node, &path).await.refused(404, "not_found");
    other.stop().await;
    s.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_catalogue_is_replaced_at_once_and_what_stays_keeps_its_id() {
    let s = Scene::new().await;
    let stays = text(&s.register(json!({"name": "stays"})).await, "id");
    let changes = text(&s.register(json!({"name": "changes"})).await, "id");
    s.register(json!({"name": "goes"})).await;
    let before = s.db.count("select number from feed_head").await;
    let done = s.replace(json!([{"name": "stays"}, {"name": "changes", "price_micros": 1}, {"name": "comes"}])).await;
    assert_eq!(done["added"], json!(["comes"]));
    assert_eq!(done["changed"], json!(["changes"]));
    assert_eq!(done["removed"], json!(["goes"]));
    assert_eq!(s.db.count("select number from feed_head").await, before + 1, "nodes are told once of all of it");
    let tools = known(&s.node, &s.server);
    assert_eq!(tools.get("stays").unwrap().id.as_str(), stays);
    assert_eq!(tools.get("changes").unwrap().id.as_str(), changes);
    assert!(tools.get("goes").is_none() && tools.get("comes").is_some());
    let done = s.replace(json!([])).await;
    assert_eq!(done["removed"].as_array().unwrap().len(), 3);
    assert!(known(&s.node, &s.server).is_empty());
    s.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_changed_meanwhile_is_not_overwritten() {
    let s = Scene::new().await;
    let made = s.register(json!({"name": "a"})).await;
    let path = format!("{}/{}", s.path(), text(&made, "id"));
    let tagged = |tag: &str| {
        let request = s.node.request(Method::PATCH, &path).bearer_auth(&s.by.key);
        request.header("if-match", tag.to_owned()).json(&json!({"price_micros": 3}))
    };
    s.node.send(tagged("\"old\"")).await.refused(412, "precondition_failed");
    let tag = s.by.get(&s.node, &path).await.headers["etag"].to_str().unwrap().to_owned();
    s.node.send(tagged(&tag)).await.enforced();
    s.node.send(tagged(&tag)).await.refused(412, "precondition_failed");
    s.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_no_longer_compiles_lets_every_node_start_and_its_tool_refuses() {
    let s = Scene::new().await;
    s.register(json!({"name": "a", "input_schema": {"type": "object"}})).await;
    s.db.execute("update tools set input_schema = '{\"type\": \"nonsense\"}'").await;
    let other = Node::start(&s.db).await;
    let tools = known(&other, &s.server);
    assert!(tools.get("a").unwrap().schema.as_ref().unwrap().compiled().is_err());
    other.stop().await;
    s.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_a_bounded_number_of_tools() {
    let s = Scene::new().await;
    let tools: Vec<Value> = (0..1_000).map(|number| json!({"name": format!("t{number}")})).collect();
    s.replace(json!(tools)).await;
    assert_eq!(s.refused(json!({"name": "one more"})).await, ["/name"]);
    let more: Vec<Value> = (0..1_001).map(|number| json!({"name": format!("t{number}")})).collect();
    let put = s.put(json!({"tools": more})).await;
    assert_eq!(pointers(&put.refused(422, "invalid_fields")), ["/tools"]);
    assert_eq!(known(&s.node, &s.server).len(), 1_000);
    s.node.stop().await;
}
