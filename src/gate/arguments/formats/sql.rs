//! `sql-read-only`: one query that reads, parsed and walked, never matched.

use std::collections::BTreeSet;

use serde::Deserialize;
use sqlparser::ast::{Expr, LimitClause, Query, Statement, Value, Visit};
use sqlparser::dialect::{Dialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::sql_names::{FUNCTIONS, Tables};
use super::sql_shape::Shape;

/// Bytes of one query at most.
const BYTES_MAX: usize = 16 * 1024;

/// Operators and keywords of one query at most. A chain of them makes a tree as deep as it is long, and trees are
/// walked by recursion: this bounds the stack.
const OPERATORS_MAX: usize = 200;

/// How deep the parser may recurse: brackets, subqueries.
const RECURSION_MAX: usize = 30;

/// Functions or tables in one option at most.
const LISTED_MAX: usize = 1_000;

/// Options of `sql-read-only`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    #[serde(default)]
    dialect: Spoken,
    /// Functions that may be called, instead of those that every database has and that only compute.
    functions: Option<BTreeSet<String>>,
    /// Tables that may be read. Absent: all but the database's own.
    tables: Option<BTreeSet<String>>,
    /// The query ends in `LIMIT` and a number not above this one.
    max_rows: Option<u64>,
}

/// Whose SQL is read. It must be the one of the database behind the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Spoken {
    #[default]
    PostgreSql,
    MySql,
    Sqlite,
}

impl Spoken {
    fn statements(self, text: &str) -> Result<Vec<Statement>, &'static str> {
        match self {
            Self::PostgreSql => statements(&PostgreSqlDialect {}, text),
            Self::MySql => statements(&MySqlDialect {}, text),
            Self::Sqlite => statements(&SQLiteDialect {}, text),
        }
    }
}

fn statements(dialect: &impl Dialect, text: &str) -> Result<Vec<Statement>, &'static str> {
    const UNREAD: &str = "not a query that the parser of this dialect reads";
    let tokens = Tokenizer::new(dialect, text).tokenize_with_location().map_err(|_| UNREAD)?;
    if tokens.iter().filter(|token| deepens(&token.token)).count() > OPERATORS_MAX {
        return Err("at most 200 operators and keywords in a query");
    }
    let mut parser = Parser::new(dialect).with_recursion_limit(RECURSION_MAX).with_tokens_with_locations(tokens);
    parser.parse_statements().map_err(|_| UNREAD)
}

#[derive(Debug)]
pub(in super::super) struct Sql {
    spoken: Spoken,
    functions: BTreeSet<String>,
    tables: Tables,
    rows_max: Option<u64>,
}

impl Sql {
    pub(super) fn new(options: Options) -> Result<Self, String> {
        let listed = options.functions.iter().chain(&options.tables);
        for names in listed {
            let plain = |name: &String| {
                !name.is_empty() && name.split('.').all(|part| !part.is_empty() && !part.contains(['"', '`', ' ']))
            };
            if names.len() > LISTED_MAX || !names.iter().all(plain) {
                return Err(format!("`functions` and `tables` are up to {LISTED_MAX} names without quotes"));
            }
        }
        if options.max_rows == Some(0) {
            return Err("`max_rows` is at least 1".to_owned());
        }
        let default = || FUNCTIONS.into_iter().map(str::to_owned).collect();
        let lower = |names: BTreeSet<String>| names.into_iter().map(|name| name.to_lowercase()).collect();
        Ok(Self {
            spoken: options.dialect,
            functions: options.functions.map_or_else(default, lower),
            tables: Tables::new(options.tables, options.dialect == Spoken::PostgreSql),
            rows_max: options.max_rows,
        })
    }

    pub(super) fn check(&self, text: &str) -> Result<(), &'static str> {
        if text.len() > BYTES_MAX {
            return Err("at most 16,384 bytes of SQL");
        }
        read_alike(text)?;
        let statements = self.spoken.statements(text)?;
        let [Statement::Query(query)] = statements.as_slice() else {
            return Err("exactly one query: no other statement, none beside it");
        };
        if let Some(most) = self.rows_max
            && rows(query).is_none_or(|rows| rows > most)
        {
            return Err("a literal LIMIT at the end, not above the allowed number of rows");
        }
        let mut shape = Shape::new(&self.functions, &self.tables);
        match query.visit(&mut shape) {
            std::ops::ControlFlow::Break(why) => Err(why),
            std::ops::ControlFlow::Continue(()) => Ok(()),
        }
    }
}

/// Refuses what databases read in more than one way, whatever their settings.
fn read_alike(text: &str) -> Result<(), &'static str> {
    if text.chars().any(|one| super::is_hidden(one) && !matches!(one, '\n' | '\t' | '\r')) {
        return Err("no control characters, nothing hidden in a query");
    }
    // A line feed ends a comment everywhere; a carriage return by itself does in some.
    if text.replace("\r\n", "\n").contains('\r') {
        return Err("no carriage return but before a line feed");
    }
    // `/*! … */` is code in MySQL, `/*+ … */` a hint, and only some databases nest comments.
    let mut open = 0_usize;
    for pair in text.as_bytes().windows(2) {
        open += usize::from(pair == b"/*");
    }
    if ["/*!", "/*+", "/*M!", "/*m!"].iter().any(|mark| text.contains(mark)) || open > 1 {
        return Err("one block comment at most, and none that is executed");
    }
    // A backslash escapes a quote or does not, by the setting of the database.
    let mut escaped = false;
    for byte in text.bytes() {
        if escaped && matches!(byte, b'\'' | b'"' | b'`') {
            return Err("no backslash before a quote: databases do not agree on what it means");
        }
        escaped = byte == b'\\';
    }
    Ok(())
}

/// Whether a token may make the tree deeper: all but names, literals, separators and the words of a plain query.
fn deepens(token: &Token) -> bool {
    match token {
        Token::Word(word) => !matches!(
            word.keyword,
            Keyword::NoKeyword | Keyword::SELECT | Keyword::FROM | Keyword::WHERE | Keyword::AS | Keyword::ON
        ),
        Token::Whitespace(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_) => false,
        _ => true,
    }
}

/// The number of rows that a query says it wants at most, when it says so by a plain number.
fn rows(query: &Query) -> Option<u64> {
    let number = |expr: &Expr| match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, false) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    };
    match (&query.limit_clause, &query.fetch) {
        (Some(LimitClause::LimitOffset { limit: Some(limit), limit_by, .. }), None) if limit_by.is_empty() => {
            number(limit)
        }
        (Some(LimitClause::OffsetCommaLimit { limit, .. }), None) => number(limit),
        (None | Some(LimitClause::LimitOffset { limit: None, .. }), Some(fetch)) => {
            let plain = !fetch.with_ties && !fetch.percent;
            fetch.quantity.as_ref().filter(|_| plain).and_then(number)
        }
        _ => None,
    }
}
