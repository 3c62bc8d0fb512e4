//! Formats of our own: what a language model gets wrong, or is made to get wrong, in arguments of tools.

mod address;
mod email;
mod html;
mod path;
mod sql;
mod sql_names;
mod sql_shape;
mod text;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The price of a parser as such, and of what it reads.
const PARSE_STEPS: u64 = 64;
const PARSED_BYTES_A_STEP: u64 = 2;

/// A format with its options, read once.
#[derive(Debug)]
pub(super) enum Format {
    Sql(sql::Sql),
    Email(email::Email),
    Filename,
    Path(path::SafePath),
    Url(address::Address),
    Text(text::PlainText),
    Html(html::Html),
}

/// A format without options.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

impl Format {
    /// Their names in a schema.
    pub(super) const NAMES: [&str; 7] =
        ["sql-read-only", "email", "safe-filename", "safe-path", "url", "plain-text", "html"];

    pub(super) fn is_ours(name: &str) -> bool {
        Self::NAMES.contains(&name)
    }

    /// Reads the options of a format of ours.
    ///
    /// # Errors
    ///
    /// An option that is not known or not valid; the text says which.
    pub(super) fn compile(name: &str, options: Value) -> Result<Self, String> {
        match name {
            "sql-read-only" => sql::Sql::new(read(options)?).map(Self::Sql),
            "email" => email::Email::new(read(options)?).map(Self::Email),
            "safe-filename" => read::<NoOptions>(options).map(|_| Self::Filename),
            "safe-path" => path::SafePath::new(read(options)?).map(Self::Path),
            "url" => address::Address::new(read(options)?).map(Self::Url),
            "plain-text" => text::PlainText::new(&read(options)?).map(Self::Text),
            "html" => read(options).map(Self::Html),
            _ => Err("not a format of ours".to_owned()),
        }
    }

    /// Checks a text.
    ///
    /// # Errors
    ///
    /// Why it does not fit; nothing of the text is repeated.
    pub(super) fn check(&self, text: &str) -> Result<(), &'static str> {
        match self {
            Self::Sql(sql) => sql.check(text),
            Self::Email(email) => email.check(text),
            Self::Filename => path::filename(text),
            Self::Path(path) => path.check(text),
            Self::Url(url) => url.check(text),
            Self::Text(plain) => plain.check(text),
            Self::Html(html) => html.check(text),
        }
    }

    /// What a text costs in steps, beside reading it: SQL and HTML are parsed into trees.
    pub(super) fn steps(&self, text: &str) -> u64 {
        let parsed = PARSE_STEPS + text.len() as u64 / PARSED_BYTES_A_STEP;
        match self {
            Self::Sql(_) => parsed,
            Self::Html(_) => parsed + html::steps(text),
            Self::Email(_) | Self::Filename | Self::Path(_) | Self::Url(_) | Self::Text(_) => 0,
        }
    }

    /// Whether texts are replaced by what is left of them.
    pub(super) fn cleans(&self) -> bool {
        matches!(self, Self::Html(html) if html.cleans())
    }

    /// What is left of a text, when that is another; only where [`Self::cleans`].
    ///
    /// # Errors
    ///
    /// The text cannot be cleaned.
    pub(super) fn clean(&self, text: &str) -> Result<Option<String>, &'static str> {
        match self {
            Self::Html(html) if html.cleans() => html.clean(text),
            _ => Ok(None),
        }
    }
}

fn read<T: DeserializeOwned>(options: Value) -> Result<T, String> {
    if !options.is_object() {
        return Err("options are an object".to_owned());
    }
    serde_json::from_value(options).map_err(|error| error.to_string())
}

/// Whether a text holds a character that is not shown, or that changes how its neighbours are shown: controls,
/// bidirectional marks, and characters without width that hide text from people. U+200C and U+200D are none of them:
/// scripts and emoji need them.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
