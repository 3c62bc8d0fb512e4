//! `make bench`: what the service costs, measured in one run beside ceilings, as tables and a JSON file.
//!
//! It starts everything itself: a private PostgreSQL, nodes of the release binary, the ceilings, the load, each in a
//! process of its own, on loopback. When it ends, however it ends, nothing of them is left. How each figure is made
//! stands in docs/performance.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its tables are its result, and it says what it does")]

mod bare;
mod gate;
mod goals;
mod hot;
mod issue;
mod load;
mod process;
mod report;
mod revoke;
mod scale;
mod seed;
mod upkeep;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::bare::Bare;
use crate::hot::Pace;
use crate::report::Figures;
use crate::scale::Size;
use crate::world::Machine;

#[derive(Parser)]
#[command(about = "Measures the service beside ceilings, in one run.")]
struct Args {
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// About two minutes: fewer and shorter rounds, a tenth of the keys.
    #[arg(long)]
    quick: bool,
    /// Only these parts.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Another program to measure than the one just built.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_mcp-authority"))]
    binary: PathBuf,
    /// The file for the figures.
    #[arg(long, value_name = "PATH", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench.json"))]
    json: PathBuf,
    /// Puts the tables into docs/performance.md.
    #[arg(long)]
    publish: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a ceiling; the bench starts it by itself.
    #[command(hide = true)]
    Bare { which: Bare },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Memory,
    Introspection,
    Issuing,
    Revocation,
    Scale,
}

/// How long each part takes, and how much of it there is.
struct Plan {
    rounds: Pace,
    issuing: Duration,
    revoking: Duration,
    size: Size,
    size_rounds: Pace,
}

const WHOLE: Plan = Plan {
    rounds: Pace { rounds: 5, run: Duration::from_secs(3) },
    issuing: Duration::from_secs(10),
    revoking: Duration::from_secs(30),
    size: Size { keys: 1_000_000, revocations: 100_000 },
    size_rounds: Pace { rounds: 5, run: Duration::from_secs(3) },
};

const QUICK: Plan = Plan {
    rounds: Pace { rounds: 3, run: Duration::from_secs(1) },
    issuing: Duration::from_secs(3),
    revoking: Duration::from_secs(5),
    size: Size { keys: 100_000, revocations: 10_000 },
    size_rounds: Pace { rounds: 3, run: Duration::from_secs(1) },
};

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.command {
        Some(Command::Bare { which }) => bare::serve(which),
        None => bench(&args),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn bench(args: &Args) -> anyhow::Result<()> {
    let figures = tokio::select! {
        figures = measure(args) => figures?,
        // The guard ends what runs when this process has ended.
        _ = tokio::signal::ctrl_c() => anyhow::bail!("stopped"),
    };
    let tables = figures.tables();
    println!("{tables}");
    figures.save(&args.json)?;
    say(&format!("the figures are in {}", args.json.display()));
    if args.publish {
        report::publish(&tables, concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md").as_ref())?;
    }
    Ok(())
}

async fn measure(args: &Args) -> anyhow::Result<Figures> {
    let plan = if args.quick { &QUICK } else { &WHOLE };
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let machine = Machine::new(&args.binary).await?;
    let command = if args.quick { "make bench BENCH=--quick" } else { "make bench" };
    let mut figures = Figures {
        machine: report::Machine::look(command.to_owned(), machine.postgres_version().await?),
        memory: wanted(Part::Memory).then(gate::measure),
        introspection: None,
        issuing: None,
        revocation: None,
        scale: None,
    };
    let world = machine.world("bench").await?;
    let node = world.node().await?;
    let operator = world.operator(&node).await?;
    if wanted(Part::Introspection) {
        figures.introspection = Some(hot::measure(&world, &node, &operator, plan.rounds).await?);
    }
    if wanted(Part::Issuing) {
        figures.issuing = Some(issue::measure(&world, &node, &operator, plan.issuing).await?);
    }
    if wanted(Part::Revocation) {
        figures.revocation = Some(revoke::measure(&world, node, &operator, plan.revoking).await?);
    } else {
        node.stop().await?;
    }
    world.db.close().await;
    if wanted(Part::Scale) {
        figures.scale = Some(Box::pin(scale::measure(&machine, plan.size, plan.size_rounds)).await?);
    }
    machine.end().await?;
    Ok(figures)
}

/// What is being done, for whoever waits.
pub(crate) fn say(what: &str) {
    eprintln!("bench: {what}");
}
