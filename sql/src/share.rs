//! Groups that a statement asks for more than once, computed once.
//!
//! # Why
//! The engine puts a `WITH` query in place wherever it is named, and each of the copies reads its
//! tables and groups their rows again. PostgreSQL computes such a query once.
//! What it is: a pass over the plan after it was optimized. Groups that are there twice, the same over
//! the same tables, become a table that both read, whose rows the first of them makes ([`rows`]).
//! What it guarantees: only what gives the same rows each time is shared: nothing volatile, nothing of
//! a query that refers to itself, and nothing into which another predicate was pushed.
//! What it does not: joins and sorts are made again for each.

mod rows;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, internal_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType};
use datafusion::physical_plan::ExecutionPlan;
use tokio::sync::OnceCell;

pub(crate) use rows::Opening;
use rows::{SharedExec, SharedRows};

/// What shared tables are called in their plan, with a number: no user can write that.
const NAME: &str = "\u{1}shared";

/// The physical plan of `plan`, optimized, in which what is there twice is made once.
pub(crate) async fn planned(
    plan: &LogicalPlan,
    session: &dyn Session,
) -> Result<Arc<dyn ExecutionPlan>> {
    let session = engines(session)?;
    physical(session.optimize(plan)?, session).await
}

/// The same of a plan that was optimized.
pub(crate) async fn physical(
    plan: LogicalPlan,
    session: &SessionState,
) -> Result<Arc<dyn ExecutionPlan>> {
    session.query_planner().create_physical_plan(&shared(plan)?, session).await
}

fn engines(session: &dyn Session) -> Result<&SessionState> {
    match session.as_any().downcast_ref() {
        Some(session) => Ok(session),
        None => internal_err!("a plan is made by another engine"),
    }
}

/// `plan`, in which groups that are there more than once are tables.
fn shared(plan: LogicalPlan) -> Result<LogicalPlan> {
    let again = repeated(groups(&plan, &HashSet::new())?);
    if again.is_empty() {
        return Ok(plan);
    }
    // Those within others that are shared are not there any more.
    let again = repeated(groups(&plan, &again)?);
    // To the engine two tables of one name are one.
    let named = again.into_iter().enumerate();
    let table = |(number, groups): (usize, Groups)| {
        table(&groups.plan, &format!("{NAME}{number}")).map(|table| (groups, table))
    };
    let tables = named.map(table).collect::<Result<HashMap<_, _>>>()?;
    let replaced = plan.transform_down_with_subqueries(|node| {
        if refers_to_itself(&node) {
            return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
        }
        let table = Groups::of(&node)?.and_then(|groups| tables.get(&groups).cloned());
        Ok(match table {
            Some(table) => Transformed::new(table, true, TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        })
    });
    replaced.map(|it| it.data)
}

/// Groups and where their rows come from: equal plans may read different tables of one name.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Groups {
    plan: LogicalPlan,
    /// Where the tables are in memory, which they all are while this is compared.
    sources: Vec<usize>,
}

impl Groups {
    /// `node`, where it gives the same groups each time that it is run.
    fn of(node: &LogicalPlan) -> Result<Option<Groups>> {
        let LogicalPlan::Aggregate(_) = node else { return Ok(None) };
        let mut sources = Vec::new();
        let mut is_same = true;
        node.apply(|below| {
            if let LogicalPlan::TableScan(scan) = below {
                sources.push(Arc::as_ptr(&scan.source).cast::<()>().addr());
            }
            is_same &= !refers_to_itself(below);
            below.apply_expressions(|expr| {
                is_same &= !expr.exists(|part| Ok(may_differ(part)))?;
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok((is_same && !sources.is_empty()).then(|| Groups { plan: node.clone(), sources }))
    }
}

/// Whether the rows of `node` depend on how often it was run.
fn refers_to_itself(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::RecursiveQuery(_))
}

/// Whether `part` is another one each time, or has a plan of its own, which is not looked into.
fn may_differ(part: &Expr) -> bool {
    let has_plan = matches!(
        part,
        Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::ScalarSubquery(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(..)
    );
    has_plan || part.is_volatile_node()
}

/// The groups in `plan`, not looking below those in `known`, nor into what refers to itself.
fn groups(plan: &LogicalPlan, known: &HashSet<Groups>) -> Result<Vec<Groups>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if refers_to_itself(node) {
            return Ok(TreeNodeRecursion::Jump);
        }
        let Some(groups) = Groups::of(node)? else { return Ok(TreeNodeRecursion::Continue) };
        let is_known = known.contains(&groups);
        found.push(groups);
        Ok(if is_known { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Those that are there more than once.
fn repeated(all: Vec<Groups>) -> HashSet<Groups> {
    let (mut seen, mut again) = (HashSet::new(), HashSet::new());
    for groups in all {
        match seen.contains(&groups) {
            true => again.insert(groups),
            false => seen.insert(groups),
        };
    }
    again
}

/// A scan of the rows of `groups` by `name`, with their columns called as they were.
fn table(groups: &LogicalPlan, name: &str) -> Result<LogicalPlan> {
    let columns = groups.schema().iter();
    let named = columns.enumerate().map(|(place, of)| Expr::from(of).alias(place.to_string()));
    let plan = LogicalPlanBuilder::from(groups.clone()).project(named)?.build()?;
    let schema = Arc::clone(plan.schema().inner());
    let table = SharedTable { schema, plan, rows: OnceCell::new() };
    let scan = LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?;
    let columns = groups.schema().iter().enumerate().map(|(place, (qualifier, field))| {
        let column = Expr::Column(Column::new(Some(name), place.to_string()));
        column.alias_qualified(qualifier.cloned(), field.name())
    });
    scan.project(columns)?.build()
}

/// Groups as a table: all scans of it read the same rows.
#[derive(Debug)]
struct SharedTable {
    plan: LogicalPlan,
    schema: SchemaRef,
    rows: OnceCell<Arc<SharedRows>>,
}

#[async_trait::async_trait]
impl TableProvider for SharedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let session = engines(session)?;
        if projection.is_some() || !filters.is_empty() || limit.is_some() {
            return internal_err!("a plan was optimized after its groups were shared");
        }
        let rows = self.rows.get_or_try_init(|| async {
            // It was optimized as a part of the whole.
            let plan = session.query_planner().create_physical_plan(&self.plan, session).await?;
            Ok::<_, datafusion::error::DataFusionError>(Arc::new(SharedRows::of(plan)))
        });
        Ok(Arc::new(SharedExec::new(Arc::clone(rows.await?))))
    }
}

#[cfg(test)]
mod tests;
