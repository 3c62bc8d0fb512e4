//! Rust source, told apart into code, comments and literals, so that a rule sees only what it is about.

use std::path::Path;

/// A source text split in two of the same length and lines; what does not belong to a part is blank in it.
pub(crate) struct Source {
    /// Everything but comments and the insides of literals.
    pub(crate) code: String,
    /// Only the insides of string literals.
    pub(crate) literals: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Comment,
    Literal,
    /// Inside a character literal: of interest to no rule.
    Blank,
}

impl Source {
    pub(crate) fn of(text: &str) -> Self {
        let characters: Vec<char> = text.chars().collect();
        let mut parts = Vec::with_capacity(characters.len());
        while parts.len() < characters.len() {
            let (part, length) = token(&characters, parts.len());
            parts.resize((parts.len() + length).min(characters.len()), part);
        }
        let keep = |wanted: Part, index: usize, character: char| {
            let kept = character == '\n' || parts[index] == wanted;
            if kept { character } else { ' ' }
        };
        let only = |wanted| text.chars().enumerate().map(|(index, character)| keep(wanted, index, character)).collect();
        Self { code: only(Part::Code), literals: only(Part::Literal) }
    }
}

/// What begins at `at`, and for how many characters it goes on.
fn token(text: &[char], at: usize) -> (Part, usize) {
    let rest = &text[at..];
    let boundary = at == 0 || !is_word(text[at - 1]);
    match rest {
        ['/', '/', ..] => (Part::Comment, rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => (Part::Comment, block_comment(rest)),
        ['"', ..] => (Part::Literal, quoted(rest)),
        ['r' | 'b' | 'c', ..] if boundary => raw(rest).map_or((Part::Code, 1), |length| (Part::Literal, length)),
        ['\'', '\\', ..] => {
            (Part::Blank, rest.iter().skip(3).position(|c| *c == '\'').map_or(rest.len(), |end| end + 4))
        }
        ['\'', _, '\'', ..] => (Part::Blank, 3),
        _ => (Part::Code, 1),
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0_usize);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] if depth == 1 => return at + 2,
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn quoted(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a raw string literal that begins here, if one does.
fn raw(rest: &[char]) -> Option<usize> {
    let prefix = rest.iter().take_while(|c| matches!(c, 'r' | 'b' | 'c')).count();
    if prefix > 2 || rest[prefix - 1] != 'r' {
        return None;
    }
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    if rest.get(prefix + hashes) != Some(&'"') {
        return None;
    }
    let body = prefix + hashes + 1;
    let end = vec!['#'; hashes];
    let closes = |at: &usize| rest[*at] == '"' && rest[at + 1..].starts_with(&end);
    Some((body..rest.len()).find(closes).map_or(rest.len(), |at| at + 1 + hashes))
}

/// Whether the file's name ends in one of these, given without the dot.
pub(crate) fn has_extension(path: &str, extensions: &[&str]) -> bool {
    Path::new(path).extension().is_some_and(|own| extensions.iter().any(|wanted| own == *wanted))
}

pub(crate) fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Byte offsets at which `word` stands by itself.
pub(crate) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let after = &text[at + word.len()..];
        let joined = text[..*at].ends_with(is_word) || word.ends_with(is_word) && after.starts_with(is_word);
        !joined
    })
}

/// The word that `text` begins with; empty if it begins with something else.
pub(crate) fn leading_word(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

/// The line, counted from 1, of a byte offset.
pub(crate) fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = "let a = \"x\\\"y\"; // note\n/* /* in */ out */ let b: &'static str = r#\"raw \" \"#; let c = '\"'; let d = '\\'';";
    let source = Source::of(text);
    assert_eq!(
        source.code.split_whitespace().collect::<Vec<_>>().join(" "),
        "let a = ; let b: &'static str = ; let c = ; let d = ;"
    );
    assert!(source.literals.contains("x\\\"y") && source.literals.contains("raw \" \""));
    assert!(!source.literals.contains("note") && !source.code.contains("note"));
    assert_eq!(source.code.lines().count(), text.lines().count());
}

#[test]
fn a_word_stands_by_itself() {
    assert_eq!(words("dyn dynamic adyn (dyn)", "dyn").count(), 2);
    assert_eq!(leading_word("keys::rotate"), "keys");
    assert_eq!(line("a\nb", 2), 2);
}
