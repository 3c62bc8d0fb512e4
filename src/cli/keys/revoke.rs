//! `keys revoke`: says what ends, asks, does it.

use std::io::{self, BufRead, IsTerminal};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::client::Client;
use crate::cli::keys::{COLUMNS, without_nulls};
use crate::cli::output::{Format, talk};
use crate::types::id::KeyId;

#[derive(Args)]
pub(in crate::cli) struct Revoke {
    /// The key's id.
    id: KeyId,
    /// Why, for the audit.
    #[arg(long)]
    reason: Option<String>,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
    /// Says what would end, and does nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Revoke {
    pub(super) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let path = format!("/v1/keys/{}", self.id);
        if self.dry_run || !self.yes {
            let key = client.get(&path, &[]).await?;
            let servers = key.get("grants").and_then(Value::as_array).map_or(0, Vec::len);
            let name = key.get("name").and_then(Value::as_str).unwrap_or(self.id.as_str());
            talk(&format!(
                "{} ({}) ends for good, with every session token from it, on {servers} servers",
                self.id,
                name.escape_debug()
            ));
            if self.dry_run {
                return Ok(format.print(&key, &COLUMNS)?);
            }
            confirm(name)?;
        }
        let body = without_nulls(json!({"reason": self.reason}));
        let receipt = client.post(&format!("{path}/revoke"), &body).await?;
        Ok(format.print(&receipt, &["id", "name", "status", "enforced"])?)
    }
}

/// The name typed back. Where nobody can be asked, nothing is done.
fn confirm(name: &str) -> Result<(), Failure> {
    let refused = |why: &str| Err(Failure::new(2, anyhow::anyhow!("{why}; nothing was done")));
    if !io::stdin().is_terminal() {
        return refused("nobody can be asked here: --yes says that it is meant");
    }
    talk(&format!("Type {name:?} to revoke it:"));
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    if typed.trim_end() == name { Ok(()) } else { refused("that is not its name") }
}
