//! A value that must not be printed: wiped from memory when dropped, hidden in debug output. And text that may hold one.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// Longer runs of the characters that credentials are made of are not repeated; no name or id of ours is as long.
const REPEATED_CHARS_MAX: usize = 60;

/// A secret value. It has no `Display` and no serialisation, its `Debug` shows nothing of it, and its
/// memory is overwritten when it is dropped. The one way to the content is [`Secret::reveal`].
#[derive(Clone)]
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes the value over. Copies that the caller still holds are the caller's to wipe.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The content, for the one place that needs it. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A refusal or an error may repeat what is wrong, but not a credential that stands where a name belongs: others keep it.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let part_of_one = |found: char| found.is_ascii_alphanumeric() || "_.=+-".contains(found);
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(begin) = rest.find(part_of_one) {
        let (before, run) = rest.split_at(begin);
        let end = run.find(|found| !part_of_one(found)).unwrap_or(run.len());
        let (run, after) = run.split_at(end);
        plain.push_str(before);
        plain.push_str(if run.len() > REPEATED_CHARS_MAX { "…" } else { run });
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_output_shows_nothing_of_a_secret() {
        let text = Secret::new(String::from("canary"));
        let bytes = Secret::new([7_u8; 32]);
        assert_eq!(format!("{text:?} {bytes:#?}"), "[redacted] [redacted]");
        assert_eq!(format!("{:?}", Some(vec![text])), "Some([[redacted]])");
    }

    #[test]
    fn a_clone_reveals_the_same_content() {
        let first = Secret::new(String::from("canary"));
        let second = first.clone();
        drop(first);
        assert_eq!(second.reveal(), "canary");
    }
}
