//! The end of a rotation: who still uses the old secret, back to it, or on without it.

use std::cell::{Cell, RefCell};

use serde_json::{Value, json};

use crate::support::actors::text;
use crate::support::{Key, Node, Reply, World};

const DAY: i64 = 86_400;
/// Half the life of a session token: none ends under the client that asks for it anew with each call.
const STEP: i64 = 450;

async fn rotate(world: &World, key: &Key, body: Value) -> (Key, Value) {
    let made = world.post(&format!("/v1/keys/{}/rotate", key.id), body).await.ok();
    (Key { key: text(&made, "key"), ..key.clone() }, made)
}

async fn end(world: &World, key: &Key, how: &str) -> Reply {
    world.post(&format!("/v1/keys/{}/rotation/{how}", key.id), json!({})).await
}

async fn read(world: &World, key: &Key) -> Value {
    world.operator.get(&world.node, &format!("/v1/keys/{}", key.id)).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_says_who_still_uses_the_old_secret() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    world.server.ask(&world.node, &[("token", &key.key), ("client_ip", "192.0.2.7")]).await.ok();
    let before = read(&world, &key).await;
    let (new, made) = rotate(&world, &key, json!({})).await;
    let previous = &made["previous"];
    // At once, though uses are written behind: the rotation waits for what its node knows.
    assert_eq!(previous["version"], 1);
    assert_eq!(previous["last_used_ip"], "192.0.2.7", "{made}");
    assert_eq!(previous["last_used_server_id"], world.server.id);
    assert!(previous["last_used_at"].is_string() && previous["hint"] == before["secrets"][0]["hint"], "{made}");
    assert_eq!(previous["expires_at"], made["previous_expires_at"]);
    assert!(!made.to_string().contains(&key.key[24..60]), "and shows nothing of it");
    let shown = read(&world, &key).await;
    assert_eq!(shown["previous"], *previous);
    // The first secret of all has nobody before it.
    let fresh = world.key(&["*"]).await;
    assert!(read(&world, &fresh).await.get("previous").is_none());
    world.advance(DAY).await;
    assert!(world.accepts(&new.key).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_8_a_rotation_is_taken_back_everywhere_with_what_the_new_secret_issued() {
    let world = World::new().await;
    let other = Node::start(&world.db).await;
    let key = world.key(&["*"]).await;
    let old_session = world.session(&key).await;
    let before = read(&world, &key).await;
    let (new, _) = rotate(&world, &key, json!({"grace_seconds": 3_600})).await;
    let new_session = new.session(&world.node, &world.server).await;
    other
        .until("it knows both", async || {
            world.server.accepts(&other, &new.key).await && world.server.accepts(&other, &new_session).await
        })
        .await;
    let back = end(&world, &key, "cancel").await.enforced();
    for node in [&world.node, &other] {
        assert!(!world.server.accepts(node, &new.key).await && !world.server.accepts(node, &new_session).await);
        assert!(world.server.accepts(node, &key.key).await && world.server.accepts(node, &old_session).await);
    }
    assert_eq!(back["expires_at"], before["expires_at"], "the end that it had");
    assert_eq!((&back["status"], &back["secrets"][0]["version"]), (&json!("active"), &json!(1)));
    world.advance(2 * 3_600).await;
    assert!(world.accepts(&key.key).await, "the overlap is no more");
    let cancelled =
        format!("select count(*) from audit_entries where action = 'key.rotation_cancelled' and target = '{}'", key.id);
    assert_eq!(world.db.count(&cancelled).await, 1);
    other.stop().await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_secret_was_called_that_was_taken_back_no_other_is_ever_called() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    world.accepts(&key.key).await;
    let (gone, _) = rotate(&world, &key, json!({})).await;
    let stale = gone.session(&world.node, &world.server).await;
    end(&world, &key, "cancel").await.enforced();
    let (next, made) = rotate(&world, &key, json!({})).await;
    assert_eq!(made["previous"]["version"], 1);
    assert_eq!(read(&world, &key).await["secrets"][0]["version"], 3);
    assert!(world.accepts(&next.key).await && world.accepts(&key.key).await);
    assert!(!world.accepts(&stale).await, "a token of the one that was taken back is nobody's");
    // The same again, so that the number is remembered beyond one rotation.
    end(&world, &key, "cancel").await.enforced();
    rotate(&world, &key, json!({})).await;
    assert_eq!(read(&world, &key).await["secrets"][0]["version"], 4);
    assert!(!world.accepts(&stale).await && !world.accepts(&next.key).await);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_8_a_rotation_is_finished_everywhere_before_its_time() {
    let world = World::new().await;
    let other = Node::start(&world.db).await;
    let key = world.key(&["*"]).await;
    let old_session = world.session(&key).await;
    let (new, _) = rotate(&world, &key, json!({"grace_seconds": 30 * DAY})).await;
    let new_session = new.session(&world.node, &world.server).await;
    let done = end(&world, &key, "finish").await.enforced();
    for node in [&world.node, &other] {
        assert!(!world.server.accepts(node, &key.key).await && !world.server.accepts(node, &old_session).await);
    }
    assert!(world.accepts(&new.key).await && world.accepts(&new_session).await);
    assert_eq!((&done["status"], &done["secrets"][1]["state"]), (&json!("active"), &json!("retired")));
    end(&world, &key, "finish").await.refused(409, "no_overlap");
    end(&world, &key, "cancel").await.refused(409, "no_overlap");
    other.stop().await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_overlap_there_is_nothing_to_end() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    for how in ["cancel", "finish"] {
        end(&world, &key, how).await.refused(409, "no_overlap");
        assert!(world.accepts(&key.key).await);
    }
    let (new, _) = rotate(&world, &key, json!({"grace_seconds": 600})).await;
    world.advance(600).await;
    for how in ["cancel", "finish"] {
        end(&world, &key, how).await.refused(409, "no_overlap");
        assert!(world.accepts(&new.key).await && !world.accepts(&key.key).await);
    }
    let (newer, _) = rotate(&world, &new, json!({"grace_seconds": 0})).await;
    end(&world, &key, "cancel").await.refused(409, "no_overlap");
    assert!(world.accepts(&newer.key).await && !world.accepts(&new.key).await, "a leaked one never comes back");
    world.post(&format!("/v1/keys/{}/revoke", key.id), json!({})).await.enforced();
    end(&world, &key, "cancel").await.refused(409, "key_revoked");
    world.node.stop().await;
}

/// A client with the secret that it has now; none when it is over.
struct Client {
    held: RefCell<Option<String>>,
    calls: Cell<u64>,
}

impl Client {
    /// Calls a server by a node, with the secret that it has at that moment and with tokens of it, and is never refused.
    async fn call(&self, world: &World, node: &Node, id: &str) {
        loop {
            let Some(own) = self.held.borrow().clone() else { return };
            assert!(world.server.accepts(node, &own).await, "refused after {} calls", self.calls.get());
            let key = Key { key: own, id: id.to_owned(), agent: String::new() };
            let session = key.session(node, &world.server).await;
            assert!(world.server.accepts(node, &session).await, "its token was refused");
            self.calls.set(self.calls.get() + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_swap_in_the_middle_of_the_overlap_see_no_refused_call() {
    let world = World::new().await;
    let others = [Node::start(&world.db).await, Node::start(&world.db).await];
    let key = world.key(&["*"]).await;
    let nodes = [&world.node, &others[0], &others[1]];
    for node in nodes {
        node.until("it knows the key", async || world.server.accepts(node, &key.key).await).await;
    }
    // Three clients, each on a node of its own, which swap one after the other.
    let clients: [Client; 3] = std::array::from_fn(|_| {
        let held = RefCell::new(Some(key.key.clone()));
        Client { held, calls: Cell::new(0) }
    });
    let calling = nodes.iter().zip(&clients).map(|(node, client)| client.call(&world, node, &key.id));
    let load = futures_util::future::join_all(calling);
    let story = async {
        let (new, made) = rotate(&world, &key, json!({"grace_seconds": 4 * STEP})).await;
        assert_eq!(made["enforced"]["complete"], true, "every node knows the new one");
        for client in &clients {
            world.advance(STEP).await;
            *client.held.borrow_mut() = Some(new.key.clone());
            // What was under way with the old one is done before time goes on.
            let before = client.calls.get();
            world.node.until("it goes on", async || client.calls.get() > before + 1).await;
        }
        world.advance(STEP).await;
        assert!(!world.accepts(&key.key).await, "the old one is over");
        for client in &clients {
            *client.held.borrow_mut() = None;
        }
    };
    tokio::join!(load, story);
    assert!(clients.iter().all(|client| client.calls.get() > 3));
    for node in others {
        node.stop().await;
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_end_a_rotation_at_the_same_time_one_does() {
    let world = World::new().await;
    let key = world.key(&["*"]).await;
    let (new, _) = rotate(&world, &key, json!({})).await;
    let all = futures_util::future::join_all(
        ["cancel", "finish", "cancel", "finish", "cancel", "finish"].map(|how| end(&world, &key, how)),
    );
    let done = all.await.into_iter().filter(|reply| reply.status == 200).count();
    assert_eq!(done, 1);
    assert!(world.accepts(&new.key).await != world.accepts(&key.key).await, "one of the two lives");
    world.node.stop().await;
}
