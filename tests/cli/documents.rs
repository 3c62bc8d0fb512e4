//! docs/settings.md and docs/command-line.md say what the program says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::commands::commands_of;
use crate::support::{run, stdout};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The rows of a page's tables, as cells without their marks.
fn rows(page: &str) -> Vec<Vec<String>> {
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

#[test]
fn the_page_of_settings_names_each_with_its_default() {
    let defaults = read("src/config.default.toml");
    let mut expected = BTreeSet::new();
    for line in defaults.lines() {
        let given = line.strip_prefix("# ").unwrap_or(line);
        let Some((name, value)) = given.split_once(" = ") else { continue };
        if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            let name = name.strip_suffix("_file").unwrap_or(name);
            let default = if line.starts_with('#') { "none" } else { value.trim_matches('"') };
            let default = if default.is_empty() { "empty" } else { default };
            expected.insert((format!("MCPA_{}", name.to_uppercase()), default.to_owned()));
        }
    }
    assert!(expected.len() > 10, "{expected:?}");
    let page = rows(&read("docs/settings.md"));
    let named: BTreeSet<_> = page.iter().map(|cells| (cells[0].clone(), cells[1].clone())).collect();
    assert_eq!(named, expected);
}

#[test]
fn the_page_of_the_command_line_has_every_command_and_exit_code() {
    let (page, help) = (read("docs/command-line.md"), stdout(&run(&["--help"], &Vec::new())));
    for (name, _) in commands_of(&help).iter().filter(|(name, _)| name != "help") {
        assert!(page.contains(&format!("`{name}")), "{name} is not on the page");
    }
    let codes = help.split("Exit codes:\n").nth(1).unwrap().lines();
    for (code, meaning) in codes.filter_map(|line| line.trim().split_once("  ")) {
        assert!(rows(&page).contains(&vec![code.to_owned(), meaning.to_owned()]), "{code}: {meaning}");
    }
}
