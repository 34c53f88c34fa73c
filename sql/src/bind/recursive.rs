//! Both terms of a recursive query, made to say the same of their columns.
//!
//! # Why
//! A column of a table carries its id and its declared type as metadata, what is computed from it
//! carries none. The engine runs a recursive query only where the columns of both terms carry the same,
//! so that `SELECT name … UNION ALL SELECT t.name || '/' || c.name …` failed.
//! What it guarantees: the rows are the same. What both terms say of a column stays said; what only
//! one says is left out.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::logical_plan::RecursiveQuery;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, Projection, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Union, Volatility,
};
use datafusion::optimizer::analyzer::type_coercion::coerce_union_schema;

/// `plan`, whose recursive queries the engine can run.
pub(super) fn with_like_terms(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut unlike = false;
    plan.apply_with_subqueries(|node| {
        unlike |= matches!(node, LogicalPlan::RecursiveQuery(it) if is_unlike(it));
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !unlike {
        return Ok(plan);
    }
    let likened = plan.transform_up_with_subqueries(|node| {
        let node = match node {
            LogicalPlan::RecursiveQuery(it) if is_unlike(&it) => likened(it)?,
            LogicalPlan::Union(Union { inputs, .. }) => {
                let schema = Arc::new(coerce_union_schema(&inputs)?);
                LogicalPlan::Union(Union { inputs, schema })
            }
            other => other,
        };
        // Whoever stands above tells of columns what it was told itself.
        node.recompute_schema().map(Transformed::yes)
    })?;
    Ok(likened.data)
}

/// `expr`, of which nothing is said but its type.
pub(crate) fn saying_nothing(expr: Expr) -> Expr {
    ScalarUDF::from(Saying::new(BTreeMap::new())).call(vec![expr])
}

fn is_unlike(query: &RecursiveQuery) -> bool {
    let terms = [&query.static_term, &query.recursive_term].map(|term| term.schema().fields());
    let [first, next] = terms;
    first.iter().zip(next).any(|(first, next)| first.metadata() != next.metadata())
}

fn likened(query: RecursiveQuery) -> Result<LogicalPlan> {
    let RecursiveQuery { name, static_term, recursive_term, is_distinct, .. } = query;
    let said = (static_term.schema().fields().iter().zip(recursive_term.schema().fields()))
        .map(|(first, next)| (first.metadata() != next.metadata()).then(|| in_both(first, next)))
        .collect::<Vec<_>>();
    let terms = (saying(static_term, &said)?, saying(recursive_term, &said)?);
    RecursiveQuery::try_new(name, terms.0, terms.1, is_distinct).map(LogicalPlan::RecursiveQuery)
}

fn in_both(first: &Field, next: &Field) -> BTreeMap<String, String> {
    let is_in_next =
        |key: &str, value: &str| next.metadata().get(key).is_some_and(|it| it == value);
    let all = first.metadata().iter().filter(|(key, value)| is_in_next(key, value));
    all.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The columns of `term` under their names; of some it says what is `said`.
fn saying(
    term: Arc<LogicalPlan>,
    said: &[Option<BTreeMap<String, String>>],
) -> Result<Arc<LogicalPlan>> {
    let columns = term.schema().columns().into_iter().zip(said).map(|(column, said)| {
        let (relation, name) = (column.relation.clone(), column.name.clone());
        match said {
            Some(said) => ScalarUDF::from(Saying::new(said.clone()))
                .call(vec![Expr::Column(column)])
                .alias_qualified(relation, name),
            None => Expr::Column(column),
        }
    });
    let columns = columns.collect();
    Projection::try_new(columns, term).map(|it| Arc::new(LogicalPlan::Projection(it)))
}

/// The function that gives its argument, and says of it what it is told to.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Saying {
    said: BTreeMap<String, String>,
    signature: Signature,
}

impl Saying {
    fn new(said: BTreeMap<String, String>) -> Saying {
        Saying { said, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Saying {
    fn name(&self) -> &str {
        "kho_term"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [one] => Ok(one.clone()),
            _ => internal_err!("a column of a recursive query is one"),
        }
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        match arguments.arg_fields {
            [one] => {
                let field = Field::new(self.name(), one.data_type().clone(), one.is_nullable());
                Ok(Arc::new(field.with_metadata(self.said.clone().into_iter().collect())))
            }
            _ => internal_err!("a column of a recursive query is one"),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match <[ColumnarValue; 1]>::try_from(arguments.args) {
            Ok([one]) => Ok(one),
            Err(_) => internal_err!("a column of a recursive query is one"),
        }
    }
}
