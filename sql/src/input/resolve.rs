//! Where text is read as a value: literals whose type their context tells, and casts.
//!
//! What it guarantees: after analysis no text is cast to another type by the engine's parser. A
//! literal is read at once, so that its error comes before any row is read and files are pruned by
//! a plain value; every other text is read by [`TextInput`].
//! What it does not: the arguments of most functions get their type from the engine's coercion,
//! and are read as that type. Times of day are the engine's.
//!
//! # Why
//! In PostgreSQL a quoted literal has no type until its context gives it one: in `price > '1.5'`
//! that of `price`. The engine takes it for text and coerces later, by rules of its own; so what it
//! is compared with is asked before the coercion, and the casts that are left are replaced after.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as PlanResult};
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;
use kho_catalog::error::Result;
use kho_catalog::types::Type;

use super::function::{TextInput, declared, is_text, read_scalar, reads};
use super::number::Number;
use super::zone::Zone;
use crate::errors::to_engine;

/// Puts the reading of text into a session's analyzer, around the coercion of types.
pub(crate) fn install(state: &mut SessionState) {
    let mut rules = state.analyzer().rules.clone();
    rules.insert(0, Arc::new(ReadText { when: When::BeforeCoercion }));
    rules.push(Arc::new(ReadText { when: When::AfterCoercion }));
    *state =
        SessionStateBuilder::new_from_existing(state.clone()).with_analyzer_rules(rules).build();
}

/// The zone in which a session's statements read times without an offset.
pub(crate) fn zone_of(config: &ConfigOptions) -> Result<Zone> {
    Zone::of_setting(config.execution.time_zone.as_deref().unwrap_or("UTC"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    BeforeCoercion,
    AfterCoercion,
}

#[derive(Debug)]
struct ReadText {
    when: When,
}

impl AnalyzerRule for ReadText {
    fn name(&self) -> &str {
        match self.when {
            When::BeforeCoercion => "kho_read_text",
            When::AfterCoercion => "kho_read_coerced_text",
        }
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> PlanResult<LogicalPlan> {
        let zone = zone_of(config).map_err(to_engine)?;
        let plan = plan.transform_up_with_subqueries(|node| self.read_in(node, zone))?;
        Ok(plan.data)
    }
}

impl ReadText {
    /// Reads what the expressions of one node have; its columns keep their names.
    fn read_in(&self, node: LogicalPlan, zone: Zone) -> PlanResult<Transformed<LogicalPlan>> {
        if matches!(node, LogicalPlan::TableScan(_)) {
            return Ok(Transformed::no(node));
        }
        let mut schema = merge_schema(&node.inputs());
        if let LogicalPlan::Values(values) = &node {
            schema.merge(&values.schema);
        }
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| self.read(expr, &schema, zone))?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })?;
        node.map_data(LogicalPlan::recompute_schema)
    }

    fn read(&self, expr: Expr, schema: &DFSchema, zone: Zone) -> PlanResult<Transformed<Expr>> {
        match (expr, self.when) {
            (Expr::Cast(cast), _) => self.read_cast(cast, schema, zone),
            (mut expr, When::BeforeCoercion) => {
                let takes = taken_beside(&expr);
                let changed = operands(&mut expr)
                    .map_or(Ok(false), |operands| read_literals(operands, takes, schema, zone))?;
                Ok(Transformed::new_transformed(expr, changed))
            }
            (expr, When::AfterCoercion) => Ok(Transformed::no(expr)),
        }
    }

    fn read_cast(
        &self,
        cast: Cast,
        schema: &DFSchema,
        zone: Zone,
    ) -> PlanResult<Transformed<Expr>> {
        if !reads(&cast.field) {
            return Ok(Transformed::no(Expr::Cast(cast)));
        }
        if let Expr::Literal(value, _) = cast.expr.as_ref()
            && let Some(text) = value.try_as_str()
        {
            let value = read_scalar(text, &cast.field, zone).map_err(to_engine)?;
            let metadata = FieldMetadata::from(cast.field.as_ref());
            let metadata = (!metadata.is_empty()).then_some(metadata);
            return Ok(Transformed::yes(Expr::Literal(value, metadata)));
        }
        // Before the coercion a type may not be known yet; the cast is seen again after it.
        let source = cast.expr.to_field(schema).map(|(_, field)| field);
        let is_read = source.is_ok_and(|source| {
            is_text(source.data_type()) && declared(&source) != declared(&cast.field)
        });
        // What the coercion casts to bytes are the arguments of functions that hash or encode:
        // they take the text's own bytes, not those it spells.
        let is_written = self.when == When::BeforeCoercion || !is_bytes(cast.field.data_type());
        if !is_read || !is_written {
            return Ok(Transformed::no(Expr::Cast(cast)));
        }
        let function = ScalarUDF::from(TextInput::new(cast.field, zone));
        let call = ScalarFunction::new_udf(Arc::new(function), vec![*cast.expr]);
        Ok(Transformed::yes(Expr::ScalarFunction(call)))
    }
}

/// What is brought to one type in an expression; `None` where nothing is.
fn operands(expr: &mut Expr) -> Option<Vec<&mut Expr>> {
    match expr {
        Expr::BinaryExpr(binary) if resolves(binary.op) => {
            Some(vec![binary.left.as_mut(), binary.right.as_mut()])
        }
        Expr::Between(between) => {
            Some(vec![between.expr.as_mut(), between.low.as_mut(), between.high.as_mut()])
        }
        Expr::InList(list) => {
            Some(std::iter::once(list.expr.as_mut()).chain(&mut list.list).collect())
        }
        Expr::Case(case) => {
            let results = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
            Some(results.chain(case.else_expr.as_deref_mut()).collect())
        }
        Expr::ScalarFunction(call)
            if matches!(call.name(), "coalesce" | "nullif" | "greatest" | "least") =>
        {
            Some(call.args.iter_mut().collect())
        }
        _ => None,
    }
}

fn resolves(operator: Operator) -> bool {
    compares(operator) || operator.is_numerical_operators()
}

/// Whether it compares its sides, by their order or for being the same.
pub(crate) fn compares(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Beside which types a literal of `expr` is of the same type. In arithmetic those are numbers: to
/// a time an interval is added, but a time is taken from a time.
fn taken_beside(expr: &Expr) -> fn(&Type) -> bool {
    match expr {
        Expr::BinaryExpr(binary) if binary.op.is_numerical_operators() => match binary.op {
            Operator::Minus => |of| is_number(of) || is_time(of),
            _ => is_number,
        },
        _ => |_| true,
    }
}

fn is_number(of: &Type) -> bool {
    use Type as T;
    matches!(of, T::SmallInt | T::Integer | T::BigInt | T::Real | T::Double | T::Numeric(_, _))
}

fn is_time(of: &Type) -> bool {
    matches!(of, Type::Date | Type::Timestamp | Type::TimestampTz)
}

/// Reads the quoted literals among `operands` as what the others are; says whether there were any.
fn read_literals(
    operands: Vec<&mut Expr>,
    takes: fn(&Type) -> bool,
    schema: &DFSchema,
    zone: Zone,
) -> PlanResult<bool> {
    if !operands.iter().any(|operand| quoted(operand).is_some()) {
        return Ok(false);
    }
    let known = operands.iter().filter(|operand| quoted(operand).is_none());
    let Some(target) = known.filter_map(|operand| context(operand, takes, schema)).next() else {
        return Ok(false);
    };
    for operand in operands {
        if let Some(text) = quoted(operand) {
            let value = literal_of(text, &target, zone).map_err(to_engine)?;
            *operand = Expr::Literal(value, None);
        }
    }
    Ok(true)
}

/// The text of a literal that nothing gave a type yet.
fn quoted(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, None) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// The field of an operand, where its type is one that a literal beside it is read as.
fn context(expr: &Expr, takes: fn(&Type) -> bool, schema: &DFSchema) -> Option<FieldRef> {
    let (_, field) = expr.to_field(schema).ok()?;
    match declared(&field)? {
        // Text is text of any length; the last two are compared with nothing.
        Type::Text | Type::Varchar(_) | Type::Json | Type::Struct(_) => None,
        of => takes(&of).then_some(field),
    }
}

/// A literal beside a value of `field`. The numeric of the other side says no precision for it: it
/// is not rounded to be compared.
fn literal_of(text: &str, field: &Field, zone: Zone) -> Result<ScalarValue> {
    if let Some(Type::Numeric(_, _)) = declared(field)
        && let Some(number) = exact_number(text)?
    {
        return Ok(number);
    }
    read_scalar(Some(text), field, zone)
}

/// The numeric that a text spells, with the digits that it has; `None` where those are too many.
pub(crate) fn exact_number(text: &str) -> Result<Option<ScalarValue>> {
    Ok(Number::parse(text)?.to_exact().map(|(unscaled, precision, scale)| {
        let scale = i8::try_from(scale).unwrap_or(i8::MAX);
        ScalarValue::Decimal128(Some(unscaled), precision, scale)
    }))
}

fn is_bytes(of: &DataType) -> bool {
    matches!(of, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}
