//! What is wrong with the settings: all of it at once, each with its mend, never with a secret in it.

use std::fmt;

/// Longer values are cut in messages.
const SHOWN_CHARS_MAX: usize = 80;

/// One mistake: which setting, what is wrong, how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The name under which the setting was given or is missing.
    pub setting: String,
    /// What is wrong with it. Never holds the value of a secret.
    pub wrong: String,
    /// What to do.
    pub mend: String,
}

/// All mistakes of the settings. Displayed one a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Each mistake, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }

    pub(super) fn add(&mut self, setting: impl Into<String>, wrong: impl Into<String>, mend: impl Into<String>) {
        self.0.push(Mistake { setting: setting.into(), wrong: wrong.into(), mend: mend.into() });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, verb) = (self.0.len(), if self.0.len() == 1 { "mistake" } else { "mistakes" });
        write!(f, "{count} {verb} in the settings:")?;
        for Mistake { setting, wrong, mend } in &self.0 {
            let end = if mend.ends_with('?') { "" } else { "." };
            write!(f, "\n  {}: {wrong}. {mend}{end}", setting.escape_debug())?;
        }
        Ok(())
    }
}

/// A value as it may stand in a message: quoted, on one line, not endless.
pub(super) fn shown(value: &str) -> String {
    let mut short: String = value.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    format!("{short:?}")
}
