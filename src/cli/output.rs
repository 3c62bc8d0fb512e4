//! How results are printed: as a table for people, as the API's own JSON for programs.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::Value;

use crate::cli::Failure;
use crate::config::Desk;

/// What `--output` and `MCPA_OUTPUT` take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns; separated by tabs where it is not a terminal.
    Table,
    /// The API's own document.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// The ids alone; of what has none, the names.
    Id,
}

impl Format {
    /// The option goes before the environment, which goes before the table.
    pub(super) fn chosen(option: Option<Self>, desk: &Desk) -> Result<Self, Failure> {
        match (option, &desk.output) {
            (Some(format), _) => Ok(format),
            (None, None) => Ok(Self::Table),
            (None, Some(name)) => Self::from_str(name, false)
                .map_err(|_| Failure::new(2, anyhow::anyhow!("MCPA_OUTPUT is table, json, jsonl or id"))),
        }
    }

    /// Prints a thing or a list of them; of each row of a table the members named.
    pub(super) fn print(self, document: &Value, columns: &[&str]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let items = match document.get("items").and_then(Value::as_array) {
            Some(items) => items.as_slice(),
            None => std::slice::from_ref(document),
        };
        match self {
            Self::Json => writeln!(out, "{document:#}")?,
            Self::Jsonl => items.iter().try_for_each(|item| writeln!(out, "{item}"))?,
            Self::Id => items.iter().try_for_each(|item| writeln!(out, "{}", cell(item, id_of(item))))?,
            Self::Table => table(&mut out, items, columns)?,
        }
        out.flush()
    }
}

fn table(out: &mut impl Write, items: &[Value], columns: &[&str]) -> io::Result<()> {
    let head = columns.iter().map(|column| column.to_uppercase());
    let rows = items.iter().map(|item| columns.iter().map(|column| cell(item, column)).collect::<Vec<_>>());
    if !io::stdout().is_terminal() {
        writeln!(out, "{}", head.collect::<Vec<_>>().join("\t"))?;
        return rows.into_iter().try_for_each(|row| writeln!(out, "{}", row.join("\t")));
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(head);
    table.add_rows(rows);
    writeln!(out, "{table}")
}

/// What it is addressed by: a job has a name and no id.
fn id_of(item: &Value) -> &'static str {
    if item.get("id").is_some() { "id" } else { "name" }
}

/// A member as text. A name may hold anything, and a terminal obeys some of it.
fn cell(item: &Value, member: &str) -> String {
    match item.get(member) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.escape_debug().to_string(),
        Some(other) => other.to_string(),
    }
}

/// Says something that is not the result.
#[expect(clippy::print_stderr, reason = "the command line's own talk")]
pub(super) fn talk(text: &str) {
    eprintln!("{text}");
}
