//! Mail to owners: what they are told, over which connection, and who is told nothing.

use serde_json::{Value, json};

use crate::support::smtp::Mail;
use crate::support::{Key, MailServer, Speaks, World, text};

/// A node that hands in mail to this server.
async fn world(server: &MailServer, url: &str) -> World {
    let url = url.replace("PORT", &server.address.port().to_string());
    World::with(&[
        ("MCPA_SMTP_URL", &url),
        ("MCPA_MAIL_FROM", "Authority <keys@example.com>"),
        ("MCPA_OUTBOUND_CA", &server.ca()),
    ])
    .await
}

/// A key of an agent of this owner, named so.
async fn key_of(world: &World, owner: &str, name: &str) -> Key {
    // A node that can send mail says so before anything is written for it.
    world.node.until("it can send", async || world.db.count("select count(*) from mailers").await == 1).await;
    let agent = world.post("/v1/agents", json!({"name": "Reporter", "owner": owner})).await.created();
    world.key_of(&text(&agent, "id"), &[], json!({"name": name})).await
}

async fn revoke(world: &World, key: &Key, reason: &str) {
    world.post(&format!("/v1/keys/{}/revoke", key.id), json!({"reason": reason})).await.enforced();
}

async fn arrived(world: &World, server: &MailServer) -> Mail {
    world.node.until("a mail arrives", async || !server.got().is_empty()).await;
    server.got().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_learns_by_mail_that_a_key_was_revoked_and_what_to_do() {
    let server = MailServer::start(Speaks::Plain).await;
    let world = world(&server, "smtp://localhost:PORT").await;
    let key = key_of(&world, "ada@example.com", "nightly").await;
    revoke(&world, &key, "found in a log").await;
    let mail = arrived(&world, &server).await;
    assert!(mail.from.contains("<keys@example.com>"), "{mail:?}");
    assert_eq!(mail.to, ["RCPT TO:<ada@example.com>"]);
    for part in
        ["To: ada@example.com", "Subject: [mcp-authority] nightly", "revoked", "found in a log", key.id.as_str()]
    {
        assert!(mail.data.contains(part), "{part}: {}", mail.data);
    }
    let text = mail.data.replace("=\r\n", "");
    assert!(text.contains("ask an operator for another key"), "it says what to do: {text}");
    assert!(!mail.data.contains(&key.key), "never the secret");
    let sent = "mcpa_mails_total{result=\"delivered\"} 1";
    world.node.until(sent, async || world.node.app.metrics.render().contains(sent)).await;
    assert_eq!(server.got().len(), 1, "the revocation itself is no mail of its own");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_over_tls_that_was_checked_or_not_at_all() {
    for (speaks, url) in [
        (Speaks::StartTls, "smtp://user:p%40ss@localhost:PORT?tls=required"),
        (Speaks::Tls, "smtps://user:p%40ss@localhost:PORT"),
    ] {
        let server = MailServer::start(speaks).await;
        let world = world(&server, url).await;
        let key = key_of(&world, "ada@example.com", "nightly").await;
        revoke(&world, &key, "lost").await;
        let mail = arrived(&world, &server).await;
        assert!(mail.over_tls, "{mail:?}");
        assert_eq!(mail.login.as_deref(), Some("AHVzZXIAcEBzcw=="), "user and password as the URL has them");
        world.node.stop().await;
    }
    // A server that speaks no TLS where TLS is required, and one that nobody vouches for, get nothing, not even the password.
    let (plain, other) = (MailServer::start(Speaks::Plain).await, MailServer::start(Speaks::Tls).await);
    for (server, url) in [(&plain, "smtp://u:p@localhost:PORT?tls=required"), (&other, "smtps://u:p@localhost:PORT")] {
        let url = url.replace("PORT", &server.address.port().to_string());
        let settings = [("MCPA_SMTP_URL", url.as_str()), ("MCPA_MAIL_FROM", "keys@example.com")];
        let world = World::with(&settings).await;
        let key = key_of(&world, "ada@example.com", "nightly").await;
        revoke(&world, &key, "lost").await;
        let failed = "select count(*) from deliveries where mail_to is not null and last_error is not null";
        world.node.until("it is noted", async || world.db.count(failed).await == 1).await;
        assert!(server.got().is_empty());
        world.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_says_later_gets_the_same_mail_later() {
    let server = MailServer::start(Speaks::Plain).await;
    server.refuses(true);
    let world = world(&server, "smtp://localhost:PORT").await;
    let key = key_of(&world, "ada@example.com", "nightly").await;
    revoke(&world, &key, "lost").await;
    let tried =
        "select count(*) from deliveries where mail_to is not null and last_status = 451 and status = 'pending'";
    world.node.until("it was tried", async || world.db.count(tried).await == 1).await;
    server.refuses(false);
    world.advance(6).await;
    let mail = arrived(&world, &server).await;
    assert!(mail.data.contains("Message-ID: <evt_"), "one that comes twice can be told: {}", mail.data);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_address_gets_no_mail_and_no_name_becomes_a_header() {
    let server = MailServer::start(Speaks::Plain).await;
    let world = world(&server, "smtp://localhost:PORT").await;
    for owner in ["team payments", "ada@example.com, eve@example.com", "a@b@c", "<ada@example.com>"] {
        let key = key_of(&world, owner, "nightly").await;
        revoke(&world, &key, "lost").await;
    }
    assert_eq!(world.db.count("select count(*) from deliveries").await, 0, "nobody to tell, nothing kept");
    let key = key_of(&world, "ada@example.com", "nightly").await;
    revoke(&world, &key, "lost\r\nBcc: eve@example.com\r\n\r\n.\r\nMAIL FROM:<eve@example.com>").await;
    let mail = arrived(&world, &server).await;
    assert!(!mail.data.lines().any(|line| line.starts_with("Bcc")), "{}", mail.data);
    assert_eq!((server.got().len(), mail.to.len()), (1, 1));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mail_server_no_mail_is_kept_for_nobody_to_send() {
    let world = World::new().await;
    let agent = world.post("/v1/agents", json!({"name": "a", "owner": "ada@example.com"})).await.created();
    let key = world.key_of(&text(&agent, "id"), &[], Value::Object(serde_json::Map::new())).await;
    revoke(&world, &key, "lost").await;
    assert_eq!(world.db.count("select count(*) from deliveries").await, 0);
    world.node.stop().await;
}
