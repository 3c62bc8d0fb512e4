//! The rules that no other tool checks: floors, purity of the gate, where SQL may stand, shape of files.
#![cfg(test)]

mod architecture;
mod files;
mod source;
mod sql;

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold our own text; what lies elsewhere (build output, data) is not looked at.
const FOLDERS: [&str; 9] =
    ["src", "templates", "tests", "benches", "migrations", "docs", "scripts", "deploy", "examples"];

/// Folders inside those that other programs fill, besides the hidden ones.
const NOT_OURS: [&str; 4] = ["__pycache__", "node_modules", "target", "data"];

/// A text file of the repository; `path` is relative to its top, with `/`.
struct Document {
    path: String,
    text: String,
}

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if !name.to_string_lossy().starts_with('.') && !NOT_OURS.iter().any(|skip| name == *skip) {
                collect(&path, into);
            }
        } else {
            into.push(path);
        }
    }
}

/// Every text file below `FOLDERS`, and those at the top, in the order of their paths.
fn documents() -> Vec<Document> {
    let top = top();
    let mut paths: Vec<PathBuf> = fs::read_dir(&top).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file() && path.file_name().is_some_and(|name| name != "Cargo.lock"));
    for folder in FOLDERS {
        collect(&top.join(folder), &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = String::from_utf8(fs::read(&path).unwrap()).ok()?;
        Some(Document { path: path.strip_prefix(&top).unwrap().to_str().unwrap().replace('\\', "/"), text })
    };
    paths.into_iter().filter_map(read).collect()
}

/// Runs a rule over every file and fails with all violations at once.
fn holds(rule: impl Fn(&str, &str) -> Vec<String>) {
    let all = documents();
    assert!(all.iter().any(|document| document.path == "src/lib.rs"), "the walk found no sources");
    let found: Vec<String> = all.iter().flat_map(|document| rule(&document.path, &document.text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn what_is_shipped_has_all_its_protections() {
    holds(files::whole);
}

#[test]
fn modules_use_only_what_is_declared_above_them() {
    let order = architecture::order(&fs::read_to_string(top().join("src/lib.rs")).unwrap());
    holds(|path, text| architecture::floors(&order, path, text));
}

#[test]
fn the_readme_shows_the_floors_as_they_are() {
    let read = |path| fs::read_to_string(top().join(path)).unwrap();
    assert_eq!(architecture::picture(&read("README.md")), architecture::order(&read("src/lib.rs")));
}

#[test]
fn the_gate_answers_from_memory_and_never_waits() {
    holds(architecture::gate_is_pure);
}

#[test]
fn one_client_asks_what_others_name() {
    holds(architecture::one_client);
}

#[test]
fn leases_run_on_the_boot_time_clock() {
    holds(architecture::leases_use_boot_time);
}

#[test]
fn statements_stand_in_stores() {
    holds(sql::macros_in_stores);
}

#[test]
fn the_database_clock_is_read_in_one_place() {
    holds(sql::one_clock);
}

#[test]
fn migrations_are_numbered_without_gaps() {
    let paths: Vec<String> = documents().into_iter().map(|document| document.path).collect();
    let found = sql::gapless(&paths);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn migrations_say_who_owns_them() {
    holds(|path, text| sql::owned(path, text, &|owner| top().join(owner).exists()));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    holds(files::short);
    holds(files::introduced);
}

#[test]
fn nothing_is_left_for_later() {
    holds(files::finished);
}

#[test]
fn dependencies_have_versions() {
    holds(files::versions);
}

#[test]
fn links_between_documents_lead_somewhere() {
    holds(|path, text| files::links(path, text, &|target| top().join(target).exists()));
}
