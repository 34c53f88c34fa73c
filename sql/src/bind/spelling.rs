//! What DataFusion's planner spells otherwise than PostgreSQL, or takes and means something else.
//!
//! What it guarantees: after this pass an expression means to the planner what it means in
//! PostgreSQL, or it was refused.
//! What it does not: it knows no types; `numeric` does what needs them.

mod calls;
mod intervals;
mod parts;
mod subscripts;

use std::ops::ControlFlow;

use super::patterns;
use kho_catalog::error::{Error, Kind, Result};
use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Fetch, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, LimitClause, ObjectName,
    Parens, Query, Select, SelectItem, SetExpr, SetOperator, SetQuantifier, TimezoneInfo, Value,
    Values, Visit, VisitMut, Visitor, VisitorMut,
};

/// Functions that format by patterns: PostgreSQL's patterns are not the engine's.
const FORMATTING: &[&str] = &["to_char", "to_date", "to_timestamp"];
/// Beyond these a number does not fit 38 digits, so it is a double.
const EXPONENT_MAX: i32 = 30;

/// Respells every expression and every `FETCH` of a statement.
pub(super) fn respell(statement: &mut impl VisitMut) -> Result<()> {
    match statement.visit(&mut Respell) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Respell;

impl VisitorMut for Respell {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        if let Some(with) = query.with.as_mut().filter(|with| with.recursive) {
            with.cte_tables.iter_mut().for_each(|it| hold_casts(&mut it.query.body));
        }
        if let SetExpr::Values(values) = query.body.as_mut() {
            floats_throughout(values);
        }
        if let SetExpr::Values(values) = query.body.as_mut()
            && asks(values)
        {
            match selected(std::mem::take(&mut values.rows)) {
                Ok(selected) => *query.body = selected,
                Err(error) => return ControlFlow::Break(error),
            }
        }
        if let Some(LimitClause::LimitOffset { limit: Some(limit), .. }) = &query.limit_clause
            && Visit::visit(limit, &mut Asks).is_break()
        {
            let refused = Error::unsupported("a LIMIT that is a subquery is not supported");
            return ControlFlow::Break(refused);
        }
        match query.fetch.take().map(|fetch| limit(query, fetch)) {
            Some(Err(error)) => ControlFlow::Break(error),
            Some(Ok(())) | None => ControlFlow::Continue(()),
        }
    }

    /// Of a set that a `SELECT` lists, each value is a row; to the engine it is an array.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        for item in &mut select.projection {
            let name = Ident::new("generate_series");
            match item {
                SelectItem::UnnamedExpr(expr) if is_series(expr) => {
                    *item = SelectItem::ExprWithAlias { expr: unnested(expr.clone()), alias: name };
                }
                SelectItem::ExprWithAlias { expr, .. } if is_series(expr) => {
                    *expr = unnested(expr.clone());
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match respelled(expr) {
            Ok(Some(other)) => {
                *expr = other;
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Breaks at a subquery.
struct Asks;

impl Visitor for Asks {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

/// Whether a value is asked of a subquery.
fn asks(values: &Values) -> bool {
    let mut all = values.rows.iter().flat_map(|row| &row.content);
    all.any(|value| Visit::visit(value, &mut Asks).is_break())
}

/// The rows of `VALUES`, each by a `SELECT`: in the engine's rows of values no subquery is run.
fn selected(rows: Vec<Parens<Vec<Expr>>>) -> Result<SetExpr> {
    let mut whole: Option<SetExpr> = None;
    for row in rows {
        let mut query = crate::parse::query("SELECT 1")?;
        let SetExpr::Select(select) = query.body.as_mut() else {
            return Err(Error::internal("a SELECT is none"));
        };
        let named = row.content.into_iter().enumerate().map(|(at, expr)| {
            let alias = Ident::new(format!("column{}", at + 1));
            SelectItem::ExprWithAlias { expr, alias }
        });
        select.projection = named.collect();
        whole = Some(match whole {
            None => *query.body,
            Some(above) => SetExpr::SetOperation {
                op: SetOperator::Union,
                set_quantifier: SetQuantifier::All,
                left: Box::new(above),
                right: query.body,
            },
        });
    }
    whole.ok_or_else(|| Error::internal("VALUES has no row"))
}

/// Numbers beside a float are floats in PostgreSQL; the planner makes numerics of all of them.
fn floats_throughout(values: &mut Values) {
    let columns = values.rows.first().map_or(0, |row| row.content.len());
    for column in 0..columns {
        let mut of = values.rows.iter_mut().filter_map(|row| row.content.get_mut(column));
        if !of.any(|it| is_float(it)) {
            continue;
        }
        for value in values.rows.iter_mut().filter_map(|row| row.content.get_mut(column)) {
            if is_number(value) {
                *value = cast(value.clone(), DataType::DoublePrecision);
            }
        }
    }
}

fn is_float(expr: &Expr) -> bool {
    use kho_catalog::types::Type as T;
    match strip(expr) {
        Expr::Cast { data_type, .. } => {
            super::sql_type(data_type).is_ok_and(|of| matches!(of, T::Real | T::Double))
        }
        Expr::UnaryOp { expr, .. } => is_float(expr),
        _ => false,
    }
}

fn is_number(expr: &Expr) -> bool {
    match strip(expr) {
        Expr::Value(value) => matches!(value.value, Value::Number(..)),
        Expr::UnaryOp { expr, .. } => is_number(expr),
        _ => false,
    }
}

/// The planner casts the columns of a recursive term to what it takes the first term for; `numeric`
/// knows those casts by being the only ones there. What is written as one is put into a call.
fn hold_casts(body: &mut SetExpr) {
    let SetExpr::SetOperation { right, .. } = body else { return };
    let SetExpr::Select(select) = right.as_mut() else { return };
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
            continue;
        };
        if is_cast_to_number(expr) {
            *expr = called("coalesce", [expr.clone()]);
        }
    }
}

fn is_cast_to_number(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_cast_to_number(inner),
        Expr::Cast { data_type, .. } => {
            super::sql_type(data_type).is_ok_and(|of| {
                use kho_catalog::types::Type as T;
                matches!(
                    of,
                    T::SmallInt | T::Integer | T::BigInt | T::Numeric(..) | T::Real | T::Double
                )
            }) || matches!(data_type, DataType::Numeric(_) | DataType::Decimal(_))
        }
        _ => false,
    }
}

fn is_series(expr: &Expr) -> bool {
    let Expr::Function(Function { name, .. }) = expr else { return false };
    let name = name.to_string().to_ascii_lowercase();
    matches!(name.as_str(), "generate_series" | "pg_catalog.generate_series")
}

fn unnested(set: Expr) -> Expr {
    called("unnest", [set])
}

/// A call of the function `name`.
pub(super) fn called<const N: usize>(name: &str, arguments: [Expr; N]) -> Expr {
    let argument = |it| FunctionArg::Unnamed(FunctionArgExpr::Expr(it));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.map(argument).to_vec(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`.
fn limit(query: &mut Query, fetch: Fetch) -> Result<()> {
    if fetch.with_ties || fetch.percent {
        return Err(Error::unsupported("FETCH WITH TIES and PERCENT are not supported"));
    }
    let quantity = fetch.quantity.unwrap_or_else(|| number("1"));
    match &mut query.limit_clause {
        None => {
            query.limit_clause = Some(LimitClause::LimitOffset {
                limit: Some(quantity),
                offset: None,
                limit_by: Vec::new(),
            });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(quantity),
        Some(_) => return Err(Error::new(Kind::Syntax, "multiple LIMIT clauses not allowed")),
    }
    Ok(())
}

/// What stands for `expr`; `None` where it stands for itself.
fn respelled(expr: &mut Expr) -> Result<Option<Expr>> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::UnicodeStringLiteral(text) => Ok(Some(string(text))),
            Value::Number(text, _) if is_huge(text) => {
                Ok(Some(cast(string(text), DataType::DoublePrecision)))
            }
            // The engine's would have its digits before the point alone, and quotients of it none.
            Value::Number(text, _) => Ok(written_out(text).map(|digits| {
                // A whole number is none here: it is not an integer.
                let length = u64::try_from(digits.len()).unwrap_or(u64::MAX);
                let whole = ExactNumberInfo::PrecisionAndScale(length, 0);
                match digits.contains('.') {
                    true => number(&digits),
                    false => cast(number(&digits), DataType::Numeric(whole)),
                }
            })),
            _ => Ok(None),
        },
        Expr::BinaryOp { left, op, right } => match (strip(left), strip(right)) {
            (Expr::Tuple(left), Expr::Tuple(right)) => compared(left, op, right).map(Some),
            _ => Ok(None),
        },
        Expr::InList { expr: one, list, negated } => match strip(one) {
            Expr::Tuple(one) => in_list(one, list, *negated).map(Some),
            _ => Ok(None),
        },
        Expr::Extract { .. } => parts::extracted(expr),
        Expr::AtTimeZone { timestamp, time_zone } => {
            Ok(Some(called("timezone", [time_zone.as_ref().clone(), timestamp.as_ref().clone()])))
        }
        Expr::AnyOp { left, compare_op, right, .. } => match strip(right) {
            Expr::Subquery(_) => Ok(None),
            Expr::Array(of) if *compare_op == BinaryOperator::Eq && !of.elem.is_empty() => {
                let (expr, list) = (left.clone(), of.elem.clone());
                Ok(Some(Expr::Nested(Box::new(Expr::InList { expr, list, negated: false }))))
            }
            array => {
                let unknown = unknown_beside_null(array)?;
                let whole = binary(expr, BinaryOperator::Or, &unknown);
                Ok(Some(Expr::Nested(Box::new(whole))))
            }
        },
        // A text of one character is one; of more, a column of a fixed length would be needed.
        Expr::Cast {
            expr: of,
            data_type: DataType::Char(None) | DataType::Character(None),
            ..
        } if calls::text(of).is_some_and(|text| text.chars().count() == 1) => {
            Ok(Some(strip(of).clone()))
        }
        Expr::Interval(_) | Expr::Cast { .. } => intervals::respelled(expr),
        Expr::SimilarTo { .. } => Err(Error::unsupported("SIMILAR TO is not supported")
            .with_hint("Use LIKE, or a regular expression with \"~\".")),
        Expr::CompoundFieldAccess { root, access_chain } => {
            subscripts::count_from_one(root, access_chain).map(|()| None)
        }
        // The engine's has nanoseconds: what is compared with it would be cast to those, and fail
        // outside of three centuries.
        Expr::Function(function) if is_now(function) => {
            let zoned = DataType::Timestamp(None, TimezoneInfo::WithTimeZone);
            Ok(Some(cast(expr.clone(), zoned)))
        }
        Expr::Function(it) if it.name.to_string().eq_ignore_ascii_case("localtimestamp") => {
            crate::parse::expression("CAST(now() AS timestamp)").map(Some)
        }
        Expr::Function(function) if let Some(of) = counts(function) => {
            Ok(Some(cast(expr.clone(), of)))
        }
        Expr::Function(function) => match modulo(function) {
            Some(modulo) => Ok(Some(modulo)),
            None => match calls::respelled(function)? {
                Some(other) => Ok(Some(other)),
                None => respell_pattern(function).map(|()| None),
            },
        },
        _ => Ok(None),
    }
}

/// What a comparison with any value of an array is where it is with none of those that are known: unknown
/// beside a NULL, false otherwise. The engine passes over a NULL.
fn unknown_beside_null(array: &Expr) -> Result<Expr> {
    let asked = format!(
        "(CASE WHEN array_position({array}, NULL) IS NOT NULL THEN CAST(NULL AS boolean) ELSE false END)"
    );
    crate::parse::expression(&asked)
}

/// The type of what numbers rows or counts elements; the engine's has no sign, so that one less could be
/// the largest of all.
fn counts(function: &Function) -> Option<DataType> {
    let numbers = function.over.is_some();
    match function.name.to_string().to_ascii_lowercase().as_str() {
        "row_number" | "rank" | "dense_rank" if numbers => Some(DataType::BigInt(None)),
        "ntile" if numbers => Some(DataType::Integer(None)),
        "array_length" | "cardinality" => Some(DataType::Integer(None)),
        _ => None,
    }
}

fn is_now(function: &Function) -> bool {
    let name = function.name.to_string().to_ascii_lowercase();
    matches!(name.as_str(), "now" | "current_timestamp" | "transaction_timestamp")
}

fn is_huge(number: &str) -> bool {
    let exponent = number.to_ascii_lowercase().split_once('e').map(|(_, it)| it.parse::<i32>());
    match exponent {
        None => false,
        Some(Ok(exponent)) => exponent.abs() > EXPONENT_MAX,
        Some(Err(_)) => true,
    }
}

/// A number without its exponent; `None` of one that has none.
fn written_out(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    // Where the point comes to stand.
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    Some(match usize::try_from(point) {
        Ok(point) if point >= digits.len() => format!("{digits:0<point$}"),
        Ok(point) => {
            let (whole, fraction) = digits.split_at_checked(point)?;
            format!("{}.{fraction}", if whole.is_empty() { "0" } else { whole })
        }
        Err(_) => {
            let zeros = usize::try_from(point.checked_neg()?).ok()?;
            format!("0.{}{digits}", "0".repeat(zeros))
        }
    })
}

/// Rows are compared column by column: the engine compares them as structs, whose NULLs are equal.
fn compared(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Result<Expr> {
    use BinaryOperator as B;
    if left.len() != right.len() {
        return Err(Error::new(Kind::Syntax, "unequal number of entries in row expressions"));
    }
    let mut pairs = left.iter().zip(right).rev();
    let Some((a, b)) = pairs.next() else {
        return Err(Error::new(Kind::Syntax, "cannot compare rows of zero length"));
    };
    let mut whole = binary(a, op.clone(), b);
    for (a, b) in pairs {
        whole = match op {
            B::Eq => binary(&binary(a, B::Eq, b), B::And, &whole),
            B::NotEq => binary(&binary(a, B::NotEq, b), B::Or, &whole),
            B::Lt | B::LtEq | B::Gt | B::GtEq => {
                let strict = if matches!(op, B::Lt | B::LtEq) { B::Lt } else { B::Gt };
                let rest = binary(&binary(a, B::Eq, b), B::And, &whole);
                binary(&binary(a, strict, b), B::Or, &rest)
            }
            _ => return Err(Error::unsupported(format!("rows cannot be combined by {op}"))),
        };
    }
    Ok(Expr::Nested(Box::new(whole)))
}

fn in_list(one: &[Expr], list: &[Expr], negated: bool) -> Result<Expr> {
    let (op, join) = match negated {
        true => (BinaryOperator::NotEq, BinaryOperator::And),
        false => (BinaryOperator::Eq, BinaryOperator::Or),
    };
    let mut whole: Option<Expr> = None;
    for other in list {
        let Expr::Tuple(other) = strip(other) else {
            return Err(Error::new(Kind::Syntax, "a row can be in a list of rows only"));
        };
        let equal = compared(one, &op, other)?;
        whole = Some(match whole {
            None => equal,
            Some(before) => binary(&before, join.clone(), &equal),
        });
    }
    whole
        .map(|whole| Expr::Nested(Box::new(whole)))
        .ok_or_else(|| Error::new(Kind::Syntax, "IN needs a list"))
}

/// `mod(a, b)` is `a % b`.
fn modulo(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    match list.args.as_slice() {
        [
            FunctionArg::Unnamed(FunctionArgExpr::Expr(left)),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(right)),
        ] if function.name.to_string().eq_ignore_ascii_case("mod") => {
            let whole = binary(left, BinaryOperator::Modulo, right);
            Some(Expr::Nested(Box::new(whole)))
        }
        _ => None,
    }
}

/// A pattern of PostgreSQL's becomes one of the engine's, or is refused: the engine would give it
/// back as it is. One with a per cent sign is the engine's own.
fn respell_pattern(function: &mut Function) -> Result<()> {
    let name = function.name.to_string().to_ascii_lowercase();
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    if !FORMATTING.contains(&name.as_str()) {
        return Ok(());
    }
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(pattern))) = list.args.get_mut(1) else {
        return Ok(());
    };
    let text = match strip(pattern) {
        Expr::Value(value) => value.value.clone().into_string(),
        _ => None,
    };
    let Some(text) = text else {
        return Err(Error::unsupported(format!("{name} with a computed pattern is not supported"))
            .with_hint("Write the pattern as a constant."));
    };
    if text.contains('%') {
        return Ok(());
    }
    let known = if name == "to_char" { patterns::strftime(&text) } else { None };
    let Some(known) = known else {
        let message = format!("{name} with the pattern '{text}' is not supported");
        return Err(Error::unsupported(message).with_hint(
            "Patterns of strftime can be given: '%d/%m/%Y %H:%M' is PostgreSQL's 'DD/MM/YYYY HH24:MI'.",
        ));
    };
    *pattern = string(&known);
    Ok(())
}

fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => strip(inner),
        other => other,
    }
}

fn binary(left: &Expr, op: BinaryOperator, right: &Expr) -> Expr {
    let nested = |it: &Expr| Box::new(Expr::Nested(Box::new(it.clone())));
    Expr::BinaryOp { left: nested(left), op, right: nested(right) }
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn string(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).into())
}

fn number(text: &str) -> Expr {
    Expr::Value(Value::Number(text.to_owned(), false).into())
}
