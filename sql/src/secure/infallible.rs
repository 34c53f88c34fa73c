//! Which expressions policies and masks may be made of: those that no row can make fail.
//!
//! # Why
//! An expression that fails on a row tells that the row is there, and what is in it.
//!
//! What it guarantees: what is let through gives a value for every row. What does not depend on a
//! row may fail: it is computed before any row is read, see [`folded`].
//! What it does not: it proves nothing about what is refused; many a cast would never fail.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, Volatility,
};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};

use crate::bind::constant::computed;
use crate::errors::{from_engine, to_engine};
use crate::system::pseudonym::{HASH, PSEUDONYM};
use crate::times::TOTAL;

/// Functions that give a value for every argument of their types.
const FUNCTIONS: &[&str] = &[
    "ascii",
    "bit_length",
    "btrim",
    "char_length",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "current_user",
    "ends_with",
    "greatest",
    "initcap",
    "interval_length",
    "kho.bucket",
    "kho.month",
    "kho.partial",
    "kho.purpose",
    "kho.role_attribute",
    "kho.year",
    "least",
    "length",
    "lower",
    "ltrim",
    "md5",
    "now",
    "nullif",
    "octet_length",
    "replace",
    "reverse",
    "rtrim",
    "session_user",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "starts_with",
    "strpos",
    "translate",
    "trim",
    "upper",
];
/// The same where it is no row that says which part of a text is meant: there is no field 0, and no text of
/// a length below 0.
const PARTS: &[&str] = &["left", "right", "split_part", "substr", "substring"];
/// The same of a part of a time, which is one of these.
const TIMES: &[&str] = &["date_part", "date_trunc"];
const UNITS: &[&str] = &[
    "year",
    "quarter",
    "month",
    "week",
    "day",
    "hour",
    "minute",
    "second",
    "millisecond",
    "microsecond",
];
const PART_UNITS: &[&str] = &["epoch", "dow", "doy", "isodow", "isoyear"];
/// Functions that give a value for what is there, and fail for every other name.
const LOOKUPS: &[&str] = &["pg_has_role"];
const KEYED: &[&str] = &[HASH, PSEUDONYM];
const AGGREGATES: &[&str] = &["count", "min", "max", "bool_and", "bool_or"];

/// The plan as the engine's analyzer leaves it, with everything that depends on no row computed.
///
/// # Errors
/// What computing it raises: the same for everybody's rows, since none was read.
pub(super) fn folded(session: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = session
        .analyzer()
        .execute_and_check(plan, session.config_options(), |_, _| {})
        .map_err(from_engine)?;
    let fold = |expr: Expr| match is_constant(&expr) {
        true => {
            let value = computed(session, expr).map_err(to_engine)?;
            Ok(Transformed::new(Expr::Literal(value, None), true, TreeNodeRecursion::Jump))
        }
        false => Ok(Transformed::no(expr)),
    };
    let folded = plan.transform_up_with_subqueries(|node| {
        if !matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Projection(_)) {
            return Ok(Transformed::no(node));
        }
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(expr.transform_down(fold)?.update_data(|expr| name.restore(expr)))
        })
    });
    folded.map(|plan| plan.data).map_err(from_engine)
}

/// That nothing in the plan, which [`folded`] gave, can fail on a row.
///
/// # Errors
/// `0A000`, with what it is that may.
pub(super) fn require(plan: &LogicalPlan) -> Result<()> {
    let checked = plan.apply_with_subqueries(|node| {
        check_node(node).map_err(to_engine)?;
        let mut schema = DFSchema::empty();
        node.inputs().iter().for_each(|input| schema.merge(input.schema()));
        node.apply_expressions(|expr| {
            check(expr, &schema).map_err(to_engine)?;
            Ok(TreeNodeRecursion::Continue)
        })
    });
    checked.map(|_| ()).map_err(from_engine)
}

/// Whether no row can make `expr`, which [`folded`] gave, fail.
pub(super) fn holds(expr: &Expr, schema: &DFSchema) -> bool {
    check(expr, schema).is_ok()
}

fn check_node(node: &LogicalPlan) -> Result<()> {
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Distinct(_) => Ok(()),
        other => Err(refused(&format!("{} in it", other.display()))),
    }
}

fn check(expr: &Expr, schema: &DFSchema) -> Result<()> {
    let check = |part: &Expr| check(part, schema);
    let all = |parts: &[&Expr]| parts.iter().try_for_each(|part| check(part));
    match expr {
        Expr::Column(_) | Expr::Literal(..) | Expr::OuterReferenceColumn(..) => Ok(()),
        Expr::Alias(it) => check(&it.expr),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match is_total(*op) {
            true => all(&[left, right]),
            false => Err(refused(&format!("the operator {op} can"))),
        },
        Expr::Not(it)
        | Expr::IsNull(it)
        | Expr::IsNotNull(it)
        | Expr::IsTrue(it)
        | Expr::IsNotTrue(it)
        | Expr::IsFalse(it)
        | Expr::IsNotFalse(it)
        | Expr::IsUnknown(it)
        | Expr::IsNotUnknown(it) => check(it),
        Expr::Between(it) => all(&[&it.expr, &it.low, &it.high]),
        Expr::InList(it) => check(&it.expr).and_then(|()| it.list.iter().try_for_each(check)),
        Expr::Like(it) => match it.pattern.as_ref() {
            Expr::Literal(pattern, _) if !pattern.to_string().contains('\\') => check(&it.expr),
            _ => Err(refused("LIKE with a pattern that is not a plain text can")),
        },
        Expr::Case(it) => {
            it.expr.iter().chain(&it.else_expr).try_for_each(|part| check(part))?;
            it.when_then_expr.iter().try_for_each(|(when, then)| all(&[when, then]))
        }
        Expr::Cast(it) => match cannot_fail(it, schema) {
            true => check(&it.expr),
            false => Err(refused(&format!("a cast to {} can", it.field.data_type()))),
        },
        Expr::ScalarFunction(it) => {
            let is_one_of = |known: &[&str]| known.contains(&it.name());
            match [FUNCTIONS, KEYED, TOTAL].iter().any(|known| is_one_of(known))
                || (is_one_of(PARTS) && says_which(it.name(), &it.args))
                || (is_one_of(TIMES) && says_unit(it.name(), &it.args))
                || (is_one_of(LOOKUPS) && !it.args.iter().any(is_of_row))
            {
                true => it.args.iter().try_for_each(check),
                false => Err(refused(&format!("the function {} may", it.name()))),
            }
        }
        Expr::AggregateFunction(it) => match AGGREGATES.contains(&it.func.name()) {
            true => it.params.args.iter().try_for_each(check),
            false => Err(refused(&format!("the aggregate {} may", it.func.name()))),
        },
        Expr::InSubquery(it) => check(&it.expr),
        Expr::Exists(_) => Ok(()),
        Expr::ScalarSubquery(it) => match gives_one_row(&it.subquery) {
            true => Ok(()),
            false => Err(refused("a subquery that may give more than one row can")),
        },
        other => Err(refused(&format!("\"{other}\" may"))),
    }
}

fn is_of_row(expr: &Expr) -> bool {
    expr.any_column_refs() || expr.contains_outer()
}

/// Whether the arguments say, for every row the same, a part of a text that each text has.
fn says_which(name: &str, args: &[Expr]) -> bool {
    let numbers = if name == "split_part" { 2.. } else { 1.. };
    let numbers = args.get(numbers).unwrap_or_default();
    let number = |at: usize| match numbers.get(at) {
        Some(Expr::Literal(value, _)) => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(number)) => number,
            _ => None,
        },
        _ => None,
    };
    let all = (0..numbers.len()).map(number).collect::<Option<Vec<i64>>>();
    match (name, all.as_deref()) {
        (_, None | Some([])) => false,
        ("split_part", Some(which)) => !which.contains(&0),
        ("substr" | "substring", Some([_, length])) => *length >= 0,
        (_, Some(which)) => which.len() == 1,
    }
}

/// Whether the first argument is, for every row, a part that each time has.
fn says_unit(name: &str, args: &[Expr]) -> bool {
    let Some(Expr::Literal(unit, _)) = args.first() else { return false };
    let Some(unit) = unit.try_as_str().flatten() else { return false };
    let unit = unit.to_ascii_lowercase();
    let is_one_of = |known: &[&str]| known.contains(&unit.as_str());
    is_one_of(UNITS) || (name == "date_part" && is_one_of(PART_UNITS))
}

/// Whether the cast takes every value: a text is made of each, and what holds more takes all of
/// what holds less.
fn cannot_fail(cast: &Cast, schema: &DFSchema) -> bool {
    use DataType::{Decimal128, Float32, Float64, Int16, Int32, Int64, Null};
    let Ok(from) = cast.expr.get_type(schema) else { return false };
    let to = cast.field.data_type();
    to.is_string()
        || from == *to
        || match (&from, to) {
            (Null, _) | (Int16, Int32 | Int64 | Float64) | (Int32, Int64 | Float64) => true,
            (Float32 | Int64 | Decimal128(..), Float64) => true,
            (Int16, Decimal128(precision, scale)) => whole_digits(*precision, *scale) >= 5,
            (Int32, Decimal128(precision, scale)) => whole_digits(*precision, *scale) >= 10,
            (Int64, Decimal128(precision, scale)) => whole_digits(*precision, *scale) >= 19,
            (Decimal128(precision, scale), Decimal128(wider, finer)) => {
                scale <= finer && whole_digits(*precision, *scale) <= whole_digits(*wider, *finer)
            }
            _ => false,
        }
}

/// The digits before the point.
fn whole_digits(precision: u8, scale: i8) -> i16 {
    i16::from(precision) - i16::from(scale)
}

/// Whether an operator gives a value for every two of one type.
pub(super) fn is_total(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::And
            | Operator::Or
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
            | Operator::StringConcat
    )
}

fn gives_one_row(subquery: &LogicalPlan) -> bool {
    let mut plan = subquery;
    loop {
        match plan {
            LogicalPlan::Projection(it) => plan = &it.input,
            LogicalPlan::SubqueryAlias(it) => plan = &it.input,
            LogicalPlan::Aggregate(Aggregate { group_expr, .. }) => return group_expr.is_empty(),
            _ => return false,
        }
    }
}

/// Whether `expr` is more than a literal and needs no row.
fn is_constant(expr: &Expr) -> bool {
    if matches!(expr, Expr::Literal(..)) {
        return false;
    }
    let found = expr.exists(|part| {
        Ok(match part {
            Expr::Column(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::AggregateFunction(_)
            | Expr::WindowFunction(_)
            | Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::Placeholder(_) => true,
            Expr::ScalarFunction(it) => it.func.signature().volatility == Volatility::Volatile,
            _ => false,
        })
    });
    !found.unwrap_or(true)
}

fn refused(what: &str) -> Error {
    Error::new(
        Kind::FeatureNotSupported,
        "an expression that can fail is not supported in a policy or a mask",
    )
    .with_detail(format!("A row that makes it fail would tell of itself: {what}."))
    .with_hint("Compare columns with values of their own types; CASE and COALESCE help.")
}
