//! The corpus: what was injected is refused, what is honest passes, and the page lists both.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Checked, Schema};

const INJECTED: &str = include_str!("corpus/injected.json");
const HONEST: &str = include_str!("corpus/honest.json");
const PAGE: &str = include_str!("../../../docs/arguments.md");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    format: String,
    options: Value,
    value: Text,
    why: String,
}

/// A value as it stands, or one that is too long to stand in a file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Whole(String),
    Repeated { repeat: String, times: usize },
}

impl Case {
    fn all(file: &str) -> Vec<Self> {
        serde_json::from_str(file).unwrap()
    }

    fn text(&self) -> String {
        match &self.value {
            Text::Whole(text) => text.clone(),
            Text::Repeated { repeat, times } => repeat.repeat(*times),
        }
    }

    fn checked(&self) -> Checked {
        let own = json!({"type": "string", "format": self.format, "x-mcpa": self.options});
        let schema = json!({"type": "object", "properties": {"value": own}, "required": ["value"]});
        let schema = Schema::compile(&schema).unwrap_or_else(|invalid| panic!("{}: {invalid}", self.why));
        schema.check(&json!({"value": self.text()}))
    }

    /// Its line on the page.
    fn line(&self) -> String {
        let shown = match &self.value {
            Text::Whole(text) if text.chars().count() <= 110 => serde_json::to_string(text).unwrap(),
            Text::Whole(text) => {
                let start: String = text.chars().take(40).collect();
                format!("{}… ({} characters)", serde_json::to_string(&start).unwrap(), text.chars().count())
            }
            Text::Repeated { repeat, times } => format!("{} × {times}", serde_json::to_string(repeat).unwrap()),
        };
        // Only what every screen shows as it is stands on the page as it is.
        let mut plain = String::new();
        for one in shown.chars() {
            match one {
                ' '..='~' | '…' | '×' => plain.push(one),
                _ => one.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(plain, "\\u{unit:04x}").unwrap()),
            }
        }
        let options = if self.options == json!({}) { String::new() } else { format!(" with {}", self.options) };
        format!("    {plain}{options}  <- {}\n", self.why)
    }
}

#[test]
fn every_injected_argument_is_refused() {
    let passed: Vec<_> = Case::all(INJECTED)
        .into_iter()
        .filter(|case| !matches!(case.checked(), Checked::Refused(_)))
        .map(|case| case.format.clone() + &case.line())
        .collect();
    assert!(passed.is_empty(), "{}", passed.concat());
}

#[test]
fn every_honest_argument_passes() {
    let refused: Vec<_> = Case::all(HONEST)
        .into_iter()
        .filter_map(|case| match case.checked() {
            Checked::Refused(faults) => Some(format!("{} {}{faults:?}\n", case.format, case.line())),
            _ => None,
        })
        .collect();
    assert!(refused.is_empty(), "{}", refused.concat());
}

/// An example of the page: a schema, arguments that fit it, arguments that do not, and what cleaning leaves.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    schema: Value,
    fits: Vec<Value>,
    refused: Vec<Value>,
    cleaned: Option<[Value; 2]>,
}

#[test]
fn the_examples_of_the_page_do_what_it_says() {
    let blocks = PAGE.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    let examples: Vec<Example> = blocks.map(|text| serde_json::from_str(text).expect(text)).collect();
    for Example { schema, fits, refused, cleaned } in &examples {
        let compiled = Schema::compile(schema).unwrap();
        for arguments in fits {
            assert_eq!(compiled.check(arguments), Checked::Fits, "{arguments}");
        }
        for arguments in refused {
            assert!(matches!(compiled.check(arguments), Checked::Refused(_)), "{arguments}");
        }
        if let Some([sent, left]) = cleaned {
            assert_eq!(compiled.check(sent), Checked::Cleaned(left.clone()));
        }
    }
    for format in super::formats::Format::NAMES {
        let shown = examples.iter().any(|example| example.schema.to_string().contains(&format!("\"{format}\"")));
        assert!(shown, "no example of {format}");
    }
}

#[test]
fn the_page_lists_the_corpus() {
    let mut listed = String::new();
    for (title, file) in [("Refused", INJECTED), ("Passes", HONEST)] {
        let mut by_format: BTreeMap<String, String> = BTreeMap::new();
        for case in Case::all(file) {
            by_format.entry(case.format.clone()).or_default().push_str(&case.line());
        }
        for (format, lines) in by_format {
            write!(listed, "### {title}: `{format}`\n\n{lines}\n").unwrap();
        }
    }
    assert!(PAGE.contains(listed.trim_end()), "docs/arguments.md must end in\n{listed}");
}
