//! `html`: markup of which only harmless elements and attributes are left.

use std::collections::HashSet;
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};
use serde::Deserialize;

const BYTES_MAX: usize = 64 * 1024;

/// Places where an element may open or close, at most. Elements that are left open are made again in each paragraph, so
/// parsing is quadratic in them.
const ANGLES_MAX: usize = 500;

/// A step pays for this many pairs of them.
const PAIRS_A_STEP: u64 = 16;

/// `html` and its options.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Html {
    #[serde(default)]
    on_change: OnChange,
}

/// What is done when cleaning would change the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnChange {
    /// The cleaned text stands in its place.
    #[default]
    Clean,
    /// The arguments are refused.
    Refuse,
}

impl Html {
    pub(super) fn cleans(&self) -> bool {
        self.on_change == OnChange::Clean
    }

    pub(super) fn check(&self, text: &str) -> Result<(), &'static str> {
        if text.len() > BYTES_MAX {
            return Err("at most 65,536 bytes of HTML");
        }
        if angles(text) > ANGLES_MAX {
            return Err("at most 500 tags of HTML");
        }
        if self.cleans() || sanitised(text)? == text {
            return Ok(());
        }
        Err("HTML that is not clean: elements, attributes or a notation that are not allowed")
    }

    /// The cleaned text, when it is another than this one; cleaning it again changes nothing.
    pub(super) fn clean(&self, text: &str) -> Result<Option<String>, &'static str> {
        self.check(text)?;
        let cleaned = sanitised(text)?;
        Ok((cleaned != text).then_some(cleaned))
    }
}

/// What the worst text with as many tags costs, in steps.
pub(super) fn steps(text: &str) -> u64 {
    let angles = angles(text).min(ANGLES_MAX) as u64;
    angles * angles / PAIRS_A_STEP
}

fn angles(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'<').count()
}

/// What may stand in HTML: the library's list without images, because showing one tells its host what stands in the
/// address, and links only where they say whereto.
static ALLOWED: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut allowed = Builder::default();
    allowed.rm_tags(["img", "map", "area"]);
    allowed.url_schemes(HashSet::from(["https", "http", "mailto"])).url_relative(UrlRelative::Deny);
    allowed
});

/// Cleans until nothing changes. What a second pass still changes was made to be read differently twice.
fn sanitised(text: &str) -> Result<String, &'static str> {
    let once = ALLOWED.clean(text).to_string();
    if ALLOWED.clean(&once).to_string() == once {
        Ok(once)
    } else {
        Err("HTML that does not settle when it is cleaned")
    }
}
