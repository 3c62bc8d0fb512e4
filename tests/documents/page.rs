//! A Markdown page as the tests see it: sections with their fenced blocks, and links.

use std::fs;
use std::path::{Path, PathBuf};

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// What stands behind the fence: `sh`, `text`, …
    pub(crate) language: String,
    pub(crate) text: String,
}

/// A heading of the second level and what stands below it. What comes before the first one has an empty title.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) prose: Vec<String>,
    pub(crate) blocks: Vec<Block>,
}

impl Section {
    /// The blocks that are run.
    pub(crate) fn commands(&self) -> impl Iterator<Item = &str> {
        self.blocks.iter().filter(|block| block.language == "sh").map(|block| block.text.as_str())
    }
}

/// The repository's top.
pub(crate) fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn sections(path: &str) -> Vec<Section> {
    let mut found = vec![Section::default()];
    let mut open: Option<Block> = None;
    for line in read(path).lines() {
        let section = found.last_mut().expect("there is one from the start");
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => section.blocks.extend(open.take()),
            (Some(block), None) => block.text.extend([line, "\n"]),
            (None, Some(language)) => open = Some(Block { language: language.to_owned(), text: String::new() }),
            (None, None) => match line.strip_prefix("## ") {
                Some(title) => found.push(Section { title: title.to_owned(), ..Section::default() }),
                None => section.prose.push(line.to_owned()),
            },
        }
    }
    assert!(open.is_none(), "{path}: a block is not closed");
    found
}

/// The section of that title.
pub(crate) fn section(path: &str, title: &str) -> Section {
    let found = sections(path).into_iter().find(|section| section.title == title);
    found.unwrap_or_else(|| panic!("{path} has no section `{title}`"))
}

/// The cells of the rows of the tables in a section, without headings.
pub(crate) fn rows(section: &Section) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for table in section.prose.split(|line| !line.starts_with('|')).filter(|table| table.len() > 2) {
        for line in &table[2..] {
            rows.push(line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect());
        }
    }
    rows
}

/// The words between backquotes in a text.
pub(crate) fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every page of the repository that people read.
pub(crate) fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top().join(&folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            let path = folder.join(&name);
            let text = name.to_string_lossy();
            if top().join(&path).is_dir() {
                let built = ["target", "data", ".venv", "node_modules"].contains(&&*text);
                if !built && (!text.starts_with('.')) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}
