//! What stands in tables, names of settings, and links: compared with the code.

use std::time::Duration;

use mcp_authority::operators;

use super::page::{pages, quoted, read, rows, section, top};

#[test]
fn the_scopes_of_the_page_are_the_scopes_there_are() {
    let rows = rows(&section("docs/operators.md", "Scopes"));
    let mut written: Vec<String> = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    let mut known = operators::scopes();
    written.sort();
    known.sort();
    assert_eq!(written, known);
}

#[test]
fn the_scopes_that_the_page_calls_equal_to_root_exist() {
    let rows = rows(&section("docs/operators.md", "Equal to root"));
    let known = operators::scopes();
    for scope in rows.iter().flat_map(|row| quoted(&row[0])) {
        assert!(known.contains(&scope), "{scope}");
    }
}

#[test]
fn the_longest_waits_of_the_page_follow_the_rule() {
    let rows = rows(&section("docs/consistency.md", "The lease"));
    assert!(rows.len() >= 4);
    for row in rows {
        let number = |cell: &str| cell.replace([',', '`'], "").split(' ').next().unwrap().parse::<u64>().unwrap();
        let lease = Duration::from_millis(number(&row[0]));
        assert_eq!(number(&row[1]), number(&row[0]), "an outage shorter than the lease is borne");
        // Guarantee 6.
        let longest = lease + lease / 10 + Duration::from_millis(50);
        assert_eq!(u128::from(number(&row[2])), longest.as_millis(), "{row:?}");
    }
}

#[test]
fn every_setting_that_a_page_names_exists() {
    let manual = read("src/config.default.toml");
    // What names the file of settings itself, and what belongs to the command line.
    let others = ["MCPA_CONFIG", "MCPA_URL", "MCPA_OPERATOR_KEY", "MCPA_OUTPUT"];
    for page in pages() {
        let text = read(&page.display().to_string());
        for (at, _) in text.match_indices("MCPA_") {
            let end =
                text[at..].find(|c: char| !(c.is_ascii_uppercase() || c == '_')).map_or(text.len(), |end| at + end);
            let name = &text[at..end];
            let plain = name.strip_suffix("_FILE").unwrap_or(name);
            let key = plain.trim_start_matches("MCPA_").to_lowercase();
            let known = manual.lines().any(|line| {
                let line = line.trim_start_matches(['#', ' ']);
                line.starts_with(&format!("{key} =")) || line.starts_with(&format!("{key}_file ="))
            });
            assert!(known || others.contains(&plain) || key.is_empty(), "{}: {name} is no setting", page.display());
        }
    }
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    for page in pages() {
        let text = read(&page.display().to_string());
        let folder = top().join(&page).parent().unwrap().to_owned();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap();
            assert!(folder.join(file).exists(), "{}: {target} does not exist", page.display());
        }
    }
}

#[test]
fn every_page_of_the_folder_is_linked_from_the_first_one() {
    let first = read("README.md");
    for entry in std::fs::read_dir(top().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(first.contains(&format!("docs/{name}")), "README.md does not name docs/{name}");
    }
}
