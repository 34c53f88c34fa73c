//! Which predicates of a statement may be evaluated on rows that it must not see.
//!
//! What it guarantees: one that is leak-proof cannot fail, has no effect, and gives nothing but
//! whether the row is kept: comparisons, `IN` lists and `IS NULL` of a column with constants of its
//! own type, and `AND`, `OR`, `NOT` of those. Everything else stays outside, however harmless it
//! looks: a cast can fail, a function can be slow or loud.

use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result, plan_datafusion_err};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// Whether `filter` is, over columns of `schema`.
pub(super) fn is_leak_proof(filter: &Expr, schema: &Schema) -> bool {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And | Operator::Or => {
                is_leak_proof(left, schema) && is_leak_proof(right, schema)
            }
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => is_comparison(left, right, schema),
            _ => false,
        },
        Expr::Not(inner) => is_leak_proof(inner, schema),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => column(inner, schema).is_some(),
        Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotUnknown(inner) => is_leak_proof(inner, schema),
        Expr::Between(it) => {
            is_comparison(&it.expr, &it.low, schema) && is_comparison(&it.expr, &it.high, schema)
        }
        Expr::InList(it) => it.list.iter().all(|item| is_comparison(&it.expr, item, schema)),
        Expr::Column(_) => column(filter, schema) == Some(&DataType::Boolean),
        _ => false,
    }
}

/// The same predicate over the columns of `schema`, whose names are told without a table's.
pub(super) fn unqualified(filter: &Expr, schema: &DFSchema) -> Result<Expr> {
    let renamed = filter.clone().transform(|expr| match expr {
        Expr::Column(column) => {
            let found = schema.iter().find(|(_, field)| *field.name() == column.name);
            let (table, field) = found
                .ok_or_else(|| plan_datafusion_err!("column '{}' is not there", column.name))?;
            Ok(Transformed::yes(Expr::Column(Column::new(table.cloned(), field.name()))))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(renamed?.data)
}

fn is_comparison(one: &Expr, other: &Expr, schema: &Schema) -> bool {
    let of_types = |column: Option<&DataType>, literal: &Expr| match (column, literal) {
        (Some(of), Expr::Literal(value, _)) => value.data_type() == *of && is_ordered(of),
        _ => false,
    };
    of_types(column(one, schema), other)
        || of_types(column(other, schema), one)
        || match (column(one, schema), column(other, schema)) {
            (Some(one), Some(other)) => one == other && is_ordered(one),
            _ => false,
        }
}

/// Whether values of the type are compared as they are, without a function of their own.
fn is_ordered(of: &DataType) -> bool {
    of.is_numeric()
        || of.is_string()
        || of.is_temporal()
        || matches!(
            of,
            DataType::Boolean | DataType::Binary | DataType::BinaryView | DataType::LargeBinary
        )
}

fn column<'a>(expr: &Expr, schema: &'a Schema) -> Option<&'a DataType> {
    match expr {
        Expr::Column(column) => schema.field_with_name(&column.name).ok().map(|it| it.data_type()),
        _ => None,
    }
}
