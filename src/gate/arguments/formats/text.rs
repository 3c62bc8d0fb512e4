//! `plain-text`: text for people to read, with nothing hidden in it.

use serde::Deserialize;

use super::is_hidden;

const CHARS_DEFAULT: usize = 10_000;

/// Options of `plain-text`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Characters at most.
    max_chars: Option<usize>,
}

#[derive(Debug)]
pub(in super::super) struct PlainText {
    chars_max: usize,
}

impl PlainText {
    pub(super) fn new(options: &Options) -> Result<Self, String> {
        let chars_max = options.max_chars.unwrap_or(CHARS_DEFAULT);
        if chars_max == 0 {
            return Err("`max_chars` is at least 1".to_owned());
        }
        Ok(Self { chars_max })
    }

    pub(super) fn check(&self, text: &str) -> Result<(), &'static str> {
        if text.chars().nth(self.chars_max).is_some() {
            return Err("too many characters");
        }
        if text.chars().any(|one| is_hidden(one) && !matches!(one, '\n' | '\t')) {
            return Err("no control characters but line feed and tab, no marks of direction, nothing without width");
        }
        Ok(())
    }
}
