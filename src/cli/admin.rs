//! `admin`: what somebody with a shell on the machine may do without an operator's key.

use std::io::Write;

use clap::Subcommand;

use crate::cli::Failure;
use crate::cli::store::{Store, open};
use crate::config::Config;
use crate::db::embedded::Role;
use crate::db::partitions;
use crate::operators::{self, NewOperator};
use crate::refusal::Refused;
use crate::revocations::{self, Kind, New};
use crate::secrets::Sealing;
use crate::types::caller::{Caller, EVERYTHING};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Makes an operator and prints only its key.
    #[command(after_help = "Examples:\n  mcp-authority admin create-key --name ops\n  \
        mcp-authority admin create-key --name ci --scope keys:write --scope agents:read --project payments > ci.key")]
    CreateKey {
        /// For people.
        #[arg(long)]
        name: String,
        /// What it may do; everything unless said. May be given several times.
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// Where; everywhere unless said. May be given several times.
        #[arg(long = "project")]
        projects: Vec<String>,
        /// The life of each version of its key, 1 to 90 days.
        #[arg(long)]
        expires_in_days: Option<i32>,
    },
    /// Voids every session token: what a restored backup brings back to life. Run it before the service is started.
    #[command(
        after_help = "Examples:\n  mcp-authority admin after-restore\n  MCPA_DATABASE_URL_FILE=database.url mcp-authority admin after-restore"
    )]
    AfterRestore,
}

pub(super) async fn run(command: Command, config: Config) -> Result<(), Failure> {
    let store = open(config, Role::Command).await?;
    store.migrated(store.config.migrate).await?;
    partitions::ahead_at_start(&store.db).await?;
    let done = match command {
        Command::CreateKey { name, scopes, projects, expires_in_days } => {
            let scopes = if scopes.is_empty() { vec![EVERYTHING.to_owned()] } else { scopes };
            let projects = if projects.is_empty() { None } else { Some(projects) };
            create_key(&store, NewOperator { name, scopes, projects, expires_in_days, allowed_cidrs: None }).await
        }
        Command::AfterRestore => after_restore(&store).await,
    };
    store.close().await?;
    done
}

async fn create_key(store: &Store, new: NewOperator) -> Result<(), Failure> {
    let (keyring, secret_key) = store.keyring().await?;
    let sealing = Sealing { keyring: &keyring, secret_key: &secret_key };
    let (_, issued, done) = operators::create(&store.db, sealing, &Caller::machine(), new).await?;
    writeln!(std::io::stdout(), "{}", issued.credential.reveal())?;
    // The next line of a script uses the key.
    if !crate::feed::spread_from_outside(&store.db, done).await.map_err(Refused::from)? {
        writeln!(
            std::io::stderr(),
            "the key is good, and a node does not know it yet: it may answer 401 for a moment"
        )?;
    }
    Ok(())
}

/// A restored database is older than what nodes have answered from: its history is another one, and all tokens of the
/// old one are void.
async fn after_restore(store: &Store) -> Result<(), Failure> {
    let mut tx = store.db.begin().await?;
    let history = crate::feed::open_history(&mut tx).await.map_err(Refused::from)?;
    revocations::add(&mut tx, &Caller::machine(), &New { project: None, ..New::of(Kind::All, "all", "") }).await?;
    let _ = store.db.commit(tx).await?;
    writeln!(
        std::io::stderr(),
        "history {history} begins: every session token from before is void; API keys that were revoked after the backup work again and must be revoked anew"
    )?;
    Ok(())
}
