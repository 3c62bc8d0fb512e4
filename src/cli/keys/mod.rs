//! `keys`: agents' keys, over the REST API of the service that `MCPA_URL` names, as the operator of `MCPA_OPERATOR_KEY`.

mod bulk;
mod revoke;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::client::Client;
use crate::cli::output::Format;
use crate::config::Desk;
use crate::types::id::{AgentId, KeyId, ServerId};

/// What a page holds at most; the service allows no more.
const PAGE_ITEMS: usize = 200;
/// What a list prints at most.
const LIST_ITEMS_MAX: usize = 10_000;
/// The columns of a table of keys.
const COLUMNS: [&str; 7] = ["id", "name", "environment", "status", "agent_id", "expires_at", "last_used_at"];

#[derive(Subcommand)]
pub(super) enum Command {
    /// Lists keys, newest first.
    #[command(
        after_help = "Examples:\n  mcp-authority keys list --status active\n  mcp-authority keys list --output json | jq '.items[].id'"
    )]
    List(List),
    /// Shows a key, with the versions of its secret and who used them last.
    #[command(
        after_help = "Examples:\n  mcp-authority keys get key_0123456789ab\n  mcp-authority keys get key_0123456789ab --output json"
    )]
    Get {
        /// The key's id.
        id: KeyId,
    },
    /// Issues a key, or one for each row of a CSV file. The secret is shown this once.
    #[command(
        after_help = "Examples:\n  mcp-authority keys issue --agent AGENT --environment prod --grant 'SERVER=tools/call tools/list'\n  mcp-authority keys issue --csv new.csv --results issued.jsonl\n\nThe file's first row names its columns: agent_id,environment,name,grants,expires_in_days"
    )]
    Issue(Issue),
    /// Makes a new secret for a key, or for each key of a CSV file. The old one lives on for the grace.
    #[command(
        after_help = "Examples:\n  mcp-authority keys rotate key_0123456789ab --grace-seconds 3600\n  mcp-authority keys rotate --csv due.csv --results rotated.jsonl\n\nThe file's first row names its columns: id,grace_seconds"
    )]
    Rotate(Rotate),
    /// Revokes a key, for good. Asks for its name unless told not to.
    #[command(
        after_help = "Examples:\n  mcp-authority keys revoke key_0123456789ab --dry-run\n  mcp-authority keys revoke key_0123456789ab --reason 'left the team' --yes"
    )]
    Revoke(revoke::Revoke),
    /// Prints all keys with everything but their secrets, one JSON object a line.
    #[command(
        after_help = "Examples:\n  mcp-authority keys export > keys.jsonl\n  mcp-authority keys export | jq -r 'select(.status == \"active\") | .id'"
    )]
    Export,
}

#[derive(Args)]
pub(super) struct List {
    /// Of this agent.
    #[arg(long)]
    agent: Option<AgentId>,
    /// With a grant on this server.
    #[arg(long)]
    server: Option<ServerId>,
    /// `prod` or `dev`.
    #[arg(long)]
    environment: Option<String>,
    /// In this state, such as `active`, `overlap`, `expired`, `disabled` or `revoked`.
    #[arg(long)]
    status: Option<String>,
    /// Of this project.
    #[arg(long)]
    project: Option<String>,
    /// How the name begins.
    #[arg(long)]
    name: Option<String>,
    /// No more than so many, up to 10,000.
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

#[derive(Args)]
pub(super) struct Issue {
    /// Whose.
    #[arg(long, required_unless_present = "csv")]
    agent: Option<AgentId>,
    /// `prod` or `dev`.
    #[arg(long, required_unless_present = "csv")]
    environment: Option<String>,
    /// For people.
    #[arg(long)]
    name: Option<String>,
    /// A server's id, `=`, and what the key may do there, separated by spaces; may be given again.
    #[arg(long = "grant")]
    grants: Vec<Grant>,
    /// The life of each version of its secret.
    #[arg(long)]
    expires_in_days: Option<i32>,
    #[command(flatten)]
    many: Many,
}

#[derive(Args)]
pub(super) struct Rotate {
    /// The key's id.
    #[arg(required_unless_present = "csv")]
    id: Option<KeyId>,
    /// How long the old secret lives on.
    #[arg(long)]
    grace_seconds: Option<i64>,
    #[command(flatten)]
    many: Many,
}

#[derive(Args)]
pub(super) struct Many {
    /// A CSV file with a row for each; `-` is standard input.
    #[arg(long, requires = "results")]
    csv: Option<PathBuf>,
    /// Where the secrets go, mode 0600. A file from a run that broke off is gone on with.
    #[arg(long, requires = "csv")]
    results: Option<PathBuf>,
}

/// `SERVER=PERMISSION PERMISSION…`.
#[derive(Clone)]
struct Grant(Value);

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (server, permissions) = text.split_once('=').ok_or("a server's id, `=` and permissions")?;
        let server: ServerId = server.trim().parse().map_err(|error| format!("{error}"))?;
        let permissions: Vec<&str> = permissions.split_whitespace().collect();
        Ok(Self(json!({"server_id": server, "permissions": permissions})))
    }
}

pub(super) async fn run(command: Command, output: Option<Format>) -> Result<(), Failure> {
    let desk = Desk::load().map_err(|error| Failure::new(2, error))?;
    let (format, client) = (Format::chosen(output, &desk)?, Client::new(&desk)?);
    match command {
        Command::List(list) => Ok(format.print(&list.read(&client).await?, &COLUMNS)?),
        Command::Get { id } => Ok(format.print(&client.get(&format!("/v1/keys/{id}"), &[]).await?, &COLUMNS)?),
        Command::Issue(Issue { many: Many { csv: Some(csv), results: Some(results) }, .. }) => {
            bulk::run(&client, bulk::Verb::Issue, &csv, &results).await
        }
        Command::Rotate(Rotate { many: Many { csv: Some(csv), results: Some(results) }, grace_seconds, .. }) => {
            bulk::run(&client, bulk::Verb::Rotate { grace_seconds }, &csv, &results).await
        }
        Command::Issue(issue) => {
            let issued = client.post("/v1/keys", &issue.body()).await?;
            Ok(format.print(&issued, &["id", "key", "expires_at"])?)
        }
        Command::Rotate(Rotate { id: Some(id), grace_seconds, .. }) => {
            let body = without_nulls(json!({"grace_seconds": grace_seconds}));
            let rotated = client.post(&format!("/v1/keys/{id}/rotate"), &body).await?;
            Ok(format.print(&rotated, &["id", "key", "expires_at", "previous_expires_at"])?)
        }
        Command::Rotate(_) => Err(Failure::new(2, anyhow::anyhow!("which key?"))),
        Command::Revoke(revoke) => revoke.run(&client, format).await,
        Command::Export => export(&client).await,
    }
}

impl List {
    async fn read(&self, client: &Client) -> Result<Value, Failure> {
        let limit = self.limit.min(LIST_ITEMS_MAX);
        let (mut items, mut cursor) = (Vec::new(), None);
        while items.len() < limit {
            let page = self.page(client, (limit - items.len()).min(PAGE_ITEMS), cursor.take()).await?;
            items.extend(page.get("items").and_then(Value::as_array).into_iter().flatten().cloned());
            cursor = next(&page);
            if cursor.is_none() {
                break;
            }
        }
        let mut list = json!({"items": items});
        if let (Some(cursor), Some(members)) = (cursor, list.as_object_mut()) {
            members.insert("next_cursor".to_owned(), Value::from(cursor));
        }
        Ok(list)
    }

    async fn page(&self, client: &Client, items: usize, cursor: Option<String>) -> Result<Value, Failure> {
        let given = [
            ("limit", Some(items.to_string())),
            ("cursor", cursor),
            ("agent_id", self.agent.map(|id| id.to_string())),
            ("server_id", self.server.map(|id| id.to_string())),
            ("environment", self.environment.clone()),
            ("status", self.status.clone()),
            ("project", self.project.clone()),
            ("q", self.name.clone()),
        ];
        let query: Vec<_> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        client.get("/v1/keys", &query).await
    }
}

impl Issue {
    fn body(&self) -> Value {
        without_nulls(json!({
            "agent_id": self.agent,
            "environment": self.environment,
            "name": self.name,
            "grants": self.grants.iter().map(|grant| grant.0.clone()).collect::<Vec<_>>(),
            "expires_in_days": self.expires_in_days,
        }))
    }
}

/// Page by page: what is held is a page, however many keys there are.
async fn export(client: &Client) -> Result<(), Failure> {
    let mut cursor = None;
    loop {
        let mut query = vec![("limit", PAGE_ITEMS.to_string())];
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page = client.get("/v1/keys", &query).await?;
        Format::Jsonl.print(&page, &[])?;
        cursor = next(&page);
        if cursor.is_none() {
            return Ok(());
        }
    }
}

fn next(page: &Value) -> Option<String> {
    page.get("next_cursor").and_then(Value::as_str).map(str::to_owned)
}

/// The API takes no null for what was not said.
fn without_nulls(mut body: Value) -> Value {
    if let Some(members) = body.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    body
}
