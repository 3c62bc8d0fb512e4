//! Log lines on stderr: JSON for programs, short lines for people at a terminal; times are UTC.

use std::io::{IsTerminal, stderr};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::{MakeWriter, fmt};
use tracing_subscriber::util::SubscriberInitExt;

/// Why logging was not set up.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The directives are not understood.
    #[error("cannot read the log directives: {0}")]
    Directives(#[from] ParseError),
    /// Logging was set up before, and stays as it was.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Who reads the lines.
#[derive(Clone, Copy)]
enum Reader {
    Person,
    Program,
}

/// Sends what the process logs to stderr, from now until it ends.
///
/// `directives` is a level, or levels by part (`info,mcp_authority::feed=debug`). One JSON object per line, unless
/// stderr is a terminal. Also takes in what libraries say through `log`.
///
/// # Errors
///
/// Directives that cannot be read, and a second call; then nothing changes.
pub fn init(directives: &str) -> Result<(), LogsError> {
    let filter = filter(directives)?;
    let reader = if stderr().is_terminal() { Reader::Person } else { Reader::Program };
    subscriber(filter, reader, stderr).try_init().map_err(|_| LogsError::AlreadySet)
}

fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    // A value in a directive is compared as it is: an operator's text is not run as a regular expression.
    EnvFilter::builder().with_regex(false).parse(directives)
}

type Boxed = Box<dyn Subscriber + Send + Sync>;

fn subscriber<W>(filter: EnvFilter, reader: Reader, writer: W) -> Boxed
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // With its own errors on, the library reports a failed write by `eprintln!`, which panics when stderr is closed.
    let lines = fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    match reader {
        Reader::Person => Box::new(lines.compact().finish()),
        Reader::Program => Box::new(lines.with_ansi(false).json().flatten_event(true).with_span_list(false).finish()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Boxed, LogsError, Reader, filter, init, subscriber};
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(directives: &str, reader: Reader, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines: Boxed = subscriber(filter(directives).unwrap(), reader, move || writer.clone());
        tracing::subscriber::with_default(lines, log);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_program_reads_one_json_object_per_line_in_utc() {
        let text = written("info", Reader::Program, || {
            let _span = tracing::info_span!("request", id = "r1").entered();
            tracing::info!(keys = 3, "loaded\nall");
            tracing::debug!("not shown");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["keys"]), (&"INFO".into(), &3.into()));
        assert_eq!((&line["message"], &line["span"]["id"]), (&"loaded\nall".into(), &"r1".into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }

    #[test]
    fn a_person_reads_short_lines() {
        let text = written("warn", Reader::Person, || {
            tracing::info!("not shown");
            tracing::warn!(attempt = 2, "slow database");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("slow database") && text.contains("WARN") && !text.starts_with('{'), "{text}");
    }

    #[test]
    fn a_part_can_be_louder_than_the_rest() {
        let text = written("error,telemetry_feed=debug", Reader::Program, || {
            tracing::debug!(target: "telemetry_feed", "wanted");
            tracing::info!(target: "telemetry_other", "unwanted");
        });
        assert!(text.contains("wanted") && !text.contains("unwanted"), "{text}");
    }

    #[test]
    fn a_failed_write_stops_nothing() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for reader in [Reader::Person, Reader::Program] {
            let lines = subscriber(filter("info").unwrap(), reader, || Closed);
            tracing::subscriber::with_default(lines, || tracing::info!("lost"));
        }
    }

    #[test]
    fn a_second_set_up_and_bad_directives_are_errors() {
        assert!(matches!(init("info,=!"), Err(LogsError::Directives(_))));
        let _first = init("off");
        assert!(matches!(init("info"), Err(LogsError::AlreadySet)));
    }
}
