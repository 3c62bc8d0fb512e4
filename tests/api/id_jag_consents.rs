//! What a company allows in a person's place, beside what the person allows itself.

use mcp_authority::types::caller::Caller;
use mcp_authority::types::permission::Permissions;
use mcp_authority::users;
use serde_json::json;

use crate::support::actors::text;
use crate::support::company::Company;

#[tokio::test(flavor = "multi_thread")]
async fn must_a19_what_a_company_allowed_skips_no_page_and_what_is_taken_back_needs_a_newer_assertion() {
    let company = Company::new(&["tools/call", "tools/list"]).await;
    let (node, world) = (company.node(), &company.world);
    let older = company.jag(&json!({}));
    let session = company.session(&json!({})).await;
    let user = text(&company.person().await, "id").parse().expect("a person");
    let whom = (user, company.client.parse().expect("a client"), world.server.id.parse().expect("a server"));
    let own = async || {
        let mut connection = node.app.db.reads().acquire().await.expect("a connection");
        users::agreed(&mut connection, whom.0, whom.1, whom.2).await.expect("an answer")
    };
    assert_eq!(own().await, None, "nobody was asked");
    // What the person agrees to itself is known, and no more than that.
    let few = Permissions::parse(["tools/list"]).expect("permissions");
    let mut tx = node.app.db.begin().await.expect("a transaction");
    let consent = users::consent(&mut tx, &Caller::machine(), whom, &few).await.expect("agreed");
    node.app.feed.spread(node.app.db.commit(tx).await.expect("committed")).await;
    assert_eq!(own().await, Some((consent, few)));
    assert!(world.server.accepts(node, &session).await);
    world.post("/v1/revocations", json!({"kind": "grant", "id": consent.as_str()})).await.created();
    assert!(!world.server.accepts(node, &session).await);
    company.refuses(&older, "assertion_before_revocation").await;
    world.advance(10).await;
    company.session(&json!({})).await;
    assert_eq!(own().await, None, "what was taken back was the person's own too");
    company.world.node.stop().await;
}
