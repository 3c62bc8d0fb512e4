//! The walk over a query: every part is on a list of what only reads, or the query is refused.

use std::collections::BTreeSet;
use std::ops::ControlFlow::{self, Break, Continue};

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, FunctionArguments, Ident, ObjectName, Query, Select, SelectFlavor, SetExpr,
    Statement, TableFactor, UnaryOperator, Value, ValueWithSpan, Visitor,
};

use super::sql_names::{Tables, is_plain_type, parts};

/// Where in a query the walk is, and what it may meet.
pub(super) struct Shape<'a> {
    functions: &'a BTreeSet<String>,
    tables: &'a Tables,
    /// The queries that are open, with the names that their `WITH` defines.
    open: Vec<Scope>,
}

/// Names of one `WITH`: those that are defined so far may be read as tables.
#[derive(Default)]
struct Scope {
    names: Vec<String>,
    visible: usize,
}

type Step = ControlFlow<&'static str>;

impl<'a> Shape<'a> {
    pub(super) fn new(functions: &'a BTreeSet<String>, tables: &'a Tables) -> Self {
        Self { functions, tables, open: Vec::new() }
    }

    fn function(&self, name: &ObjectName) -> Step {
        let parts = parts(name).map(|parts| parts.into_iter().map(called).collect::<Vec<_>>());
        match parts {
            Some(parts) if self.functions.contains(&parts.join(".")) => Continue(()),
            _ => Break("a function that is not on the list of allowed ones"),
        }
    }

    fn is_defined(&self, name: &Ident) -> bool {
        let folded = self.tables.folded(name);
        self.open.iter().any(|scope| scope.names.iter().take(scope.visible).any(|defined| *defined == folded))
    }
}

impl Visitor for Shape<'_> {
    type Break = &'static str;

    fn pre_visit_statement(&mut self, _: &Statement) -> Step {
        Break("a statement inside of the query")
    }

    fn pre_visit_query(&mut self, query: &Query) -> Step {
        let plain = query.locks.is_empty()
            && query.for_clause.is_none()
            && query.settings.is_none()
            && query.format_clause.is_none()
            && query.pipe_operators.is_empty();
        if !plain || !only_reads(&query.body) {
            return Break("a query that locks, writes, or uses clauses that are not known to read only");
        }
        let mut scope = Scope::default();
        if let Some(with) = &query.with {
            scope.names = with.cte_tables.iter().map(|cte| self.tables.folded(&cte.alias.name)).collect();
            scope.visible = if with.recursive { scope.names.len() } else { 0 };
        }
        self.open.push(scope);
        Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> Step {
        self.open.pop();
        // The queries of a `WITH` are walked before all others of the query it belongs to: one more is defined now.
        if let Some(above) = self.open.last_mut() {
            above.visible = above.names.len().min(above.visible + 1);
        }
        Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Step {
        let plain = select.into.is_none()
            && select.optimizer_hints.is_empty()
            && select.select_modifiers.is_none()
            && select.top.is_none()
            && select.exclude.is_none()
            && select.lateral_views.is_empty()
            && select.prewhere.is_none()
            && select.connect_by.is_empty()
            && select.cluster_by.is_empty()
            && select.distribute_by.is_empty()
            && select.sort_by.is_empty()
            && select.qualify.is_none()
            && select.value_table_mode.is_none()
            && select.flavor == SelectFlavor::Standard;
        if plain { Continue(()) } else { Break("SELECT INTO, or clauses that are not known to read only") }
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> Step {
        const UNKNOWN: &str = "a source of rows that is not a table, a subquery or an allowed function";
        match table {
            TableFactor::Table {
                name, args, with_hints, version, partitions, json_path, sample, index_hints, ..
            } => {
                let plain = with_hints.is_empty()
                    && version.is_none()
                    && partitions.is_empty()
                    && json_path.is_none()
                    && sample.is_none()
                    && index_hints.is_empty();
                match (plain, args) {
                    (true, None) => Continue(()),
                    (true, Some(args)) if args.settings.is_none() => self.function(name),
                    _ => Break(UNKNOWN),
                }
            }
            TableFactor::Derived { sample: None, .. } | TableFactor::NestedJoin { .. } => Continue(()),
            TableFactor::Function { name, .. } => self.function(name),
            _ => Break(UNKNOWN),
        }
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> Step {
        let allowed = match parts(name).as_deref() {
            Some([one]) if self.is_defined(one) => true,
            Some(parts) => self.tables.allow(parts),
            None => false,
        };
        if allowed { Continue(()) } else { Break("a table that is not an allowed one") }
    }

    fn pre_visit_ident(&mut self, ident: &Ident) -> Step {
        let variable = ident.quote_style.is_none() && ident.value.starts_with(['@', ':', '$']);
        if variable { Break("a variable") } else { Continue(()) }
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> Step {
        match &value.value {
            // `"…"` comes here where the dialect reads it as a text: in MySQL.
            Value::Number(..)
            | Value::SingleQuotedString(_)
            | Value::DoubleQuotedString(_)
            | Value::HexStringLiteral(_)
            | Value::Boolean(_)
            | Value::Null => Continue(()),
            _ => Break("a literal other than a plain text, a number or NULL, or a placeholder"),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Step {
        expression(self, expr)
    }
}

/// The name of a function as it is compared: quotes keep capitals, and no listed name has any.
fn called(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Whether a body is made of queries only. Deep bodies are bounded by the number of operators.
fn only_reads(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => true,
        SetExpr::SetOperation { left, right, .. } => only_reads(left) && only_reads(right),
        _ => false,
    }
}

fn expression(shape: &Shape<'_>, expr: &Expr) -> Step {
    match expr {
        Expr::Function(function) => {
            let plain = !function.uses_odbc_syntax && matches!(function.parameters, FunctionArguments::None);
            if plain { shape.function(&function.name) } else { Break("a function call of an unusual form") }
        }
        Expr::BinaryOp { op, .. } | Expr::AnyOp { compare_op: op, .. } | Expr::AllOp { compare_op: op, .. } => {
            if computes(op) {
                Continue(())
            } else {
                Break("an operator that is not a usual one")
            }
        }
        Expr::UnaryOp { op, .. } => {
            if matches!(op, UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not) {
                Continue(())
            } else {
                Break("an operator that is not a usual one")
            }
        }
        Expr::Cast { data_type, format, .. } => plain_type(data_type, format.is_none()),
        Expr::TypedString(typed) => plain_type(&typed.data_type, !typed.uses_odbc_syntax),
        _ if only_holds_others(expr) => Continue(()),
        _ => Break("an expression that is not known to read only"),
    }
}

fn plain_type(data_type: &DataType, usual: bool) -> Step {
    if usual && is_plain_type(&data_type.to_string()) {
        Continue(())
    } else {
        Break("a cast to a type that is not a plain one")
    }
}

/// Whether an expression does nothing but compute from the expressions in it, which the walk meets by themselves.
fn only_holds_others(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::Between { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::Case { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::GroupingSets(_)
            | Expr::Cube(_)
            | Expr::Rollup(_)
            | Expr::Tuple(_)
            | Expr::Array(_)
            | Expr::Interval(_)
            | Expr::AtTimeZone { .. }
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..)
    )
}

/// Operators that every database brings and that only compute.
fn computes(op: &BinaryOperator) -> bool {
    use BinaryOperator as Op;
    matches!(
        op,
        Op::Plus
            | Op::Minus
            | Op::Multiply
            | Op::Divide
            | Op::Modulo
            | Op::StringConcat
            | Op::Gt
            | Op::Lt
            | Op::GtEq
            | Op::LtEq
            | Op::Spaceship
            | Op::Eq
            | Op::NotEq
            | Op::And
            | Op::Or
            | Op::Xor
            | Op::Arrow
            | Op::LongArrow
            | Op::HashArrow
            | Op::HashLongArrow
            | Op::AtArrow
            | Op::ArrowAt
    )
}
