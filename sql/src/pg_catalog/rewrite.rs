//! From PostgreSQL's grammar to what DataFusion plans.
//!
//! What it is: one pass over the parsed statement, before it is planned. Each rule replaces a
//! construct by an equivalent one; none looks for a client's text.
//! What it guarantees: a statement that uses none of these constructs is not changed. A construct
//! is taken for PostgreSQL's only where it could not be planned as it stands, or is written with
//! `pg_catalog`'s name.
//! What it does not: it resolves no name of a user's object.

use std::ops::ControlFlow;

use datafusion::scalar::ScalarValue;
use kho_catalog::error::Error;
use sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr,
    Statement, Subscript, TableFactor, Value, VisitMut, VisitorMut,
};

use super::scope::{Found, Scope, fold, output_name};

mod casts;
mod functions;
mod literals;
mod relations;
mod subqueries;

pub use casts::OID;
pub use literals::literal;

/// Makes PostgreSQL's own constructs in `statement` plannable.
pub fn rewrite(statement: &mut Statement) {
    // What a setting is set to is no expression of a query.
    if matches!(statement, Statement::Set(_)) {
        return;
    }
    // Two columns of one name in what is created are the user's mistake.
    let creates = matches!(statement, Statement::CreateTable(_) | Statement::CreateView(_));
    let mut rewriter = Rewriter { scopes: Vec::new(), names_duplicates: !creates };
    let _whole = statement.visit(&mut rewriter);
    if let Statement::Query(query) = statement {
        show_registered_names(&mut query.body);
    }
}

struct Rewriter {
    scopes: Vec<Scope>,
    names_duplicates: bool,
}

impl Rewriter {
    /// PostgreSQL's type of a column of a system table; `None` for anything else.
    fn system_type(&self, expr: &Expr) -> Option<&'static str> {
        let parts = match expr {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(parts) => parts.as_slice(),
            Expr::Nested(inner) => return self.system_type(inner),
            _ => return None,
        };
        for scope in self.scopes.iter().rev() {
            match scope.find(parts) {
                Found::System(pg_type) => return Some(pg_type),
                Found::Absent => {}
                Found::Other | Found::Perhaps => return None,
            }
        }
        None
    }
}

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        // ORDER BY is outside of the SELECT, and names what is inside.
        self.scopes.push(Scope::of_body(&query.body));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.scopes.push(Scope::of_select(select));
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.scopes.pop();
        subqueries::exists_in(select);
        if self.names_duplicates {
            name_duplicates(select);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        relations::rewrite(factor);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Collate { .. } => drop_default_collation(expr),
            Expr::BinaryOp { .. } => self.operator(expr),
            Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => {
                let element = self.system_type(left);
                literals::array_operand(right, element);
            }
            Expr::Cast { .. } | Expr::TypedString(_) => casts::rewrite(expr),
            Expr::Identifier(_) => keyword(expr),
            Expr::CompoundIdentifier(_) => self.table_oid(expr),
            Expr::CompoundFieldAccess { .. } => self.access(expr),
            Expr::Function(_) => {
                let vector = functions::first_argument(expr)
                    .is_some_and(|it| self.is_vector(&casts::uncast(it)));
                let system = self.scopes.last().is_some_and(Scope::is_system);
                functions::rewrite(expr, vector, system);
            }
            Expr::Subquery(_) => subqueries::scalar(expr),
            Expr::Between { .. } => every_row(expr),
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                literals::like_pattern(pattern, escape_char);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Rewriter {
    fn operator(&self, expr: &mut Expr) {
        let Expr::BinaryOp { left, op, right } = expr else {
            return;
        };
        if let BinaryOperator::PGCustomBinaryOperator(name) = op
            && let Some(plain) = custom_operator(name)
        {
            *op = plain;
        }
        match op {
            BinaryOperator::Eq | BinaryOperator::NotEq => {
                if let Some(pg_type) = self.system_type(left) {
                    literals::array_text(right, pg_type);
                } else if let Some(pg_type) = self.system_type(right) {
                    literals::array_text(left, pg_type);
                }
            }
            BinaryOperator::StringConcat => {
                casts::show(left);
                casts::show(right);
            }
            _ => {}
        }
    }

    fn is_vector(&self, expr: &Expr) -> bool {
        matches!(self.system_type(expr), Some("int2vector" | "oidvector"))
    }

    /// `alias.tableoid`: a constant, where the alias stands for a system table.
    fn table_oid(&self, expr: &mut Expr) {
        let Expr::CompoundIdentifier(parts) = expr else {
            return;
        };
        let [relation, column] = parts.as_slice() else {
            return;
        };
        if fold(column) == "tableoid"
            && let Some(it) = self.scopes.iter().rev().find_map(|it| it.system_table(relation))
        {
            *expr = literals::number(i64::from(it.oid));
        }
    }

    fn access(&self, expr: &mut Expr) {
        let Expr::CompoundFieldAccess { root, access_chain } = expr else {
            return;
        };
        // `a.b[1]` is parsed as a field of `a`, and then an element of it.
        let fields = access_chain.iter().map_while(|access| match access {
            AccessExpr::Dot(Expr::Identifier(ident)) => Some(ident.clone()),
            _ => None,
        });
        let mut parts: Vec<Ident> = fields.collect();
        let (vector, at) = match root.as_ref() {
            Expr::Identifier(first) if !parts.is_empty() => {
                let at = parts.len();
                parts.insert(0, first.clone());
                (self.is_vector(&Expr::CompoundIdentifier(parts)), at)
            }
            root => (self.is_vector(root), 0),
        };
        // The vectors of the system tables are counted from 0, arrays from 1.
        if vector
            && let Some(AccessExpr::Subscript(Subscript::Index { index })) =
                access_chain.get_mut(at)
        {
            let taken = std::mem::replace(index, literals::number(0));
            *index = Expr::BinaryOp {
                left: Box::new(Expr::Nested(Box::new(taken))),
                op: BinaryOperator::Plus,
                right: Box::new(literals::number(1)),
            };
        }
        // `(row).field`.
        if let [AccessExpr::Dot(Expr::Identifier(field))] = access_chain.as_mut_slice() {
            let name = literals::text(&fold(field));
            let root = std::mem::replace(root.as_mut(), literals::number(0));
            *expr = call("get_field", vec![unnest(root), name]);
        }
    }
}

/// A call of the function `name`.
fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let unnamed = |it| FunctionArg::Unnamed(FunctionArgExpr::Expr(it));
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(unnamed).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn unnest(expr: Expr) -> Expr {
    match expr {
        Expr::Nested(inner) => *inner,
        other => other,
    }
}

/// Unquoted, these words are functions in PostgreSQL and no column can have their name.
fn keyword(expr: &mut Expr) {
    if let Expr::Identifier(ident) = expr
        && ident.quote_style.is_none()
    {
        let name = ident.value.to_lowercase();
        let known = ["current_role", "current_schema", "current_catalog", "current_user"];
        if known.contains(&name.as_str()) || ["session_user", "user"].contains(&name.as_str()) {
            *expr = call(&name, Vec::new());
        }
    }
}

/// All text is compared byte by byte, which is what these collations say.
fn drop_default_collation(expr: &mut Expr) {
    if let Expr::Collate { expr: inner, collation } = expr {
        let name = collation.0.last().and_then(ObjectNamePart::as_ident).map(|it| it.value.clone());
        let known = ["default", "C", "POSIX", "ucs_basic"];
        if name.is_some_and(|it| known.contains(&it.as_str())) {
            let inner = std::mem::replace(inner.as_mut(), literals::number(0));
            *expr = inner;
        }
    }
}

/// `ctid BETWEEN '(0,0)'::tid AND '(4294967295,0)'::tid`, the whole range of addresses: every row is
/// in it, whatever its address would be. DuckDB reads tables in such ranges.
fn every_row(expr: &mut Expr) {
    let Expr::Between { expr: of, negated: false, low, high } = expr else { return };
    let column = match of.as_ref() {
        Expr::Identifier(ident) => Some(ident),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    };
    let page = |bound: &Expr| casts::tid(bound)?.split_once(',')?.0.parse::<u32>().ok();
    if column.is_some_and(|ident| fold(ident) == "ctid")
        && casts::tid(low).as_deref() == Some("0,0")
        && page(high) == Some(u32::MAX)
    {
        *expr = Expr::Value(Value::Boolean(true).with_empty_span());
    }
}

fn custom_operator(name: &[String]) -> Option<BinaryOperator> {
    let symbol = match name {
        [symbol] => symbol,
        [schema, symbol] if schema.eq_ignore_ascii_case("pg_catalog") => symbol,
        _ => return None,
    };
    Some(match symbol.as_str() {
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        ">" => BinaryOperator::Gt,
        "<=" => BinaryOperator::LtEq,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "%" => BinaryOperator::Modulo,
        "||" => BinaryOperator::StringConcat,
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        "@>" => BinaryOperator::AtArrow,
        "<@" => BinaryOperator::ArrowAt,
        _ => return None,
    })
}

/// DataFusion refuses two columns of one name; PostgreSQL does not. Each further one that has no
/// name of its own gets one.
fn name_duplicates(select: &mut Select) {
    let mut seen: Vec<String> = Vec::new();
    for item in &mut select.projection {
        let shown = match output_name(item) {
            // A column and its alias are two names to the planner, unless they are one.
            Some(name) => match item {
                SelectItem::UnnamedExpr(expr) => expr.to_string(),
                _ => name,
            },
            None => match item {
                SelectItem::UnnamedExpr(expr) => expr.to_string(),
                _ => continue,
            },
        };
        if seen.contains(&shown)
            && let SelectItem::UnnamedExpr(expr) = item
        {
            let alias = Ident::with_quote('"', format!("{shown}:{}", seen.len()));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
        seen.push(shown);
    }
}

/// A `regclass` and its like are numbers inside a query; a client is shown the name.
fn show_registered_names(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                match item {
                    SelectItem::UnnamedExpr(expr) => {
                        let Some(name) = casts::output_name(expr) else {
                            continue;
                        };
                        casts::show(expr);
                        let alias = Ident::with_quote('"', name);
                        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                    }
                    SelectItem::ExprWithAlias { expr, .. } => casts::show(expr),
                    _ => {}
                }
            }
        }
        SetExpr::Query(query) => show_registered_names(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            show_registered_names(left);
            show_registered_names(right);
        }
        _ => {}
    }
}

/// A value that no literal stands for.
fn no_literal(value: &ScalarValue) -> Error {
    Error::unsupported(format!(
        "a value of type {} cannot be used in a catalog subquery",
        value.data_type()
    ))
}
