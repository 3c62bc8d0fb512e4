//! The command line: one file per subcommand. Results go to standard output, talk to standard error.

mod admin;
mod audit;
mod client;
mod demo;
mod doctor;
mod healthcheck;
mod jobs;
mod keys;
mod openapi;
mod output;
mod scan;
mod serve;
mod store;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::Config;
use crate::types::credential::looks_like_one;

/// The same for every command; docs/command-line.md has them too.
const EXIT_CODES: &str = "Exit codes:
  0  done
  1  refused or failed
  2  wrong usage or settings
  3  not found
  4  not authenticated
  5  forbidden
  6  something that is needed is away
  7  a check found something";

const SECRET_IN_ARGUMENTS: &str = "an argument holds a secret. Every program of this machine can read it there, and the \
    shell keeps it in its history. Pass it by a file, standard input or the environment, and take this one out of use";

/// Issues, checks, limits, rotates and revokes the credentials that AI agents use against MCP servers.
#[derive(Parser)]
#[command(name = "mcp-authority", version, propagate_version = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the authority. Without `MCPA_DATABASE_URL` it runs a private PostgreSQL of its own.
    #[command(after_help = "Examples:\n  mcp-authority serve\n  MCPA_LISTEN=127.0.0.1:9000 mcp-authority serve")]
    Serve,
    /// Brings the database to this binary's schema, then ends.
    #[command(
        after_help = "Examples:\n  mcp-authority migrate\n  MCPA_DATABASE_URL_FILE=/run/secrets/database mcp-authority migrate"
    )]
    Migrate,
    /// Administration on the machine itself, beside a running service or without it.
    #[command(
        after_help = "Examples:\n  mcp-authority admin create-key --name ops\n  mcp-authority admin after-restore"
    )]
    Admin {
        #[command(subcommand)]
        command: admin::Command,
    },
    /// The audit.
    #[command(
        after_help = "Examples:\n  mcp-authority audit verify\n  mcp-authority audit verify --checkpoint kept/checkpoints.txt"
    )]
    Audit {
        #[command(subcommand)]
        command: audit::Command,
    },
    /// Prints the description of the API (OpenAPI 3.1).
    #[command(after_help = "Examples:\n  mcp-authority openapi\n  mcp-authority openapi > authority.json")]
    Openapi,
    /// Says what is configured, reachable and wrong, each with its mend; exit 7 when a check failed. Works beside a
    /// running service and without it.
    #[command(
        after_help = "Examples:\n  mcp-authority doctor\n  mcp-authority doctor --json | jq '.checks[] | select(.status != \"ok\")'"
    )]
    Doctor {
        /// Prints one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Asks the service on this machine whether it is ready; exit 0 when it is.
    #[command(
        after_help = "Examples:\n  mcp-authority healthcheck\n  MCPA_LISTEN=127.0.0.1:9000 mcp-authority healthcheck"
    )]
    Healthcheck,
    /// Agents' keys, over the REST API of the service at `MCPA_URL`.
    #[command(
        after_help = "Examples:\n  mcp-authority keys list\n  MCPA_URL=https://authority.example.com MCPA_OPERATOR_KEY_FILE=ops.key mcp-authority keys list --output json"
    )]
    Keys {
        #[command(subcommand)]
        command: keys::Command,
        /// How to print.
        #[arg(long, value_enum, global = true)]
        output: Option<output::Format>,
    },
    /// What the service does by itself, over the REST API of the service at `MCPA_URL`.
    #[command(
        after_help = "Examples:\n  mcp-authority jobs list\n  mcp-authority jobs run keys --dry-run --output json"
    )]
    Jobs {
        #[command(subcommand)]
        command: jobs::Command,
        /// How to print.
        #[arg(long, value_enum, global = true)]
        output: Option<output::Format>,
    },
    /// Prints what makes a shell complete this program's words.
    #[command(
        after_help = "Examples:\n  mcp-authority completions bash > /etc/bash_completion.d/mcp-authority\n  mcp-authority completions fish > ~/.config/fish/completions/mcp-authority.fish"
    )]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Finds keys and secrets of ours in files and git history, and prints none of them; exit 7 when there are any.
    #[command(
        after_help = "Examples:\n  mcp-authority scan .\n  mcp-authority scan --output jsonl src docs | jq -r .path\n  MCPA_URL=https://authority.example.com mcp-authority scan --report --yes ."
    )]
    Scan(scan::Arguments),
    /// A tour against a throw-away instance: shows each request and reply, exits 0 only if every reply was the right one.
    #[command(after_help = "Examples:\n  mcp-authority demo\n  mcp-authority demo 2>/dev/null")]
    Demo,
}

/// A way to end that is not success.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: 1, error: error.into() }
    }
}

impl Failure {
    fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into() }
    }
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    if std::env::args_os().any(|argument| looks_like_one(&argument.to_string_lossy())) {
        return say(&Failure::new(2, anyhow::anyhow!(SECRET_IN_ARGUMENTS)));
    }
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return say(&Failure::new(1, error)),
    };
    match runtime.block_on(run(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => say(&failure),
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve => serve::run(config()?).await,
        Command::Migrate => serve::migrate(config()?).await,
        Command::Admin { command } => admin::run(command, config()?).await,
        Command::Audit { command } => audit::run(command, config()?).await,
        Command::Openapi => openapi::run(),
        Command::Doctor { json } => doctor::run(json).await,
        Command::Healthcheck => healthcheck::run(&config()?).await,
        Command::Keys { command, output } => keys::run(command, output).await,
        Command::Jobs { command, output } => jobs::run(command, output).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "mcp-authority", &mut std::io::stdout());
            Ok(())
        }
        Command::Scan(arguments) => scan::run(arguments).await,
        Command::Demo => demo::run().await,
    }
}

/// The settings, or every mistake in them.
fn config() -> Result<Config, Failure> {
    Config::load().map_err(|mistakes| Failure::new(2, anyhow::anyhow!("the settings have mistakes:\n{mistakes}")))
}

#[expect(clippy::print_stderr, reason = "the command line's own talk")]
fn say(failure: &Failure) -> ExitCode {
    eprintln!("mcp-authority: {:#}", failure.error);
    ExitCode::from(failure.code)
}
