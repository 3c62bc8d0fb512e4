//! Signing keys change without anybody noticing: published before they sign, kept until what they signed has expired.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcp_authority::jobs;
use mcp_authority::signing::{KEPT_AFTER, PUBLISHED_BEFORE, SIGNS_FOR};
use reqwest::Method;
use serde_json::Value;

use crate::support::{Node, TestDb};

/// The published keys, and how long they may be kept.
async fn published(node: &Node) -> Vec<String> {
    let reply = node.send(node.request(Method::GET, "/oauth/jwks")).await;
    assert_eq!(reply.headers["cache-control"], "public, max-age=300");
    let keys = reply.json["keys"].as_array().expect("keys").clone();
    keys.iter().map(|key| key["kid"].as_str().expect("a kid").to_owned()).collect()
}

fn part(token: &str, index: usize) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(index).expect("three parts")).expect("base64");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn kid(token: &str) -> String {
    part(token, 0)["kid"].as_str().expect("a kid").to_owned()
}

async fn advance(db: &TestDb, nodes: [&Node; 2], seconds: i64) {
    nodes[0].advance(db, seconds).await;
    let now = nodes[0].app.live.now().seconds();
    nodes[1].until("it sees the new time", async || nodes[1].app.live.now().seconds() >= now - 1).await;
    for node in nodes {
        jobs::run_all(&node.app).await.expect("the jobs run");
    }
    let position = nodes[0].app.db.position().await.expect("a position");
    for node in nodes {
        assert!(node.app.feed.reaches(position, std::time::Duration::from_secs(30)).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signing_key_is_published_before_it_signs_and_kept_until_its_tokens_have_expired() {
    let db = TestDb::new().await;
    let (one, two) = (Node::start(&db).await, Node::start(&db).await);
    let nodes = [&one, &two];
    let operator = one.operator().await;
    let server = operator.server(&one).await;
    let key = operator.key(&one, &server, &["tools/call"]).await;
    let first = published(&one).await;
    assert_eq!(first.len(), 1);
    let month = i64::try_from(SIGNS_FOR.as_secs()).expect("seconds");
    advance(&db, nodes, month - 400).await;
    assert_eq!(published(&two).await, first, "not before its time");

    let step = 100;
    let lead = i64::try_from(PUBLISHED_BEFORE.as_secs()).expect("seconds");
    let mut tokens: Vec<String> = Vec::new();
    let (mut seen, mut signed) = (None, None);
    for turn in 0..24_usize {
        let (here, there) = (nodes[turn % 2], nodes[(turn + 1) % 2]);
        let token = key.session(here, &server).await;
        assert!(published(here).await.contains(&kid(&token)) && published(there).await.contains(&kid(&token)));
        let now = here.app.live.now().seconds();
        if seen.is_none() && published(here).await.len() == 2 {
            seen = Some(now);
        }
        if signed.is_none() && kid(&token) != first[0] {
            signed = Some(now);
        }
        tokens.push(token);
        // Every token is good on both nodes until it expires, and not a second longer.
        for token in &tokens {
            let expires = part(token, 1)["exp"].as_i64().expect("exp");
            for node in nodes {
                let now = node.app.live.now().seconds();
                if (expires - now).abs() > 2 {
                    assert_eq!(server.accepts(node, token).await, now < expires, "turn {turn}");
                }
            }
        }
        advance(&db, nodes, step).await;
    }
    let (seen, signed) = (seen.expect("published"), signed.expect("it signs"));
    assert!(signed - seen >= lead - step, "seen in one turn of {step} s, signing {} s later", signed - seen);
    let early = "select count(*) from signing_keys where purpose = 'session' and signs_from < created_at + interval '300 seconds'";
    assert_eq!(db.count(early).await, 1, "only the very first signs at once");
    let wiped = format!("select count(*) from signing_keys where kid = '{}' and private is null", first[0]);
    assert_eq!(db.count(&wiped).await, 1, "who signs no more cannot");
    assert!(published(&one).await.contains(&first[0]), "its tokens may still be checked");

    advance(&db, nodes, i64::try_from(KEPT_AFTER.as_secs()).expect("seconds")).await;
    let third = Node::start(&db).await;
    let last = published(&third).await;
    assert!(last.len() == 1 && last != first, "{last:?}");
    assert!(server.accepts(&third, &key.session(&one, &server).await).await);
}
