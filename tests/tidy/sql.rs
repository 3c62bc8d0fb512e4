//! Where SQL may stand, whose clock it reads, and how migrations are named.

use crate::source::{Source, has_extension, is_word, leading_word, line, words};

/// Besides each room's `store.rs`: the ground itself, and what reads many rooms' tables in one transaction.
const SQL_ALSO_IN: [&str; 3] = ["src/db/", "src/feed/load.rs", "src/nodes"];

/// The one function that reads the database's clock; tests shift it.
const CLOCK: &str = "authority_now";

/// What SQL calls a clock. The empty parentheses tell `now()` from a column of that name.
const CLOCK_READS: [&str; 9] = [
    "now()",
    "clock_timestamp",
    "current_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "localtimestamp",
    "current_date",
    "current_time",
    "localtime",
];

/// The macros `query!`, `query_as!` and their kin stand only where SQL belongs.
pub(crate) fn macros_in_stores(path: &str, text: &str) -> Vec<String> {
    let allowed = path.ends_with("/store.rs") || SQL_ALSO_IN.iter().any(|place| path.starts_with(place));
    if !path.starts_with("src/") || !has_extension(path, &["rs"]) || allowed {
        return Vec::new();
    }
    let code = Source::of(text).code;
    let starts = code.match_indices("query").map(|(at, _)| at).filter(|at| !code[..*at].ends_with(is_word));
    let is_macro = |at: &usize| {
        let name = leading_word(&code[*at..]);
        (name == "query" || name.starts_with("query_")) && code[at + name.len()..].starts_with('!')
    };
    starts
        .filter(is_macro)
        .map(|at| format!("{path}:{}: SQL belongs into the room's store.rs", line(&code, at)))
        .collect()
}

/// No statement reads a clock but inside the definition of `authority_now`.
pub(crate) fn one_clock(path: &str, text: &str) -> Vec<String> {
    let statements = if path.starts_with("src/") && has_extension(path, &["rs"]) {
        Source::of(text).literals.to_lowercase()
    } else if has_extension(path, &["sql"]) {
        without_clock_definition(&without_comments(text).to_lowercase())
    } else {
        return Vec::new();
    };
    let tell = |read: &'static str| {
        let at = words(&statements, read).collect::<Vec<_>>();
        at.into_iter().map(move |at| (at, read))
    };
    let all = CLOCK_READS.into_iter().flat_map(tell);
    all.map(|(at, read)| format!("{path}:{}: `{read}` – read {CLOCK}() instead", line(&statements, at))).collect()
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Blanks the dollar-quoted body of each definition of the clock function, keeping the lines.
fn without_clock_definition(text: &str) -> String {
    let mut kept = text.to_owned();
    let definition = format!("function {CLOCK}(");
    for (at, _) in text.match_indices(&definition) {
        let Some(opens) = text[at..].find('$').map(|offset| at + offset) else {
            continue;
        };
        let Some(tag_end) = text[opens + 1..].find('$').map(|offset| opens + 2 + offset) else {
            continue;
        };
        let Some(closes) = text[tag_end..].find(&text[opens..tag_end]).map(|offset| tag_end + offset) else {
            continue;
        };
        let blank: String = text[tag_end..closes].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        kept.replace_range(kept.len() - (text.len() - tag_end)..kept.len() - (text.len() - closes), &blank);
    }
    kept
}

/// `0001_name.sql`, `0002_…`: four digits, from one, without gaps or doubles, and lower-case words.
pub(crate) fn gapless(paths: &[String]) -> Vec<String> {
    let mut names: Vec<&str> = paths.iter().filter_map(|path| path.strip_prefix("migrations/")).collect();
    names.sort_unstable();
    let well_named = |name: &str, number: usize| {
        let words = name.strip_prefix(&format!("{number:04}_")).and_then(|rest| rest.strip_suffix(".sql"));
        words.is_some_and(|words| {
            !words.is_empty() && words.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
    };
    let wrong = names.iter().enumerate().filter(|(index, name)| !well_named(name, index + 1));
    wrong
        .map(|(index, name)| format!("migrations/{name}: expected {:04}_lower_case_words.sql here", index + 1))
        .collect()
}

/// The first line of a migration is `-- Owned by src/…`, and names a room that exists.
pub(crate) fn owned(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    if !path.starts_with("migrations/") {
        return Vec::new();
    }
    let first = text.lines().next().unwrap_or_default();
    let Some(owner) = first.strip_prefix("-- Owned by ").filter(|owner| owner.starts_with("src/")) else {
        return vec![format!("{path}:1: must begin with `-- Owned by src/…`")];
    };
    let owner = owner.split([' ', ',', ':', ';']).next().unwrap_or_default().trim_end_matches('.');
    if exists(owner) || exists(&format!("{owner}.rs")) {
        return Vec::new();
    }
    vec![format!("{path}:1: `{owner}` does not exist")]
}

mod tests {
    use super::{gapless, macros_in_stores, one_clock, owned};

    #[test]
    fn sql_outside_a_store_is_found() {
        let statement = "fn f() { sqlx::query_as!(Row, \"select 1\"); query!(\"select 2\"); }";
        assert_eq!(macros_in_stores("src/keys/rotate.rs", statement).len(), 2);
        assert!(macros_in_stores("src/keys/store.rs", statement).is_empty());
        assert!(macros_in_stores("src/keys/rotate.rs", "let query = uri.query(); // query!\nmy_query!()").is_empty());
    }

    #[test]
    fn a_second_clock_is_found() {
        assert_eq!(one_clock("src/keys/store.rs", "query!(\"update keys set at = now()\")").len(), 1);
        assert_eq!(
            one_clock("migrations/0001_a.sql", "create table a (at timestamptz default CURRENT_TIMESTAMP);").len(),
            1
        );
        assert!(one_clock("src/keys/store.rs", "query!(\"select authority_now()\"); clock.now();").is_empty());
        assert!(one_clock("migrations/0001_a.sql", "-- not now()\nselect authority_now();").is_empty());
    }

    #[test]
    fn only_the_definition_of_the_clock_may_read_one() {
        let definition =
            "create function authority_now() returns timestamptz as $$\n select now();\n$$ language sql;\n";
        assert!(one_clock("migrations/0001_a.sql", definition).is_empty());
        let found = one_clock("migrations/0001_a.sql", &format!("{definition}{definition}select now();"));
        assert_eq!(found, ["migrations/0001_a.sql:7: `now()` – read authority_now() instead"]);
    }

    #[test]
    fn gaps_doubles_and_odd_names_are_found() {
        let paths = |names: &[&str]| names.iter().map(|name| format!("migrations/{name}")).collect::<Vec<_>>();
        assert!(gapless(&paths(&["0002_b.sql", "0001_a.sql"])).is_empty());
        assert_eq!(gapless(&paths(&["0001_a.sql", "0003_b.sql"])).len(), 1);
        assert_eq!(gapless(&paths(&["0001_a.sql", "0001_b.sql"])).len(), 1);
        assert_eq!(gapless(&paths(&["1_a.sql", "0002_B.sql"])).len(), 2);
    }

    #[test]
    fn a_migration_without_an_owner_is_found() {
        let exists = |path: &str| path == "src/keys" || path == "src/app.rs";
        assert!(owned("migrations/0001_a.sql", "-- Owned by src/keys.\n", &exists).is_empty());
        assert!(owned("migrations/0001_a.sql", "-- Owned by src/app: why.\n", &exists).is_empty());
        assert_eq!(owned("migrations/0001_a.sql", "create table a ();", &exists).len(), 1);
        assert_eq!(owned("migrations/0001_a.sql", "-- Owned by src/gone.", &exists).len(), 1);
    }
}
