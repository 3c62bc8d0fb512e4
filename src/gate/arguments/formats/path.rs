//! `safe-filename` and `safe-path`: names that stay where they are put, on every system.

use serde::Deserialize;
use unicode_normalization::is_nfc;

use super::is_hidden;

/// Bytes of one name at most, as in most file systems.
const NAME_BYTES_MAX: usize = 255;

/// Bytes of a path at most.
const PATH_BYTES_MAX: usize = 4_096;

/// Names that are devices on Windows, with whatever ending.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Checks one name of a file.
pub(super) fn filename(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err("a file name has 1 to 255 bytes");
    }
    if name.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|']) {
        return Err("no separators and none of `:*?\"<>|` in a file name");
    }
    // Characters that look like separators and dots become them when a system folds them.
    if name.chars().any(|one| is_hidden(one) || is_lookalike(one)) || !is_nfc(name) {
        return Err("no hidden characters, no characters that look like separators, NFC only");
    }
    // Two dots in front go up where what follows is cut off (`..;`).
    if name == "." || name.starts_with("..") || name.ends_with(['.', ' ']) || name.starts_with([' ', '~', '-']) {
        return Err("a file name ends in no dot or space and begins with no `..`, space, `~` or `-`");
    }
    if name.contains('%') {
        return Err("no `%`: it may be decoded later");
    }
    if is_device(name) {
        return Err("a file name that is a device elsewhere");
    }
    Ok(())
}

fn is_lookalike(one: char) -> bool {
    matches!(
        one,
        '\u{2044}'
            | '\u{2215}'
            | '\u{29f8}'
            | '\u{ff0f}'
            | '\u{ff3c}'
            | '\u{2216}'
            | '\u{fe68}'
            | '\u{2024}'
            | '\u{2025}'
            | '\u{2026}'
            | '\u{ff0e}'
            | '\u{fe52}'
            | '\u{fe55}'
            | '\u{ff1a}'
            | '\u{fe30}'
    )
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_lowercase();
    let numbered = ["com", "lpt"].iter().any(|device| {
        let number = stem.strip_prefix(device).map(|rest| rest.chars().collect::<Vec<_>>());
        matches!(number.as_deref(), Some(['0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}']))
    });
    numbered || DEVICES.contains(&stem.as_str())
}

/// Options of `safe-path`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// The directory that paths stay in. Absent: paths are relative.
    root: Option<String>,
}

#[derive(Debug)]
pub(in super::super) struct SafePath {
    /// Without a slash at its end.
    root: Option<String>,
}

impl SafePath {
    pub(super) fn new(options: Options) -> Result<Self, String> {
        let root = options.root.map(|root| {
            let own = root.strip_suffix('/').unwrap_or(&root);
            let names = own.strip_prefix('/').filter(|names| names.split('/').all(|name| filename(name).is_ok()));
            names.map(|_| own.to_owned()).ok_or("`root` is an absolute path below `/`, such as `/srv/files`")
        });
        Ok(Self { root: root.transpose()? })
    }

    /// Checks a path: relative, or absolute below the root. Only the text is read; links are the server's to refuse.
    pub(super) fn check(&self, path: &str) -> Result<(), &'static str> {
        if path.len() > PATH_BYTES_MAX {
            return Err("at most 4,096 bytes of path");
        }
        let names = if path.starts_with('/') {
            let below = self.root.as_ref().and_then(|root| path.strip_prefix(root.as_str()));
            below.and_then(|below| below.strip_prefix('/')).ok_or("the path is not below the root")?
        } else {
            path
        };
        names.split('/').try_for_each(filename)
    }
}
