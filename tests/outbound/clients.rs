//! Client ID metadata documents from a real server: those of the field, and those that break a rule.

use mcp_authority::clients::document::{ClientDocuments, ClientUrl, DOCUMENT_BYTES_MAX};
use mcp_authority::outbound::{Error, Failure};
use mcp_authority::types::clock::BootInstant;
use serde_json::{Value, json};

use crate::support::{Reply, Server, patient, within};

/// A reply for a client, and how the refusal of it begins.
type Broken = fn(&ClientUrl) -> (Reply, &'static str);

fn document(client: &ClientUrl) -> Value {
    json!({
        "client_id": client.as_str(),
        "client_name": "Visual Studio Code",
        "redirect_uris": ["http://127.0.0.1:33418", "https://vscode.dev/redirect"],
        "grant_types": ["authorization_code", "urn:example:later"],
        "token_endpoint_auth_method": "none",
    })
}

fn padded(client: &ClientUrl, bytes: usize) -> String {
    let text = document(client).to_string();
    format!("{text}{}", " ".repeat(bytes - text.len()))
}

#[tokio::test]
async fn a8_a_client_is_known_by_its_document() {
    let server = Server::start().await;
    let clients = ClientDocuments::new(server.outbound(patient()));
    let url = ClientUrl::parse(server.url("/oauth/client-metadata.json").as_str()).unwrap();
    server.replies(Reply::json(padded(&url, DOCUMENT_BYTES_MAX)));
    let client = within(clients.get(&url, BootInstant::now())).await.unwrap();
    assert_eq!(client.client_name.as_deref(), Some("Visual Studio Code"));
    assert!(client.has_redirect_uri("http://127.0.0.1:33418/"));
    within(clients.get(&url, BootInstant::now())).await.unwrap();
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a18_a_document_that_breaks_a_rule_is_no_client() {
    let server = Server::start().await;
    let url = |number: usize| ClientUrl::parse(server.url(&format!("/{number}")).as_str()).unwrap();
    let clients = ClientDocuments::new(server.outbound(patient()));
    let broken: [Broken; 5] = [
        |url| (Reply::json(padded(url, DOCUMENT_BYTES_MAX + 1)), "too_large"),
        |url| (Reply::json(document(url).to_string()).with("content-type", "text/plain"), "not_json"),
        |_| (Reply::json(document(&ClientUrl::parse("https://claude.ai/c").unwrap()).to_string()), "client_id"),
        |url| (Reply::json(document(url).to_string()).with("content-encoding", "gzip"), "not_json"),
        |_| (Reply::json("canary"), "document"),
    ];
    for (number, broken) in broken.iter().enumerate() {
        let (reply, word) = broken(&url(number));
        server.replies(reply);
        let failure = within(clients.get(&url(number), BootInstant::now())).await.unwrap_err().to_string();
        assert!(failure.starts_with(word) && !failure.contains("canary"), "{failure}");
    }
}

#[tokio::test]
async fn attack_20_a_client_without_a_document_costs_its_host_one_request() {
    let server = Server::start().await;
    let clients = ClientDocuments::new(server.outbound(patient()));
    let url = ClientUrl::parse(server.url("/c").as_str()).unwrap();
    server.replies(Reply::status(404));
    for _ in 0..20 {
        let failure = within(clients.get(&url, BootInstant::now())).await.unwrap_err();
        assert_eq!(failure, Failure::Fetch(Error::Status(404)));
    }
    assert_eq!(server.asked(), 1);
}
