//! Finds our credentials in a stream of bytes, by their form and their checksum.
//!
//! The 61 characters after a prefix are base62 and the prefix ends with `_`, which is not. So they are the beginning of a run
//! of such characters, and every 61st byte falls into each run that is long enough: most bytes are never looked at.

use std::io::{self, ErrorKind, Read};

use crate::types::credential::{BODY_DIGITS, Kind, PREFIX_MAX, Presented};

/// Read at once. What one reader needs follows from this alone, however large the file.
const CHUNK_BYTES: usize = 256 * 1024;
/// Of a chunk, what may be the beginning of a credential that goes on in the next.
const CARRY_BYTES: usize = PREFIX_MAX + BODY_DIGITS - 1;

/// A buffer of one reader, used for one stream after the other.
pub(super) struct Finder {
    buffer: Vec<u8>,
}

impl Finder {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; CARRY_BYTES + CHUNK_BYTES] }
    }

    /// Reads to the end and hands over each credential with its line, which counts from one. Returns the number of bytes.
    pub(super) fn read(&mut self, from: &mut impl Read, mut found: impl FnMut(Presented<'_>, u64)) -> io::Result<u64> {
        let (mut carried, mut total, mut line) = (0, 0_u64, 1_u64);
        loop {
            let room = self.buffer.get_mut(carried..carried + CHUNK_BYTES).unwrap_or_default();
            let read = match from.read(room) {
                Ok(0) => return Ok(total),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            total += read as u64;
            let filled = carried + read;
            let bytes = self.buffer.get(..filled).unwrap_or_default();
            let (mut counted, mut at_line) = (carried, line);
            each(bytes, |start, presented| {
                // Whole in what was carried: it was handed over before.
                if start + presented.reveal().len() <= carried {
                    return;
                }
                if let Some(passed) = bytes.get(counted..start) {
                    at_line += lines(passed);
                    counted = start;
                }
                // It may have begun in the chunk before; no line ends inside it.
                let since = bytes.get(start..carried).map_or(0, lines);
                found(presented, at_line - since);
            });
            line += bytes.get(carried..).map_or(0, lines);
            let keep = filled.min(CARRY_BYTES);
            self.buffer.copy_within(filled - keep..filled, 0);
            carried = keep;
        }
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.buffer);
    }
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// Every credential in these bytes, with where it begins.
fn each<'a>(bytes: &'a [u8], mut found: impl FnMut(usize, Presented<'a>)) {
    // No run goes across the byte before `from`.
    let mut from = 0;
    while let Some(byte) = bytes.get(from + BODY_DIGITS - 1) {
        let probe = from + BODY_DIGITS - 1;
        if !byte.is_ascii_alphanumeric() {
            from = probe + 1;
            continue;
        }
        let is_end = |byte: &u8| !byte.is_ascii_alphanumeric();
        let start =
            bytes.get(from..probe).and_then(|run| run.iter().rposition(is_end)).map_or(from, |at| from + at + 1);
        let rest = bytes.get(probe..).unwrap_or_default();
        let end = rest.iter().position(is_end).map_or(bytes.len(), |at| probe + at);
        if end - start >= BODY_DIGITS
            && let Some((at, presented)) = behind_prefix(bytes, start)
        {
            found(at, presented);
        }
        from = end + 1;
    }
}

/// The credential whose characters after the prefix begin at `start`, and where its prefix does.
fn behind_prefix(bytes: &[u8], start: usize) -> Option<(usize, Presented<'_>)> {
    let before = bytes.get(..start)?;
    let kind = Kind::ALL.into_iter().find(|kind| before.ends_with(kind.prefix().as_bytes()))?;
    let at = start - kind.prefix().len();
    let text = std::str::from_utf8(bytes.get(at..start + BODY_DIGITS)?).ok()?;
    Some((at, Presented::parse(text)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::credential::Credential;
    use crate::types::environment::Environment;

    /// Gives so many bytes at once.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(to.len());
            to[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn found(bytes: &[u8], at_once: usize) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        let read = Finder::new()
            .read(&mut Drip(bytes, at_once), |presented, line| all.push((presented.reveal().to_owned(), line)));
        assert_eq!(read.unwrap(), bytes.len() as u64);
        all
    }

    #[test]
    fn every_kind_is_found_whatever_stands_around_it() {
        for kind in Kind::ALL {
            let made = Credential::generate(kind, b"0123456789ab");
            let text = made.reveal();
            for around in
                [["", ""], ["key=", "\n"], ["abc", "abc"], ["\0é\n\n", "\0"], ["__", "__"], ["mcp_prod_", "mcp_"]]
            {
                let line = 1 + around[0].matches('\n').count() as u64;
                assert_eq!(found(format!("{}{text}{}", around[0], around[1]).as_bytes(), 7), [(text.to_owned(), line)]);
            }
        }
    }

    #[test]
    fn a_wrong_checksum_and_a_cut_credential_are_not_found() {
        let made = Credential::generate(Kind::Admin, b"0123456789ab");
        let text = made.reveal();
        let last = if text.ends_with('0') { '1' } else { '0' };
        assert_eq!(found(format!("{}{last}", &text[..text.len() - 1]).as_bytes(), 50), []);
        assert_eq!(found(&text.as_bytes()[1..], 50), []);
        assert_eq!(found(&text.as_bytes()[..text.len() - 1], 50), []);
    }

    #[test]
    fn a_credential_across_a_border_of_chunks_is_found_once() {
        let made = Credential::generate(Kind::Key(Environment::Prod), b"0123456789ab");
        for before in CHUNK_BYTES - 80..CHUNK_BYTES + 10 {
            let mut bytes = b"word\n".repeat(before / 5);
            bytes.resize(before, b' ');
            bytes.extend_from_slice(made.reveal().as_bytes());
            bytes.extend(b"\n".repeat(CHUNK_BYTES));
            let line = (before / 5) as u64 + 1;
            assert_eq!(found(&bytes, usize::MAX), [(made.reveal().to_owned(), line)], "{before}");
        }
    }

    proptest! {
        #[test]
        fn all_are_found_and_nothing_else(parts in proptest::collection::vec(("[a-zA-Z0-9_\n ]{0,200}", any::<bool>()), 0..8), at_once in 1_usize..300) {
            let (mut text, mut expected) = (String::new(), Vec::new());
            for (before, plant) in parts {
                text.push_str(&before);
                if plant {
                    let made = Credential::generate(Kind::Key(Environment::Dev), b"0123456789ab");
                    let line = 1 + text.matches('\n').count() as u64;
                    text.push_str(made.reveal());
                    expected.push((made.reveal().to_owned(), line));
                }
            }
            prop_assert_eq!(found(text.as_bytes(), at_once), expected);
        }
    }
}
