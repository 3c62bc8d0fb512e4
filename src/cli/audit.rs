//! `audit verify`: reads the whole audit and says what was changed, removed, reordered or inserted.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use time::format_description::well_known::Rfc3339;

use crate::audit;
use crate::cli::Failure;
use crate::cli::store::{Store, open};
use crate::config::Config;
use crate::db::embedded::Role;
use crate::signing::{self, Purpose};
use crate::types::clock::Timestamp;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Verifies all entries and checkpoints; exit 7 when something is not as it was written.
    #[command(
        after_help = "Examples:\n  mcp-authority audit verify\n  mcp-authority audit verify --checkpoint kept/checkpoints.txt"
    )]
    Verify {
        /// A file with checkpoints that were kept elsewhere, one JWS a line.
        #[arg(long)]
        checkpoint: Option<PathBuf>,
    },
}

pub(super) async fn run(Command::Verify { checkpoint }: Command, config: Config) -> Result<(), Failure> {
    let kept = match checkpoint {
        Some(path) => std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?,
        None => String::new(),
    };
    let kept: Vec<String> = kept.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let store = open(config, Role::Command).await?;
    let found = verify(&store, &kept).await;
    store.close().await?;
    found
}

async fn verify(store: &Store, kept: &[String]) -> Result<(), Failure> {
    store.migrated(false).await?;
    let mut connection = store.db.reads().acquire().await?;
    let keys: HashMap<String, _> = signing::public_of(&mut connection, Purpose::Checkpoint)
        .await?
        .into_iter()
        .filter_map(|key| Some((key.kid, signing::decoding(&key.jwk)?)))
        .collect();
    let verified = audit::verify(&mut connection, &|kid: &str| keys.get(kid).cloned(), kept).await?;
    let mut out = std::io::stdout();
    for finding in &verified.findings {
        writeln!(out, "{finding}")?;
    }
    writeln!(
        out,
        "{} entries in {} chains, {} checkpoints, {} kept elsewhere",
        verified.entries,
        verified.chains,
        verified.checkpoints,
        kept.len()
    )?;
    if let Some(from) = verified.vouches_from {
        let from = Timestamp::from_seconds(from).to_utc().format(&Rfc3339).context("a time that cannot be written")?;
        writeln!(out, "entries from before {from} were removed when their time was over; this vouches from then on")?;
    }
    if verified.findings.is_empty() {
        writeln!(out, "nothing was changed, removed, reordered or inserted")?;
        return Ok(());
    }
    Err(Failure::new(7, anyhow::anyhow!("the audit is not as it was written: {} findings", verified.findings.len())))
}
