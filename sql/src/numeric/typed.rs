//! The one pass over a new plan that gives its expressions PostgreSQL's types.
//!
//! What it guarantees: it goes from the tables up, so that what an expression stands on has its
//! last type when it is looked at; what a correlated subquery takes from around it has the type that it
//! has there; every node tells of the columns that it will give.
//! What it does not: a row of a table that is written is typed by the table.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ExprSchema, Result};
use datafusion::logical_expr::expr_rewriter::{NamePreserver, coerce_plan_expr_for_schema};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, Join, LogicalPlan, Subquery, Union};
use datafusion::optimizer::analyzer::type_coercion::coerce_union_schema;
use kho_catalog::error::{Error, Kind};
use kho_catalog::table::FILE_COLUMN;

use super::{alike, average, extreme, oids, recursion, spans, whole, wide_sum};
use crate::bind::saying_nothing;
use crate::errors::to_engine;
use crate::times;

/// `plan` with PostgreSQL's types.
pub(super) fn typed(plan: LogicalPlan) -> Result<LogicalPlan> {
    // The rows of an INSERT already have the types of its table.
    let assigned = matches!(plan, LogicalPlan::Dml(_));
    Pass { assigned, around: Vec::new() }.node(plan)
}

/// A union whose parts have the types of the whole.
pub(crate) fn union_alike(union: Union) -> Result<LogicalPlan> {
    let Union { inputs, schema } = union;
    let types_of = |plan: &LogicalPlan| -> Vec<DataType> {
        plan.schema().fields().iter().map(|field| field.data_type().clone()).collect()
    };
    let inputs = times::of_union(&inputs)?;
    let types: Vec<Vec<DataType>> = inputs.iter().map(|input| types_of(input)).collect();
    let told: Vec<DataType> = schema.fields().iter().map(|it| it.data_type().clone()).collect();
    if types.iter().all(|of| *of == told) {
        return Ok(LogicalPlan::Union(Union { inputs, schema }));
    }
    let schema = coerce_union_schema(&inputs)?;
    let common: Vec<DataType> = (schema.fields().iter().enumerate())
        .map(|(index, field)| {
            let column: Vec<DataType> =
                types.iter().filter_map(|of| of.get(index).cloned()).collect();
            super::common::chosen(&column).unwrap_or_else(|| field.data_type().clone())
        })
        .collect();
    let schema = Arc::new(whole::of_types(&schema, &common)?);
    let inputs = inputs
        .iter()
        .map(|input| coerce_plan_expr_for_schema(input.as_ref().clone(), &schema).map(Arc::new));
    Ok(LogicalPlan::Union(Union { inputs: inputs.collect::<Result<Vec<_>>>()?, schema }))
}

pub(super) struct Pass {
    assigned: bool,
    /// The columns around the subquery that is looked at, the nearest last.
    around: Vec<DFSchema>,
}

impl Pass {
    pub(super) fn node(&mut self, node: LogicalPlan) -> Result<LogicalPlan> {
        let node = match node {
            LogicalPlan::RecursiveQuery(query) => return recursion::typed(self, query),
            // Files are pruned by a scan's filters as they are; they are also in a filter above.
            LogicalPlan::TableScan(_) => return Ok(node),
            other => self.inputs(other)?,
        };
        let node = match node {
            LogicalPlan::Values(values) if !self.assigned => {
                LogicalPlan::Values(whole::narrow_values(values)?)
            }
            other => other,
        };
        let mut schema = merge_schema(&node.inputs());
        if let LogicalPlan::Values(values) = &node {
            schema.merge(&values.schema);
        }
        self.around.push(schema);
        let node = node.map_subqueries(|subquery| self.node(subquery).map(Transformed::yes));
        let schema = self.around.pop().unwrap_or_else(DFSchema::empty);
        let node = self.expressions(node?.data, &schema)?;
        let node = match node {
            LogicalPlan::Subquery(it) => LogicalPlan::Subquery(self.subquery(it)),
            other => node_alike(other, &schema)?,
        };
        node.recompute_schema()
    }

    fn inputs(&mut self, node: LogicalPlan) -> Result<LogicalPlan> {
        match node {
            LogicalPlan::Join(mut join) if is_lateral(&join.right) => {
                join.left = Arc::new(self.node(Arc::unwrap_or_clone(join.left))?);
                self.around.push(join.left.schema().as_ref().clone());
                let right = self.node(Arc::unwrap_or_clone(join.right));
                self.around.pop();
                join.right = Arc::new(right?);
                Ok(LogicalPlan::Join(join))
            }
            other => {
                let node = other.map_children(|child| self.node(child).map(Transformed::yes))?;
                Ok(node.data)
            }
        }
    }

    /// Types what the node computes; its columns keep their names.
    fn expressions(&self, node: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
        // What LIMIT and OFFSET count is the engine's own; VALUES is done.
        let narrows = !matches!(node, LogicalPlan::Limit(_) | LogicalPlan::Values(_));
        let shows = matches!(
            node,
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_)
        );
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| match expr {
                Expr::Not(of) if shows && says_something(&of, schema) => {
                    Ok(Transformed::yes(Expr::Not(Box::new(saying_nothing(*of)))))
                }
                expr => self.expression(expr, schema, narrows),
            })?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })?;
        Ok(node.data)
    }

    fn expression(
        &self,
        expr: Expr,
        schema: &DFSchema,
        narrows: bool,
    ) -> Result<Transformed<Expr>> {
        match &expr {
            Expr::OuterReferenceColumn(..) => return Ok(self.outer(expr)),
            Expr::Literal(..) if narrows => {
                return Ok(match whole::narrowed_literal(&expr) {
                    Some(small) => Transformed::yes(small),
                    None => Transformed::no(expr),
                });
            }
            Expr::Column(column) if narrows && is_unsigned(column, schema) => {
                return Ok(Transformed::yes(signed(expr)));
            }
            Expr::Literal(..) | Expr::Column(_) => return Ok(Transformed::no(expr)),
            _ => {}
        }
        let expr = whole::place(expr);
        refuse_unordered(&expr, schema)?;
        let first = oids::beside(expr, schema)?;
        let next = alike::alike(first.data, schema)?;
        let whole = whole::next(next.data, schema)?;
        let extreme = extreme::plain(whole.data, schema);
        let mut last = wide_sum(extreme.data, schema);
        if let Expr::ScalarFunction(_) = &last.data
            && last.data.get_type(schema).is_ok_and(|of| of == DataType::UInt64)
        {
            last = Transformed::yes(signed(last.data));
        }
        let changed = first.transformed
            || next.transformed
            || whole.transformed
            || extreme.transformed
            || last.transformed;
        Ok(Transformed::new_transformed(last.data, changed))
    }

    /// A column of a query around this one, with the type that it has there now.
    fn outer(&self, expr: Expr) -> Transformed<Expr> {
        let Expr::OuterReferenceColumn(told, column) = expr else { return Transformed::no(expr) };
        let found = self.around.iter().rev().find_map(|it| it.field_from_column(&column).ok());
        let field = match found {
            Some(field) if field.data_type() != told.data_type() => {
                Arc::new(told.as_ref().clone().with_data_type(field.data_type().clone()))
            }
            _ => return Transformed::no(Expr::OuterReferenceColumn(told, column)),
        };
        Transformed::yes(Expr::OuterReferenceColumn(field, column))
    }

    fn subquery(&self, mut subquery: Subquery) -> Subquery {
        let outer = std::mem::take(&mut subquery.outer_ref_columns);
        subquery.outer_ref_columns = outer.into_iter().map(|it| self.outer(it).data).collect();
        subquery
    }
}

/// Whether a column is an unsigned number, which PostgreSQL lacks: the number of a row, a count of
/// elements. The places of rows to be changed are ours.
fn is_unsigned(column: &Column, schema: &DFSchema) -> bool {
    let field = schema.field_from_column(column);
    field.is_ok_and(|it| *it.data_type() == DataType::UInt64)
        && !schema.has_column_with_unqualified_name(FILE_COLUMN)
}

fn signed(expr: Expr) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), DataType::Int64))
}

/// PostgreSQL has no least and no greatest of truths.
fn refuse_unordered(expr: &Expr, schema: &DFSchema) -> Result<()> {
    let (name, args) = match expr {
        Expr::AggregateFunction(it) => (it.func.name(), &it.params.args),
        Expr::WindowFunction(it) => (it.fun.name(), &it.params.args),
        _ => return Ok(()),
    };
    let is_boolean = |arg: &Expr| arg.get_type(schema).is_ok_and(|of| of == DataType::Boolean);
    if !matches!(name, "min" | "max") || !args.iter().any(is_boolean) {
        return Ok(());
    }
    let message = format!("function {name}(boolean) does not exist");
    Err(to_engine(Error::new(Kind::UndefinedFunction, message).with_hint(
        "No function matches the given name and argument types. You might need to add explicit \
         type casts.",
    )))
}

fn node_alike(node: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
    Ok(match node {
        LogicalPlan::Union(union) => union_alike(union)?,
        LogicalPlan::Values(values) => whole::values_alike(values, schema)?,
        LogicalPlan::Join(join) => LogicalPlan::Join(keys_alike(join)),
        LogicalPlan::Sort(mut sort) => {
            spans::by_length(&mut sort.expr, schema);
            LogicalPlan::Sort(sort)
        }
        LogicalPlan::Aggregate(_) if spans::has_interval(node.schema()) => {
            match node.recompute_schema()? {
                LogicalPlan::Aggregate(aggregate) => spans::grouped(aggregate)?,
                other => other,
            }
        }
        LogicalPlan::Aggregate(aggregate) => average::of_groups(aggregate, schema)?,
        LogicalPlan::Window(window) => average::of_window(window, schema)?,
        LogicalPlan::Distinct(distinct) => spans::distinct(distinct)?,
        other => other,
    })
}

fn keys_alike(mut join: Join) -> Join {
    let (left, right) = (join.left.schema(), join.right.schema());
    let on = std::mem::take(&mut join.on);
    join.on = on.into_iter().map(|(one, other)| alike::pair((one, left), (other, right))).collect();
    join
}

/// Whether the metadata of a column would come along with its negation: the engine tells of none,
/// and then finds it there.
fn says_something(expr: &Expr, schema: &DFSchema) -> bool {
    expr.to_field(schema).is_ok_and(|(_, field)| !field.metadata().is_empty())
}

/// Whether a side of a join takes columns of the other.
fn is_lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(it) => is_lateral(&it.input),
        LogicalPlan::Projection(it) => is_lateral(&it.input),
        _ => false,
    }
}
