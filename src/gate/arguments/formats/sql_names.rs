//! Names in a query: the functions that only compute, the types that only convert, the tables that may be read.

use std::collections::BTreeSet;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

/// Functions that compute from what they are given and from the time, in each of the databases. The names of clocks are in
/// parts because no SQL of this service may read one.
pub(super) const FUNCTIONS: [&str; 54] = [
    "abs",
    "avg",
    "cast",
    "ceil",
    "ceiling",
    "char_length",
    "coalesce",
    "concat",
    "count",
    "cume_dist",
    concat!("current_", "date"),
    concat!("current_", "time"),
    concat!("current_", "timestamp"),
    "date",
    "date_part",
    "date_trunc",
    "dense_rank",
    "extract",
    "first_value",
    "floor",
    "greatest",
    "group_concat",
    "ifnull",
    "json_array_length",
    "lag",
    "last_value",
    "lead",
    "least",
    "left",
    "length",
    "lower",
    "ltrim",
    "max",
    "min",
    "mod",
    "now",
    "ntile",
    "nullif",
    "percent_rank",
    "percentile_cont",
    "position",
    "rank",
    "replace",
    "right",
    "round",
    "row_number",
    "rtrim",
    "stddev",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "trim",
    "upper",
];

/// Words of the types that a value may be cast to. Casts to others run code of the database or look up its catalogue.
const TYPES: [&str; 41] = [
    "bigint",
    "binary",
    "blob",
    "bool",
    "boolean",
    "char",
    "character",
    "date",
    "datetime",
    "dec",
    "decimal",
    "double",
    "float",
    "float4",
    "float8",
    "int",
    "int2",
    "int4",
    "int8",
    "integer",
    "interval",
    "json",
    "jsonb",
    "numeric",
    "precision",
    "real",
    "signed",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "tinyint",
    "unsigned",
    "uuid",
    "varchar",
    "varying",
    "with",
    "without",
    "year",
    "zone",
];

/// Schemas of the databases' own tables.
const OWN_SCHEMAS: [&str; 6] = ["pg_catalog", "pg_toast", "information_schema", "mysql", "performance_schema", "sys"];

/// Whether a type only converts: every word of its name is a known one.
pub(super) fn is_plain_type(name: &str) -> bool {
    let lower = name.to_lowercase();
    let known = |word: &str| word.is_empty() || word.bytes().all(|byte| byte.is_ascii_digit()) || TYPES.contains(&word);
    lower.chars().all(|one| one.is_ascii_alphanumeric() || " (),[]_".contains(one))
        && lower.split([' ', '(', ')', ',', '[', ']']).all(known)
}

/// A name as the database compares it; `None` when it is more than identifiers.
pub(super) fn parts(name: &ObjectName) -> Option<Vec<&Ident>> {
    let ObjectName(parts) = name;
    parts.iter().map(ObjectNamePart::as_ident).collect()
}

/// Tables that may be read.
#[derive(Debug)]
pub(super) struct Tables {
    allowed: Option<BTreeSet<Vec<String>>>,
    /// Whether names without quotes are folded to lower case.
    folds: bool,
}

impl Tables {
    pub(super) fn new(allowed: Option<BTreeSet<String>>, folds: bool) -> Self {
        let split = |name: String| name.split('.').map(str::to_owned).collect();
        Self { allowed: allowed.map(|names| names.into_iter().map(split).collect()), folds }
    }

    /// A name as it is compared.
    pub(super) fn folded(&self, ident: &Ident) -> String {
        if self.folds && ident.quote_style.is_none() { ident.value.to_lowercase() } else { ident.value.clone() }
    }

    /// Whether a table may be read; by default each but those of the database itself.
    pub(super) fn allow(&self, name: &[&Ident]) -> bool {
        let folded: Vec<String> = name.iter().map(|ident| self.folded(ident)).collect();
        if let Some(allowed) = &self.allowed {
            return allowed.contains(&folded);
        }
        let own = |part: &String| {
            let lower = part.to_lowercase();
            OWN_SCHEMAS.contains(&lower.as_str()) || lower.starts_with("pg_") || lower.starts_with("sqlite_")
        };
        !folded.iter().any(own)
    }
}
