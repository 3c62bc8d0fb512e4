//! JSON merge patch (RFC 7396): absent leaves, null clears, a value replaces; and the tag a change is conditional on.

use serde::{Deserialize, Deserializer, Serialize};

/// One member of a merge patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Not mentioned.
    #[default]
    Absent,
    /// Null: back to what it is when left out at creation.
    Clear,
    /// The new value.
    Set(T),
}

impl<T> Patch<T> {
    /// The value after the patch, given the one before.
    pub fn over(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Absent => before,
            Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }

    /// Whether the member was mentioned.
    pub const fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(from)?.map_or(Self::Clear, Self::Set))
    }
}

/// Members that change by themselves and are no part of what a change is conditional on.
const VOLATILE: [&str; 3] = ["last_used_at", "previous", "secrets"];

/// The strong entity tag (RFC 9110 §8.8.3) of a thing as it is read.
#[must_use]
pub fn etag(thing: &impl Serialize) -> String {
    let mut value = serde_json::to_value(thing).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        for member in VOLATILE {
            members.remove(member);
        }
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value.to_string().as_bytes());
    let hex = digest.as_ref().iter().take(12).fold(String::new(), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    });
    format!("\"{hex}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        name: Patch<String>,
    }

    #[test]
    fn absent_leaves_null_clears_and_a_value_replaces() {
        let read = |text: &str| serde_json::from_str::<Body>(text).unwrap().name;
        let before = || Some("old".to_owned());
        assert_eq!(read("{}").over(before()), before());
        assert_eq!(read(r#"{"name":null}"#).over(before()), None);
        assert_eq!(read(r#"{"name":"new"}"#).over(before()), Some("new".to_owned()));
    }

    #[test]
    fn a_use_does_not_change_the_tag() {
        let tag = |at: &str, name: &str| etag(&serde_json::json!({"name": name, "last_used_at": at}));
        assert_eq!(tag("1", "a"), tag("2", "a"));
        assert_ne!(tag("1", "a"), tag("1", "b"));
    }
}
