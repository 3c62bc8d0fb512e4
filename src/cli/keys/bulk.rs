//! `--csv`: one call for each row, the answers to a file of mode 0600. A run that broke off is gone on with: each row has a
//! name of its own at the service, so that none is done twice, and the file says which are done.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::client::Client;
use crate::cli::keys::{Grant, without_nulls};
use crate::cli::output::talk;
use crate::types::id::KeyId;

/// A CSV file, or the results of one, at most.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What is done with each row.
#[derive(Clone, Copy)]
pub(super) enum Verb {
    Issue,
    Rotate { grace_seconds: Option<i64> },
}

pub(super) async fn run(client: &Client, verb: Verb, csv: &Path, results: &Path) -> Result<(), Failure> {
    let text = read(csv)?;
    let mut rows =
        parse(&text).map_err(|why| Failure::new(2, anyhow::anyhow!("{}: {why}", csv.display())))?.into_iter();
    let head = rows.next().unwrap_or_default();
    let bodies: Result<Vec<_>, _> =
        rows.enumerate().map(|(at, row)| verb.request(&head, &row).map_err(|why| (at, why))).collect();
    // All rows are looked at before the first is done.
    let bodies = bodies.map_err(|(at, why)| Failure::new(2, anyhow::anyhow!("row {}: {why}", at + 1)))?;
    let mut results = Results::open(results)?;
    let bar = ProgressBar::new(bodies.len() as u64);
    if !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let mut refused = 0_usize;
    for (at, (path, body)) in bodies.into_iter().enumerate() {
        if !results.done.contains(&at) {
            let answer = once(client, &path, &body, &format!("{}-{at}", results.run)).await;
            match answer {
                Ok(answer) => results.add(at, &answer)?,
                // The service is away, or does not know us: the rows after this one would fare no better.
                Err(failure) if matches!(failure.code, 4 | 6) => return Err(failure),
                Err(failure) => {
                    refused += 1;
                    bar.suspend(|| talk(&format!("row {}: {:#}", at + 1, failure.error)));
                }
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if refused > 0 { Err(Failure::new(1, anyhow::anyhow!("{refused} rows were refused"))) } else { Ok(()) }
}

/// An answer that was lost is given again without the secret. Nobody has that one: it gets a successor, and ends at once.
async fn once(client: &Client, path: &str, body: &Value, name: &str) -> Result<Value, Failure> {
    let answer = client.post_once(path, body, name).await?;
    let lost = answer.get("secret_already_shown").and_then(Value::as_bool).unwrap_or_default();
    let id = answer.get("id").and_then(Value::as_str).and_then(|id| id.parse::<KeyId>().ok());
    match id.filter(|_| lost) {
        // After a lost issue nothing uses the older secret; after a lost rotation somebody does, until its own end.
        Some(id) if path == "/v1/keys" => {
            client.post(&format!("/v1/keys/{id}/rotate"), &json!({"grace_seconds": 0})).await
        }
        Some(id) => client.post(&format!("/v1/keys/{id}/rotate"), &json!({})).await,
        None => Ok(answer),
    }
}

impl Verb {
    fn request(self, head: &[String], row: &[String]) -> Result<(String, Value), String> {
        if head.len() != row.len() {
            return Err(format!("{} columns, the first row has {}", row.len(), head.len()));
        }
        let known: &[&str] = match self {
            Self::Issue => &["agent_id", "environment", "name", "grants", "expires_in_days"],
            Self::Rotate { .. } => &["id", "grace_seconds"],
        };
        if let Some(unknown) = head.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("there is no column {unknown:?}; {}", known.join(",")));
        }
        let cell = |name: &str| {
            let at = head.iter().position(|known| known == name)?;
            row.get(at).map(String::as_str).filter(|cell| !cell.is_empty())
        };
        let number = |name: &str| {
            cell(name).map(|text| text.parse::<i64>().map_err(|_| format!("{name} is a whole number"))).transpose()
        };
        match self {
            Self::Issue => {
                let grants = cell("grants").unwrap_or_default().split(';').filter(|grant| !grant.trim().is_empty());
                let grants = grants.map(|grant| Ok(grant.parse::<Grant>()?.0)).collect::<Result<Vec<_>, String>>()?;
                let body = json!({
                    "agent_id": cell("agent_id").ok_or("agent_id is missing")?,
                    "environment": cell("environment").ok_or("environment is missing")?,
                    "name": cell("name"), "grants": grants, "expires_in_days": number("expires_in_days")?,
                });
                Ok(("/v1/keys".to_owned(), without_nulls(body)))
            }
            Self::Rotate { grace_seconds } => {
                let id: KeyId = cell("id").ok_or("id is missing")?.parse().map_err(|error| format!("{error}"))?;
                let body = json!({"grace_seconds": number("grace_seconds")?.or(grace_seconds)});
                Ok((format!("/v1/keys/{id}/rotate"), without_nulls(body)))
            }
        }
    }
}

/// The file with the answers. Its first line names the run.
struct Results {
    file: File,
    run: String,
    done: HashSet<usize>,
}

impl Results {
    fn open(path: &Path) -> Result<Self, Failure> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        if file.metadata()?.mode() & 0o077 != 0 {
            return Err(Failure::new(2, anyhow::anyhow!("{}: others can read it; chmod 600", path.display())));
        }
        let (mut run, mut done) = (None, HashSet::new());
        let mut torn = false;
        for line in BufReader::new((&mut file).take(FILE_BYTES_MAX)).split(b'\n') {
            let line = line?;
            match serde_json::from_slice::<Value>(&line) {
                Ok(line) => {
                    run = run.or_else(|| line.get("run").and_then(Value::as_str).map(str::to_owned));
                    done.extend(
                        line.get("row")
                            .and_then(Value::as_u64)
                            .and_then(|row| usize::try_from(row).ok()?.checked_sub(1)),
                    );
                    torn = false;
                }
                // Only the last line can be half written.
                Err(_) => torn = true,
            }
        }
        let run = match run {
            Some(run) => run,
            None if file.metadata()?.len() > 0 => {
                return Err(Failure::new(2, anyhow::anyhow!("{} is not a file of results", path.display())));
            }
            None => {
                let run = uuid::Uuid::new_v4().to_string();
                writeln!(file, "{}", json!({"run": run}))?;
                run
            }
        };
        if torn {
            writeln!(file)?;
        }
        Ok(Self { file, run, done })
    }

    /// On the disk before the next is asked for: a secret is shown once.
    fn add(&mut self, at: usize, answer: &Value) -> io::Result<()> {
        let member = |name: &str| answer.get(name).cloned().unwrap_or(Value::Null);
        let line = json!({"row": at + 1, "id": member("id"), "key": member("key"), "expires_at": member("expires_at")});
        writeln!(self.file, "{line}")?;
        self.file.sync_data()
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let source: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(File::open(path)?) };
    let read = source.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(Failure::new(2, anyhow::anyhow!("{} is larger than {FILE_BYTES_MAX} bytes", path.display())));
    }
    Ok(text)
}

/// Rows of RFC 4180: commas, quotes around what holds them, a quote in a quoted cell doubled.
fn parse(text: &str) -> Result<Vec<Vec<String>>, &'static str> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut signs = text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '"' if quoted && signs.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' if quoted || cell.is_empty() => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted && signs.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            sign => cell.push(sign),
        }
    }
    if quoted {
        return Err("a quote is not closed");
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows.retain(|row| row.iter().any(|cell| !cell.is_empty()));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn cells_are_read_as_rfc_4180_writes_them() {
        let rows = |text: &str| parse(text).unwrap();
        assert_eq!(rows("a,b\r\n1,\"x, \"\"y\"\"\nz\"\n\n3,"), [["a", "b"], ["1", "x, \"y\"\nz"], ["3", ""]]);
        assert_eq!(rows(""), Vec::<Vec<String>>::new());
        assert!(parse("a,\"b").is_err());
    }
}
