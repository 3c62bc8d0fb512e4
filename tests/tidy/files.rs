//! The shape of files: length, first line, nothing left for later, versions, links.

use std::path::{Component, Path, PathBuf};

use crate::source::{Source, has_extension, is_word, line, words};

const LINES_MAX: usize = 400;

/// Marks of unfinished work, anywhere in a file. Written in two parts, so that this file holds none.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// The same in code: it compiles, and is not there.
const HOLES: [&str; 5] = ["todo!", "unimplemented!", "#[ignore", "#[allow", "#![allow"];

/// What takes more than this many lines is more than one thing.
pub(crate) fn short(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if !has_extension(path, &["rs", "sql"]) || lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!("{path}: {lines} lines, at most {LINES_MAX}")]
}

/// A source file's first line says what is in it.
pub(crate) fn introduced(path: &str, text: &str) -> Vec<String> {
    if !has_extension(path, &["rs"]) || text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!("{path}:1: must begin with `//! ` and one sentence: what is here")]
}

/// No marks of later work, no code that only stands in for code, no silenced lint, no switched-off test.
pub(crate) fn finished(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if has_extension(path, &["rs", "sql", "py", "ts", "toml", "yml", "yaml", "html", "css", "js"])
        || path.starts_with("scripts/")
    {
        for mark in MARKS {
            found.extend(words(text, mark).map(|at| format!("{path}:{}: `{mark}`", line(text, at))));
        }
    }
    if has_extension(path, &["rs"]) {
        let code = Source::of(text).code;
        for hole in HOLES {
            let all = code.match_indices(hole).filter(|(at, _)| !code[..*at].ends_with(is_word));
            found.extend(all.map(|(at, _)| format!("{path}:{}: `{hole}`", line(&code, at))));
        }
    }
    found
}

/// What takes protections out is on only where tests are run.
pub(crate) fn whole(path: &str, text: &str) -> Vec<String> {
    if path == "Cargo.toml" {
        let manifest: toml::Table = text.parse().unwrap_or_default();
        let default = manifest.get("features").and_then(|features| features.get("default"));
        return default.map(|_| vec![format!("{path}: no feature is on by itself")]).unwrap_or_default();
    }
    if !(path == "Makefile" || path == "docker-compose.yml" || path.starts_with("deploy/")) {
        return Vec::new();
    }
    let builds =
        |line: &&str| line.contains("cargo ") && (line.contains("switches") || line.contains("--all-features"));
    let tests = |line: &str| ["cargo test", "cargo clippy", "cargo doc"].iter().any(|run| line.contains(run));
    let found = text.lines().enumerate().filter(|(_, line)| builds(line) && !tests(line));
    found.map(|(index, _)| format!("{path}:{}: builds what is for tests only", index + 1)).collect()
}

/// Every dependency names a version, and no version is a star.
pub(crate) fn versions(path: &str, text: &str) -> Vec<String> {
    if !path.ends_with("Cargo.toml") {
        return Vec::new();
    }
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("{path}: {error}")],
    };
    let mut found = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(crates) = manifest.get(section).and_then(toml::Value::as_table) else {
            continue;
        };
        for (name, wanted) in crates {
            let ours = wanted.get("path").is_some() || wanted.get("workspace").is_some();
            let version = wanted.as_str().or_else(|| wanted.get("version").and_then(toml::Value::as_str));
            if !ours
                && version
                    .is_none_or(|version| version.contains('*') || !version.contains(|c: char| c.is_ascii_digit()))
            {
                found.push(format!("{path}: `{name}` needs a version"));
            }
        }
    }
    found
}

/// Links from one document to a file of the repository lead to a file that is there.
pub(crate) fn links(path: &str, text: &str, exists: &dyn Fn(&Path) -> bool) -> Vec<String> {
    if !has_extension(path, &["md"]) {
        return Vec::new();
    }
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    let mut in_code_block = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code_block = !in_code_block;
        }
        if in_code_block {
            continue;
        }
        for target in line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ', '#']).next()) {
            let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !resolve(folder, target).is_some_and(|file| exists(&file)) {
                found.push(format!("{path}:{}: `{target}` leads nowhere", index + 1));
            }
        }
    }
    found
}

/// The path from the top of the repository; none if it leads out of it.
fn resolve(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut resolved = PathBuf::new();
    for part in folder.join(target).components() {
        match part {
            Component::Normal(name) => resolved.push(name),
            Component::CurDir => {}
            Component::ParentDir if resolved.pop() => {}
            _ => return None,
        }
    }
    Some(resolved)
}

mod tests {
    use super::{MARKS, finished, introduced, links, short, versions, whole};
    use std::path::Path;

    #[test]
    fn long_and_nameless_files_are_found() {
        assert_eq!(short("src/a.rs", &"x\n".repeat(401)).len(), 1);
        assert!(short("src/a.rs", &"x\n".repeat(400)).is_empty());
        assert_eq!(introduced("src/a.rs", "use x;\n//! Late.").len(), 1);
        assert!(introduced("src/a.rs", "//! What is here.\n").is_empty());
    }

    #[test]
    fn unfinished_work_is_found() {
        for mark in MARKS {
            assert_eq!(finished("src/a.rs", &format!("// {mark}: later")).len(), 1);
            assert_eq!(finished("scripts/setup", &format!("# {mark}")).len(), 1);
        }
        for hole in ["todo!()", "unimplemented!()", "#[ignore]\nfn f() {}", "#[allow(dead_code)]", "#![allow(unused)]"]
        {
            assert_eq!(finished("src/a.rs", hole).len(), 1, "{hole}");
        }
        assert!(
            finished("src/a.rs", "// todo! in a comment\nlet a = \"#[allow\"; #[expect(x, reason = \"y\")]").is_empty()
        );
    }

    #[test]
    fn a_build_without_protections_is_found() {
        assert_eq!(whole("deploy/Dockerfile", "RUN cargo build --release --features switches").len(), 1);
        assert_eq!(whole("Makefile", "RUN := cargo run --all-features --").len(), 1);
        assert_eq!(whole("Cargo.toml", "[features]\ndefault = [\"switches\"]\nswitches = []").len(), 1);
        assert!(whole("Makefile", "\tcargo test --locked --features switches\n\tcargo run").is_empty());
    }

    #[test]
    fn a_dependency_without_a_version_is_found() {
        assert_eq!(versions("Cargo.toml", "[dependencies]\na = \"*\"\nb = { git = \"x\" }\nc = \"1.*\"").len(), 3);
        assert!(versions("Cargo.toml", "[dependencies]\na = \"1.2\"\nb = { path = \"../b\" }").is_empty());
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let exists = |path: &Path| path == Path::new("docs/a.md") || path == Path::new("README.md");
        assert!(
            links("docs/b.md", "[a](a.md#part) [top](../README.md) [web](https://example.com) [here](#x)", &exists)
                .is_empty()
        );
        assert_eq!(links("README.md", "see [a](docs/gone.md) and [b](../../etc/x)", &exists).len(), 2);
        assert!(links("README.md", "```\n[x](gone)\n```", &exists).is_empty());
    }
}
