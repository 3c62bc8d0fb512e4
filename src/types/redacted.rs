//! A value that must not be printed: wiped from memory when dropped, hidden in debug output.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

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
