//! `openapi`: prints the description of the API.

use std::io::Write;

use crate::cli::Failure;

pub(super) fn run() -> Result<(), Failure> {
    let text = crate::http::openapi().to_pretty_json()?;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}
