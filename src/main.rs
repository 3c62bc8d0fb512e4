//! Parses the command line, runs it, exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_authority::cli::main()
}
