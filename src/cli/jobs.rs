//! `jobs`: what the service does by itself, over its REST API, as the operator of `MCPA_OPERATOR_KEY`.

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::client::Client;
use crate::cli::output::Format;
use crate::config::Desk;
use crate::jobs::Job;

/// The columns of a table of jobs.
const COLUMNS: [&str; 6] = ["name", "late", "lag_seconds", "last_success_at", "next_run_at", "last_error"];
/// The columns of a run.
const RUN_COLUMNS: [&str; 5] = ["name", "dry_run", "succeeded", "counts", "more"];

#[derive(Subcommand)]
pub(super) enum Command {
    /// Lists the jobs, and how each stands.
    #[command(
        after_help = "Examples:\n  mcp-authority jobs list\n  mcp-authority jobs list --output jsonl | jq -r 'select(.late) | .name'"
    )]
    List,
    /// Shows how a job stands.
    #[command(
        after_help = "Examples:\n  mcp-authority jobs get keys\n  mcp-authority jobs get signing_keys --output json | jq .last_success_at"
    )]
    Get {
        /// The job's name.
        #[arg(value_parser = names())]
        name: String,
    },
    /// Runs a job now, on the node that answers, and waits for its end; exit 1 when the job failed.
    #[command(
        after_help = "Examples:\n  mcp-authority jobs run keys --dry-run\n  mcp-authority jobs run expire --output json | jq .counts"
    )]
    Run {
        /// The job's name.
        #[arg(value_parser = names())]
        name: String,
        /// Says what would be done first, and takes it back.
        #[arg(long)]
        dry_run: bool,
    },
}

/// The names there are, which a mistyped one is compared with; bash and zsh complete them, the others complete no positions.
fn names() -> PossibleValuesParser {
    Job::ALL.map(Job::name).into()
}

pub(super) async fn run(command: Command, output: Option<Format>) -> Result<(), Failure> {
    let desk = Desk::load().map_err(|error| Failure::new(2, error))?;
    let (format, client) = (Format::chosen(output, &desk)?, Client::new(&desk)?);
    match command {
        Command::List => Ok(format.print(&client.get("/v1/jobs", &[]).await?, &COLUMNS)?),
        Command::Get { name } => Ok(format.print(&client.get(&format!("/v1/jobs/{name}"), &[]).await?, &COLUMNS)?),
        Command::Run { name, dry_run } => {
            let ran = client.post(&format!("/v1/jobs/{name}/run"), &json!({"dry_run": dry_run})).await?;
            format.print(&ran, &RUN_COLUMNS)?;
            succeeded(&ran)
        }
    }
}

/// The service answers 200 to a run that failed too: it has ended. For whoever waits for the work that is a failure.
fn succeeded(ran: &Value) -> Result<(), Failure> {
    if ran.get("succeeded").and_then(Value::as_bool) == Some(true) {
        return Ok(());
    }
    let why = ran.get("error").and_then(Value::as_str).unwrap_or("it does not say why");
    Err(Failure::new(1, anyhow::anyhow!("the job failed: {}", why.escape_debug())))
}
